"""The true flaws of the films of the BAM round robin, told by sections of 1 cm, and detections scored against them.

``real-values.xls`` lies beside GDXray's series W0003. It names films by their numbers in the round robin (film 12 is
``RRT-12R.tif``, of which ``W0001_0002.png`` is a crop) and says in which section a flaw begins and how long it is.

Its readme says that sections start "from the indicated Zero point", which none of the films at hand shows. The boxes of
the five films that are in both series tell where it is: sections run from left to right, and section 1 begins at the
left edge of the film, or up to 2 mm before it. At the edge, all 64 sections that are flawed by the table have a box, as
have 13 of the 27 others (7 without the boxes that are shorter than 0.5 mm), for the boxes mark small things that the
table leaves out: Cohen's kappa is 0.60 (0.80), against 0.07 (0.02) on mirrored films and at most 0.31 (0.34) where each
film is compared with another's sections. Two of the five are flawed nearly all along and would agree at many places;
no film's place is known better than that of all. The test of the real data holds these figures.

The films belong to BAM Berlin: for scientific use only, naming BAM.

References:
    Mery et al. 2015, Journal of Nondestructive Evaluation 34:42, for GDXray. BAM Federal Institute for Materials
    Research and Testing, Berlin, Dr. Uwe Zscherpel, for the films and their true flaws.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import xlrd
from jaxtyping import Bool, Float

from defects_in_welds.data.annotation import DataError
from defects_in_welds.evaluation.cells import along_weld_mm, best, mark, spread_over_cells
from defects_in_welds.evaluation.matching import MatchTable

SECTION_MM = 10.0

# Cells of a row of the sheet: numbers, texts without blanks around them, and "" for an empty one.
Row: TypeAlias = Sequence[float | str]

_HEADER = (
    ("ROC", "Label", "Cells", "Type", "l", "b", "S", "OD", "D", "Max."),
    ("Nr", "", "(cm)", "", "(mm)", "(mm)", "", "", "", "cells"),
)
_NO_INDICATION = "No indication"
_UNKNOWN = "?"
_TOLERANCE = 1e-9  # of a section: rounding in the lengths


@dataclass(frozen=True, eq=False)
class BamTruth:
    """What ``real-values.xls`` says.

    Attributes:
        source: The file and sheet, for messages.
        films: One row a film: ``film`` (its number in the round robin), ``label`` (of the weld; may be empty),
            ``sections`` (how many there are).
        flaws: One row a flaw: ``film``, ``section`` (from 1, in which it begins), ``last_section`` (the last that it
            surely reaches), ``iso_6520_1`` (its number in ISO 6520-1, as text), ``is_starred`` (the number is followed
            by a star, which the file does not explain), ``length_mm``, ``width_mm`` (NaN where not told), ``d`` (a
            column that the file does not explain; NaN where not told), ``row`` (of the sheet, from 1).
        remarks: What is odd in the file and was read all the same, each with its row.
    """

    source: str
    films: pd.DataFrame
    flaws: pd.DataFrame
    remarks: tuple[str, ...]


def read_bam_truth(path: Path) -> BamTruth:
    """Read ``real-values.xls``.

    Raises:
        DataError: If the file cannot be read, or anything in it is not as expected; it names the sheet and the row.
    """
    sheet, rows = _read_sheet(path)
    return parse_bam_truth(rows, f"{path}: sheet {sheet!r}")


def parse_bam_truth(rows: Sequence[Row], source: str) -> BamTruth:
    """Read the rows of the sheet, its two header rows among them.

    Args:
        rows: All rows; empty ones at the end are passed over.
        source: What messages start with.

    Raises:
        DataError: If anything in them is not as expected.
    """
    if tuple(tuple(row) for row in rows[:2]) != _HEADER:
        raise DataError(
            f"{source}, row 1: the header is not that of real-values.xls ({', '.join(filter(None, _HEADER[0]))}); "
            "give the file as it came with GDXray's W0003"
        )
    filled = len(rows)
    while filled > 2 and not any(value != "" for value in rows[filled - 1]):
        filled -= 1
    lines = [_line(row, f"{source}, row {number}", number) for number, row in enumerate(rows[2:filled], start=3)]
    films: list[_Film] = []
    flaws: list[_Flaw] = []
    remarks: list[str] = []
    for number, group in itertools.groupby(lines, key=lambda line: _whole(line.film, f"{line.where}: film number")):
        of_film = list(group)
        if any(film.film == number for film in films):
            raise DataError(f"{of_film[0].where}: film {number} comes back after others; keep its rows together")
        # The sum of all films stands below the sections of the last one.
        total = sum(film.sections for film in films) if of_film[-1] is lines[-1] else None
        film = _read_film(number, of_film, total, remarks)
        films.append(film)
        flaws += _read_flaws(film, of_film, remarks)
    return BamTruth(source, _frame(films, _Film), _frame(flaws, _Flaw), tuple(remarks))


def cell_truth_from_bam(table: MatchTable, film: int, truth: BamTruth, number: int, offset_mm: float) -> pd.DataFrame:
    """Rate BAM's sections of a film by what was detected on it.

    A flaw marks the section in which it begins and those that its length surely reaches. One that is longer than a
    section may reach one more, as it may begin anywhere in its first: that one is ignored, unless another flaw marks
    it. Sections of which less than half is on the film are left out: many films are crops.

    Args:
        table: Films, flaws and detections.
        film: Row of ``table.films``.
        truth: What `read_bam_truth` returns.
        number: The film's number in the round robin.
        offset_mm: Where section 1 begins, in mm from the film's left end, or the top one where it stands upright;
            negative for a crop that begins later. 0 to -2 for GDXray's films.

    Returns:
        One row a section, as `evaluation.cells.cell_table` has it, so that its measures read this, too: ``film``,
        ``cell`` (BAM's number), ``start_mm`` and ``end_mm`` (on the film), ``has_flaw``, ``score`` (best of the
        detections in it, minus infinity without any), ``ignored``; and ``has_box``: whether a flaw of the table that is
        not difficult lies in it.

    Raises:
        DataError: If the film's pixel pitch is unknown, or ``truth`` has no film of this number.
    """
    row = table.films.iloc[film]
    if math.isnan(row["pixel_pitch_mm"]):
        raise DataError(f"{row['name']}: sections are 1 cm, but its pixel pitch is unknown; set prepare.pixel_pitch_mm")
    has_flaw, may_have = _sections(truth, number)
    count = len(has_flaw)
    start_mm = offset_mm + SECTION_MM * np.arange(count)
    sections = pd.DataFrame(
        {"film": film, "cell": np.arange(1, count + 1), "start_mm": start_mm, "end_mm": start_mm + SECTION_MM}
    )
    sections["has_flaw"] = has_flaw
    detections = table.detections[(table.detections["film"] == film) & ~table.detections["ignored"].astype(bool)]
    detection, section = _sections_of(detections, table.films, offset_mm, count)
    sections["score"] = best(detections["score"].to_numpy(dtype=np.float64)[detection], section, count)
    sections["ignored"] = may_have
    flaws = table.flaws[(table.flaws["film"] == film) & ~table.flaws["difficult"].astype(bool)]
    sections["has_box"] = mark(_sections_of(flaws, table.films, offset_mm, count)[1], count)
    seen_mm = sections["end_mm"].clip(upper=row["weld_mm"]) - sections["start_mm"].clip(lower=0.0)
    return sections[seen_mm >= SECTION_MM / 2].reset_index(drop=True)


def agreement_by_offset(
    table: MatchTable,
    film: int,
    truth: BamTruth,
    number: int,
    offsets_mm: Sequence[float] | Float[np.ndarray, " offsets"],
) -> pd.DataFrame:
    """Compare the boxes of a film with BAM's sections, for every place at which these may begin.

    It shows whether a place is plausible. It does not fix one by itself where flaws fill the film: then all places
    agree.

    Args:
        table: Films and flaws; detections play no part.
        film: Row of ``table.films``.
        truth: What `read_bam_truth` returns.
        number: The film's number in the round robin.
        offsets_mm: As in `cell_truth_from_bam`.

    Returns:
        One row an offset: ``offset_mm``, ``sections`` (that count), ``both`` (flawed and with a box), ``bam_only``,
        ``box_only``, ``neither``, ``agreement`` (share of the sections on which both say the same) and ``kappa`` (what
        of it is beyond chance; NaN where one of both says the same of all sections).

    Raises:
        DataError: As `cell_truth_from_bam` does.

    References:
        Cohen 1960, Educational and Psychological Measurement 20, 37.
    """
    rows = []
    for offset_mm in np.asarray(offsets_mm, dtype=np.float64).tolist():
        sections = cell_truth_from_bam(table, film, truth, number, offset_mm)
        counted = sections[~sections["ignored"]]
        flawed, boxed = counted["has_flaw"].to_numpy(), counted["has_box"].to_numpy()
        counts = [int((first & second).sum()) for first in (flawed, ~flawed) for second in (boxed, ~boxed)]
        both, bam_only, box_only, neither = counts
        rows.append(
            {
                "offset_mm": offset_mm,
                "sections": len(counted),
                **dict(zip(("both", "bam_only", "box_only", "neither"), counts, strict=True)),
                "agreement": (both + neither) / len(counted) if len(counted) else math.nan,
                "kappa": cohens_kappa(both, bam_only, box_only, neither),
            }
        )
    return pd.DataFrame(rows)


def cohens_kappa(both: int, first_only: int, second_only: int, neither: int) -> float:
    """Give the share of agreement beyond chance of two yes-or-no judges; NaN where one of them says only one thing."""
    total = both + first_only + second_only + neither
    first, second = both + first_only, both + second_only
    if first in (0, total) or second in (0, total):
        return math.nan
    by_chance = (first * second + (total - first) * (total - second)) / total**2
    return ((both + neither) / total - by_chance) / (1 - by_chance)


class _Line(NamedTuple):
    """A row of the sheet: where it is, and its cells in the order of the columns."""

    where: str
    row: int
    film: float | str
    label: float | str
    section: float | str
    code: float | str
    length: float | str
    width: float | str
    s: float | str
    od: float | str
    d: float | str
    sections: float | str


@dataclass(frozen=True)
class _Film:
    film: int
    label: str
    sections: int


@dataclass(frozen=True)
class _Flaw:
    film: int
    section: int
    last_section: int
    iso_6520_1: str
    is_starred: bool
    length_mm: float
    width_mm: float
    d: float
    row: int


def _line(row: Row, where: str, number: int) -> _Line:
    if len(row) != len(_HEADER[0]):
        raise DataError(f"{where}: {len(row)} columns where {len(_HEADER[0])} are expected; correct it")
    line = _Line(where, number, *row)
    for column, value in (("S", line.s), ("OD", line.od)):
        if value != "":
            raise DataError(f"{where}: column {column} holds {_shown(value)}, but it is empty in BAM's file; empty it")
    return line


def _read_film(number: int, lines: Sequence[_Line], others: int | None, remarks: list[str]) -> _Film:
    """Read what the rows of a film say of the film.

    Args:
        number: Its number.
        lines: Its rows.
        others: Sections of all other films, where it is the last one; else None.
        remarks: Gets what is odd.
    """
    labels = {_text(line.label): line for line in lines}
    if len(labels) > 1:
        shown = " and ".join(repr(label) for label in labels)
        raise DataError(f"{list(labels.values())[-1].where}: film {number} has labels {shown}; keep one")
    (label,) = labels
    if not label:
        remarks.append(f"{lines[0].where}: film {number} has no label")
    telling = [line for line in lines if line.sections != ""]
    if not telling:
        raise DataError(f"{lines[0].where}: film {number} has no Max. cells in any row; fill it in")
    sections = _whole(telling[0].sections, f"{telling[0].where}: Max. cells")
    for line in telling[1:]:
        if others is None or line is not lines[-1] or line.sections != sections + others:
            raise DataError(
                f"{line.where}: Max. cells is {_shown(line.sections)}, but film {number} has {sections} in row "
                f"{telling[0].row}, and only the sum of all films may stand below, in the last row; empty it"
            )
        remarks.append(f"{line.where}: Max. cells is the sum of all films, {_shown(line.sections)}")
    return _Film(number, label, sections)


def _read_flaws(film: _Film, lines: Sequence[_Line], remarks: list[str]) -> list[_Flaw]:
    for line in lines:
        is_alone = len(lines) == 1 and not any(value != "" for value in (line.code, line.length, line.width, line.d))
        if line.section == _NO_INDICATION and not is_alone:
            raise DataError(f"{line.where}: {_NO_INDICATION!r} beside a flaw of film {film.film}; keep one of both")
        if line.section == _NO_INDICATION:
            return []
    flaws = [_read_flaw(film, line) for line in lines]
    for before, flaw, line in zip([None, *flaws], flaws, lines, strict=False):
        if flaw.is_starred:
            remarks.append(f"{line.where}: type '{flaw.iso_6520_1}*' has a star, which the file does not explain")
        if before is not None and before.section > flaw.section:
            remarks.append(f"{line.where}: section {flaw.section} comes after section {before.section}")
    return flaws


def _read_flaw(film: _Film, line: _Line) -> _Flaw:
    section = _whole(line.section, f"{line.where}: section", most=film.sections)
    match = re.fullmatch(r"(\d{3,5})(\*?)", _text(line.code))
    if match is None:
        raise DataError(
            f"{line.where}: type is {_shown(line.code)} where a number of ISO 6520-1, 3 to 5 digits, is expected; "
            "correct it"
        )
    length_mm = _positive(line.length, f"{line.where}: length l")
    last_section = section + max(1, math.ceil(length_mm / SECTION_MM - _TOLERANCE)) - 1
    if last_section > film.sections:
        raise DataError(
            f"{line.where}: a flaw of {length_mm:g} mm that begins in section {section} ends behind the last section "
            f"of film {film.film}, {film.sections}; correct it"
        )
    return _Flaw(
        film.film,
        section,
        last_section,
        iso_6520_1=match[1],
        is_starred=bool(match[2]),
        length_mm=length_mm,
        width_mm=math.nan if line.width == "" else _positive(line.width, f"{line.where}: width b"),
        d=math.nan if line.d in ("", _UNKNOWN) else _positive(line.d, f"{line.where}: D"),
        row=line.row,
    )


def _frame(rows: Sequence[_Film] | Sequence[_Flaw], kind: type[_Film | _Flaw]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows], columns=[column.name for column in fields(kind)])


def _sections(truth: BamTruth, number: int) -> tuple[Bool[np.ndarray, " sections"], Bool[np.ndarray, " sections"]]:
    """Tell in which sections of a film flaws surely lie, and in which others they may."""
    films = truth.films[truth.films["film"] == number]
    if films.empty:
        known = ", ".join(str(film) for film in truth.films["film"])
        raise DataError(f"{truth.source}: there is no film {number}; there are: {known}")
    count = int(films["sections"].iloc[0])
    has_flaw, may_have = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    flaws = truth.flaws[truth.flaws["film"] == number]
    for first, last, length_mm in flaws[["section", "last_section", "length_mm"]].itertuples(index=False):
        has_flaw[first - 1 : last] = True
        if length_mm > SECTION_MM:
            may_have[last : last + 1] = True
    return has_flaw, may_have & ~has_flaw


def _sections_of(
    boxes: pd.DataFrame, films: pd.DataFrame, offset_mm: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pair boxes of one film with its sections, both from 0."""
    start_mm, stop_mm = (along - offset_mm for along in along_weld_mm(boxes, films))
    (on_sections,) = np.nonzero(start_mm < count * SECTION_MM)  # what begins later lies in none
    start, stop = start_mm[on_sections] / SECTION_MM, stop_mm[on_sections] / SECTION_MM
    box, section = spread_over_cells(start, stop, np.full(len(start), count))
    return on_sections[box], section


def _read_sheet(path: Path) -> tuple[str, list[list[float | str]]]:
    """Read the name and the rows of the only sheet of an old Excel file.

    Raises:
        DataError: If it cannot be read, has several sheets, or has a cell that is neither number nor text.
    """
    try:
        book = xlrd.open_workbook(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; give the path of BAM's real-values.xls") from None
    except Exception as error:  # xlrd lets struct's, compdoc's and its own errors out of damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: no readable .xls file ({reason[:200]}); copy it anew from GDXray's W0003") from None
    if book.nsheets != 1:
        raise DataError(f"{path}: holds {book.nsheets} sheets; keep the one with the true flaws")
    sheet = book.sheet_by_index(0)
    rows: list[list[float | str]] = []
    for number in range(sheet.nrows):
        rows.append([])
        for column, cell in enumerate(sheet.row(number)):
            if cell.ctype not in (xlrd.XL_CELL_EMPTY, xlrd.XL_CELL_BLANK, xlrd.XL_CELL_TEXT, xlrd.XL_CELL_NUMBER):
                raise DataError(
                    f"{path}: sheet {sheet.name!r}, row {number + 1}: column {column + 1} is neither number nor text; "
                    "correct it"
                )
            rows[-1].append(float(cell.value) if cell.ctype == xlrd.XL_CELL_NUMBER else str(cell.value).strip())
    return sheet.name, rows


def _whole(value: float | str, what: str, most: int | None = None) -> int:
    if not isinstance(value, float) or not value.is_integer() or value < 1 or (most is not None and value > most):
        allowed = "a whole number from 1" + ("" if most is None else f" to {most}")
        raise DataError(f"{what} is {_shown(value)} where {allowed} is expected; correct it")
    return int(value)


def _positive(value: float | str, what: str) -> float:
    if not isinstance(value, float) or not 0 < value < math.inf:
        raise DataError(f"{what} is {_shown(value)} where a number above 0 is expected; correct it")
    return value


def _text(value: float | str) -> str:
    return f"{value:.10g}" if isinstance(value, float) else value


def _shown(value: float | str) -> str:
    return _text(value) if isinstance(value, float) else repr(value)

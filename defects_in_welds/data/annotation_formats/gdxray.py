"""GDXray: ``ground_truth.txt`` beside the numbered images of a series, with columns ``image x1 x2 y1 y2``.

The numbers follow MATLAB's pixel-centre convention, in which the first pixel spans 0.5 to 1.5: 0.5 is subtracted from
every edge. The boxes of series W0001 then equal those of the components of its masks (series W0002). All flaws are of
one class. An image that the table does not name is taken as free of defects.

References:
    Mery et al. 2015, GDXray: The Database of X-ray Images for Nondestructive Testing, Journal of Nondestructive
    Evaluation 34:42.
"""

import re
from collections import defaultdict
from pathlib import Path

from defects_in_welds.data.annotation import (
    AnnotatedDataset,
    AnnotatedRadiograph,
    Annotation,
    DataError,
    Finding,
    FindingKind,
)
from defects_in_welds.data.annotation_formats.folders import list_images, read_text, relative_name, to_number

LOOKS_FOR = "ground_truth.txt"
DEFECT_CLASS = "defect"
_CENTRE_PX = 0.5


def recognises(root: Path) -> bool:
    """Tell whether a folder holds series of GDXray."""
    return bool(_tables(root))


def read(root: Path) -> AnnotatedDataset:
    """Read all series that have a table; images in folders without one are a finding, for they may be masks.

    Raises:
        DataError: If a table cannot be read, or two images of a series have one number.
    """
    radiographs: list[AnnotatedRadiograph] = []
    findings: list[Finding] = []
    tables = _tables(root)
    for table in tables:
        films, found = _read_series(root, table)
        radiographs += films
        findings += found
    series = {table.parent for table in tables}
    for folder in sorted({image.parent for image in list_images(root)} - series):
        name = folder.relative_to(root).as_posix()
        findings.append(Finding(FindingKind.IGNORED_FILE, name, None, f"images without a {LOOKS_FOR}: not read"))
    return AnnotatedDataset(
        root, "gdxray", (DEFECT_CLASS,), tuple(sorted(radiographs, key=lambda film: film.name)), tuple(findings), True
    )


def _tables(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob(LOOKS_FOR) if path.is_file())


def _read_series(root: Path, table: Path) -> tuple[list[AnnotatedRadiograph], list[Finding]]:
    findings = [
        Finding(FindingKind.IGNORED_FILE, relative_name(path, root), None, f"not named {LOOKS_FOR}: not read")
        for path in sorted(table.parent.glob("ground_truth*"))
        if path != table
    ]
    table_name = relative_name(table, root)
    number_of = _number_images(table.parent)
    name_of = {number: relative_name(image, root) for image, number in number_of.items() if number >= 0}
    rows: dict[int, list[Annotation]] = defaultdict(list)
    for line, text in enumerate(read_text(table).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            number, box = _parse_row(text)
        except ValueError as error:
            name = name_of.get(_image_number(text))
            findings.append(Finding(FindingKind.BROKEN_LABEL, table_name, line, str(error), name))
            continue
        rows[number].append(Annotation(box, DEFECT_CLASS, table_name, line))

    films = []
    for image, number in number_of.items():
        name = relative_name(image, root)
        annotations = rows.pop(number, [])
        if not annotations:
            findings.append(
                Finding(FindingKind.IMAGE_WITHOUT_LABEL, name, None, f"{table_name} has no row for it, or none is left")
            )
        films.append(AnnotatedRadiograph(image, name, tuple(annotations)))
    findings += [
        Finding(
            FindingKind.LABEL_WITHOUT_IMAGE,
            table_name,
            annotations[0].line,
            f"no image numbered {number:04d}, which has {len(annotations)} rows",
        )
        for number, annotations in sorted(rows.items())
    ]
    return films, findings


def _number_images(folder: Path) -> dict[Path, int]:
    """Map the images of a series to the numbers that their names end in; -1 where they end in none."""
    number_of: dict[Path, int] = {}
    taken: set[int] = set()
    for image in (image for image in list_images(folder) if image.parent == folder):
        match = re.search(r"(\d+)$", image.stem)
        number = int(match.group(1)) if match else -1
        if match and number in taken:
            raise DataError(f"{image}: another image of this folder has the number {number}; keep one series a folder")
        number_of[image] = number
        taken.add(number)
    return number_of


def _image_number(broken_row: str) -> int:
    """Read the image that a broken row is of; -1 where it does not say."""
    match = re.match(r"\s*(\d{1,18})(?:\.0*)?[\s,]", broken_row)
    return int(match.group(1)) if match else -1


def _parse_row(text: str) -> tuple[int, tuple[float, float, float, float]]:
    values = text.replace(",", " ").split()
    if len(values) != 5:
        raise ValueError(f"{len(values)} values where image x1 x2 y1 y2 are expected: {text.strip()[:80]!r}")
    image, x0, x1, y0, y1 = (to_number(value) for value in values)
    if image != int(image):
        raise ValueError(f"{values[0]!r} is no image number")
    return int(image), (x0 - _CENTRE_PX, y0 - _CENTRE_PX, x1 - _CENTRE_PX, y1 - _CENTRE_PX)

"""Which quality levels the indications on a film would exceed, by limits that the user gives.

No standard's table comes with the program. The limits are a YAML file such as this, with the largest allowed length in
mm of each class at each level::

    levels:
      B: {crack: 0, gas pore: 2.0}
      C: {crack: 0, gas pore: 3.0}

A class that a level does not list is not limited there. Advisory: neither the number of indications nor their distance
is looked at, and nothing is accepted or rejected.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from defects_in_welds.data.annotation import DataError
from defects_in_welds.data.annotation_formats.folders import read_plain_yaml
from defects_in_welds.evaluation.matching import MatchTable

Limits = dict[str, dict[str, float]]
"""By level and class, the largest allowed length in mm."""


@dataclass(frozen=True)
class FilmJudgement:
    """The levels that a film would exceed.

    Attributes:
        film: Name of the film.
        by_flaws: Levels that the known flaws exceed.
        by_reports: Levels that the reports exceed.
        unknown: Whether a length was needed that is not known, since the pixel pitch is not.
    """

    film: str
    by_flaws: tuple[str, ...]
    by_reports: tuple[str, ...]
    unknown: bool


def read_limits(path: Path, defect_classes: tuple[str, ...]) -> Limits:
    """Read a table of limits.

    Raises:
        DataError: If it cannot be read, names a class that the data has not, or a limit is no length.
    """
    try:
        content = read_plain_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); set report.acceptance") from None
    except (ValueError, yaml.YAMLError) as error:  # of bytes that are no UTF-8
        raise DataError(f"{path}: no YAML ({' '.join(str(error).split())})") from None
    levels = _mapping(content, path, "the file").get("levels")
    unknown = sorted(str(key) for key in content if key != "levels")
    if unknown:
        raise DataError(f"{path}: unknown key {unknown[0]}; allowed: levels")
    return {
        str(level): {
            _known_class(name, defect_classes, path, f"levels.{level}"): _length(limit, path, f"levels.{level}.{name}")
            for name, limit in _mapping(limits, path, f"levels.{level}").items()
        }
        for level, limits in _mapping(levels, path, "levels").items()
    }


def judge_films(table: MatchTable, limits: Limits, min_score: float) -> list[FilmJudgement]:
    """Hold the known flaws, difficult ones too, and the reports with at least that score against the limits.

    The length of a flaw is its own where it is known; else, and for reports, that of the box's longer side.
    """
    reports = table.detections[table.detections["score"] >= min_score]
    flaws, found = _largest_by_film(table.flaws), _largest_by_film(reports)
    lacks_pitch = table.films["pixel_pitch_mm"].isna()
    return [
        FilmJudgement(
            name,
            _exceeded(flaws.get(film, {}), limits),
            _exceeded(found.get(film, {}), limits),
            bool(lacks_pitch[film]) and (film in flaws or film in found),
        )
        for film, name in table.films["name"].items()
    ]


def _largest_by_film(rows: pd.DataFrame) -> dict[int, dict[str, float]]:
    """By film and class, the largest length, in mm; of an unknown length is only known that it is above 0."""
    largest: dict[int, dict[str, float]] = {}
    known = rows.assign(
        length_mm=rows["length_mm"].fillna(math.ulp(0.0)), defect_class=rows["defect_class"].astype(str)
    )
    for (film, name), length_mm in known.groupby(["film", "defect_class"])["length_mm"].max().items():
        largest.setdefault(film, {})[name] = length_mm
    return largest


def _exceeded(lengths_mm: dict[str, float], limits: Limits) -> tuple[str, ...]:
    return tuple(
        level
        for level, of_level in limits.items()
        if any(length_mm > of_level.get(name, math.inf) for name, length_mm in lengths_mm.items())
    )


def _mapping(value: object, path: Path, key: str) -> dict[object, object]:
    if not isinstance(value, dict) or not value:
        raise DataError(
            f"{path}: {key} holds {value!r:.60} where a table is expected, such as levels: {{B: {{crack: 0}}}}"
        )
    return value


def _known_class(name: object, defect_classes: tuple[str, ...], path: Path, key: str) -> str:
    if name not in defect_classes:
        raise DataError(f"{path}: {key} names the class {name!r}; the data has: {', '.join(defect_classes)}")
    return str(name)


def _length(limit: object, path: Path, key: str) -> float:
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= sys.float_info.max:
        raise DataError(f"{path}: {key} is {limit!r:.60}; allowed: a length in mm, 0 or more")
    return float(limit)

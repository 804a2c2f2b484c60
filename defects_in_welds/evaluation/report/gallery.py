"""Single flaws and reports, and whole films, chosen for the page: the worst first."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from defects_in_welds.data.annotation import DataError
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation.matching import MatchTable
from defects_in_welds.evaluation.report.film_pictures import Picture, assemble_film, boxes_to_draw, draw_crop, draw_film
from defects_in_welds.taxonomy import iso_6520_1_number

OUTCOMES = {
    "missed": "missed",
    "misnamed": "reported as another kind",
    "false_call": "false call",
    "hit": "found",
}
"""What can become of a flaw or a report, and what the page calls it."""


@dataclass(frozen=True)
class Item:
    """A picture of the gallery.

    Attributes:
        outcome: Key of `OUTCOMES`.
        defect_class: Of the flaw, or of the false call.
        iso_6520_1: Its number, or None.
        film: Name of the film.
        score: Of the report that is shown; None where there is none.
        length_px: Longer side of the box: the order of sizes where there are no mm.
        size: Length and width, as text.
        remark: What became of it.
        picture: Its surroundings.
    """

    outcome: str
    defect_class: str
    iso_6520_1: str | None
    film: str
    score: float | None
    length_px: float
    size: str
    remark: str
    picture: Picture


@dataclass(frozen=True)
class FilmSection:
    """A whole film.

    Attributes:
        name: Of the film.
        found: Flaws.
        missed: Flaws, those reported as another kind among them.
        false_calls: Reports.
        size: Width and height, as text.
        picture: All of it.
    """

    name: str
    found: int
    missed: int
    false_calls: int
    size: str
    picture: Picture


def list_items(table: MatchTable, min_score: float) -> pd.DataFrame:
    """List everything that the gallery can show, the worst first and the outcomes taking turns.

    The worst are the longest missed flaws, the false calls and wrong names of the highest score, and the flaws found
    with the lowest score.

    Returns:
        One row an item: ``outcome``, ``film``, ``defect_class``, ``x0 y0 x1 y1``, ``length_mm``, ``width_mm``,
        ``counted_score`` (NaN where no report counts), ``remark``.
    """
    is_misnamed = table.is_misnamed(min_score)
    missed = table.flaws[table.is_missed(min_score) & ~is_misnamed]
    misnamed, hits = table.flaws[is_misnamed], table.flaws[table.is_found(min_score)]
    false_calls = table.detections[table.is_false_call(min_score)]
    parts = [
        missed.assign(
            outcome="missed",
            badness=(missed[["x1", "y1"]].to_numpy() - missed[["x0", "y0"]].to_numpy()).max(axis=1, initial=0),
            counted_score=np.nan,
            remark=[_missed_remark(score) for score in missed["score"]],
        ),
        misnamed.assign(
            outcome="misnamed",
            badness=misnamed["other_score"],
            counted_score=misnamed["other_score"],
            remark=[f"reported as {row.other_class}, score {row.other_score:.2f}" for row in misnamed.itertuples()],
        ),
        false_calls.assign(
            outcome="false_call",
            badness=false_calls["score"],
            counted_score=false_calls["score"],
            remark=[
                _false_call_remark(*row) for row in false_calls[["score", "best_iou", "best_iou_other"]].to_numpy()
            ],
        ),
        hits.assign(
            outcome="hit",
            badness=-hits["score"],
            counted_score=hits["score"],
            remark=[f"score {row.score:.2f}, overlap (IoU) {row.iou:.2f}" for row in hits.itertuples()],
        ),
    ]
    ranked = [
        part.sort_values("badness", ascending=False, kind="stable").assign(rank=range(len(part))) for part in parts
    ]
    columns = ["outcome", "film", "defect_class", "x0", "y0", "x1", "y1", "length_mm", "width_mm", "counted_score"]
    columns += ["remark", "rank"]
    items = pd.concat([part[columns] for part in ranked if len(part)] or [ranked[0][columns]])
    return items.sort_values("rank", kind="stable").drop(columns="rank").reset_index(drop=True)


def draw_items(items: pd.DataFrame, table: MatchTable, store: TensorStore, min_score: float) -> list[Item]:
    """Draw rows of `list_items`, in their order; each film is put together once."""
    pictures: dict[int, Picture] = {}
    drawn = boxes_to_draw(table, min_score)
    for film, of_film in items.groupby("film"):
        pixels = assemble_film(store, _store_index(store, table.films["name"][film]))
        boxes = drawn[drawn["film"] == film]
        for row in of_film.itertuples():
            pictures[row.Index] = draw_crop(pixels, (row.x0, row.y0, row.x1, row.y1), boxes)
    return [
        Item(
            row.outcome,
            str(row.defect_class),
            iso_6520_1_number(str(row.defect_class)),
            table.films["name"][row.film],
            None if np.isnan(row.counted_score) else round(row.counted_score, 3),
            max(row.x1 - row.x0, row.y1 - row.y0),
            size_text(row.x1 - row.x0, row.y1 - row.y0, row.length_mm, row.width_mm),
            row.remark,
            pictures[row.Index],
        )
        for row in items.itertuples()
    ]


def draw_worst_films(table: MatchTable, store: TensorStore, min_score: float, count: int) -> Iterator[FilmSection]:
    """Draw the films with the most misses and false calls; those without either are left out."""
    films = table.films.assign(
        found=_count_by_film(table.flaws[table.is_found(min_score)], table),
        missed=_count_by_film(table.flaws[table.is_missed(min_score)], table),
        false_calls=_count_by_film(table.detections[table.is_false_call(min_score)], table),
    )
    films["wrong"] = films["missed"] + films["false_calls"]
    worst = films[films["wrong"] > 0].sort_values(["wrong", "name"], ascending=[False, True]).head(count)
    drawn = boxes_to_draw(table, min_score)
    for row in worst.itertuples():
        width_mm, height_mm = row.width_px * row.pixel_pitch_mm, row.height_px * row.pixel_pitch_mm
        yield FilmSection(
            row.name,
            row.found,
            row.missed,
            row.false_calls,
            size_text(row.width_px, row.height_px, width_mm, height_mm),
            draw_film(assemble_film(store, _store_index(store, row.name)), drawn[drawn["film"] == row.Index]),
        )


def size_text(width_px: float, height_px: float, length_mm: float, width_mm: float) -> str:
    """Say how large something is: in mm where the pixel pitch is known, and in pixels."""
    in_px = f"{width_px:.0f} \u00d7 {height_px:.0f} px"
    return in_px if np.isnan(length_mm) else f"{length_mm:.1f} \u00d7 {width_mm:.1f} mm ({in_px})"


def _missed_remark(score: float) -> str:
    return "no report fits" if np.isnan(score) else f"reported with score {score:.2f}, below the threshold"


def _false_call_remark(score: float, best_iou: float, best_iou_other: float) -> str:
    if best_iou > 0:
        reason = f"overlaps a known flaw of its kind, IoU {best_iou:.2f}: found already, or too little overlap"
    elif best_iou_other > 0:
        reason = f"overlaps a known flaw of another kind, IoU {best_iou_other:.2f}"
    else:
        reason = "no known flaw here"
    return f"score {score:.2f}; {reason}"


def _count_by_film(rows: pd.DataFrame, table: MatchTable) -> np.ndarray:
    return np.bincount(rows["film"].to_numpy(dtype=np.int64), minlength=len(table.films))


def _store_index(store: TensorStore, name: str) -> int:
    for index, record in enumerate(store.manifest.films):
        if record.name == name:
            return index
    raise DataError(f"{store.path}: film {name} is not in the prepared data; run `dvc repro`")

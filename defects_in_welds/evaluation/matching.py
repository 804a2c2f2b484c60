"""Decide which detections found which flaws: the one matching that every measure reads.

It needs no threshold. Detections choose in the order of their scores, so that the weaker ones never change what the
stronger ones found: at any threshold, a flaw is found if the score of the detection that found it reaches it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from defects_in_welds import boxes
from defects_in_welds.data.annotation import MEASURES
from defects_in_welds.evaluation.assignment import grant_wishes, overlapping_pairs
from defects_in_welds.evaluation.film_results import FilmResult

_DIFFICULT_SHARE = 0.5  # of a detection's area, from which it lies on a difficult flaw, where the rule is not COCO's
_TABLES = ("films", "flaws", "detections")


@dataclass(frozen=True, eq=False)
class MatchTable:
    """Films, flaws and detections, and which of them belong together.

    A difficult flaw is neither found nor missed, and a detection of one is neither a hit nor a false call; only the
    probability of detection counts it as any other.

    Attributes:
        films: One row a film: ``name``, ``weld``, ``height_px``, ``width_px``, ``pixel_pitch_mm``, ``weld_mm`` (the
            film's longer side, along which the weld runs). Unknown numbers are NaN, here and below.
        flaws: One row a true flaw: ``film`` (row of ``films``), ``defect_class``, ``x0 y0 x1 y1`` (half-open, pixels of
            the film's file), ``difficult``, the measures that the truth knows (``length_mm``, ``width_mm``,
            ``height_mm``, ``contrast``, ``cnr``; length and width are the box's sides where it does not say them),
            ``detection`` (row of ``detections`` that found it, or -1), ``score`` and ``iou`` of that (NaN where none
            did), ``other_class`` and ``other_score`` of the detection that reports it under another class
            (NaN where none does).
        detections: One row a detection, film by film, best first: ``film``, ``defect_class``, ``x0 y0 x1 y1``,
            ``score``, ``length_mm``, ``width_mm`` (the box's longer and shorter side), ``flaw`` (row of ``flaws`` that
            it found, or -1), ``iou`` with that flaw (NaN without), ``ignored`` (on a difficult flaw, so that it
            counts nowhere), ``best_iou`` and ``best_iou_other`` (largest IoU with any flaw of its own class that is
            not difficult, and of the other classes; 0 without any).
    """

    films: pd.DataFrame
    flaws: pd.DataFrame
    detections: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write ``films.parquet``, ``flaws.parquet`` and ``detections.parquet``."""
        for name in _TABLES:
            rows = getattr(self, name).copy(deep=False)
            # Parquet keeps no categories of a column without values.
            rows.attrs["defect_classes"] = self.flaws["defect_class"].cat.categories.tolist()
            rows.to_parquet(folder / f"{name}.parquet", index=False)

    @classmethod
    def read(cls, folder: Path) -> "MatchTable":
        """Read what ``write`` wrote."""
        tables = [pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES]
        for rows in tables:
            classes = rows.attrs.pop("defect_classes")
            for column in rows.columns.intersection(["defect_class", "other_class"]):
                rows[column] = rows[column].cat.set_categories(classes)
        return cls(*tables)

    def is_found(self, min_score: float) -> Bool[np.ndarray, " flaws"]:
        """Tell which flaws are found by detections with at least that score; difficult ones never are."""
        return ((self.flaws["score"] >= min_score) & ~self.flaws["difficult"]).to_numpy(dtype=np.bool_)

    def is_missed(self, min_score: float) -> Bool[np.ndarray, " flaws"]:
        """Tell which flaws no detection with at least that score found; difficult ones are never missed."""
        return ~self.is_found(min_score) & ~self.flaws["difficult"].to_numpy(dtype=np.bool_)

    def is_misnamed(self, min_score: float) -> Bool[np.ndarray, " flaws"]:
        """Tell which missed flaws are reported under another class; the report is a false call all the same."""
        return self.is_missed(min_score) & (self.flaws["other_score"] >= min_score).to_numpy(dtype=np.bool_)

    def is_hit(self, min_score: float) -> Bool[np.ndarray, " detections"]:
        """Tell which detections found a flaw and have at least that score."""
        found = (self.detections["flaw"] >= 0) & ~self.detections["ignored"]
        return (found & (self.detections["score"] >= min_score)).to_numpy(dtype=np.bool_)

    def is_false_call(self, min_score: float) -> Bool[np.ndarray, " detections"]:
        """Tell which detections found nothing and have at least that score."""
        nothing = (self.detections["flaw"] < 0) & ~self.detections["ignored"]
        return (nothing & (self.detections["score"] >= min_score)).to_numpy(dtype=np.bool_)


def match(
    results: Sequence[FilmResult],
    defect_classes: Sequence[str],
    rule: str,
    least_overlap: float,
) -> MatchTable:
    """Give each detection, best score first, the flaw of its class that it fits best and no better one has taken.

    Flaws that are not difficult come first; what is left of the detections may take difficult ones. A detection that
    takes one, or that lies on one with ``least_overlap`` of its own area (half of it where the rule is not ``iou``), is
    ignored: COCO's rule for crowds. What is left over then are false calls. They are matched once more, with the flaws
    of other classes that no better detection has found, to tell which flaws are reported under another name. Of flaws
    that fit equally well the last is taken, as COCO does.

    Args:
        results: Truth and detections, film by film.
        defect_classes: Class names in order of their ids, which start at 1.
        rule: When a detection fits a flaw. ``iou``: the area that both share is at least ``least_overlap`` of the area
            that they cover together, as COCO has it; strict on thin flaws, where one pixel decides. ``overlap``: at
            least that share of the smaller of both; right where a flaw is reported in part or too long. ``centre``: the
            middle of one lies in the other; right where finding the place is what counts. Which flaw fits best is
            told by IoU in any case.
        least_overlap: Least share, for the first two rules.

    References:
        Lin et al. 2014, arXiv:1405.0312, for the order and the crowds.
    """
    films = _film_rows(results)
    flaws, detections = _flaw_rows(results, defect_classes), _detection_rows(results, defect_classes)
    pairs = _overlapping_pairs(flaws, detections, rule, least_overlap)
    rank = np.empty(len(detections), dtype=np.int64)
    rank[np.argsort(-detections["score"].to_numpy(), kind="stable")] = np.arange(len(detections))

    labels = {"flaw": flaws.pop("label").to_numpy(), "detection": detections.pop("label").to_numpy()}
    is_difficult = flaws["difficult"].to_numpy(dtype=np.bool_)[pairs.flaw]
    is_same = labels["flaw"][pairs.flaw] == labels["detection"][pairs.detection]
    counts = len(flaws), rank

    found_by = _assign(pairs.only(pairs.fits & is_same & ~is_difficult), *counts)
    is_taken = _mark(found_by, len(detections))
    difficult_by = _assign(pairs.only(pairs.fits & is_same & is_difficult & ~is_taken[pairs.detection]), *counts)
    least_share = least_overlap if rule == "iou" else _DIFFICULT_SHARE
    on_difficult = is_same & is_difficult & (pairs.detection_share >= least_share) & ~is_taken[pairs.detection]
    is_ignored = _mark(difficult_by, len(detections))
    is_ignored[pairs.detection[on_difficult]] = True
    is_free = ~is_taken & ~is_ignored
    # A flaw that a better detection has found is missed at no threshold at which this one counts.
    is_open = np.append(rank, len(rank))[found_by][pairs.flaw] > rank[pairs.detection]
    is_misnaming = pairs.fits & ~is_same & ~is_difficult & is_open & is_free[pairs.detection]
    other_by = _assign(pairs.only(is_misnaming), *counts)

    taken_by = np.maximum(found_by, difficult_by)
    matched = pairs.only(taken_by[pairs.flaw] == pairs.detection)
    flaws["detection"] = taken_by
    flaws["score"] = _of_detection(taken_by, detections["score"].to_numpy(), np.nan)
    flaws["iou"] = _spread(matched.iou, matched.flaw, len(flaws), np.nan)
    other_class = _of_detection(other_by, detections["defect_class"].cat.codes.to_numpy(), -1)
    flaws["other_class"] = pd.Categorical.from_codes(other_class, categories=list(defect_classes))
    flaws["other_score"] = _of_detection(other_by, detections["score"].to_numpy(), np.nan)
    detections["flaw"] = _spread(matched.flaw, matched.detection, len(detections), -1)
    detections["iou"] = _spread(matched.iou, matched.detection, len(detections), np.nan)
    detections["ignored"] = is_ignored
    detections["best_iou"] = _largest(pairs.only(is_same & ~is_difficult), len(detections))
    detections["best_iou_other"] = _largest(pairs.only(~is_same & ~is_difficult), len(detections))
    return MatchTable(films, flaws, detections)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a detection and a flaw of the same film that overlap at all.

    Attributes:
        detection: Row of the detections.
        flaw: Row of the flaws.
        iou: Shared area over the area of both together.
        detection_share: Shared area over that of the detection.
        fits: Whether the rule lets the detection find the flaw.
    """

    detection: Int[np.ndarray, " pairs"]
    flaw: Int[np.ndarray, " pairs"]
    iou: Float[np.ndarray, " pairs"]
    detection_share: Float[np.ndarray, " pairs"]
    fits: Bool[np.ndarray, " pairs"]

    def only(self, chosen: Bool[np.ndarray, " pairs"]) -> "_Pairs":
        return _Pairs(
            self.detection[chosen],
            self.flaw[chosen],
            self.iou[chosen],
            self.detection_share[chosen],
            self.fits[chosen],
        )


def _overlapping_pairs(flaws: pd.DataFrame, detections: pd.DataFrame, rule: str, least_overlap: float) -> _Pairs:
    found, known = (rows[["x0", "y0", "x1", "y1"]].to_numpy(dtype=np.float64) for rows in (detections, flaws))
    detection, flaw, shared = overlapping_pairs(detections["film"].to_numpy(), found, flaws["film"].to_numpy(), known)
    found_area, flaw_area = boxes.areas(found)[detection], boxes.areas(known)[flaw]
    iou = shared / (found_area + flaw_area - shared)
    if rule == "iou":
        fits = iou >= least_overlap
    elif rule == "overlap":
        fits = shared >= least_overlap * np.minimum(found_area, flaw_area)
    else:
        fits = _holds_middle(found[detection], known[flaw]) | _holds_middle(known[flaw], found[detection])
    return _Pairs(detection, flaw, iou, shared / found_area, fits)


def _holds_middle(
    outer_xyxy: Float[np.ndarray, "pairs 4"], inner_xyxy: Float[np.ndarray, "pairs 4"]
) -> Bool[np.ndarray, " pairs"]:
    middle = (inner_xyxy[:, :2] + inner_xyxy[:, 2:]) / 2
    return ((outer_xyxy[:, :2] <= middle) & (middle < outer_xyxy[:, 2:])).all(axis=1)


def _assign(pairs: _Pairs, flaw_count: int, rank: Int[np.ndarray, " detections"]) -> Int[np.ndarray, " flaws"]:
    """Let each detection, in the order of their ranks, take the free flaw with the largest IoU; of equal ones the last.

    Returns:
        By flaw the detection that took it, or -1.
    """
    order = np.lexsort((-pairs.flaw, -pairs.iou, rank[pairs.detection]))
    detection, flaw = pairs.detection[order], pairs.flaw[order]
    granted = grant_wishes(rank[detection], flaw, flaw_count)
    return _spread(detection[granted], flaw[granted], flaw_count, -1)


def _mark(rows: Int[np.ndarray, " flaws"], count: int) -> Bool[np.ndarray, " detections"]:
    marked = np.zeros(count, dtype=np.bool_)
    marked[rows[rows >= 0]] = True
    return marked


def _spread(values: np.ndarray, rows: Int[np.ndarray, " values"], count: int, missing: float) -> np.ndarray:
    """Put values into their rows of a column that is missing otherwise."""
    column = np.full(count, missing, dtype=values.dtype)
    column[rows] = values
    return column


def _of_detection(rows: Int[np.ndarray, " flaws"], values: np.ndarray, missing: float) -> np.ndarray:
    """Look up a value of each flaw's detection."""
    return np.append(values, missing)[rows] if len(values) else np.full(len(rows), missing)


def _largest(pairs: _Pairs, count: int) -> Float[np.ndarray, " detections"]:
    largest = np.zeros(count)
    np.maximum.at(largest, pairs.detection, pairs.iou)
    return largest


def _film_rows(results: Sequence[FilmResult]) -> pd.DataFrame:
    size = np.array([result.image_hw for result in results], dtype=np.int64).reshape(-1, 2)
    pitch = np.array([result.pixel_pitch_mm or np.nan for result in results], dtype=np.float64)
    return pd.DataFrame(
        {
            "name": pd.Series([result.name for result in results], dtype="str"),
            "weld": pd.Series([result.weld for result in results], dtype="str"),
            "height_px": size[:, 0],
            "width_px": size[:, 1],
            "pixel_pitch_mm": pitch,
            "weld_mm": size.max(axis=1, initial=0) * pitch,
        }
    )


def _flaw_rows(results: Sequence[FilmResult], defect_classes: Sequence[str]) -> pd.DataFrame:
    rows = _box_rows([(result, result.truth.boxes_xyxy, result.truth.labels) for result in results], defect_classes)
    rows.insert(6, "difficult", _joined([result.truth.is_difficult for result in results], np.bool_))
    for measure in MEASURES:
        known = _joined([result.truth.measures[measure] for result in results], np.float64)
        rows[measure] = np.where(np.isnan(known), rows[measure], known) if measure in rows else known
    return rows


def _detection_rows(results: Sequence[FilmResult], defect_classes: Sequence[str]) -> pd.DataFrame:
    found = [(result, result.detections.boxes_xyxy, result.detections.labels) for result in results]
    rows = _box_rows(found, defect_classes)
    rows["score"] = _joined([result.detections.scores for result in results], np.float64)
    return rows


def _box_rows(
    films: Sequence[tuple[FilmResult, np.ndarray, np.ndarray]], defect_classes: Sequence[str]
) -> pd.DataFrame:
    edges = np.concatenate([np.zeros((0, 4)), *(boxes_xyxy for _, boxes_xyxy, _ in films)]).astype(np.float64)
    labels = _joined([label for _, _, label in films], np.int64)
    counts = [len(label) for _, _, label in films]
    pitch = np.repeat([result.pixel_pitch_mm or np.nan for result, _, _ in films], counts)
    sides_mm = (edges[:, 2:] - edges[:, :2]) * pitch[:, None]
    return pd.DataFrame(
        {
            "film": np.repeat(np.arange(len(films)), counts),
            "defect_class": pd.Categorical.from_codes(labels - 1, categories=list(defect_classes)),
            **{name: edges[:, column] for column, name in enumerate(("x0", "y0", "x1", "y1"))},
            "length_mm": sides_mm.max(axis=1, initial=0.0),
            "width_mm": sides_mm.min(axis=1, initial=np.inf),
            "label": labels,
        }
    )


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype)

"""Which errors a detector makes, in the manner of TIDE, and how much average precision each kind costs.

References:
    Bolya et al. 2020, TIDE: A General Toolbox for Identifying Object Detection Errors, arXiv:2008.08115
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from defects_in_welds import boxes
from defects_in_welds.evaluation.assignment import overlapping_pairs
from defects_in_welds.evaluation.coco_map import precision_at_recalls
from defects_in_welds.evaluation.matching import MatchTable

FALSE_CALL_TYPES = ("classification", "localisation", "both", "duplicate", "background")
"""What can be wrong with a detection, in the order of their codes."""

ERROR_TYPES = (*FALSE_CALL_TYPES, "missed")

_CLASSIFICATION, _LOCALISATION = 0, 1
_BACKGROUND_IOU, _FOREGROUND_IOU = 0.1, 0.5


@dataclass(frozen=True)
class ErrorMeasure:
    """How often an error occurs, and what it costs.

    Attributes:
        count: Detections, or flaws for ``missed``, with this error at the threshold.
        ap50_gain: How much the average precision at IoU 0.5, mean over classes, would rise if this error alone were
            mended, at any score; None where no class has flaws to find.
    """

    count: int
    ap50_gain: float | None


def measure_errors(table: MatchTable, min_score: float) -> dict[str, ErrorMeasure]:
    """Count the errors of each type, and try what mending them would gain.

    Mended are, as in TIDE: ``classification``, by the right class; ``localisation``, by the right box; where the flaw
    is then reported more than once, the best score stays and the others go. ``both``, ``duplicate`` and ``background``
    go. For ``missed``, the flaws go; a class that had no others is then perfect.

    Args:
        table: Matched by an IoU of at least 0.5. After another rule, the average precision is that of this rule.
        min_score: Least score of the detections that are counted; weaker ones are as if they had not been reported.

    Returns:
        By type, in the order of `ERROR_TYPES`. The counts of the detections' types add up to all false calls, and a
        missed flaw is counted as such unless a classification or localisation error points at it.
    """
    types = false_call_types(table).codes
    targets = _targets(table, types)
    detections = _judged_detections(table)
    flaw_counts = _flaw_counts(table, ~table.flaws["difficult"].to_numpy(dtype=np.bool_))
    present = _average_precision(detections, flaw_counts, flaw_counts)

    def measure(count: int, mended: _Detections, left: Int[np.ndarray, " classes"]) -> ErrorMeasure:
        if present is None:
            return ErrorMeasure(count, None)
        return ErrorMeasure(count, (_average_precision(mended, flaw_counts, left) or 0.0) - present)

    is_strong = detections.score >= min_score
    measures = {}
    for code, name in enumerate(FALSE_CALL_TYPES):
        is_wrong = types == code
        mended = _mend(table, detections, is_wrong, targets)
        measures[name] = measure(int(np.sum(is_wrong & is_strong)), mended, flaw_counts)
    is_missed = table.is_missed(min_score) & ~_is_pointed_at(table, targets[is_strong])
    never_seen = table.is_missed(-np.inf) & ~_is_pointed_at(table, targets)
    measures["missed"] = measure(int(is_missed.sum()), detections, flaw_counts - _flaw_counts(table, never_seen))
    return measures


def false_call_types(table: MatchTable) -> pd.Categorical:
    """Tell what is wrong with each detection; missing for hits and for ignored detections.

    ``localisation``: IoU of 0.1 to 0.5 with a flaw of its class. ``classification``: at least 0.5 with a flaw of
    another class. ``duplicate``: at least 0.5 with a flaw of its class, which a better one has found. ``background``:
    less than 0.1 with any. ``both``: the others, with 0.1 to 0.5 for a flaw of another class. Where several are true,
    the first of these: the order in which TIDE's program asks.
    """
    own, other = (table.detections[column].to_numpy() for column in ("best_iou", "best_iou_other"))
    kinds = {
        "localisation": (own >= _BACKGROUND_IOU) & (own < _FOREGROUND_IOU),
        "classification": other >= _FOREGROUND_IOU,
        "duplicate": own >= _FOREGROUND_IOU,
        "background": np.maximum(own, other) < _BACKGROUND_IOU,
    }
    codes = [FALSE_CALL_TYPES.index(kind) for kind in kinds]
    first = np.select(list(kinds.values()), codes, default=FALSE_CALL_TYPES.index("both"))
    return pd.Categorical.from_codes(np.where(table.is_false_call(-np.inf), first, -1), list(FALSE_CALL_TYPES))


def _targets(table: MatchTable, types: Int[np.ndarray, " detections"]) -> Int[np.ndarray, " detections"]:
    """Find the flaw that each wrongly named or placed detection means: the one it fits best; -1 for all others."""
    (wrong,) = np.nonzero((types == _CLASSIFICATION) | (types == _LOCALISATION))
    found, flaws = table.detections.iloc[wrong], table.flaws
    found_xyxy, flaws_xyxy = (rows[["x0", "y0", "x1", "y1"]].to_numpy() for rows in (found, flaws))
    detection, flaw, shared = overlapping_pairs(
        found["film"].to_numpy(), found_xyxy, flaws["film"].to_numpy(), flaws_xyxy
    )
    iou = shared / (boxes.areas(found_xyxy)[detection] + boxes.areas(flaws_xyxy)[flaw] - shared)
    is_same = _classes(found)[detection] == _classes(flaws)[flaw]
    is_meant = is_same == (types[wrong] == _LOCALISATION)[detection]
    (fitting,) = np.nonzero(is_meant & ~flaws["difficult"].to_numpy(dtype=np.bool_)[flaw])
    best_last = fitting[np.lexsort((-flaw[fitting], iou[fitting]))]
    targets = np.full(len(types), -1)
    targets[wrong[detection[best_last]]] = flaw[best_last]
    return targets


@dataclass(frozen=True, eq=False)
class _Detections:
    """What the average precision depends on.

    Attributes:
        label: Code of the class.
        score: From 0 to 1.
        flaw: Row of the flaw that it found, or -1.
        is_call: Whether it counts at all.
    """

    label: Int[np.ndarray, " detections"]
    score: Float[np.ndarray, " detections"]
    flaw: Int[np.ndarray, " detections"]
    is_call: Bool[np.ndarray, " detections"]


def _judged_detections(table: MatchTable) -> _Detections:
    rows = table.detections
    is_hit = table.is_hit(-np.inf)
    flaw = np.where(is_hit, rows["flaw"].to_numpy(), -1)
    return _Detections(_classes(rows), rows["score"].to_numpy(), flaw, is_hit | table.is_false_call(-np.inf))


def _mend(
    table: MatchTable,
    detections: _Detections,
    is_wrong: Bool[np.ndarray, " detections"],
    targets: Int[np.ndarray, " detections"],
) -> _Detections:
    """Give the wrong detections to the flaws that they mean, and leave out those that mean none."""
    flaw = np.where(is_wrong, targets, detections.flaw)
    by_score = np.argsort(-detections.score, kind="stable")
    reported, first = np.unique(flaw[by_score], return_index=True)
    is_best = np.zeros(len(flaw), dtype=np.bool_)
    is_best[by_score[first[reported >= 0]]] = True
    label = np.where(flaw >= 0, np.append(_classes(table.flaws), -1)[flaw], detections.label)
    return replace(
        detections, label=label, flaw=flaw, is_call=np.where(flaw >= 0, is_best, detections.is_call & ~is_wrong)
    )


def _average_precision(
    detections: _Detections, flaw_counts: Int[np.ndarray, " classes"], left: Int[np.ndarray, " classes"]
) -> float | None:
    """Average over the classes that have flaws; one of which none are left is perfect."""
    by_score = np.argsort(-detections.score, kind="stable")
    by_score = by_score[detections.is_call[by_score]]
    values = []
    for label in np.flatnonzero(flaw_counts):
        is_hit = detections.flaw[by_score[detections.label[by_score] == label]] >= 0
        count = left[label].item()
        is_call = np.ones_like(is_hit)
        values.append(precision_at_recalls(is_hit[None], is_call[None], count).mean().item() if count else 1.0)
    return float(np.mean(values)) if values else None


def _is_pointed_at(table: MatchTable, targets: Int[np.ndarray, " some"]) -> Bool[np.ndarray, " flaws"]:
    return np.isin(np.arange(len(table.flaws)), targets)


def _flaw_counts(table: MatchTable, chosen: Bool[np.ndarray, " flaws"]) -> Int[np.ndarray, " classes"]:
    return np.bincount(_classes(table.flaws)[chosen], minlength=len(table.flaws["defect_class"].cat.categories))


def _classes(rows: pd.DataFrame) -> Int[np.ndarray, " rows"]:
    return rows["defect_class"].cat.codes.to_numpy().astype(np.int64)

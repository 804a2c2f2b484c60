"""Decide which detections found which flaws: the one matching that every count in the report comes from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from defects_in_welds import boxes
from defects_in_welds.evaluation.film_results import Truth
from defects_in_welds.inference.detections import Detections

MATCH_IOU = 0.5
"""IoU from which a detection has found a flaw."""


@dataclass(frozen=True, eq=False)
class FilmMatches:
    """What became of the flaws and detections of a film.

    A difficult flaw is neither found nor missed, and a detection of one is neither a hit nor a false call.

    Attributes:
        is_found: By flaw.
        is_missed: By flaw.
        is_misnamed: By flaw: missed, but reported as another class; the report is a false call all the same.
        is_hit: By detection.
        is_false_call: By detection.
    """

    is_found: Bool[np.ndarray, " flaws"]
    is_missed: Bool[np.ndarray, " flaws"]
    is_misnamed: Bool[np.ndarray, " flaws"]
    is_hit: Bool[np.ndarray, " detections"]
    is_false_call: Bool[np.ndarray, " detections"]


def match_film(truth: Truth, detections: Detections) -> FilmMatches:
    """Give each detection, best score first, the flaw of its class that it fits best and no better one has taken.

    A detection that finds none so but has a share of `MATCH_IOU` of its area on a difficult flaw of its class is left
    out of account. This is COCO's rule, with difficult flaws as its crowds. What is left over, missed flaws and false
    calls, is then matched once more in the same way without regard to classes, to tell which flaws were misnamed.
    """
    flaw_boxes, found_boxes = truth.boxes_xyxy.astype(np.float64), detections.boxes_xyxy.astype(np.float64)
    is_same_class = detections.labels[:, None] == truth.labels[None, :]
    is_candidate = is_same_class & ~truth.is_difficult
    overlap = boxes.iou(found_boxes, flaw_boxes)
    is_found, is_hit = _take_best(np.where(is_candidate, overlap, -1.0), detections.scores)

    on_difficult = boxes.intersections(found_boxes, flaw_boxes) >= MATCH_IOU * boxes.areas(found_boxes)[:, None]
    is_ignored = (on_difficult & is_same_class & truth.is_difficult).any(axis=1)
    is_missed, is_false_call = ~is_found & ~truth.is_difficult, ~is_hit & ~is_ignored
    is_left_over = is_false_call[:, None] & is_missed[None, :]
    is_misnamed, _ = _take_best(np.where(is_left_over, overlap, -1.0), detections.scores)
    return FilmMatches(is_found, is_missed, is_misnamed, is_hit, is_false_call)


def _take_best(
    overlap: Float[np.ndarray, "detections flaws"], scores: Float32[np.ndarray, " detections"]
) -> tuple[Bool[np.ndarray, " flaws"], Bool[np.ndarray, " detections"]]:
    """Let each detection, best score first, take the free flaw that it overlaps most; tell what was taken and by what.

    Args:
        overlap: IoU; negative where the two must not be matched.
        scores: Of the detections.
    """
    is_taken = np.zeros(overlap.shape[1], dtype=np.bool_)
    is_taker = np.zeros(overlap.shape[0], dtype=np.bool_)
    if (overlap >= MATCH_IOU).any():
        for detection in np.argsort(-scores, kind="stable"):
            free = np.where(is_taken, -1.0, overlap[detection])
            best = int(free.argmax())
            if free[best] >= MATCH_IOU:
                is_taken[best] = is_taker[detection] = True
    return is_taken, is_taker

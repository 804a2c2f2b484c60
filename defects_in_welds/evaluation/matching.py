"""Decide which detections found which flaws: the one matching that every count in the report comes from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

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
        is_hit: By detection.
        is_false_call: By detection.
    """

    is_found: Bool[np.ndarray, " flaws"]
    is_missed: Bool[np.ndarray, " flaws"]
    is_hit: Bool[np.ndarray, " detections"]
    is_false_call: Bool[np.ndarray, " detections"]


def match_film(truth: Truth, detections: Detections) -> FilmMatches:
    """Give each detection, best score first, the flaw of its class that it fits best and no better one has taken.

    A detection that finds none so but has a share of `MATCH_IOU` of its area on a difficult flaw of its class is left
    out of account. This is COCO's rule, with difficult flaws as its crowds.
    """
    flaw_boxes, found_boxes = truth.boxes_xyxy.astype(np.float64), detections.boxes_xyxy.astype(np.float64)
    is_same_class = detections.labels[:, None] == truth.labels[None, :]
    is_candidate = is_same_class & ~truth.is_difficult
    overlap = np.where(is_candidate, boxes.iou(found_boxes, flaw_boxes), -1.0)
    is_found = np.zeros(len(truth.labels), dtype=np.bool_)
    is_hit = np.zeros(len(detections), dtype=np.bool_)
    if is_candidate.any():
        for detection in np.argsort(-detections.scores, kind="stable"):
            free = np.where(is_found, -1.0, overlap[detection])
            best = int(free.argmax())
            if free[best] >= MATCH_IOU:
                is_found[best] = is_hit[detection] = True

    on_difficult = boxes.intersections(found_boxes, flaw_boxes) >= MATCH_IOU * boxes.areas(found_boxes)[:, None]
    is_ignored = (on_difficult & is_same_class & truth.is_difficult).any(axis=1)
    return FilmMatches(is_found, ~is_found & ~truth.is_difficult, is_hit, ~is_hit & ~is_ignored)

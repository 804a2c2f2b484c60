"""COCO's measures: mean average precision and recall over IoU thresholds from 0.5 to 0.95.

References:
    Lin et al. 2014, Microsoft COCO: Common Objects in Context, arXiv:1405.0312; https://cocodataset.org/#detection-eval
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float

RECALLS = np.linspace(0, 1, 101)
"""The recalls at which COCO reads precision."""

_log = logging.getLogger(__name__)

_IOU_50, _IOU_75 = 0, 5  # among 0.50, 0.55 .. 0.95


@dataclass(frozen=True, eq=False)
class ClassMetrics:
    """Measures of one defect class that has flaws to find.

    Attributes:
        average_precision: Mean over the IoU thresholds.
        average_precision_50: At IoU 0.5; the mean of ``precision_50``.
        precision_50: Best precision at each of `RECALLS` or beyond, at IoU 0.5; 0 at recalls that are never reached.
    """

    average_precision: float
    average_precision_50: float
    precision_50: Float[np.ndarray, "101"]


@dataclass(frozen=True, eq=False)
class CocoMetrics:
    """Measures over all classes that have flaws to find; None where no class has any.

    Attributes:
        mean_average_precision: Over IoU thresholds and classes.
        mean_average_precision_50: At IoU 0.5.
        mean_average_precision_75: At IoU 0.75.
        average_recall: Recall of all detections that count, mean over IoU thresholds and classes.
        classes: By defect class; None for one without flaws to find, which has no part in the means.
    """

    mean_average_precision: float | None
    mean_average_precision_50: float | None
    mean_average_precision_75: float | None
    average_recall: float | None
    classes: dict[str, ClassMetrics | None]


def measure_coco(
    ground_truth: dict[str, list[dict[str, Any]]], predictions: Sequence[dict[str, Any]], max_detections: int
) -> CocoMetrics:
    """Compare predictions with the truth of all films.

    Args:
        ground_truth: COCO's images, annotations and categories; crowds need not be found, and finding them is no error.
        predictions: COCO's list of results.
        max_detections: Most detections of a class on a film that count, best first. COCO's own 100 would pass over
            flaws of films that hold several hundred.
    """
    # The library writes into what it is given.
    truth = COCO(ground_truth, use_deepcopy=True)
    found = truth.loadRes(list(predictions))
    evaluation = COCOeval_faster(truth, found, iouType="bbox", print_function=_log.debug)
    evaluation.params.maxDets = [max_detections]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # IoU thresholds, recalls, classes; -1 without truth
    recall = evaluation.eval["recall"][:, :, 0, 0]  # IoU thresholds, classes

    has_truth = (precision > -1).all(axis=(0, 1))
    names = [category["name"] for category in sorted(ground_truth["categories"], key=lambda category: category["id"])]
    classes = {name: _class_metrics(precision[:, :, k]) if has_truth[k] else None for k, name in enumerate(names)}
    return CocoMetrics(
        _mean(precision[:, :, has_truth]),
        _mean(precision[_IOU_50, :, has_truth]),
        _mean(precision[_IOU_75, :, has_truth]),
        _mean(recall[:, has_truth]),
        classes,
    )


def _class_metrics(precision: Float[np.ndarray, "thresholds 101"]) -> ClassMetrics:
    return ClassMetrics(precision.mean().item(), precision[_IOU_50].mean().item(), precision[_IOU_50])


def _mean(values: Float[np.ndarray, "*shape"]) -> float | None:
    return values.mean().item() if values.size else None

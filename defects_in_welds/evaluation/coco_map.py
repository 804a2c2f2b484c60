"""COCO's measures: mean average precision and recall over IoU thresholds from 0.5 to 0.95, also by size in mm.

Computed from arrays of all films at once: libraries that do the same spend most of their time on dictionaries.

References:
    Lin et al. 2014, Microsoft COCO: Common Objects in Context, arXiv:1405.0312; https://cocodataset.org/#detection-eval
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from defects_in_welds import boxes
from defects_in_welds.evaluation.assignment import grant_wishes, overlapping_pairs

RECALLS = np.linspace(0, 1, 101)
"""The recalls at which COCO reads precision."""

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The IoU from which a detection fits a flaw."""

_IOU_50, _IOU_75 = 0, 5


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


@dataclass(frozen=True)
class SizeMetrics:
    """Measures over all classes of the flaws whose length lies in a bin; None where it has none to find.

    Attributes:
        low_mm: Least length, which belongs to the bin.
        high_mm: Length from which the next bin begins; None for the last one, which has no end.
        flaws: How many there are to find.
        average_precision: Mean over IoU thresholds and classes.
        average_precision_50: At IoU 0.5.
        average_recall: Mean over IoU thresholds and classes.
    """

    low_mm: float
    high_mm: float | None
    flaws: int
    average_precision: float | None
    average_precision_50: float | None
    average_recall: float | None


@dataclass(frozen=True, eq=False)
class CocoMetrics:
    """Measures over all classes that have flaws to find; None where no class has any.

    Attributes:
        mean_average_precision: Over IoU thresholds and classes.
        mean_average_precision_50: At IoU 0.5.
        mean_average_precision_75: At IoU 0.75.
        average_recall: Recall of all detections that count, mean over IoU thresholds and classes.
        classes: By defect class; None for one without flaws to find, which has no part in the means.
        by_size: By length, the shortest first; None where no film's pixel pitch is known.
    """

    mean_average_precision: float | None
    mean_average_precision_50: float | None
    mean_average_precision_75: float | None
    average_recall: float | None
    classes: dict[str, ClassMetrics | None]
    by_size: list[SizeMetrics] | None


def measure_coco(
    ground_truth: dict[str, list[dict[str, Any]]],
    predictions: Sequence[dict[str, Any]],
    max_detections: int,
    size_edges_mm: Sequence[float] = (),
) -> CocoMetrics:
    """Compare predictions with the truth of all films.

    Args:
        ground_truth: COCO's images, annotations and categories; crowds need not be found, and finding them is no error.
            Sizes need the ``pixel_pitch_mm`` of the images; films without it have no part in them. The length of a
            flaw is its ``length_mm``, or the longer side of its box where that is missing.
        predictions: COCO's list of results.
        max_detections: Most detections of a class on a film that count, best first. COCO's own 100 would pass over
            flaws of films that hold several hundred.
        size_edges_mm: Lengths at which one bin of sizes ends and the next begins, in mm, rising. The first bin begins
            at 0 and the last one has no end, so that every flaw lies in one. What COCO does with areas is done with
            lengths: flaws outside of the bin need not be found, finding them is no error, and neither is a detection
            outside of the bin that finds nothing.
    """
    categories = sorted(ground_truth["categories"], key=itemgetter("id"))
    flaws, detections = _read(ground_truth, predictions, [category["id"] for category in categories], max_detections)
    pairs = _fitting_pairs(flaws, detections)
    everything = np.ones(len(flaws), dtype=np.bool_), np.ones(len(detections), dtype=np.bool_)
    curves = _curves(flaws, detections, pairs, len(categories), *everything)
    classes = {
        category["name"]: curve.class_metrics() if curve else None
        for category, curve in zip(categories, curves, strict=True)
    }
    is_sized = any(image.get("pixel_pitch_mm") for image in ground_truth["images"])
    return CocoMetrics(
        _mean([curve.precision for curve in curves if curve]),
        _mean([curve.precision[_IOU_50] for curve in curves if curve]),
        _mean([curve.precision[_IOU_75] for curve in curves if curve]),
        _mean([curve.recall for curve in curves if curve]),
        classes,
        _by_size(flaws, detections, pairs, len(categories), size_edges_mm) if is_sized else None,
    )


def precision_at_recalls(
    is_hit: Bool[np.ndarray, "thresholds detections"],
    is_call: Bool[np.ndarray, "thresholds detections"],
    flaws: int,
) -> Float[np.ndarray, "thresholds 101"]:
    """Compute the best precision at each of `RECALLS` or beyond; 0 at recalls that are never reached.

    Args:
        is_hit: Which detections found a flaw; the best score first.
        is_call: Which ones count at all: hits and false calls.
        flaws: How many there are to find, at least 1.
    """
    hits = np.cumsum(is_hit, axis=1)
    precision = hits / np.maximum(np.cumsum(is_call, axis=1), 1)
    best_beyond = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    never = np.zeros((len(is_hit), 1))
    reached_at = [np.searchsorted(recall, RECALLS) for recall in hits / flaws]
    return np.take_along_axis(np.concatenate([best_beyond, never], axis=1), np.array(reached_at), axis=1)


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Boxes of all films, sorted by film and class, then the best score first.

    Attributes:
        label: Place of the class among all classes.
        group: One number for each film and class.
        xyxy: Half-open boxes, in pixels.
        length_mm: NaN where the film's pixel pitch is unknown.
        score: 0 for flaws.
        is_crowd: False for detections.
    """

    label: Int[np.ndarray, " boxes"]
    group: Int[np.ndarray, " boxes"]
    xyxy: Float[np.ndarray, "boxes 4"]
    length_mm: Float[np.ndarray, " boxes"]
    score: Float[np.ndarray, " boxes"]
    is_crowd: Bool[np.ndarray, " boxes"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, chosen: Int[np.ndarray, " chosen"]) -> "_Boxes":
        return _Boxes(*(column[chosen] for column in vars(self).values()))


def _read(
    ground_truth: dict[str, list[dict[str, Any]]],
    predictions: Sequence[dict[str, Any]],
    category_ids: Sequence[int],
    max_detections: int,
) -> tuple[_Boxes, _Boxes]:
    images = sorted(ground_truth["images"], key=itemgetter("id"))
    image_ids = np.array([image["id"] for image in images], dtype=np.int64)
    pitch_mm = np.array([image.get("pixel_pitch_mm") or math.nan for image in images], dtype=np.float64)

    def to_boxes(rows: Sequence[dict[str, Any]], score: Float[np.ndarray, " boxes"]) -> _Boxes:
        film = np.searchsorted(image_ids, _column(rows, "image_id", np.int64))
        label = np.searchsorted(category_ids, _column(rows, "category_id", np.int64))
        sides = itertools.chain.from_iterable(map(itemgetter("bbox"), rows))
        xywh = np.fromiter(sides, dtype=np.float64, count=4 * len(rows)).reshape(-1, 4)
        return _Boxes(
            label,
            film * len(category_ids) + label,
            boxes.xywh_to_xyxy(xywh),
            xywh[:, 2:].max(axis=1, initial=0) * pitch_mm[film],
            score,
            np.zeros(len(rows), dtype=np.bool_),
        )

    annotations = ground_truth["annotations"]
    boxes_of_flaws = to_boxes(annotations, np.zeros(len(annotations)))
    length_mm = np.array([row.get("length_mm", math.nan) for row in annotations], dtype=np.float64)
    is_known = ~(np.isnan(length_mm) | np.isnan(boxes_of_flaws.length_mm))
    flaws = replace(
        boxes_of_flaws,
        length_mm=np.where(is_known, length_mm, boxes_of_flaws.length_mm),
        is_crowd=np.array([row["iscrowd"] for row in annotations], dtype=np.bool_),
    )
    detections = to_boxes(predictions, _column(predictions, "score", np.float64))
    detections = detections[np.lexsort((-detections.score, detections.group))]
    place = np.arange(len(detections)) - np.searchsorted(detections.group, detections.group)
    return flaws[np.argsort(flaws.group, kind="stable")], detections[np.flatnonzero(place < max_detections)]


def _column(rows: Sequence[dict[str, Any]], key: str, dtype: type) -> np.ndarray:
    return np.fromiter(map(itemgetter(key), rows), dtype=dtype, count=len(rows))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a detection and a flaw of the same film and class that fit at the lowest threshold.

    Attributes:
        detection: In rising order.
        flaw: Place of the flaw.
        iou: Shared area over that of both together; over that of the detection alone where the flaw is a crowd.
    """

    detection: Int[np.ndarray, " pairs"]
    flaw: Int[np.ndarray, " pairs"]
    iou: Float[np.ndarray, " pairs"]


def _fitting_pairs(flaws: _Boxes, detections: _Boxes) -> _Pairs:
    detection, flaw, shared = overlapping_pairs(detections.group, detections.xyxy, flaws.group, flaws.xyxy)
    detection_area = boxes.areas(detections.xyxy)[detection]
    together = np.where(flaws.is_crowd[flaw], detection_area, detection_area + boxes.areas(flaws.xyxy)[flaw] - shared)
    iou = shared / together
    fits = iou >= IOU_THRESHOLDS[0]
    return _Pairs(detection[fits], flaw[fits], iou[fits])


@dataclass(frozen=True, eq=False)
class _Curve:
    """Precision and recall of a class that has flaws to find.

    Attributes:
        precision: At `RECALLS`.
        recall: That of all detections.
    """

    precision: Float[np.ndarray, "thresholds 101"]
    recall: Float[np.ndarray, " thresholds"]

    def class_metrics(self) -> ClassMetrics:
        precision_50 = self.precision[_IOU_50]
        return ClassMetrics(self.precision.mean().item(), precision_50.mean().item(), precision_50)


def _curves(
    flaws: _Boxes,
    detections: _Boxes,
    pairs: _Pairs,
    class_count: int,
    is_wanted: Bool[np.ndarray, " flaws"],
    is_counted: Bool[np.ndarray, " detections"],
) -> list[_Curve | None]:
    """Compute the curves of all classes; None for classes without flaws to find.

    Args:
        flaws: All flaws.
        detections: All detections.
        pairs: Which of them fit.
        class_count: How many classes there are.
        is_wanted: Which flaws are to be found; finding others is no error.
        is_counted: Which detections are false calls if they find nothing; others that find nothing are no error.
    """
    is_ignored = flaws.is_crowd | ~is_wanted
    taken = _taken_flaws(flaws, len(detections), pairs, is_ignored)
    is_taken = taken >= 0
    is_hit = is_taken & ~np.append(is_ignored, True)[taken]
    is_call = is_hit | (~is_taken & is_counted)

    by_score = np.argsort(-detections.score, kind="stable")
    curves: list[_Curve | None] = []
    for label, count in enumerate(np.bincount(flaws.label[~is_ignored], minlength=class_count).tolist()):
        rows = by_score[detections.label[by_score] == label]
        hits, calls = is_hit[:, rows], is_call[:, rows]
        curves.append(_Curve(precision_at_recalls(hits, calls, count), hits.sum(axis=1) / count) if count else None)
    return curves


def _taken_flaws(
    flaws: _Boxes, detection_count: int, pairs: _Pairs, is_ignored: Bool[np.ndarray, " flaws"]
) -> Int[np.ndarray, "thresholds detections"]:
    """Find the flaw that each detection takes at each threshold, or -1.

    The detections of a film and class choose in turn, the best score first: among the free flaws that they fit, first
    those that are to be found, and of these the one that they fit best; of equal ones the last, as COCO's code does. A
    crowd is never used up.
    """
    wishes = np.lexsort((-pairs.flaw, -pairs.iou, is_ignored[pairs.flaw], pairs.detection))
    detection, flaw, iou = pairs.detection[wishes], pairs.flaw[wishes], pairs.iou[wishes]
    # A crowd has a seat for every detection.
    seat = np.where(flaws.is_crowd[flaw], len(flaws) + detection, flaw)
    taken = np.full((len(IOU_THRESHOLDS), detection_count), -1)
    for of_detection, threshold in zip(taken, IOU_THRESHOLDS, strict=True):
        (fitting,) = np.nonzero(iou >= threshold)
        granted = fitting[grant_wishes(detection[fitting], seat[fitting], len(flaws) + detection_count)]
        of_detection[detection[granted]] = flaw[granted]
    return taken


def _by_size(
    flaws: _Boxes, detections: _Boxes, pairs: _Pairs, class_count: int, size_edges_mm: Sequence[float]
) -> list[SizeMetrics]:
    metrics = []
    edges_mm = [0.0, *size_edges_mm, math.inf] if size_edges_mm else []
    for low_mm, high_mm in itertools.pairwise(edges_mm):
        is_wanted, is_counted = ((low_mm <= of.length_mm) & (of.length_mm < high_mm) for of in (flaws, detections))
        of_classes = _curves(flaws, detections, pairs, class_count, is_wanted, is_counted)
        curves = [curve for curve in of_classes if curve]
        metrics.append(
            SizeMetrics(
                low_mm,
                None if math.isinf(high_mm) else high_mm,
                int(np.sum(is_wanted & ~flaws.is_crowd)),
                _mean([curve.precision for curve in curves]),
                _mean([curve.precision[_IOU_50] for curve in curves]),
                _mean([curve.recall for curve in curves]),
            )
        )
    return metrics


def _mean(values: Sequence[Float[np.ndarray, "*shape"]]) -> float | None:
    return float(np.mean(values)) if values else None

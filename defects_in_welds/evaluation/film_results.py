"""Truth and detections of a film side by side, and the COCO files that keep them.

All in pixels of the film's file, whatever pitch it was prepared at: there a user looks for what was found.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from defects_in_welds import boxes
from defects_in_welds.data.annotation import MEASURES
from defects_in_welds.data.tensor_store import FilmRecord
from defects_in_welds.inference.detections import Detections
from defects_in_welds.taxonomy import iso_6520_1_number, label_of


@dataclass(frozen=True, eq=False)
class Truth:
    """The true flaws of a film.

    Attributes:
        boxes_xyxy: Half-open boxes in pixels of the film's file.
        labels: Class ids from 1, as ``defect_classes.index(name) + 1``.
        is_difficult: Which flaws count neither as a miss nor as a false call.
        measures: By name, those of `MEASURES`; NaN where unknown.
    """

    boxes_xyxy: Float32[np.ndarray, "flaws 4"]
    labels: Int64[np.ndarray, " flaws"]
    is_difficult: Bool[np.ndarray, " flaws"]
    measures: dict[str, Float[np.ndarray, " flaws"]]


@dataclass(frozen=True, eq=False)
class FilmResult:
    """What is on a film, and what the detector reported.

    Attributes:
        name: Path of the film's file below the data set's folder.
        weld: The weld that it shows.
        image_hw: Height and width, in pixels.
        pixel_pitch_mm: Distance of neighbouring pixels, in mm; None where unknown.
        truth: The true flaws.
        detections: Best first.
    """

    name: str
    weld: str
    image_hw: tuple[int, int]
    pixel_pitch_mm: float | None
    truth: Truth
    detections: Detections


def film_result(film: FilmRecord, defect_classes: Sequence[str], detections: Detections) -> FilmResult:
    """Put the detections beside the truth of a prepared film, and bring both to the pixels of its file."""
    prepared_hw, source_hw = (film.height, film.width), (film.source_height, film.source_width)
    boxes_xyxy = np.array([flaw.box_xyxy for flaw in film.annotations], dtype=np.float64).reshape(-1, 4)
    truth = Truth(
        boxes.rescale(boxes_xyxy, prepared_hw, source_hw).astype(np.float32),
        np.array([label_of(flaw.defect_class, defect_classes) for flaw in film.annotations], dtype=np.int64),
        np.array([flaw.difficult for flaw in film.annotations], dtype=np.bool_),
        {name: _numbers([getattr(flaw.measures, name) for flaw in film.annotations]) for name in MEASURES},
    )
    found = detections.rescaled(prepared_hw, source_hw)
    return FilmResult(film.name, film.weld, source_hw, film.source_pixel_pitch_mm, truth, found)


def to_coco(
    results: Sequence[FilmResult], defect_classes: Sequence[str]
) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Write results as COCO does: difficult flaws as crowds, all ids from 1.

    Returns:
        The ground truth (images, annotations, categories) and the list of predictions.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image_id, result in enumerate(results, start=1):
        height, width = result.image_hw
        images.append(
            {
                "id": image_id,
                "file_name": result.name,
                "weld": result.weld,
                "height": height,
                "width": width,
                "pixel_pitch_mm": result.pixel_pitch_mm,
            }
        )
        truth, detections = result.truth, result.detections
        bboxes = _to_bboxes(truth.boxes_xyxy)
        known = np.array([truth.measures[name] for name in MEASURES]).T.tolist()
        rows = zip(bboxes, truth.labels.tolist(), truth.is_difficult.tolist(), known, strict=True)
        for bbox, label, is_difficult, values in rows:
            annotation = {"image_id": image_id, "category_id": label, "bbox": bbox, "area": bbox[2] * bbox[3]}
            measures = {name: value for name, value in zip(MEASURES, values, strict=True) if not math.isnan(value)}
            annotations.append({"id": len(annotations) + 1, **annotation, "iscrowd": int(is_difficult), **measures})
        bboxes = _to_bboxes(detections.boxes_xyxy)
        for bbox, label, score in zip(bboxes, detections.labels.tolist(), detections.scores.tolist(), strict=True):
            predictions.append({"image_id": image_id, "category_id": label, "bbox": bbox, "score": score})
    categories = [
        {"id": label, "name": name, "iso_6520_1": iso_6520_1_number(name)}
        for label, name in enumerate(defect_classes, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}, predictions


def from_coco(ground_truth: dict[str, list[dict[str, Any]]], predictions: Sequence[dict[str, Any]]) -> list[FilmResult]:
    """Read what `to_coco` wrote."""
    annotations_of: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in ground_truth["images"]}
    predictions_of: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        annotations_of[annotation["image_id"]].append(annotation)
    for prediction in predictions:
        predictions_of[prediction["image_id"]].append(prediction)
    return [
        FilmResult(
            image["file_name"],
            image["weld"],
            (image["height"], image["width"]),
            image["pixel_pitch_mm"],
            _truth(annotations_of[image["id"]]),
            _detections(predictions_of[image["id"]]),
        )
        for image in ground_truth["images"]
    ]


def _to_bboxes(boxes_xyxy: Float32[np.ndarray, "boxes 4"]) -> list[list[float]]:
    # In float64, so that the way back gives the same float32 edges.
    return boxes.xyxy_to_xywh(boxes_xyxy.astype(np.float64)).tolist()


def _from_bboxes(rows: Sequence[dict[str, Any]]) -> Float32[np.ndarray, "boxes 4"]:
    xywh = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return boxes.xywh_to_xyxy(xywh).astype(np.float32)


def _labels(rows: Sequence[dict[str, Any]]) -> Int64[np.ndarray, " boxes"]:
    return np.array([row["category_id"] for row in rows], dtype=np.int64)


def _truth(annotations: Sequence[dict[str, Any]]) -> Truth:
    is_difficult = np.array([annotation["iscrowd"] for annotation in annotations], dtype=np.bool_)
    measures = {name: _numbers([annotation.get(name) for annotation in annotations]) for name in MEASURES}
    return Truth(_from_bboxes(annotations), _labels(annotations), is_difficult, measures)


def _numbers(values: Sequence[float | None]) -> Float[np.ndarray, " values"]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _detections(predictions: Sequence[dict[str, Any]]) -> Detections:
    scores = np.array([prediction["score"] for prediction in predictions], dtype=np.float32)
    return Detections(_from_bboxes(predictions), scores, _labels(predictions))

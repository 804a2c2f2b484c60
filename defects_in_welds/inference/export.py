"""The files that tell what was found on films: one for programs, one for spreadsheets, and pictures."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from jaxtyping import Float

from defects_in_welds import boxes
from defects_in_welds.inference.detections import Detections
from defects_in_welds.inference.film_drawing import draw_indications
from defects_in_welds.radiograph import Radiograph
from defects_in_welds.taxonomy import iso_6520_1_number

PREDICTIONS_NAME = "predictions.json"
INDICATIONS_NAME = "indications.csv"
PICTURES_NAME = "pictures"

COLUMNS = ("film", "defect_class", "iso_6520_1", "score", "x0", "y0", "x1", "y1", "length_mm", "width_mm")
"""Of the table of indications: edges in pixels of the film's file; length and width are the longer and the shorter side
of the box, empty where the pixel pitch is unknown."""

_PNG_COMPRESSION = 3


class IndicationExport:
    """Writes what was found, film by film, so that memory does not grow with the number of films.

    ``predictions.json`` is a COCO data set: ``info``, ``categories``, ``images``, and ``annotations`` with a ``score``
    each, which by themselves are COCO results. ``indications.csv`` has the columns `COLUMNS`, ``pictures/`` a PNG for
    each film under the film's name.

    Attributes:
        indications: How many have been written.
    """

    def __init__(
        self, folder: Path, defect_classes: Sequence[str], info: Mapping[str, Any], *, with_pictures: bool
    ) -> None:
        """Plan the files; entering the context begins them.

        Args:
            folder: Where they go.
            defect_classes: Names in order of their ids, from 1.
            info: What is to be known of all of it.
            with_pictures: Whether to draw the films.
        """
        self._folder = folder
        self._classes = tuple(defect_classes)
        self._numbers = tuple(map(iso_6520_1_number, defect_classes))
        self._info = info
        self._with_pictures = with_pictures
        self._images: list[dict[str, Any]] = []
        self.indications = 0
        self._files = ExitStack()

    @property
    def films(self) -> int:
        """How many have been written."""
        return len(self._images)

    def __enter__(self) -> Self:
        table = (self._folder / INDICATIONS_NAME).open("w", newline="", encoding="utf-8")
        self._table = csv.writer(self._files.enter_context(table), lineterminator="\n")
        self._table.writerow(COLUMNS)
        self._json = self._files.enter_context((self._folder / PREDICTIONS_NAME).open("w", encoding="utf-8"))
        categories = [
            {"id": label, "name": name, "iso_6520_1": number}
            for label, (name, number) in enumerate(zip(self._classes, self._numbers, strict=True), start=1)
        ]
        self._json.write(f'{{"info": {_to_json(self._info)},\n"categories": {_to_json(categories)},\n"annotations": [')
        return self

    def add(self, name: str, film: Radiograph, found: Detections) -> None:
        """Write what was found on a film.

        Args:
            name: Of the film, unique.
            film: As its file has it.
            found: In pixels of the film, best first.
        """
        # In float64, so that the way back gives the same float32 edges.
        boxes_xyxy = found.boxes_xyxy.astype(np.float64)
        self._add_to_json(name, film, found, boxes_xyxy)
        self._add_to_table(name, film, found, boxes_xyxy)
        if self._with_pictures:
            self._write_picture(name, film, found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._files:
            if error is None:
                images = ",\n".join(map(_to_json, self._images))
                self._json.write(f'\n],\n"images": [\n{images}\n]}}\n')

    def _add_to_json(
        self, name: str, film: Radiograph, found: Detections, boxes_xyxy: Float[np.ndarray, "n 4"]
    ) -> None:
        height, width = film.image_hw
        image_id = len(self._images) + 1
        self._images.append(
            {
                "id": image_id,
                "file_name": name,
                "height": height,
                "width": width,
                "pixel_pitch_mm": film.pixel_pitch_mm,
            }
        )
        bboxes = boxes.xyxy_to_xywh(boxes_xyxy).tolist()
        areas = boxes.areas(boxes_xyxy).tolist()
        rows = zip(found.labels.tolist(), bboxes, areas, found.scores.tolist(), strict=True)
        for label, bbox, area, score in rows:
            annotation = {"image_id": image_id, "category_id": label, "bbox": bbox, "area": area, "iscrowd": 0}
            self._json.write(",\n" if self.indications else "\n")
            self.indications += 1
            self._json.write(_to_json({"id": self.indications, **annotation, "score": score}))

    def _add_to_table(
        self, name: str, film: Radiograph, found: Detections, boxes_xyxy: Float[np.ndarray, "n 4"]
    ) -> None:
        sides = np.sort(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)[:, ::-1]
        sizes: list[list[Any]] = [["", ""]] * len(found)
        if film.pixel_pitch_mm is not None:
            sizes = np.round(sides * film.pixel_pitch_mm, 3).tolist()
        edges = np.round(boxes_xyxy, 2).tolist()
        for label, score, box, size in zip(found.labels.tolist(), found.scores.tolist(), edges, sizes, strict=True):
            self._table.writerow(
                [name, self._classes[label - 1], self._numbers[label - 1], round(score, 4), *box, *size]
            )

    def _write_picture(self, name: str, film: Radiograph, found: Detections) -> None:
        # The suffix stays: film.tif and film.dcm are two films.
        path = self._folder / PICTURES_NAME / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = draw_indications(film, found, self._classes)
        _, png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])
        path.write_bytes(png.tobytes())


def _to_json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)

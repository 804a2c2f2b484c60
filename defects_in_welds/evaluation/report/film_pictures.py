"""Pictures of films for the page: grey pixels, and apart from them the boxes that the page lays over."""

from base64 import b64encode
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from jaxtyping import UInt8

from defects_in_welds.data.grey_levels import percentile_window, window_level
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation.matching import MatchTable

MOST_PICTURE_PX = 1600
"""Longest side of a picture, in pixels: what is longer is scaled down."""

_LEAST_PICTURE_PX = 24  # a side that the scale would leave shorter is stretched: boxes stay to be seen
_MARGIN_PX = 48
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class BoxStyle:
    """How a kind of box is drawn; the kinds differ in their lines as well as in their colours.

    Attributes:
        meaning: What the legend says.
        is_known: Whether it is a known flaw; else a report.
        colour: One of Okabe and Ito's, which no colour blindness confuses.
        dashes: On and off lengths in line widths; empty for a solid line.
        width_px: Line width.
    """

    meaning: str
    is_known: bool
    colour: str
    dashes: tuple[float, ...]
    width_px: float


# In the order in which they are drawn.
STYLES = {
    "difficult": BoxStyle("known flaw marked as difficult, not counted", True, "#FFFFFF", (), 1.25),
    "found": BoxStyle("known flaw that was found", True, "#56B4E9", (), 2.0),
    "hit": BoxStyle("report that is right", False, "#F0E442", (4, 2), 1.5),
    "false_call": BoxStyle("false call", False, "#CC79A7", (1.2, 1.2), 2.0),
    "misnamed": BoxStyle("known flaw that was reported as another kind", True, "#E69F00", (8, 2), 2.5),
    "missed": BoxStyle("known flaw that was missed", True, "#D55E00", (), 2.5),
}


@dataclass(frozen=True)
class Box:
    """A box to draw, in pixels of the film.

    Attributes:
        kind: Key of `STYLES`.
        x: Left edge.
        y: Upper edge.
        width: Of the box.
        height: Of the box.
        text: What it is.
    """

    kind: str
    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Picture:
    """A part of a film, or all of it.

    Attributes:
        url: The grey picture as a ``data:`` URL.
        width_px: Of the picture.
        height_px: Of the picture.
        view_xywh: What it shows, in pixels of the film.
        boxes: What lies in view.
    """

    url: str
    width_px: int
    height_px: int
    view_xywh: tuple[int, int, int, int]
    boxes: tuple[Box, ...]

    @property
    def scale(self) -> float:
        """Pixels of the picture for each pixel of the film, on the longer side; below 1 where it is scaled down."""
        return max(self.width_px, self.height_px) / max(self.view_xywh[2:])


def assemble_film(store: TensorStore, film: int) -> UInt8[np.ndarray, "height width"]:
    """Put a film together from its tiles, as the detector sees it, in the size of its file, windowed for the screen."""
    record = store.manifest.films[film]
    indices = store.film_tiles(film)
    pixels = np.zeros((record.height, record.width), dtype=store.pixels(indices[0]).dtype)
    for index in indices:
        x0, y0, x1, y1 = store.manifest.tiles[index].xyxy
        pixels[y0:y1, x0:x1] = store.pixels(index)[: y1 - y0, : x1 - x0]
    shown = window_level(pixels, *percentile_window(pixels))
    if shown.shape == (record.source_height, record.source_width):
        return shown
    return cv2.resize(shown, (record.source_width, record.source_height), interpolation=cv2.INTER_LINEAR)


def boxes_to_draw(table: MatchTable, min_score: float) -> pd.DataFrame:
    """Say of every flaw, and of every report with at least that score, how it is drawn.

    Returns:
        One row a box, in the order of drawing: ``film``, ``kind`` (of `STYLES`), ``x0 y0 x1 y1``, ``text``.
    """
    outcomes = [table.flaws["difficult"], table.is_misnamed(min_score), table.is_found(min_score)]
    flaws = table.flaws.assign(kind=np.select(outcomes, ["difficult", "misnamed", "found"], "missed"))
    is_false_call = table.is_false_call(min_score)
    reports = table.detections.assign(kind=np.where(is_false_call, "false_call", "hit"))
    reports = reports[is_false_call | table.is_hit(min_score)]
    drawn = pd.concat(
        [
            flaws.assign(text=flaws["defect_class"].astype(str)),
            reports.assign(text=[f"{r.defect_class}, score {r.score:.2f}" for r in reports.itertuples()]),
        ]
    )
    drawn["text"] = [f"{STYLES[kind].meaning}: {text}" for kind, text in zip(drawn["kind"], drawn["text"], strict=True)]
    layers = drawn["kind"].map(list(STYLES).index)
    columns = ["film", "kind", "x0", "y0", "x1", "y1", "text"]
    return drawn.iloc[np.argsort(layers.to_numpy(dtype=np.int64), kind="stable")][columns]


def draw_film(pixels: UInt8[np.ndarray, "height width"], boxes: pd.DataFrame) -> Picture:
    """Show a whole film.

    Args:
        pixels: Of the film.
        boxes: Rows of `boxes_to_draw` on this film.
    """
    height, width = pixels.shape
    return _draw(pixels, (0, 0, width, height), boxes)


def draw_crop(
    pixels: UInt8[np.ndarray, "height width"], box_xyxy: tuple[float, float, float, float], boxes: pd.DataFrame
) -> Picture:
    """Show the surroundings of a box at full resolution, unless it is too long for that.

    Args:
        pixels: Of the film.
        box_xyxy: The place, in pixels.
        boxes: Rows of `boxes_to_draw` on this film.
    """
    height, width = pixels.shape
    x0, y0 = np.maximum(np.floor(box_xyxy[:2]) - _MARGIN_PX, 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(box_xyxy[2:]) + _MARGIN_PX, [width, height]).astype(int).tolist()
    return _draw(pixels, (x0, y0, x1, y1), boxes)


def _draw(
    pixels: UInt8[np.ndarray, "height width"], window_xyxy: tuple[int, int, int, int], boxes: pd.DataFrame
) -> Picture:
    x0, y0, x1, y1 = window_xyxy
    grey = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    scale = min(1.0, MOST_PICTURE_PX / max(grey.shape))
    height_px, width_px = (max(round(side * scale), min(side, _LEAST_PICTURE_PX)) for side in grey.shape)
    if (height_px, width_px) != grey.shape:
        grey = cv2.resize(grey, (width_px, height_px), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    url = f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode()}"
    in_view = boxes[(boxes["x0"] < x1) & (boxes["x1"] > x0) & (boxes["y0"] < y1) & (boxes["y1"] > y0)]
    drawn = tuple(
        Box(
            row.kind,
            round(float(row.x0), 2),
            round(float(row.y0), 2),
            round(float(row.x1 - row.x0), 2),
            round(float(row.y1 - row.y0), 2),
            row.text,
        )
        for row in in_view.itertuples()
    )
    return Picture(url, width_px, height_px, (x0, y0, x1 - x0, y1 - y0), drawn)

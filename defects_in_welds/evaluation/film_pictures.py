"""Pictures of films with their flaws and the detector's reports drawn on them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke

from defects_in_welds.data.grey_levels import percentile_window, window_level
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation.film_results import FilmResult
from defects_in_welds.evaluation.matching import FilmMatches

FILM_PICTURE_PX = 1600
"""Longest side of the picture of a film, in pixels."""

_MIN_PICTURE_PX = 24  # a side that the scale would leave shorter is stretched: lines and boxes stay to be seen
_CROP_MARGIN_PX = 48
_CROP_PICTURE_PX = 480
_CROP_LINES = 2.0  # the page shows crops at half their size, for sharp screens and print
_DPI = 100


@dataclass(frozen=True)
class BoxStyle:
    """How a kind of box is drawn; the kinds differ in their lines as well as in their colours.

    Attributes:
        meaning: What the legend says.
        colour: One of Okabe and Ito's, which no colour blindness confuses.
        dashes: On and off lengths in line widths, starting at an offset; plain for a solid line.
        width_px: Line width.
    """

    meaning: str
    colour: str
    dashes: tuple[float, ...]
    width_px: float


STYLES = {
    "found": BoxStyle("known flaw that was found", "#56B4E9", (), 2.5),
    "missed": BoxStyle("known flaw that was missed", "#D55E00", (), 3.0),
    "difficult": BoxStyle("known flaw marked as difficult, not counted", "#FFFFFF", (), 1.5),
    "hit": BoxStyle("report that is right", "#F0E442", (4, 2), 2.0),
    "false_call": BoxStyle("false call", "#CC79A7", (1.2, 1.2), 2.5),
}


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


def draw_film(pixels: UInt8[np.ndarray, "height width"], result: FilmResult, matches: FilmMatches) -> bytes:
    """Draw a whole film, scaled to the page.

    Returns:
        A JPEG file.
    """
    height, width = pixels.shape
    return _draw(
        pixels, (0, 0, width, height), result, matches, scale=min(2.0, FILM_PICTURE_PX / max(height, width)), lines=1.0
    )


def draw_crop(
    pixels: UInt8[np.ndarray, "height width"],
    box_xyxy: Float32[np.ndarray, "4"],
    result: FilmResult,
    matches: FilmMatches,
) -> bytes:
    """Draw the surroundings of a box, at full resolution or larger where they fit.

    Returns:
        A JPEG file.
    """
    height, width = pixels.shape
    x0, y0 = np.maximum(np.floor(box_xyxy[:2]) - _CROP_MARGIN_PX, 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(box_xyxy[2:]) + _CROP_MARGIN_PX, [width, height]).astype(int).tolist()
    return _draw(
        pixels,
        (x0, y0, x1, y1),
        result,
        matches,
        scale=min(4.0, _CROP_PICTURE_PX / max(x1 - x0, y1 - y0)),
        lines=_CROP_LINES,
    )


def _draw(
    pixels: UInt8[np.ndarray, "height width"],
    window_xyxy: tuple[int, int, int, int],
    result: FilmResult,
    matches: FilmMatches,
    scale: float,
    lines: float,
) -> bytes:
    x0, y0, x1, y1 = window_xyxy
    drawn_px = [max(side * scale, _MIN_PICTURE_PX) for side in (x1 - x0, y1 - y0)]
    figure = Figure(figsize=(drawn_px[0] / _DPI, drawn_px[1] / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.imshow(pixels[y0:y1, x0:x1], cmap="gray", vmin=0, vmax=255, extent=(x0, x1, y1, y0), aspect="auto")
    for box, style in _boxes_with_styles(result, matches):
        width_pt = lines * style.width_px * 72 / _DPI
        axes.add_patch(
            Rectangle(
                (box[0], box[1]),
                box[2] - box[0],
                box[3] - box[1],
                fill=False,
                edgecolor=style.colour,
                linewidth=width_pt,
                linestyle=(0, style.dashes) if style.dashes else "-",
                # A dark rim keeps light lines visible on a light film.
                path_effects=[withStroke(linewidth=width_pt + lines, foreground="#000000"), Normal()],
            )
        )
    axes.set(xlim=(x0, x1), ylim=(y1, y0))
    picture = io.BytesIO()
    figure.savefig(picture, format="jpeg", dpi=_DPI, pil_kwargs={"quality": 85})
    return picture.getvalue()


def _boxes_with_styles(result: FilmResult, matches: FilmMatches) -> Iterator[tuple[Float32[np.ndarray, "4"], BoxStyle]]:
    groups: list[tuple[str, Shaped[np.ndarray, "boxes 4"], Bool[np.ndarray, " boxes"]]] = [
        ("difficult", result.truth.boxes_xyxy, result.truth.is_difficult),
        ("found", result.truth.boxes_xyxy, matches.is_found),
        ("hit", result.detections.boxes_xyxy, matches.is_hit),
        ("false_call", result.detections.boxes_xyxy, matches.is_false_call),
        ("missed", result.truth.boxes_xyxy, matches.is_missed),
    ]
    for kind, boxes_xyxy, chosen in groups:
        for box in boxes_xyxy[chosen]:
            yield box, STYLES[kind]

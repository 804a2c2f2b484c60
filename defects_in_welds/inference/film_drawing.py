"""A film with its indications drawn on it, at full resolution; a small film is enlarged.

Nothing is drawn on an indication itself: lines go around its box, and its label lies where it covers the least. Labels
are short, for many may lie on a film: the class's ISO 6520-1 number and the score. What the numbers mean stands below
the film.
"""

import math
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.ft2font import FT2Font

from defects_in_welds import boxes
from defects_in_welds.data.class_colours import class_colour
from defects_in_welds.data.grey_levels import percentile_window, window_level
from defects_in_welds.inference.detections import Detections
from defects_in_welds.radiograph import Radiograph
from defects_in_welds.taxonomy import iso_6520_1_number

_ENLARGED_PX = 640, 2400  # shorter and longer side that enlarging does not go beyond
_MOST_ENLARGED = 8
_TEXT_PX = 16, 40  # least and most height of letters
_TEXT_SHARE = 1 / 70  # of the picture's shorter side
_LINE_SHARE = 1 / 16  # of the height of letters
_NAME_LETTERS = 16  # most of a class without a number, on labels
_MOST_STEPS = 4  # by which a label moves away from its box, each by its own height
_STEP_COST = 0.2  # as a share of the label, covered
_LABEL_WEIGHT = 4  # a label that another covers cannot be read, a box can still be guessed
_RIM = (0, 0, 0)
_RIM_OPACITY = 0.85
_LEGEND_GREY = 40
_MOST_SAMPLES = 1_000_000


def draw_indications(
    film: Radiograph, found: Detections, defect_classes: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw boxes, classes and scores on a film, windowed for the screen.

    Args:
        film: As its file has it.
        found: What to draw, in pixels of the film.
        defect_classes: Names in order of their ids, from 1.

    Returns:
        Blue, green and red, as OpenCV has it. Each pixel of the film is a square of `enlargement` pixels a side; below
        the film lie the lines that name the classes found.
    """
    factor = enlargement(film.image_hw)
    picture = cv2.cvtColor(_to_screen(film).repeat(factor, axis=0).repeat(factor, axis=1), cv2.COLOR_GRAY2BGR)
    height, width = picture.shape[:2]
    text_px = round(min(max(_TEXT_SHARE * min(height, width), _TEXT_PX[0]), _TEXT_PX[1]))
    line_px = max(1, int(_LINE_SHARE * text_px))
    frames = _frames(found.boxes_xyxy * factor, line_px)
    labels = found.labels.tolist()
    names = [_short_name(defect_classes[label - 1]) for label in labels]
    texts = [_render(f"{name} {score:.2f}", text_px) for name, score in zip(names, found.scores.tolist(), strict=True)]
    places = place_labels(frames, [text.shape for text in texts], (height, width))
    colours = [_bgr(class_colour(label)) for label in labels]
    for frame, text, place, colour in zip(frames, texts, places, colours, strict=True):
        _draw_lines(picture, frame, _leader(frame, text.shape, place), colour, line_px)
    for text, place, colour in zip(texts, places, colours, strict=True):
        _write(picture, text, place, colour)
    return np.concatenate([picture, _legend(sorted(set(labels)), defect_classes, width, text_px)])


def enlargement(film_hw: tuple[int, int]) -> int:
    """Choose how many pixels of the picture a pixel of the film is wide and high."""
    sides = zip(_ENLARGED_PX, sorted(film_hw), strict=True)
    return max(1, min(_MOST_ENLARGED, *(most // side for most, side in sides)))


def place_labels(
    frames_xyxy: Int[np.ndarray, "boxes 4"], label_hws: Sequence[tuple[int, ...]], film_hw: tuple[int, int]
) -> list[tuple[int, int]]:
    """Put each label near its box, inside the film, where it covers the least of all boxes and of earlier labels.

    Args:
        frames_xyxy: Boxes in film pixels, the most important first.
        label_hws: Height and width of their labels, in pixels.
        film_hw: Height and width of the film, in pixels.

    Returns:
        Left and upper edge of each label, in film pixels.
    """
    taken = frames_xyxy.astype(np.float64)
    places = []
    for (x0, y0, x1, y1), (label_height, label_width) in zip(frames_xyxy.tolist(), label_hws, strict=True):
        size = np.array([label_width, label_height])
        steps = [label_height * step for step in range(_MOST_STEPS)]
        rows = [row for away in steps for row in (y0 - label_height - away, y1 + 1 + away)]
        corners = np.array([(x, y) for y in rows for x in (x0, x1 - label_width)])
        spans = np.clip(corners, 0, np.maximum(np.array(film_hw[::-1]) - size, 0)).astype(np.float64)
        spans = np.concatenate([spans, spans + size], axis=1)
        covered = boxes.intersections(spans, taken)
        covered[:, len(frames_xyxy) :] *= _LABEL_WEIGHT
        costs = covered.sum(axis=1) + np.repeat(np.arange(_MOST_STEPS), 4) * _STEP_COST * size.prod()
        best = int(costs.argmin())
        taken = np.concatenate([taken, spans[best : best + 1]])
        places.append((int(spans[best, 0]), int(spans[best, 1])))
    return places


def _short_name(defect_class: str) -> str:
    number = iso_6520_1_number(defect_class)
    if number is not None:
        return number
    return defect_class if len(defect_class) <= _NAME_LETTERS else f"{defect_class[: _NAME_LETTERS - 1]}…"


def _legend(
    labels: Sequence[int], defect_classes: Sequence[str], width: int, text_px: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Name classes in their colours, in as many lines as it takes."""
    names = [defect_classes[label - 1] for label in labels]
    numbers = [iso_6520_1_number(name) for name in names]
    texts = [_render(f"{number or ''} {name}".strip(), text_px) for number, name in zip(numbers, names, strict=True)]
    places = []
    x = y = 0
    for text in texts:
        if x > 0 and x + text.shape[1] > width:
            x, y = 0, y + 2 * text_px
        places.append((x, y))
        x += text.shape[1] + text_px
    strip = np.full((y + 2 * text_px if texts else 0, width, 3), _LEGEND_GREY, dtype=np.uint8)
    for text, place, label in zip(texts, places, labels, strict=True):
        _write(strip, text, place, _bgr(class_colour(label)))
    return strip


def _leader(
    frame_xyxy: Int[np.ndarray, "4"], label_hw: tuple[int, ...], place_xy: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Give the ends of a line from a box to its label; None where they are close enough."""
    (x0, y0, x1, y1), (x, y) = frame_xyxy.tolist(), place_xy
    height, width = label_hw
    middle = (max(x0, x) + min(x1, x + width)) // 2
    if y + height < y0:
        return (middle, y + height), (middle, y0)
    return ((middle, y1), (middle, y)) if y > y1 + 1 else None


def _to_screen(film: Radiograph) -> UInt8[np.ndarray, "height width"]:
    """Stretch the levels that all but the darkest and lightest pixels have."""
    step = math.ceil(math.sqrt(film.pixels.size / _MOST_SAMPLES))
    window = percentile_window(film.pixels[::step, ::step])
    # By a table: there are fewer levels than pixels.
    return window_level(np.arange(2**film.bit_depth), *window)[film.pixels]


def _frames(boxes_xyxy: Float[np.ndarray, "boxes 4"], line_px: int) -> Int[np.ndarray, "boxes 4"]:
    """Give the middle of the lines, so that a free pixel lies between them and the box."""
    away = 1 + line_px // 2
    low, high = np.floor(boxes_xyxy[:, :2]) - 1 - away, np.ceil(boxes_xyxy[:, 2:]) + away
    return np.concatenate([low, high], axis=1).astype(np.int64)


def _draw_lines(
    picture: UInt8[np.ndarray, "height width 3"],
    frame_xyxy: Int[np.ndarray, "4"],
    leader: tuple[tuple[int, int], tuple[int, int]] | None,
    colour: tuple[int, int, int],
    line_px: int,
) -> None:
    """Draw the frame of a box, with a dark rim outside of it, and the line to its label."""
    x0, y0, x1, y1 = frame_xyxy.tolist()
    if leader is not None:
        cv2.line(picture, *leader, colour, line_px)
    cv2.rectangle(picture, (x0 - line_px, y0 - line_px), (x1 + line_px, y1 + line_px), _RIM, line_px)
    cv2.rectangle(picture, (x0, y0), (x1, y1), colour, line_px)


@cache
def _font() -> FT2Font:
    # OpenCV's own letters are ASCII alone.
    return FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"))


def _render(text: str, text_px: int) -> UInt8[np.ndarray, "height width"]:
    """Draw a line of text, 255 where its colour is full, with a margin."""
    font = _font()
    font.set_size(text_px, 72)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        font.set_text(text, 0.0)
    font.draw_glyphs_to_bitmap(antialiased=True)
    margin = max(2, text_px // 6)
    return np.pad(np.asarray(font.get_image()), margin)


def _write(
    picture: UInt8[np.ndarray, "height width 3"],
    text: UInt8[np.ndarray, "text_height text_width"],
    place_xy: tuple[int, int],
    colour: tuple[int, int, int],
) -> None:
    """Write with a dark rim, between whose letters the film is still to be seen."""
    x, y = place_xy
    strip = picture[y : y + text.shape[0], x : x + text.shape[1]]
    text = text[: strip.shape[0], : strip.shape[1]]
    letters = (text[..., None] / 255).astype(np.float32)
    rim = _RIM_OPACITY / 255 * cv2.dilate(text, np.ones((3, 3), dtype=np.uint8))[..., None].astype(np.float32)
    strip[:] = strip * (1 - rim) * (1 - letters) + np.array(colour, dtype=np.float32) * letters


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return blue, green, red

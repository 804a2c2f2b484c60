"""Lead letters, numerals and arrows, drawn as thick strokes."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import sin_cos_deg, uniform

Patch = Float[np.ndarray, "rows columns"]
Point = tuple[float, float]

# Strokes through a grid of 5 columns and 7 rows, each point as column and row; after ~ the corners are rounded.
STROKES = {
    "0": ("~00 40 46 06 00",),
    "1": ("02 20 26",),
    "2": ("~01 00 40 43 06", "06 46"),
    "3": ("~01 00 40 43 13", "~13 43 46 06 05"),
    "4": ("30 04 44", "32 36"),
    "5": ("40 00 02", "~02 42 46 06 05"),
    "6": ("~41 40 00 06 46 43 03 04",),
    "7": ("00 40 16",),
    "8": ("~00 40 43 03 00", "~03 43 46 06 03"),
    "9": ("~05 06 46 40 00 03 43 42",),
    "A": ("06 20 46", "14 34"),
    "B": ("06 00", "~00 40 43 03", "~03 43 46 06"),
    "C": ("~41 40 00 06 46 45",),
    "D": ("06 00", "~00 40 46 06"),
    "E": ("40 00 06 46", "03 33"),
    "F": ("40 00 06", "03 33"),
    "H": ("00 06", "40 46", "03 43"),
    "I": ("20 26",),
    "K": ("00 06", "40 03 46"),
    "L": ("00 06 46",),
    "N": ("06 00 46 40",),
    "P": ("06 00", "~00 40 43 03"),
    "R": ("06 00", "~00 40 43 03", "23 46"),
    "S": ("~41 40 00 03 43 46 06 05",),
    "T": ("00 40", "20 26"),
    "U": ("~00 06 46 40",),
    "V": ("00 26 40",),
    "W": ("00 16 22 36 40",),
    "X": ("00 46", "40 06"),
    "^": ("20 26", "03 20 43"),
}
_COLUMNS, _ROWS = 4, 6
_ROUNDINGS = 3


@dataclass(frozen=True)
class Lettering:
    """How letters are cast.

    Attributes:
        height_mm: Height from the middle of the upper to the middle of the lower strokes.
        width_mm: Width, from middle to middle too.
        stroke_mm: Width of the strokes.
        pitch_mm: Distance of neighbouring letters.
        lead_mm: Thickness of the lead.
        disorder_deg: Largest angle at which a letter stands askew.
    """

    height_mm: float
    width_mm: float
    stroke_mm: float
    pitch_mm: float
    lead_mm: float
    disorder_deg: float


def draw_text(rng: np.random.Generator, text: str, lettering: Lettering, pixel_pitch_mm: float) -> Patch:
    """Draw a line of letters, each a little out of place and askew.

    Args:
        rng: Source of the disorder.
        text: Letters of ``STROKES``, and blanks.
        lettering: How they are cast.
        pixel_pitch_mm: Pixel pitch, in mm.

    Returns:
        Thickness of the lead, in mm.
    """
    space_mm = lettering.stroke_mm + 0.1 * lettering.height_mm
    rows = int(np.ceil((lettering.height_mm + 2.0 * space_mm) / pixel_pitch_mm))
    width_mm = (len(text) - 1) * lettering.pitch_mm + lettering.width_mm + 2.0 * space_mm
    lead = np.zeros((rows, int(np.ceil(width_mm / pixel_pitch_mm))))
    y_mm, x_mm = ((np.arange(size) + 0.5) * pixel_pitch_mm for size in lead.shape)
    for place, letter in enumerate(text):
        angle = uniform(rng, -lettering.disorder_deg, lettering.disorder_deg)
        aside_mm, up_mm = (0.02 * lettering.height_mm * uniform(rng, -1.0, 1.0) for _ in range(2))
        if letter == " ":
            continue
        middle_x = space_mm + lettering.width_mm / 2.0 + place * lettering.pitch_mm + aside_mm
        reach_mm = lettering.width_mm / 2.0 + space_mm
        first, last = (int(np.floor((middle_x + side * reach_mm) / pixel_pitch_mm)) for side in (-1, 1))
        columns = slice(max(0, first), last + 1)
        sine, cosine = sin_cos_deg(angle)
        x, y = x_mm[columns][None, :] - middle_x, y_mm[:, None] - (rows * pixel_pitch_mm / 2.0 + up_mm)
        u, v = cosine * x + sine * y, cosine * y - sine * x
        lead[:, columns] = np.maximum(lead[:, columns], _letter(letter, u, v, lettering, pixel_pitch_mm))
    return lead


def draw_plate_text(rng: np.random.Generator, text: str, lettering: Lettering, pixel_pitch_mm: float) -> Patch:
    """Draw a small plate of lead sheet out of which letters are cut, as on numbered tapes.

    Args:
        rng: Source of the disorder.
        text: Letters of ``STROKES``, and blanks.
        lettering: How they are cut.
        pixel_pitch_mm: Pixel pitch, in mm.

    Returns:
        Thickness of the lead, in mm; 0 in the letters.
    """
    return lettering.lead_mm - draw_text(rng, text, lettering, pixel_pitch_mm)


def _letter(letter: str, u: Patch, v: Patch, lettering: Lettering, pixel_pitch_mm: float) -> Patch:
    """Thickness of one letter, given each pixel's place from its middle; its edges are slanted, as cast."""
    nearest = np.full(u.shape, np.inf)
    for stroke in STROKES[letter]:
        points = [
            ((x / _COLUMNS - 0.5) * lettering.width_mm, (y / _ROWS - 0.5) * lettering.height_mm)
            for x, y in stroke_points(stroke)
        ]
        for start, end in pairwise(points):
            np.minimum(nearest, squared_distance(u, v, start, end), out=nearest)
    slant_mm = max(pixel_pitch_mm, 0.2 * lettering.stroke_mm)
    inside = (lettering.stroke_mm / 2.0 - np.sqrt(nearest)) / slant_mm + 0.5
    return lettering.lead_mm * np.clip(inside, 0.0, 1.0)


def stroke_points(stroke: str) -> list[Point]:
    """Read a stroke; round its corners where it says so, by cutting them off at a quarter of each side, thrice."""
    points: list[Point] = [(float(pair[0]), float(pair[1])) for pair in stroke.lstrip("~").split()]
    closed = points[0] == points[-1]
    for _ in range(_ROUNDINGS if stroke.startswith("~") else 0):
        cut: list[Point] = []
        for (x0, y0), (x1, y1) in pairwise(points):
            cut.append((x0 + 0.25 * (x1 - x0), y0 + 0.25 * (y1 - y0)))
            cut.append((x0 + 0.75 * (x1 - x0), y0 + 0.75 * (y1 - y0)))
        points = [*cut, cut[0]] if closed else [points[0], *cut[1:-1], points[-1]]
    return points


def squared_distance(x: Patch, y: Patch, start: Point, end: Point) -> Patch:
    """Compute the square of the distance from a segment.

    Args:
        x: Places.
        y: Places.
        start: One end of the segment.
        end: The other end.
    """
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    from_x, from_y = x - start[0], y - start[1]
    square = along_x * along_x + along_y * along_y
    share = np.clip((from_x * along_x + from_y * along_y) / square, 0.0, 1.0)
    off_x, off_y = from_x - share * along_x, from_y - share * along_y
    return off_x * off_x + off_y * off_y

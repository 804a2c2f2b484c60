"""Image quality indicators: wires of ISO 19232-1 and the duplex wires of ISO 19232-5."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import sin_cos_deg

Patch = Float[np.ndarray, "rows columns"]

# ISO 19232-1: W1 to W19.
WIRE_DIAMETERS_MM = dict(
    enumerate(
        (3.2, 2.5, 2.0, 1.6, 1.25, 1.0, 0.8, 0.63, 0.5, 0.4, 0.32, 0.25, 0.2, 0.16, 0.125, 0.1, 0.08, 0.063, 0.05),
        start=1,
    )
)
# Each set holds seven wires from this number on.
WIRE_SETS = (1, 6, 10, 13)
WIRES_IN_A_SET = 7
WIRE_DISTANCE_MM = 5.0
WIRE_LENGTHS_MM = (25.0, 10.0)

# ISO 19232-5: D1 to D13, wires and gap of equal width, of tungsten down to D3 and of platinum from D4 on.
DUPLEX_DIAMETERS_MM = dict(
    enumerate((0.8, 0.63, 0.5, 0.4, 0.32, 0.25, 0.2, 0.16, 0.13, 0.1, 0.08, 0.063, 0.05), start=1)
)
LAST_TUNGSTEN_PAIR = 3
DUPLEX_LENGTH_MM = 15.0
DUPLEX_CLEARANCE_MM = 2.2  # from one pair to the next

# Largest thickness and the number of the wire that must be seen at it, up to the next: ISO 17636-1, class B, IQI on the
# source side, single wall.
_WIRE_TO_SEE = (
    (1.5, 19), (2.5, 18), (4.0, 17), (6.0, 16), (8.0, 15), (12.0, 14), (20.0, 13), (30.0, 12), (35.0, 11), (45.0, 10),
    (65.0, 9), (120.0, 8), (200.0, 7),
)  # fmt: skip

_TABLE_STEPS = 4096


@dataclass(frozen=True, eq=False)
class Wires:
    """One wire, or a pair of equal ones, as it lies in a patch.

    Attributes:
        number: Number of the wire or pair in its standard.
        diameter_mm: Diameter.
        top_px: Row of the patch in the frame in which all were drawn.
        left_px: Column of the patch in that frame.
        thickness_mm: Length of the beam in metal, in mean over each pixel.
    """

    number: int
    diameter_mm: float
    top_px: int
    left_px: int
    thickness_mm: Patch


def wire_set_for(path_mm: float) -> int:
    """Choose the set whose middle wire is nearest to the one that must be seen.

    Args:
        path_mm: Metal along the beam, in mm.

    Returns:
        Number of the set's first wire.
    """
    number = next((number for most_mm, number in _WIRE_TO_SEE if path_mm <= most_mm), 6)
    return min(WIRE_SETS, key=lambda first: abs(first + WIRES_IN_A_SET // 2 - number))


def draw_wire_set(
    first: int, length_mm: float, angle_deg: float, pixel_pitch_mm: float
) -> tuple[tuple[int, int], list[Wires]]:
    """Lay out seven wires side by side.

    Args:
        first: Number of the first wire, the thickest.
        length_mm: Length of the wires, in mm.
        angle_deg: Angle of the wires to the pixels' columns, in degrees.
        pixel_pitch_mm: Pixel pitch, in mm.

    Returns:
        Height and width of the frame that holds them, in pixels, and the wires.
    """
    numbers = range(first, first + WIRES_IN_A_SET)
    groups = [(number, WIRE_DIAMETERS_MM[number], [place * WIRE_DISTANCE_MM]) for place, number in enumerate(numbers)]
    return _lay_out(groups, length_mm, angle_deg, pixel_pitch_mm)


def draw_duplex_wires(angle_deg: float, pixel_pitch_mm: float) -> tuple[tuple[int, int], list[Wires]]:
    """Lay out the thirteen pairs of a duplex wire IQI; each patch holds a pair.

    Args:
        angle_deg: Angle of the wires to the pixels' columns, in degrees.
        pixel_pitch_mm: Pixel pitch, in mm.

    Returns:
        Height and width of the frame that holds them, in pixels, and the pairs.
    """
    groups, place_mm = [], 0.0
    for number, diameter in DUPLEX_DIAMETERS_MM.items():
        groups.append((number, diameter, [place_mm + 0.5 * diameter, place_mm + 2.5 * diameter]))
        place_mm += 3.0 * diameter + DUPLEX_CLEARANCE_MM
    return _lay_out(groups, DUPLEX_LENGTH_MM, angle_deg, pixel_pitch_mm)


def mean_chord_mm(
    off_mm: Float[np.ndarray, "*shape"], diameter_mm: float, pixel_pitch_mm: float
) -> Float[np.ndarray, "*shape"]:
    """Compute the length of the beam in a wire, in mean over a pixel's width.

    Args:
        off_mm: Distance of the pixel's middle from the wire's axis, to either side, in mm.
        diameter_mm: Diameter, in mm.
        pixel_pitch_mm: Pixel pitch, in mm.
    """
    radius = diameter_mm / 2.0
    far, near = (_circle_area((off_mm + side * pixel_pitch_mm / 2.0) / radius) for side in (1.0, -1.0))
    return radius * radius / pixel_pitch_mm * (far - near)


def _lay_out(
    groups: Sequence[tuple[int, float, list[float]]], length_mm: float, angle_deg: float, pixel_pitch_mm: float
) -> tuple[tuple[int, int], list[Wires]]:
    """Draw groups of parallel wires, given number, diameter and the places of the axes across the wires."""
    sine, cosine = sin_cos_deg(angle_deg)
    last_mm = groups[-1][2][-1]
    margin_mm = groups[0][1] + 2.0 * pixel_pitch_mm
    width_mm = cosine * last_mm + abs(sine) * length_mm + 2.0 * margin_mm
    height_mm = cosine * length_mm + abs(sine) * last_mm + 2.0 * margin_mm
    rows, columns = (int(np.ceil(size / pixel_pitch_mm)) for size in (height_mm, width_mm))
    wires = []
    for number, diameter, axes_mm in groups:
        # Middle of the group from the middle of all, turned.
        aside = (axes_mm[0] + axes_mm[-1]) / 2.0 - last_mm / 2.0
        middle_x, middle_y = width_mm / 2.0 + cosine * aside, height_mm / 2.0 + sine * aside
        half_x = cosine * (axes_mm[-1] - axes_mm[0]) / 2.0 + abs(sine) * length_mm / 2.0 + margin_mm
        half_y = cosine * length_mm / 2.0 + abs(sine) * (axes_mm[-1] - axes_mm[0]) / 2.0 + margin_mm
        top, bottom = _span(middle_y, half_y, pixel_pitch_mm, rows)
        left, right = _span(middle_x, half_x, pixel_pitch_mm, columns)
        x = ((np.arange(left, right) + 0.5) * pixel_pitch_mm - middle_x)[None, :]
        y = ((np.arange(top, bottom) + 0.5) * pixel_pitch_mm - middle_y)[:, None]
        across, along = cosine * x + sine * y, cosine * y - sine * x
        chord = np.zeros(across.shape)
        for axis_mm in axes_mm:
            chord += mean_chord_mm(across - (axis_mm - last_mm / 2.0 - aside), diameter, pixel_pitch_mm)
        chord *= np.clip((length_mm / 2.0 - np.abs(along)) / pixel_pitch_mm + 0.5, 0.0, 1.0)
        wires.append(Wires(number, diameter, top, left, chord))
    return (rows, columns), wires


def _span(middle_mm: float, half_mm: float, pixel_pitch_mm: float, size: int) -> tuple[int, int]:
    first, last = (middle_mm - half_mm) / pixel_pitch_mm, (middle_mm + half_mm) / pixel_pitch_mm
    return max(0, int(np.floor(first))), min(size, int(np.ceil(last)))


def _circle_area(place: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Area of the unit circle to the left of a chord."""
    table, rise = _circle_table()
    at = np.clip((place + 1.0) * (_TABLE_STEPS / 2.0), 0.0, float(_TABLE_STEPS))
    knot = at.astype(np.intp)
    return table[knot] + (at - knot) * rise[knot]


@cache
def _circle_table() -> tuple[Float[np.ndarray, " knots"], Float[np.ndarray, " knots"]]:
    """Area to the left of chords at equal distances, scaled to end at pi, and its rise from each to the next."""
    middles = (np.arange(_TABLE_STEPS) + 0.5) * (2.0 / _TABLE_STEPS) - 1.0
    slices = np.sqrt(1.0 - middles * middles)
    slices *= 3.141592653589793 / np.cumsum(slices)[-1]
    table = np.zeros(_TABLE_STEPS + 1)
    table[1:] = np.cumsum(slices)
    return table, np.append(slices, 0.0)

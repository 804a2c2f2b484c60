"""Where a flaw finds room in a weld."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import log_uniform_in, sin_cos_deg, uniform, uniform_in
from defects_in_welds.simulation.flaws.curves import read_off
from defects_in_welds.simulation.weld import WeldSection

MOST_OF_PLATE = 0.9  # largest extent of a flaw along the beam, as a share of the plate's thickness
_TRIALS = 32


@dataclass(frozen=True)
class Spot:
    """Where a flaw's middle lies: along the film, across it, and in depth below the upper surface, in mm."""

    x_mm: float
    y_mm: float
    depth_mm: float


def size_in(rng: np.random.Generator, low_high_mm: Sequence[float], most_mm: float) -> float:
    """Draw a size from a range, log-uniformly, and limit it to what there is room for."""
    return min(log_uniform_in(rng, low_high_mm), most_mm)


def height_in(rng: np.random.Generator, low_high_mm: Sequence[float], section: WeldSection) -> float:
    """Draw an extent along the beam."""
    return size_in(rng, low_high_mm, MOST_OF_PLATE * section.weld.plate_mm)


def widest_mm(section: WeldSection) -> float:
    """Give the width of the fused metal at the surface where it is wider."""
    weld = section.weld
    return 2 * max(weld.fused_half_width_mm(0.0), weld.fused_half_width_mm(weld.plate_mm))


def start_along(rng: np.random.Generator, section: WeldSection, length_mm: float) -> float | None:
    """Draw where a flaw begins along the film, or None where it is longer than the film.

    In a pipe that is narrower than the film it lies over the bore: beyond it the wall bends away, and then ends.
    """
    film_mm = section.thickness_mm.shape[1] * section.pixel_pitch_mm
    first_mm = 0.0
    if section.weld.pipe_diameter_mm is not None:
        first_mm = max(0.0, film_mm / 2 - (section.weld.pipe_diameter_mm / 2 - section.weld.plate_mm))
    last_mm = film_mm - first_mm - length_mm
    return uniform(rng, first_mm, last_mm) if last_mm > first_mm else None


def along_section(
    section: WeldSection, curve_mm: Float[np.ndarray, " width"], x_mm: Float[np.ndarray, " samples"]
) -> Float[np.ndarray, " samples"]:
    """Read one of the section's curves at places along the film."""
    last = len(curve_mm) - 1
    return read_off(curve_mm, np.clip((x_mm / section.pixel_pitch_mm - 0.5) / last, 0.0, 1.0))


def centre_at(section: WeldSection, x_mm: float) -> float:
    """Give the row, in mm, of the weld's middle at a place along the film."""
    return float(along_section(section, section.centre_mm, np.array([x_mm]))[0])


def fused_band(
    section: WeldSection, x_mm: tuple[float, float], depth_mm: tuple[float, float]
) -> tuple[float, float] | None:
    """Find the rows of the film that are fused metal all along a box.

    Args:
        section: The weld.
        x_mm: Extent of the box along the film.
        depth_mm: Its extent in depth.

    Returns:
        From and to, in mm across the film; None where the box is not inside the plate.
    """
    weld, pitch = section.weld, section.pixel_pitch_mm
    (top, bottom), middle = depth_mm, weld.plate_mm / 2
    if top < 0 or bottom > weld.plate_mm:
        return None
    depths = [top, bottom] + ([middle] if top < middle < bottom else [])
    half = min(weld.fused_half_width_mm(depth) for depth in depths)
    columns = section.centre_mm[max(0, math.floor(x_mm[0] / pitch)) : math.floor(x_mm[1] / pitch) + 1]
    film_mm = section.thickness_mm.shape[0] * pitch
    return max(0.0, float(columns.max()) - half), min(film_mm, float(columns.min()) + half)


def spot_in_fused_metal(
    rng: np.random.Generator, section: WeldSection, extent_mm: tuple[float, float, float]
) -> Spot | None:
    """Place a box in the fused metal, at a depth drawn uniformly among those where it finds room.

    Args:
        rng: Source of the place.
        section: The weld.
        extent_mm: The box's extents along, across and in depth.

    Returns:
        Its middle, or None where it has no room.
    """
    along, across, deep = extent_mm
    for _ in range(_TRIALS):
        start = start_along(rng, section, along)
        if start is None or deep > section.weld.plate_mm:
            return None
        top = uniform(rng, 0.0, section.weld.plate_mm - deep)
        band = fused_band(section, (start, start + along), (top, top + deep))
        if band and band[1] - band[0] >= across:
            y = uniform(rng, band[0] + across / 2, band[1] - across / 2)
            return Spot(start + along / 2, y, top + deep / 2)
    return None


def signed_tilt_in(rng: np.random.Generator, low_high_deg: Sequence[float]) -> float:
    """Draw a tilt from a range, to either side."""
    tilt = uniform_in(rng, low_high_deg)
    return tilt if rng.random() < 0.5 else 0.0 - tilt  # never -0.0


def slab_depth_mm(opening_mm: float, height_mm: float, tilt_deg: float) -> float:
    """Give the extent along the beam of a slab that is tilted to it."""
    sine, cosine = sin_cos_deg(tilt_deg)
    return height_mm * cosine + opening_mm * abs(sine)

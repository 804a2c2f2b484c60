"""The sound weld: how much steel the beam crosses at each pixel."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import smooth_curve, uniform


@dataclass(frozen=True)
class Weld:
    """A butt weld in plate that runs from left to right.

    Attributes:
        plate_mm: Plate thickness.
        cap_width_mm: Width of the cap.
        cap_height_mm: Height of the cap over the plate.
        root_width_mm: Width of the root bead.
        root_height_mm: Height of the root bead below the plate.
        ripple_mm: Distance of neighbouring ripples on the cap.
    """

    plate_mm: float
    cap_width_mm: float
    cap_height_mm: float
    root_width_mm: float
    root_height_mm: float
    ripple_mm: float


@dataclass(frozen=True)
class WeldSection:
    """One film's length of a weld.

    Attributes:
        weld: The weld.
        thickness_mm: Steel along the beam.
        centre_px: Row of the weld's middle at each column.
    """

    weld: Weld
    thickness_mm: Float[np.ndarray, "height width"]
    centre_px: Float[np.ndarray, " width"]


def draw_weld(rng: np.random.Generator) -> Weld:
    """Draw a single-sided butt weld in 8 to 14 mm plate."""
    return Weld(
        plate_mm=uniform(rng, 8.0, 14.0),
        cap_width_mm=uniform(rng, 9.0, 13.0),
        cap_height_mm=uniform(rng, 1.2, 2.2),
        root_width_mm=uniform(rng, 3.0, 4.5),
        root_height_mm=uniform(rng, 0.4, 1.0),
        ripple_mm=uniform(rng, 1.5, 2.5),
    )


def section_of(weld: Weld, rng: np.random.Generator, image_hw: tuple[int, int], pixel_pitch_mm: float) -> WeldSection:
    """Lay a length of the weld across a film, with a wandering middle, changing width and ripples.

    Args:
        weld: The weld.
        rng: Source of the variation along the weld.
        image_hw: Film height and width, in pixels.
        pixel_pitch_mm: Pixel pitch, in mm.
    """
    height, width = image_hw
    knot_px = 15.0 / pixel_pitch_mm
    centre = height / 2 + (0.8 * smooth_curve(rng, width, knot_px) + uniform(rng, -2, 2)) / pixel_pitch_mm
    cap_half = weld.cap_width_mm / 2 * (1 + 0.06 * smooth_curve(rng, width, knot_px))
    root_half = weld.root_width_mm / 2 * (1 + 0.1 * smooth_curve(rng, width, knot_px))
    cap_height = weld.cap_height_mm * (1 + 0.1 * smooth_curve(rng, width, knot_px))
    root_height = weld.root_height_mm * (1 + 0.2 * smooth_curve(rng, width, knot_px))

    across_mm = (np.arange(height)[:, None] + 0.5 - centre[None, :]) * pixel_pitch_mm
    along_mm = (np.arange(width)[None, :] + 0.5) * pixel_pitch_mm
    cap = _bead(across_mm, cap_half, cap_height)
    # Ripples are arcs: the pool solidifies behind the arc, later in the middle than at the toes.
    phase = (along_mm + across_mm * across_mm / weld.cap_width_mm) / weld.ripple_mm + rng.random()
    cap = cap * (1 + 0.05 * _wave(phase))
    return WeldSection(weld, weld.plate_mm + cap + _bead(across_mm, root_half, root_height), centre)


def _bead(
    across_mm: Float[np.ndarray, "height width"],
    half_width_mm: Float[np.ndarray, " width"],
    height_mm: Float[np.ndarray, " width"],
) -> Float[np.ndarray, "height width"]:
    relative = across_mm / half_width_mm[None, :]
    return height_mm[None, :] * np.maximum(0.0, 1.0 - relative * relative)


def _wave(phase: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """A period-1 wave between -1 and 1, of parabolas: a sine would not be equal on every CPU."""
    centred = 2.0 * (phase - np.floor(phase)) - 1.0
    return 4.0 * centred * (1.0 - np.abs(centred))

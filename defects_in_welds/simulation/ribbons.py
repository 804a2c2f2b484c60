"""Projections of bodies that follow a line: slabs (cracks, unfused faces), grooves, beads and stringers.

Across the line the chord's profile is integrated over each pixel in closed form, so that a gap thinner than a pixel
keeps its volume. Along the line it is sampled several times a pixel.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.bodies import Projection

_STEP_MM = 0.025  # along a line: half of the finest kinks of a crack
_NOTHING_MM = 1e-12


class Profile(Protocol):
    """The chords across a line, at each place along it."""

    @property
    def reach_mm(self) -> float:
        """How far it reaches to either side of the line, at most."""

    def area_to(self, offset_mm: Float[np.ndarray, "rows samples"]) -> Float[np.ndarray, "rows samples"]:
        """Integrate the chord from the line to an offset across it, in mm^2; negative on the lower side."""


@dataclass(frozen=True)
class Run:
    """Samples along a line from left to right.

    Attributes:
        start_mm: Where the line begins along the film.
        length_mm: Its length along the film.
        pixel_pitch_mm: Pixel pitch.
    """

    start_mm: float
    length_mm: float
    pixel_pitch_mm: float

    @property
    def per_px(self) -> int:
        """Samples per pixel."""
        return max(2, math.ceil(self.pixel_pitch_mm / _STEP_MM))

    @property
    def left_px(self) -> int:
        """First column of pixels."""
        return math.floor(self.start_mm / self.pixel_pitch_mm)

    @cached_property
    def x_mm(self) -> Float[np.ndarray, " samples"]:
        """The middle of each sample: of its part within the line's ends."""
        return (self._ends_mm[0] + self._ends_mm[1]) / 2

    @cached_property
    def share(self) -> Float[np.ndarray, " samples"]:
        """The part of each sample that lies within the line's ends, from 0 to 1."""
        low, high = self._ends_mm
        return np.maximum(0.0, high - low) * (self.per_px / self.pixel_pitch_mm)

    @cached_property
    def place(self) -> Float[np.ndarray, " samples"]:
        """Place on the line: 0 at its start, 1 at its end."""
        return np.clip((self.x_mm - self.start_mm) / self.length_mm, 0.0, 1.0)

    @cached_property
    def _ends_mm(self) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        end_mm = self.start_mm + self.length_mm
        pixels = math.floor(end_mm / self.pixel_pitch_mm) + 1 - self.left_px
        edges = (self.left_px + np.arange(pixels * self.per_px + 1) / self.per_px) * self.pixel_pitch_mm
        return np.clip(edges[:-1], self.start_mm, end_mm), np.clip(edges[1:], self.start_mm, end_mm)


@dataclass(frozen=True)
class SlabProfile:
    """The chords across a slab of rectangular section that is tilted to the beam.

    An opening w and a height h at the angle t give a trapezoid: its base is ``h sin t + w cos t``, its top
    ``|h sin t - w cos t|`` and its plateau ``min(h / cos t, w / sin t)``; its area is h w at any tilt.

    Attributes:
        opening_mm: The section's short side, at each sample.
        height_mm: Its long side, at each sample.
        tilt_tan: Tangent of the tilt, at each sample; its sign does not matter.
    """

    opening_mm: Float[np.ndarray, " samples"]
    height_mm: Float[np.ndarray, " samples"]
    tilt_tan: float | Float[np.ndarray, " samples"] = 0.0

    @cached_property
    def half_base_mm(self) -> Float[np.ndarray, " samples"]:
        """Half of the width of the shade."""
        leaning, upright = self._sides_mm
        return (leaning + upright) / 2

    @cached_property
    def half_top_mm(self) -> Float[np.ndarray, " samples"]:
        """Half of the width of the plateau."""
        leaning, upright = self._sides_mm
        return np.abs(leaning - upright) / 2

    @cached_property
    def plateau_mm(self) -> Float[np.ndarray, " samples"]:
        """The longest chord: the trapezoid's area over the mean of base and top."""
        return self.opening_mm * self.height_mm / np.maximum(self.half_base_mm + self.half_top_mm, _NOTHING_MM)

    @property
    def reach_mm(self) -> float:
        """Half of the widest shade."""
        return float(self.half_base_mm.max())

    def area_to(self, offset_mm: Float[np.ndarray, "rows samples"]) -> Float[np.ndarray, "rows samples"]:
        """Integrate the chord from the line to an offset, in mm^2."""
        distance = np.abs(offset_mm)
        fall = self.half_base_mm - self.half_top_mm
        past = np.clip(distance - self.half_top_mm, 0.0, fall)
        area = np.minimum(distance, self.half_top_mm) + past * (1.0 - past / (2.0 * np.maximum(fall, _NOTHING_MM)))
        return np.where(offset_mm < 0, -1.0, 1.0) * self.plateau_mm * area

    @cached_property
    def _sides_mm(self) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
        """The shades of the long and of the short side."""
        tangent = np.abs(self.tilt_tan)
        cosine = 1.0 / np.sqrt(1.0 + tangent * tangent)
        return self.height_mm * (tangent * cosine), self.opening_mm * cosine


@dataclass(frozen=True)
class RoundedProfile:
    """The chords across a groove or a bead: ``height * (1 - v^n)``, v from 0 on the line to 1 at the side.

    Attributes:
        height_mm: Chord on the line, at each sample.
        lower_mm: Half width on the side of smaller rows, at each sample.
        upper_mm: Half width on the side of larger rows, at each sample.
        flat: n = 6, flat with steep sides, in place of the parabola of n = 2.
    """

    height_mm: Float[np.ndarray, " samples"]
    lower_mm: Float[np.ndarray, " samples"]
    upper_mm: Float[np.ndarray, " samples"]
    flat: bool = False

    @property
    def reach_mm(self) -> float:
        """The larger half width."""
        return float(np.maximum(self.lower_mm, self.upper_mm).max())

    def area_to(self, offset_mm: Float[np.ndarray, "rows samples"]) -> Float[np.ndarray, "rows samples"]:
        """Integrate the chord from the line to an offset, in mm^2."""
        half = np.where(offset_mm < 0, self.lower_mm, self.upper_mm)
        v = np.clip(offset_mm / np.maximum(half, _NOTHING_MM), -1.0, 1.0)
        cube = v * v * v
        area = v - cube * cube * v / 7.0 if self.flat else v - cube / 3.0
        return self.height_mm * half * area


def ribbon(
    run: Run, middle_mm: Float[np.ndarray, " samples"], profile: Profile, *, as_outline: bool = False
) -> Projection:
    """Project a body that follows a line.

    Args:
        run: The samples along the film.
        middle_mm: The line's place across the film at each sample.
        profile: The chords across the line, at offsets at a right angle to it.
        as_outline: The offsets are those of an outline, straight across the film, however steep the line is.
    """
    pitch, per_px = run.pixel_pitch_mm, run.per_px
    slope = np.zeros_like(middle_mm)
    if not as_outline:
        slope[1:-1] = (middle_mm[2:] - middle_mm[:-2]) / np.maximum(run.x_mm[2:] - run.x_mm[:-2], _NOTHING_MM)
    stretch = np.sqrt(1.0 + slope * slope)  # from an offset at a right angle to one straight across the film
    reach = profile.reach_mm * float(stretch.max())
    first = np.floor((middle_mm - reach) / pitch).astype(np.int64)
    band = math.ceil(2.0 * reach / pitch) + 1
    edges_mm = (first + np.arange(band + 1)[:, None]) * pitch
    area = profile.area_to((edges_mm - middle_mm) / stretch)
    mean = (area[1:] - area[:-1]) * (stretch * run.share / (pitch * per_px))

    top = int(first.min())
    rows = first - top + np.arange(band)[:, None]
    columns = np.arange(len(middle_mm) // per_px)
    chord = np.zeros((int(first.max()) - top + band, len(columns)))
    for step in range(per_px):  # within one step no pixel comes twice, so that adding by index is safe
        chord[rows[:, step::per_px], columns] += mean[:, step::per_px]
    return Projection(top, run.left_px, chord)

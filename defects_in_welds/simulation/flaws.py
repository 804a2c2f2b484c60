"""Flaws as bodies: the length of missing or foreign material along the beam at each pixel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import smooth_curve, uniform
from defects_in_welds.simulation.weld import WeldSection

GAS = "gas"
SLAG = "slag"


@dataclass(frozen=True)
class FlawBody:
    """A flaw, projected along the beam.

    Attributes:
        defect_class: Name of its class, as in the taxonomy.
        material: What stands where steel is missing.
        chord_mm: Length of the beam inside the body.
        length_mm: Largest extent across the beam.
        width_mm: Extent across the length.
        height_mm: Largest extent along the beam.
    """

    defect_class: str
    material: str
    chord_mm: Float[np.ndarray, "height width"]
    length_mm: float
    width_mm: float
    height_mm: float

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Half-open box of the pixels that the body shades, in pixels."""
        rows, columns = np.flatnonzero(self.chord_mm.any(axis=1)), np.flatnonzero(self.chord_mm.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def area_px(self) -> int:
        """Number of pixels that it shades."""
        return int(np.count_nonzero(self.chord_mm))


def draw_pore(rng: np.random.Generator, section: WeldSection, pixel_pitch_mm: float) -> FlawBody:
    """Draw a gas pore: a sphere anywhere in the fused metal."""
    diameter = uniform(rng, 0.8, 2.6)
    along, across = _frame(rng, section, pixel_pitch_mm, reach_mm=0.35 * section.weld.cap_width_mm)
    square = diameter * diameter - 4.0 * (along * along + across * across)
    return FlawBody("gas pore", GAS, np.sqrt(np.maximum(square, 0.0)), diameter, diameter, diameter)


def draw_crack(rng: np.random.Generator, section: WeldSection, pixel_pitch_mm: float) -> FlawBody:
    """Draw a crack: a thin winding gap along or across the weld, open by 0.15 to 0.35 mm."""
    longitudinal = rng.random() < 0.6
    length = uniform(rng, 5.0, 14.0) if longitudinal else uniform(rng, 4.0, 8.0)
    opening, height = uniform(rng, 0.15, 0.35), uniform(rng, 2.5, 5.0)
    along, across = _frame(rng, section, pixel_pitch_mm, reach_mm=0.2 * section.weld.cap_width_mm)
    run, aside = (along, across) if longitudinal else (across, along)
    # The winding is drawn on a fixed grid along the crack and read off at each pixel.
    winding = 0.5 * smooth_curve(rng, 512, 40.0) + 0.15 * smooth_curve(rng, 512, 11.0)
    index = np.clip((run / length + 0.5) * 511.0, 0, 510.999)
    left = np.floor(index).astype(np.int64)
    middle = winding[left] + (index - left) * (winding[left + 1] - winding[left])
    taper = np.maximum(0.0, 1.0 - 4.0 * run * run / (length * length))
    chord = height * np.sqrt(taper) * _gap(aside - middle, opening, pixel_pitch_mm)
    return FlawBody("crack", GAS, chord, length, opening, height)


def draw_lack_of_penetration(rng: np.random.Generator, section: WeldSection, pixel_pitch_mm: float) -> FlawBody:
    """Draw a lack of penetration: a straight unfused gap at the root, in the weld's middle."""
    length, width, height = uniform(rng, 6.0, 16.0), uniform(rng, 0.6, 1.4), uniform(rng, 1.2, 2.8)
    along, across = _frame(rng, section, pixel_pitch_mm, reach_mm=0.0, margin_mm=length / 2)
    edge = width * (1 + 0.15 * smooth_curve(rng, along.shape[1], 1.0 / pixel_pitch_mm))[None, :]
    inside = _gap(along, length, pixel_pitch_mm)
    return FlawBody(
        "lack of penetration", GAS, height * inside * _gap(across, edge, pixel_pitch_mm), length, width, height
    )


def draw_slag_inclusion(rng: np.random.Generator, section: WeldSection, pixel_pitch_mm: float) -> FlawBody:
    """Draw a slag inclusion: a flat, uneven body stretched along the weld."""
    length = uniform(rng, 2.5, 7.0)
    width, height = length * uniform(rng, 0.25, 0.5), uniform(rng, 1.2, 2.6)
    along, across = _frame(rng, section, pixel_pitch_mm, reach_mm=0.3 * section.weld.cap_width_mm)
    slope = uniform(rng, -0.25, 0.25)
    norm = 1.0 / np.sqrt(1.0 + slope * slope)
    u, v = (along + slope * across) * norm, (across - slope * along) * norm
    columns = along.shape[1]
    bend = 0.25 * width * smooth_curve(rng, columns, 1.0 / pixel_pitch_mm)[None, :]
    swell = 1.0 + 0.35 * smooth_curve(rng, columns, 0.7 / pixel_pitch_mm)[None, :]
    u, v = 2.0 * u / length, 2.0 * (v - bend) / (width * swell)
    chord = height * np.sqrt(np.maximum(0.0, 1.0 - u * u * u * u - v * v))
    return FlawBody("slag inclusion", SLAG, chord, length, width, height)


FLAW_KINDS: dict[str, Callable[[np.random.Generator, WeldSection, float], FlawBody]] = {
    "gas pore": draw_pore,
    "crack": draw_crack,
    "lack of penetration": draw_lack_of_penetration,
    "slag inclusion": draw_slag_inclusion,
}


def _frame(
    rng: np.random.Generator,
    section: WeldSection,
    pixel_pitch_mm: float,
    *,
    reach_mm: float,
    margin_mm: float = 3.0,
) -> tuple[Float[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
    """Place a flaw and give each pixel's distance from it along and across the weld, in mm."""
    height, width = section.thickness_mm.shape
    column = uniform(rng, margin_mm, width * pixel_pitch_mm - margin_mm) / pixel_pitch_mm
    row = section.centre_px[int(column)] + uniform(rng, -reach_mm, reach_mm) / pixel_pitch_mm
    along = np.broadcast_to((np.arange(width)[None, :] + 0.5 - column) * pixel_pitch_mm, (height, width))
    across = np.broadcast_to((np.arange(height)[:, None] + 0.5 - row) * pixel_pitch_mm, (height, width))
    return along, across


def _gap(
    distance_mm: Float[np.ndarray, "height width"],
    opening_mm: float | Float[np.ndarray, "1 width"],
    pixel_pitch_mm: float,
) -> Float[np.ndarray, "height width"]:
    """The share of each pixel that lies inside a gap: a thin gap covers pixels in part."""
    inner = np.minimum(distance_mm + pixel_pitch_mm / 2, opening_mm / 2)
    outer = np.maximum(distance_mm - pixel_pitch_mm / 2, -opening_mm / 2)
    return np.maximum(0.0, inner - outer) / pixel_pitch_mm

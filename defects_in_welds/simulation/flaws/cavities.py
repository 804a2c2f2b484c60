"""Cavities of trapped gas: the pore, the elongated cavity and the worm-hole."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import FlawParams
from defects_in_welds.simulation.bodies import GAS, FlawBody, Projection
from defects_in_welds.simulation.exact_math import sin_cos_deg, uniform
from defects_in_welds.simulation.flaws.curves import read_off, waves
from defects_in_welds.simulation.flaws.placing import (
    MOST_OF_PLATE,
    Spot,
    height_in,
    size_in,
    spot_in_fused_metal,
    widest_mm,
)
from defects_in_welds.simulation.solids import ellipsoid, extents_across_mm, tube
from defects_in_welds.simulation.weld import WeldSection

_BALLS_PER_RADIUS = 6  # the tube's surface then lies within 0.4 % of the radius of the swept one
_ELONGATION = 1.6  # the least length, in widths, of a cavity that is not a pore


def draw_gas_pore(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a gas pore: nearly a sphere, anywhere in the fused metal."""
    most = MOST_OF_PLATE * min(section.weld.plate_mm, widest_mm(section))
    length = size_in(rng, params.length_mm, most)
    width = _nearly(rng, length, params.width_mm)
    height = _nearly(rng, length, params.height_mm)
    angle = uniform(rng, 0.0, 180.0)
    spot = spot_in_fused_metal(rng, section, (length, length, height))
    if spot is None:
        return None
    size = (length, width, height)
    projection = ellipsoid(spot.x_mm, spot.y_mm, size, section.pixel_pitch_mm, sin_cos_deg(angle))
    film_hw = section.thickness_mm.shape
    return projection.as_flaw("gas pore", GAS, film_hw, size_mm=size, depth_mm=spot.depth_mm)


def draw_elongated_cavity(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw an elongated cavity: an ellipsoid, or an uneven tube with round ends, stretched nearly along the weld."""
    length = size_in(rng, params.length_mm, math.inf)
    width = size_in(rng, params.width_mm, min(length / _ELONGATION, MOST_OF_PLATE * widest_mm(section)))
    height = min(height_in(rng, params.height_mm, section), length / _ELONGATION)
    sine, cosine = sin_cos_deg(uniform(rng, -12.0, 12.0))
    extent = (length * cosine + width * abs(sine), width * cosine + length * abs(sine), height)
    as_tube = rng.random() < 0.6
    spot = spot_in_fused_metal(rng, section, extent)
    if spot is None:
        return None
    size = (length, width, height)
    if as_tube:
        projection = _uneven_tube(rng, spot, size, (sine, cosine), section.pixel_pitch_mm)
    else:
        projection = ellipsoid(spot.x_mm, spot.y_mm, size, section.pixel_pitch_mm, (sine, cosine))
    film_hw = section.thickness_mm.shape
    return projection.as_flaw("elongated cavity", GAS, film_hw, size_mm=size, depth_mm=spot.depth_mm)


def draw_worm_hole(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a worm-hole: a curved, tapering tube that rises from a wall of the groove, mostly across the weld."""
    length = size_in(rng, params.length_mm, widest_mm(section))
    head = size_in(rng, params.width_mm, length / _ELONGATION)
    rise = max(0.0, height_in(rng, params.height_mm, section) - head)
    middle, radius = _worm(rng, length, head, rise)
    low, high = (middle - radius[:, None]).min(axis=0), (middle + radius[:, None]).max(axis=0)
    extent_x, extent_y, extent_z = (high - low).tolist()
    spot = spot_in_fused_metal(rng, section, (extent_x, extent_y, extent_z))
    if spot is None:
        return None
    middle = middle - (low + high) / 2 + np.array([spot.x_mm, spot.y_mm, spot.depth_mm])
    size = (*extents_across_mm(middle, radius), extent_z)
    projection = tube(middle, radius, section.pixel_pitch_mm)
    return projection.as_flaw("worm-hole", GAS, section.thickness_mm.shape, size_mm=size, depth_mm=spot.depth_mm)


def _uneven_tube(
    rng: np.random.Generator,
    spot: Spot,
    size_mm: tuple[float, float, float],
    sin_cos: tuple[float, float],
    pixel_pitch_mm: float,
) -> Projection:
    """Project a straight tube of changing thickness that tapers to one end and has a length, width and height."""
    length, width, height = size_mm
    sine, cosine = sin_cos
    balls = max(8, math.ceil(length / width * 2.5 * _BALLS_PER_RADIUS))
    place = np.arange(balls) / (balls - 1)
    radius = (1.0 - uniform(rng, 0.1, 0.6) * place) * (1.0 + 0.12 * read_off(waves(rng, length, width), place))
    radius = radius * (width / 2 / float(radius.max()))
    along = radius[0] + place * (length - radius[0] - radius[-1]) - length / 2
    middle = np.stack([spot.x_mm + along * cosine, spot.y_mm + along * sine, np.zeros(balls)], axis=1)
    return tube(middle, radius, pixel_pitch_mm, flattening=height / width)


def _worm(
    rng: np.random.Generator, length_mm: float, head_mm: float, rise_mm: float
) -> tuple[Float[np.ndarray, "balls 3"], Float[np.ndarray, " balls"]]:
    """Draw the places and radii of the ball that sweeps a worm-hole, thick at its upper end."""
    tail = uniform(rng, 0.3, 0.6)
    reach = max(length_mm - head_mm * (1.0 + tail) / 2, 0.02 * length_mm)  # between the middles of the end balls
    balls = max(8, math.ceil(math.sqrt(reach * reach + rise_mm * rise_mm) / head_mm * 2.5 * _BALLS_PER_RADIUS))
    place = np.arange(balls) / (balls - 1)
    swell = read_off(waves(rng, length_mm, 1.2 * head_mm), place)
    radius = head_mm / 2 * (1.0 - (1.0 - tail) * place) * (1.0 + 0.15 * swell)
    bend = uniform(rng, -0.15, 0.15) * reach
    aside = bend * 4.0 * place * (1.0 - place) + 0.15 * head_mm * read_off(waves(rng, length_mm, head_mm), place)
    along = reach * place
    depth = rise_mm * place * (0.6 + 0.4 * place)
    side = 1.0 if rng.random() < 0.5 else -1.0
    sine, cosine = sin_cos_deg(90.0 + uniform(rng, -40.0, 40.0))
    x, y = along * cosine - aside * sine, side * (along * sine + aside * cosine)
    return np.stack([x, y, depth], axis=1), radius


def _nearly(rng: np.random.Generator, length_mm: float, low_high_mm: Sequence[float]) -> float:
    """Draw an axis that differs from the longest by up to 12 %, within a range where that leaves room."""
    low, high = low_high_mm
    return min(length_mm, max(low, min(high, length_mm * uniform(rng, 0.88, 1.0))))

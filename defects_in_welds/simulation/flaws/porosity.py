"""Groups of pores that count as one flaw: uniformly distributed, clustered and linear porosity.

The pores of a group do not share space and lie in the plate, so that their chords, added, are shorter than the plate.

References:
    ISO 5817:2014, Table 1: limits of the projected area of pores (uniformly distributed: 1 % to 2.5 % for one layer of
    weld metal; clustered: 4 % to 16 %).
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import FlawParams
from defects_in_welds.simulation.bodies import GAS, FlawBody, merge
from defects_in_welds.simulation.exact_math import log_uniform_in, uniform
from defects_in_welds.simulation.flaws.placing import (
    MOST_OF_PLATE,
    centre_at,
    fused_band,
    size_in,
    start_along,
    widest_mm,
)
from defects_in_welds.simulation.solids import ellipsoid
from defects_in_welds.simulation.weld import WeldSection

_UNIFORM_SHARE = (0.01, 0.04)  # of the group's area that its pores shade
_CLUSTER_SHARE = (0.05, 0.25)
_FEWEST_PORES, _MOST_PORES = 6, 400
_LARGEST = 0.25  # of the group's width: the largest pore's diameter where the pores are scattered
_TRIALS_PER_PORE = 12
_QUARTER_PI = 0.7853981633974483


def draw_uniformly_distributed_porosity(
    rng: np.random.Generator, section: WeldSection, params: FlawParams
) -> FlawBody | None:
    """Draw pores scattered over a length of the weld, at all depths."""
    length = log_uniform_in(rng, params.length_mm)
    width = size_in(rng, params.width_mm, widest_mm(section))
    diameter = size_in(rng, params.height_mm, min(MOST_OF_PLATE * section.weld.plate_mm, _LARGEST * width))
    diameters = _diameters(rng, diameter, log_uniform_in(rng, _UNIFORM_SHARE) * length * width)

    def anywhere() -> tuple[float, float, float]:
        return rng.random() - 0.5, rng.random() - 0.5, rng.random()

    room = (widest_mm(section) - width) / 2
    return _group(rng, section, "uniformly distributed porosity", (length, width), room, diameters, anywhere)


def draw_clustered_porosity(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a local nest of pores, denser in its middle."""
    length = log_uniform_in(rng, params.length_mm)
    width = size_in(rng, params.width_mm, min(length, widest_mm(section)))
    diameter = size_in(rng, params.height_mm, min(MOST_OF_PLATE * section.weld.plate_mm, _LARGEST * width))
    area = _QUARTER_PI * length * width  # an ellipse
    diameters = _diameters(rng, diameter, log_uniform_in(rng, _CLUSTER_SHARE) * area)

    def around_the_middle() -> tuple[float, float, float]:
        while True:
            x, y, z = (rng.random() - 0.5 for _ in range(3))
            if x * x + y * y + z * z <= 0.25:
                inwards = uniform(rng, 0.5, 1.0)
                return x * inwards, y * inwards, z * inwards + 0.5

    room = (widest_mm(section) - width) / 2
    return _group(rng, section, "clustered porosity", (length, width), room, diameters, around_the_middle)


def draw_linear_porosity(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a row of pores along the weld at one depth, at uneven distances."""
    length = log_uniform_in(rng, params.length_mm)
    width = size_in(rng, params.width_mm, widest_mm(section))
    diameter = size_in(rng, params.height_mm, MOST_OF_PLATE * min(section.weld.plate_mm, width))
    spacing = log_uniform_in(rng, (1.3, 5.0)) * diameter
    count = min(_MOST_PORES, max(3, math.floor(length / spacing)))
    diameters = diameter * np.array([uniform(rng, 0.5, 1.0) for _ in range(count)])
    diameters[int(rng.integers(count))] = diameter
    level, thickness = rng.random(), min(1.0, width / section.weld.plate_mm)
    room = section.weld.fused_half_width_mm(level * section.weld.plate_mm) - width / 2
    turns = iter(range(count * _TRIALS_PER_PORE))

    def in_a_row() -> tuple[float, float, float]:
        place = (next(turns) % count + uniform(rng, 0.1, 0.9)) / count
        return place - 0.5, rng.random() - 0.5, level + (rng.random() - level) * thickness

    return _group(rng, section, "linear porosity", (length, width), room, diameters, in_a_row)


def _diameters(rng: np.random.Generator, largest_mm: float, area_mm2: float) -> Float[np.ndarray, " pores"]:
    """Draw diameters down to 0.35 of the largest until the pores shade an area; at least six."""
    diameters = [largest_mm]
    shaded = _QUARTER_PI * largest_mm * largest_mm
    while (shaded < area_mm2 or len(diameters) < _FEWEST_PORES) and len(diameters) < _MOST_PORES:
        diameters.append(log_uniform_in(rng, (0.35 * largest_mm, largest_mm)))
        shaded += _QUARTER_PI * diameters[-1] * diameters[-1]
    return np.array(diameters)


def _group(
    rng: np.random.Generator,
    section: WeldSection,
    defect_class: str,
    size_mm: tuple[float, float],
    room_mm: float,
    diameters_mm: Float[np.ndarray, " pores"],
    draw_place: Callable[[], tuple[float, float, float]],
) -> FlawBody | None:
    """Place pores in a band of the weld and project them.

    Args:
        rng: Source of the band's place.
        section: The weld.
        defect_class: Name of the class.
        size_mm: Length and width of the band.
        room_mm: How far the band may lie from the weld's middle, to either side.
        diameters_mm: The pores, in the order in which they are placed.
        draw_place: Draws a pore's place in the band: along and across from -0.5 to 0.5, in depth from 0 to 1.

    Returns:
        The flaw, or None where fewer than three pores find room on the film.
    """
    length, width = size_mm
    start = start_along(rng, section, length)
    if start is None:
        return None
    x_mid = start + length / 2
    y_mid = centre_at(section, x_mid) + uniform(rng, -1.0, 1.0) * max(0.0, room_mm)
    pores = np.empty((0, 4))
    for diameter in diameters_mm.tolist():
        for _ in range(_TRIALS_PER_PORE):
            along, across, deep = draw_place()
            x, y = x_mid + along * (length - diameter), y_mid + across * (width - diameter)
            z = diameter / 2 + deep * (section.weld.plate_mm - diameter)
            if _has_room(section, pores, (x, y, z), diameter):
                pores = np.concatenate([pores, [[x, y, z, diameter]]])
                break
    if len(pores) < 3:
        return None
    projections = [ellipsoid(x, y, (d, d, d), section.pixel_pitch_mm) for x, y, _, d in pores.tolist()]
    half = pores[:, 3:] / 2
    low, high = (pores[:, :3] - half).min(axis=0), (pores[:, :3] + half).max(axis=0)
    built_length, built_width, _ = (high - low).tolist()
    return merge(projections).as_flaw(
        defect_class,
        GAS,
        section.thickness_mm.shape,
        size_mm=(built_length, built_width, float(pores[:, 3].max())),
        depth_mm=float(low[2] + high[2]) / 2,
    )


def _has_room(
    section: WeldSection,
    pores: Float[np.ndarray, "pores 4"],
    middle_mm: tuple[float, float, float],
    diameter_mm: float,
) -> bool:
    """Tell whether a pore lies in the fused metal and touches none of the others, given by middle and diameter."""
    x, y, z = middle_mm
    radius = diameter_mm / 2
    band = fused_band(section, (x - radius, x + radius), (z - radius, z + radius))
    if band is None or not band[0] + radius <= y <= band[1] - radius:
        return False
    apart = pores[:, :3] - np.array(middle_mm)
    square = apart[:, 0] * apart[:, 0] + apart[:, 1] * apart[:, 1] + apart[:, 2] * apart[:, 2]
    closest = (pores[:, 3] + diameter_mm) / 2
    return not bool((square < closest * closest).any())

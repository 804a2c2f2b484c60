"""Imperfect shape of the weld's surfaces: undercut, excess penetration and burn-through."""

import numpy as np

from defects_in_welds.params.simulate import FlawParams
from defects_in_welds.simulation.bodies import GAS, METAL, FlawBody
from defects_in_welds.simulation.exact_math import log_uniform_in, uniform
from defects_in_welds.simulation.flaws.curves import fading, places, read_off, rescaled, waves
from defects_in_welds.simulation.flaws.placing import (
    along_section,
    centre_at,
    height_in,
    size_in,
    start_along,
)
from defects_in_welds.simulation.ribbons import RoundedProfile, Run, ribbon
from defects_in_welds.simulation.solids import crater
from defects_in_welds.simulation.weld import WeldSection

_WIDEST_OF_ROOT = 1.3  # of excess penetration and burn-through, as a share of the root bead's width
_LOBES = (0.13, 0.08, 0.05, 0.03)  # of a burn-through's outline: of two, three, ... bulges


def draw_undercut(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw an undercut: a groove in the plate along the cap's toe, deepest at the toe."""
    length = log_uniform_in(rng, params.length_mm)
    width = size_in(rng, params.width_mm, section.weld.cap_width_mm / 2)
    height = height_in(rng, params.height_mm, section)
    side = 1.0 if rng.random() < 0.5 else -1.0
    bites = rescaled(
        waves(rng, length, max(2.0, length / 5)) + 0.3 * waves(rng, length, max(0.6, length / 25)), 0.0, 1.0
    )
    bites = np.maximum(0.08, bites * bites) * fading(places(length), 0.25)
    bites = bites / float(bites.max())
    spread = 0.5 + 0.5 * bites
    wander = 0.1 * width * waves(rng, length, 1.5)
    start = start_along(rng, section, length)
    if start is None:
        return None
    run = Run(start, length, section.pixel_pitch_mm)
    depth, half, aside = (read_off(curve, run.place) for curve in (height * bites, width * spread, wander))
    centre, toe = (along_section(section, curve, run.x_mm) for curve in (section.centre_mm, section.cap_half_mm))
    on_weld, on_plate = 0.35 * half, 0.65 * half
    lower, upper = (on_weld, on_plate) if side > 0 else (on_plate, on_weld)
    projection = ribbon(run, centre + side * (toe + aside), RoundedProfile(depth, lower, upper))
    film_hw = section.thickness_mm.shape
    return projection.as_flaw("undercut", GAS, film_hw, size_mm=(length, width, height), depth_mm=height / 2)


def draw_excess_penetration(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw excess penetration: metal that sagged through the root, as one or a few smooth drops."""
    length = log_uniform_in(rng, params.length_mm)
    height = height_in(rng, params.height_mm, section)
    start = start_along(rng, section, length)
    if start is None:
        return None
    root = 2 * float(along_section(section, section.root_half_mm, np.array([start + length / 2]))[0])
    width = size_in(rng, params.width_mm, _WIDEST_OF_ROOT * root)
    place = places(length)
    around = 2.0 * place - 1.0
    drop = (1.0 - around * around) * rescaled(waves(rng, length, max(width, length / 4)), 0.4, 1.0)
    drop = drop / float(drop.max())
    breadth = np.sqrt(np.maximum(0.0, 1.0 - around * around)) * rescaled(
        waves(rng, length, max(width, length / 4)), 0.7, 1.0
    )
    breadth = breadth / float(breadth.max())
    aside = 0.08 * width * waves(rng, length, max(3.0, length / 3))
    run = Run(start, length, section.pixel_pitch_mm)
    rise, half, off = (read_off(curve, run.place) for curve in (height * drop, width / 2 * breadth, aside))
    centre = along_section(section, section.centre_mm, run.x_mm)
    projection = ribbon(run, centre + off, RoundedProfile(rise, half, half))
    return projection.as_flaw(
        "excess penetration",
        METAL,
        section.thickness_mm.shape,
        size_mm=(length, width, height),
        depth_mm=section.weld.plate_mm + section.weld.root_height_mm + height / 2,
    )


def draw_burn_through(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a burn-through: a hole in the root where the molten metal fell out, deepest in its middle."""
    length = log_uniform_in(rng, params.length_mm)
    height = height_in(rng, params.height_mm, section)
    start = start_along(rng, section, length)
    if start is None:
        return None
    x_mid = start + length / 2
    root = 2 * float(along_section(section, section.root_half_mm, np.array([x_mid]))[0])
    width = size_in(rng, params.width_mm, min(length, _WIDEST_OF_ROOT * root))
    lobes = np.array([[most * uniform(rng, -1.0, 1.0) for _ in range(2)] for most in _LOBES])
    y_mid = centre_at(section, x_mid) + uniform(rng, -0.15, 0.15) * root
    size = (length, width, height)
    projection = crater(x_mid, y_mid, size, lobes, section.pixel_pitch_mm)
    depth = section.weld.plate_mm - height / 2
    return projection.as_flaw("burn-through", GAS, section.thickness_mm.shape, size_mm=size, depth_mm=depth)

"""Cracks in the weld metal: ragged gaps with an opening, a height and a tilt to the beam.

A crack is a main strand and finer ones that run beside it and join it again, or leave it and end. Each strand is a thin
slab that follows a path with wander and kinks on several scales; its chords across the path are those of a tilted slab.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import FlawParams
from defects_in_welds.simulation.bodies import GAS, FlawBody, Projection, merge
from defects_in_welds.simulation.exact_math import log_uniform_in, sin_cos_deg, uniform
from defects_in_welds.simulation.flaws.curves import fading, kinks, places, read_off, rescaled, waves
from defects_in_welds.simulation.flaws.placing import (
    centre_at,
    height_in,
    signed_tilt_in,
    size_in,
    slab_depth_mm,
    spot_in_fused_metal,
    widest_mm,
)
from defects_in_welds.simulation.ribbons import Run, SlabProfile, ribbon
from defects_in_welds.simulation.weld import WeldSection

_MM_PER_STRAND = 4.0  # the most fine strands: one for so much length, and two
_WIDEST, _DEEPEST = 0.04, 0.8  # opening and height of a crack, as shares of its length, at most
_TILT_CHANGE = 0.2  # slow change of the tilt's tangent along a crack, as a share of it
_ROUNDED = 0.6  # a transverse crack is so much shorter, as a share, at its lowest: the front is round as the weld is


@dataclass(frozen=True)
class Strand:
    """A single gap of a crack, on samples from its start to its end.

    Attributes:
        start_mm: Where it starts on the crack's length.
        length_mm: Its length along the crack.
        path_mm: Its place across the crack.
        opening_mm: Its opening.
        height_mm: Its extent in its own plane, at a right angle to the length.
        tilt_tan: Tangent of its tilt to the beam.
    """

    start_mm: float
    length_mm: float
    path_mm: Float[np.ndarray, " samples"]
    opening_mm: Float[np.ndarray, " samples"]
    height_mm: Float[np.ndarray, " samples"]
    tilt_tan: Float[np.ndarray, " samples"]


def draw_longitudinal_crack(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a crack that runs along the weld, anywhere in the fused metal."""
    length = log_uniform_in(rng, params.length_mm)
    size = _crack_size(rng, section, params, length)
    tilt = signed_tilt_in(rng, params.tilt_deg)
    strands = _draw_strands(rng, size, tilt, wander_mm=0.1 + length * uniform(rng, 0.003, 0.015))
    low, high = _extent_across_mm(strands)
    deep = slab_depth_mm(size[1], size[2], tilt)
    spot = spot_in_fused_metal(rng, section, (length, high - low, deep))
    if spot is None:
        return None
    middle = spot.y_mm - (low + high) / 2
    projection = _project(strands, spot.x_mm - length / 2, middle, section.pixel_pitch_mm).at_most(deep)
    film_hw = section.thickness_mm.shape
    return projection.as_flaw(
        "longitudinal crack in weld metal", GAS, film_hw, size_mm=size, depth_mm=spot.depth_mm, tilt_deg=tilt
    )


def draw_transverse_crack(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a crack that runs across the weld."""
    length = size_in(rng, params.length_mm, 0.95 * widest_mm(section))
    size = _crack_size(rng, section, params, length)
    tilt = signed_tilt_in(rng, params.tilt_deg)
    strands = _draw_strands(rng, size, tilt, wander_mm=length * uniform(rng, 0.03, 0.1))
    low, high = _extent_across_mm(strands)
    deep = slab_depth_mm(size[1], size[2], tilt)
    spot = spot_in_fused_metal(rng, section, (high - low, _ROUNDED * length, deep))
    if spot is None:
        return None
    middle = spot.x_mm - (low + high) / 2
    centre, room = centre_at(section, spot.x_mm), (widest_mm(section) - length) / 2
    y_mid = min(max(spot.y_mm, centre - room), centre + room)
    projection = _project(strands, y_mid - length / 2, middle, section.pixel_pitch_mm).at_most(deep)
    film_hw = section.thickness_mm.shape
    return projection.transposed().as_flaw(
        "transverse crack in weld metal", GAS, film_hw, size_mm=size, depth_mm=spot.depth_mm, tilt_deg=tilt
    )


def _crack_size(
    rng: np.random.Generator, section: WeldSection, params: FlawParams, length_mm: float
) -> tuple[float, float, float]:
    """Draw opening and height for a length: a short crack is neither wide nor deep."""
    opening = size_in(rng, params.width_mm, _WIDEST * length_mm)
    return length_mm, opening, min(height_in(rng, params.height_mm, section), _DEEPEST * length_mm)


def _draw_strands(
    rng: np.random.Generator, size_mm: tuple[float, float, float], tilt_deg: float, wander_mm: float
) -> list[Strand]:
    """Draw a main strand of the full size, and fine strands around it."""
    length, opening, _ = size_mm
    main = _draw_main(rng, size_mm, tilt_deg, wander_mm)
    place = places(length)
    share = np.ones_like(place)
    strands = []
    for _ in range(int(rng.integers(0, 2 + math.ceil(length / _MM_PER_STRAND), endpoint=True))):
        span = min(0.6, log_uniform_in(rng, (0.8, 12.0)) / length)
        start = uniform(rng, 0.0, 1.0 - span)
        joins = rng.random() < 0.6
        strands.append(_draw_fine(rng, main, start, span, opening, joins=joins))
        if joins:  # what opens beside the main strand is missing from it
            within = np.clip((place - start) / span, 0.0, 1.0)
            share = share * (1.0 - uniform(rng, 0.3, 0.8) * 4.0 * within * (1.0 - within))
    parted = main.opening_mm * share
    return [replace(main, opening_mm=parted * (opening / float(parted.max()))), *strands]


def _draw_main(
    rng: np.random.Generator, size_mm: tuple[float, float, float], tilt_deg: float, wander_mm: float
) -> Strand:
    """Draw the main strand: lens-shaped openings between narrow parts, and a round front below."""
    length, opening, height = size_mm
    place = places(length)
    path = wander_mm * (waves(rng, length, length / 2.5) + 0.4 * waves(rng, length, max(1.5, length / 9)))
    path = path + _raggedness(rng, length)
    lenses = 0.5 + 0.5 * waves(rng, length, max(1.5, length / 8))
    sine, cosine = sin_cos_deg(tilt_deg)
    # The beam averages over what opens unevenly at different depths of a tilted crack.
    unevenness = 1.0 + 0.35 * kinks(rng, length, max(0.5, height * abs(sine)))
    width = (0.12 + 0.88 * lenses * (lenses + (1.0 - lenses) * rng.random())) * unevenness
    width = np.maximum(0.06, width) * fading(place, uniform(rng, 0.2, 0.45))
    around = 2.0 * place - 1.0
    front = np.sqrt(1.0 - 0.95 * around * around) * (0.85 + 0.15 * waves(rng, length, max(1.0, length / 6)))
    tilt = (sine / cosine) * (1.0 + _TILT_CHANGE * waves(rng, length, length / 1.5))
    return Strand(0.0, length, path, rescaled(width, 0.0, opening), front * (height / float(front.max())), tilt)


def _draw_fine(
    rng: np.random.Generator, main: Strand, start: float, span: float, opening_mm: float, *, joins: bool
) -> Strand:
    """Draw a fine strand that joins the main one at both ends, or leaves it at one end."""
    length = span * main.length_mm
    place = places(length)
    side = 1.0 if rng.random() < 0.5 else -1.0
    on_main = start + span * place
    if joins:
        away = 4.0 * place * (1.0 - place) * uniform(rng, 0.06, min(0.5, 0.08 + 0.08 * length))
        width = fading(place, 0.3)
    else:
        leaving = place if rng.random() < 0.5 else 1.0 - place
        away = leaving * min(1.0, length * uniform(rng, 0.08, 0.35))
        width = (1.0 - 0.9 * leaving) * fading(place, 0.1)
    path = read_off(main.path_mm, on_main) + side * away + 0.5 * _raggedness(rng, length)
    width = width * (1.0 + 0.4 * kinks(rng, length, 0.5)) * opening_mm * uniform(rng, 0.12, 0.45)
    height = read_off(main.height_mm, on_main) * uniform(rng, 0.3, 0.8)
    return Strand(start * main.length_mm, length, path, width, height, read_off(main.tilt_tan, on_main))


def _raggedness(rng: np.random.Generator, length_mm: float) -> Float[np.ndarray, " samples"]:
    """Draw how a path leaves its smooth line from grain to grain, in mm."""
    return 0.09 * kinks(rng, length_mm, 1.2) + 0.04 * kinks(rng, length_mm, 0.35)


def _extent_across_mm(strands: list[Strand]) -> tuple[float, float]:
    """Find how far the strands and their shades reach to either side."""
    reach = [SlabProfile(each.opening_mm, each.height_mm, each.tilt_tan).half_base_mm for each in strands]
    low = min(float((each.path_mm - half).min()) for each, half in zip(strands, reach, strict=True))
    high = max(float((each.path_mm + half).max()) for each, half in zip(strands, reach, strict=True))
    return low, high


def _project(strands: list[Strand], start_mm: float, middle_mm: float, pixel_pitch_mm: float) -> Projection:
    """Project the strands of a crack that begins at a place along the film and has its line at another across."""
    projections = []
    for strand in strands:
        run = Run(start_mm + strand.start_mm, strand.length_mm, pixel_pitch_mm)
        curves = (strand.path_mm, strand.opening_mm, strand.height_mm, strand.tilt_tan)
        path, opening, height, tilt = (read_off(curve, run.place) for curve in curves)
        projections.append(ribbon(run, middle_mm + path, SlabProfile(opening, height, tilt)))
    return merge(projections)

"""Faces that did not fuse: lack of sidewall fusion and lack of penetration.

Both are straight where the prepared edge is, for the edge was machined, and uneven where the molten metal ended.
"""

import numpy as np

from defects_in_welds.params.simulate import FlawParams
from defects_in_welds.simulation.bodies import GAS, SLAG, FlawBody, merge
from defects_in_welds.simulation.exact_math import log_uniform_in, sin_cos_deg, uniform
from defects_in_welds.simulation.flaws.curves import fading, kinks, places, read_off, rescaled, uneven, waves
from defects_in_welds.simulation.flaws.placing import (
    MOST_OF_PLATE,
    centre_at,
    height_in,
    signed_tilt_in,
    slab_depth_mm,
    start_along,
)
from defects_in_welds.simulation.ribbons import Run, SlabProfile, ribbon
from defects_in_welds.simulation.weld import ROOT_FACE_MM, ROOT_FACE_SHARE, WeldSection

_STRIPS = 12  # along the flank; in each the gap has one opening at a place along the weld
_SLAG_SHARE = 0.35  # of the unfused flanks
_DEG = 180.0 / 3.141592653589793


def draw_lack_of_sidewall_fusion(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a lack of sidewall fusion: a thin gap on the groove's flank, open at a straight edge and closing from there.

    The gap is a stack of strips along the flank, each a slab that is tilted as the flank is. So its shade is sharp at
    one side and fades to the other. Where slag fills it, the fading side is ragged.
    """
    weld = section.weld
    length, opening = log_uniform_in(rng, params.length_mm), log_uniform_in(rng, params.width_mm)
    side = 1.0 if rng.random() < 0.5 else -1.0
    on_upper_half = weld.preparation == "V" or rng.random() < 0.5
    flank = angle_deg(weld.groove_tan) * (-side if on_upper_half else side)
    tilt = flank + signed_tilt_in(rng, params.tilt_deg)
    sine, cosine = sin_cos_deg(tilt)
    root_face = min(ROOT_FACE_MM, ROOT_FACE_SHARE * weld.plate_mm)
    face = weld.plate_mm - root_face if weld.preparation == "V" else (weld.plate_mm - root_face) / 2
    height = min(height_in(rng, params.height_mm, section), (MOST_OF_PLATE * face - opening) / max(cosine, 0.1))
    deep = slab_depth_mm(opening, height, tilt)

    slag = rng.random() < _SLAG_SHARE
    open_to = uneven(rng, length, max(1.0, length / 6), 0.35)  # share of the height where the gap has closed
    if slag:
        open_to = rescaled(open_to + 0.5 * kinks(rng, length, 0.5), 0.2, 1.0)
    edge = opening * uneven(rng, length, max(1.0, length / 5), 0.6) * fading(places(length), 0.06)
    from_below = rng.random() < 0.5

    start = start_along(rng, section, length)
    if start is None or height <= 0:
        return None
    top = 0.0 if on_upper_half else weld.plate_mm - face
    depth = uniform(rng, top + deep / 2, top + face - deep / 2)
    middle = centre_at(section, start + length / 2) + side * weld.fused_half_width_mm(depth)
    run = Run(start, length, section.pixel_pitch_mm)
    reach, gap = read_off(open_to, run.place), read_off(edge, run.place)
    strips = []
    for strip in range(_STRIPS):
        place = (strip + 0.5) / _STRIPS  # from the straight edge
        down = (0.5 - place if from_below else place - 0.5) * height
        profile = SlabProfile(
            gap * np.maximum(0.0, 1.0 - place / reach),
            np.full(len(gap), height / _STRIPS),
            sine / cosine,
        )
        strips.append(ribbon(run, np.full(len(gap), middle + down * sine), profile))
    return merge(strips).as_flaw(
        "lack of sidewall fusion",
        SLAG if slag else GAS,
        section.thickness_mm.shape,
        size_mm=(length, opening, height),
        depth_mm=depth,
        tilt_deg=tilt,
    )


def draw_lack_of_penetration(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a lack of penetration: a straight gap between the root faces, in the weld's middle line.

    It opens to the lower surface of a weld from one side, and lies at mid-thickness in a weld from both. The weld metal
    has filled it to a changing height.
    """
    weld = section.weld
    length, opening = log_uniform_in(rng, params.length_mm), log_uniform_in(rng, params.width_mm)
    tilt = signed_tilt_in(rng, params.tilt_deg)
    sine, cosine = sin_cos_deg(tilt)
    height = min(height_in(rng, params.height_mm, section), MOST_OF_PLATE * weld.plate_mm - opening * abs(sine))
    deep = slab_depth_mm(opening, height, tilt)
    depth = weld.plate_mm - deep / 2 if weld.preparation == "V" else weld.plate_mm / 2
    filled = height * rescaled(waves(rng, length, max(2.5, length / 6)), uniform(rng, 0.35, 0.85), 1.0)
    filled = filled * fading(places(length), min(0.4, 1.5 / length))
    melted = opening * 0.12 * np.maximum(0.0, kinks(rng, length, 0.6)) * (rng.random() < 0.5)
    start = start_along(rng, section, length)
    if start is None or height <= 0:
        return None
    run = Run(start, length, section.pixel_pitch_mm)
    gap = opening - read_off(melted, run.place)
    # The gap is as straight as the plates' edges, though the beads above it weave.
    row = (centre_at(section, start) + centre_at(section, start + length)) / 2
    skew = uniform(rng, -0.004, 0.004) * length
    middle = row + skew * (run.place - 0.5) + (gap - opening) / 2
    projection = ribbon(run, middle, SlabProfile(gap, read_off(filled, run.place), sine / cosine))
    film_hw = section.thickness_mm.shape
    size = (length, opening, height)
    return projection.as_flaw("lack of penetration", GAS, film_hw, size_mm=size, depth_mm=depth, tilt_deg=tilt)


def angle_deg(tangent: float) -> float:
    """Find an angle from its tangent, by steps that each treble the digits; a few more for angles above 80 degrees."""
    angle = 0.0
    for _ in range(12):
        sine, cosine = sin_cos_deg(angle)
        rest = (tangent * cosine - sine) / (tangent * sine + cosine)  # tangent of what is missing
        angle += rest / (1.0 + rest * rest / 3.0) * _DEG
    return angle

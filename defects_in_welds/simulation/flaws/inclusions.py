"""Solid inclusions: slag and tungsten."""

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import FlawParams
from defects_in_welds.simulation.bodies import SLAG, TUNGSTEN, FlawBody, merge
from defects_in_welds.simulation.exact_math import log_uniform_in, sin_cos_deg, uniform
from defects_in_welds.simulation.flaws.curves import fading, kinks, places, read_off, uneven, waves
from defects_in_welds.simulation.flaws.placing import height_in, size_in, spot_in_fused_metal, widest_mm
from defects_in_welds.simulation.ribbons import RoundedProfile, Run, ribbon
from defects_in_welds.simulation.solids import Polyhedron, extents_across_mm
from defects_in_welds.simulation.weld import WeldSection

_CORNERS_CUT = 12  # faces of a tungsten inclusion beyond the six that bound its size
_LAYERS = 3  # of a slag inclusion, one on the other, each with its own outline


def draw_slag_inclusion(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a slag inclusion: flat layers with ragged outlines, a lump or a stringer that wanders along the weld."""
    length = log_uniform_in(rng, params.length_mm)
    width = size_in(rng, params.width_mm, min(length, widest_mm(section)))
    height = min(height_in(rng, params.height_mm, section), 1.5 * width)
    outer = _ragged_sides(rng, length, width)
    shares = np.array([uniform(rng, 0.5, 1.0) for _ in range(_LAYERS)])
    shares = shares / np.cumsum(shares)[-1]
    layers = [outer, *(_inner_sides(rng, length, outer) for _ in range(_LAYERS - 1))]
    thickness = uneven(rng, length, max(width, length / 6), 0.4)
    spot = spot_in_fused_metal(rng, section, (length, width, height))
    if spot is None:
        return None
    run = Run(spot.x_mm - length / 2, length, section.pixel_pitch_mm)
    thick = height * read_off(thickness, run.place)
    projections = []
    for share, (lower, upper) in zip(shares.tolist(), layers, strict=True):
        low, high = read_off(lower, run.place), read_off(upper, run.place)
        half = (high - low) / 2
        profile = RoundedProfile(share * thick, half, half, flat=True)
        projections.append(ribbon(run, spot.y_mm + (low + high) / 2, profile, as_outline=True))
    return merge(projections).as_flaw(
        "slag inclusion",
        SLAG,
        section.thickness_mm.shape,
        size_mm=(length, width, height),
        depth_mm=spot.depth_mm,
    )


def draw_tungsten_inclusion(rng: np.random.Generator, section: WeldSection, params: FlawParams) -> FlawBody | None:
    """Draw a tungsten inclusion: a splinter of the electrode, a small angular polyhedron."""
    length = size_in(rng, params.length_mm, widest_mm(section))
    width = size_in(rng, params.width_mm, length)
    height = height_in(rng, params.height_mm, section)
    body = _turned(_splinter(rng, (length, width, height)), uniform(rng, 0.0, 180.0))
    built_length, _ = extents_across_mm(body.vertices_mm())
    body = Polyhedron(body.normals, body.distances_mm * (length / built_length))
    vertices = body.vertices_mm()
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    extent_x, extent_y, extent_z = (high - low).tolist()
    spot = spot_in_fused_metal(rng, section, (extent_x, extent_y, extent_z))
    if spot is None:
        return None
    middle_x, middle_y, _ = ((low + high) / 2).tolist()
    return body.project(spot.x_mm - middle_x, spot.y_mm - middle_y, section.pixel_pitch_mm).as_flaw(
        "tungsten inclusion",
        TUNGSTEN,
        section.thickness_mm.shape,
        size_mm=(*extents_across_mm(vertices), extent_z),
        depth_mm=spot.depth_mm,
    )


def _ragged_sides(
    rng: np.random.Generator, length_mm: float, width_mm: float
) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
    """Draw the two sides of an outline that spans the width, across its middle."""
    stringer = min(1.0, max(0.1, (length_mm / width_mm - 3.0) / 5.0))
    wander = stringer * waves(rng, length_mm, max(3.0 * width_mm, length_mm / 4))
    wander = wander + 0.15 * waves(rng, length_mm, max(width_mm, length_mm / 12))
    ends = fading(places(length_mm), 0.12 + (1.0 - stringer) * uniform(rng, 0.1, 0.35))

    def side() -> Float[np.ndarray, " samples"]:
        swell = waves(rng, length_mm, max(0.8 * width_mm, length_mm / 10))
        corners = kinks(rng, length_mm, max(0.3, 0.5 * width_mm))
        rough = kinks(rng, length_mm, max(0.12, 0.15 * width_mm))
        return ends * np.maximum(0.06, 0.6 + 0.25 * swell + 0.25 * (1.0 - 0.5 * stringer) * corners + 0.1 * rough)

    lower, upper = wander - side(), wander + side()
    low, high = float(lower.min()), float(upper.max())
    scale = width_mm / (high - low)
    return (lower - (low + high) / 2) * scale, (upper - (low + high) / 2) * scale


def _inner_sides(
    rng: np.random.Generator,
    length_mm: float,
    outer_mm: tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]],
) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
    """Draw the two sides of a layer within another's outline, broken where they meet."""
    lower, upper = outer_mm
    knot = max(0.25, length_mm / 12)
    cut_low = np.maximum(0.0, 0.25 + 0.5 * waves(rng, length_mm, knot) + 0.1 * kinks(rng, length_mm, knot / 5))
    cut_high = np.maximum(0.0, 0.25 + 0.5 * waves(rng, length_mm, knot) + 0.1 * kinks(rng, length_mm, knot / 5))
    low, high = lower + cut_low * (upper - lower), upper - cut_high * (upper - lower)
    middle = (low + high) / 2
    return np.minimum(low, middle), np.maximum(high, middle)


def _splinter(rng: np.random.Generator, size_mm: tuple[float, float, float]) -> Polyhedron:
    """Cut the corners off a box by planes that touch an ellipsoid somewhat larger than the one inside the box."""
    half = np.array(size_mm) / 2
    normals = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    distances = [float(extent) for extent in half for _ in range(2)]
    while len(normals) < 6 + _CORNERS_CUT:
        a, b, c = (2.0 * rng.random(3) - 1.0).tolist()
        square = a * a + b * b + c * c
        if not 0.05 < square <= 1.0:
            continue
        norm = float(np.sqrt(square))
        normal = [a / norm, b / norm, c / norm]
        reach = [float(extent) * part for extent, part in zip(half, normal, strict=True)]
        support = float(np.sqrt(reach[0] * reach[0] + reach[1] * reach[1] + reach[2] * reach[2]))
        normals.append(normal)
        distances.append(support * uniform(rng, 0.72, 1.1))
    return Polyhedron(np.array(normals), np.array(distances))


def _turned(polyhedron: Polyhedron, angle_deg: float) -> Polyhedron:
    """Turn a polyhedron around the beam."""
    sine, cosine = sin_cos_deg(angle_deg)
    along, across, deep = polyhedron.normals.T
    normals = np.stack([along * cosine - across * sine, along * sine + across * cosine, deep], axis=1)
    return Polyhedron(normals, polyhedron.distances_mm)

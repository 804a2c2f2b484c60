"""Projections of solids: ellipsoids, convex polyhedra, tubes and craters."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.bodies import Projection
from defects_in_welds.simulation.exact_math import sin_cos_deg

_SAMPLES_ACROSS = 24  # samples across the thinnest part: a sphere's volume then errs by a few tenths of a percent
_MOST_PER_PIXEL = 16


@dataclass(frozen=True)
class FineGrid:
    """Samples inside the pixels around a body.

    Attributes:
        top_px: First row of pixels.
        left_px: First column of pixels.
        per_px: Samples along each side of a pixel.
        x_mm: Place along the weld of each column of samples.
        y_mm: Place across of each row of samples.
    """

    top_px: int
    left_px: int
    per_px: int
    x_mm: Float[np.ndarray, "1 columns"]
    y_mm: Float[np.ndarray, "rows 1"]

    def project(self, chord_mm: Float[np.ndarray, "rows columns"]) -> Projection:
        """Average the samples of each pixel."""
        fine = [chord_mm[step :: self.per_px] for step in range(self.per_px)]
        rows = _added(fine)
        total = _added([rows[:, step :: self.per_px] for step in range(self.per_px)])
        return Projection(self.top_px, self.left_px, total / (self.per_px * self.per_px))


def fine_grid(
    x_mm: tuple[float, float], y_mm: tuple[float, float], thinnest_mm: float, pixel_pitch_mm: float
) -> FineGrid:
    """Lay samples over the pixels that hold a body.

    Args:
        x_mm: The body's extent along the weld, from and to.
        y_mm: Its extent across, from and to.
        thinnest_mm: Its thinnest part, which the samples must resolve.
        pixel_pitch_mm: Pixel pitch.
    """
    per_px = min(_MOST_PER_PIXEL, max(2, math.ceil(_SAMPLES_ACROSS * pixel_pitch_mm / thinnest_mm)))
    (left, x), (top, y) = (_samples(extent, per_px, pixel_pitch_mm) for extent in (x_mm, y_mm))
    return FineGrid(top, left, per_px, x[None, :], y[:, None])


def ellipsoid(
    x_mm: float,
    y_mm: float,
    size_mm: tuple[float, float, float],
    pixel_pitch_mm: float,
    sin_cos: tuple[float, float] = (0.0, 1.0),
) -> Projection:
    """Project an ellipsoid: ``height * sqrt(1 - u^2 - v^2)`` in units of its half axes u and v.

    Args:
        x_mm: Its middle along the weld.
        y_mm: Its middle across.
        size_mm: Length, width and height: its three axes; the height is along the beam.
        pixel_pitch_mm: Pixel pitch.
        sin_cos: Sine and cosine of the angle from the weld to the length.
    """
    length, width, height = size_mm
    sine, cosine = sin_cos
    half_x = math.sqrt(length * length * cosine * cosine + width * width * sine * sine) / 2
    half_y = math.sqrt(length * length * sine * sine + width * width * cosine * cosine) / 2
    grid = fine_grid((x_mm - half_x, x_mm + half_x), (y_mm - half_y, y_mm + half_y), min(length, width), pixel_pitch_mm)
    x, y = grid.x_mm - x_mm, grid.y_mm - y_mm
    u, v = (x * cosine + y * sine) * (2 / length), (y * cosine - x * sine) * (2 / width)
    return grid.project(height * np.sqrt(np.maximum(0.0, 1.0 - u * u - v * v)))


def tube(
    middle_mm: Float[np.ndarray, "balls 3"],
    radius_mm: Float[np.ndarray, " balls"],
    pixel_pitch_mm: float,
    flattening: float = 1.0,
) -> Projection:
    """Project a curved tube of changing radius: the space that a ball sweeps along a curve.

    At each sample the beam enters the tube at the highest ball that it meets and leaves it at the lowest. So the ends
    are round, and the chord grows with the slope of the tube as ``1 / sin`` of the angle between tube and beam.

    Args:
        middle_mm: Places of the ball: along, across and in depth, close to each other. The tube may not pass over
            itself.
        radius_mm: The ball's radius at each place.
        pixel_pitch_mm: Pixel pitch.
        flattening: The extent along the beam is multiplied by it.
    """
    low, high = middle_mm[:, :2] - radius_mm[:, None], middle_mm[:, :2] + radius_mm[:, None]
    (x0, y0), (x1, y1) = low.min(axis=0).tolist(), high.max(axis=0).tolist()
    grid = fine_grid((x0, x1), (y0, y1), 2 * float(radius_mm.min()), pixel_pitch_mm)
    shape = (grid.y_mm.shape[0], grid.x_mm.shape[1])
    top, bottom = np.full(shape, np.inf), np.full(shape, -np.inf)
    for (x, y, z), radius in zip(middle_mm.tolist(), radius_mm.tolist(), strict=True):
        columns = slice(*np.searchsorted(grid.x_mm[0], (x - radius, x + radius)).tolist())
        rows = slice(*np.searchsorted(grid.y_mm[:, 0], (y - radius, y + radius)).tolist())
        along, across = grid.x_mm[:, columns] - x, grid.y_mm[rows] - y
        square = radius * radius - along * along - across * across
        half = np.sqrt(np.maximum(square, 0.0))
        inside = square > 0
        np.minimum(top[rows, columns], z - half, out=top[rows, columns], where=inside)
        np.maximum(bottom[rows, columns], z + half, out=bottom[rows, columns], where=inside)
    return grid.project(flattening * np.where(bottom > top, bottom - top, 0.0))


@dataclass(frozen=True)
class Polyhedron:
    """A convex polyhedron: the space behind all of its faces.

    Attributes:
        normals: Outward unit normals of the faces: along, across, in depth.
        distances_mm: Distances of the faces from the middle.
    """

    normals: Float[np.ndarray, "faces 3"]
    distances_mm: Float[np.ndarray, " faces"]

    def vertices_mm(self) -> Float[np.ndarray, "vertices 3"]:
        """Find the vertices: the points of three faces that lie behind all the others."""
        first, second, third = np.array(list(itertools.combinations(range(len(self.normals)), 3))).T
        a, b, c = self.normals[first], self.normals[second], self.normals[third]
        determinant = _dot(a, _cross(b, c))
        meet = np.abs(determinant) > 1e-6
        d = self.distances_mm[:, None]
        points = (d[first] * _cross(b, c) + d[second] * _cross(c, a) + d[third] * _cross(a, b))[meet]
        points = points / determinant[meet, None]
        behind = np.ones(len(points), dtype=bool)
        for normal, distance in zip(self.normals, self.distances_mm, strict=True):
            behind &= _dot(points, normal[None, :]) <= distance + 1e-9
        return points[behind]

    def project(self, x_mm: float, y_mm: float, pixel_pitch_mm: float) -> Projection:
        """Project it: each beam runs from the lowest of its entries through faces to the highest of its exits.

        Args:
            x_mm: Its middle along the weld.
            y_mm: Its middle across.
            pixel_pitch_mm: Pixel pitch.
        """
        vertices = self.vertices_mm()
        (x0, y0, _), (x1, y1, _) = vertices.min(axis=0).tolist(), vertices.max(axis=0).tolist()
        extents = (x_mm + x0, x_mm + x1), (y_mm + y0, y_mm + y1)
        grid = fine_grid(*extents, min(x1 - x0, y1 - y0), pixel_pitch_mm)
        x, y = grid.x_mm - x_mm, grid.y_mm - y_mm
        shape = (y.shape[0], x.shape[1])
        entry, leave = np.full(shape, -np.inf), np.full(shape, np.inf)
        for (along, across, deep), distance in zip(self.normals.tolist(), self.distances_mm.tolist(), strict=True):
            rest = distance - along * x - across * y
            if abs(deep) < 1e-9:  # the beam runs along this face
                leave[rest < 0] = -np.inf
            elif deep > 0:
                np.minimum(leave, rest / deep, out=leave)
            else:
                np.maximum(entry, rest / deep, out=entry)
        return grid.project(np.where(leave > entry, leave - entry, 0.0))


def crater(
    x_mm: float,
    y_mm: float,
    size_mm: tuple[float, float, float],
    lobes: Float[np.ndarray, "orders 2"],
    pixel_pitch_mm: float,
) -> Projection:
    """Project half an ellipsoid that opens to a surface, with an uneven outline.

    Args:
        x_mm: Its middle along the weld.
        y_mm: Its middle across.
        size_mm: Length, width and height.
        lobes: Weights of ``cos(k a)`` and ``sin(k a)``, k = 2, 3, ...: what the outline's relative radius at the angle
            a has beyond 1. Their absolute sum is below 1.
        pixel_pitch_mm: Pixel pitch.
    """
    length, width, height = size_mm
    turn = np.array([sin_cos_deg(float(angle)) for angle in range(360)])
    outline = _lobed_radius(turn[:, 1], turn[:, 0], lobes)[:, None] * turn[:, ::-1]
    (u0, v0), (u1, v1) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    x, y = (x_mm - length / 2, x_mm + length / 2), (y_mm - width / 2, y_mm + width / 2)
    grid = fine_grid(x, y, min(length, width), pixel_pitch_mm)
    u = u0 + (grid.x_mm - x[0]) * ((u1 - u0) / length)
    v = v0 + (grid.y_mm - y[0]) * ((v1 - v0) / width)
    radius = np.maximum(np.sqrt(u * u + v * v), 1e-12)
    relative = radius / _lobed_radius(u / radius, v / radius, lobes)
    return grid.project(height * np.sqrt(np.maximum(0.0, 1.0 - relative * relative)))


def extents_across_mm(
    middle_mm: Float[np.ndarray, "balls 3"], radius_mm: float | Float[np.ndarray, " balls"] = 0.0
) -> tuple[float, float]:
    """Measure balls or points across the beam: their largest extent, and the extent at a right angle to it."""
    x, y, radius = middle_mm[:, 0], middle_mm[:, 1], np.broadcast_to(radius_mm, len(middle_mm))
    dx, dy = x[:, None] - x[None, :], y[:, None] - y[None, :]
    extent = np.sqrt(dx * dx + dy * dy) + radius[:, None] + radius[None, :]
    first, last = np.unravel_index(int(np.argmax(extent)), extent.shape)
    along, across = float(dx[first, last]), float(dy[first, last])
    norm = math.sqrt(along * along + across * across) or 1.0
    aside = (y * along - x * across) / norm
    return float(extent[first, last]), float((aside + radius).max() - (aside - radius).min())


def _lobed_radius(
    cosine: Float[np.ndarray, "*shape"], sine: Float[np.ndarray, "*shape"], lobes: Float[np.ndarray, "orders 2"]
) -> Float[np.ndarray, "*shape"]:
    """Give the relative radius at angles: 1 and the sum of the lobes, by the recurrence of cos(k a) and sin(k a)."""
    radius = np.ones(np.broadcast_shapes(cosine.shape, sine.shape))
    cos_k, sin_k = cosine, sine
    for weight_cos, weight_sin in lobes.tolist():
        cos_k, sin_k = cos_k * cosine - sin_k * sine, sin_k * cosine + cos_k * sine
        radius = radius + weight_cos * cos_k + weight_sin * sin_k
    return radius


def _dot(a: Float[np.ndarray, "points 3"], b: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " points"]:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _cross(a: Float[np.ndarray, "points 3"], b: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _samples(
    extent_mm: tuple[float, float], per_px: int, pixel_pitch_mm: float
) -> tuple[int, Float[np.ndarray, " samples"]]:
    """Find the first pixel of an extent, and the places of all samples in its pixels."""
    first = math.floor(extent_mm[0] / pixel_pitch_mm)
    pixels = math.floor(extent_mm[1] / pixel_pitch_mm) + 1 - first
    return first, (first + (np.arange(pixels * per_px) + 0.5) / per_px) * pixel_pitch_mm


def _added(parts: list[Float[np.ndarray, "rows columns"]]) -> Float[np.ndarray, "rows columns"]:
    """Add arrays one after the other: NumPy's own sums differ between CPUs."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total

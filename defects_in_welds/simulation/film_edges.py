"""The film's edge in the scan: the cut rim with its fringes, and beyond it no film."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import smooth_curve, uniform
from defects_in_welds.simulation.objects import Box, count_overlaps

SIDES = ("left", "right", "top", "bottom")
# How often each side shows: scans are cut more closely along the film than at its ends.
_SIDE_SHARES = (0.6, 0.4, 0.15, 0.15)


@dataclass(frozen=True, eq=False)
class FilmEdge:
    """A side of the picture at which the film ends.

    Attributes:
        side: Left, right, top or bottom.
        top_px: Row of the strip on the picture.
        left_px: Column of the strip on the picture.
        film_share: Share of the film's grey level that is left in the strip; 0 beyond the edge.
        beyond: Grey level that the scanner gives in the film's place, as a share of full scale.
    """

    side: str
    top_px: int
    left_px: int
    film_share: Float[np.ndarray, "rows columns"]
    beyond: Float[np.ndarray, "rows columns"]

    @property
    def box_xyxy(self) -> Box:
        """Half-open box of the strip, in pixels."""
        rows, columns = self.film_share.shape
        return self.left_px, self.top_px, self.left_px + columns, self.top_px + rows


def draw_film_edges(
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    pixel_pitch_mm: float,
    taken_xyxy: Sequence[Box],
) -> list[FilmEdge]:
    """Draw the film's edges; one that would cover a taken box is left out.

    Args:
        rng: Source of the draws.
        image_hw: Height and width of the picture, in pixels.
        pixel_pitch_mm: Pixel pitch, in mm.
        taken_xyxy: Half-open boxes of flaws and objects, in pixels.
    """
    edges = []
    for side, share in zip(SIDES, _SIDE_SHARES, strict=True):
        if rng.random() < share:
            edge = draw_film_edge(rng, side, image_hw, pixel_pitch_mm)
            if not count_overlaps(edge.box_xyxy, taken_xyxy):
                edges.append(edge)
    return edges


def draw_film_edge(rng: np.random.Generator, side: str, image_hw: tuple[int, int], pixel_pitch_mm: float) -> FilmEdge:
    """Draw a straight edge, a little askew, with a rim darker than the film and fringes parallel to the edge.

    Args:
        rng: Source of the draws.
        side: Left, right, top or bottom.
        image_hw: Height and width of the picture, in pixels.
        pixel_pitch_mm: Pixel pitch, in mm.
    """
    height, width = image_hw
    length = height if side in ("left", "right") else width
    depth_mm, rim_mm = uniform(rng, 0.0, 0.4), uniform(rng, 0.2, 0.8)
    skew = uniform(rng, -0.4, 0.4)
    run = (np.arange(length) + 0.5) / length - 0.5
    edge_mm = depth_mm + skew * run + 0.02 * smooth_curve(rng, length, 10.0 / pixel_pitch_mm)
    strip = max(1, int(np.ceil((depth_mm + 0.5 * abs(skew) + 0.05 + rim_mm) / pixel_pitch_mm)))
    strip = min(strip, width if side in ("left", "right") else height)
    inside_mm = (np.arange(strip) + 0.5) * pixel_pitch_mm - edge_mm[:, None]

    # Fringes: a fine curve over the depth, the same all along the edge, drawn on 64 steps and read off at each pixel.
    darkness, fringes = uniform(rng, 0.25, 0.65), uniform(rng, 0.15, 0.4)
    curve = 1.0 - darkness + fringes * smooth_curve(rng, 65, uniform(rng, 5.0, 9.0))
    rim = curve[np.clip(inside_mm * (64.0 / rim_mm), 0.0, 64.0).astype(np.int64)]
    on_film = np.clip(inside_mm / pixel_pitch_mm + 0.5, 0.0, 1.0)
    clear = np.clip((inside_mm - rim_mm) / pixel_pitch_mm + 0.5, 0.0, 1.0)
    film_share = on_film * (clear + (1.0 - clear) * np.clip(rim, 0.1, 1.0))
    beyond = (1.0 - on_film) * uniform(rng, 0.0, 0.12)
    if side in ("right", "bottom"):
        film_share, beyond = film_share[:, ::-1], beyond[:, ::-1]
    if side in ("top", "bottom"):
        film_share, beyond = film_share.T, beyond.T
    rows, columns = film_share.shape
    return FilmEdge(
        side=side,
        top_px=height - rows if side == "bottom" else 0,
        left_px=width - columns if side == "right" else 0,
        film_share=np.ascontiguousarray(film_share),
        beyond=np.ascontiguousarray(beyond),
    )

"""Flaws as three-dimensional bodies, and the length of the beam inside a body at each pixel.

The beam is parallel and runs along depth. A *projection* is the mean of that length over each pixel, of the body's
exact chord: solids are sampled on a grid finer than the pixels and than the body; thin ribbons are integrated in closed
form across, and sampled along. So a gap thinner than a pixel keeps its volume.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

GAS = "gas"
SLAG = "slag"
TUNGSTEN = "tungsten"
METAL = "metal"  # base metal that is added; every other material takes its place


@dataclass(frozen=True, eq=False)
class FlawBody:
    """A flaw, projected along the beam, on the part of the film that it shades.

    Attributes:
        defect_class: Name of its class, as in the taxonomy.
        material: gas, slag or tungsten in place of base metal, or metal: base metal that is added.
        top_px: First row of the patch on the film.
        left_px: First column of the patch on the film.
        chord_mm: Length of the beam inside the body, mean over each pixel.
        length_mm: Largest extent across the beam; of a group of pores, its extent along the weld.
        width_mm: Extent across the length. Of what follows a line (a crack, an unfused face, an undercut, excess
            penetration) it is that of the cross-section at its widest: a crack's opening.
        height_mm: Extent along the beam. Of a flat flaw it is the extent in its own plane, before the tilt; of a group
            of pores, the largest pore's.
        depth_mm: Depth of its middle below the upper surface, the one that bears the cap: in a pipe, whose weld is on
            the detector's side, the outer one.
        tilt_deg: Angle between a flat flaw's plane and the beam; positive where its deeper side lies further down the
            film, or to the right for a transverse crack.
    """

    defect_class: str
    material: str
    top_px: int
    left_px: int
    chord_mm: Float[np.ndarray, "height width"]
    length_mm: float
    width_mm: float
    height_mm: float
    depth_mm: float
    tilt_deg: float = 0.0

    @property
    def mask(self) -> Bool[np.ndarray, "height width"]:
        """The pixels of the patch that the body shades."""
        return self.chord_mm > 0

    @property
    def area_px(self) -> int:
        """Number of pixels that it shades."""
        return int(np.count_nonzero(self.mask))

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Half-open box of the pixels that it shades, in pixels of the film."""
        mask = self.mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = self.left_px, self.top_px
        return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


@dataclass(frozen=True, eq=False)
class Projection:
    """Chords of a body, anywhere in the object plane, also beyond the film.

    Attributes:
        top_px: First row.
        left_px: First column.
        chord_mm: Length of the beam inside the body, mean over each pixel.
    """

    top_px: int
    left_px: int
    chord_mm: Float[np.ndarray, "height width"]

    def transposed(self) -> "Projection":
        """Swap along and across."""
        return Projection(self.left_px, self.top_px, self.chord_mm.T)

    def at_most(self, chord_mm: float) -> "Projection":
        """Limit the chords: bodies that cross share their metal, where their chords were added."""
        return Projection(self.top_px, self.left_px, np.minimum(self.chord_mm, chord_mm))

    def as_flaw(
        self,
        defect_class: str,
        material: str,
        film_hw: tuple[int, ...],
        *,
        size_mm: tuple[float, float, float],
        depth_mm: float,
        tilt_deg: float = 0.0,
    ) -> FlawBody | None:
        """Make it a flaw on a film.

        Args:
            defect_class: Name of the class.
            material: What the body is made of.
            film_hw: Height and width of the film, in pixels.
            size_mm: Length, width and height.
            depth_mm: Depth of the middle below the upper surface.
            tilt_deg: Tilt of a flat flaw.

        Returns:
            The flaw on its smallest patch, or None where the film's edge would cut it.
        """
        shaded = self.chord_mm > 0
        rows, columns = np.flatnonzero(shaded.any(axis=1)), np.flatnonzero(shaded.any(axis=0))
        if not rows.size:
            return None
        top, bottom = self.top_px + int(rows[0]), self.top_px + int(rows[-1]) + 1
        left, right = self.left_px + int(columns[0]), self.left_px + int(columns[-1]) + 1
        if top < 0 or left < 0 or bottom > film_hw[0] or right > film_hw[1]:
            return None
        chord = np.ascontiguousarray(self.chord_mm[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        return FlawBody(defect_class, material, top, left, chord, *size_mm, depth_mm, tilt_deg)


def merge(projections: Sequence[Projection]) -> Projection:
    """Add the chords of bodies that do not share space."""
    top = min(each.top_px for each in projections)
    left = min(each.left_px for each in projections)
    bottom = max(each.top_px + each.chord_mm.shape[0] for each in projections)
    right = max(each.left_px + each.chord_mm.shape[1] for each in projections)
    chord = np.zeros((bottom - top, right - left))
    for each in projections:
        rows, columns = each.chord_mm.shape
        chord[each.top_px - top :, each.left_px - left :][:rows, :columns] += each.chord_mm
    return Projection(top, left, chord)

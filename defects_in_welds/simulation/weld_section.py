"""A length of weld on a film: how much base metal the beam crosses at each pixel.

Lengths that vary along the weld are smooth curves through random knots at distances in mm, so that the same weld comes
out at any pixel pitch.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import (
    log,
    log_uniform_in,
    smooth_curve,
    smooth_field,
    uniform,
    uniform_in,
)
from defects_in_welds.simulation.weld import Weld, WeldSection

LEAST_TOE_MM = 1e-6
BEAD_WIDTH_MM = 9.0  # wider caps are laid as beads side by side
SEAM_DEPTH = (0.03, 0.12)
LUMP_MM = 4.0
ROLLING_SHARE = 0.004  # of the plate's thickness, well inside the tolerance of EN 10029
SURFACE_MM = 0.015
STRIP_MM = 0.04
MOST_TILT = 0.012
SPATTER_FROM_TOE_MM = (0.5, 20.0)
SPATTER_DIAMETER_MM = (0.4, 3.0)
SPATTER_FLATNESS = (0.3, 1.0)  # height over radius; 1 is half a ball

# Where a bead is reckoned, in half widths from its middle: beside the toes lie strips of disturbed plate surface.
_REACH = 1.5
_STRIP_PEAK = 0.390625  # of (v - 1)(_REACH * _REACH - v) between its zeros
_ROWS_AT_ONCE = 48  # so that temporary arrays stay in the processor's cache
_RIPPLE_STEP_MM = 0.02
_LEAST_SQUARED_COSINE = 0.1  # keeps the weld's height along the beam finite at a pipe's limb


@dataclass(frozen=True)
class _Film:
    """The film that a weld is laid on, and the source of all that varies along it.

    Each curve and field has a generator of its own, so that the number of its knots does not change what follows.
    """

    rng: np.random.Generator
    image_hw: tuple[int, int]
    pitch_mm: float

    def stream(self) -> np.random.Generator:
        return np.random.default_rng(int(self.rng.integers(2**63)))

    def curve(self, *shares_and_knots_mm: tuple[float, float]) -> Float[np.ndarray, " width"]:
        """Draw a sum of smooth curves along the weld, each with its share and the distance of its knots in mm."""
        total = np.zeros(self.image_hw[1])
        for share, knot_mm in shares_and_knots_mm:
            total += share * smooth_curve(self.stream(), self.image_hw[1], knot_mm / self.pitch_mm)
        return total


@dataclass(frozen=True)
class _Ripples:
    """The ripples of a cap or root: arcs, because the pool solidifies later in the middle than at the toes.

    Attributes:
        lead_mm: How far along the weld each bead, of those that lie side by side, is ahead.
        seam: Where the beads meet, in half widths aside from equal shares, at each column.
        seam_depth: Relative depth of the valley between two beads.
        along_mm: Distance along the weld at each column.
        sweep_mm: How far the toes lag behind the middle at each column.
        lean_mm: Half of how far the lower toe lags behind the upper one.
        size: Local size, 0.4 to 1.
        wave: Relative height, at steps of `_RIPPLE_STEP_MM`.
        stray_mm: How far they stray from their arcs.
    """

    lead_mm: Float[np.ndarray, " beads"]
    seam: Float[np.ndarray, " width"]
    seam_depth: float
    along_mm: Float[np.ndarray, " width"]
    sweep_mm: Float[np.ndarray, " width"]
    lean_mm: Float[np.ndarray, " width"]
    size: Float[np.ndarray, " width"]
    wave: Float[np.ndarray, " samples"]
    stray_mm: float


@dataclass(frozen=True)
class _Bead:
    """A cap or a root bead on the film; arrays have a number for each column.

    Attributes:
        centre_mm: Distance of its middle from the film's upper edge.
        half_mm: Half width.
        height_mm: Height in the middle, without ripples.
        skew: How much higher its lower side is.
        fullness: 0 for a parabola, 1 for a shape that is flat in the middle.
        toe_mm: Half the range of heights that the fillet at the toe replaces.
        step_mm: How much metal the step between the plates' surfaces under it adds from above it to below it.
        strip_mm: Depth of the disturbed strips of plate beside it.
        lumps: Relative height of lumps on it.
        ripples: Its ripples.
    """

    centre_mm: Float[np.ndarray, " width"]
    half_mm: Float[np.ndarray, " width"]
    height_mm: Float[np.ndarray, " width"]
    skew: Float[np.ndarray, " width"]
    fullness: Float[np.ndarray, " width"]
    toe_mm: float
    step_mm: Float[np.ndarray, " width"]
    strip_mm: Float[np.ndarray, " width"]
    lumps: float
    ripples: _Ripples


def section_of(weld: Weld, rng: np.random.Generator, image_hw: tuple[int, int], pixel_pitch_mm: float) -> WeldSection:
    """Lay a length of the weld across a film.

    Args:
        weld: The weld.
        rng: Source of the variation along the weld, and of its place on the film.
        image_hw: Film height and width, in pixels.
        pixel_pitch_mm: Pixel pitch, in mm.

    References:
        ISO 17636-2, double wall single image; ISO 6520-1, 507 for linear misalignment and 602 for spatter.
    """
    film = _Film(rng, image_hw, pixel_pitch_mm)
    walls_mm, slant = _walls(weld, film)
    thickness_mm = _plate_surface(film, weld.plate_mm)
    cap, root = _draw_beads(film, weld, (np.cumsum(slant) - slant / 2.0) * pixel_pitch_mm)
    for bead in (cap, root):
        _add_bead(thickness_mm, bead, film)
    _add_spatter(thickness_mm, weld, cap, film)
    thickness_mm *= slant
    thickness_mm += walls_mm
    np.maximum(thickness_mm, 0.0, out=thickness_mm)
    return WeldSection(weld, pixel_pitch_mm, thickness_mm, cap.centre_mm, cap.half_mm, root.half_mm)


def _walls(weld: Weld, film: _Film) -> tuple[Float[np.ndarray, " width"], Float[np.ndarray, " width"]]:
    """Give the nominal metal along the beam at each column, and how much longer than radial its way through a wall is.

    The walls of a pipe are the chord through a cylinder less that through its bore.
    """
    width = film.image_hw[1]
    if weld.pipe_diameter_mm is None:
        return np.full(width, weld.plate_mm), np.ones(width)
    x_mm = (np.arange(width) + 0.5 - width / 2.0) * film.pitch_mm
    outer_mm = weld.pipe_diameter_mm / 2.0
    inner_mm = outer_mm - weld.plate_mm
    outer = np.maximum(0.0, outer_mm * outer_mm - x_mm * x_mm)
    inner = np.maximum(0.0, inner_mm * inner_mm - x_mm * x_mm)
    slant = 1.0 / np.sqrt(np.maximum(_LEAST_SQUARED_COSINE, outer / (outer_mm * outer_mm)))
    return 2.0 * (np.sqrt(outer) - np.sqrt(inner)), np.where(outer > 0.0, slant, 0.0)


def _plate_surface(film: _Film, plate_mm: float) -> Float[np.ndarray, "height width"]:
    """Draw what the plate has more or less than its nominal thickness: rolled waves, and unevenness like mill scale."""
    surface_mm = smooth_field(film.stream(), film.image_hw, 7.0 / film.pitch_mm)
    surface_mm *= SURFACE_MM
    across = smooth_curve(film.stream(), film.image_hw[0], 30.0 / film.pitch_mm)
    surface_mm += (ROLLING_SHARE * plate_mm * across)[:, None]
    surface_mm += ROLLING_SHARE * plate_mm * film.curve((1.0, 50.0))
    return surface_mm


def _draw_beads(film: _Film, weld: Weld, along_mm: Float[np.ndarray, " width"]) -> tuple[_Bead, _Bead]:
    """Draw cap and root bead (X: second cap); what lies between the plates' surfaces slopes from one to the other."""
    slow, quick = film.curve((0.75, 22.0), (0.25, 6.0)), film.curve((0.6, 12.0), (0.4, 3.0))
    centre_mm = _middle(film, weld) + weld.weaving_mm * slow
    misaligned = 1.0 + 0.3 * film.curve((1.0, 60.0))
    cap = _draw_bead(
        film,
        weld,
        along_mm,
        centre_mm,
        size_mm=(weld.cap_width_mm, weld.cap_height_mm),
        step_mm=(weld.thickness_step_mm - weld.misalignment_mm) * misaligned,
        fullness=weld.fullness,
        unevenness=weld.unevenness,
    )
    is_cap = weld.preparation == "X"
    root = _draw_bead(
        film,
        weld,
        along_mm,
        # The arc is led along the groove, which the root follows more closely than the cap.
        centre_mm + (0.5 if is_cap else 0.3) * weld.weaving_mm * quick,
        size_mm=(weld.root_width_mm, weld.root_height_mm),
        step_mm=weld.misalignment_mm * misaligned,
        fullness=weld.fullness if is_cap else 0.0,
        # A root bead hangs free, where a cap lies on metal.
        unevenness=weld.unevenness if is_cap else 2.0 * weld.unevenness,
    )
    return cap, root


def _middle(film: _Film, weld: Weld) -> Float[np.ndarray, " width"]:
    """Draw a straight line on which the weld lies: nearly along the film, and with the cap on the film if it fits."""
    height, width = film.image_hw
    spare_mm = max(0.0, height * film.pitch_mm - weld.cap_width_mm) / 2.0
    offset_mm = 0.4 * spare_mm * uniform(film.rng, -1.0, 1.0)
    tilt_mm = min(0.2 * spare_mm, MOST_TILT * width * film.pitch_mm / 2.0) * uniform(film.rng, -1.0, 1.0)
    return height * film.pitch_mm / 2.0 + offset_mm + tilt_mm * (2.0 * (np.arange(width) + 0.5) / width - 1.0)


def _draw_bead(
    film: _Film,
    weld: Weld,
    along_mm: Float[np.ndarray, " width"],
    centre_mm: Float[np.ndarray, " width"],
    *,
    size_mm: tuple[float, float],
    step_mm: Float[np.ndarray, " width"],
    fullness: float,
    unevenness: float,
) -> _Bead:
    """Draw a cap or root bead of a width and height around a middle."""
    width_mm, height_mm = max(size_mm[0], film.pitch_mm), size_mm[1]
    slope = 4.0 * height_mm / width_mm
    # On film a bead changes more in height, where filler piles up, than in width, which the groove holds.
    width_change = unevenness * film.curve((0.35, 20.0), (0.15, 6.0), (0.05, 2.0))
    height_change = unevenness * film.curve((0.8, 25.0), (0.3, 9.0), (0.1, 3.0))
    return _Bead(
        centre_mm=centre_mm + 0.15 * unevenness * width_mm * film.curve((0.8, 6.0), (0.2, 2.0)),
        half_mm=width_mm / 2.0 * np.maximum(0.25, 1.0 + width_change),
        height_mm=height_mm * np.maximum(0.0, 1.0 + height_change),
        skew=film.curve((0.2, 40.0), (0.1, 10.0)),
        fullness=fullness + film.curve((0.1, 25.0)),
        # The fillet of a radius r between the plate and a flank of slope s ends r s s / 2 above the plate.
        toe_mm=max(min(weld.toe_radius_mm * slope * slope / 2.0, 0.2 * height_mm), LEAST_TOE_MM),
        step_mm=step_mm,
        strip_mm=STRIP_MM * (0.5 + 0.5 * film.curve((0.5, 15.0), (0.5, 4.0))),
        lumps=0.25 * unevenness,
        ripples=_draw_ripples(film, weld, along_mm, width_mm, unevenness),
    )


def _draw_ripples(
    film: _Film, weld: Weld, along_mm: Float[np.ndarray, " width"], width_mm: float, unevenness: float
) -> _Ripples:
    """Draw ripples: their sweep follows from the speed of welding, their lean from the angle of the torch."""
    beads = max(1, int(np.rint(width_mm / BEAD_WIDTH_MM)))
    bead_mm = width_mm / beads
    sweep_mm, lean_mm = uniform(film.rng, 0.15, 0.45) * bead_mm, uniform(film.rng, -0.12, 0.12) * bead_mm
    # An arc's toes stay within the wave: their lag is below two widths of a bead.
    margin_mm = 2.0 * bead_mm + 2.0 * weld.ripple_mm
    lead_mm = margin_mm + 97.0 * weld.ripple_mm * np.arange(beads)
    length_mm = float(along_mm[-1]) + float(lead_mm[-1]) + margin_mm
    wave = weld.ripple_height * _irregular_wave(film.stream(), length_mm, weld.ripple_mm)
    # Arcs several ripples apart too: a welder's hand and electrode lay the filler unevenly.
    wave += 0.35 * unevenness * _irregular_wave(film.stream(), length_mm, 3.0 + 2.0 * weld.ripple_mm)
    return _Ripples(
        lead_mm=lead_mm,
        seam=film.curve((0.15, 25.0), (0.05, 5.0)) / beads,
        seam_depth=0.0 if beads == 1 else uniform_in(film.rng, SEAM_DEPTH),
        along_mm=along_mm,
        sweep_mm=sweep_mm * (1.0 + 0.3 * film.curve((0.7, 20.0), (0.3, 6.0))),
        lean_mm=lean_mm + 0.05 * bead_mm * film.curve((1.0, 15.0)),
        size=0.7 + 0.3 * film.curve((0.6, 25.0), (0.4, 7.0)),
        wave=wave,
        stray_mm=0.6 * weld.ripple_mm,
    )


def _irregular_wave(rng: np.random.Generator, length_mm: float, wavelength_mm: float) -> Float[np.ndarray, " samples"]:
    """Draw crests and troughs of random height at random distances, and join them by cubics that are level there.

    Args:
        rng: Source of the crests and troughs.
        length_mm: Length of the wave, in mm.
        wavelength_mm: Mean distance of crests, in mm; each differs from it by up to 60 %.

    Returns:
        Heights between -1 and 1, at steps of `_RIPPLE_STEP_MM`.
    """
    count = math.ceil(length_mm / (0.4 * wavelength_mm / 2.0)) + 2
    drift = 0.15 * smooth_curve(rng, count, 10.0)
    distance_mm = wavelength_mm / 2.0 * (1.0 + np.clip(drift + 0.45 * (2.0 * rng.random(count) - 1.0), -0.6, 0.6))
    place_mm = np.cumsum(distance_mm) - distance_mm[0]
    height = 0.25 + 0.75 * rng.random(count)
    height[1::2] *= -1.0
    x_mm = np.arange(math.ceil(length_mm / _RIPPLE_STEP_MM)) * _RIPPLE_STEP_MM
    left = np.searchsorted(place_mm, x_mm, side="right") - 1
    t = (x_mm - place_mm[left]) / (place_mm[left + 1] - place_mm[left])
    return height[left] + (height[left + 1] - height[left]) * (t * t * (3.0 - 2.0 * t))


def _add_bead(thickness_mm: Float[np.ndarray, "height width"], bead: _Bead, film: _Film) -> None:
    """Add a bead to the thickness, a few rows at a time."""
    height, width = film.image_hw
    reach_mm = _REACH * float(bead.half_mm.max())
    first = max(0, math.floor((float(bead.centre_mm.min()) - reach_mm) / film.pitch_mm))
    last = min(height, math.ceil((float(bead.centre_mm.max()) + reach_mm) / film.pitch_mm))
    thickness_mm[:first] -= bead.step_mm / 2.0
    thickness_mm[last:] += bead.step_mm / 2.0
    lumps = smooth_field(film.stream(), (last - first, width), LUMP_MM / film.pitch_mm)
    for top in range(first, last, _ROWS_AT_ONCE):
        rows = slice(top, min(top + _ROWS_AT_ONCE, last))
        y_mm = (np.arange(rows.start, rows.stop) + 0.5) * film.pitch_mm
        across = (y_mm[:, None] - bead.centre_mm) / bead.half_mm
        thickness_mm[rows] += _bead_height(
            bead, np.clip(across, -_REACH, _REACH, out=across), lumps[rows.start - first : rows.stop - first]
        )


def _bead_height(
    bead: _Bead, u: Float[np.ndarray, "rows width"], lump: Float[np.ndarray, "rows width"]
) -> Float[np.ndarray, "rows width"]:
    """Give the metal that a bead adds to the sound plate.

    The profile (1 - u u)(1 + skew u + fullness u u) and the ripples on it meet the plate in a fillet, a parabola. The
    ripples end at the toes too, which makes these scalloped.

    Args:
        bead: The bead.
        u: Distance from its middle in half widths, within `_REACH`.
        lump: Lumps between about -1 and 1.
    """
    square = u * u
    profile = bead.fullness * square
    profile += bead.skew * u
    profile += 1.0
    profile *= 1.0 - square
    ripple = _ripple_height(bead.ripples, u, lump)
    ripple += bead.lumps * lump
    ripple *= 1.0 - 0.5 * square
    profile += ripple
    profile *= bead.height_mm

    toe = 2.0 * bead.toe_mm
    profile += bead.toe_mm
    fillet = np.clip(profile, 0.0, toe)
    fillet *= fillet
    fillet /= 2.0 * toe
    profile -= toe
    added = np.maximum(profile, 0.0, out=profile)
    added += fillet

    # The plate's surface slopes from one side to the other under the bead.
    slope = np.clip(u, -1.0, 1.0)
    slope *= 0.75 - 0.25 * slope * slope
    slope *= bead.step_mm
    added += slope
    # Ground, heated and spattered strips beside the toes.
    strip = np.maximum(0.0, (square - 1.0) * (_REACH * _REACH - square))
    strip *= strip
    strip *= bead.strip_mm / (_STRIP_PEAK * _STRIP_PEAK)
    added -= strip
    return added


def _ripple_height(
    ripples: _Ripples,
    u: Float[np.ndarray, "rows width"],
    lump: Float[np.ndarray, "rows width"],
) -> Float[np.ndarray, "rows width"]:
    """Read off the wave where each pixel's arc meets its bead's middle; beads side by side meet in valleys."""
    beads, lead_mm = len(ripples.lead_mm), ripples.lead_mm[0]
    if beads > 1:
        share = np.clip((u + (1.0 + ripples.seam)) * (beads / 2.0), 0.0, beads)
        bead = np.minimum(share.astype(np.int64), beads - 1)
        u = 2.0 * (share - bead) - 1.0
        lead_mm = ripples.lead_mm[bead]
    square = u * u
    place = ripples.sweep_mm * square
    place += ripples.lean_mm * u
    place += ripples.stray_mm * lump
    place += ripples.along_mm
    place += lead_mm
    place *= 1.0 / _RIPPLE_STEP_MM
    left = place.astype(np.int64)  # positive, so that this is the floor
    place -= left
    height = ripples.wave[left]
    height += place * np.diff(ripples.wave, append=0.0)[left]
    height *= ripples.size + 0.3 * lump
    if beads > 1:
        valley = square * square * (3.0 - 2.0 * square)
        height -= valley * (height + ripples.seam_depth)
    return height


def _add_spatter(thickness_mm: Float[np.ndarray, "height width"], weld: Weld, cap: _Bead, film: _Film) -> None:
    """Add drops of metal beside the weld at random distances along it: a Poisson process."""
    rng, x_mm, end_mm = film.stream(), 0.0, film.image_hw[1] * film.pitch_mm
    while weld.spatter_per_100_mm > 0.0:
        x_mm -= log(1.0 - rng.random()) * 100.0 / weld.spatter_per_100_mm
        side, from_toe_mm = (-1.0 if rng.random() < 0.5 else 1.0), log_uniform_in(rng, SPATTER_FROM_TOE_MM)
        radius_mm, flatness = log_uniform_in(rng, SPATTER_DIAMETER_MM) / 2.0, uniform_in(rng, SPATTER_FLATNESS)
        stretch = uniform(rng, 0.8, 1.25)
        if x_mm >= end_mm:
            return
        column = int(x_mm / film.pitch_mm)
        y_mm = float(cap.centre_mm[column]) + side * (float(cap.half_mm[column]) + from_toe_mm)
        _add_drop(thickness_mm, (x_mm, y_mm), (radius_mm * stretch, radius_mm / stretch), radius_mm * flatness, film)


def _add_drop(
    thickness_mm: Float[np.ndarray, "height width"],
    middle_xy_mm: tuple[float, float],
    radius_xy_mm: tuple[float, float],
    drop_height_mm: float,
    film: _Film,
) -> None:
    """Add a cap of a ball, stretched to an ellipse."""
    axes_mm, windows = [], []
    for middle_mm, radius_mm, samples in zip(middle_xy_mm, radius_xy_mm, film.image_hw[::-1], strict=True):
        first = min(max(0, math.floor((middle_mm - radius_mm) / film.pitch_mm)), samples)
        last = max(min(samples, math.ceil((middle_mm + radius_mm) / film.pitch_mm)), first)
        axes_mm.append(((np.arange(first, last) + 0.5) * film.pitch_mm - middle_mm) / radius_mm)
        windows.append(slice(first, last))
    square = axes_mm[0] * axes_mm[0] + (axes_mm[1] * axes_mm[1])[:, None]
    # Of radius 1 at its foot, the ball's radius in units of the drop's height follows from Pythagoras.
    mean_mm = (radius_xy_mm[0] + radius_xy_mm[1]) / 2.0
    ball_mm = (mean_mm * mean_mm + drop_height_mm * drop_height_mm) / (2.0 * drop_height_mm)
    top_mm = np.sqrt(np.maximum(0.0, ball_mm * ball_mm - mean_mm * mean_mm * square))
    thickness_mm[windows[1], windows[0]] += np.maximum(0.0, top_mm - (ball_mm - drop_height_mm))

"""Simulated flaws on one real film.

A flaw changes the exposure of the film behind it by the ratio of what the beam sends through the weld with and without
it. Exposure above fog is proportional to the white level less the grey level, for the density of a film is nearly
linear in its exposure and the scanner's grey levels in density. So the smooth part of the film is multiplied by that
ratio, and the film's own noise, which goes with the square root of the exposure, by its root.

References:
    Tyystjärvi et al. 2022, Welding in the World 66, 643 (virtual flaws in radiographs of welds).
    ISO 11699-1 (industrial X-ray film: density against exposure, granularity).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from defects_in_welds.params.simulate import FilmParams, SimulateParams, WeldParams
from defects_in_welds.radiograph import Radiograph
from defects_in_welds.simulation.beam import METAL, Beam, draw_beam
from defects_in_welds.simulation.bodies import FlawBody
from defects_in_welds.simulation.detector import detector_blur_px
from defects_in_welds.simulation.exact_math import blur, uniform_in, wide_blur
from defects_in_welds.simulation.film_measurement import ROUNDING_NOISE, Band, Noise, Pixels, unexposed_level
from defects_in_welds.simulation.imaging import Visibility
from defects_in_welds.simulation.objects import Box
from defects_in_welds.simulation.scene import draw_flaws
from defects_in_welds.simulation.weld import WeldSection, draw_weld

_SMOOTHED_OVER_PX = 5.0  # beyond the reach of the noise's own correlation, within that of the weld's slopes
_WELDS_TRIED = 24
_LEAST_GRANULARITY = 1e-3
_NORMAL_RESOLUTION_MM = 0.0886
_MOST_CLIPPED_SHARE = 0.02
_STD_OVER_MEDIAN = 1.4826  # of normal noise: standard deviation over the median of its size


@dataclass(frozen=True, eq=False)
class RealFilm:
    """A real film and what was measured on it.

    Attributes:
        radiograph: Its pixels.
        pixel_pitch_mm: Distance of neighbouring pixels.
        band: Where its weld lies.
        noise: Its noise.
        edge_blur_mm: Standard deviation of the Gaussian that blurs its edges; None where it has no edge to tell.
    """

    radiograph: Radiograph
    pixel_pitch_mm: float
    band: Band
    noise: Noise
    edge_blur_mm: float | None

    @property
    def full_scale(self) -> int:
        """Highest level that the film's own bits can hold, where a 16-bit file may hold fewer."""
        highest = self.radiograph.highest_stored_level
        return int(2 ** (self.radiograph.bit_depth if highest is None else max(highest.bit_length(), 8)) - 1)


@dataclass(frozen=True, eq=False)
class Exposure:
    """How a film could have been taken: drawn for each copy of it.

    Attributes:
        section: A weld in the place of the film's.
        beam: The beam.
        white_level: Grey level of the unexposed film.
        blur_px: Standard deviation of the blur of a flaw's image.
    """

    section: WeldSection
    beam: Beam
    white_level: float
    blur_px: float


@dataclass(frozen=True, eq=False)
class ImplantedFilm:
    """A copy of a film with virtual flaws.

    Attributes:
        pixels: Grey levels in the film's own bit depth.
        flaws: The virtual flaws.
        visibilities: How each shows.
        exposure: How the film is taken to have been taken.
    """

    pixels: Pixels
    flaws: tuple[FlawBody, ...]
    visibilities: tuple[Visibility, ...]
    exposure: Exposure


def implant_film(
    film: RealFilm, marked_xyxy: Sequence[Box], params: SimulateParams, rng: np.random.Generator
) -> ImplantedFilm:
    """Put flaws into a copy of a film, clear of those that it has; none where the film is plain black or white.

    Args:
        film: The film.
        marked_xyxy: Half-open boxes of the flaws that it has, in pixels.
        params: Beam, weld and flaws that are drawn.
        rng: Source of the draws.
    """
    exposure = draw_exposure(film, params, rng)
    drawn = draw_flaws(rng, exposure.section, params.flaws, marked_xyxy)
    flaws = tuple(flaw for flaw in drawn if _has_levels(film, flaw))
    pixels = film.radiograph.pixels.copy()
    visibilities = tuple(implant_flaw(pixels, flaw, exposure, film.full_scale) for flaw in flaws)
    return ImplantedFilm(pixels, flaws, visibilities, exposure)


def draw_exposure(film: RealFilm, params: SimulateParams, rng: np.random.Generator) -> Exposure:
    """Draw the weld and the beam that a film could have been taken with.

    A flaw is as blurred as the film's edges, but not sharper than its grain: where grain is correlated over several
    pixels, the scanner or a filter has blurred everything.
    """
    section = draw_section(film, params.weld, rng)
    beam = draw_beam(rng, params.beam, section.weld.material, section.weld.nominal_path_mm)
    edge_blur_px = _edge_blur_px(film, beam, uniform_in(rng, params.film.scanner_unsharpness_mm))
    blur_px = max(film.noise.blur_px, edge_blur_px)
    return Exposure(section, beam, white_level(film, params.film, blur_px, rng), blur_px)


def _edge_blur_px(film: RealFilm, beam: Beam, drawn_unsharpness_mm: float) -> float:
    """Take the blur of the film's edges, or what the drawn beam, film and scanner make where it has none."""
    if film.edge_blur_mm is not None:
        return film.edge_blur_mm / film.pixel_pitch_mm
    scanner_px = detector_blur_px(drawn_unsharpness_mm, film.pixel_pitch_mm)
    focal_px = beam.focal_blur_mm / film.pixel_pitch_mm
    return float(np.sqrt(scanner_px * scanner_px + focal_px * focal_px))


def draw_section(film: RealFilm, params: WeldParams, rng: np.random.Generator) -> WeldSection:
    """Draw a weld as wide as the film's, and lay it where the film's lies.

    Of several drawn welds the one with the nearest width is taken, so that the plate's thickness suits it; the rest of
    the difference goes into the groove.
    """
    pitch_mm, band = film.pixel_pitch_mm, film.band
    width_mm = 2 * float(np.median(band.half_width_px)) * pitch_mm
    drawn = [draw_weld(rng, params) for _ in range(_WELDS_TRIED)]
    weld = min(drawn, key=lambda weld: abs(weld.cap_width_mm - width_mm))
    narrower = min(1.0, width_mm / weld.cap_width_mm)
    weld = replace(
        weld,
        cap_width_mm=width_mm,
        groove_tan=weld.groove_tan * narrower,
        narrowest_mm=weld.narrowest_mm * narrower,
        root_width_mm=weld.root_width_mm * narrower,
    )
    cap_half_mm = band.half_width_px * pitch_mm
    root_half_mm = np.full_like(cap_half_mm, weld.root_width_mm / 2)
    centre_mm = band.centre_px * pitch_mm
    thickness_mm = np.full(film.radiograph.image_hw, weld.nominal_path_mm)
    first = max(0, int(np.floor((band.centre_px - band.half_width_px).min())))
    rows = slice(first, int(np.ceil((band.centre_px + band.half_width_px).max())))
    reinforced = thickness_mm[rows]
    off_middle_mm = (np.arange(first, first + len(reinforced)) + 0.5)[:, None] * pitch_mm - centre_mm
    for height_mm, half_mm in ((weld.cap_height_mm, cap_half_mm), (weld.root_height_mm, root_half_mm)):
        share = off_middle_mm / np.maximum(half_mm, pitch_mm)
        reinforced += height_mm * np.maximum(1 - share * share, 0)
    return WeldSection(weld, pitch_mm, thickness_mm, centre_mm, cap_half_mm, root_half_mm)


def white_level(film: RealFilm, params: FilmParams, blur_px: float, rng: np.random.Generator) -> float:
    """Estimate the grey level of the unexposed film, from which exposure counts.

    Scanned films are stretched by eye over the levels that a file has, and fog is mostly not among them. A film whose
    exposure varies along it tells its white (``unexposed_level``). Of others the noise tells: the exposure behind the
    weld is the noise times the signal-to-noise ratio, which a film's granularity g and density d above fog settle. With
    the noise as the square root of the density, its ratio to d is sqrt(2 d) / g, for g is measured at density 2 through
    an aperture of 0.1 mm, and so for a spatial resolution of 88.6 um. Nothing on the film is lighter than white.

    Args:
        film: The film.
        params: Ranges of density and granularity.
        blur_px: Standard deviation of the film's blur, in pixels.
        rng: Source of the draws.

    References:
        ISO 11699-1 (granularity), EN ISO 17636-2 (normalised signal-to-noise ratio).
    """
    density = uniform_in(rng, params.density) - params.fog_density
    normalised_snr = np.sqrt(2 * density) / max(uniform_in(rng, params.granularity), _LEAST_GRANULARITY)
    resolution_mm = max(1.0, np.sqrt(2) * blur_px) * film.pixel_pitch_mm
    weld_level = float(np.median(film.band.weld_levels))
    from_noise = weld_level + normalised_snr * resolution_mm / _NORMAL_RESOLUTION_MM * film.noise.level
    measured = unexposed_level(film.band)
    return max(float(film.radiograph.pixels.max()), float(from_noise) if measured is None else measured)


def _has_levels(film: RealFilm, flaw: FlawBody) -> bool:
    """Tell whether a film is neither black nor white at a place."""
    x0, y0, x1, y1 = flaw.box_xyxy
    levels = film.radiograph.pixels[y0:y1, x0:x1]
    return bool(((levels == 0) | (levels == film.full_scale)).mean() <= _MOST_CLIPPED_SHARE)


def implant_flaw(pixels: Pixels, flaw: FlawBody, exposure: Exposure, full_scale: int) -> Visibility:
    """Put a flaw into a film, in place.

    Args:
        pixels: Grey levels of the film. Those that the flaw's blurred image does not reach stay as they are.
        flaw: The flaw.
        exposure: Beam, thickness, white level and blur.
        full_scale: Highest grey level.

    Returns:
        How the flaw shows; the noise is that of its surroundings, of which what is no noise counts little.
    """
    place = np.s_[
        flaw.top_px : flaw.top_px + flaw.chord_mm.shape[0], flaw.left_px : flaw.left_px + flaw.chord_mm.shape[1]
    ]
    ratio = exposure_ratio(flaw, exposure.section.thickness_mm[place], exposure.beam, exposure.blur_px)
    margin = (ratio.shape[0] - flaw.chord_mm.shape[0]) // 2
    rows, rows_of_ratio = _overlap(flaw.top_px - margin, ratio.shape[0], pixels.shape[0])
    columns, columns_of_ratio = _overlap(flaw.left_px - margin, ratio.shape[1], pixels.shape[1])
    ratio = ratio[rows_of_ratio, columns_of_ratio]

    smooth = smooth_part(pixels, rows, columns)
    levels = pixels[rows, columns]
    noise = levels - smooth
    changed = exposure.white_level - (exposure.white_level - smooth) * ratio + noise * np.sqrt(ratio)
    pixels[rows, columns] = np.where(ratio == 1, levels, np.clip(np.rint(changed), 0, full_scale)).astype(pixels.dtype)

    change = np.abs((exposure.white_level - smooth) * (ratio - 1)).max()
    deviation = max(_STD_OVER_MEDIAN * float(np.median(np.abs(noise))), ROUNDING_NOISE)
    contrast = (ratio - 1).flat[np.argmax(np.abs(ratio - 1))]
    return Visibility(contrast=float(contrast), cnr=float(change) / deviation)


def exposure_ratio(
    flaw: FlawBody, path_mm: Float[np.ndarray, "rows columns"], beam: Beam, blur_px: float
) -> Float[np.ndarray, "rows_and_margins columns_and_margins"]:
    """Compute by what a flaw multiplies the exposure of the film behind it.

    Primary radiation changes by T(path with the flaw) / T(path), T being the beam's transmission; scattered radiation,
    k times the primary, does not. The ratio is blurred.

    Args:
        flaw: The flaw.
        path_mm: Base metal along the beam without the flaw, over the flaw's patch.
        beam: The beam.
        blur_px: Standard deviation of the blur, in pixels.

    Returns:
        The ratio over the patch and a margin on all sides, as wide as the blur reaches; 1 where nothing changes.
    """
    added_mm = flaw.chord_mm if flaw.material == METAL else flaw.chord_mm * (beam.equivalent_mm(flaw.material) - 1)
    change = beam.transmit(path_mm + added_mm) / beam.transmit(path_mm) - 1
    blurred = blur(np.pad(change, int(np.ceil(3 * blur_px))), blur_px)
    return 1 + blurred / (1 + beam.scatter_ratio)


def smooth_part(pixels: Pixels, rows: slice, columns: slice) -> Float[np.ndarray, "rows columns"]:
    """Blur a part of a film so widely that its noise is gone; what lies around the part counts."""
    around = 3 * int(np.ceil(_SMOOTHED_OVER_PX))
    wide = [slice(max(part.start - around, 0), part.stop + around) for part in (rows, columns)]
    blurred = wide_blur(pixels[wide[0], wide[1]].astype(np.float64), _SMOOTHED_OVER_PX)
    inner = [
        slice(part.start - outer.start, part.stop - outer.start)
        for part, outer in zip((rows, columns), wide, strict=True)
    ]
    return blurred[inner[0], inner[1]]


def _overlap(start: int, length: int, limit: int) -> tuple[slice, slice]:
    """Find the part of a film that a stretch covers, and the part of the stretch that lies on the film."""
    first, end = max(start, 0), min(start + length, limit)
    return slice(first, end), slice(first - start, end - start)

"""A radiographic film and its scanner: density, grain, and what marks the film and the scanner leave."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt16

from defects_in_welds.params.simulate import FilmParams
from defects_in_welds.simulation.beam import look_up
from defects_in_welds.simulation.detector import FULL_SCALE, detector_blur_px, noise_gain, to_pixels
from defects_in_welds.simulation.exact_math import blur, exp, log, normal_noise, uniform_in
from defects_in_welds.simulation.film_edges import FilmEdge
from defects_in_welds.simulation.film_marks import FilmMark, draw_film_marks

# Net density of a film of which every grain is developed. With it the gradients at net densities 2 and 4 are 4.05 and
# 6.77, the least that ISO 11699-1 asks of class C4 are 4.1 and 6.8.
MOST_DENSITY = 9.0

_GRANULARITY_DENSITY = 2.0
_APERTURE_RADIUS_MM = 0.05
_DOSE_STEP = 1.0 / 512.0
_DOSE_KNOTS = 4097
# Share of the scanner noise's variance that the pixels of a column have in common.
_COLUMN_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Film:
    """An exposed, developed and scanned film.

    Attributes:
        pixel_pitch_mm: Pixel pitch in the film's plane.
        density: Density behind the sound plate, fog included.
        plate_signal: Signal behind the sound plate, relative to the open beam.
        fog_density: Density of the unexposed, developed film.
        granularity: Standard deviation of the density at 2 above fog, seen through a circular aperture of 0.1 mm.
        grain_mm: Distance at which the grain's autocorrelation has fallen to 1/e.
        unsharpness_mm: Unsharpness of film and scanner together, twice the basic spatial resolution.
        scanner_noise: Standard deviation of the scanner's noise, as a share of full scale.
        density_range: Density that the scanner shows as black; 0 is white.
        marks: Marks of scanner and handling.
        edges: The film's edges in the picture.
    """

    pixel_pitch_mm: float
    density: float
    plate_signal: float
    fog_density: float
    granularity: float
    grain_mm: float
    unsharpness_mm: float
    scanner_noise: float
    density_range: float
    marks: Sequence[FilmMark] = ()
    edges: Sequence[FilmEdge] = ()

    @property
    def blur_px(self) -> float:
        """Standard deviation of the blur of film and scanner, in pixels."""
        return detector_blur_px(self.unsharpness_mm, self.pixel_pitch_mm)

    @property
    def grain_blur_px(self) -> float:
        """Standard deviation of the Gaussian that turns white noise into scanned grain, in pixels."""
        grain_px = self.grain_mm / (2.0 * self.pixel_pitch_mm)
        return float(np.sqrt(grain_px * grain_px + self.blur_px * self.blur_px))

    @property
    def grey_per_density(self) -> float:
        """Grey levels that a density of 1 takes away."""
        return FULL_SCALE / self.density_range

    def render(self, signal: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Blur, expose and scan: noise-free grey levels, linear in density.

        Film and scanner blur the exposure in one: true of the film; of the scanner for contrasts small enough that
        density is linear in exposure.

        Args:
            signal: What reaches the film, relative to the open beam.
        """
        dose = blur(signal, self.blur_px)
        grey = look_up(_exposed_shares(), dose, _DOSE_STEP / self._dose_per_signal)
        grey *= -MOST_DENSITY * self.grey_per_density
        grey += FULL_SCALE - self.fog_density * self.grey_per_density
        return grey

    def density_of(self, grey: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Convert grey levels to the density that the scanner has read."""
        return (FULL_SCALE - grey) * (1.0 / self.grey_per_density)

    def noise_std(self, grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Compute the noise's standard deviation in grey levels, at noise-free grey levels."""
        grain = self._grain_grey(grey)
        grain *= noise_gain(self.grain_blur_px)
        scanner = FULL_SCALE * self.scanner_noise
        grain *= grain
        grain += scanner * scanner
        return np.sqrt(grain, out=grain)

    def read_out(
        self, grey: Float[np.ndarray, "height width"], rng: np.random.Generator
    ) -> UInt16[np.ndarray, "height width"]:
        """Add grain, marks, the scanner's noise and the film's edges.

        Args:
            grey: Noise-free grey levels.
            rng: Source of the noise.
        """
        noisy = blur(normal_noise(rng, grey.shape), self.grain_blur_px)
        noisy *= self._grain_grey(grey)
        noisy += grey
        for mark in self.marks:
            rows, columns = mark.density.shape
            place = noisy[mark.top_px : mark.top_px + rows, mark.left_px : mark.left_px + columns]
            place -= mark.density * self.grey_per_density
        for edge in self.edges:
            rows, columns = edge.film_share.shape
            place = noisy[edge.top_px : edge.top_px + rows, edge.left_px : edge.left_px + columns]
            place *= edge.film_share
            place += FULL_SCALE * edge.beyond
        scanner = normal_noise(rng, grey.shape)
        scanner *= FULL_SCALE * self.scanner_noise * float(np.sqrt(1.0 - _COLUMN_SHARE))
        noisy += scanner
        noisy += FULL_SCALE * self.scanner_noise * float(np.sqrt(_COLUMN_SHARE)) * normal_noise(rng, (grey.shape[1],))
        return to_pixels(noisy)

    @property
    def _dose_per_signal(self) -> float:
        """Mean number of hits of a grain for a signal of 1, such that the plate has its density."""
        return -log(1.0 - (self.density - self.fog_density) / MOST_DENSITY) / self.plate_signal

    def _grain_grey(self, grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Standard deviation, in grey levels, of the white noise that is blurred to grain."""
        net = self.density_of(grey)
        net -= self.fog_density
        np.maximum(net, 0.0, out=net)
        np.sqrt(net, out=net)
        power = grain_power(self.granularity, self.grain_mm) / _GRANULARITY_DENSITY
        net *= self.grey_per_density * float(np.sqrt(power)) / self.pixel_pitch_mm
        return net


def draw_film(
    rng: np.random.Generator,
    params: FilmParams,
    *,
    image_hw: tuple[int, int],
    pixel_pitch_mm: float,
    plate_signal: float,
    edges: Sequence[FilmEdge] = (),
) -> Film:
    """Draw a film, how it is exposed and scanned, and its marks.

    Args:
        rng: Source of the draws.
        params: Their ranges.
        image_hw: Height and width of the picture, in pixels.
        pixel_pitch_mm: Pixel pitch in the film's plane, in mm.
        plate_signal: Signal behind the sound plate, relative to the open beam.
        edges: The film's edges in the picture.
    """
    return Film(
        pixel_pitch_mm=pixel_pitch_mm,
        density=uniform_in(rng, params.density),
        plate_signal=plate_signal,
        fog_density=params.fog_density,
        granularity=uniform_in(rng, params.granularity),
        grain_mm=uniform_in(rng, params.grain_mm),
        unsharpness_mm=uniform_in(rng, params.scanner_unsharpness_mm),
        scanner_noise=params.scanner_noise,
        density_range=uniform_in(rng, params.density_range),
        marks=draw_film_marks(rng, params, image_hw, pixel_pitch_mm),
        edges=edges,
    )


def grain_power(granularity: float, grain_mm: float) -> float:
    """Convert a granularity into the noise power of the density at low spatial frequencies.

    Noise of power W (density squared times mm2), blurred by a Gaussian of standard deviation s = grain / 2, has, in its
    mean over a disc of radius R, the variance W / (pi R^2) (1 - exp(-x) (I0(x) + I1(x))), with x = R^2 / (2 s^2).

    Args:
        granularity: Standard deviation of the density seen through a circular aperture of 0.1 mm diameter.
        grain_mm: Distance at which the grain's autocorrelation has fallen to 1/e, in mm.

    Returns:
        Power at the density for which the granularity holds, in mm2.

    References:
        ISO 11699-1: granularity is read at density 2 above fog through a circular aperture of 0.1 mm.
        Dainty and Shaw 1974, Image Science, on granularity and noise power (Selwyn's law), and on the square root of
        the density.
    """
    radius_square = _APERTURE_RADIUS_MM * _APERTURE_RADIUS_MM
    x = 2.0 * radius_square / (grain_mm * grain_mm)
    return granularity * granularity * 3.141592653589793 * radius_square / (1.0 - _scaled_bessel_sum(x))


def _scaled_bessel_sum(x: float) -> float:
    """Compute exp(-x) (I0(x) + I1(x)), by its power series or, for large x, its asymptotic series."""
    if x > 50.0:
        return float(np.sqrt(2.0 / (3.141592653589793 * x))) * (1.0 - 1.0 / (8.0 * x) - 3.0 / (128.0 * x * x))
    term = total = 1.0
    for order in range(1, 200):
        # Terms of I0 and I1 in turn: (x/2)^n / (n//2)! / ((n+1)//2)!
        term = term * (x / 2.0) / ((order + 1) // 2)
        total += term
    return total * float(exp(np.array(-x)))


def _exposed_shares() -> Float[np.ndarray, " knots"]:
    """Share of grains that are hit at least once, by the mean number of hits: Poisson's law."""
    return 1.0 - exp(-_DOSE_STEP * np.arange(_DOSE_KNOTS))

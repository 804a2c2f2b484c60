"""A digital detector array: linear in dose, limited by quantum noise, calibrated."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt16

from defects_in_welds.params.simulate import DigitalParams
from defects_in_welds.simulation.detector import FULL_SCALE, detector_blur_px, noise_gain, to_pixels
from defects_in_welds.simulation.exact_math import blur, normal_noise, uniform, uniform_in

# Black is this many times the signal behind the sound plate: the inspector sets the window to the weld.
_HEADROOM = (1.4, 2.0)
# Share of the gain's variance that the pixels of a column have in common, as they share a read-out line.
_COLUMN_SHARE = 0.1


@dataclass(frozen=True)
class DigitalDetector:
    """A digital detector array during one exposure.

    Attributes:
        pixel_pitch_mm: Pixel pitch in the detector's plane.
        milliampere_seconds: Tube current times exposure time.
        open_quanta: Quanta on a pixel of the open beam.
        black_signal: Signal, relative to the open beam, that is shown black.
        unsharpness_mm: Inherent unsharpness, twice the basic spatial resolution.
        electronic_noise_quanta: Standard deviation of the read-out noise, in quanta of a pixel.
        gain_variation: Standard deviation of what is left of the pixels' gain after calibration.
        dead_pixel_share: Share of pixels that do not answer.
    """

    pixel_pitch_mm: float
    milliampere_seconds: float
    open_quanta: float
    black_signal: float
    unsharpness_mm: float
    electronic_noise_quanta: float
    gain_variation: float
    dead_pixel_share: float

    @property
    def blur_px(self) -> float:
        """Standard deviation of the detector's blur, in pixels."""
        return detector_blur_px(self.unsharpness_mm, self.pixel_pitch_mm)

    @property
    def grey_per_quantum(self) -> float:
        """Grey levels that one quantum takes away."""
        return FULL_SCALE / (self.black_signal * self.open_quanta)

    def render(self, signal: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Blur and show like a film: noise-free grey levels, more metal is lighter.

        Args:
            signal: What reaches the detector, relative to the open beam.
        """
        grey = blur(signal, self.blur_px) * (-FULL_SCALE / self.black_signal)
        grey += FULL_SCALE
        return grey

    def noise_std(self, grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Compute the noise's standard deviation in grey levels, at noise-free grey levels.

        References:
            ASTM E2597: at low dose the quanta limit the signal-to-noise ratio, at high dose the calibration.
        """
        quanta = self._quanta(grey)
        gain = noise_gain(self.blur_px)
        variance = (self.gain_variation * self.gain_variation * quanta + gain * gain) * quanta
        variance += self.electronic_noise_quanta * self.electronic_noise_quanta
        return np.sqrt(variance) * self.grey_per_quantum

    def read_out(
        self, grey: Float[np.ndarray, "height width"], rng: np.random.Generator
    ) -> UInt16[np.ndarray, "height width"]:
        """Add the noise of quanta and electronics, what is left of gain patterns, and replaced dead pixels.

        The quanta's noise is blurred with the signal, as light spreads in the screen; the others are not. A normal
        distribution stands for Poisson's, which holds down to about 20 quanta on a pixel.

        Args:
            grey: Noise-free grey levels.
            rng: Source of the noise.
        """
        quanta = self._quanta(grey)
        noise = normal_noise(rng, quanta.shape)
        noise *= np.sqrt(quanta)
        noise = blur(noise, self.blur_px)
        # Two independent noises of each pixel make one.
        own = np.multiply(quanta, quanta)
        own *= (1.0 - _COLUMN_SHARE) * self.gain_variation * self.gain_variation
        own += self.electronic_noise_quanta * self.electronic_noise_quanta
        np.sqrt(own, out=own)
        own *= normal_noise(rng, quanta.shape)
        noise += own
        quanta *= float(np.sqrt(_COLUMN_SHARE)) * self.gain_variation * normal_noise(rng, (quanta.shape[1],))
        noise += quanta
        noise *= -self.grey_per_quantum
        noise += grey
        dead = rng.integers(0, noise.size, size=int(np.floor(self.dead_pixel_share * noise.size + rng.random())))
        replace_dead_pixels(noise, dead)
        return to_pixels(noise)

    def _quanta(self, grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Expected quanta on each pixel."""
        quanta = FULL_SCALE - grey
        quanta *= 1.0 / self.grey_per_quantum
        return np.maximum(quanta, 0.0, out=quanta)


def draw_digital_detector(
    rng: np.random.Generator,
    params: DigitalParams,
    *,
    pixel_pitch_mm: float,
    plate_signal: float,
    quanta_per_mm2_mas: float,
) -> DigitalDetector:
    """Draw a digital detector array and its exposure.

    Args:
        rng: Source of the draws.
        params: Their ranges.
        pixel_pitch_mm: Pixel pitch in the detector's plane, in mm.
        plate_signal: Signal behind the sound plate, relative to the open beam.
        quanta_per_mm2_mas: Quanta of the open beam that 1 mA s gives on a square millimetre of the detector.
    """
    milliampere_seconds = uniform_in(rng, params.milliampere_seconds)
    return DigitalDetector(
        pixel_pitch_mm=pixel_pitch_mm,
        milliampere_seconds=milliampere_seconds,
        open_quanta=milliampere_seconds * quanta_per_mm2_mas * (pixel_pitch_mm * pixel_pitch_mm),
        black_signal=uniform(rng, *_HEADROOM) * plate_signal,
        unsharpness_mm=uniform_in(rng, params.unsharpness_mm),
        electronic_noise_quanta=params.electronic_noise_quanta,
        gain_variation=params.gain_variation,
        dead_pixel_share=params.dead_pixel_share,
    )


def replace_dead_pixels(image: Float[np.ndarray, "height width"], dead: Int64[np.ndarray, " pixels"]) -> None:
    """Give dead pixels the mean of those of their eight neighbours that live, in place; clusters close from outside.

    Args:
        image: Any values; those of dead pixels play no part.
        dead: Places of dead pixels in the flattened image; repetitions do no harm. Where all are dead the image stays
            as it is.
    """
    height, width = image.shape
    alive: Bool[np.ndarray, "rows columns"] = np.zeros((height + 2, width + 2), dtype=np.bool_)
    alive[1:-1, 1:-1] = True
    rows, columns = np.divmod(np.unique(dead), width)
    alive[rows + 1, columns + 1] = False
    row_steps, column_steps = np.divmod(np.delete(np.arange(9), 4), 3)
    while rows.size:
        near = (rows[:, None] + row_steps, columns[:, None] + column_steps)
        answers = alive[near]
        values = image[np.clip(near[0] - 1, 0, height - 1), np.clip(near[1] - 1, 0, width - 1)]
        total = np.cumsum(np.where(answers, values, 0.0), axis=1)[:, -1]
        count = np.count_nonzero(answers, axis=1)
        closed = count > 0
        if not closed.any():
            return
        image[rows[closed], columns[closed]] = total[closed] / count[closed]
        alive[rows[closed] + 1, columns[closed] + 1] = True
        rows, columns = rows[~closed], columns[~closed]

"""What every detector offers to imaging, and the blur of a detector that is stated as its unsharpness."""

from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt16

from defects_in_welds.simulation.exact_math import blur

FULL_SCALE = 65535


class Detector(Protocol):
    """A detector of one exposure.

    ``render`` gives noise-free grey levels, for pixels and truth alike; ``noise_std`` and ``read_out`` start from them.
    Grey levels are on the scale of 16-bit pixels, not cut to it; more metal is lighter.
    """

    def render(self, signal: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Blur and convert what reaches the detector, relative to the open beam, to noise-free grey levels."""
        ...

    def noise_std(self, grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Compute the noise's standard deviation, in grey levels, at noise-free grey levels."""
        ...

    def read_out(
        self, grey: Float[np.ndarray, "height width"], rng: np.random.Generator
    ) -> UInt16[np.ndarray, "height width"]:
        """Add noise and everything that the detector itself leaves in the picture to noise-free grey levels."""
        ...


def detector_blur_px(unsharpness_mm: float, pixel_pitch_mm: float) -> float:
    """Find the Gaussian that a detector adds to the averaging over its pixels.

    A Gaussian of standard deviation s dips by 20 % between the wires of a duplex wire IQI of diameter sqrt(2) s. So
    SR_b = sqrt(2) s, and the unsharpness, 2 SR_b, is 2 sqrt(2) s.

    Args:
        unsharpness_mm: Inherent unsharpness as a duplex wire IQI on the detector reads it, in mm.
        pixel_pitch_mm: Pixel pitch, in mm. The signal is a mean over each pixel, which has the variance of a box.

    Returns:
        Standard deviation, in pixels; 0 where the pixels alone are as unsharp.

    References:
        EN ISO 17636-2 and ISO 19232-5: unsharpness is twice the basic spatial resolution SR_b, the diameter of the
        first wire pair that dips by less than 20 %.
    """
    in_px = unsharpness_mm / pixel_pitch_mm
    return float(np.sqrt(max(0.0, in_px * in_px / 8.0 - 1.0 / 12.0)))


def noise_gain(sigma_px: float) -> float:
    """Compute the standard deviation of white noise of variance 1 after a blur of that standard deviation."""
    radius = int(np.ceil(3.0 * sigma_px)) + 1
    point = np.zeros((2 * radius + 1, 2 * radius + 1))
    point[radius, radius] = 1.0
    spread = blur(point, sigma_px).ravel()
    return float(np.sqrt(np.cumsum(spread * spread)[-1]))


def to_pixels(grey: Float[np.ndarray, "height width"]) -> UInt16[np.ndarray, "height width"]:
    """Round grey levels to 16 bits, in place, and cut them to black and white."""
    np.rint(grey, out=grey)
    np.clip(grey, 0, FULL_SCALE, out=grey)
    return grey.astype(np.uint16)

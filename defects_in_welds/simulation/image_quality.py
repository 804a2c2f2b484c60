"""Measures of image quality, of simulated and of real radiographs: SNR_N and the reading of a duplex wire IQI.

All of them take a signal that is linear in dose: of a digital detector its raw values, of a film the density above fog.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import sin_cos_deg

LEAST_DIP = 0.2
_REFERENCE_MM = 0.0886  # side of the square that has the area of a circular aperture of 0.1 mm


def signal_to_noise(signal: Float[np.ndarray, "rows columns"]) -> float:
    """Measure the signal-to-noise ratio of a patch that shows nothing.

    Args:
        signal: Values linear in dose, 20 rows of 55 pixels or more; the noise is read along the rows.

    Returns:
        Mean over noise, where the noise is the median of the rows' standard deviations, so that it is not raised by a
        change from row to row, or a speck.

    References:
        EN ISO 17636-2, annex on the signal-to-noise ratio.
    """
    return float(signal.mean() / np.median(signal.std(axis=1, ddof=1)))


def normalised_snr(snr: float, basic_spatial_resolution_mm: float) -> float:
    """Normalise a signal-to-noise ratio to a basic spatial resolution of 88.6 micrometres.

    Args:
        snr: Signal-to-noise ratio of single pixels.
        basic_spatial_resolution_mm: SR_b, in mm.

    References:
        EN ISO 17636-2: SNR_N = SNR 88.6 um / SR_b.
    """
    return snr * _REFERENCE_MM / basic_spatial_resolution_mm


def profile_across(
    image: Float[np.ndarray, "height width"],
    middle_yx: tuple[float, float],
    angle_deg: float,
    half_length_px: float,
    half_width_px: float,
    step_px: float = 0.25,
) -> Float[np.ndarray, " samples"]:
    """Average lines across wires, in bilinear interpolation.

    Args:
        image: Signal or grey levels.
        middle_yx: Middle of the profile, in pixels; the middle of the first pixel is at 0.5.
        angle_deg: Angle of the wires to the pixels' columns, in degrees.
        half_length_px: Half the profile's length, in pixels.
        half_width_px: Half the width over which it is averaged, in pixels.
        step_px: Distance of the samples, in pixels.
    """
    sine, cosine = sin_cos_deg(angle_deg)
    across = np.arange(-half_length_px, half_length_px + step_px / 2, step_px)[None, :]
    along = np.arange(-half_width_px, half_width_px + 0.25, 0.5)[:, None]
    y = np.clip(middle_yx[0] - 0.5 + cosine * along + sine * across, 0, image.shape[0] - 1.001)
    x = np.clip(middle_yx[1] - 0.5 + cosine * across - sine * along, 0, image.shape[1] - 1.001)
    row, column = y.astype(np.intp), x.astype(np.intp)
    down, right = y - row, x - column
    upper = image[row, column] * (1 - right) + image[row, column + 1] * right
    lower = image[row + 1, column] * (1 - right) + image[row + 1, column + 1] * right
    return (upper * (1 - down) + lower * down).mean(axis=0)


def wire_pair_dip(profile: Float[np.ndarray, " samples"]) -> float:
    """Measure how far two wires are told apart.

    Args:
        profile: Across one pair, the pair in its middle and the background at its ends, which is drawn as a straight
            line between them.

    Returns:
        (A + B - 2 C) / (A + B): A and B are the wires' heights over the background, C that between them; 0 where the
        profile has one hump.

    References:
        ISO 19232-5.
    """
    ends = max(2, len(profile) // 16)
    background = np.linspace(profile[:ends].mean(), profile[-ends:].mean(), len(profile))
    height = profile - background
    if abs(height.min()) > height.max():
        height = -height
    middle = len(height) // 2
    left = int(np.argmax(height[:middle]))
    right = middle + int(np.argmax(height[middle:]))
    between = height[left : right + 1].min()
    peaks = height[left] + height[right]
    return float((peaks - 2 * between) / peaks) if peaks > 0 else 0.0


def basic_spatial_resolution_mm(dips: Mapping[float, float]) -> float:
    """Read SR_b off a duplex wire IQI: the diameter at which the dip falls to 20 %.

    Args:
        dips: Dip by wire diameter in mm.

    Returns:
        Interpolated between the last pair above and the first below 20 %, in mm; the last pair's diameter where all
        are above.

    Raises:
        ValueError: If even the thickest pair is below.

    References:
        EN ISO 17636-2 and ASTM E2002; they interpolate by a parabola through more pairs.
    """
    pairs = sorted(dips.items(), reverse=True)
    if pairs[0][1] < LEAST_DIP:
        raise ValueError(f"the pair of {pairs[0][0]:g} mm dips by less than 20 %: the image is too unsharp to read")
    for (thicker, high), (thinner, low) in pairwise(pairs):
        if low < LEAST_DIP:
            return thinner + (thicker - thinner) * (LEAST_DIP - low) / (high - low)
    return pairs[-1][0]

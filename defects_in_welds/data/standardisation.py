"""Bring films of any scanner and exposure to one scale: first the pixel pitch, then the grey levels.

Both are off unless the parameters name a value. In this order the spread that grey levels are divided by is that of the
pixels which the detector sees, and there are fewer of them to go through. Training and use share the two functions and,
through the store and the checkpoint, the two values.

Here alone grey levels are not those of the file; each function says what is lost. The result has 16 bits, whatever the
file has.
"""

import math
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt16

from defects_in_welds.data.image_reading import MAX_PIXELS
from defects_in_welds.params import ParamsError
from defects_in_welds.radiograph import Radiograph

MID_GREY = 2**15
"""Level of what is no lighter and no darker than its background."""

LEVELS_PER_SPREAD = 1024
"""Levels by which what deviates by the film's spread is lighter or darker: 16 bits hold 32 spreads to either side."""

_BIT_DEPTH = 16
_FULL_SCALE = 2**_BIT_DEPTH - 1

_CELLS = 5  # of a side of the median; OpenCV's median of floats takes no more
_LEAST_SPREAD = 0.5  # grey levels: rounding to whole ones deviates by no more
_MOST_SAMPLES = 4_000_000


def standardise(radiograph: Radiograph, *, resample_pitch_mm: float | None, background_mm: float | None) -> Radiograph:
    """Bring a film to a pixel pitch, and then its grey levels to one scale; None leaves either as it is.

    Raises:
        ParamsError: As `resample` and `flatten_background`.
    """
    if resample_pitch_mm is not None:
        radiograph = resample(radiograph, resample_pitch_mm)
    if background_mm is not None:
        radiograph = flatten_background(radiograph, background_mm)
    return radiograph


def resample(radiograph: Radiograph, resample_pitch_mm: float) -> Radiograph:
    """Bring a film to a pixel pitch: by averages over areas where it shrinks, linearly where it grows.

    The size is rounded to whole pixels and edges are brought to edges, so that the pitch is the asked one to within
    half a pixel over the film. Lost is detail finer than the new pixels, and levels are rounded to 16 bits. A film
    whose size does not change stays as it is to the bit.

    Raises:
        ParamsError: If the film's pixel pitch is unknown, or it would become too large.
    """
    ratio = _known_pitch_mm(radiograph, "resample_pitch_mm") / resample_pitch_mm
    height, width = (max(1, round(side * ratio)) for side in radiograph.image_hw)
    if height * width > MAX_PIXELS:
        raise ParamsError(
            f"params: prepare.resample_pitch_mm is {resample_pitch_mm}, which makes {radiograph.source} larger than "
            f"{MAX_PIXELS} pixels; set a larger one, or correct prepare.pixel_pitch_mm"
        )
    if (height, width) == radiograph.image_hw:
        return replace(radiograph, pixel_pitch_mm=resample_pitch_mm)
    resampled = cv2.resize(
        radiograph.pixels.astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR,
    )
    resampled *= _FULL_SCALE / (2**radiograph.bit_depth - 1)
    return replace(radiograph, pixels=_rounded(resampled), bit_depth=_BIT_DEPTH, pixel_pitch_mm=resample_pitch_mm)


def flatten_background(radiograph: Radiograph, background_mm: float) -> Radiograph:
    """Subtract the slow background of a film, and divide the rest by its spread over the film.

    The background is a running median over squares. It follows the steep edges of a weld, along which the difference
    from a Gaussian mean shows dark and light bands, and passes over whatever fills less than half of a square. The
    spread is the median absolute deviation from the background, as the standard deviation of the normal distribution
    that has it: that of the noise, for flaws and edges are few. So neither gain nor offset of an exposure changes the
    result.

    Lost are the background itself, the grey level of anything that deviates from it by more than 32 spreads, and
    deviations of less than 1/2048 of a spread, to which the result is rounded.

    Args:
        radiograph: The film.
        background_mm: Side of the squares, in mm.

    Returns:
        The film with `MID_GREY` for its background and `LEVELS_PER_SPREAD` for its spread.

    Raises:
        ParamsError: If the film's pixel pitch is unknown, or the squares have fewer than 5x5 pixels.
    """
    pitch_mm = _known_pitch_mm(radiograph, "background_mm")
    if background_mm < _CELLS * pitch_mm:
        raise ParamsError(
            f"params: prepare.background_mm is {background_mm}; allowed: at least {_CELLS * pitch_mm:g}, {_CELLS} "
            f"pixels of {radiograph.source}, or null"
        )
    deviation = radiograph.pixels.astype(np.float32)
    deviation -= _background(deviation, background_mm / pitch_mm)
    deviation *= LEVELS_PER_SPREAD / _spread(deviation, radiograph)
    deviation += MID_GREY
    return replace(radiograph, pixels=_rounded(deviation), bit_depth=_BIT_DEPTH)


def _known_pitch_mm(radiograph: Radiograph, key: str) -> float:
    if radiograph.pixel_pitch_mm is None:
        raise ParamsError(
            f"params: prepare.{key} is in mm, but {radiograph.source} does not say its pixel pitch; set "
            f"prepare.pixel_pitch_mm, or prepare.{key}=null"
        )
    return radiograph.pixel_pitch_mm


def _background(pixels: Float32[np.ndarray, "height width"], side_px: float) -> Float32[np.ndarray, "height width"]:
    """Take the median of 5x5 cells, a fifth of the side each, and interpolate between the cells."""
    height, width = pixels.shape
    cells = [max(1, round(sides * _CELLS / side_px)) for sides in (width, height)]
    averages = cv2.resize(pixels, cells, interpolation=cv2.INTER_AREA)
    # Turned about the border, a gradient goes on beyond it; repeated or mirrored, it would end in a rim.
    beyond = _CELLS // 2
    medians = cv2.medianBlur(np.pad(averages, beyond, mode="reflect", reflect_type="odd"), _CELLS)
    medians = medians[beyond:-beyond, beyond:-beyond]
    return cv2.resize(medians, (width, height), interpolation=cv2.INTER_CUBIC)


def _spread(deviation: Float32[np.ndarray, "height width"], radiograph: Radiograph) -> float:
    """Measure the spread in grey levels of the film, from an even sample of its pixels where it is large."""
    step = math.ceil(math.sqrt(deviation.size / _MOST_SAMPLES))
    pixels = radiograph.pixels[::step, ::step]
    # Saturated parts, and masks around a film, have no noise.
    is_exposed = (pixels > radiograph.pixels.min()) & (pixels < radiograph.pixels.max())
    deviations = np.abs(deviation[::step, ::step][is_exposed])
    return max(1.4826 * float(np.median(deviations)), _LEAST_SPREAD) if deviations.size else _LEAST_SPREAD


def _rounded(levels: Float32[np.ndarray, "height width"]) -> UInt16[np.ndarray, "height width"]:
    return np.rint(np.clip(levels, 0, _FULL_SCALE, out=levels), out=levels).astype(np.uint16)

"""Grey levels: polarity, the unit scale of the network, and the 8-bit scale of the screen."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from defects_in_welds.radiograph import Radiograph


def invert(radiograph: Radiograph) -> Radiograph:
    """Exchange light and dark without loss: each level becomes full scale minus the level."""
    full_scale = np.array(2**radiograph.bit_depth - 1, dtype=radiograph.pixels.dtype)
    return replace(radiograph, pixels=full_scale - radiograph.pixels)


def to_unit_float32(pixels: Shaped[np.ndarray, "*shape"], bit_depth: int) -> Float32[np.ndarray, "*shape"]:
    """Scale grey levels to 0 (black) to 1 (full scale of the bit depth)."""
    return pixels.astype(np.float32) / np.float32(2**bit_depth - 1)


def percentile_window(
    pixels: Shaped[np.ndarray, "*shape"], low_percent: float = 0.5, high_percent: float = 99.5
) -> tuple[float, float]:
    """Choose a window that shows all but the darkest and lightest pixels.

    Returns:
        Lowest and highest grey level of the window.
    """
    low, high = np.percentile(pixels, [low_percent, high_percent])
    return float(low), float(high)


def window_level(pixels: Shaped[np.ndarray, "*shape"], low: float, high: float) -> UInt8[np.ndarray, "*shape"]:
    """Stretch a window of grey levels to the 8 bits of a screen.

    Args:
        pixels: Grey levels.
        low: Level that becomes 0, as all below it.
        high: Level that becomes 255, as all above it. Where it equals ``low``, levels above it become 255, others 0.
    """
    if high <= low:
        return np.where(pixels > low, 255, 0).astype(np.uint8)
    unit = (pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)

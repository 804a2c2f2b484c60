"""Random curves along a flaw, on samples that do not depend on the film's pixels: 0 is the flaw's start, 1 its end."""

import math

import numpy as np
from jaxtyping import Float

from defects_in_welds.simulation.exact_math import smooth_curve

_STEP_MM = 0.05
_FEWEST_SAMPLES = 64


def places(length_mm: float) -> Float[np.ndarray, " samples"]:
    """Give the places from 0 to 1 at which the curves of a flaw of this length are sampled."""
    intervals = max(_FEWEST_SAMPLES, math.ceil(length_mm / _STEP_MM))
    return np.arange(intervals + 1) / intervals


def waves(rng: np.random.Generator, length_mm: float, knot_mm: float) -> Float[np.ndarray, " samples"]:
    """Draw a smooth curve through knots between -1 and 1 at a distance in mm."""
    samples = len(places(length_mm))
    return smooth_curve(rng, samples, knot_mm * (samples - 1) / length_mm)


def kinks(rng: np.random.Generator, length_mm: float, knot_mm: float) -> Float[np.ndarray, " samples"]:
    """Draw straight pieces between knots of -1 to 1 at a mean distance in mm."""
    knots = max(2, math.ceil(length_mm / knot_mm) + 1)
    along = np.cumsum(0.3 + rng.random(knots - 1))  # uneven distances, none below a fifth of the longest
    along = np.concatenate([[0.0], along / along[-1]])
    heights = 2.0 * rng.random(knots) - 1.0
    place = places(length_mm)
    left = np.minimum(np.searchsorted(along, place, side="right") - 1, knots - 2)
    part = (place - along[left]) / (along[left + 1] - along[left])
    return heights[left] + part * (heights[left + 1] - heights[left])


def uneven(rng: np.random.Generator, length_mm: float, knot_mm: float, least: float) -> Float[np.ndarray, " samples"]:
    """Draw how a size changes along a flaw: on two scales, from least to 1 at the largest."""
    curve = waves(rng, length_mm, knot_mm) + 0.5 * waves(rng, length_mm, knot_mm / 4)
    return rescaled(curve, least, 1.0)


def rescaled(curve: Float[np.ndarray, " samples"], low: float, high: float) -> Float[np.ndarray, " samples"]:
    """Map a curve's least and largest value to low and high."""
    least, largest = float(curve.min()), float(curve.max())
    return low + (curve - least) * ((high - low) / max(largest - least, 1e-12))


def fading(place: Float[np.ndarray, " samples"], share: float) -> Float[np.ndarray, " samples"]:
    """Fall from 1 to 0 within a share of the length at either end, steepest at the end."""
    missing = np.maximum(0.0, 1.0 - np.minimum(place, 1.0 - place) / share)
    return 1.0 - missing * missing


def read_off(curve: Float[np.ndarray, " samples"], place: Float[np.ndarray, " places"]) -> Float[np.ndarray, " places"]:
    """Read a curve at places from 0 to 1, linearly between its samples."""
    position = place * (len(curve) - 1)
    left = np.minimum(np.floor(position).astype(np.int64), len(curve) - 2)
    return curve[left] + (position - left) * (curve[left + 1] - curve[left])

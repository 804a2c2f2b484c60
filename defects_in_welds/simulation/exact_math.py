"""Functions that give the same bits on every CPU."""

import numpy as np
from jaxtyping import Float

_LN2_HIGH = 0.6931471803691238  # the leading bits of ln 2: its product with a small integer is exact
_LN2_LOW = 1.9082149292705877e-10
_TAYLOR_TERMS = 14

_LANES = 8
_LANE_MAX = 65535


def exp(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Compute the exponential, to within about one unit in the last place, for arguments of moderate size.

    Args:
        x: Arguments within about -700 to 700.
    """
    x = np.asarray(x, dtype=np.float64)
    halvings = np.rint(x / _LN2_HIGH)
    rest = (x - halvings * _LN2_HIGH) - halvings * _LN2_LOW
    result = np.ones_like(rest)
    for term in range(_TAYLOR_TERMS, 0, -1):
        result = 1.0 + result * rest / term
    return np.ldexp(result, halvings.astype(np.int32))


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number from low to high; NumPy's own may fuse the product with the sum."""
    return low + (high - low) * rng.random()


def normal_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "*shape"]:
    """Draw nearly normal noise of mean 0 and variance 1: the sum of eight uniform 16-bit integers.

    Its excess kurtosis is -0.15 and its tails end at 4.9 standard deviations.
    """
    total = rng.integers(0, _LANE_MAX, size=(_LANES, *shape), dtype=np.uint16, endpoint=True).sum(
        axis=0, dtype=np.int64
    )
    variance = _LANES * (_LANE_MAX * (_LANE_MAX + 2)) / 12
    return (total - _LANES * _LANE_MAX / 2) / np.sqrt(variance)


def smooth_curve(rng: np.random.Generator, samples: int, knot_distance: float) -> Float[np.ndarray, " samples"]:
    """Draw a smooth random curve through knots between -1 and 1, by Catmull-Rom interpolation.

    Args:
        rng: Source of the knots.
        samples: Number of samples.
        knot_distance: Distance of neighbouring knots, in samples.
    """
    position = np.arange(samples) / knot_distance
    left = np.floor(position).astype(np.int64)
    t = position - left
    knots = 2.0 * rng.random(int(left[-1]) + 4) - 1.0
    p0, p1, p2, p3 = (knots[left + shift] for shift in range(4))
    a = -0.5 * p0 + 1.5 * p1 - 1.5 * p2 + 0.5 * p3
    b = p0 - 2.5 * p1 + 2.0 * p2 - 0.5 * p3
    c = -0.5 * p0 + 0.5 * p2
    return ((a * t + b) * t + c) * t + p1


def blur(image: Float[np.ndarray, "height width"], sigma_px: float) -> Float[np.ndarray, "height width"]:
    """Convolve with a Gaussian cut at three standard deviations; edges are replicated.

    Args:
        image: Any values.
        sigma_px: Standard deviation, in pixels.
    """
    radius = int(np.ceil(3 * sigma_px))
    offsets = np.arange(-radius, radius + 1)
    weights = exp(-offsets * offsets / (2 * sigma_px * sigma_px))
    weights = weights / np.cumsum(weights)[-1]
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius, radius)
        padded = np.pad(image, padding, mode="edge")
        image = np.zeros_like(image)
        for weight, start in zip(weights, offsets + radius, strict=True):
            image += weight * np.take(padded, np.arange(start, start + image.shape[axis]), axis=axis)
    return image

"""Functions that give the same bits on every CPU."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

_LN2_HIGH = 0.6931471803691238  # the leading bits of ln 2: its product with a small integer is exact
_LN2_LOW = 1.9082149292705877e-10
_TAYLOR_TERMS = 14
_PI = 3.141592653589793
_LEAST_SAMPLED_VARIANCE = 0.5

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


def log(x: float) -> float:
    """Compute the natural logarithm of a number above 0, to within a few units in the last place."""
    mantissa, exponent = math.frexp(x)
    if mantissa < 0.7071067811865476:  # around 1, so that the series below converges fast
        mantissa, exponent = 2.0 * mantissa, exponent - 1
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    total = 0.0
    for term in range(23, 0, -2):
        total = total * ratio * ratio + 1.0 / term
    return exponent * _LN2_HIGH + (2.0 * ratio * total + exponent * _LN2_LOW)


def sin_cos_deg(angle_deg: float) -> tuple[float, float]:
    """Compute sine and cosine of an angle within a turn, to within about one unit in the last place of 1."""
    quarters = math.floor(angle_deg / 90.0 + 0.5)
    x = (angle_deg - 90.0 * quarters) * _PI / 180.0
    sine = cosine = 1.0
    for term in range(9, 0, -1):
        sine = 1.0 - x * x / (2 * term * (2 * term + 1)) * sine
        cosine = 1.0 - x * x / (2 * term * (2 * term - 1)) * cosine
    sine = sine * x
    return ((sine, cosine), (cosine, -sine), (-sine, -cosine), (-cosine, sine))[quarters % 4]


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number from low to high; NumPy's own may fuse the product with the sum."""
    return low + (high - low) * rng.random()


def uniform_in(rng: np.random.Generator, low_high: Sequence[float]) -> float:
    """Draw a number from a range ``[low, high]``."""
    low, high = low_high
    return uniform(rng, low, high)


def log_uniform_in(rng: np.random.Generator, low_high: Sequence[float]) -> float:
    """Draw a number whose logarithm is uniform, from a range ``[low, high]`` of numbers above 0."""
    low, high = low_high
    return low * float(exp(np.array(rng.random() * log(high / low))))


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
    left, weights = _catmull_rom(samples, knot_distance)
    knots = 2.0 * rng.random(int(left[-1]) + 4) - 1.0
    curve = np.zeros(samples)
    for shift, weight in enumerate(weights):
        curve += weight * knots[left + shift]
    return curve


def smooth_field(
    rng: np.random.Generator, image_hw: tuple[int, int], knot_distance: float
) -> Float[np.ndarray, "height width"]:
    """Draw a smooth random field through a grid of knots between -1 and 1, by Catmull-Rom interpolation.

    Args:
        rng: Source of the knots.
        image_hw: Height and width, in pixels.
        knot_distance: Distance of neighbouring knots, in pixels.
    """
    (rows, row_weights), (columns, column_weights) = (_catmull_rom(samples, knot_distance) for samples in image_hw)
    knots = 2.0 * rng.random((int(rows[-1]) + 4, int(columns[-1]) + 4)) - 1.0
    along = np.zeros((len(knots), image_hw[1]))
    for shift, weight in enumerate(column_weights):
        along += weight * knots[:, columns + shift]
    field = np.zeros(image_hw)
    for shift, weight in enumerate(row_weights):
        field += weight[:, None] * along[rows + shift]
    return field


def blur(image: Float[np.ndarray, "height width"], sigma_px: float) -> Float[np.ndarray, "height width"]:
    """Convolve with a Gaussian cut at three standard deviations; edges are replicated.

    A Gaussian narrower than the pixels is sampled too coarsely to keep its width: three weights of the same variance
    stand for it.

    Args:
        image: Any values.
        sigma_px: Standard deviation, in pixels; 0 leaves the image as it is.
    """
    if sigma_px <= 0:
        return image
    variance = sigma_px * sigma_px
    if variance < _LEAST_SAMPLED_VARIANCE:
        weights = np.array([1.0 - variance, variance / 2.0])
    else:
        offsets = np.arange(int(np.ceil(3 * sigma_px)) + 1)
        weights = exp(-offsets * offsets / (2 * variance))
        weights = weights / (2.0 * np.cumsum(weights)[-1] - 1.0)
    for axis in (0, 1):
        image = _convolve_symmetric(image, weights, axis)
    return image


def wide_blur(image: Float[np.ndarray, "height width"], sigma_px: float) -> Float[np.ndarray, "height width"]:
    """Convolve with three boxes in a row, nearly a Gaussian; edges are replicated. The time is the same for any width.

    Args:
        image: Any values.
        sigma_px: Standard deviation, in pixels; the boxes' sides are the nearest odd numbers of pixels.
    """
    # A box of side s has the variance (s * s - 1) / 12, three have three times as much.
    radius = int(np.rint((np.sqrt(4.0 * sigma_px * sigma_px + 1.0) - 1.0) / 2.0))
    for _ in range(3):
        for axis in (0, 1):
            padded = np.pad(image, [(radius + 1, radius) if each == axis else (0, 0) for each in (0, 1)], mode="edge")
            total = np.cumsum(padded, axis=axis)
            side = 2 * radius + 1
            high, low = (total[side:], total[:-side]) if axis == 0 else (total[:, side:], total[:, :-side])
            image = (high - low) / side
    return image


def _catmull_rom(
    samples: int, knot_distance: float
) -> tuple[Int64[np.ndarray, " samples"], tuple[Float[np.ndarray, " samples"], ...]]:
    """Find the first of the four knots around each sample, and the weight of each of the four."""
    position = np.arange(samples) / knot_distance
    left = np.floor(position).astype(np.int64)
    t = position - left
    return left, (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


def _convolve_symmetric(
    image: Float[np.ndarray, "height width"], weights: Float[np.ndarray, " half"], axis: int
) -> Float[np.ndarray, "height width"]:
    """Convolve along an axis with weights given from the middle outwards."""
    radius, length = len(weights) - 1, image.shape[axis]
    padded = np.pad(image, [(radius, radius) if each == axis else (0, 0) for each in (0, 1)], mode="edge")

    def shifted(offset: int) -> Float[np.ndarray, "height width"]:
        window = slice(radius + offset, radius + offset + length)
        return padded[window] if axis == 0 else padded[:, window]

    result = weights[0] * image
    pair = np.empty_like(result)
    for offset in range(1, radius + 1):
        np.add(shifted(-offset), shifted(offset), out=pair)
        pair *= weights[offset]
        result += pair
    return result

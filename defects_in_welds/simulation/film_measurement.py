"""What can be measured on a real film: where its weld lies, how noisy it is, how sharp its edges are.

Grey levels are linear in the film's density, and more metal is lighter.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

Pixels = UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]

ROUNDING_NOISE = 0.2887
"""Standard deviation that rounding to whole grey levels adds: 1 / sqrt(12)."""

_NOISE_BLOCK_PX = 32
_CORRELATED_OVER_PX = 2

_EDGE_REACH_MM = 0.35
_EDGE_LEAST_REACH_PX = 6
_EDGE_ALONG_PX = 5
_EDGE_LEAST_STEP = 20.0  # in standard deviations of the noise
_EDGE_FLATNESS = 0.15
_EDGE_SHARPEST_SHARE = 0.1
_EDGE_LEAST_NUMBER = 100

_CELL_ROWS = 96
_CELL_COLUMN_MM = 1.0
_TOE_MM = 1.5
_LEAST_BAND_MM = 3.0
_BEND_COST = 0.1
_DARK_INSIDE_COST = 0.5
_FOOT_SHARE = 0.12  # of the step from plate to weld
_SMOOTHED_OVER_MM = 12.0
_LEAST_STEP = 5.0  # of weld to plate, in standard deviations of the noise
_LEAST_TOE = 1.5  # of the window inside a toe to that outside, likewise
_LEAST_SHARE = 0.6

_LEAST_CORRELATION = 0.9
_STEEPEST = 0.95


@dataclass(frozen=True, eq=False)
class Band:
    """The weld on a film, from the left to the right.

    Attributes:
        centre_px: Row coordinate of its middle at each column, 0 at the film's upper edge.
        half_width_px: Half its width from toe to toe at each column.
        weld_levels: Grey level of its middle, in steps along the film.
        plate_levels: Grey level of the darker of the plates beside it, in the same steps.
    """

    centre_px: Float[np.ndarray, " width"]
    half_width_px: Float[np.ndarray, " width"]
    weld_levels: Float[np.ndarray, " steps"]
    plate_levels: Float[np.ndarray, " steps"]


@dataclass(frozen=True)
class Noise:
    """The noise of a film.

    Attributes:
        level: Its standard deviation, in grey levels; not below what rounding makes.
        blur_px: Standard deviation of the Gaussian that would give white noise the neighbours' correlation that it has.
    """

    level: float
    blur_px: float


def measure_noise(pixels: Pixels) -> Noise:
    """Measure the noise of a film in small blocks, and take the medians.

    Each block is freed of its rows' and columns' means, so that the weld's slopes do not count. White noise that was
    blurred by s pixels has the correlation exp(-d d / (4 s s)) over d pixels.
    """
    side = min(_NOISE_BLOCK_PX, *pixels.shape)
    rows, columns = (length // side for length in pixels.shape)
    blocks = pixels[: rows * side, : columns * side].reshape(rows, side, columns, side).astype(np.float32)
    row_means, column_means = blocks.mean(axis=3, keepdims=True), blocks.mean(axis=1, keepdims=True)
    blocks += row_means.mean(axis=1, keepdims=True)
    blocks -= row_means
    blocks -= column_means
    variance = (blocks * blocks).mean(axis=(1, 3)) * (side / (side - 1)) ** 2
    lag = _CORRELATED_OVER_PX
    along = (blocks[..., lag:] * blocks[..., :-lag]).mean(axis=(1, 3))
    across = (blocks[:, lag:] * blocks[:, :-lag]).mean(axis=(1, 3))
    is_noisy = variance > ROUNDING_NOISE**2
    correlation = float(np.median(((along + across) / 2)[is_noisy] / variance[is_noisy])) if is_noisy.any() else 0.0
    blur_px = lag / 2 / np.sqrt(-np.log(np.clip(correlation, 1e-6, 0.99)))
    return Noise(max(float(np.sqrt(np.median(variance))), ROUNDING_NOISE), float(blur_px))


def edge_blur_mm(pixels: Pixels, noise: float, pixel_pitch_mm: float) -> float | None:
    """Measure how blurred a film is: the standard deviation of the Gaussian that blurs its sharpest edges, in mm.

    Edges along rows and columns that rise from one flat level to another, as at lead letters and at the object's ends,
    by at least 20 times the noise: the height of the step over its steepest slope is sqrt(2 pi) standard deviations.
    Lines (scratches, cracks, wires) have no step. Of all edges the tenth percentile is taken: the blunt ones belong to
    rounded bodies, not to the film.

    Returns:
        None if the film has too few such edges.
    """
    reach = max(_EDGE_LEAST_REACH_PX, round(_EDGE_REACH_MM / pixel_pitch_mm))
    if min(pixels.shape) < 4 * reach:
        return None
    blurs = np.concatenate([_edge_blurs_px(turned, noise, reach) for turned in (pixels, pixels.T)])
    if len(blurs) < _EDGE_LEAST_NUMBER:
        return None
    return float(np.quantile(blurs, _EDGE_SHARPEST_SHARE)) * pixel_pitch_mm


def _edge_blurs_px(pixels: Pixels, noise: float, reach: int) -> Float[np.ndarray, " edges"]:
    """Measure the blur of the edges that run along the columns' direction."""
    total = np.cumsum(pixels, axis=0, dtype=np.uint32)  # means of some pixels along the edge have less noise
    levels = (total[_EDGE_ALONG_PX:] - total[:-_EDGE_ALONG_PX]).astype(np.float32) / np.float32(_EDGE_ALONG_PX)
    slopes = np.abs(levels[:, 2:] - levels[:, :-2]) / 2
    least_step = _EDGE_LEAST_STEP * noise
    far = reach + reach // 2
    # No edge of that height is as flat as this within the reach.
    row, column = np.nonzero(slopes[:, far:-far] > least_step / (2 * reach))
    column += far
    slope = slopes[row, column]
    is_steepest = np.ones(len(slope), dtype=np.bool_)
    for offset in range(1, reach):
        is_steepest &= (slope >= slopes[row, column - offset]) & (slope >= slopes[row, column + offset])
    row, column, slope = row[is_steepest], column[is_steepest] + 1, slope[is_steepest]
    far_left, left, right, far_right = (levels[row, column + offset] for offset in (-far, -reach, reach, far))
    step = np.abs(right - left)
    is_flat = np.maximum(np.abs(left - far_left), np.abs(right - far_right)) < _EDGE_FLATNESS * step
    is_edge = is_flat & (step > least_step)
    blur_px = step[is_edge] / (np.sqrt(2 * np.pi) * slope[is_edge])
    # The slope was taken over two pixels, whose box has the variance 1/3.
    return np.sqrt(np.maximum(blur_px.astype(np.float64) ** 2 - 1 / 3, 0))


def find_band(pixels: Pixels, noise: float, pixel_pitch_mm: float) -> Band | None:
    """Find the weld: the lighter band along the film.

    On a grid of cells, each pair of an upper and a lower toe has a score in each column: the weaker of the two steps
    from plate to weld, limited to the film's usual step so that lead letters count no more than a weld, less what
    inside is darker than the plate outside. The best sequence of pairs that moves by no more than a cell from one
    column to the next (dynamic programming) is the weld. Letters beside it are too short to be better. From the
    steepest place of its flanks its toes lie outwards, where the levels come down to the plate's.

    Args:
        pixels: Grey levels.
        noise: Their noise.
        pixel_pitch_mm: Pixel pitch, in mm.

    Returns:
        None where in too many columns the band hardly differs from the plate.
    """
    height, width = pixels.shape
    cell_h, cell_w = max(1, height // _CELL_ROWS), max(1, round(_CELL_COLUMN_MM / pixel_pitch_mm))
    rows, columns = height // cell_h, width // cell_w
    window = max(2, round(_TOE_MM / (cell_h * pixel_pitch_mm)))
    if columns < 2 or rows < 4 * window:
        return None
    cells = pixels[: rows * cell_h, : columns * cell_w].reshape(rows, cell_h, columns, cell_w)
    levels = cells.mean(axis=(1, 3))
    total = np.zeros((rows + 1, columns))
    np.cumsum(levels, axis=0, out=total[1:])

    least = max(2, round(_LEAST_BAND_MM / (cell_h * pixel_pitch_mm)))
    toe_steps, scores = _score_pairs(total, window, least)
    upper, lower = _best_path(scores)
    at = np.arange(columns)
    half = (lower - upper) // 4
    weld = _mean_between(total, upper + half, np.maximum(lower - half, upper + half + 1), at)
    beside = (
        _mean_between(total, np.maximum(upper - 2 * window, 0), np.maximum(upper - window // 2, 1), at),
        _mean_between(total, np.minimum(lower + window // 2, rows - 1), np.minimum(lower + 2 * window, rows), at),
    )
    plate = np.minimum(*beside)
    is_weld = (weld - plate > _LEAST_STEP * noise) & (toe_steps[upper - 1, lower - 1, at] > _LEAST_TOE * noise)
    if is_weld.mean() < _LEAST_SHARE:
        return None
    foot = plate + _FOOT_SHARE * (weld - plate)
    toes = (_to_foot(levels, foot, upper, -1, window), _to_foot(levels, foot, lower, 1, window))
    knots = (at + 0.5) * cell_w
    smoothed = [_smooth(toe * cell_h, round(_SMOOTHED_OVER_MM / _CELL_COLUMN_MM)) for toe in toes]
    top, bottom = (np.interp(np.arange(width) + 0.5, knots, edge) for edge in smoothed)
    return Band((top + bottom) / 2, (bottom - top) / 2, weld[is_weld], plate[is_weld])


def unexposed_level(band: Band) -> float | None:
    """Measure the grey level of the unexposed film where the exposure varies along it.

    Where source and film are near each other, the ends of a film get less, behind weld and plate by the same factor. So
    white - weld = m (white - plate) with m the same everywhere: a straight line, whose slope is m and which meets
    weld = plate at white. Its slope is taken as the ratio of the standard deviations, for both levels have errors.

    Returns:
        None where weld and plate do not vary together, or vary alike, as they do when the film's fog varies.
    """
    plate, weld = band.plate_levels, band.weld_levels
    plate_std, weld_std = float(plate.std()), float(weld.std())
    if plate_std == 0 or weld_std == 0:
        return None
    correlation = float(((plate - plate.mean()) * (weld - weld.mean())).mean()) / (plate_std * weld_std)
    slope = weld_std / plate_std
    if correlation < _LEAST_CORRELATION or slope > _STEEPEST:
        return None
    return float(weld.mean() - slope * plate.mean()) / (1 - slope)


def _score_pairs(
    total: Float[np.ndarray, "rows_and_one columns"], window: int, least: int
) -> tuple[Float[np.ndarray, "edges edges columns"], Float[np.ndarray, "edges edges columns"]]:
    """Give the weaker step, and the score, of each pair of toes; edge number i lies above row i + 1.

    Args:
        total: Sums of the cells above each edge, the film's own edges included.
        window: Cells on either side of a toe that are compared.
        least: Least width of a weld, in cells.
    """
    rows, columns = len(total) - 1, total.shape[1]
    edges = np.arange(1, rows)
    above, below = np.maximum(edges - window, 0), np.minimum(edges + window, rows)
    outside_upper = (total[edges] - total[above]) / (edges - above)[:, None]
    outside_lower = (total[below] - total[edges]) / (below - edges)[:, None]
    step_down = outside_lower - outside_upper
    is_wide = edges[None, :] - edges[:, None] >= least
    steps = np.minimum(step_down[:, None], -step_down[None])
    steps[~is_wide] = -np.inf
    usual = max(float(np.median(steps.max(axis=(0, 1)))), 1e-9)

    darkest = np.full((len(edges), len(edges), columns), np.inf)
    means = (total[window:] - total[:-window]) / window  # of the cells from i to i + window
    for index, upper in enumerate(edges):
        inside = np.minimum.accumulate(means[upper:], axis=0)
        darkest[index, upper + window - 1 : upper + window - 1 + len(inside)] = inside[: rows - upper - window]
    missing = darkest - np.maximum(outside_upper[:, None], outside_lower[None])
    scores = np.clip(steps / usual, -1, 1) + _DARK_INSIDE_COST * np.clip(missing / usual, -1, 0)
    scores[~is_wide] = -np.inf
    return steps, scores


def _best_path(
    scores: Float[np.ndarray, "edges edges columns"],
) -> tuple[Int[np.ndarray, " columns"], Int[np.ndarray, " columns"]]:
    """Find the sequence of pairs of edges with the highest sum of scores, as the rows that they lie above."""
    edges, _, columns = scores.shape
    moves = [(up, low) for up in (-1, 0, 1) for low in (-1, 0, 1)]
    moves.sort(key=lambda move: abs(move[0]) + abs(move[1]))  # of equals, the straight one
    best = scores[:, :, 0]
    came_by = np.zeros((columns, edges, edges), dtype=np.int8)
    for column in range(1, columns):
        padded = np.pad(best, 1, constant_values=-np.inf)
        best = np.full((edges, edges), -np.inf)
        for number, (up, low) in enumerate(moves):
            bend = _BEND_COST * (abs(up) + abs(low))
            candidate = padded[1 + up : 1 + up + edges, 1 + low : 1 + low + edges] - bend
            is_better = candidate > best
            best[is_better] = candidate[is_better]
            came_by[column][is_better] = number
        best += scores[:, :, column]
    upper, lower = np.unravel_index(int(np.argmax(best)), best.shape)
    path = np.empty((columns, 2), dtype=np.int64)
    for column in range(columns - 1, -1, -1):
        path[column] = upper, lower
        up, low = moves[came_by[column, upper, lower]]
        upper, lower = upper + up, lower + low
    return path[:, 0] + 1, path[:, 1] + 1


def _to_foot(
    levels: Float[np.ndarray, "rows columns"],
    foot: Float[np.ndarray, " columns"],
    edge: Int[np.ndarray, " columns"],
    outwards: int,
    most: int,
) -> Int[np.ndarray, " columns"]:
    """Move edges from the steepest place of the weld's flank to its foot: outwards while the levels are above it.

    Args:
        levels: Grey levels of the cells.
        foot: Grey level at the foot in each column.
        edge: Row that each edge lies above.
        outwards: 1 where outwards is down, -1 where it is up.
        most: Cells that an edge moves at most.
    """
    at = np.arange(len(edge))
    is_moving = np.ones(len(edge), dtype=np.bool_)
    for _ in range(most):
        beyond = edge if outwards > 0 else edge - 1
        is_moving &= (beyond >= 0) & (beyond < len(levels))
        is_moving &= levels[np.clip(beyond, 0, len(levels) - 1), at] > foot
        edge = edge + outwards * is_moving
    return edge


def _mean_between(
    total: Float[np.ndarray, "rows_and_one columns"],
    first: Int[np.ndarray, " columns"],
    end: Int[np.ndarray, " columns"],
    at: Int[np.ndarray, " columns"],
) -> Float[np.ndarray, " columns"]:
    return (total[end, at] - total[first, at]) / (end - first)


def _smooth(values: Float[np.ndarray, " steps"], over: int) -> Float[np.ndarray, " steps"]:
    """Average twice over a number of neighbours; the ends are continued."""
    reach = min(over // 2, len(values) - 1)
    for _ in range(2):
        total = np.cumsum(np.pad(np.asarray(values, dtype=np.float64), (reach + 1, reach), mode="edge"))
        values = (total[2 * reach + 1 :] - total[: -2 * reach - 1]) / (2 * reach + 1)
    return values

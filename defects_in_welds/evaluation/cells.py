"""Score the weld centimetre by centimetre, as the inspectors of the BAM round robin did.

The weld of each film is cut along its length into cells. A cell is flawed or sound, and its rating is the best score of
what was reported in it. Counting cells needs no rule for matching boxes, has true negatives, and puts a detector beside
people who rated the same sections; it says nothing of how well a flaw is outlined or named.

References:
    Fawcett 2006, Pattern Recognition Letters 27, 861: curves of hits over false calls, ties, and the area as the
    chance that a flawed cell is rated above a sound one (Mann and Whitney). Efron and Tibshirani 1993, An Introduction
    to the Bootstrap, chapter 8: resampling whole welds, since cells of one weld are not independent.
    Mery et al. 2015, Journal of Nondestructive Evaluation 34:42: the films of BAM Berlin (Dr. Uwe Zscherpel).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from defects_in_welds.evaluation.matching import MatchTable

_TOLERANCE = 1e-9  # of a cell: an edge that should lie on a cell's border does so despite rounding


@dataclass(frozen=True)
class CellMeasures:
    """What counting cells says of a detector.

    Attributes:
        cell_mm: Length of a cell, in mm.
        films: Films that were cut into cells.
        films_left_out: Films of unknown pixel pitch, which cannot be cut.
        flawed_cells: Cells with a flaw that is not difficult.
        sound_cells: Cells without any flaw.
        ignored_cells: Cells that count nowhere.
        min_score: Threshold of the two rates.
        hit_rate: Share of the flawed cells that are rated at least ``min_score``; None without any.
        false_call_rate: Share of the sound cells that are; None without any.
        auc: Area under the curve of hits over false calls; None where all cells are of one kind.
        auc_interval: Its 95 % interval; None without an area, or with fewer than two welds.
    """

    cell_mm: float
    films: int
    films_left_out: int
    flawed_cells: int
    sound_cells: int
    ignored_cells: int
    min_score: float
    hit_rate: float | None
    false_call_rate: float | None
    auc: float | None
    auc_interval: tuple[float, float] | None


def measure_cells(
    table: MatchTable, min_score: float, cell_mm: float = 10.0, rounds: int = 1000, seed: int = 0
) -> CellMeasures:
    """Cut all films into cells and count them.

    Args:
        table: Films, flaws and detections.
        min_score: Score from which a cell counts as reported.
        cell_mm: Length of a cell, in mm.
        rounds: Rounds of the bootstrap.
        seed: Its random numbers.

    Raises:
        ValueError: If ``cell_mm`` is not positive.
    """
    cells = cell_table(table, cell_mm)
    hit_rate, false_call_rate = cell_rates(cells, min_score)
    counted = _counted(cells)
    flawed = int(counted["has_flaw"].sum())
    left_out = int(table.films["pixel_pitch_mm"].isna().sum())
    return CellMeasures(
        cell_mm=cell_mm,
        films=len(table.films) - left_out,
        films_left_out=left_out,
        flawed_cells=flawed,
        sound_cells=len(counted) - flawed,
        ignored_cells=len(cells) - len(counted),
        min_score=min_score,
        hit_rate=hit_rate,
        false_call_rate=false_call_rate,
        auc=cell_auc(cells),
        auc_interval=cell_auc_interval(cells, table.films["weld"], rounds, seed),
    )


def cell_table(table: MatchTable, cell_mm: float = 10.0) -> pd.DataFrame:
    """Cut the weld of each film into cells, from the left end of the film, or the top one where it stands upright.

    What is left over at the other end is a cell of its own from half a cell on, and else joins the last one. A film has
    one cell at least. A box lies in each cell of which it covers any part, so that a long flaw marks several; one that
    ends on the border of two cells lies in the first only.

    Args:
        table: Films, flaws and detections. Films of unknown pixel pitch are left out.
        cell_mm: Length of a cell, in mm.

    Returns:
        One row a cell, film by film: ``film`` (row of ``table.films``), ``cell`` (from 1), ``start_mm``, ``end_mm``
        (along the weld), ``has_flaw`` (a flaw that is not difficult lies in it), ``score`` (the best of the detections
        in it, whatever their class; minus infinity without any), ``ignored`` (only difficult flaws lie in it, so that
        it counts nowhere). Detections of difficult flaws rate no cell.

    Raises:
        ValueError: If ``cell_mm`` is not positive.
    """
    if not cell_mm > 0:
        raise ValueError(f"cell_mm is {cell_mm}; allowed: above 0")
    weld_mm = table.films["weld_mm"].to_numpy(dtype=np.float64)
    is_known = ~np.isnan(weld_mm)
    count = np.zeros(len(weld_mm), dtype=np.int64)
    count[is_known] = np.maximum(1, np.floor(weld_mm[is_known] / cell_mm + 0.5 + _TOLERANCE))
    first_row = np.cumsum(count) - count

    film = np.repeat(np.arange(len(count)), count)
    cell = np.arange(count.sum()) - first_row[film]
    end_mm = np.where(cell == count[film] - 1, weld_mm[film], (cell + 1) * cell_mm)
    cells = pd.DataFrame({"film": film, "cell": cell + 1, "start_mm": cell * cell_mm, "end_mm": end_mm})

    def rows_of(boxes: pd.DataFrame) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        start_mm, stop_mm = along_weld_mm(boxes, table.films)
        of_film = boxes["film"].to_numpy(dtype=np.int64)
        box, inner = spread_over_cells(start_mm / cell_mm, stop_mm / cell_mm, count[of_film])
        return box, first_row[of_film[box]] + inner

    flaw, flaw_cell = rows_of(table.flaws)
    is_difficult = table.flaws["difficult"].to_numpy(dtype=np.bool_)[flaw]
    cells["has_flaw"] = mark(flaw_cell[~is_difficult], len(cells))
    rating = table.detections[~table.detections["ignored"].astype(bool)]
    detection, detection_cell = rows_of(rating)
    cells["score"] = best(rating["score"].to_numpy(dtype=np.float64)[detection], detection_cell, len(cells))
    cells["ignored"] = mark(flaw_cell[is_difficult], len(cells)) & ~cells["has_flaw"]
    return cells


def cell_roc(cells: pd.DataFrame) -> pd.DataFrame:
    """Trace hits over false calls while the threshold falls.

    Args:
        cells: What `cell_table` returns, or any table with its ``has_flaw``, ``score`` and ``ignored``.

    Returns:
        One row a threshold, highest first: ``min_score``, ``false_call_rate``, ``hit_rate`` (NaN without cells of that
        kind). It starts at plus infinity, where nothing is reported, and ends at minus infinity, where every cell is;
        straight lines between the rows join cells that are rated alike.
    """
    counted = _counted(cells)
    has_flaw = counted["has_flaw"].to_numpy(dtype=np.bool_)
    scores = counted["score"].to_numpy(dtype=np.float64)
    thresholds = np.unique(np.concatenate([[-np.inf, np.inf], scores]))[::-1]

    def rate(kind: Bool[np.ndarray, " cells"]) -> Float[np.ndarray, " thresholds"]:
        reached = kind.sum() - np.searchsorted(np.sort(scores[kind]), thresholds, side="left")
        return reached / kind.sum() if kind.any() else np.full(len(thresholds), np.nan)

    return pd.DataFrame({"min_score": thresholds, "false_call_rate": rate(~has_flaw), "hit_rate": rate(has_flaw)})


def cell_auc(cells: pd.DataFrame) -> float | None:
    """Give the area under `cell_roc`: the chance that a flawed cell is rated above a sound one, ties counting half.

    Returns:
        0 to 1, 0.5 for a detector that guesses; None where all cells are of one kind.
    """
    curve = cell_roc(cells)
    area = np.trapezoid(curve["hit_rate"].to_numpy(), curve["false_call_rate"].to_numpy())
    return None if np.isnan(area) else float(area)


def cell_auc_interval(
    cells: pd.DataFrame, weld_of_film: pd.Series, rounds: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Say how far the area may be off, by drawing the welds anew with replacement, each with all of its films.

    Rounds that happen to draw cells of one kind only have no area and are left out.

    Args:
        cells: What `cell_table` returns.
        weld_of_film: Name of the weld by film, as the table's films have it.
        rounds: How often to draw.
        seed: Of the random numbers.

    Returns:
        The 2.5 % and 97.5 % quantiles; None without an area, or with fewer than two welds, which tell nothing of how
        welds differ, or where all draws are alike.
    """
    counted = _counted(cells)
    weld, welds = pd.factorize(weld_of_film.loc[counted["film"]], sort=True)
    if len(welds) < 2 or counted["has_flaw"].nunique() < 2:
        return None
    has_flaw = counted["has_flaw"].to_numpy(dtype=np.bool_)
    order = np.argsort(counted["score"].to_numpy(dtype=np.float64), kind="stable")
    has_flaw, weld = has_flaw[order], weld[order]
    ranks = counted["score"].rank(method="dense").to_numpy()[order].astype(np.int64) - 1
    draws = np.random.default_rng(seed).multinomial(len(welds), np.full(len(welds), 1 / len(welds)), size=rounds)
    areas = np.array([_weighted_auc(has_flaw, ranks, drawn[weld]) for drawn in draws])
    areas = areas[~np.isnan(areas)]
    if not len(areas):
        return None
    low, high = np.quantile(areas, [0.025, 0.975])
    # Where every draw says the same, as when all cells are told apart, drawing says nothing of other welds.
    return (float(low), float(high)) if low < high else None


def cell_rates(cells: pd.DataFrame, min_score: float) -> tuple[float | None, float | None]:
    """Give the shares of the flawed and of the sound cells that are rated at least ``min_score``.

    Returns:
        Hit rate and false-call rate, each per cell; None without cells of that kind.
    """
    counted = _counted(cells)
    is_reported = (counted["score"] >= min_score).to_numpy(dtype=np.bool_)
    has_flaw = counted["has_flaw"].to_numpy(dtype=np.bool_)
    hit_rate, false_call_rate = (
        float(is_reported[kind].mean()) if kind.any() else None for kind in (has_flaw, ~has_flaw)
    )
    return hit_rate, false_call_rate


def along_weld_mm(
    boxes: pd.DataFrame, films: pd.DataFrame
) -> tuple[Float[np.ndarray, " boxes"], Float[np.ndarray, " boxes"]]:
    """Say where boxes begin and end along the longer side of their films, in mm; NaN where the pitch is unknown."""
    film = boxes["film"].to_numpy(dtype=np.int64)
    is_upright = (films["height_px"] > films["width_px"]).to_numpy(dtype=np.bool_)[film]
    pitch_mm = films["pixel_pitch_mm"].to_numpy(dtype=np.float64)[film]
    start, stop = (
        np.where(is_upright, boxes[f"y{end}"].to_numpy(), boxes[f"x{end}"].to_numpy()) * pitch_mm for end in (0, 1)
    )
    return start, stop


def spread_over_cells(
    start: Float[np.ndarray, " boxes"], stop: Float[np.ndarray, " boxes"], count: Int[np.ndarray, " boxes"]
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Pair boxes with the cells of which they cover any part.

    Args:
        start: Where each box begins along the weld, in cells; NaN for a box that is in none.
        stop: Where it ends.
        count: Cells of its film. What reaches beyond the last one lies in that: it may be longer than the others.

    Returns:
        Rows of the boxes, and for each the number of a cell, from 0.
    """
    is_inside = (stop > 0) & (count > 0)
    (box,) = np.nonzero(is_inside)
    last_cell = count[box] - 1
    first = np.clip(np.floor(start[box] + _TOLERANCE).astype(np.int64), 0, last_cell)
    last = np.clip(np.ceil(stop[box] - _TOLERANCE).astype(np.int64) - 1, first, last_cell)
    lengths = last - first + 1
    pair = np.repeat(np.arange(len(box)), lengths)
    inner = np.arange(lengths.sum()) - (np.cumsum(lengths) - lengths)[pair]
    return box[pair], first[pair] + inner


def mark(rows: Int[np.ndarray, " pairs"], count: int) -> Bool[np.ndarray, " cells"]:
    """Set True at these rows of a column of that length."""
    marked = np.zeros(count, dtype=np.bool_)
    marked[rows] = True
    return marked


def best(
    scores: Float[np.ndarray, " pairs"], rows: Int[np.ndarray, " pairs"], count: int
) -> Float[np.ndarray, " cells"]:
    """Collect the highest score of each row; minus infinity without any."""
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, rows, scores)
    return highest


def _counted(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[~cells["ignored"].astype(bool)]


def _weighted_auc(
    has_flaw: Bool[np.ndarray, " cells"], ranks: Int[np.ndarray, " cells"], weights: Int[np.ndarray, " cells"]
) -> float:
    """Area over cells that count several times or not at all.

    Args:
        has_flaw: In order of the scores.
        ranks: From 0; equal for equal scores.
        weights: How often each cell counts.

    Returns:
        NaN where all cells that count are of one kind.
    """
    flawed = np.bincount(ranks, weights * has_flaw)
    sound = np.bincount(ranks, weights * ~has_flaw)
    pairs = flawed.sum() * sound.sum()
    below = np.cumsum(sound) - sound / 2
    return float(flawed @ below / pairs) if pairs else float("nan")

"""How far the headline numbers can be trusted: 95 % intervals by drawing the welds anew.

Flaws of a weld, and the films that show it, resemble each other: a weld is drawn with all that it holds. Each number is
a function of how often each weld was drawn, so that a resample is no more than a row of weights.

The intervals of average precision lie a little high, for it rewards luck: on simulated films of 50 welds they held the
mean of new films in 91 of 100 cases, on 15 welds in 90.

References:
    Efron 1979, Bootstrap methods: another look at the jackknife, Annals of Statistics 7, 1-26.
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13, for the percentile interval.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest

from defects_in_welds.evaluation.coco_map import IOU_THRESHOLDS, RECALLS
from defects_in_welds.evaluation.film_results import FilmResult
from defects_in_welds.evaluation.matching import MatchTable, match

_PERCENTILES = (2.5, 97.5)
_MOST_OF_NONE = -math.log(0.025)  # upper 97.5 % bound of a Poisson mean of which nothing was seen
_CHUNK = 2_000_000  # most numbers of an array: samples of a chunk, times detections of a class


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval.

    Attributes:
        value: Of the films as they are.
        low: The lower end.
        high: The upper end.
    """

    value: float
    low: float
    high: float


def headline_intervals(
    results: Sequence[FilmResult],
    defect_classes: Sequence[str],
    table: MatchTable,
    min_score: float,
    samples: int,
    seed: int,
) -> dict[str, Interval | None]:
    """Compute the headline numbers with their intervals.

    Args:
        results: Truth and detections, film by film.
        defect_classes: Class names in order of their ids, which start at 1.
        table: The match of the same films, by whatever rule: recall and false calls are counted in it.
        min_score: Least score of the detections that are counted for recall and false calls.
        samples: Number of resamples.
        seed: The same seed and films give the same intervals.

    Returns:
        By name as in `headline_numbers`. None where there is no number or no interval: one weld alone is drawn again
        and again, and says nothing about others. Drawing says too little where all welds are alike, as when every flaw
        is found: a recall's interval is at least the exact one of so many flaws, that of no false calls at all reaches
        up to their exact bound, and other numbers that never change have none.

    References:
        Clopper and Pearson 1934, Biometrika 26, 404; Garwood 1936, Biometrika 28, 437: the exact intervals.
    """
    welds = count_welds(table)
    numbers = headline_numbers(results, defect_classes, table, min_score, draw_welds(table, samples, seed))
    extents = {"false_calls_per_film": len(table.films), "false_calls_per_metre": table.films["weld_mm"].sum() / 1000}
    intervals: dict[str, Interval | None] = {}
    for name, values in numbers.items():
        interval = percentile_interval(values, welds)
        if interval is not None and name.startswith("recall"):
            low, high = _exact_interval(table, name, min_score)
            interval = replace(interval, low=min(low, interval.low), high=max(high, interval.high))
        elif interval is not None and interval.low == interval.high:
            is_none = interval.value == 0 and name in extents
            interval = Interval(0.0, 0.0, _MOST_OF_NONE / extents[name]) if is_none else None
        intervals[name] = interval
    return intervals


def _exact_interval(table: MatchTable, name: str, min_score: float) -> tuple[float, float]:
    """Compute the interval of a recall from its number of flaws, as if they were independent."""
    of_class = np.ones(len(table.flaws), dtype=np.bool_)
    if "/" in name:
        of_class = (table.flaws["defect_class"] == name.partition("/")[2]).to_numpy(dtype=np.bool_)
    found = int((table.is_found(min_score) & of_class).sum())
    flaws = found + int((table.is_missed(min_score) & of_class).sum())
    interval = binomtest(found, flaws).proportion_ci(method="exact")
    return float(interval.low), float(interval.high)


def percentile_interval(values: Float[np.ndarray, " rows"], welds: int) -> Interval | None:
    """Take the number of the films as they are from the first row, and its interval from the others.

    Resamples that have no number, such as the recall of a class whose flaws were not drawn, are left out.

    Args:
        values: A number for each row of `draw_welds`.
        welds: How many there are; with fewer than two there is no interval.
    """
    resampled = values[1:][~np.isnan(values[1:])]
    if welds < 2 or np.isnan(values[0]) or not len(resampled):
        return None
    return Interval(float(values[0]), *np.percentile(resampled, _PERCENTILES).tolist())


def count_welds(table: MatchTable) -> int:
    """Count the welds that the films show."""
    return int(table.films["weld"].nunique())


def draw_welds(table: MatchTable, samples: int, seed: int) -> Float[np.ndarray, "rows welds"]:
    """Draw as many welds as there are, with replacement.

    Returns:
        How often each weld is drawn, in the order of their names; in the first row each once: the films as they are.
        A row holds 8 bytes a weld.
    """
    welds = count_welds(table)
    once = np.ones((1, welds))
    if welds == 0:
        return np.repeat(once, samples + 1, axis=0)
    drawn = np.random.default_rng(seed).multinomial(welds, np.full(welds, 1 / welds), size=samples)
    return np.concatenate([once, drawn])


def headline_numbers(
    results: Sequence[FilmResult],
    defect_classes: Sequence[str],
    table: MatchTable,
    min_score: float,
    weights: Float[np.ndarray, "rows welds"],
) -> dict[str, Float[np.ndarray, " rows"]]:
    """Compute the headline numbers of films that count as often as the weights say.

    Args:
        results: Truth and detections, film by film.
        defect_classes: Class names in order of their ids, which start at 1.
        table: The match of the same films, by whatever rule.
        min_score: Least score of the detections that are counted for recall and false calls.
        weights: How often each weld counts, in the order of their names.

    Returns:
        ``recall`` and ``recall/<class>``, ``false_calls_per_film``, ``false_calls_per_metre`` (of weld), ``mAP50``,
        ``mAP`` and ``AP50/<class>`` as COCO has them. NaN where there is none: no flaw to find on the films of that
        row, or the length of a weld is unknown. A class without flaws to find has no part in a row's mAP.
    """
    weld = _weld_of_film(table)
    precisions = np.array(
        [
            [
                _average_precision(_outcomes(matched, weld, defect_class, weights.shape[1]), weights)
                for defect_class in defect_classes
            ]
            for threshold in IOU_THRESHOLDS
            for matched in [match(results, defect_classes, "iou", float(threshold))]
        ]
    ).reshape(len(IOU_THRESHOLDS), len(defect_classes), len(weights))
    return {
        **_count_outcomes(table, weld, defect_classes, min_score, weights),
        "mAP50": _mean_of_numbers(precisions[0]),
        "mAP": _mean_of_numbers(precisions.mean(axis=0)),
        **{f"AP50/{name}": precisions[0, k] for k, name in enumerate(defect_classes)},
    }


def _count_outcomes(
    table: MatchTable,
    weld: Int[np.ndarray, " films"],
    defect_classes: Sequence[str],
    min_score: float,
    weights: Float[np.ndarray, "rows welds"],
) -> dict[str, Float[np.ndarray, " rows"]]:
    weld_of_flaw, is_found = weld[table.flaws["film"]], table.is_found(min_score)
    is_counted = is_found | table.is_missed(min_score)
    flaw_class = table.flaws["defect_class"]
    chosen = {"recall": np.ones(len(flaw_class), dtype=np.bool_)}
    chosen |= {f"recall/{name}": (flaw_class == name).to_numpy(dtype=np.bool_) for name in defect_classes}

    def total(welds: Int[np.ndarray, " items"], amounts: Float[np.ndarray, " items"] | None = None) -> np.ndarray:
        return weights @ np.bincount(welds, amounts, minlength=weights.shape[1])

    false_calls = total(weld[table.detections["film"][table.is_false_call(min_score)]])
    return {
        **{
            name: _ratio(total(weld_of_flaw[is_found & of_class]), total(weld_of_flaw[is_counted & of_class]))
            for name, of_class in chosen.items()
        },
        "false_calls_per_film": _ratio(false_calls, total(weld)),
        "false_calls_per_metre": _ratio(false_calls, total(weld, table.films["weld_mm"].to_numpy() / 1000)),
    }


@dataclass(frozen=True, eq=False)
class _Outcomes:
    """The detections of a class that count, best first, and how many flaws there are.

    Attributes:
        weld: Place of each detection's weld among the sorted names.
        is_hit: Whether it found a flaw.
        flaws: Flaws to find, by weld.
    """

    weld: Int[np.ndarray, " detections"]
    is_hit: Bool[np.ndarray, " detections"]
    flaws: Int[np.ndarray, " welds"]


def _outcomes(table: MatchTable, weld: Int[np.ndarray, " films"], defect_class: str, welds: int) -> _Outcomes:
    flaws = table.flaws[(table.flaws["defect_class"] == defect_class) & ~table.flaws["difficult"]]
    detections = table.detections[(table.detections["defect_class"] == defect_class) & ~table.detections["ignored"]]
    # Equal scores stay in the order of the films, as COCO leaves them.
    order = np.argsort(-detections["score"].to_numpy(), kind="stable")
    return _Outcomes(
        weld[detections["film"].to_numpy()[order]],
        (detections["flaw"] >= 0).to_numpy(dtype=np.bool_)[order],
        np.bincount(weld[flaws["film"]], minlength=welds),
    )


def _average_precision(outcomes: _Outcomes, weights: Float[np.ndarray, "rows welds"]) -> Float[np.ndarray, " rows"]:
    """Compute COCO's average precision of weighted films: the best precision at each recall or beyond, mean of 101.

    Precision falls from one hit to the next, so that the hits alone tell the best. The copies of a film that is drawn
    twice stand side by side.

    Returns:
        NaN in rows without flaws.
    """
    flaws = weights @ outcomes.flaws
    (hits,) = np.nonzero(outcomes.is_hit)
    precision = np.zeros(len(weights))
    for rows in _chunks(len(weights), len(outcomes.weld)):
        calls = np.cumsum(weights[rows][:, outcomes.weld], axis=1)[:, hits]
        found = np.cumsum(weights[rows][:, outcomes.weld[hits]], axis=1)
        best = np.maximum.accumulate(found[:, ::-1] / np.maximum(calls[:, ::-1], 1), axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, found / np.maximum(flaws[rows, None], 1), side="right")
        precision[rows] = (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return np.where(flaws > 0, precision, np.nan)


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _CHUNK // max(1, columns))
    return (slice(start, start + step) for start in range(0, rows, step))


def _mean_of_numbers(values: Float[np.ndarray, "classes rows"]) -> Float[np.ndarray, " rows"]:
    """Take the mean over classes, without those that have no number; NaN where none has."""
    is_number = ~np.isnan(values)
    return _ratio(np.where(is_number, values, 0).sum(axis=0), is_number.sum(axis=0))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _weld_of_film(table: MatchTable) -> Int[np.ndarray, " films"]:
    # In the order of their names, so that a seed draws the same welds in whatever order the films come.
    return pd.factorize(table.films["weld"], sort=True)[0]

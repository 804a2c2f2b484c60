"""Free-response ROC: what share of the flaws is found at the price of how many false calls.

Where a film can hold any number of flaws at any place, there are no true negatives, and hence no ROC curve; false calls
per film, or per metre of weld, take the place of the false positive rate.

References:
    Bunch et al. 1977, A free response approach to the measurement and characterization of radiographic observer
    performance, Proc. SPIE 127, 124-135.
    Chakraborty 1989, Maximum likelihood analysis of free-response receiver operating characteristic (FROC) data,
    Medical Physics 16, 561-568.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from defects_in_welds.evaluation.matching import MatchTable


@dataclass(frozen=True, eq=False)
class Froc:
    """A curve with one point for each distinct score, best first; detections count from that score on.

    Attributes:
        flaws: Flaws to be found; difficult ones are none.
        thresholds: The distinct scores of the detections that count, falling.
        found: Flaws that are found.
        recall: Their share; NaN without flaws.
        false_calls: Detections that found nothing.
        false_calls_per_film: NaN without films.
        false_calls_per_metre: Per metre of weld; None where the length of any weld is unknown, or without films.
    """

    flaws: int
    thresholds: Float[np.ndarray, " points"]
    found: Int[np.ndarray, " points"]
    recall: Float[np.ndarray, " points"]
    false_calls: Int[np.ndarray, " points"]
    false_calls_per_film: Float[np.ndarray, " points"]
    false_calls_per_metre: Float[np.ndarray, " points"] | None


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what all classes together come to on the films that chose it.

    Attributes:
        threshold: Least score of a detection that counts.
        recall: Share of the flaws that are found; NaN without flaws.
        false_calls_per_film: Mean number.
        false_calls_per_metre: Per metre of weld.
    """

    threshold: float
    recall: float
    false_calls_per_film: float
    false_calls_per_metre: float


def froc(table: MatchTable, defect_class: str | None = None) -> Froc:
    """Draw the curve of a class, or of all classes together.

    Difficult flaws, and detections of them, count nowhere.

    Args:
        table: Which detections found which flaws.
        defect_class: Name of the class; None: all.
    """
    flaws, detections = table.flaws[~table.flaws["difficult"]], table.detections[~table.detections["ignored"]]
    if defect_class is not None:
        flaws, detections = (rows[rows["defect_class"] == defect_class] for rows in (flaws, detections))
    # From the lowest score to the highest, and back.
    thresholds, point, calls = np.unique(detections["score"].to_numpy(), return_inverse=True, return_counts=True)
    hits = np.bincount(point[(detections["flaw"] >= 0).to_numpy()], minlength=len(thresholds))
    found, false_calls = np.cumsum(hits[::-1]), np.cumsum((calls - hits)[::-1])
    weld_mm = float(table.films["weld_mm"].sum(skipna=False))
    return Froc(
        len(flaws),
        thresholds[::-1],
        found,
        found / (len(flaws) or math.nan),
        false_calls,
        false_calls / (len(table.films) or math.nan),
        false_calls / (weld_mm / 1000) if weld_mm > 0 else None,
    )


def choose_threshold(table: MatchTable, false_calls_per_metre: float) -> OperatingPoint | None:
    """Find the lowest threshold that keeps to a rate of false calls, all classes together.

    Where even the best detections are too many, the threshold lies just above them: nothing is reported. Where the rate
    is never exceeded, it is the lowest score that there is: the detector reports nothing below its own threshold.

    Args:
        table: Films that chose nothing else and measure nothing else: those of the validation.
        false_calls_per_metre: Most false calls per metre of weld, on the whole of the films.

    Returns:
        None without detections, or where the length of any weld is unknown.
    """
    curve = froc(table)
    per_metre = curve.false_calls_per_metre
    if per_metre is None or not len(curve.thresholds):
        return None
    kept = int(np.searchsorted(per_metre, false_calls_per_metre, side="right"))
    if kept == 0:
        # Scores are float32 where they come from: a float64 just above one would be rounded back to it.
        above = np.nextafter(np.float32(curve.thresholds[0]), np.float32(np.inf))
        return OperatingPoint(float(above), 0.0 if curve.flaws else math.nan, 0.0, 0.0)
    last = kept - 1
    return OperatingPoint(
        *(float(values[last]) for values in (curve.thresholds, curve.recall, curve.false_calls_per_film, per_metre))
    )


def recall_at(curve: Froc, false_calls_per_metre: Sequence[float]) -> Float[np.ndarray, " rates"] | None:
    """Read a curve at rates of false calls; the mean over them is one number for the whole curve.

    Args:
        curve: Any.
        false_calls_per_metre: The rates, such as 1, 3, 10 and 30 per metre of weld.

    Returns:
        The largest recall that costs no more than each rate: 0 where even the best detections cost more, the recall of
        all detections where they cost less; NaN without flaws. None where the length of any weld is unknown.
    """
    if curve.false_calls_per_metre is None:
        return None
    kept = np.searchsorted(curve.false_calls_per_metre, np.asarray(false_calls_per_metre, dtype=float), side="right")
    return np.append(0.0 if curve.flaws else math.nan, curve.recall)[kept]

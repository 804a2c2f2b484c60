"""Whether scores mean what they say: of the reports with a score near 0.8, are eight in ten right?

References:
    Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599, for both errors in bins of equal width.
    Nixon et al. 2019, Measuring Calibration in Deep Learning, arXiv:1904.01685, for bins of equal counts.
    Kueppers et al. 2020, Multivariate Confidence Calibration for Object Detection, arXiv:2004.13546, for detectors.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from defects_in_welds.evaluation.matching import MatchTable


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """The share of hits over the score; bins without detections are left out.

    Attributes:
        low: Least score, which belongs to the bin.
        high: Score at which the bin ends; it belongs to the last bin alone.
        counts: Detections.
        mean_scores: What the detector says.
        hit_shares: What is true.
        expected_error: Expected calibration error: distance of the two, mean over all detections.
        largest_error: Maximum calibration error: their largest distance in a bin, of however few detections.
    """

    low: Float[np.ndarray, " bins"]
    high: Float[np.ndarray, " bins"]
    counts: Int[np.ndarray, " bins"]
    mean_scores: Float[np.ndarray, " bins"]
    hit_shares: Float[np.ndarray, " bins"]
    expected_error: float
    largest_error: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """The reliability of scores in two kinds of bins.

    Attributes:
        equal_width: From 0 to 1.
        equal_count: Holding about as many detections each; fewer bins than asked where many scores are equal.
    """

    equal_width: ReliabilityCurve
    equal_count: ReliabilityCurve


def measure_calibration(table: MatchTable, bin_count: int) -> Calibration | None:
    """Compare the scores of detections with the share of them that are hits.

    Args:
        table: The matches. Ignored detections are left out.
        bin_count: How many bins to cut the scores into.

    Returns:
        None if there is no detection.
    """
    is_counted = ~table.detections["ignored"].to_numpy(dtype=np.bool_)
    if not is_counted.any():
        return None
    scores = table.detections["score"].to_numpy()[is_counted]
    is_hit = table.is_hit(-np.inf)[is_counted]
    edges = np.linspace(0, 1, bin_count + 1)
    rising = np.sort(scores)
    # Equal scores share a bin: otherwise their order would change the errors.
    starts = np.unique(rising[np.arange(bin_count) * len(rising) // bin_count])
    return Calibration(_curve(scores, is_hit, edges), _curve(scores, is_hit, np.append(starts, rising[-1])))


def _curve(
    scores: Float[np.ndarray, " detections"],
    is_hit: Bool[np.ndarray, " detections"],
    edges: Float[np.ndarray, " edges"],
) -> ReliabilityCurve:
    place = np.searchsorted(edges[:-1], scores, side="right") - 1
    counts = np.bincount(place, minlength=len(edges) - 1)
    filled = counts > 0
    mean_scores, hit_shares = (
        np.bincount(place, weights=values, minlength=len(counts))[filled] / counts[filled]
        for values in (scores, is_hit)
    )
    errors = np.abs(mean_scores - hit_shares)
    return ReliabilityCurve(
        edges[:-1][filled],
        edges[1:][filled],
        counts[filled],
        mean_scores,
        hit_shares,
        float(np.average(errors, weights=counts[filled])),
        float(errors.max()),
    )

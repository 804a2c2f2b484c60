"""Probability of detection by flaw size from hits and misses, after MIL-HDBK-1823A; from signals in `signal_response`.

The probability of a hit is F(b0 + b1 ln a), where F is the logistic or the normal distribution function. Fitted are a50
and a90, the sizes found with a probability of 50 and 90 %, and a90/95, the upper confidence bound of a90. The bound
comes from the modified signed root of the likelihood ratio (`modified_root`). In the simulated studies of
``benchmarks/pod_coverage.py`` that of 95 % lies above the true a90 in 94 to 96 % of studies of 40 to 300 flaws, and in
97.7 % where one in fifteen is separated.

``correction=False`` gives the bound of the plain likelihood ratio: of all curves whose likelihood is not too far below
the best one's, the largest a90. One-sided 95 % means that twice the log-likelihood may fall by 2.71, chi-squared's 90 %
point with one degree of freedom. The handbook's own program mh1823 lets it fall by 3.84, which is one-sided 97.5 %:
``confidence=0.975`` gives its numbers. The plain bound is true of large samples alone: that of 95 % covers in 94.6 % of
studies of 300 flaws, in about 93 % of 120 and 91.5 % of 60.

A misses-then-hits sample, in which one size divides the misses from the hits, has no most likely curve. It is fitted
with Jeffreys' prior as a penalty, for the logit Firth's method, in which estimates and bounds are finite. The bound is
then the penalised likelihood ratio's.

The two parameters are fitted here rather than by statsmodels, the check in the tests: it has neither the penalty nor
the bounds, and a bound takes hundreds of likelihoods, which its models compute in milliseconds each.

Flaws count as independent of each other. Where many lie on one film, or one flaw is on several, the true bounds are
wider than these.

References:
    MIL-HDBK-1823A, 2009, Nondestructive Evaluation System Reliability Assessment.
    Annis and Gandossi 2010, Probability of Detection Curves: Statistical Best-Practices, ENIQ report 41, EUR 24429 EN:
        why fewer than 60 hits and misses give no stable curve.
    Firth 1993, Biometrika 80, 27: the penalty. Heinze and Schemper 2002, Statistics in Medicine 21, 2409: it solves
        separation, with bounds from the penalised likelihood. Kosmidis and Firth 2021, Biometrika 108, 71: so it does
        for the probit.
    Hosmer and Lemeshow 1980, Communications in Statistics A9, 1043: the test of fit.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.stats import chi2, rankdata

from defects_in_welds.evaluation.pod.likelihood import (
    Likelihood,
    LogScale,
    Region,
    distribution,
    maximise,
    quantile_of,
)
from defects_in_welds.evaluation.pod.likelihood import Link as Link
from defects_in_welds.evaluation.pod.modified_root import ModifiedRoot

Bound = Literal["modified root", "likelihood ratio", "penalised likelihood ratio"]

MIN_FLAWS = 40
"""Below it there is no fit."""
ADVISED_FLAWS = 60
"""Below it a fit to hits and misses carries a caution."""
FARTHEST = 1000.0
"""An a90 or a bound beyond so many times the largest flaw says nothing about the flaws that were looked at."""

SMALL_P = 0.05
"""p-value below which a misfit is named."""


@dataclass(frozen=True)
class PodRefusal:
    """Why there is no POD.

    Attributes:
        reason: A sentence for the report.
    """

    reason: str


class PodCurve(NamedTuple):
    """Points of a POD curve.

    Attributes:
        pod: Probability of detection at each size.
        lower: Its lower confidence bound, one-sided, for each size by itself; 0.9 at a90/95.
    """

    pod: Float[np.ndarray, " sizes"]
    lower: Float[np.ndarray, " sizes"]


@dataclass(frozen=True, eq=False)
class PodFit:
    """A POD curve fitted to hits and misses; sizes in the unit of the sizes that were given.

    Attributes:
        link: ``logit`` or ``probit``.
        method: How it was fitted.
        bound: What a90/95 and the band come from.
        is_separated: Whether one size divides misses and hits, so that the penalised likelihood had to serve.
        intercept: b0.
        slope: b1, per unit of ln a.
        a50: Size found with a probability of 50 %.
        a90: Size found with a probability of 90 %.
        a90_95: Upper bound of a90 at `confidence`, 95 % unless another was asked for; None where there is none.
        unbounded_reason: Why there is none; None where there is one.
        confidence: One-sided confidence of the bound and the band.
        flaws: Number of flaws.
        hits: Number of flaws found.
        log_likelihood: Without the penalty.
        aic: Akaike's information criterion; the smaller of two links fits better.
        deviance: Residual deviance. That of single hits and misses compares fits; it does not judge one.
        hosmer_lemeshow_p: p-value of the fit over ten groups of sizes; None where the sizes make fewer than three.
        cautions: Sentences for the report.
    """

    link: Link
    method: Literal["maximum likelihood", "penalised likelihood"]
    bound: Bound
    is_separated: bool
    intercept: float
    slope: float
    a50: float
    a90: float
    a90_95: float | None
    unbounded_reason: str | None
    confidence: float
    flaws: int
    hits: int
    log_likelihood: float
    aic: float
    deviance: float
    hosmer_lemeshow_p: float | None
    cautions: tuple[str, ...]
    _bounds: ModifiedRoot | Region = field(repr=False)
    _region: Region = field(repr=False)
    _scale: LogScale = field(repr=False)

    def curve(self, sizes: Float[np.ndarray, " sizes"]) -> PodCurve:
        """Read the curve and its lower band at any positive sizes.

        The band is the plain likelihood ratio's where the modified root cannot be computed.

        Raises:
            ValueError: If a size is not positive and finite.
        """
        x = self._scale.standardise(checked_sizes(sizes))
        try:
            lowest = self._bounds.lower_band(x)
        except ArithmeticError:
            lowest = self._region.lower_band(x)
        best = self._region.best
        return PodCurve(distribution(best[0] + best[1] * x, self.link), distribution(lowest, self.link))


def fit_pod(
    sizes: Float[np.ndarray, " flaws"],
    hits: Bool[np.ndarray, " flaws"],
    link: Link = "logit",
    confidence: float = 0.95,
    correction: bool = True,
) -> PodFit | PodRefusal:
    """Fit a POD curve to hits and misses.

    Args:
        sizes: Size of each flaw, in any unit; positive.
        hits: Which flaws were found.
        link: ``logit`` for the logistic, ``probit`` for the normal distribution function.
        confidence: One-sided confidence of a90/95 and of the band.
        correction: Whether the bounds come from the modified root; otherwise from the plain likelihood ratio.

    Returns:
        The fit, or the reason why these flaws do not give one.

    Raises:
        ValueError: If sizes or hits are not what they should be, or the link or the confidence is unknown.
    """
    sizes, is_hit = checked_sizes(sizes), _checked_hits(hits, len(sizes))
    if link not in get_args(Link):
        raise ValueError(f"link {link!r} is unknown; use one of {', '.join(get_args(Link))}")
    check_confidence(confidence)
    refusal = refuse_sample(sizes) or _refuse_hits(is_hit)
    if refusal:
        return refusal

    scale = LogScale.of(sizes)
    is_separated = _is_separated(sizes, is_hit)
    likelihood = Likelihood(scale.standardise(sizes), np.where(is_hit, 1.0, -1.0), link, is_separated)
    best = maximise(likelihood)
    if best[1] <= 0:
        return PodRefusal("larger flaws were not found more often than small ones, so that there is no a90")
    quantile_90 = quantile_of(0.9, link)
    a50, a90 = (scale.size((quantile - best[0]) / best[1]) for quantile in (0.0, quantile_90))
    if refusal := refuse_far_a90(a90, sizes):
        return refusal
    region = Region.around(best, likelihood, confidence)
    bounds, bound, upper, cautions = _find_bounds(region, confidence, correction)
    a90_95, unbounded_reason = bound_within_reach(upper, scale, sizes)

    log_likelihood = likelihood.unpenalised(best)
    hosmer_lemeshow_p = _hosmer_lemeshow(sizes, is_hit, distribution(best[0] + best[1] * likelihood.x, link))
    if len(sizes) < ADVISED_FLAWS:
        cautions.append(f"{len(sizes)} flaws are few: below {ADVISED_FLAWS} hits and misses the curve is not stable")
    if is_separated:
        cautions.append("one size divides misses from hits: the curve's slope rests on the penalty, not on the flaws")
    if hosmer_lemeshow_p is not None and hosmer_lemeshow_p < SMALL_P:
        cautions.append(f"the curve fits the hits and misses badly (Hosmer-Lemeshow p = {hosmer_lemeshow_p:.2g})")
    cautions += name_extrapolations(sizes, a90, a90_95)
    return PodFit(
        link=link,
        method="penalised likelihood" if is_separated else "maximum likelihood",
        bound=bound,
        is_separated=is_separated,
        intercept=(best[0] - best[1] * scale.centre / scale.width).item(),
        slope=(best[1] / scale.width).item(),
        a50=a50,
        a90=a90,
        a90_95=a90_95,
        unbounded_reason=unbounded_reason,
        confidence=confidence,
        flaws=len(sizes),
        hits=int(is_hit.sum()),
        log_likelihood=log_likelihood,
        aic=4 - 2 * log_likelihood,
        deviance=-2 * log_likelihood,
        hosmer_lemeshow_p=hosmer_lemeshow_p,
        cautions=tuple(cautions),
        _bounds=bounds,
        _region=region,
        _scale=scale,
    )


def _find_bounds(
    region: Region, confidence: float, correction: bool
) -> tuple[ModifiedRoot | Region, Bound, float | None, list[str]]:
    """Choose what the bounds come from, and find that of a90 in standardised ln a."""
    likelihood, cautions = region.likelihood, list[str]()
    quantile_90 = quantile_of(0.9, likelihood.link)
    if likelihood.is_penalised:
        return region, "penalised likelihood ratio", region.upper_bound(quantile_90), cautions
    if correction:
        root = ModifiedRoot.around(region.best, likelihood, confidence)
        try:
            return root, "modified root", root.upper_bound(quantile_90), cautions
        except ArithmeticError as error:
            cautions = [f"{error}: the bound is the plain likelihood ratio's, which runs low"]
    return region, "likelihood ratio", region.upper_bound(quantile_90), cautions


def choose_link(
    sizes: Float[np.ndarray, " flaws"], hits: Bool[np.ndarray, " flaws"], confidence: float = 0.95
) -> PodFit | PodRefusal:
    """Fit both links and keep the one with the smaller AIC, or the refusal; arguments and errors are `fit_pod`'s."""
    logit, probit = (fit_pod(sizes, hits, link, confidence) for link in get_args(Link))
    if isinstance(logit, PodRefusal) or isinstance(probit, PodRefusal):
        return probit if isinstance(logit, PodRefusal) else logit
    return probit if probit.aic < logit.aic else logit


def checked_sizes(sizes: Shaped[np.ndarray, " flaws"]) -> Float[np.ndarray, " flaws"]:
    """Take sizes as numbers, if they are positive and finite."""
    sizes = np.asarray(sizes, dtype=np.float64)
    if sizes.ndim != 1 or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError("sizes must be a row of positive finite numbers")
    return sizes


def _checked_hits(hits: Shaped[np.ndarray, " flaws"], flaws: int) -> Bool[np.ndarray, " flaws"]:
    hits = np.asarray(hits)
    if hits.shape != (flaws,) or not ((hits == 0) | (hits == 1)).all():
        raise ValueError("hits must be true or false, 1 or 0, one for each size")
    return hits == 1


def check_confidence(confidence: float) -> None:
    """Raise an error unless it lies between one half and one."""
    if not 0.5 < confidence < 1:
        raise ValueError(f"the confidence {confidence:g} must lie between 0.5 and 1")


def refuse_sample(sizes: Float[np.ndarray, " flaws"]) -> PodRefusal | None:
    """Tell why sizes alone allow no curve, if so."""
    if len(sizes) < MIN_FLAWS:
        count = "1 flaw is" if len(sizes) == 1 else f"{len(sizes)} flaws are"
        return PodRefusal(f"{count} too few: a POD curve takes at least {MIN_FLAWS}")
    # Sizes that differ by rounding alone give no curve over size either.
    if np.ptp(np.log(sizes)) < 1e-9:
        return PodRefusal("all flaws have the same size")
    return None


def _refuse_hits(is_hit: Bool[np.ndarray, " flaws"]) -> PodRefusal | None:
    if is_hit.all():
        return PodRefusal("no flaw was missed: smaller flaws are needed to see where detection begins")
    if not is_hit.any():
        return PodRefusal("no flaw was found: larger flaws are needed to see where detection begins")
    return None


def refuse_far_a90(a90: float, sizes: Float[np.ndarray, " flaws"]) -> PodRefusal | None:
    """Refuse an a90 that says nothing about the flaws that were looked at."""
    if a90 > FARTHEST * sizes.max():
        return PodRefusal(f"POD grows too slowly with size: a90 would be over {FARTHEST:g} times the largest flaw")
    return None


def bound_within_reach(
    x: float | None, scale: LogScale, sizes: Float[np.ndarray, " flaws"]
) -> tuple[float | None, str | None]:
    """Keep a bound that says something; else tell why there is none."""
    if x is None:
        return None, "at this confidence the flaws do not rule out that POD does not grow with size"
    if scale.size(x) > FARTHEST * sizes.max():
        return None, f"the bound would be over {FARTHEST:g} times the largest flaw"
    return scale.size(x), None


def name_extrapolations(sizes: Float[np.ndarray, " flaws"], a90: float, a90_95: float | None) -> list[str]:
    """Write the caution about sizes outside those of the flaws."""
    if a90_95 is None or max(a90, a90_95) > sizes.max():
        name = "a90" if a90 > sizes.max() else "a90/95"
        return [f"{name} lies beyond the largest flaw, {sizes.max():g}: there the curve is extrapolated"]
    if a90 < sizes.min():
        return [f"a90 lies below the smallest flaw, {sizes.min():g}: there the curve is extrapolated"]
    return []


def _is_separated(sizes: Float[np.ndarray, " flaws"], is_hit: Bool[np.ndarray, " flaws"]) -> bool:
    found, missed = sizes[is_hit], sizes[~is_hit]
    return bool(missed.max() <= found.min() or found.max() <= missed.min())


def _hosmer_lemeshow(
    sizes: Float[np.ndarray, " flaws"], is_hit: Bool[np.ndarray, " flaws"], pod: Float[np.ndarray, " flaws"]
) -> float | None:
    """Compare hits with the expected number in ten groups of about as many flaws; equal sizes stay together."""
    _, group = np.unique((rankdata(sizes) - 0.5) * 10 // len(sizes), return_inverse=True)
    count, found, expected = (np.bincount(group, weights) for weights in (None, is_hit, pod))
    if len(count) < 3:
        return None
    # A group in which the curve allows no chance either way counts fully once it is off.
    variance = np.maximum(expected * (1 - expected / count), 1e-12)
    return chi2.sf(((found - expected) ** 2 / variance).sum(), len(count) - 2).item()

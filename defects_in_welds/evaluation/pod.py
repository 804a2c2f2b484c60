"""Probability of detection by flaw size, after MIL-HDBK-1823A: from hits and misses, or from signals and a threshold.

Hits and misses: the probability of a hit is F(b0 + b1 ln a), where F is the logistic or the normal distribution
function. Fitted are a50 and a90, the sizes found with a probability of 50 and 90 %, and a90/95, the upper confidence
bound of a90. The bound comes from the likelihood ratio: of all curves whose likelihood is not too far below the best
one's, it is the largest a90. One-sided 95 % means that twice the log-likelihood may fall by 2.71, chi-squared's 90 %
point with one degree of freedom. The handbook's own program mh1823 lets it fall by 3.84, which is one-sided 97.5 %:
``confidence=0.975`` gives its numbers.

A misses-then-hits sample, in which one size divides the misses from the hits, has no most likely curve. It is fitted
with Jeffreys' prior as a penalty, for the logit Firth's method, in which estimates and bounds are finite.

The two parameters are fitted here rather than by statsmodels, the check in the tests: it has neither the penalty nor
the bound, and a bound takes hundreds of likelihoods, which its models compute in milliseconds each.

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
    Olsen 1978, Econometrica 46, 1211: the concave form of the likelihood of censored signals.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.special import expit, log_expit, log_ndtr, ndtr
from scipy.stats import chi2, norm, rankdata, shapiro

Link = Literal["logit", "probit"]

MIN_FLAWS = 40
"""Below it there is no fit."""
ADVISED_FLAWS = 60
"""Below it a fit to hits and misses carries a caution."""
MIN_MEASURED_SIGNALS = 10
"""Least number of signals between the censoring limits."""
FARTHEST = 1000.0
"""An a90 or a bound beyond so many times the largest flaw says nothing about the flaws that were looked at."""

_SMALL_P = 0.05
_LOG_ROOT_2_PI = 0.5 * np.log(2 * np.pi)
_TURN = 2 * np.pi
_SEARCH_DIRECTIONS, _CURVE_DIRECTIONS = 24, 720


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
    _region: "_Region" = field(repr=False)
    _scale: "_LogScale" = field(repr=False)

    def curve(self, sizes: Float[np.ndarray, " sizes"]) -> PodCurve:
        """Read the curve and its lower band at any positive sizes.

        Raises:
            ValueError: If a size is not positive and finite.
        """
        x = self._scale.standardise(_checked_sizes(sizes))
        parameters = self._region.boundary(np.linspace(0, _TURN, _CURVE_DIRECTIONS, endpoint=False))
        lowest = (parameters[:, :1] + parameters[:, 1:] * x).min(axis=0)
        best = self._region.best
        return PodCurve(_distribution(best[0] + best[1] * x, self.link), _distribution(lowest, self.link))


@dataclass(frozen=True, eq=False)
class SignalFit:
    """A POD curve fitted to signals; sizes in the unit of the sizes that were given.

    Attributes:
        threshold: Signal from which a flaw counts as found, in the unit of the signals.
        log_signal: Whether the logarithm of the signal was fitted.
        intercept: Of the signal, or its logarithm, on ln a.
        slope: Of the signal, or its logarithm, on ln a.
        sigma: Standard deviation of the signal, or its logarithm, around the line (maximum likelihood).
        a50: Size found with a probability of 50 %.
        a90: Size found with a probability of 90 %.
        a90_95: Upper bound of a90 at `confidence`, 95 % unless another was asked for; None where there is none.
        unbounded_reason: Why there is none; None where there is one.
        confidence: One-sided confidence of the bound and the band.
        flaws: Number of flaws.
        censored: How many signals lie at or beyond a censoring limit.
        log_likelihood: Of the signals, or their logarithms.
        cautions: Sentences for the report.
    """

    threshold: float
    log_signal: bool
    intercept: float
    slope: float
    sigma: float
    a50: float
    a90: float
    a90_95: float | None
    unbounded_reason: str | None
    confidence: float
    flaws: int
    censored: int
    log_likelihood: float
    cautions: tuple[str, ...]
    _line: "_SignalLine" = field(repr=False)
    _scale: "_LogScale" = field(repr=False)

    def curve(self, sizes: Float[np.ndarray, " sizes"]) -> PodCurve:
        """Read the curve and its lower band at any positive sizes; the band is 0 where there is no bound.

        Raises:
            ValueError: If a size is not positive and finite.
        """
        x = self._scale.standardise(_checked_sizes(sizes))
        pod = ndtr(self._line.quantile(x))
        if not self._line.is_rising(self.confidence):
            return PodCurve(pod, np.zeros_like(pod))
        quantiles = np.linspace(-9, 9, 3601)
        return PodCurve(pod, ndtr(np.interp(x, self._line.upper(quantiles, self.confidence), quantiles, left=-np.inf)))


def fit_pod(
    sizes: Float[np.ndarray, " flaws"],
    hits: Bool[np.ndarray, " flaws"],
    link: Link = "logit",
    confidence: float = 0.95,
) -> PodFit | PodRefusal:
    """Fit a POD curve to hits and misses.

    Args:
        sizes: Size of each flaw, in any unit; positive.
        hits: Which flaws were found.
        link: ``logit`` for the logistic, ``probit`` for the normal distribution function.
        confidence: One-sided confidence of a90/95 and of the band.

    Returns:
        The fit, or the reason why these flaws do not give one.

    Raises:
        ValueError: If sizes or hits are not what they should be, or the link or the confidence is unknown.
    """
    sizes, is_hit = _checked_sizes(sizes), _checked_hits(hits, len(sizes))
    if link not in get_args(Link):
        raise ValueError(f"link {link!r} is unknown; use one of {', '.join(get_args(Link))}")
    _check_confidence(confidence)
    refusal = _refuse_sample(sizes) or _refuse_hits(is_hit)
    if refusal:
        return refusal

    scale = _LogScale.of(sizes)
    is_separated = _is_separated(sizes, is_hit)
    likelihood = _Likelihood(scale.standardise(sizes), np.where(is_hit, 1.0, -1.0), link, is_separated)
    best = _maximise(likelihood)
    if best[1] <= 0:
        return PodRefusal("larger flaws were not found more often than small ones, so that there is no a90")
    region = _Region.around(best, likelihood, chi2.ppf(2 * confidence - 1, 1).item())
    quantile_90 = _quantile(0.9, link)
    a50, a90 = (scale.size((quantile - best[0]) / best[1]) for quantile in (0.0, quantile_90))
    if a90 > FARTHEST * sizes.max():
        return PodRefusal(f"POD grows too slowly with size: a90 would be over {FARTHEST:g} times the largest flaw")
    a90_95, unbounded_reason = _bound_within_reach(region.upper_bound(quantile_90), scale, sizes)

    log_likelihood = likelihood.unpenalised(best)
    hosmer_lemeshow_p = _hosmer_lemeshow(sizes, is_hit, _distribution(best[0] + best[1] * likelihood.x, link))
    cautions = []
    if len(sizes) < ADVISED_FLAWS:
        cautions.append(f"{len(sizes)} flaws are few: below {ADVISED_FLAWS} hits and misses the curve is not stable")
    if is_separated:
        cautions.append("one size divides misses from hits: the curve's slope rests on the penalty, not on the flaws")
    if hosmer_lemeshow_p is not None and hosmer_lemeshow_p < _SMALL_P:
        cautions.append(f"the curve fits the hits and misses badly (Hosmer-Lemeshow p = {hosmer_lemeshow_p:.2g})")
    cautions += _extrapolations(sizes, a90, a90_95)
    return PodFit(
        link=link,
        method="penalised likelihood" if is_separated else "maximum likelihood",
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
        _region=region,
        _scale=scale,
    )


def choose_link(
    sizes: Float[np.ndarray, " flaws"], hits: Bool[np.ndarray, " flaws"], confidence: float = 0.95
) -> PodFit | PodRefusal:
    """Fit both links and keep the one with the smaller AIC, or the refusal; arguments and errors are `fit_pod`'s."""
    logit, probit = (fit_pod(sizes, hits, link, confidence) for link in get_args(Link))
    if isinstance(logit, PodRefusal) or isinstance(probit, PodRefusal):
        return probit if isinstance(logit, PodRefusal) else logit
    return probit if probit.aic < logit.aic else logit


def fit_signal(
    sizes: Float[np.ndarray, " flaws"],
    signals: Float[np.ndarray, " flaws"],
    threshold: float,
    log_signal: bool,
    censor_below: float | None = None,
    censor_above: float | None = None,
    confidence: float = 0.95,
) -> SignalFit | PodRefusal:
    """Fit a POD curve to signals: a line of the signal on ln a with normal scatter, cut at the decision threshold.

    The bound is the delta method's, on ln a90.

    Args:
        sizes: Size of each flaw, in any unit; positive.
        signals: Signal of each flaw, such as its score or contrast.
        threshold: Signal from which a flaw counts as found.
        log_signal: Whether to fit the logarithm of the signal.
        censor_below: Signals at or below it are known to be no larger, such as those of flaws without a report.
        censor_above: Signals at or above it are known to be no smaller, such as saturated ones.
        confidence: One-sided confidence of a90/95 and of the band.

    Returns:
        The fit, or the reason why these flaws do not give one.

    Raises:
        ValueError: If sizes, signals, threshold, limits or confidence are not what they should be.
    """
    sizes, signals = _checked_sizes(sizes), np.asarray(signals, dtype=np.float64)
    _check_confidence(confidence)
    low, high = -np.inf if censor_below is None else censor_below, np.inf if censor_above is None else censor_above
    if signals.shape != sizes.shape or not np.isfinite(signals).all():
        raise ValueError("signals must be finite numbers, one for each flaw")
    if not (low < high and low <= threshold <= high and np.isfinite(threshold)):
        raise ValueError(f"the threshold {threshold:g} must be finite and lie within the censoring limits")
    signals = signals.clip(low, high)
    is_low, is_high = signals <= low, signals >= high
    if log_signal:
        if min(signals.min(), threshold) <= 0:
            raise ValueError("signals, threshold and limits must be positive where the logarithm is to be fitted")
        signals, cut = np.log(signals), np.log(threshold).item()
    else:
        cut = float(threshold)
    refusal = _refuse_sample(sizes) or _refuse_signals(sizes, signals, ~(is_low | is_high))
    if refusal:
        return refusal

    scale = _LogScale.of(sizes)
    line = _SignalLine.fit(scale.standardise(sizes), signals, is_low, is_high, cut)
    intercept, slope, sigma = line.coefficients()
    if slope <= 0:
        return PodRefusal("larger flaws did not give larger signals, so that there is no a90")
    quantile_90 = _quantile(0.9, "probit")
    a50, a90 = (scale.size(line.location(np.array(quantile)).item()) for quantile in (0.0, quantile_90))
    if a90 > FARTHEST * sizes.max():
        return PodRefusal(f"POD grows too slowly with size: a90 would be over {FARTHEST:g} times the largest flaw")
    upper = line.upper(np.array(quantile_90), confidence).item() if line.is_rising(confidence) else None
    a90_95, unbounded_reason = _bound_within_reach(upper, scale, sizes)
    is_censored = is_low | is_high
    cautions = [] if is_censored.any() else _check_residuals(scale.standardise(sizes), signals, intercept, slope)
    return SignalFit(
        threshold=float(threshold),
        log_signal=log_signal,
        intercept=intercept - slope * scale.centre / scale.width,
        slope=slope / scale.width,
        sigma=sigma,
        a50=a50,
        a90=a90,
        a90_95=a90_95,
        unbounded_reason=unbounded_reason,
        confidence=confidence,
        flaws=len(sizes),
        censored=int(is_censored.sum()),
        log_likelihood=line.log_likelihood,
        cautions=(*cautions, *_extrapolations(sizes, a90, a90_95)),
        _line=line,
        _scale=scale,
    )


def _checked_sizes(sizes: Shaped[np.ndarray, " flaws"]) -> Float[np.ndarray, " flaws"]:
    sizes = np.asarray(sizes, dtype=np.float64)
    if sizes.ndim != 1 or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError("sizes must be a row of positive finite numbers")
    return sizes


def _checked_hits(hits: Shaped[np.ndarray, " flaws"], flaws: int) -> Bool[np.ndarray, " flaws"]:
    hits = np.asarray(hits)
    if hits.shape != (flaws,) or not ((hits == 0) | (hits == 1)).all():
        raise ValueError("hits must be true or false, 1 or 0, one for each size")
    return hits == 1


def _check_confidence(confidence: float) -> None:
    if not 0.5 < confidence < 1:
        raise ValueError(f"the confidence {confidence:g} must lie between 0.5 and 1")


def _refuse_sample(sizes: Float[np.ndarray, " flaws"]) -> PodRefusal | None:
    if len(sizes) < MIN_FLAWS:
        return PodRefusal(f"{len(sizes)} flaws are too few: a POD curve takes at least {MIN_FLAWS}")
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


def _refuse_signals(
    sizes: Float[np.ndarray, " flaws"], signals: Float[np.ndarray, " flaws"], is_measured: Bool[np.ndarray, " flaws"]
) -> PodRefusal | None:
    if is_measured.sum() < MIN_MEASURED_SIGNALS:
        return PodRefusal(
            f"{is_measured.sum()} signals lie between the censoring limits: it takes at least {MIN_MEASURED_SIGNALS}"
        )
    x = np.log(sizes[is_measured])
    design = np.stack([np.ones_like(x), x], axis=1)
    residuals = signals[is_measured] - design @ np.linalg.lstsq(design, signals[is_measured])[0]
    if np.abs(residuals).max() <= 1e-9 * np.abs(signals).max():
        return PodRefusal("the signals have no scatter around a line, so that there is nothing to fit")
    return None


def _bound_within_reach(
    x: float | None, scale: "_LogScale", sizes: Float[np.ndarray, " flaws"]
) -> tuple[float | None, str | None]:
    """Keep a bound that says something; else tell why there is none."""
    if x is None:
        return None, "at this confidence the flaws do not rule out that POD does not grow with size"
    if scale.size(x) > FARTHEST * sizes.max():
        return None, f"the bound would be over {FARTHEST:g} times the largest flaw"
    return scale.size(x), None


def _extrapolations(sizes: Float[np.ndarray, " flaws"], a90: float, a90_95: float | None) -> list[str]:
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


def _check_residuals(
    x: Float[np.ndarray, " flaws"], signals: Float[np.ndarray, " flaws"], intercept: float, slope: float
) -> list[str]:
    """Test that the scatter is normal (Shapiro and Wilk) and as wide at all sizes (Breusch and Pagan, Koenker)."""
    residuals = signals - intercept - slope * x
    cautions = []
    p = shapiro(residuals).pvalue
    if p < _SMALL_P:
        cautions.append(f"the signals do not scatter normally around the line (Shapiro-Wilk p = {p:.2g})")
    p = chi2.sf(len(x) * np.corrcoef(x, residuals**2)[0, 1] ** 2, 1)
    if p < _SMALL_P:
        cautions.append(f"the scatter of the signals changes with size (Breusch-Pagan p = {p:.2g})")
    return cautions


@dataclass(frozen=True)
class _LogScale:
    """ln a, brought to mean 0 and standard deviation 1, in which fits are well conditioned."""

    centre: float
    width: float

    @classmethod
    def of(cls, sizes: Float[np.ndarray, " flaws"]) -> "_LogScale":
        return cls(np.log(sizes).mean().item(), np.log(sizes).std().item())

    def standardise(self, sizes: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        return (np.log(sizes) - self.centre) / self.width

    def size(self, x: float) -> float:
        with np.errstate(over="ignore"):
            return np.exp(self.centre + self.width * x).item()


def _log_distribution(eta: Float[np.ndarray, "*shape"], link: Link) -> Float[np.ndarray, "*shape"]:
    return log_expit(eta) if link == "logit" else log_ndtr(eta)


def _log_distribution_slope(eta: Float[np.ndarray, "*shape"], link: Link) -> Float[np.ndarray, "*shape"]:
    return expit(-eta) if link == "logit" else np.exp(-0.5 * eta**2 - _LOG_ROOT_2_PI - log_ndtr(eta))


def _distribution(eta: Float[np.ndarray, "*shape"], link: Link) -> Float[np.ndarray, "*shape"]:
    return expit(eta) if link == "logit" else ndtr(eta)


def _quantile(pod: float, link: Link) -> float:
    return np.log(pod / (1 - pod)).item() if link == "logit" else norm.ppf(pod).item()


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """Log-likelihood of hits and misses over (b0, b1), for many pairs at once.

    Attributes:
        x: Standardised ln a.
        sign: 1 for a hit, -1 for a miss.
        link: The distribution function.
        is_penalised: Whether half the log-determinant of the expected information is added.
    """

    x: Float[np.ndarray, " flaws"]
    sign: Float[np.ndarray, " flaws"]
    link: Link
    is_penalised: bool

    def unpenalised(self, parameters: Float[np.ndarray, "2"]) -> float:
        return _log_distribution(self.sign * (parameters[0] + parameters[1] * self.x), self.link).sum().item()

    def value_and_score(
        self, parameters: Float[np.ndarray, "pairs 2"]
    ) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, "pairs 2"]]:
        eta = parameters[:, :1] + parameters[:, 1:] * self.x
        value = _log_distribution(self.sign * eta, self.link).sum(axis=1)
        pull = self.sign * _log_distribution_slope(self.sign * eta, self.link)
        if self.is_penalised:
            determinant, leverage_pull = self._penalty(eta)
            value, pull = value + 0.5 * determinant, pull + 0.5 * leverage_pull
        return value, np.stack([pull.sum(axis=1), pull @ self.x], axis=1)

    def information(self, parameters: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2 2"]:
        weights = np.exp(self._log_weights(parameters[0] + parameters[1] * self.x))
        off = weights @ self.x
        return np.array([[weights.sum(), off], [off, weights @ self.x**2]])

    def _log_weights(self, eta: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        # f^2 / (F (1 - F)), where the density f of the logistic distribution is F (1 - F).
        both = _log_distribution(eta, self.link) + _log_distribution(-eta, self.link)
        return both if self.link == "logit" else -(eta**2) - 2 * _LOG_ROOT_2_PI - both

    def _penalty(
        self, eta: Float[np.ndarray, "pairs flaws"]
    ) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, "pairs flaws"]]:
        """Log-determinant of the information, and its derivative by each flaw's linear predictor."""
        log_weights = self._log_weights(eta)
        largest = log_weights.max(axis=1, keepdims=True)
        weights = np.exp(log_weights - largest)
        total = weights.sum(axis=1, keepdims=True)
        offset = self.x - weights @ self.x[:, None] / total
        spread = (weights * offset**2).sum(axis=1, keepdims=True)
        leverage = weights * (1 / total + offset**2 / spread)
        slope = _log_distribution_slope(eta, self.link) - _log_distribution_slope(-eta, self.link)
        if self.link == "probit":
            slope = -2 * eta - slope
        return (2 * largest + np.log(total) + np.log(spread))[:, 0], leverage * slope


def _maximise(likelihood: _Likelihood) -> Float[np.ndarray, "2"]:
    def value(parameters: Float[np.ndarray, "2"]) -> float:
        with np.errstate(all="ignore"):
            return likelihood.value_and_score(parameters[None])[0].item()

    def score_and_information(
        parameters: Float[np.ndarray, "2"],
    ) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"]]:
        return likelihood.value_and_score(parameters[None])[1][0], likelihood.information(parameters)

    return _climb(np.zeros(2), value, score_and_information)


def _climb(
    parameters: Float[np.ndarray, " parameters"],
    value: Callable[[Float[np.ndarray, " parameters"]], float],
    score_and_information: Callable[
        [Float[np.ndarray, " parameters"]],
        tuple[Float[np.ndarray, " parameters"], Float[np.ndarray, "parameters parameters"]],
    ],
) -> Float[np.ndarray, " parameters"]:
    """Climb a likelihood by Newton's or Fisher's steps, with shorter ones where a full one would lead down."""
    height = value(parameters)
    for _ in range(500):
        score, information = score_and_information(parameters)
        step = np.linalg.solve(information, score)
        if score @ step < 1e-18:
            break
        for share in 0.5 ** np.arange(30):
            taken = parameters + share * step
            if value(taken) >= height:
                break
        else:
            break
        parameters, height = taken, value(taken)
    return parameters


@dataclass(frozen=True, eq=False)
class _Region:
    """All (b0, b1) whose likelihood is close enough to the best one's.

    Attributes:
        best: The most likely pair.
        likelihood: The likelihood.
        floor: Log-likelihood on the boundary.
        axes: Square root of the inverse information: it makes the region about a disc.
    """

    best: Float[np.ndarray, "2"]
    likelihood: _Likelihood
    floor: float
    axes: Float[np.ndarray, "2 2"]

    @classmethod
    def around(cls, best: Float[np.ndarray, "2"], likelihood: _Likelihood, critical: float) -> "_Region":
        (value,), _ = likelihood.value_and_score(best[None])
        axes = np.sqrt(critical) * np.linalg.cholesky(np.linalg.inv(likelihood.information(best)))
        return cls(best, likelihood, value - critical / 2, axes)

    def boundary(self, angles: Float[np.ndarray, " angles"]) -> Float[np.ndarray, "angles 2"]:
        """Find the boundary in several directions: step outside, then come back by Newton's method.

        The log-likelihood falls ever more steeply along a ray, so that Newton's steps from outside never overshoot.
        """
        rays = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ self.axes.T
        reach = np.ones(len(angles))
        for _ in range(100):
            values, _ = self.likelihood.value_and_score(self.best + reach[:, None] * rays)
            is_inside = values > self.floor
            if not is_inside.any():
                break
            reach[is_inside] *= 1.4
        for _ in range(100):
            values, scores = self.likelihood.value_and_score(self.best + reach[:, None] * rays)
            if np.abs(values - self.floor).max() < 1e-10:
                break
            reach = np.maximum(reach - (values - self.floor) / (scores * rays).sum(axis=1), 0.1 * reach)
        return self.best + reach[:, None] * rays

    def upper_bound(self, quantile: float) -> float | None:
        """Find the largest x at which any curve of the region reaches a quantile; None where there is none.

        The curves that reach it at x lie on a line through (quantile, 0) in the plane of (b0, b1), the flatter the
        larger x is: the bound is the flattest line that touches the region. There is none where the region reaches down
        to a slope of zero.
        """
        angles, width = np.linspace(0, _TURN, _SEARCH_DIRECTIONS, endpoint=False), _TURN / _SEARCH_DIRECTIONS
        for _ in range(7):
            b0, b1 = self.boundary(angles).T
            if b1.min() <= 0:
                return None
            steepness = np.arctan2(b1, quantile - b0)
            flattest = steepness.argmin()
            angles, width = angles[flattest] + width * np.linspace(-1, 1, 9), width / 4
        return ((quantile - b0[flattest]) / b1[flattest]).item()


@dataclass(frozen=True, eq=False)
class _SignalLine:
    """A line with normal scatter, as (g0, g1, t): t times the signal scatters with 1 around g0 + g1 x.

    Attributes:
        parameters: g0, g1 and t, for signals scaled by `centre` and `width`.
        covariance: Theirs, from the observed information.
        cut: Decision threshold, scaled.
        centre: Mean of the signals.
        width: Standard deviation of the signals.
        log_likelihood: Of the signals themselves.
    """

    parameters: Float[np.ndarray, "3"]
    covariance: Float[np.ndarray, "3 3"]
    cut: float
    centre: float
    width: float
    log_likelihood: float

    @classmethod
    def fit(
        cls,
        x: Float[np.ndarray, " flaws"],
        signals: Float[np.ndarray, " flaws"],
        is_low: Bool[np.ndarray, " flaws"],
        is_high: Bool[np.ndarray, " flaws"],
        cut: float,
    ) -> "_SignalLine":
        centre, width = signals.mean().item(), signals.std().item()
        scaled = (signals - centre) / width
        design = np.stack([-np.ones_like(x), -x, scaled], axis=1)
        is_measured = ~(is_low | is_high)
        # A censored signal is below its limit (side 1) or above it (side -1).
        censored, side = design[~is_measured], np.where(is_low, 1.0, -1.0)[~is_measured]
        measured = design[is_measured]

        def value(parameters: Float[np.ndarray, "3"]) -> float:
            if parameters[2] <= 0:
                return -np.inf
            exact = len(measured) * np.log(parameters[2]) - 0.5 * ((measured @ parameters) ** 2).sum()
            return exact + log_ndtr(side * (censored @ parameters)).sum()

        def score_and_information(
            parameters: Float[np.ndarray, "3"],
        ) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 3"]]:
            eta = side * (censored @ parameters)
            pull = _log_distribution_slope(eta, "probit")
            score = -measured.T @ (measured @ parameters) + censored.T @ (side * pull)
            information = measured.T @ measured + (censored.T * (pull * (pull + eta))) @ censored
            score[2] += len(measured) / parameters[2]
            information[2, 2] += len(measured) / parameters[2] ** 2
            return score, information

        parameters = _climb(np.array([0.0, 0.0, 1.0]), value, score_and_information)
        _, information = score_and_information(parameters)
        log_likelihood = value(parameters) - len(measured) * (np.log(width) + _LOG_ROOT_2_PI)
        return cls(parameters, np.linalg.inv(information), (cut - centre) / width, centre, width, float(log_likelihood))

    def coefficients(self) -> tuple[float, float, float]:
        """Intercept and slope on x, and standard deviation, in the unit of the signals."""
        g0, g1, t = self.parameters.tolist()
        return self.centre + self.width * g0 / t, self.width * g1 / t, self.width / t

    def quantile(self, x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Normal quantile of the POD at x."""
        g0, g1, t = self.parameters
        return g0 + g1 * x - t * self.cut

    def location(self, quantile: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """The x at which the POD has a normal quantile."""
        g0, g1, t = self.parameters
        return (quantile + t * self.cut - g0) / g1

    def is_rising(self, confidence: float) -> bool:
        """Whether the slope is above zero at the confidence: only then does the delta method bound anything."""
        return bool(self.parameters[1] > norm.ppf(confidence) * np.sqrt(self.covariance[1, 1]))

    def upper(self, quantile: Float[np.ndarray, "*shape"], confidence: float) -> Float[np.ndarray, "*shape"]:
        """Upper bound of `location` by the delta method."""
        location = self.location(quantile)
        ones = np.ones_like(location)
        gradient = np.stack([-ones, -location, self.cut * ones], axis=-1) / self.parameters[1]
        variance = ((gradient @ self.covariance) * gradient).sum(axis=-1)
        return location + norm.ppf(confidence) * np.sqrt(variance)

"""Probability of detection by flaw size from signals and a decision threshold, after MIL-HDBK-1823A: â against a.

The signal, or its logarithm, is a line on ln a with normal scatter; POD is the share of it beyond the threshold. Where
every signal is known the bound of a90 is exact: the estimated distance from line to threshold, over its standard error,
has a noncentral t distribution. Where signals are censored, or with ``exact=False``, the bound is the delta method's on
ln a90, as mh1823's. That one is too low: in the simulated studies of ``benchmarks/pod_coverage.py`` that of 95 % lies
above the true a90 in 92.8 % of studies of 300 flaws with censored signals, 91.5 % of 120 and 90.5 % of 60.

References:
    MIL-HDBK-1823A, 2009, Nondestructive Evaluation System Reliability Assessment.
    Owen 1968, Technometrics 10, 445: bounds of normal quantiles from the noncentral t distribution.
    Olsen 1978, Econometrica 46, 1211: the concave form of the likelihood of censored signals.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import log_ndtr, nctdtr, nctdtrinc, ndtr
from scipy.stats import chi2, norm, shapiro

from defects_in_welds.evaluation.pod.hit_miss import (
    SMALL_P,
    PodCurve,
    PodRefusal,
    bound_within_reach,
    check_confidence,
    checked_sizes,
    name_extrapolations,
    refuse_far_a90,
    refuse_sample,
)
from defects_in_welds.evaluation.pod.likelihood import (
    LOG_ROOT_2_PI,
    LogScale,
    climb,
    log_distribution_slope,
    quantile_of,
)

MIN_MEASURED_SIGNALS = 10
"""Least number of signals between the censoring limits."""
CENSORED_CAUTION = "signals are censored: the bound is the delta method's, which runs low"


@dataclass(frozen=True, eq=False)
class SignalFit:
    """A POD curve fitted to signals; sizes in the unit of the sizes that were given.

    Attributes:
        threshold: Signal from which a flaw counts as found, in the unit of the signals.
        log_signal: Whether the logarithm of the signal was fitted.
        intercept: Of the signal, or its logarithm, on ln a.
        slope: Of the signal, or its logarithm, on ln a.
        sigma: Standard deviation of the signal, or its logarithm, around the line (maximum likelihood).
        bound: What a90/95 and the band come from.
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
    bound: Literal["noncentral t", "delta method"]
    a50: float
    a90: float
    a90_95: float | None
    unbounded_reason: str | None
    confidence: float
    flaws: int
    censored: int
    log_likelihood: float
    cautions: tuple[str, ...]
    _line: "SignalLine" = field(repr=False)
    _bounds: "_ExactBounds | _DeltaBounds" = field(repr=False)
    _scale: LogScale = field(repr=False)

    def curve(self, sizes: Float[np.ndarray, " sizes"]) -> PodCurve:
        """Read the curve and its lower band at any positive sizes.

        The delta method's band is 0 where there is no bound.

        Raises:
            ValueError: If a size is not positive and finite.
        """
        x = self._scale.standardise(checked_sizes(sizes))
        return PodCurve(ndtr(self._line.quantile(x)), ndtr(self._bounds.lower_band(x)))


def fit_signal(
    sizes: Float[np.ndarray, " flaws"],
    signals: Float[np.ndarray, " flaws"],
    threshold: float,
    log_signal: bool,
    censor_below: float | None = None,
    censor_above: float | None = None,
    confidence: float = 0.95,
    exact: bool = True,
) -> SignalFit | PodRefusal:
    """Fit a POD curve to signals: a line of the signal on ln a with normal scatter, cut at the decision threshold.

    Args:
        sizes: Size of each flaw, in any unit; positive.
        signals: Signal of each flaw, such as its score or contrast.
        threshold: Signal from which a flaw counts as found.
        log_signal: Whether to fit the logarithm of the signal.
        censor_below: Signals at or below it are known to be no larger, such as those of flaws without a report.
        censor_above: Signals at or above it are known to be no smaller, such as saturated ones.
        confidence: One-sided confidence of a90/95 and of the band.
        exact: Whether the bounds of signals without censoring are exact; otherwise they are the delta method's.

    Returns:
        The fit, or the reason why these flaws do not give one.

    Raises:
        ValueError: If sizes, signals, threshold, limits or confidence are not what they should be.
    """
    sizes, signals = checked_sizes(sizes), np.asarray(signals, dtype=np.float64)
    check_confidence(confidence)
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
    refusal = refuse_sample(sizes) or _refuse_signals(sizes, signals, ~(is_low | is_high))
    if refusal:
        return refusal

    scale = LogScale.of(sizes)
    line = SignalLine.fit(scale.standardise(sizes), signals, is_low, is_high, cut)
    intercept, slope, sigma = line.coefficients()
    if slope <= 0:
        return PodRefusal("larger flaws did not give larger signals, so that there is no a90")
    quantile_90 = quantile_of(0.9, "probit")
    a50, a90 = (scale.size(line.location(np.array(quantile)).item()) for quantile in (0.0, quantile_90))
    if refusal := refuse_far_a90(a90, sizes):
        return refusal
    is_censored = is_low | is_high
    bounds: _ExactBounds | _DeltaBounds
    if is_censored.any():
        bounds = _DeltaBounds(line, confidence)
        cautions = [CENSORED_CAUTION]
    else:
        bounds = _ExactBounds(line, len(sizes), confidence) if exact else _DeltaBounds(line, confidence)
        cautions = _check_residuals(scale.standardise(sizes), signals, intercept, slope)
    a90_95, unbounded_reason = bound_within_reach(bounds.upper_bound(quantile_90), scale, sizes)
    return SignalFit(
        threshold=float(threshold),
        log_signal=log_signal,
        intercept=intercept - slope * scale.centre / scale.width,
        slope=slope / scale.width,
        sigma=sigma,
        bound="noncentral t" if isinstance(bounds, _ExactBounds) else "delta method",
        a50=a50,
        a90=a90,
        a90_95=a90_95,
        unbounded_reason=unbounded_reason,
        confidence=confidence,
        flaws=len(sizes),
        censored=int(is_censored.sum()),
        log_likelihood=line.log_likelihood,
        cautions=(*cautions, *name_extrapolations(sizes, a90, a90_95)),
        _line=line,
        _bounds=bounds,
        _scale=scale,
    )


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


def _check_residuals(
    x: Float[np.ndarray, " flaws"], signals: Float[np.ndarray, " flaws"], intercept: float, slope: float
) -> list[str]:
    """Test that the scatter is normal (Shapiro and Wilk) and as wide at all sizes (Breusch and Pagan, Koenker)."""
    residuals = signals - intercept - slope * x
    cautions = []
    p = shapiro(residuals).pvalue
    if p < SMALL_P:
        cautions.append(f"the signals do not scatter normally around the line (Shapiro-Wilk p = {p:.2g})")
    p = chi2.sf(len(x) * np.corrcoef(x, residuals**2)[0, 1] ** 2, 1)
    if p < SMALL_P:
        cautions.append(f"the scatter of the signals changes with size (Breusch-Pagan p = {p:.2g})")
    return cautions


@dataclass(frozen=True, eq=False)
class SignalLine:
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
    ) -> "SignalLine":
        """Find the most likely line; a signal at its limit is known to lie beyond it."""
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
            pull = log_distribution_slope(eta, "probit")
            score = -measured.T @ (measured @ parameters) + censored.T @ (side * pull)
            information = measured.T @ measured + (censored.T * (pull * (pull + eta))) @ censored
            score[2] += len(measured) / parameters[2]
            information[2, 2] += len(measured) / parameters[2] ** 2
            return score, information

        parameters = climb(np.array([0.0, 0.0, 1.0]), value, score_and_information)
        _, information = score_and_information(parameters)
        log_likelihood = value(parameters) - len(measured) * (np.log(width) + LOG_ROOT_2_PI)
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


@dataclass(frozen=True)
class _ExactBounds:
    """Bounds from the noncentral t distribution, for a line without censored signals over standardised ln a.

    The standard error of the line at x is sigma times the root of (1 + x^2) / flaws, as x has mean 0 and variance 1.
    """

    line: SignalLine
    flaws: int
    confidence: float

    def upper_bound(self, quantile: float) -> float | None:
        """Find the x up to which the curve may take to reach a normal quantile; None where it may never."""
        x = self.line.location(np.array(quantile)).item()
        start, (at_mean, slope) = np.arctan(x), self._heights()

        def excess(angle: float) -> float:
            """Of the confidence, at x = tan(angle); the right angle is a line that does not rise."""
            t = np.sqrt(self.flaws - 2) * (at_mean * np.cos(angle) + slope * np.sin(angle))
            shift = quantile * np.sqrt(self.flaws) * np.cos(angle)
            return float(nctdtr(self.flaws - 2, shift, t)) - self.confidence

        if excess(np.pi / 2) <= 0:
            return None
        if excess(start) >= 0:  # at a confidence of little over one half
            return x
        return np.tan(brentq(excess, start, np.pi / 2, xtol=1e-12)).item()

    def lower_band(self, x: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """Find the lowest normal quantile that the curve may have at each x."""
        t = np.sqrt((self.flaws - 2) / (1 + x**2)) * self.line.quantile(x)
        lowest = nctdtrinc(self.flaws - 2, self.confidence, t) * np.sqrt((1 + x**2) / self.flaws)
        return np.minimum(lowest, self.line.quantile(x))

    def _heights(self) -> tuple[float, float]:
        at_mean, at_one = self.line.quantile(np.array([0.0, 1.0])).tolist()
        return at_mean, at_one - at_mean


@dataclass(frozen=True)
class _DeltaBounds:
    """Bounds by the delta method, on ln a."""

    line: SignalLine
    confidence: float

    def upper_bound(self, quantile: float) -> float | None:
        """Find the x up to which the curve may take to reach a normal quantile; None where it may never."""
        return self._upper(np.array(quantile)).item() if self._is_rising() else None

    def lower_band(self, x: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """Find the lowest normal quantile that the curve may have at each x."""
        if not self._is_rising():
            return np.full_like(x, -np.inf)
        quantiles = np.linspace(-9, 9, 3601)
        return np.interp(x, self._upper(quantiles), quantiles, left=-np.inf)

    def _is_rising(self) -> bool:
        """Whether the slope is above zero at the confidence: only then does the delta method bound anything."""
        line = self.line
        return bool(line.parameters[1] > norm.ppf(self.confidence) * np.sqrt(line.covariance[1, 1]))

    def _upper(self, quantile: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        line, location = self.line, self.line.location(quantile)
        ones = np.ones_like(location)
        gradient = np.stack([-ones, -location, line.cut * ones], axis=-1) / line.parameters[1]
        variance = ((gradient @ line.covariance) * gradient).sum(axis=-1)
        return location + norm.ppf(self.confidence) * np.sqrt(variance)

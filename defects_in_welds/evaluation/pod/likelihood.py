"""Likelihood of a POD curve over ln a: distribution functions, its maximum, and the region close to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import erfcx, expit, log_expit, log_ndtr, ndtr
from scipy.stats import chi2, norm

Link = Literal["logit", "probit"]

LOG_ROOT_2_PI = 0.5 * np.log(2 * np.pi)
_TURN = 2 * np.pi
_SEARCH_DIRECTIONS, _CURVE_DIRECTIONS = 24, 720


@dataclass(frozen=True)
class LogScale:
    """ln a, brought to mean 0 and standard deviation 1, in which fits are well conditioned."""

    centre: float
    width: float

    @classmethod
    def of(cls, sizes: Float[np.ndarray, " flaws"]) -> "LogScale":
        """Take the mean and the standard deviation of ln a."""
        return cls(np.log(sizes).mean().item(), np.log(sizes).std().item())

    def standardise(self, sizes: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """Turn sizes into standardised ln a."""
        return (np.log(sizes) - self.centre) / self.width

    def size(self, x: float) -> float:
        """Turn standardised ln a back into a size."""
        with np.errstate(over="ignore"):
            return np.exp(self.centre + self.width * x).item()


def log_distribution(eta: Float[np.ndarray, "*shape"], link: Link) -> Float[np.ndarray, "*shape"]:
    """Logarithm of F, exact in both tails."""
    return log_expit(eta) if link == "logit" else log_ndtr(eta)


def log_distribution_slope(eta: Float[np.ndarray, "*shape"], link: Link) -> Float[np.ndarray, "*shape"]:
    """Derivative of the logarithm of F."""
    return expit(-eta) if link == "logit" else np.sqrt(2 / np.pi) / erfcx(-eta / np.sqrt(2))


def distribution(eta: Float[np.ndarray, "*shape"], link: Link) -> Float[np.ndarray, "*shape"]:
    """F, the probability of a hit at a linear predictor."""
    return expit(eta) if link == "logit" else ndtr(eta)


def quantile_of(pod: float, link: Link) -> float:
    """Linear predictor at which the POD has a value."""
    return np.log(pod / (1 - pod)).item() if link == "logit" else norm.ppf(pod).item()


@dataclass(frozen=True, eq=False)
class Likelihood:
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
        """Log-likelihood of one pair, without the penalty."""
        return log_distribution(self.sign * (parameters[0] + parameters[1] * self.x), self.link).sum().item()

    def value_and_score(
        self, parameters: Float[np.ndarray, "pairs 2"]
    ) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, "pairs 2"]]:
        """Log-likelihood of pairs, and its gradient."""
        eta = parameters[:, :1] + parameters[:, 1:] * self.x
        value = log_distribution(self.sign * eta, self.link).sum(axis=1)
        pull = self.sign * log_distribution_slope(self.sign * eta, self.link)
        if self.is_penalised:
            determinant, leverage_pull = self._penalty(eta)
            value, pull = value + 0.5 * determinant, pull + 0.5 * leverage_pull
        return value, np.stack([pull.sum(axis=1), pull @ self.x], axis=1)

    def pull_and_curvature(
        self, eta: Float[np.ndarray, "*shape flaws"]
    ) -> tuple[Float[np.ndarray, "*shape flaws"], Float[np.ndarray, "*shape flaws"]]:
        """First derivative of the unpenalised log-likelihood by each linear predictor, and the second one negated."""
        slope = log_distribution_slope(self.sign * eta, self.link)
        return self.sign * slope, slope * (1 - slope if self.link == "logit" else slope + self.sign * eta)

    def information(self, parameters: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2 2"]:
        """Expected information about a pair."""
        weights = np.exp(self._log_weights(parameters[0] + parameters[1] * self.x))
        off = weights @ self.x
        return np.array([[weights.sum(), off], [off, weights @ self.x**2]])

    def _log_weights(self, eta: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        # f^2 / (F (1 - F)), where the density f of the logistic distribution is F (1 - F).
        both = log_distribution(eta, self.link) + log_distribution(-eta, self.link)
        return both if self.link == "logit" else -(eta**2) - 2 * LOG_ROOT_2_PI - both

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
        slope = log_distribution_slope(eta, self.link) - log_distribution_slope(-eta, self.link)
        if self.link == "probit":
            slope = -2 * eta - slope
        return (2 * largest + np.log(total) + np.log(spread))[:, 0], leverage * slope


def maximise(likelihood: Likelihood) -> Float[np.ndarray, "2"]:
    """Find the most likely pair."""

    def value(parameters: Float[np.ndarray, "2"]) -> float:
        with np.errstate(all="ignore"):
            return likelihood.value_and_score(parameters[None])[0].item()

    def score_and_information(
        parameters: Float[np.ndarray, "2"],
    ) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"]]:
        return likelihood.value_and_score(parameters[None])[1][0], likelihood.information(parameters)

    return climb(np.zeros(2), value, score_and_information)


def climb(
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
        if score @ step < 1e-14:
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
class Region:
    """All (b0, b1) whose likelihood is close enough to the best one's.

    Attributes:
        best: The most likely pair.
        likelihood: The likelihood.
        floor: Log-likelihood on the boundary.
        axes: Square root of the inverse information: it makes the region about a disc.
    """

    best: Float[np.ndarray, "2"]
    likelihood: Likelihood
    floor: float
    axes: Float[np.ndarray, "2 2"]

    @classmethod
    def around(cls, best: Float[np.ndarray, "2"], likelihood: Likelihood, confidence: float) -> "Region":
        """Take the floor of a one-sided confidence."""
        critical = chi2.ppf(2 * confidence - 1, 1).item()
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
            if np.abs(values - self.floor).max() < 1e-8:
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

    def lower_band(self, x: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """Find the lowest quantile that a curve of the region has at each x."""
        parameters = self.boundary(np.linspace(0, _TURN, _CURVE_DIRECTIONS, endpoint=False))
        return (parameters[:, :1] + parameters[:, 1:] * x).min(axis=0)

"""Bounds of a POD curve by the modified signed root r* of the likelihood ratio, for hits and misses.

To ask whether a POD p could hold at a size, the best of all curves through that point is compared with the best of all
curves. The signed root r of twice the difference of their log-likelihoods is about standard normal, with an error that
falls as 1 / sqrt(flaws). r* = r + ln(q / r) / r is so with a smaller one, where q is a distance between both curves
measured by the model's own tangent at the data. A bound lies where r* is the normal quantile of the confidence.

In the plane of (b0, b1) the curves through a point lie on a line, whose direction tells the size: (-ln a, 1). A line of
slope 0, POD that does not grow with size, is the limit of large sizes.

References:
    Barndorff-Nielsen 1986, Biometrika 73, 307: r*.
    Fraser, Reid and Wu 1999, Biometrika 86, 249: q from the tangent at the data.
    Davison, Fraser and Reid 2006, Journal of the Royal Statistical Society B 68, 495: for discrete data.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import norm

from defects_in_welds.evaluation.pod.likelihood import Likelihood, log_distribution, log_distribution_slope

_NEAREST = 0.02
"""Least distance from the best curve, in standard errors: at the curve itself r* is 0 / 0."""
_LARGEST_CORRECTION = 1.0
"""Near the best curve, where r is about 0, r* cannot be trusted beyond it."""
_CERTAIN = 5.0
"""A root r that is so much beyond the quantile decides by itself."""


class Roots(NamedTuple):
    """Signed roots of several lines; positive where the best curve lies above the line's point.

    Attributes:
        plain: r.
        modified: r*; NaN where it cannot be computed.
    """

    plain: Float[np.ndarray, " lines"]
    modified: Float[np.ndarray, " lines"]


@dataclass(frozen=True, eq=False)
class ModifiedRoot:
    """Bounds around the most likely curve.

    Attributes:
        best: Its (b0, b1).
        likelihood: The likelihood, without a penalty.
        critical: Normal quantile of the one-sided confidence.
    """

    best: Float[np.ndarray, "2"]
    likelihood: Likelihood
    critical: float

    @classmethod
    def around(cls, best: Float[np.ndarray, "2"], likelihood: Likelihood, confidence: float) -> "ModifiedRoot":
        """Take the root's quantile from a one-sided confidence."""
        return cls(best, likelihood, norm.ppf(confidence).item())

    def upper_bound(self, quantile: float) -> float | None:
        """Find the x up to which the curve may take to reach a quantile; None where it may never.

        Raises:
            ArithmeticError: If r* cannot be computed.
        """
        b0, b1 = self.best.tolist()
        x = (quantile - b0) / b1
        nearest = np.arctan(x + _NEAREST * self._standard_error(np.array([x])).item() / b1)
        angles = np.linspace(nearest, np.pi / 2, 25)
        is_beyond = self._excess(np.full(25, quantile), angles) >= 0
        if not is_beyond[-1]:
            return None
        if is_beyond.all():
            self._allow_the_curve_itself()
            return x
        last = np.flatnonzero(~is_beyond)[-1]

        def excess(angle: float) -> float:
            return self._excess(np.array([quantile]), np.array([angle])).item()

        return np.tan(brentq(excess, angles[last], angles[last + 1], xtol=1e-12)).item()

    def lower_band(self, x: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """Find the lowest quantile that the curve may have at each x.

        Raises:
            ArithmeticError: If r* cannot be computed.
        """
        centre, error, angles = self.best[0] + self.best[1] * x, self._standard_error(x), np.arctan(x)
        # In standard errors from the best curve r* rises by about one each, so that secants soon meet the root.
        before, distance = np.full_like(x, _NEAREST), np.full_like(x, self.critical)
        excess_before = self._excess(centre - before * error, angles)
        is_at_curve = excess_before >= 0
        if is_at_curve.any():
            self._allow_the_curve_itself()
        for _ in range(50):
            excess = np.where(is_at_curve, 0.0, self._excess(centre - distance * error, angles))
            if np.abs(excess).max() < 1e-7:
                return np.where(is_at_curve, centre, centre - distance * error)
            rise = (excess - excess_before) / np.where(distance == before, 1.0, distance - before)
            taken = distance - excess / np.where(rise > 0.05, rise, 1.0)
            before, excess_before = distance, excess
            distance = np.clip(taken, 0.5 * (distance + _NEAREST), 2 * distance)
        raise ArithmeticError("the modified root does not settle")

    def roots(self, quantiles: Float[np.ndarray, " lines"], directions: Float[np.ndarray, "lines 2"]) -> Roots:
        """Compute r and r* of the lines that go through (quantile, 0) in the plane of (b0, b1)."""
        likelihood, link, sign = self.likelihood, self.likelihood.link, self.likelihood.sign
        design = np.stack([np.ones_like(likelihood.x), likelihood.x])
        eta = self._climb_lines(quantiles, directions)
        best_eta = self.best @ design

        fall = log_distribution(sign * best_eta, link).sum() - log_distribution(sign * eta, link).sum(axis=1)
        side = directions[:, 1] * (self.best[0] - quantiles) - directions[:, 0] * self.best[1]
        plain = np.sign(side) * np.sqrt(np.maximum(2 * fall, 0.0))

        def log_odds(eta: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
            return log_distribution(eta, link) - log_distribution(-eta, link)

        def log_odds_slope(eta: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
            return log_distribution_slope(eta, link) + log_distribution_slope(-eta, link)

        # The canonical parameter of the tangent model is the sum of tangents times log odds.
        tangents = design * np.exp(log_distribution(best_eta, link)) * log_distribution_slope(best_eta, link)
        change = (log_odds(best_eta) - log_odds(eta)) @ tangents.T
        steps = directions @ design
        along = (log_odds_slope(eta) * steps) @ tangents.T
        best_information = (design * likelihood.pull_and_curvature(best_eta)[1]) @ design.T
        line_information = (likelihood.pull_and_curvature(eta)[1] * steps**2).sum(axis=1)
        area = (change[:, 0] * along[:, 1] - change[:, 1] * along[:, 0]) / np.linalg.det(
            tangents @ (log_odds_slope(best_eta) * design).T
        )
        with np.errstate(all="ignore"):
            q = area * np.sqrt(np.linalg.det(best_information) / line_information)
            return Roots(plain, plain + np.log(q / plain) / plain)

    def _excess(
        self, quantiles: Float[np.ndarray, " lines"], angles: Float[np.ndarray, " lines"]
    ) -> Float[np.ndarray, " lines"]:
        """How far r* lies beyond the critical quantile."""
        roots = self.roots(quantiles, np.stack([-np.sin(angles), np.cos(angles)], axis=1))
        is_known = np.isfinite(roots.modified)
        if not (is_known | (roots.plain > self.critical + _CERTAIN)).all():
            raise ArithmeticError("the modified root cannot be computed")
        return np.where(is_known, roots.modified, roots.plain) - self.critical

    def _allow_the_curve_itself(self) -> None:
        """Accept a bound at the best curve, as is right at confidences of little over one half."""
        if self.critical > _LARGEST_CORRECTION:
            raise ArithmeticError("the modified root cannot be trusted")

    def _standard_error(self, x: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        at = np.stack([np.ones_like(x), x], axis=1)
        return np.sqrt(((at @ np.linalg.inv(self.likelihood.information(self.best))) * at).sum(axis=1))

    def _climb_lines(
        self, quantiles: Float[np.ndarray, " lines"], directions: Float[np.ndarray, "lines 2"]
    ) -> Float[np.ndarray, "lines flaws"]:
        """Find the most likely curve of each line, as its linear predictors, by Newton's method between brackets."""
        likelihood = self.likelihood
        steps = directions[:, :1] + directions[:, 1:] * likelihood.x
        information = likelihood.information(self.best)
        offset = self.best - np.stack([quantiles, np.zeros_like(quantiles)], axis=1)
        pulled = directions @ information
        place = (pulled * offset).sum(axis=1) / (pulled * directions).sum(axis=1)
        low, high = np.full_like(place, -np.inf), np.full_like(place, np.inf)
        for _ in range(100):
            eta = quantiles[:, None] + place[:, None] * steps
            pull, curvature = likelihood.pull_and_curvature(eta)
            score, curvature = (pull * steps).sum(axis=1), (curvature * steps**2).sum(axis=1)
            if (np.abs(score) <= 1e-8 * np.sqrt(curvature)).all():
                break
            low, high = np.where(score > 0, place, low), np.where(score < 0, place, high)
            reach = 1 + np.abs(place)
            taken = place + np.clip(score / np.maximum(curvature, 1e-300), -reach, reach)
            with np.errstate(invalid="ignore"):
                middle = 0.5 * (low + high)
            place = np.where(((taken <= low) | (taken >= high)) & np.isfinite(middle), middle, taken)
        return quantiles[:, None] + place[:, None] * steps

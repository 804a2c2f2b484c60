"""POD against statsmodels, slow searches, published examples and its own simulations.

Published: example 3 of MIL-HDBK-1823A, appendix G, which its program mh1823 comes with, as kept in two public
repositories with numeric results of R. jasp-stats/jaspQualityControl, tests/testthat: with glm's coefficients
(test-probabilityOfDetection.R). Ericrat233/default, validation/reference_R_results.csv: under R 4.5.0 with
mh1823's own routines, among them the bound that it interpolates from a grid of 51 by 51 likelihoods.
"""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import chi2, norm

from defects_in_welds.evaluation.pod.hit_miss import PodRefusal, choose_link, fit_pod
from defects_in_welds.evaluation.pod.modified_root import ModifiedRoot
from defects_in_welds.evaluation.pod.signal_response import fit_signal

LINKS = ("logit", "probit")
DISTRIBUTION = {"logit": expit, "probit": ndtr}
QUANTILE = {"logit": logit, "probit": ndtri}

# Example 3: lengths and depths of cracks in inches, by outcome; no depth where it is not known.
LENGTHS_FOUND = """0.21 0.195 0.095 0.207 0.141 0.324 0.08 0.325 0.18 0.176 0.152 0.085 0.116 0.09 0.138 0.317 0.345
    0.25 0.407 0.355 0.3 0.32 0.32 0.111 0.152 0.157 0.185 0.11 0.18 0.145 0.165 0.15 0.144 0.26 0.315 0.3 0.25 0.2
    0.32 0.352 0.045 0.213 0.167 0.215 0.19 0.182 0.187 0.235 0.235 0.216 0.195 0.187 0.235 0.262 0.205 0.227 0.207
    0.188 0.215 0.175 0.242 0.255 0.275 0.262 0.22 0.2 0.125 0.207 0.24 0.24 0.24 0.247 0.211 0.155 0.265 0.13 0.14
    0.08 0.225 0.179 0.21 0.212 0.125 0.137 0.13 0.21 0.194 0.202 0.212 0.257 0.216 0.21"""
LENGTHS_MISSED = """0.095 0.102 0.115 0.08 0.019 0.082 0.084 0.125 0.067 0.075 0.155 0.117 0.142 0.097 0.125 0.091 0.09
    0.057 0.082 0.079 0.034 0.15 0.065 0.07 0.07 0.085 0.025 0.023 0.067 0.065 0.025 0.177 0.034 0.085 0.05 0.07 0.075
    0.08 0.087 0.05 0.182 0.125"""
DEPTHS_FOUND = """0.043 0.031 0.019 0.037 0.019 0.033 0.021 0.051 0.018 0.027 0.025 0.018 0.027 0.019 0.021 0.016 0.039
    0.025 0.037 0.047 0.039 0.041 0.039 0.021 0.033 0.027 0.029 0.025 0.037 0.025 0.023 0.027 0.019 0.021 0.031 0.033
    0.029 0.041 0.076 0.097 0.033 0.062 0.049 0.057 0.041 0.049 0.047 0.043 0.043 0.049 0.068 0.068 0.045 0.031 0.045
    0.041 0.058 0.068 0.058 0.062 0.053 0.053 0.06 0.041 0.064 0.06 0.037 0.049 0.043 0.066 0.057 0.084 0.049 0.039
    0.025 0.021 0.047 0.058 0.058 0.029 0.035 0.047 0.055 0.064 0.057 0.062 0.049 0.047 0.047"""
DEPTHS_MISSED = """0.01 0.008 0.01 0.014 0.018 0.1 0.025 0.008 0.012 0.012 0.006 0.016 0.006 0.01 0.018 0.012 0.008
    0.012 0.014 0.004 0.019 0.01 0.01 0.006 0.023 0.01 0.019 0.021 0.012 0.033"""


def numbers(text):
    return np.array(text.split(), dtype=np.float64)


def hit_miss(found, missed):
    found, missed = numbers(found), numbers(missed)
    return np.concatenate([found, missed]), np.repeat([True, False], [len(found), len(missed)])


def simulate(flaws, seed, link="logit", a50=1.2, a90=2.5, smallest=0.3, largest=6.0):
    """Flaws of log-uniform sizes whose a50 and a90 are known, found by chance."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(np.log(smallest), np.log(largest), flaws))
    slope = QUANTILE[link](0.9) / np.log(a90 / a50)
    return sizes, random.random(flaws) < DISTRIBUTION[link](slope * np.log(sizes / a50))


def log_likelihood(b0, b1, sizes, hits, link):
    """Of one curve or of many, whose b0 and b1 have equal shapes."""
    eta = np.asarray(b0)[..., None] + np.asarray(b1)[..., None] * np.log(sizes)
    return np.log(DISTRIBUTION[link](np.where(hits, eta, -eta))).sum(axis=-1)


def penalised(b0, b1, sizes, hits, link):
    """With half the log-determinant of the information, written out from its definition."""
    x = np.log(sizes)
    eta = np.asarray(b0)[..., None] + np.asarray(b1)[..., None] * x
    pod, complement = DISTRIBUTION[link](eta), DISTRIBUTION[link](-eta)
    density = pod * complement if link == "logit" else norm.pdf(eta)
    weights = density**2 / (pod * complement)
    determinant = weights.sum(axis=-1) * (weights * x**2).sum(axis=-1) - (weights * x).sum(axis=-1) ** 2
    return log_likelihood(b0, b1, sizes, hits, link) + 0.5 * np.log(determinant)


@st.composite
def studies(draw):
    flaws = draw(st.integers(40, 90))
    sizes, hits = simulate(flaws, draw(st.integers(0, 2**32 - 1)), a90=draw(st.sampled_from([1.5, 2.5, 5.0])))
    assume(0 < hits.sum() < flaws)
    fit = fit_pod(sizes, hits, draw(st.sampled_from(LINKS)))
    assume(not isinstance(fit, PodRefusal))
    return sizes, hits, fit


def assert_same(fit, other, rel=1e-6):
    assert other.a50 == pytest.approx(fit.a50, rel=rel)
    assert other.a90 == pytest.approx(fit.a90, rel=rel)
    assert (other.a90_95 is None) == (fit.a90_95 is None)
    if fit.a90_95 is not None:
        assert other.a90_95 == pytest.approx(fit.a90_95, rel=10 * rel)


def test_published_coefficients_of_example_3_over_log_depth():
    fit = fit_pod(*hit_miss(DEPTHS_FOUND, DEPTHS_MISSED))
    # R's glm stops at a relative change of the deviance of 1e-8.
    assert fit.intercept == pytest.approx(17.6573206618451, rel=1e-7)
    assert fit.slope == pytest.approx(4.39007841700679, rel=1e-7)


@pytest.mark.parametrize(
    ("link", "b0", "b1", "a50", "a90", "a90_95", "likelihood"),
    [
        ("logit", -4.59736656561765, 39.7654286840476, 0.115612146, 0.170866790, 0.197340414521742, -38.7469053178524),
        ("probit", -2.62399656581323, 22.6110314461234, 0.116049397, 0.172727553, 0.197278947840819, -38.5781741891977),
    ],
)
def test_published_hit_miss_example_3_over_length(link, b0, b1, a50, a90, a90_95, likelihood):
    """The published fit is over the length itself: lengths are given as exponentials, whose logarithms they are."""
    lengths, hits = hit_miss(LENGTHS_FOUND, LENGTHS_MISSED)
    # mh1823 lets the likelihood fall by 3.84, and does not correct.
    fit = fit_pod(np.exp(lengths), hits, link, confidence=0.975, correction=False)
    assert fit.intercept == pytest.approx(b0, rel=1e-6)
    assert fit.slope == pytest.approx(b1, rel=1e-6)
    assert np.log(fit.a50) == pytest.approx(a50, rel=1e-6)
    assert np.log(fit.a90) == pytest.approx(a90, rel=1e-6)
    assert fit.log_likelihood == pytest.approx(likelihood, abs=1e-9)
    assert np.log(fit.a90_95) == pytest.approx(a90_95, rel=1e-4)  # theirs is interpolated from a grid


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_statsmodels(link, seed):
    sizes, hits = simulate(120, seed, link)
    fit = fit_pod(sizes, hits, link)
    family = sm.families.Binomial({"logit": sm.families.links.Logit(), "probit": sm.families.links.Probit()}[link])
    reference = sm.GLM(hits.astype(float), sm.add_constant(np.log(sizes)), family=family).fit(tol=1e-12)
    np.testing.assert_allclose([fit.intercept, fit.slope], reference.params, rtol=1e-7)
    assert fit.log_likelihood == pytest.approx(reference.llf)
    assert fit.aic == pytest.approx(reference.aic)
    assert fit.deviance == pytest.approx(reference.deviance)
    assert fit.method == "maximum likelihood"


@pytest.mark.parametrize("link", LINKS)
def test_statsmodels_puts_the_bound_where_the_likelihood_has_fallen_by_the_critical_value(link):
    """With the curve held to 90 % at a90/95, an offset model of statsmodels finds the best slope."""
    sizes, hits = simulate(120, 7, link)
    fit = fit_pod(sizes, hits, link, correction=False)
    assert fit.bound == "likelihood ratio"
    family = sm.families.Binomial({"logit": sm.families.links.Logit(), "probit": sm.families.links.Probit()}[link])

    def fall(size):
        x = np.log(sizes / size)
        offset = np.full(len(sizes), QUANTILE[link](0.9))
        return 2 * (fit.log_likelihood - sm.GLM(hits.astype(float), x, family=family, offset=offset).fit().llf)

    assert fall(fit.a90_95) == pytest.approx(chi2.ppf(0.9, 1), abs=1e-6)
    assert fall(0.99 * fit.a90_95) < chi2.ppf(0.9, 1) < fall(1.01 * fit.a90_95)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("is_separated", [False, True])
def test_bound_and_band_agree_with_a_slow_search(link, is_separated):
    """Of many curves through 90 % at a size, and through a POD at a size, see whether any is likely enough."""
    sizes, hits = simulate(50, 3, link)
    if is_separated:
        hits = sizes > 1.5
    fit = fit_pod(sizes, hits, link, correction=False)
    assert fit.is_separated is is_separated
    criterion = penalised if is_separated else log_likelihood
    floor = criterion(fit.intercept, fit.slope, sizes, hits, link) - 0.5 * chi2.ppf(0.9, 1)
    slopes = fit.slope * np.geomspace(0.1, 6, 500)

    def is_likely(eta, size):
        """Whether the best curve whose quantile at a size is eta lies above the floor."""
        with np.errstate(all="ignore"):
            values = criterion(eta - slopes * np.log(size), slopes, sizes, hits, link)
        return np.nanmax(values) >= floor

    steps = fit.a90 * np.exp(np.arange(0, 2, 0.004))
    likely = [is_likely(QUANTILE[link](0.9), size) for size in steps]
    assert fit.a90_95 == pytest.approx(steps[np.flatnonzero(likely)[-1]], rel=0.005)
    for size in fit.a50 * np.array([0.9, 1.0, 1.2]):
        lower = QUANTILE[link](fit.curve(np.array([size])).lower.item())
        assert is_likely(lower + 0.02, size)
        assert not is_likely(lower - 0.02, size)


@pytest.mark.parametrize("link", LINKS)
def test_penalised_fit_of_separated_flaws_agrees_with_a_direct_maximisation(link):
    sizes = np.geomspace(0.2, 5, 60)
    hits = sizes > 1.0
    fit = fit_pod(sizes, hits, link)
    assert fit.is_separated
    assert fit.method == "penalised likelihood"
    assert fit.bound == "penalised likelihood ratio"
    assert any("one size divides" in caution for caution in fit.cautions)
    assert fit.a50 < fit.a90 < fit.a90_95 < 5
    direct = minimize(
        lambda b: -penalised(b[0], b[1], sizes, hits, link), [0.0, 3.0], method="Nelder-Mead", options={"xatol": 1e-7}
    )
    np.testing.assert_allclose([fit.intercept, fit.slope], direct.x, rtol=1e-4, atol=1e-4)


def test_penalised_fit_of_two_sizes_has_its_closed_form():
    """Over two sizes it adds half a hit and half a miss to each (Firth 1993)."""
    sizes = np.repeat([1.0, np.e], [25, 20])
    hits = np.arange(45) >= 30  # none of 25, then 15 of 20
    fit = fit_pod(sizes, hits)
    assert fit.is_separated
    small, large = logit(0.5 / 26), logit(15.5 / 21)
    assert fit.intercept == pytest.approx(small)
    assert fit.slope == pytest.approx(large - small)
    assert fit.hosmer_lemeshow_p is None


def test_a_single_overlap_is_no_separation():
    sizes = np.linspace(1, 5, 41)
    hits = sizes > 3
    hits[[19, 22]] = [True, False]
    assert not fit_pod(sizes, hits).is_separated
    hits = sizes > 3
    assert fit_pod(sizes, hits).is_separated
    # A hit and a miss of the very size that divides them still leave the slope without a limit.
    assert fit_pod(np.append(sizes, sizes[20]), np.append(hits, True)).is_separated


@settings(deadline=None, max_examples=25)
@given(studies(), st.randoms(use_true_random=False))
def test_the_order_of_the_flaws_is_irrelevant(study, random):
    sizes, hits, fit = study
    order = list(range(len(sizes)))
    random.shuffle(order)
    other = fit_pod(sizes[order], hits[order], fit.link)
    assert_same(fit, other)
    assert other.hosmer_lemeshow_p == pytest.approx(fit.hosmer_lemeshow_p, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(studies(), st.floats(1e-3, 1e3))
def test_sizes_may_be_in_any_unit(study, factor):
    sizes, hits, fit = study
    other = fit_pod(factor * sizes, hits, fit.link)
    assert other.slope == pytest.approx(fit.slope, rel=1e-6)
    assert other.a90 / factor == pytest.approx(fit.a90, rel=1e-6)
    assert other.a50 / factor == pytest.approx(fit.a50, rel=1e-6)
    assert (other.a90_95 is None) == (fit.a90_95 is None)
    if fit.a90_95 is not None:
        assert other.a90_95 / factor == pytest.approx(fit.a90_95, rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(studies())
def test_mirrored_flaws_give_the_mirrored_curve(study):
    sizes, hits, fit = study
    other = fit_pod(1 / sizes, ~hits, fit.link)
    assert other.slope == pytest.approx(fit.slope, rel=1e-6)
    assert 1 / other.a50 == pytest.approx(fit.a50, rel=1e-6)
    at = np.geomspace(0.2, 8, 20)
    np.testing.assert_allclose(other.curve(1 / at).pod, 1 - fit.curve(at).pod, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(studies())
def test_curve_and_band_go_through_their_points(study):
    _, _, fit = study
    at = np.geomspace(0.05, 50, 60)
    curve = fit.curve(at)
    assert (np.diff(curve.pod) >= 0).all()
    assert (curve.lower <= curve.pod).all()
    np.testing.assert_allclose(fit.curve(np.array([fit.a50, fit.a90])).pod, [0.5, 0.9], atol=1e-9)
    if fit.a90_95 is None:
        assert fit.unbounded_reason
        assert (fit.curve(np.array([1e3])).lower < 0.9).all()
    else:
        assert fit.a90_95 > fit.a90
        assert fit.curve(np.array([fit.a90_95])).lower == pytest.approx(0.9, abs=1e-3)
        assert (np.diff(curve.lower) >= -1e-12).all()


@settings(deadline=None, max_examples=25)
@given(studies())
def test_more_confidence_asks_for_more(study):
    sizes, hits, fit = study
    bounds = [fit_pod(sizes, hits, fit.link, confidence).a90_95 for confidence in (0.8, 0.9, 0.95, 0.99)]
    known = [bound for bound in bounds if bound is not None]
    assert bounds[: len(known)] == known  # once unbounded, always unbounded
    assert known == sorted(known)


def test_too_few_flaws_are_refused():
    sizes, hits = simulate(39, 0)
    assert fit_pod(sizes, hits) == PodRefusal("39 flaws are too few: a POD curve takes at least 40")
    assert fit_pod(sizes[:1], hits[:1]) == PodRefusal("1 flaw is too few: a POD curve takes at least 40")
    assert isinstance(fit_signal(sizes, sizes, 1.0, log_signal=True), PodRefusal)
    sizes, hits = simulate(59, 0)
    assert any("59 flaws are few" in caution for caution in fit_pod(sizes, hits).cautions)
    sizes, hits = simulate(60, 0)
    assert not any("are few" in caution or "too low" in caution for caution in fit_pod(sizes, hits).cautions)


def test_flaws_that_say_nothing_are_refused():
    sizes = np.geomspace(1, 9, 50)
    assert "no flaw was missed" in fit_pod(sizes, np.ones(50)).reason
    assert "no flaw was found" in fit_pod(sizes, np.zeros(50)).reason
    assert "same size" in fit_pod(np.full(50, 0.3), np.arange(50) % 2).reason
    falling = sizes < 3
    assert "not found more often" in fit_pod(sizes, falling).reason
    falling[[5, 40]] = [False, True]
    assert "not found more often" in fit_pod(sizes, falling, "probit").reason
    assert "too slowly" in fit_pod(np.append(sizes, sizes), np.append(np.arange(50) % 2, np.arange(50) % 2)).reason


@pytest.mark.parametrize("link", LINKS)
def test_there_is_a_bound_exactly_where_a_slope_of_zero_is_too_unlikely(link):
    outcomes = set()
    for seed in range(40):
        sizes, hits = simulate(60, seed, link, a50=1.2, a90=12.0)
        fit = fit_pod(sizes, hits, link, correction=False)
        if isinstance(fit, PodRefusal):
            continue
        constant = log_likelihood(QUANTILE[link](hits.mean()), 0.0, sizes, hits, link)
        is_rising = 2 * (fit.log_likelihood - constant) > chi2.ppf(0.9, 1)
        if fit.a90_95 is not None:
            assert is_rising
        elif "do not rule out" in fit.unbounded_reason:
            assert not is_rising
        else:
            assert "1000 times" in fit.unbounded_reason
        outcomes.add(is_rising)
    assert outcomes == {True, False}


def test_an_a90_outside_the_sizes_is_named():
    sizes, hits = simulate(200, 1, a50=3.0, a90=8.0)
    assert any("beyond the largest flaw" in caution for caution in fit_pod(sizes, hits).cautions)
    sizes, hits = simulate(2000, 1, a50=0.05, a90=0.15)
    assert any("below the smallest flaw" in caution for caution in fit_pod(sizes, hits).cautions)


def test_a_curve_of_the_wrong_shape_is_named():
    sizes = np.geomspace(0.1, 10, 400)
    random = np.random.default_rng(0)
    plateau = random.random(400) < np.where(sizes < 0.8, 0.02, 0.75)
    fit = fit_pod(sizes, plateau)
    assert fit.hosmer_lemeshow_p < 1e-3
    assert any("fits the hits and misses badly" in caution for caution in fit.cautions)


def test_the_test_of_fit_is_true_to_its_level():
    p = [fit_pod(*simulate(300, seed)).hosmer_lemeshow_p for seed in range(200)]
    assert 0.015 <= np.mean(np.array(p) < 0.05) <= 0.09


def test_choose_link_takes_the_smaller_aic():
    chosen = set()
    for seed in range(10):
        sizes, hits = simulate(150, seed)
        fits = {link: fit_pod(sizes, hits, link) for link in LINKS}
        fit = choose_link(sizes, hits)
        assert fit.aic == min(fits[link].aic for link in LINKS)
        assert_same(fits[fit.link], fit)
        chosen.add(fit.link)
    assert chosen == set(LINKS)
    assert isinstance(choose_link(sizes, np.ones(150)), PodRefusal)


@pytest.mark.parametrize(
    ("sizes", "hits", "message"),
    [
        (np.append(np.ones(49), 0.0), np.ones(50), "positive finite"),
        (np.append(np.ones(49), np.nan), np.ones(50), "positive finite"),
        (np.append(np.ones(49), np.inf), np.ones(50), "positive finite"),
        (np.ones((50, 1)), np.ones(50), "positive finite"),
        (np.ones(50), np.ones(49), "one for each size"),
        (np.ones(50), np.full(50, 0.5), "true or false"),
        (np.ones(50), np.full(50, np.nan), "true or false"),
    ],
)
def test_nonsense_is_an_error(sizes, hits, message):
    with pytest.raises(ValueError, match=message):
        fit_pod(sizes, hits)


def test_unknown_links_and_confidences_are_errors():
    sizes, hits = simulate(50, 0)
    with pytest.raises(ValueError, match="'loglog' is unknown; use one of logit, probit"):
        fit_pod(sizes, hits, "loglog")
    with pytest.raises(ValueError, match="must lie between"):
        fit_pod(sizes, hits, confidence=95)
    with pytest.raises(ValueError, match="positive finite"):
        fit_pod(sizes, hits).curve(np.array([-1.0]))


def test_without_the_modified_root_the_plain_bound_serves_and_is_named(monkeypatch):
    def fail(*_):
        raise ArithmeticError("the modified root cannot be computed")

    sizes, hits = simulate(80, 0)
    plain = fit_pod(sizes, hits, correction=False)
    assert fit_pod(sizes, hits).bound == "modified root"
    assert fit_pod(sizes, hits).a90_95 > plain.a90_95
    assert plain.cautions == ()
    monkeypatch.setattr(ModifiedRoot, "roots", fail)
    fit = fit_pod(sizes, hits)
    assert fit.bound == "likelihood ratio"
    assert fit.a90_95 == plain.a90_95
    np.testing.assert_array_equal(fit.curve(sizes).lower, plain.curve(sizes).lower)
    (caution,) = fit.cautions
    assert "cannot be computed: the bound is the plain likelihood ratio's" in caution


def coverage(studies, fit):
    """Share of studies whose bound lies above the true a90 of 2.5; one without a bound does."""
    bounds = [result.a90_95 for seed in range(studies) if not isinstance(result := fit(seed), PodRefusal)]
    return np.mean([bound is None or bound > 2.5 for bound in bounds])


@pytest.mark.parametrize("link", LINKS)
def test_the_bound_is_above_the_true_a90_in_about_95_of_100_small_studies(link):
    """benchmarks/pod_coverage.py counts thousands; with 200 the share has a standard error of 1.5 %."""
    corrected = coverage(200, lambda seed: fit_pod(*simulate(60, seed, link), link))
    assert corrected == pytest.approx(0.95, abs=0.04)

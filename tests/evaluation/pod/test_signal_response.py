"""POD from signals against statsmodels, a direct maximisation, published examples and its own simulations.

Published: examples 1 and 2 of MIL-HDBK-1823A, appendix G, as kept in the public repository Ericrat233/default,
validation/reference_R_results.csv, under R 4.5.0 with mh1823's own routines.
"""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import nct, norm

from defects_in_welds.evaluation.pod.hit_miss import PodRefusal
from defects_in_welds.evaluation.pod.signal_response import CENSORED_CAUTION, fit_signal

# Examples 1 and 2: sizes, and the signals of tests A to D; example 1 is test B.
SIZES = """6 6 7 7 7 8 8 8 9 9 9 9 10 10 10 10 11 11 12 12 12 12 13 13 13 13 13 13 14 14 14 14 14 15 15 15 15 15 15
    15 16 16 17 17 17 17 17 17 18 18 18 19 19 19 19 20 20 20 20 21 22 23 24 24 25 27 27 27 28 29 29 30 30 31
    32 32 32 32 33 33 34 35 39 41 42 45 48 50 50 52 53 65"""
TEST_A = """189 156 159 100 162 216 168 165 369 559 317 337 92 207 403 443 300 326 50 50 333 388 546 156 422 655 487
    410 485 146 50 636 588 595 588 359 274 421 468 576 573 721 356 780 467 455 502 551 666 558 738 342 556
    614 777 770 865 593 681 750 770 766 788 722 736 876 798 987 845 856 935 838 792 902 769 1098 849 969 865
    956 823 894 1226 787 1319 1180 1449 1190 1536 1223 1606 1297"""
TEST_B = """192 166 137 97 147 221 148 152 376 568 324 363 87 198 394 413 290 318 50 50 304 414 519 139 342 614 537
    370 439 138 50 621 610 509 482 353 260 381 415 548 537 672 352 671 437 435 461 483 599 507 728 344 514
    568 843 645 838 563 638 751 736 703 756 731 713 787 763 963 818 777 1040 753 778 729 811 1208 864 938
    865 853 740 830 1159 743 1176 1079 1344 1277 1335 1283 1375 1189"""
TEST_C = """179 141 132 87 137 194 146 135 353 397 217 252 81 212 399 286 329 251 50 50 356 311 470 157 445 521 524
    316 426 131 50 622 500 539 532 306 242 420 505 503 592 571 290 678 516 378 398 444 575 608 577 298 643
    608 691 604 820 576 608 731 841 658 810 689 803 903 777 882 739 963 998 866 901 1093 975 1141 1115 1066
    1046 1139 870 897 1319 753 1462 1475 1784 1492 1573 1574 1941 1284"""
TEST_D = """171 136 141 88 132 194 139 133 322 381 254 276 84 167 410 322 380 249 50 50 343 312 468 147 403 429 500
    438 410 148 50 512 495 545 499 294 259 382 469 506 588 659 287 697 459 523 547 551 553 605 608 256 549
    538 673 580 801 585 788 785 818 887 845 819 756 876 822 903 795 871 983 902 895 1026 839 1106 1009 1177
    962 1038 922 1110 1238 793 1294 1329 1441 1307 1441 1400 1675 1469"""


def numbers(text):
    return np.array(text.split(), dtype=np.float64)


def test_published_signal_example_1():
    fit = fit_signal(numbers(SIZES), numbers(TEST_B), threshold=200, log_signal=False, exact=False)
    assert fit.intercept == pytest.approx(-960.133810550508, rel=1e-7)
    assert fit.slope == pytest.approx(535.524842802072, rel=1e-7)
    assert np.log(fit.sigma) == pytest.approx(4.99910576573732, rel=1e-7)
    assert fit.log_likelihood == pytest.approx(-590.460075502668, rel=1e-9)
    assert fit.a50 == pytest.approx(8.72636752410674, rel=1e-7)
    assert fit.a90 == pytest.approx(12.4434661804576, rel=1e-7)
    assert fit.a90_95 == pytest.approx(13.3703423497973, rel=1e-6)


def test_published_signal_example_2_with_censoring_on_both_sides():
    signals = np.concatenate([numbers(test) for test in (TEST_A, TEST_B, TEST_C, TEST_D)])
    sizes = np.tile(numbers(SIZES), 4)
    fit = fit_signal(sizes, signals, threshold=250, log_signal=False, censor_below=200, censor_above=600)
    assert fit.intercept == pytest.approx(-1183.68098621906, rel=1e-5)
    assert fit.slope == pytest.approx(614.642414254625, rel=1e-5)
    assert np.log(fit.sigma) == pytest.approx(5.01706880232402, rel=1e-5)
    assert fit.log_likelihood == pytest.approx(-996.63846660208, rel=1e-8)
    assert fit.a50 == pytest.approx(10.3041304652723, rel=1e-6)
    assert fit.a90 == pytest.approx(14.1161401310149, rel=1e-6)
    # mh1823 counts the four tests of a crack as one: that doubles the standard error.
    ratio = (fit.a90_95 / fit.a90) ** 2
    assert ratio == pytest.approx(15.3153637799242 / 14.1161401310149, rel=1e-6)


def signals_of(flaws, seed, intercept=1.0, slope=2.0, sigma=0.5):
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(np.log(0.3), np.log(6.0), flaws))
    return sizes, intercept + slope * np.log(sizes) + random.normal(0, sigma, flaws)


def test_signals_agree_with_least_squares():
    sizes, signals = signals_of(80, 0)
    fit = fit_signal(sizes, signals, 1.5, log_signal=False)
    reference = sm.OLS(signals, sm.add_constant(np.log(sizes))).fit()
    np.testing.assert_allclose([fit.intercept, fit.slope], reference.params, rtol=1e-8)
    assert fit.sigma == pytest.approx(np.sqrt(reference.ssr / 80))
    assert fit.log_likelihood == pytest.approx(reference.llf)
    assert np.log(fit.a50) == pytest.approx((1.5 - fit.intercept) / fit.slope)
    assert np.log(fit.a90 / fit.a50) == pytest.approx(ndtri(0.9) * fit.sigma / fit.slope)
    assert fit.cautions == ()


def test_censored_signals_agree_with_a_direct_maximisation():
    sizes, signals = signals_of(90, 1)
    fit = fit_signal(sizes, signals, 1.5, log_signal=False, censor_below=0.5, censor_above=3.0)

    def loss(parameters):
        b0, b1, log_sigma = parameters
        mean, sigma = b0 + b1 * np.log(sizes), np.exp(log_sigma)
        exact = norm.logpdf(signals, mean, sigma)
        below, above = norm.logcdf(0.5, mean, sigma), norm.logsf(3.0, mean, sigma)
        return -np.where(signals <= 0.5, below, np.where(signals >= 3.0, above, exact)).sum()

    direct = minimize(loss, [0.0, 1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    assert fit.log_likelihood == pytest.approx(-direct.fun, abs=1e-8)
    np.testing.assert_allclose([fit.intercept, fit.slope, np.log(fit.sigma)], direct.x, atol=1e-5)
    assert fit.censored == ((signals <= 0.5) | (signals >= 3.0)).sum()
    assert fit.bound == "delta method"
    assert CENSORED_CAUTION in fit.cautions
    # Whatever lies beyond the limits is known no further.
    far = np.where(signals <= 0.5, -99.0, np.where(signals >= 3.0, 99.0, signals))
    other = fit_signal(sizes, far, 1.5, log_signal=False, censor_below=0.5, censor_above=3.0)
    assert (other.a50, other.a90, other.a90_95) == pytest.approx((fit.a50, fit.a90, fit.a90_95), rel=1e-6)


@pytest.mark.parametrize("confidence", [0.6, 0.95, 0.99])
def test_the_bound_has_its_confidence_by_the_noncentral_t_distribution(confidence):
    """From the regression's textbook form: over the standard error, the distance to the threshold is noncentral t."""
    sizes, signals = signals_of(50, 6)
    fit = fit_signal(sizes, signals, 1.5, log_signal=False, confidence=confidence)
    assert fit.bound == "noncentral t"
    design = sm.add_constant(np.log(sizes))
    reference = sm.OLS(signals, design).fit()

    def chance(size, quantile):
        at = np.array([1.0, np.log(size)])
        spread = np.sqrt(at @ np.linalg.inv(design.T @ design) @ at)
        t = (reference.params @ at - 1.5) / (np.sqrt(reference.ssr / 48) * spread)
        return nct.cdf(t, 48, quantile / spread)

    assert chance(fit.a90_95, ndtri(0.9)) == pytest.approx(confidence, abs=1e-6)
    at = np.array([0.9, 1.5, 3.0])
    lowest = ndtri(fit.curve(at).lower)
    assert [chance(size, quantile) for size, quantile in zip(at, lowest, strict=True)] == pytest.approx(
        [confidence] * 3, abs=1e-5
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(1e-2, 1e2), st.floats(1e-2, 1e2), st.sampled_from([None, 2.0]))
def test_units_of_sizes_and_signals_are_irrelevant(seed, size_factor, signal_factor, limit):
    sizes, signals = signals_of(60, seed)
    signals = np.exp(signals)
    fit = fit_signal(sizes, signals, 4.0, log_signal=True, censor_below=limit)
    other = fit_signal(
        size_factor * sizes,
        signal_factor * signals,
        signal_factor * 4.0,
        log_signal=True,
        censor_below=limit and signal_factor * limit,
    )
    for name in ("a50", "a90", "a90_95"):
        assert getattr(other, name) / size_factor == pytest.approx(getattr(fit, name), rel=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_signal_curve_and_band_go_through_their_points(exact):
    fit = fit_signal(*signals_of(60, 2), 1.5, log_signal=False, exact=exact)
    np.testing.assert_allclose(fit.curve(np.array([fit.a50, fit.a90])).pod, [0.5, 0.9], atol=1e-9)
    assert fit.curve(np.array([fit.a90_95])).lower == pytest.approx(0.9, abs=1e-5)
    curve = fit.curve(np.geomspace(0.01, 100, 200))
    assert (curve.lower <= curve.pod).all()
    assert (np.diff(curve.lower) >= 0).all()
    assert curve.lower[0] == pytest.approx(0, abs=1e-9)


def test_signals_that_say_nothing_are_refused():
    sizes, signals = signals_of(60, 3)
    assert "did not give larger signals" in fit_signal(sizes, -signals, 1.0, log_signal=False).reason
    assert "no scatter" in fit_signal(sizes, 2 * np.log(sizes), 1.0, log_signal=False).reason
    assert "same size" in fit_signal(np.ones(60), signals, 1.0, log_signal=False).reason
    few = fit_signal(sizes, signals, 1.0, log_signal=False, censor_below=0.9, censor_above=1.1)
    assert "between the censoring limits" in few.reason


def test_a_signal_that_might_not_grow_has_no_bound():
    for seed in range(50):
        sizes, signals = signals_of(60, seed, slope=0.1)
        fit = fit_signal(sizes, signals, 0.9, log_signal=False)
        if not isinstance(fit, PodRefusal) and fit.a90_95 is None and "do not rule out" in fit.unbounded_reason:
            assert (fit.curve(np.geomspace(0.01, 1e6, 50)).lower < 0.9).all()
            plain = fit_signal(sizes, signals, 0.9, log_signal=False, exact=False)
            assert plain.a90_95 is None
            assert (plain.curve(sizes).lower == 0).all()
            return
    raise AssertionError("no such sample among the seeds")


def test_signals_that_do_not_fit_the_model_are_named():
    sizes, signals = signals_of(200, 4)
    widening = 1 + 2 * np.log(sizes) + (signals - 1 - 2 * np.log(sizes)) * sizes
    cautions = fit_signal(sizes, widening, 1.5, log_signal=False).cautions
    assert any("changes with size" in caution for caution in cautions)
    skewed = 1 + 2 * np.log(sizes) + np.random.default_rng(0).exponential(1.0, 200)
    cautions = fit_signal(sizes, skewed, 1.5, log_signal=False).cautions
    assert any("not scatter normally" in caution for caution in cautions)


def test_nonsense_signals_are_errors():
    sizes, signals = signals_of(60, 5)
    with pytest.raises(ValueError, match="one for each flaw"):
        fit_signal(sizes, signals[1:], 1.0, log_signal=False)
    with pytest.raises(ValueError, match="finite numbers"):
        fit_signal(sizes, np.where(sizes > 1, signals, np.nan), 1.0, log_signal=False)
    with pytest.raises(ValueError, match="within the censoring limits"):
        fit_signal(sizes, signals, 1.0, log_signal=False, censor_below=2.0)
    with pytest.raises(ValueError, match="must be positive"):
        fit_signal(sizes, signals - 100, 1.0, log_signal=True)


def coverage(studies, fit):
    """Share of studies whose bound lies above the true a90 of 2.5; one without a bound does."""
    bounds = [result.a90_95 for seed in range(studies) if not isinstance(result := fit(seed), PodRefusal)]
    return np.mean([bound is None or bound > 2.5 for bound in bounds])


def test_the_bound_is_above_the_true_a90_in_about_95_of_100_small_studies():
    """benchmarks/pod_coverage.py counts thousands; with 300 the share has a standard error of 1.3 %."""
    # A slope of 2 with a scatter of 0.5 and a true a90 of 2.5.
    threshold = 1.0 + 2.0 * np.log(2.5) - ndtri(0.9) * 0.5
    share = coverage(300, lambda seed: fit_signal(*signals_of(50, seed), threshold, log_signal=False))
    assert share == pytest.approx(0.95, abs=0.035)

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.simulation.exact_math import blur, exp, normal_noise, smooth_curve, uniform


@given(st.floats(-600, 600))
def test_exp_agrees_with_the_library_to_the_last_places(x):
    assert float(exp(np.array([x]))[0]) == pytest.approx(math.exp(x), rel=4e-16)


def test_normal_noise_has_the_moments_of_a_normal_distribution():
    noise = normal_noise(np.random.default_rng(3), (400, 500))
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean() == pytest.approx(3 - 1.2 / 8, abs=0.05)


def test_smooth_curve_stays_near_its_knots_and_has_no_jumps():
    curve = smooth_curve(np.random.default_rng(0), 2000, knot_distance=50)
    assert curve.shape == (2000,)
    assert np.abs(curve).max() < 1.5
    assert np.abs(np.diff(curve)).max() < 0.15
    assert np.ptp(curve) > 0.5


def test_blur_keeps_the_sum_and_has_the_asked_width():
    point = np.zeros((41, 41))
    point[20, 20] = 1.0
    spread = blur(point, sigma_px=2.0)
    offsets = np.arange(41) - 20
    assert spread.sum() == pytest.approx(1)
    assert np.array_equal(spread, spread.T)
    # A Gaussian cut at three standard deviations has 98.7 % of the width of the whole one.
    assert np.sqrt((spread.sum(axis=0) * offsets**2).sum()) == pytest.approx(2.0, rel=0.02)


def test_blur_leaves_a_constant_as_it_is():
    assert blur(np.full((9, 7), 0.25), 1.3) == pytest.approx(np.full((9, 7), 0.25), rel=1e-14)


@given(st.floats(-5, 5), st.floats(0, 5))
def test_uniform_stays_inside(low, span):
    assert low <= uniform(np.random.default_rng(0), low, low + span) <= low + span

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.simulation.exact_math import (
    blur,
    exp,
    log,
    log_uniform_in,
    normal_noise,
    sin_cos_deg,
    smooth_curve,
    smooth_field,
    uniform,
    wide_blur,
)


@given(st.floats(-600, 600))
def test_exp_agrees_with_the_library_to_the_last_places(x):
    assert float(exp(np.array([x]))[0]) == pytest.approx(math.exp(x), rel=4e-16)


@given(st.floats(1e-12, 1e12))
def test_log_agrees_with_the_library_to_the_last_places(x):
    assert log(x) == pytest.approx(math.log(x), rel=1e-15, abs=1e-15)


@given(st.floats(-360, 360))
def test_sine_and_cosine_agree_with_the_library(angle_deg):
    radians = math.radians(angle_deg)  # rounded to 4.4e-16 near a whole turn
    assert sin_cos_deg(angle_deg) == pytest.approx((math.sin(radians), math.cos(radians)), abs=1e-15)


def test_log_uniform_draws_as_many_below_the_geometric_mean_as_above():
    rng = np.random.default_rng(0)
    drawn = np.array([log_uniform_in(rng, [0.1, 10.0]) for _ in range(4000)])
    assert drawn.min() >= 0.1
    assert drawn.max() <= 10.0
    assert (drawn < 1).mean() == pytest.approx(0.5, abs=0.03)


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


def test_a_smooth_field_goes_through_its_knots_and_has_no_jumps():
    field = smooth_field(np.random.default_rng(0), (80, 120), knot_distance=20)
    knots = 2 * np.random.default_rng(0).random((3 + 4, 5 + 4)) - 1
    assert field[::20, ::20] == pytest.approx(knots[1:5, 1:7], abs=1e-14)
    for axis in (0, 1):
        assert np.abs(np.diff(field, axis=axis)).max() < 0.2


@pytest.mark.parametrize("sigma_px", [8.0, 15.0])
def test_wide_blur_keeps_the_sum_and_has_the_asked_width(sigma_px):
    point = np.zeros((151, 151))
    point[75, 75] = 1.0
    spread = wide_blur(point, sigma_px)
    offsets = np.arange(151) - 75
    assert spread.sum() == pytest.approx(1)
    assert spread == pytest.approx(spread[::-1, ::-1], abs=1e-15)
    assert np.sqrt((spread.sum(axis=0) * offsets**2).sum()) == pytest.approx(sigma_px, rel=0.08)


def test_blur_keeps_the_sum_and_has_the_asked_width():
    point = np.zeros((41, 41))
    point[20, 20] = 1.0
    spread = blur(point, sigma_px=2.0)
    offsets = np.arange(41) - 20
    assert spread.sum() == pytest.approx(1)
    assert np.array_equal(spread, spread.T)
    # A Gaussian cut at three standard deviations has 98.7 % of the width of the whole one.
    assert np.sqrt((spread.sum(axis=0) * offsets**2).sum()) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("sigma_px", [0.0, 0.1, 0.4, 0.7])
def test_a_narrow_blur_has_the_exact_variance(sigma_px):
    point = np.zeros((9, 11))
    point[4, 5] = 1.0
    spread = blur(point, sigma_px)
    assert spread.sum() == pytest.approx(1)
    for axis, middle in ((0, 5), (1, 4)):
        offsets = np.arange(point.shape[1 - axis]) - middle
        assert np.sum(spread.sum(axis=axis) * offsets**2) == pytest.approx(sigma_px**2)
    assert blur(np.ones((4, 5)), sigma_px) == pytest.approx(np.ones((4, 5)))


def test_blur_leaves_a_constant_as_it_is():
    constant = np.full((9, 7), 0.25)
    assert blur(constant, 1.3) == pytest.approx(constant, rel=1e-14)
    assert wide_blur(constant, 4.0) == pytest.approx(constant, rel=1e-13)
    assert blur(constant, 0.0) is constant


@given(st.floats(-5, 5), st.floats(0, 5))
def test_uniform_stays_inside(low, span):
    assert low <= uniform(np.random.default_rng(0), low, low + span) <= low + span

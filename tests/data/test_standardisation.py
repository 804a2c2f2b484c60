from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds import boxes
from defects_in_welds.data import standardisation
from defects_in_welds.data.standardisation import (
    LEVELS_PER_SPREAD,
    MID_GREY,
    flatten_background,
    resample,
    standardise,
)
from defects_in_welds.params import ParamsError
from defects_in_welds.radiograph import Radiograph

PITCH_MM = 0.1
BACKGROUND_MM = 3.0


def film(pixels, bit_depth=16, pixel_pitch_mm=PITCH_MM):
    dtype = np.uint8 if bit_depth <= 8 else np.uint16
    return Radiograph(np.rint(pixels).astype(dtype), bit_depth, pixel_pitch_mm, "film.png")


def make_scene(height=180, width=400):
    """A light weld with steep edges on a plate, noise of 1 % and a dark flaw of 10 px, on the scale from 0 to 1."""
    y, x = np.mgrid[:height, :width]
    weld = 1 / (1 + np.exp((np.abs(y - height / 2) - 50) / 3))
    scene = 0.2 + 0.3 * weld + 0.1 * x / width + np.random.default_rng(5).normal(0, 0.01, (height, width))
    scene[85:95, 195:205] -= 0.1
    return scene


# --- pixel pitch --------------------------------------------------------------------------------------------------

rectangles = st.tuples(st.integers(0, 39), st.integers(0, 39), st.integers(1, 40), st.integers(1, 40)).map(
    lambda sides: (sides[0], sides[1], min(sides[0] + sides[2], 40), min(sides[1] + sides[3], 40))
)


def film_with(rectangle):
    pixels = np.zeros((40, 40))
    x0, y0, x1, y1 = rectangle
    pixels[y0:y1, x0:x1] = 65535
    return film(pixels)


@given(rectangle=rectangles, pitch_mm=st.floats(0.1, 0.5, exclude_min=True))
def test_a_box_bounds_its_rectangle_on_the_shrunken_film(rectangle, pitch_mm):
    pixels = resample(film_with(rectangle), pitch_mm).pixels
    (x0, y0, x1, y1) = boxes.rescale(np.array([rectangle]), (40, 40), pixels.shape)[0]
    rows, columns = np.nonzero(pixels)
    # Pixels that the box touches, and none beyond: those that it only grazes may round to black.
    assert columns.min() >= np.floor(x0 + 1e-6)
    assert rows.min() >= np.floor(y0 + 1e-6)
    assert columns.max() < np.ceil(x1 - 1e-6)
    assert rows.max() < np.ceil(y1 - 1e-6)
    area = pixels.sum() / 65535
    assert area == pytest.approx((x1 - x0) * (y1 - y0), abs=1e-2)


@given(rectangle=rectangles, pitch_mm=st.floats(0.02, 0.1, exclude_max=True))
def test_a_box_bounds_its_rectangle_on_the_enlarged_film(rectangle, pitch_mm):
    pixels = resample(film_with(rectangle), pitch_mm).pixels
    (x0, y0, x1, y1) = boxes.rescale(np.array([rectangle]), (40, 40), pixels.shape)[0]
    rows, columns = np.nonzero(pixels > 32768)
    # Half way between black and white lies the edge.
    for places, low, high in ((columns, x0, x1), (rows, y0, y1)):
        centres = places + 0.5
        assert (centres >= low - 1e-3).all()
        assert (centres <= high + 1e-3).all()


def test_a_film_shrinks_by_averages_that_keep_their_fractions():
    shrunken = resample(film([[10, 11, 0, 0], [11, 11, 0, 255]], bit_depth=8), 0.2)
    assert (shrunken.bit_depth, shrunken.pixel_pitch_mm, shrunken.pixels.dtype) == (16, 0.2, np.uint16)
    assert shrunken.pixels.tolist() == [[round(10.75 * 257), round(63.75 * 257)]]


def test_the_size_is_rounded_and_never_nothing():
    assert resample(film(np.zeros((3, 1000))), 10).image_hw == (1, 10)
    assert resample(film(np.zeros((3, 1004))), 0.2).image_hw == (2, 502)


@pytest.mark.parametrize("pitch_mm", [PITCH_MM, 0.1001])
def test_a_film_of_that_pitch_stays_as_it_is(pitch_mm):
    before = film(np.arange(200).reshape(10, 20), bit_depth=8)
    after = resample(before, pitch_mm)
    assert after == replace(before, pixel_pitch_mm=pitch_mm)
    assert after.pixels is before.pixels


def test_a_film_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(standardisation, "MAX_PIXELS", 1000)
    with pytest.raises(
        ParamsError, match=r"prepare\.resample_pitch_mm is 0\.01, which makes film\.png larger than 1000"
    ):
        resample(film(np.zeros((10, 20))), 0.01)


# --- grey levels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [(40, 0), (0, -25), (30, 20)])
def test_a_gradient_of_a_hundred_spreads_is_gone(slope):
    y, x = np.mgrid[:200, :300]
    noise = np.random.default_rng(1).normal(20000, 50, x.shape)
    flat, level = (
        flatten_background(film(pixels), BACKGROUND_MM).pixels[30:-30, 30:-30].astype(np.float32)
        for pixels in (noise + slope[0] * x + slope[1] * y, noise)
    )
    means = cv2.resize(flat - level, (24, 14), interpolation=cv2.INTER_AREA)
    assert abs(means).max() < 0.5 * LEVELS_PER_SPREAD
    assert flat.std() == pytest.approx(level.std(), rel=0.03)


def test_a_slow_bump_and_the_weld_edges_are_gone_but_not_the_flaw():
    y, x = np.mgrid[:180, :400]
    scene = make_scene() + 0.1 * np.exp(-((x - 100) ** 2 + (y - 90) ** 2) / (2 * 80**2))
    flat = flatten_background(film(scene * 65535), BACKGROUND_MM)
    spreads = (flat.pixels.astype(float) - MID_GREY) / LEVELS_PER_SPREAD
    assert (flat.bit_depth, flat.pixels.dtype, flat.pixel_pitch_mm) == (16, np.uint16, PITCH_MM)
    # Means over 10 px: noise falls to a tenth, what is left of the slow parts does not.
    means = cv2.resize(spreads, (40, 18), interpolation=cv2.INTER_AREA)
    is_flaw = np.zeros_like(means, dtype=bool)
    is_flaw[8:10, 19:21] = True
    assert abs(means[~is_flaw]).max() < 1.5
    assert spreads[86:94, 196:204].mean() == pytest.approx(-0.1 / 0.01, rel=0.1)
    assert spreads[~np.kron(is_flaw, np.ones((10, 10), dtype=bool))].std() == pytest.approx(1, abs=0.15)


@given(gain=st.floats(0.3, 1.3), offset=st.floats(0, 0.1))
def test_gain_and_offset_of_the_exposure_make_no_difference(gain, offset):
    scene = make_scene(120, 160)
    flat, other = (
        flatten_background(film(levels * 65535), BACKGROUND_MM).pixels.astype(int)
        for levels in (scene, gain * scene + offset)
    )
    # Levels of the file are whole: one is less than 1 % of the spread at the smallest gain.
    assert abs(flat - other).max() <= 0.01 * LEVELS_PER_SPREAD + 0.001 * 32 * LEVELS_PER_SPREAD


def test_a_scene_in_8_bits_is_the_scene_in_16_bits_to_their_rounding():
    scene = make_scene()
    shallow, deep = (
        flatten_background(film(scene * (2**bits - 1), bits), BACKGROUND_MM).pixels.astype(int) for bits in (8, 16)
    )
    level = LEVELS_PER_SPREAD / (0.01 * 255)  # one grey level in 8 bits, in levels of the result
    difference = abs(shallow - deep)
    assert difference.mean() < level / 2
    assert np.percentile(difference, 99) < level


def test_what_is_far_from_the_background_is_cut_off():
    pixels = np.random.default_rng(0).normal(30000, 100, (100, 100))
    pixels[50, 50], pixels[20, 20] = 65535, 0
    flat = flatten_background(film(pixels), BACKGROUND_MM).pixels
    assert (flat[50, 50], flat[20, 20]) == (65535, 0)


def test_saturated_parts_do_not_count_for_the_spread():
    pixels = np.random.default_rng(0).normal(30000, 100, (100, 300))
    alone = flatten_background(film(pixels), BACKGROUND_MM).pixels
    masked = flatten_background(film(np.hstack([pixels, np.full((100, 900), 65535)])), BACKGROUND_MM).pixels
    np.testing.assert_allclose(masked[:, :250], alone[:, :250].astype(int), rtol=0, atol=0.05 * 32 * 1024)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (100, 100)])
def test_a_film_without_contrast_is_mid_grey(shape):
    flat = flatten_background(film(np.full(shape, 77), bit_depth=8), BACKGROUND_MM)
    assert flat.image_hw == shape
    assert (flat.pixels == MID_GREY).all()


def test_a_large_film_is_sampled_for_its_spread(monkeypatch):
    scene = film(make_scene() * 65535)
    whole = flatten_background(scene, BACKGROUND_MM).pixels.astype(int)
    monkeypatch.setattr(standardisation, "_MOST_SAMPLES", 10_000)
    sampled = flatten_background(scene, BACKGROUND_MM).pixels.astype(int)
    assert abs(sampled - whole).max() < 0.05 * 32 * LEVELS_PER_SPREAD


def test_squares_of_less_than_five_pixels_are_refused():
    with pytest.raises(
        ParamsError, match=r"prepare\.background_mm is 0\.4; allowed: at least 0\.5, 5 pixels of film\."
    ):
        flatten_background(film(np.zeros((10, 20))), 0.4)


# --- both ---------------------------------------------------------------------------------------------------------


def test_the_pitch_comes_first():
    before = film(make_scene() * 65535)
    both = standardise(before, resample_pitch_mm=0.2, background_mm=BACKGROUND_MM)
    in_turn = flatten_background(resample(before, 0.2), BACKGROUND_MM)
    np.testing.assert_array_equal(both.pixels, in_turn.pixels)
    assert both.pixel_pitch_mm == 0.2


def test_without_values_the_film_is_the_same_object():
    before = film(make_scene() * 65535)
    assert standardise(before, resample_pitch_mm=None, background_mm=None) is before


@pytest.mark.parametrize("key", ["resample_pitch_mm", "background_mm"])
def test_a_film_of_unknown_pitch_is_an_error_that_names_the_remedy(key):
    values = {"resample_pitch_mm": None, "background_mm": None} | {key: 0.2}
    says = rf"prepare\.{key} is in mm, but film\.png does not say its pixel pitch; set prepare\.pixel_pitch_mm, or "
    with pytest.raises(ParamsError, match=says):
        standardise(film(np.zeros((10, 20)), pixel_pitch_mm=None), **values)

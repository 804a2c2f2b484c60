import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.data.grey_levels import invert, percentile_window, to_unit_float32, window_level
from defects_in_welds.radiograph import Radiograph


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_invert_is_its_own_inverse_and_keeps_the_type(bit_depth, dtype):
    full_scale = 2**bit_depth - 1
    pixels = np.array([[0, 1, full_scale // 2, full_scale]], dtype=dtype)
    film = Radiograph(pixels, bit_depth, 0.05, "film.png")
    inverted = invert(film)
    assert inverted.pixels.tolist() == [[full_scale, full_scale - 1, full_scale - full_scale // 2, 0]]
    assert inverted.pixels.dtype == dtype
    assert inverted.pixel_pitch_mm == 0.05
    np.testing.assert_array_equal(invert(inverted).pixels, pixels)


@given(bit_depth=st.integers(1, 16), data=st.data())
def test_unit_scale_keeps_every_level_apart(bit_depth, data):
    level = data.draw(st.integers(0, 2**bit_depth - 1))
    unit = to_unit_float32(np.array([level], dtype=np.uint16), bit_depth)
    assert unit.dtype == np.float32
    assert 0 <= unit[0] <= 1
    assert round(float(unit[0]) * (2**bit_depth - 1)) == level


def test_window_level_stretches_and_saturates():
    shown = window_level(np.array([0, 1000, 1500, 2000, 65535], dtype=np.uint16), low=1000, high=2000)
    assert shown.dtype == np.uint8
    assert shown.tolist() == [0, 0, 128, 255, 255]


def test_window_without_width_is_a_threshold():
    assert window_level(np.array([6, 7, 8], dtype=np.uint16), low=7, high=7).tolist() == [0, 0, 255]


def test_percentile_window_passes_over_outliers():
    pixels = np.full(10_000, 500, dtype=np.uint16)
    pixels[:5000] = 400
    pixels[0], pixels[-1] = 0, 65535
    assert percentile_window(pixels) == (400, 500)

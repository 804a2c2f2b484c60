"""On real films flaws stand out of an even grey once the background is gone."""

import cv2
import numpy as np
import pytest

from defects_in_welds.data.image_reading import read_radiograph
from defects_in_welds.data.standardisation import LEVELS_PER_SPREAD, MID_GREY, standardise

PITCH_MM = 0.0403


@pytest.mark.parametrize("film", [1, 2, 5, 6, 7, 9])
def test_flaws_of_w0001_are_dark_on_an_even_grey(real_data, film):
    folder = real_data / "gdxray-welds"
    radiograph = read_radiograph(folder / f"W0001/W0001_000{film}.png", pixel_pitch_mm=PITCH_MM)
    mask = read_radiograph(folder / f"W0002/W0002_000{film}.png").pixels
    flat = standardise(radiograph, resample_pitch_mm=0.08, background_mm=3.0)
    height, width = flat.image_hw
    is_flaw = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA) > 127
    spreads = (flat.pixels.astype(np.float32) - MID_GREY) / LEVELS_PER_SPREAD
    assert spreads[is_flaw].mean() < -3
    assert spreads[~is_flaw].std() < 2.5
    assert abs(np.median(spreads)) < 0.2

import numpy as np
import pytest

from defects_in_welds.simulation.exact_math import blur
from defects_in_welds.simulation.film_measurement import Band, edge_blur_mm, find_band, measure_noise, unexposed_level

PITCH_MM = 0.1


def weld_film(rng: np.random.Generator, noise: float = 2.0, tilt_px: float = 0.0) -> np.ndarray:
    """A band of 12 mm at row 140 on a film of 30 mm by 80 mm, darker towards its right end."""
    y, x = np.mgrid[:300, :800] + 0.5
    across = (y - 140 - tilt_px * (x / 800 - 0.5)) / 60
    levels = 60 + 70 * np.clip(1 - across**2, 0, None) - 20 * x / 800
    return np.clip(np.rint(levels + rng.normal(0, noise, levels.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("tilt_px", [0, 30, -30])
def test_the_band_is_where_the_weld_lies(tilt_px):
    band = find_band(weld_film(np.random.default_rng(1), tilt_px=tilt_px), 2.0, PITCH_MM)
    x = np.arange(800) + 0.5
    assert np.abs(band.centre_px - 140 - tilt_px * (x / 800 - 0.5)).max() < 5
    assert np.median(band.half_width_px) == pytest.approx(60, rel=0.15)
    assert np.median(band.weld_levels) == pytest.approx(120, abs=6)
    assert np.median(band.plate_levels) == pytest.approx(50, abs=4)


def test_letters_and_a_white_film_end_do_not_draw_the_band_away():
    film = weld_film(np.random.default_rng(2))
    for left in (60, 130, 200, 270, 400, 600):
        film[20:60, left : left + 45] = 240
    film[:, 770:] = 250
    band = find_band(film, 2.0, PITCH_MM)
    assert np.abs(band.centre_px[:740] - 140).max() < 6


@pytest.mark.parametrize("with_letters", [False, True])
def test_a_plate_has_no_band(with_letters):
    rng = np.random.default_rng(3)
    film = np.clip(rng.normal(80, 2, (300, 800)) + np.linspace(0, 40, 800), 0, 255).astype(np.uint8)
    if with_letters:
        for left in (60, 130, 200, 270):
            film[20:60, left : left + 45] = 240
    assert find_band(film, measure_noise(film).level, PITCH_MM) is None


def test_a_film_too_small_for_a_weld_has_no_band():
    assert find_band(np.zeros((20, 30), dtype=np.uint8), 0.3, PITCH_MM) is None


@pytest.mark.parametrize(("level", "blur_px"), [(1.5, 0.0), (3.0, 1.2)])
def test_noise_is_measured_beside_slopes(level, blur_px):
    rng = np.random.default_rng(4)
    grain = blur(rng.normal(size=(320, 640)), blur_px)
    film = 100 + level * grain / grain.std() + np.linspace(0, 60, 640) + np.linspace(0, 30, 320)[:, None]
    noise = measure_noise(np.rint(film).astype(np.uint8))
    # With the means of rows and columns goes a part of the noise that neighbours have in common.
    assert noise.level == pytest.approx(np.hypot(level, 0.29), rel=0.05 if blur_px == 0 else 0.12)
    assert noise.blur_px == pytest.approx(max(blur_px, 0.3), abs=0.2)


def test_a_clipped_film_has_the_noise_of_rounding():
    noise = measure_noise(np.full((64, 64), 255, dtype=np.uint8))
    assert noise.level == pytest.approx(1 / np.sqrt(12), rel=1e-3)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sigma_px", [1.0, 1.5, 2.5])
def test_the_blur_of_an_edge_is_measured(axis, sigma_px):
    rng = np.random.default_rng(5)
    film = np.full((300, 300), 60.0)
    film[100:220] = 180
    film[30:33] = 250  # a scratch, which is no edge
    film = blur(film, sigma_px) + rng.normal(0, 2, film.shape)
    pixels = np.rint(np.moveaxis(film, 0, axis)).astype(np.uint8)
    assert edge_blur_mm(pixels, 2.0, PITCH_MM) == pytest.approx(sigma_px * PITCH_MM, rel=0.12)


def test_a_film_without_edges_has_no_measured_blur():
    assert edge_blur_mm(weld_film(np.random.default_rng(6)), 2.0, PITCH_MM) is None


def test_a_film_that_is_exposed_unevenly_tells_its_white():
    exposure = np.linspace(60, 200, 100)
    row = np.zeros(100)
    errors = np.random.default_rng(7).normal(0, 3, (2, 100))
    band = Band(row, row, 300 - 0.7 * exposure + errors[0], 300 - exposure + errors[1])
    assert unexposed_level(band) == pytest.approx(300, rel=0.05)


def test_a_film_that_is_exposed_evenly_or_fogged_does_not_tell_its_white():
    row = np.zeros(100)
    errors = np.random.default_rng(8).normal(0, 3, (2, 100))
    assert unexposed_level(Band(row, row, 150 + errors[0], 100 + errors[1])) is None
    fog = np.linspace(0, 60, 100)
    assert unexposed_level(Band(row, row, 150 + fog, 100 + fog)) is None
    assert unexposed_level(Band(row, row, row + 150, row + 100)) is None

import dataclasses

import numpy as np
import pytest

from defects_in_welds.simulation.detector import detector_blur_px, noise_gain
from defects_in_welds.simulation.digital_detector import (
    DigitalDetector,
    draw_digital_detector,
    replace_dead_pixels,
)
from defects_in_welds.simulation.exact_math import blur
from defects_in_welds.simulation.film import MOST_DENSITY, Film, draw_film
from defects_in_welds.simulation.film_edges import SIDES, draw_film_edge, draw_film_edges
from defects_in_welds.simulation.film_marks import FilmMark, draw_count, draw_film_marks

PLATE = 0.15
DIGITAL = DigitalDetector(
    pixel_pitch_mm=0.1,
    milliampere_seconds=50.0,
    open_quanta=20_000 / PLATE,
    black_signal=1.6 * PLATE,
    unsharpness_mm=0.4,
    electronic_noise_quanta=0.0,
    gain_variation=0.0,
    dead_pixel_share=0.0,
)
FILM = Film(
    pixel_pitch_mm=0.04,
    density=2.5,
    plate_signal=PLATE,
    fog_density=0.2,
    granularity=0.028,
    grain_mm=0.03,
    unsharpness_mm=0.1,
    scanner_noise=0.0,
    density_range=4.0,
)


def signal(share_of_plate: float = 1.0, image_hw: tuple[int, int] = (300, 400)) -> np.ndarray:
    return np.full(image_hw, share_of_plate * PLATE)


def noise_of(detector: DigitalDetector | Film, share_of_plate: float = 1.0) -> tuple[np.ndarray, float]:
    """What the detector adds to the noise-free picture, and the standard deviation that it states."""
    grey = detector.render(signal(share_of_plate))
    pixels = detector.read_out(grey, np.random.default_rng(1))
    return pixels - grey, float(detector.noise_std(grey)[0, 0])


def autocorrelation(noise: np.ndarray, lag: int) -> float:
    noise = noise - noise.mean()
    return float((noise[:, lag:] * noise[:, :-lag]).mean() / noise.var())


@pytest.mark.parametrize("detector", [DIGITAL, FILM], ids=["digital", "film"])
def test_more_metal_is_lighter(detector):
    levels = [detector.render(signal(share))[0, 0] for share in (0.0, 0.5, 1.0, 1.3)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] <= 65535


@pytest.mark.parametrize(
    "detector",
    [
        DIGITAL,
        dataclasses.replace(DIGITAL, electronic_noise_quanta=150.0, gain_variation=0.01),
        FILM,
        dataclasses.replace(FILM, scanner_noise=0.005),
    ],
)
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_the_noise_has_the_stated_standard_deviation(detector, share):
    noise, stated = noise_of(detector, share)
    assert noise.std() == pytest.approx(stated, rel=0.03)
    assert abs(noise.mean()) < 0.05 * stated


@pytest.mark.parametrize("detector", [DIGITAL, FILM], ids=["digital", "film"])
@pytest.mark.parametrize("lag", [1, 2])
def test_the_noise_is_correlated_by_the_blur(detector, lag):
    """White noise after a Gaussian of standard deviation s has the autocorrelation exp(-lag^2 / (4 s^2))."""
    noise, _ = noise_of(detector)
    sigma_px = detector.blur_px if detector is DIGITAL else detector.grain_blur_px
    assert autocorrelation(noise, lag) == pytest.approx(np.exp(-(lag**2) / (4 * sigma_px**2)), abs=0.03)


@pytest.mark.parametrize("detector", [DIGITAL, FILM], ids=["digital", "film"])
def test_the_same_generator_gives_the_same_bits(detector):
    detector = dataclasses.replace(detector)
    pictures = [detector.read_out(detector.render(signal()), np.random.default_rng(5)) for _ in range(2)]
    assert pictures[0].dtype == np.uint16
    assert np.array_equal(*pictures)
    assert not np.array_equal(pictures[0], detector.read_out(detector.render(signal()), np.random.default_rng(6)))


@pytest.mark.parametrize("detector", [DIGITAL, FILM], ids=["digital", "film"])
@pytest.mark.parametrize("focal_mm", [0.0, 0.08])
def test_an_edge_spreads_by_the_blurs_of_focal_spot_and_detector(detector, focal_mm):
    detector = dataclasses.replace(detector, pixel_pitch_mm=0.02, unsharpness_mm=0.3)
    edge = signal(image_hw=(20, 200))
    edge[:, 100:] *= 1.02  # so small that the film's density is linear
    spread = np.diff(detector.render(blur(edge, focal_mm / 0.02))[10])
    places_mm = np.arange(spread.size) * 0.02
    middle_mm = (spread * places_mm).sum() / spread.sum()
    sigma_mm = np.sqrt((spread * (places_mm - middle_mm) ** 2).sum() / spread.sum())
    assert sigma_mm == pytest.approx(np.hypot(focal_mm, 0.3 / np.sqrt(8)), rel=0.05)


def test_pixels_as_wide_as_the_unsharpness_allows_are_not_blurred_further():
    assert detector_blur_px(0.08, 0.1) == 0
    assert noise_gain(0.0) == pytest.approx(1)
    assert detector_blur_px(1.0, 0.01) * 0.01 == pytest.approx(1 / np.sqrt(8), rel=1e-3)


class TestDigital:
    def test_grey_is_linear_in_dose(self):
        levels = [DIGITAL.render(signal(share))[0, 0] for share in (0.25, 0.5, 0.75, 1.0)]
        assert np.diff(levels) == pytest.approx(np.full(3, np.diff(levels)[0]))

    def test_snr_grows_with_the_square_root_of_the_dose(self):
        snr = []
        doses = [0.01, 0.1, 1.0, 10.0]
        for dose in doses:
            detector = dataclasses.replace(DIGITAL, open_quanta=dose * DIGITAL.open_quanta)
            noise, _ = noise_of(detector)
            snr.append((65535 - detector.render(signal())[0, 0]) / noise.std())
        exponent = np.polyfit(np.log(doses), np.log(snr), 1)[0]
        assert exponent == pytest.approx(0.5, abs=0.02)

    def test_without_blur_snr_is_the_square_root_of_the_quanta(self):
        noise, _ = noise_of(dataclasses.replace(DIGITAL, unsharpness_mm=0.0))
        assert 65535 / 1.6 / noise.std() == pytest.approx(np.sqrt(20_000), rel=0.02)

    def test_calibration_limits_snr_at_high_dose(self):
        detector = dataclasses.replace(DIGITAL, open_quanta=1e9, gain_variation=0.01)
        noise, _ = noise_of(detector)
        assert 65535 / 1.6 / noise.std() == pytest.approx(100, rel=0.05)

    def test_dead_pixels_take_the_mean_of_their_living_neighbours(self):
        image = np.arange(42.0).reshape(6, 7)
        expected = image.copy()
        dead = np.array([16, 17, 24, 0, 41])  # a cluster on a plane, and two corners
        image.flat[dead] = np.nan
        replace_dead_pixels(image, dead)
        assert np.isfinite(image).all()
        alive = np.delete(np.arange(42), dead)
        assert np.array_equal(image.flat[alive], expected.flat[alive])
        assert image[0, 0] == pytest.approx((1 + 7 + 8) / 3)
        # The 3 x 3 pixels around number 16 less itself and its dead neighbours 17 and 24.
        assert image.flat[16] == pytest.approx(np.mean([8, 9, 10, 15, 22, 23]))

    def test_a_cluster_wider_than_a_neighbourhood_closes_from_outside(self):
        image = np.full((30, 30), 5.0)
        rows, columns = np.mgrid[10:17, 8:15]
        dead = (rows * 30 + columns).ravel()
        image.flat[dead] = np.nan
        replace_dead_pixels(image, dead)
        assert image == pytest.approx(np.full((30, 30), 5.0))

    def test_an_all_dead_detector_does_not_hang(self):
        replace_dead_pixels(np.zeros((3, 3)), np.arange(9))

    def test_no_dead_pixel_shows(self):
        detector = dataclasses.replace(DIGITAL, dead_pixel_share=0.01)
        noise, stated = noise_of(detector)
        assert np.abs(noise).max() < 6 * stated

    def test_values_are_drawn_from_their_ranges(self, params):
        digital = params.simulate.digital
        detector = draw_digital_detector(
            np.random.default_rng(0), digital, pixel_pitch_mm=0.1, plate_signal=PLATE, quanta_per_mm2_mas=1e5
        )
        low, high = digital.milliampere_seconds
        assert low <= detector.milliampere_seconds <= high
        assert detector.open_quanta == pytest.approx(detector.milliampere_seconds * 1e3)
        assert digital.unsharpness_mm[0] <= detector.unsharpness_mm <= digital.unsharpness_mm[1]
        assert 1.4 <= detector.black_signal / PLATE <= 2.0


class TestFilm:
    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 1.5])
    def test_density_follows_the_curve(self, share):
        film = dataclasses.replace(FILM, density_range=6.0)
        hits = -np.log(1 - (2.5 - 0.2) / MOST_DENSITY) * share
        expected = 0.2 + MOST_DENSITY * (1 - np.exp(-hits))
        assert film.density_of(film.render(signal(share)))[0, 0] == pytest.approx(expected, abs=1e-4)

    def test_gradients_are_those_of_a_film_of_class_c4(self):
        """The least that ISO 11699-1 asks: 4.1 at net density 2, 6.8 at 4."""
        for net_density, gradient in ((2.0, 4.1), (4.0, 6.8)):
            film = dataclasses.replace(FILM, density=net_density + 0.2)
            low, high = (film.density_of(film.render(signal(share)))[0, 0] for share in (0.99, 1.01))
            assert (high - low) / np.log10(1.01 / 0.99) == pytest.approx(gradient, rel=0.02)

    @pytest.mark.parametrize("grain_mm", [0.002, 0.03, 0.06])
    def test_granularity_is_what_an_aperture_of_a_tenth_of_a_millimetre_sees(self, grain_mm):
        pitch_mm = 0.01
        film = dataclasses.replace(
            FILM, pixel_pitch_mm=pitch_mm, density=2.2, grain_mm=grain_mm, unsharpness_mm=0.0, density_range=6.0
        )
        grey = film.render(signal(image_hw=(900, 900)))
        density = film.density_of(film.read_out(grey, np.random.default_rng(2)))
        y, x = np.mgrid[-4.5:5, -4.5:5] * pitch_mm
        disc = x * x + y * y <= 0.05**2
        apertures = density.reshape(90, 10, 90, 10).transpose(0, 2, 1, 3)[:, :, disc].mean(axis=-1)
        assert apertures.std() == pytest.approx(film.granularity, rel=0.05)

    def test_granularity_grows_with_the_square_root_of_the_net_density(self):
        film = dataclasses.replace(FILM, density_range=6.0)
        noise = [noise_of(dataclasses.replace(film, density=0.2 + net))[0].std() for net in (0.5, 2.0, 4.0)]
        assert noise / noise[1] == pytest.approx(np.sqrt([0.25, 1, 2]), rel=0.02)

    def test_a_mark_adds_its_density_where_it_lies(self):
        mark = FilmMark("dust", 10, 20, np.full((5, 8), -0.3))
        plain, marked = (
            film.density_of(film.read_out(film.render(signal()), np.random.default_rng(0)).astype(float))
            for film in (FILM, dataclasses.replace(FILM, marks=[mark]))
        )
        assert (marked - plain)[10:15, 20:28] == pytest.approx(np.full((5, 8), -0.3), abs=1e-3)
        assert np.count_nonzero(marked != plain) == 40

    def test_marks_of_every_kind_lie_on_the_film(self, params):
        film = params.simulate.film
        film.streaks_per_film = film.scratches_per_film = film.dust_per_film = film.water_marks_per_film = [6.0, 6.0]
        kinds = set()
        for seed in range(4):
            for mark in draw_film_marks(np.random.default_rng(seed), film, (200, 900), 0.08):
                kinds.add(mark.kind)
                rows, columns = mark.density.shape
                assert mark.top_px >= 0
                assert mark.left_px >= 0
                assert mark.top_px + rows <= 200
                assert mark.left_px + columns <= 900
                assert np.abs(mark.density).max() < 1
        assert kinds == {"streak", "scratch", "dust", "water mark"}

    def test_numbers_of_marks_follow_poissons_law(self):
        rng = np.random.default_rng(0)
        counts = np.array([draw_count(rng, 2.5) for _ in range(4000)])
        assert counts.mean() == pytest.approx(2.5, rel=0.05)
        assert counts.var() == pytest.approx(2.5, rel=0.1)
        assert draw_count(rng, 0.0) == 0

    @pytest.mark.parametrize("side", SIDES)
    def test_beyond_its_edge_there_is_no_film(self, side):
        edge = draw_film_edge(np.random.default_rng(3), side, (200, 300), 0.04)
        film = dataclasses.replace(FILM, edges=[edge])
        plain, edged = (
            each.read_out(each.render(signal(image_hw=(200, 300))), np.random.default_rng(0)) for each in (FILM, film)
        )
        x0, y0, x1, y1 = edge.box_xyxy
        changed = edged != plain
        assert changed[y0:y1, x0:x1].mean() > 0.5
        changed[y0:y1, x0:x1] = False
        assert not changed.any()
        outermost = {"left": edged[:, 0], "right": edged[:, -1], "top": edged[0], "bottom": edged[-1]}[side]
        assert outermost.mean() < plain.mean() / 2

    def test_an_edge_never_covers_what_is_taken(self):
        whole = (0, 0, 300, 200)
        assert draw_film_edges(np.random.default_rng(0), (200, 300), 0.04, [whole]) == []
        assert any(draw_film_edges(np.random.default_rng(seed), (200, 300), 0.04, []) for seed in range(5))

    def test_values_are_drawn_from_their_ranges(self, params):
        ranges = params.simulate.film
        film = draw_film(np.random.default_rng(0), ranges, image_hw=(200, 300), pixel_pitch_mm=0.04, plate_signal=PLATE)
        for value, (low, high) in (
            (film.density, ranges.density),
            (film.granularity, ranges.granularity),
            (film.grain_mm, ranges.grain_mm),
            (film.density_range, ranges.density_range),
        ):
            assert low <= value <= high
        assert film.density_of(film.render(signal()))[0, 0] == pytest.approx(film.density, abs=1e-4)

from dataclasses import replace

import numpy as np
import pytest

from defects_in_welds.params import SimulateParams
from defects_in_welds.radiograph import Radiograph
from defects_in_welds.simulation.beam import Beam, draw_beam
from defects_in_welds.simulation.bodies import FlawBody
from defects_in_welds.simulation.film_measurement import Band, Noise, edge_blur_mm
from defects_in_welds.simulation.virtual_flaws import (
    Exposure,
    RealFilm,
    draw_section,
    implant_film,
    implant_flaw,
    white_level,
)
from defects_in_welds.simulation.weld import WeldSection, draw_weld

PITCH_MM = 0.1
WHITE = 60_000.0
HW = 240, 400


@pytest.fixture
def simulate(params) -> SimulateParams:
    flaws = params.simulate.flaws
    return replace(params.simulate, flaws=replace(flaws, gas_pore=replace(flaws.gas_pore, most_per_film=12)))


@pytest.fixture
def exposure(simulate) -> Exposure:
    """A plate of 10 mm without a cap."""
    rng = np.random.default_rng(1)
    weld = draw_weld(rng, replace(simulate.weld, plate_mm=[10, 10], pipe_share=0))
    row = np.full(HW[1], 12.0)
    section = WeldSection(weld, PITCH_MM, np.full(HW, 10.0), row, row / 2, row / 8)
    return Exposure(section, draw_beam(rng, simulate.beam, "steel", 10.0), WHITE, blur_px=1.4)


def block(material: str, chord_mm: float = 2.0, hw: tuple[int, int] = (60, 100), top_px: int = 80) -> FlawBody:
    """A block that is as thick everywhere."""
    return FlawBody(
        defect_class="gas pore",
        material=material,
        top_px=top_px,
        left_px=120,
        chord_mm=np.full(hw, chord_mm),
        length_mm=10.0,
        width_mm=6.0,
        height_mm=chord_mm,
        depth_mm=4.0,
        tilt_deg=0.0,
    )


def transmission(beam: Beam, path_mm: float) -> float:
    return float(beam.transmit(np.array([path_mm]))[0])


@pytest.mark.parametrize("material", ["gas", "slag", "tungsten", "metal"])
def test_the_contrast_follows_the_beam(exposure, material):
    film = np.full(HW, 20_000, dtype=np.uint16)
    visibility = implant_flaw(film, block(material, 0.4), exposure, 65_535)
    beam = exposure.beam
    path_mm = 10.4 if material == "metal" else 10 + 0.4 * (beam.equivalent_mm(material) - 1)
    contrast = (transmission(beam, path_mm) / transmission(beam, 10) - 1) / (1 + beam.scatter_ratio)
    assert (contrast > 0) == (material in ("gas", "slag"))
    assert visibility.contrast == pytest.approx(contrast, rel=1e-9)
    middle = film[110, 170]
    assert (WHITE - middle) / (WHITE - 20_000) - 1 == pytest.approx(contrast, abs=1 / 40_000)
    assert visibility.cnr == pytest.approx(abs(contrast) * 40_000 / 0.2887, rel=1e-3)


def test_pixels_that_the_flaw_does_not_reach_stay_as_they_are(exposure):
    film = np.random.default_rng(2).integers(0, 256, HW, dtype=np.uint8)
    implanted = film.copy()
    implant_flaw(implanted, block("gas"), replace(exposure, white_level=300.0), 255)
    reach = int(np.ceil(3 * exposure.blur_px))
    is_near = np.zeros(HW, dtype=bool)
    is_near[80 - reach : 140 + reach, 120 - reach : 220 + reach] = True
    assert np.array_equal(implanted[~is_near], film[~is_near])
    assert (implanted[is_near] != film[is_near]).mean() > 0.5


def test_the_noise_goes_with_the_square_root_of_the_exposure(exposure):
    film = np.rint(np.random.default_rng(3).normal(45_000, 300, HW)).astype(np.uint16)
    implanted = film.copy()
    visibility = implant_flaw(implanted, block("gas", 4.0), exposure, 65_535)
    inside = np.s_[90:130, 130:210]
    assert visibility.contrast > 0.3
    ratio = implanted[inside].std() / film[inside].std()
    assert ratio == pytest.approx(np.sqrt(1 + visibility.contrast), rel=0.02)
    assert visibility.cnr == pytest.approx(visibility.contrast * 15_000 / 300, rel=0.05)


def test_the_edges_of_a_flaw_are_as_blurred_as_the_film(exposure):
    film = np.rint(np.random.default_rng(4).normal(45_000, 100, HW)).astype(np.uint16)
    implant_flaw(film, block("gas", 5.0), exposure, 65_535)
    assert edge_blur_mm(film, 100.0, PITCH_MM) == pytest.approx(exposure.blur_px * PITCH_MM, rel=0.12)


def test_levels_stay_within_the_films_scale(exposure):
    film = np.full(HW, 3, dtype=np.uint8)
    implant_flaw(film, block("gas", 8.0), replace(exposure, white_level=255.0), 255)
    assert film[110, 170] == 0
    film = np.full(HW, 1000, dtype=np.uint16)
    implant_flaw(film, block("tungsten", 4.0), replace(exposure, white_level=4000.0), 1023)
    assert film[110, 170] == 1023


def test_a_flaw_at_the_films_end_is_blurred_beyond_it(exposure):
    film, whole = np.full(HW, 20_000, dtype=np.uint16), np.full(HW, 20_000, dtype=np.uint16)
    implant_flaw(film, block("gas", top_px=0), exposure, 65_535)
    implant_flaw(whole, block("gas", top_px=80), exposure, 65_535)
    assert np.array_equal(film[:100], whole[80:180])


def band_film(pixels: np.ndarray, weld_level: float = 120.0, plate_level: float = 60.0) -> RealFilm:
    width = pixels.shape[1]
    band = Band(np.full(width, 130.0), np.full(width, 70.0), np.full(9, weld_level), np.full(9, plate_level))
    return RealFilm(Radiograph(pixels, 8, PITCH_MM, "film"), PITCH_MM, band, Noise(2.0, 0.5), 0.15)


def test_the_section_lies_where_the_weld_does(simulate):
    film = band_film(np.full(HW, 100, dtype=np.uint8))
    section = draw_section(film, simulate.weld, np.random.default_rng(5))
    assert section.weld.cap_width_mm == pytest.approx(14.0)
    assert section.centre_mm == pytest.approx(13.0)
    assert section.cap_half_mm == pytest.approx(7.0)
    assert 2 * section.weld.fused_half_width_mm(0) < 14.0
    sound, middle = section.thickness_mm[0, 0], section.thickness_mm[130, 0]
    assert sound == section.weld.nominal_path_mm
    assert middle - sound == pytest.approx(section.weld.cap_height_mm + section.weld.root_height_mm, rel=0.01)


def test_the_white_level_makes_the_noise_what_the_films_granularity_is(simulate):
    film_params = replace(simulate.film, density=[2.2, 2.2], fog_density=0.2, granularity=[0.02, 0.02])
    film = band_film(np.full(HW, 100, dtype=np.uint8))
    white = white_level(film, film_params, blur_px=1.0, rng=np.random.default_rng(7))
    # Through an aperture as large as a square of 88.6 um, noise of 2 levels at a resolution of 141 um is 3.19 levels.
    assert 2.0 * np.sqrt(2) * 0.1 / 0.0886 / (white - 120) * 2.0 == pytest.approx(0.02)


def test_nothing_is_lighter_than_white(simulate):
    film = band_film(np.full(HW, 250, dtype=np.uint8))
    film = replace(film, noise=Noise(0.3, 0.3))
    assert white_level(film, simulate.film, 0.5, np.random.default_rng(8)) == 250


def test_a_film_that_tells_its_white_is_believed(simulate):
    film = band_film(np.full(HW, 200, dtype=np.uint8))
    exposure = np.linspace(60, 200, 9)
    film = replace(film, band=replace(film.band, weld_levels=300 - 0.7 * exposure, plate_levels=300 - exposure))
    assert white_level(film, simulate.film, 1.0, np.random.default_rng(9)) == pytest.approx(300)


def test_no_flaw_lies_where_a_film_is_white_or_near_a_marked_one(simulate):
    pixels = np.full((260, 1200), 100, dtype=np.uint8)
    pixels[:, 800:] = 255
    marked = 300, 0, 500, 260
    films = [implant_film(band_film(pixels), [marked], simulate, np.random.default_rng(seed)) for seed in range(4)]
    flaws = [flaw for film in films for flaw in film.flaws]
    assert len(flaws) > 8
    for flaw in flaws:
        x0, _, x1, _ = flaw.box_xyxy
        assert x1 <= 295 or x0 >= 505
        assert x1 <= 810

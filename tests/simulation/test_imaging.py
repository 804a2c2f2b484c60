"""The whole chain from the tube to the pixels, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from defects_in_welds.params import load_params
from defects_in_welds.simulation.beam import Beam, draw_beam
from defects_in_welds.simulation.bodies import GAS, METAL, SLAG, TUNGSTEN, FlawBody
from defects_in_welds.simulation.digital_detector import DigitalDetector, draw_digital_detector
from defects_in_welds.simulation.exact_math import sin_cos_deg
from defects_in_welds.simulation.image_quality import (
    basic_spatial_resolution_mm,
    normalised_snr,
    profile_across,
    signal_to_noise,
    wire_pair_dip,
)
from defects_in_welds.simulation.image_quality_indicators import DUPLEX_DIAMETERS_MM, draw_duplex_wires
from defects_in_welds.simulation.imaging import expose, put_into
from defects_in_welds.simulation.ribbons import Run, SlabProfile, ribbon

PITCH_MM = 0.05
PLATE_MM = 10.0
HW = (160, 320)


@pytest.fixture(scope="module")
def beam() -> Beam:
    """A beam without scattered radiation, field and focal spot."""
    params = load_params().simulate.beam
    drawn = draw_beam(np.random.default_rng(0), params, "steel", PLATE_MM)
    return replace(drawn, scatter_ratio=0.0, heel_fall=0.0, focal_spot_mm=0.0, source_to_object_mm=1e6)


@pytest.fixture(scope="module")
def detector(beam) -> DigitalDetector:
    """An ideal detector: hardly any quantum noise and nothing else, and black far beyond the flaws."""
    drawn = draw_digital_detector(
        np.random.default_rng(0),
        load_params().simulate.digital,
        pixel_pitch_mm=PITCH_MM,
        plate_signal=float(beam.transmit(np.array(PLATE_MM))),
        quanta_per_mm2_mas=1e9,
    )
    return replace(
        drawn,
        black_signal=0.2,
        unsharpness_mm=0.0,
        electronic_noise_quanta=0.0,
        gain_variation=0.0,
        dead_pixel_share=0.0,
    )


def sphere(diameter_mm: float, material: str = GAS) -> FlawBody:
    """A sphere in the middle of the film."""
    offset = [(np.arange(n) + 0.5 - n / 2) * PITCH_MM for n in HW]
    square = diameter_mm**2 - 4 * (offset[0][:, None] ** 2 + offset[1][None, :] ** 2)
    chord = np.sqrt(np.maximum(square, 0))
    return FlawBody("gas pore", material, 0, 0, chord, diameter_mm, diameter_mm, diameter_mm, 5.0)


def radiation(pixels: np.ndarray, detector: DigitalDetector) -> np.ndarray:
    """The signal that the grey levels of a digital detector show."""
    return (1 - pixels / 65535) * detector.black_signal


def test_the_contrast_of_a_pore_follows_its_chord(beam, detector):
    pore = sphere(2.0)
    pixels, (visibility,) = expose(np.full(HW, PLATE_MM), [pore], beam, detector, np.random.default_rng(0), PITCH_MM)
    sound = radiation(pixels[:, :40].astype(float), detector).mean()
    for chord_mm in (0.5, 1.0, 1.5, 1.9):
        there = np.abs(pore.chord_mm - chord_mm) < 0.1
        measured = radiation(pixels[there].astype(float), detector).mean() / sound
        expected = (beam.transmit(PLATE_MM - pore.chord_mm[there]) / beam.transmit(np.array(PLATE_MM))).mean()
        assert measured - 1 == pytest.approx(expected - 1, rel=0.02)
    assert visibility.contrast == pytest.approx(expected_contrast(beam, pore.chord_mm.max()), rel=1e-3)


def expected_contrast(beam: Beam, gas_mm: float) -> float:
    return float(beam.transmit(np.array(PLATE_MM - gas_mm)) / beam.transmit(np.array(PLATE_MM)) - 1)


def test_contrast_over_noise_is_that_of_the_pixels(beam, detector):
    pore = sphere(1.0)
    dim = replace(detector, open_quanta=detector.open_quanta / 1e5)
    pixels, (visibility,) = expose(np.full(HW, PLATE_MM), [pore], beam, dim, np.random.default_rng(0), PITCH_MM)
    noise = pixels[:, :100].std()
    change = 65535 / dim.black_signal * float(beam.transmit(np.array(PLATE_MM))) * visibility.contrast
    assert visibility.cnr == pytest.approx(change / noise, rel=0.03)


def test_what_lies_beyond_black_does_not_show(beam, detector):
    dark = replace(detector, black_signal=0.5 * float(beam.transmit(np.array(PLATE_MM))))
    pixels, (visibility,) = expose(np.full(HW, PLATE_MM), [sphere(1.0)], beam, dark, np.random.default_rng(0), PITCH_MM)
    assert not pixels.any()
    assert visibility.contrast > 0.05
    assert visibility.cnr == 0


def test_without_any_other_noise_that_of_whole_grey_levels_is_left(beam, detector):
    still = replace(detector, open_quanta=1e30)
    _, (visibility,) = expose(np.full(HW, PLATE_MM), [sphere(1.0)], beam, still, np.random.default_rng(0), PITCH_MM)
    change = 65535 / still.black_signal * float(beam.transmit(np.array(PLATE_MM))) * visibility.contrast
    assert visibility.cnr == pytest.approx(change * np.sqrt(12), rel=1e-6)


@pytest.mark.parametrize("material", [GAS, SLAG, TUNGSTEN, METAL])
def test_tungsten_and_added_metal_are_lighter_gas_and_slag_darker(beam, detector, material):
    flaw = sphere(1.0, material)
    pixels, (visibility,) = expose(np.full(HW, PLATE_MM), [flaw], beam, detector, np.random.default_rng(0), PITCH_MM)
    inside = pixels[flaw.chord_mm > 0.9].mean()
    is_lighter = inside > pixels[:, :40].mean()
    assert is_lighter == (material in (TUNGSTEN, METAL))
    assert (visibility.contrast < 0) == is_lighter


def test_scattered_radiation_lowers_the_contrast_by_the_build_up(beam, detector):
    pore = sphere(1.0)
    foggy = replace(beam, scatter_ratio=1.5)
    contrasts = [
        expose(np.full(HW, PLATE_MM), [pore], each, detector, np.random.default_rng(0), PITCH_MM)[1][0].contrast
        for each in (beam, foggy)
    ]
    assert contrasts[1] == pytest.approx(contrasts[0] / (1 + 1.5), rel=0.02)


@pytest.mark.parametrize("tilt_deg", [0.0, 2.0, 5.0, 10.0, 20.0])
def test_the_contrast_of_a_crack_against_its_tilt_follows_the_geometry(beam, detector, tilt_deg):
    """A slab of opening w and height h shades a trapezoid whose plateau is min(h / cos, w / sin) high."""
    opening_mm, height_mm, fine_mm = 0.2, 3.0, 0.01
    sine, cosine = sin_cos_deg(tilt_deg)
    run = Run(start_mm=1.0, length_mm=2.0, pixel_pitch_mm=fine_mm)
    same = np.ones(len(run.x_mm))
    chord = ribbon(run, 1.0 * same, SlabProfile(opening_mm * same, height_mm * same, sine / cosine)).chord_mm
    flaw = FlawBody("crack", GAS, 0, 0, chord, 4.0, opening_mm, height_mm, 5.0, tilt_deg)
    fine = replace(detector, pixel_pitch_mm=fine_mm)
    _, (visibility,) = expose(np.full(chord.shape, PLATE_MM), [flaw], beam, fine, np.random.default_rng(0), fine_mm)
    plateau_mm = min(height_mm / cosine, opening_mm / sine if sine > 0 else np.inf)
    assert visibility.contrast == pytest.approx(expected_contrast(beam, plateau_mm), rel=0.03)


def test_an_edge_spreads_by_focal_spot_and_detector_together(beam, detector):
    pitch_mm, unsharpness_mm = 0.02, 0.3
    blunt = replace(beam, source_to_object_mm=100.0, gap_mm=20.0, focal_spot_mm=1.0)
    sharp_detector = replace(detector, pixel_pitch_mm=pitch_mm, unsharpness_mm=unsharpness_mm)
    path_mm = np.full((12, 400), PLATE_MM)
    path_mm[:, 200:] += 0.2
    pixels, _ = expose(path_mm, [], blunt, sharp_detector, np.random.default_rng(0), pitch_mm)
    sound, _ = expose(np.full(path_mm.shape, PLATE_MM), [], blunt, sharp_detector, np.random.default_rng(0), pitch_mm)
    spread = np.diff((pixels.astype(float) - sound).mean(axis=0)[170:230])
    places_mm = np.arange(spread.size) * pitch_mm
    middle_mm = (spread * places_mm).sum() / spread.sum()
    sigma_mm = np.sqrt((spread * (places_mm - middle_mm) ** 2).sum() / spread.sum())
    focal_mm = blunt.unsharpness_mm / blunt.magnification / np.sqrt(12)
    assert sigma_mm == pytest.approx(np.hypot(focal_mm, unsharpness_mm / np.sqrt(8)), rel=0.05)


@pytest.mark.parametrize("unsharpness_mm", [0.2, 0.4])
def test_a_duplex_wire_and_the_normalised_snr_read_what_the_scene_says(beam, detector, unsharpness_mm):
    angle_deg = 3.0
    (rows, columns), pairs = draw_duplex_wires(angle_deg, PITCH_MM)
    path_mm = np.full((rows, columns), PLATE_MM)
    for pair in pairs:
        height, width = pair.thickness_mm.shape
        place = path_mm[pair.top_px : pair.top_px + height, pair.left_px : pair.left_px + width]
        # Wires of so little attenuation that their profile is that of their chord, as ISO 19232-5 wants them read.
        place += 0.05 * beam.equivalent_mm(TUNGSTEN) * pair.thickness_mm
    blunt = replace(detector, unsharpness_mm=unsharpness_mm)
    pixels, _ = expose(path_mm, [], beam, blunt, np.random.default_rng(0), PITCH_MM)
    signal = radiation(pixels.astype(float), blunt)
    dips = {}
    for pair in pairs:
        height, width = pair.thickness_mm.shape
        middle = pair.top_px + height / 2, pair.left_px + width / 2
        diameter_px = pair.diameter_mm / PITCH_MM
        profile = profile_across(signal, middle, angle_deg, 1.5 * diameter_px + 8, 40)
        dips[pair.diameter_mm] = wire_pair_dip(profile)
    read_mm = basic_spatial_resolution_mm(dips)
    diameters = sorted(DUPLEX_DIAMETERS_MM.values())
    step = np.searchsorted(diameters, unsharpness_mm / 2)
    assert diameters[max(step - 1, 0)] <= read_mm <= diameters[step + 1]

    sound, _ = expose(
        np.full((60, 400), PLATE_MM), [], beam, replace(blunt, open_quanta=5e4), np.random.default_rng(1), PITCH_MM
    )
    snr_n = normalised_snr(signal_to_noise(radiation(sound.astype(float), blunt)), unsharpness_mm / 2)
    # Noise that is blurred by a Gaussian of the standard deviation s is 1 / (2 sqrt(pi) s) of what it was.
    quanta = 5e4 * float(beam.transmit(np.array(PLATE_MM)))
    snr = np.sqrt(quanta) * 2 * np.sqrt(np.pi) * blunt.blur_px
    assert snr_n == pytest.approx(normalised_snr(snr, unsharpness_mm / 2), rel=0.07)


def test_added_metal_lengthens_the_path_and_gas_shortens_it(beam):
    for material, change_mm in ((METAL, 1.0), (GAS, -1.0)):
        path_mm = np.full(HW, PLATE_MM)
        put_into(path_mm, sphere(1.0, material), beam)
        assert path_mm[HW[0] // 2, HW[1] // 2] == pytest.approx(PLATE_MM + change_mm, abs=0.01)
        assert path_mm[0, 0] == PLATE_MM


def test_a_hole_takes_no_more_metal_than_there_is(beam):
    path_mm = np.full(HW, 0.5)
    put_into(path_mm, sphere(2.0), beam)
    assert path_mm.min() == 0.0

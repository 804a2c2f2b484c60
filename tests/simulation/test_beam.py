from dataclasses import replace

import numpy as np
import pytest
import spekpy

from defects_in_welds.params.simulate import BeamParams
from defects_in_welds.simulation.beam import (
    Spectrum,
    attenuation_per_mm,
    choose_tube_kv,
    draw_beam,
    effective_per_mm,
    harden,
    look_up,
    spread_scatter,
    transmission_table,
    tube_spectrum,
)
from defects_in_welds.simulation.exact_math import wide_blur

PARAMS = {
    "tube_kv": [140, 220],
    "optical_depth": [1.6, 3.0],
    "filter_mm_copper": 0.5,
    "source_to_object_mm": [600, 800],
    "gap_mm": [0, 5],
    "focal_spot_mm": [0.4, 3.0],
    "scatter_per_optical_depth": [0.2, 0.6],
    "scatter_width_mm": 12,
    "field_fall": [0.0, 0.15],
}


def drawn(seed=0, material="steel", path_mm=12.0, **params):
    return draw_beam(np.random.default_rng(seed), BeamParams(**{**PARAMS, **params}), material, path_mm)


def one_energy(energy_kev):
    return Spectrum(np.array([energy_kev]), np.array([1.0]))


def direct(spectrum, layers):
    """Share of the signal behind layers of (material, mm), with NumPy's exponential."""
    depth = sum(mm * attenuation_per_mm(material, spectrum) for material, mm in layers)
    return float(np.sum(spectrum.signal_share * np.exp(-depth)))


@pytest.mark.parametrize(
    ("material", "density", "energy_kev", "cm2_g"),
    [
        ("steel", 7.85, 60, 1.205),
        ("steel", 7.85, 150, 0.1964),
        ("steel", 7.85, 300, 0.1099),
        ("aluminium", 2.699, 100, 0.1704),
        ("titanium", 4.54, 100, 0.2721),
        ("copper", 8.96, 100, 0.4584),
        ("tungsten", 19.3, 100, 4.438),
        ("lead", 11.35, 200, 0.9985),
    ],
)
def test_coefficients_are_those_of_nist(material, density, energy_kev, cm2_g):
    per_mm = attenuation_per_mm(material, one_energy(float(energy_kev)))
    assert per_mm == pytest.approx(cm2_g * density / 10, rel=1e-3)


@pytest.mark.parametrize(("material", "path_mm"), [("steel", 12), ("aluminium", 40), ("titanium", 15)])
def test_a_step_wedge_follows_the_spectrum_of_spekpy(material, path_mm):
    beam = drawn(material=material, path_mm=path_mm)
    tube = spekpy.Spek(kvp=beam.tube_kv, th=20, dk=0.5, mu_data_source="nist").filter("Be", 1).filter("Cu", 0.5)
    energy, quanta = tube.get_spectrum()

    def cm2_g(*shares):
        return sum(share * tube.mu_data.get_mu_over_rho(number, energy) for number, share in shares)

    per_mm = cm2_g(({"steel": 26, "aluminium": 13, "titanium": 22}[material], 1)) * (
        {"steel": 7.85, "aluminium": 2.699, "titanium": 4.54}[material] / 10
    )
    gd2o2s = cm2_g((8, 32.00 / 378.6), (16, 32.06 / 378.6), (64, 314.5 / 378.6))
    absorbed = quanta * (1 - np.exp(-0.1 * gd2o2s))
    # Per keV and cm2, in bins of 0.5 keV.
    assert np.sum(beam.spectrum.quanta_per_mm2) == pytest.approx(np.sum(absorbed) * 0.5 / 100, rel=0.02)
    signal = energy * absorbed
    steps_mm = path_mm * np.arange(0, 1.6, 0.1)
    expected = [np.sum(signal * np.exp(-step * per_mm)) / np.sum(signal) for step in steps_mm]
    assert beam.transmit(steps_mm) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("path_mm", [2, 12, 60])
def test_the_table_agrees_with_the_sum_over_the_spectrum(path_mm):
    beam = drawn(path_mm=path_mm)
    paths_mm = np.random.default_rng(1).random(300) * 1.6 * path_mm
    expected = [direct(beam.spectrum, [("steel", path)]) for path in paths_mm]
    assert beam.transmit(paths_mm) == pytest.approx(expected, rel=1e-4)


def test_a_single_energy_follows_the_beer_lambert_law():
    table = transmission_table(np.array([1.0]), np.array([0.15]), step_mm=0.01, knots=4000)
    paths_mm = np.random.default_rng(0).random((30, 7)) * 39
    assert look_up(table, paths_mm, 0.01) == pytest.approx(np.exp(-0.15 * paths_mm), rel=1e-6)
    beam = replace(drawn(), spectrum=one_energy(150.0))
    assert beam.equivalent_mm("tungsten") == pytest.approx(1.581 * 19.3 / (0.1964 * 7.85), rel=2e-3)


def test_transmission_falls_from_1_and_holds_beyond_the_table():
    beam = drawn()
    end_mm = beam.step_mm * (len(beam.table) - 1)
    shares = beam.transmit(np.array([-1.0, 0.0, 0.5, 6.0, 12.0, 24.0, end_mm, 2 * end_mm]))
    assert shares[0] == shares[1] == pytest.approx(1)
    assert (np.diff(shares[1:-1]) < 0).all()
    assert shares[-1] == beam.table[-1]
    assert shares[-2] == pytest.approx(beam.table[-1])


def test_each_half_value_layer_is_thicker_than_the_one_before():
    beam = drawn()
    thickness_mm = beam.step_mm * np.arange(len(beam.table))
    ends_mm = np.interp([1, 2, 3, 4], -np.log2(beam.table), thickness_mm)
    assert (np.diff(ends_mm, n=2) > 0).all()


def test_heavier_matter_is_worth_more_base_metal():
    beam = drawn()
    order = ["gas", "slag", "titanium", "steel", "copper", "lead", "tungsten", "platinum"]
    equivalents = [beam.equivalent_mm(material) for material in order]
    assert equivalents == sorted(equivalents)
    assert equivalents[0] == 0
    assert beam.equivalent_mm("metal") == beam.equivalent_mm("steel") == 1
    assert beam.equivalent_mm("stainless steel") == pytest.approx(1, abs=0.02)
    with pytest.raises(KeyError):
        beam.equivalent_mm("cheese")


@pytest.mark.parametrize(("material", "mm", "tolerance"), [("slag", 2.0, 0.02), ("tungsten", 0.05, 0.03)])
def test_an_inclusion_changes_the_signal_as_its_equivalent_does(material, mm, tolerance):
    beam = drawn()
    left_mm = beam.nominal_path_mm - mm
    exact = direct(beam.spectrum, [("steel", left_mm), (material, mm)])
    sound = direct(beam.spectrum, [("steel", beam.nominal_path_mm)])
    by_equivalent = beam.transmit(np.array([left_mm + mm * beam.equivalent_mm(material)]))[0]
    assert np.log(by_equivalent / sound) == pytest.approx(np.log(exact / sound), rel=tolerance)


def test_the_voltage_rises_with_the_thickness_in_steps_of_20_kv():
    voltages = [choose_tube_kv([100, 220], 0.5, "steel", path_mm, 2.4) for path_mm in (2, 7, 10, 40)]
    assert voltages == sorted(voltages)
    assert voltages[0] == 100
    assert voltages[-1] == 220
    assert len(set(voltages)) >= 4
    assert all(voltage % 20 == 0 for voltage in voltages)
    assert choose_tube_kv([145, 145], 0.5, "steel", 10.0, 2.4) == 145


def test_the_chosen_voltage_is_the_nearest_of_all():
    def distance(voltage):
        behind_plate = harden(tube_spectrum(voltage, 0.5), "steel", 12.0)
        return abs(12.0 * effective_per_mm(behind_plate, "steel") - 2.7)

    assert choose_tube_kv([140, 220], 0.5, "steel", 12.0, 2.7) == min(np.arange(140.0, 221.0, 20.0), key=distance)


def test_optical_depth_is_the_slope_of_the_signal_times_the_thickness():
    beam = drawn()
    low, high = (direct(beam.spectrum, [("steel", 12.0 + shift)]) for shift in (-0.01, 0.01))
    assert beam.optical_depth == pytest.approx(12.0 * np.log(low / high) / 0.02, rel=1e-5)
    assert 0.2 * beam.optical_depth <= beam.scatter_ratio <= 0.6 * beam.optical_depth


def test_quanta_fall_with_the_square_of_the_distance_and_carry_the_noise():
    near = replace(drawn(), source_to_object_mm=500.0 - 6.0)
    far = replace(near, source_to_object_mm=1000.0 - 6.0)
    assert near.quanta_per_mm2(30) == pytest.approx(4 * far.quanta_per_mm2(30))
    # At 1 m for 30 mA s: the relative variance of the energy deposited behind the plate by Poisson numbers of quanta.
    behind_plate = harden(far.spectrum, "steel", 12.0)
    counts, energy = 30 * behind_plate.quanta_per_mm2, behind_plate.energy_kev
    variance = np.sum(counts * energy**2) / np.sum(counts * energy) ** 2
    assert far.quanta_per_mm2(30) * far.transmit(np.array([12.0]))[0] == pytest.approx(1 / variance, rel=1e-4)


def test_the_field_obeys_the_inverse_square_law():
    beam = replace(drawn(), heel_fall=0.0)
    field = beam.field((41, 2001), pixel_pitch_mm=0.5)
    distance = beam.source_to_object_mm + 6.0
    assert field[20, 1000] == 1
    assert field[20, 0] == field[20, -1] == pytest.approx(distance**2 / (distance**2 + 500**2))


def test_the_heel_effect_falls_to_the_farther_end():
    beam = replace(drawn(), heel_fall=0.1, heel_middle=0.5, source_to_object_mm=1e9)
    profile = beam.field((1, 1000), pixel_pitch_mm=0.1)[0]
    assert profile.argmax() == pytest.approx(750, abs=1)
    assert profile.min() == profile[0] == pytest.approx(0.9, abs=1e-3)


def test_an_edge_is_spread_by_the_geometric_unsharpness():
    beam = replace(drawn(path_mm=10.0), source_to_object_mm=95.0, gap_mm=5.0, focal_spot_mm=3.0)
    assert beam.unsharpness_mm == pytest.approx(3.0 * 10 / 100)
    assert beam.magnification == pytest.approx(1.1)
    for pitch_mm in (0.02, 0.2):
        pixels = int(4 / pitch_mm)
        beam = replace(beam, scatter_ratio=0.0)
        path_mm = np.where(np.arange(pixels) < pixels // 2, 10.0, 12.0) * np.ones((3, 1))
        edge = beam.signal(path_mm, pitch_mm, np.ones((3, pixels)))[1]
        line = -np.diff(edge) / (edge[0] - edge[-1])
        places_mm = pitch_mm * np.arange(pixels - 1)
        middle = np.sum(line * places_mm)
        spread = np.sqrt(np.sum(line * (places_mm - middle) ** 2))
        # A uniform spot of this width, magnified back to the object, has the same standard deviation.
        assert spread * np.sqrt(12) == pytest.approx(0.3 / 1.1, rel=0.02)


def test_a_weld_in_a_pipe_is_blurred_from_the_middle_of_the_wall_that_bears_it():
    plate, pipe = (
        draw_beam(np.random.default_rng(0), BeamParams(**{**PARAMS, "gap_mm": [2, 2]}), "steel", 20.0, wall_mm)
        for wall_mm in (None, 10.0)
    )
    assert pipe.optical_depth == plate.optical_depth
    assert (plate.middle_to_detector_mm, pipe.middle_to_detector_mm) == (12.0, 7.0)
    assert pipe.unsharpness_mm == pytest.approx(pipe.focal_spot_mm * 7.0 / (pipe.source_to_object_mm + 5.0))


def test_scatter_adds_the_build_up_behind_the_plate_and_shines_under_lead():
    beam = drawn()
    path_mm = np.full((150, 310), 12.0)
    flat = beam.signal(path_mm, 0.2, np.ones(path_mm.shape))
    primary = beam.transmit(path_mm)
    assert flat == pytest.approx(primary * (1 + beam.scatter_ratio))
    path_mm[60:80, 100:110] = 1000.0
    under_lead = beam.signal(path_mm, 0.2, np.ones(path_mm.shape))[70, 105]
    assert 0.9 * beam.scatter_ratio * primary[0, 0] < under_lead < 1.01 * beam.scatter_ratio * primary[0, 0]


def test_the_open_beam_beside_a_pipe_is_not_scattered_but_by_the_pipe():
    beam = drawn()
    path_mm = np.zeros((300, 600))
    path_mm[:, :300] = 12.0
    beside = beam.signal(path_mm, 0.5, np.ones(path_mm.shape))[150]
    behind = beam.transmit(np.array([12.0]))[0] * (1 + beam.scatter_ratio)
    assert beside[0] == pytest.approx(behind)
    assert beside[-1] == pytest.approx(1)
    assert (beside[:290] <= behind * 1.001).all()


@pytest.mark.parametrize("image_hw", [(170, 233), (3, 400), (64, 1)])
def test_the_coarse_scatter_is_that_of_the_whole_image(image_hw):
    image = 0.1 * np.random.default_rng(0).random(image_hw) + (np.arange(image_hw[1]) > image_hw[1] / 3)
    assert spread_scatter(image, 24.0) == pytest.approx(wide_blur(image, 24.0), abs=0.04)
    assert spread_scatter(image, 2.0) == pytest.approx(wide_blur(image, 2.0))


def test_the_same_seed_gives_the_same_bits(monkeypatch):
    path_mm = 12.0 + np.random.default_rng(5).random((50, 70))
    images = []
    for _ in range(2):
        monkeypatch.setattr("defects_in_welds.simulation.beam._spectra", {})
        beam = drawn(seed=4, tube_kv=[150, 170])
        images.append(beam.signal(path_mm, 0.1, beam.field((50, 70), 0.1)))
    assert np.array_equal(*images)
    other = drawn(seed=5, tube_kv=[150, 170])
    assert not np.array_equal(images[0], other.signal(path_mm, 0.1, other.field((50, 70), 0.1)))


def test_values_of_the_libraries_enter_with_six_digits():
    spectrum = tube_spectrum(160.0, 0.5)
    for values in (spectrum.energy_kev, spectrum.quanta_per_mm2, attenuation_per_mm("slag", spectrum)):
        assert all(value == float(f"{value:.6g}") for value in values)

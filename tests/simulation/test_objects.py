import dataclasses

import numpy as np
import pytest

from defects_in_welds.simulation.digital_detector import DigitalDetector
from defects_in_welds.simulation.image_quality import (
    basic_spatial_resolution_mm,
    normalised_snr,
    profile_across,
    signal_to_noise,
    wire_pair_dip,
)
from defects_in_welds.simulation.image_quality_indicators import (
    DUPLEX_DIAMETERS_MM,
    DUPLEX_LENGTH_MM,
    WIRE_DIAMETERS_MM,
    Wires,
    draw_duplex_wires,
    draw_wire_set,
    mean_chord_mm,
    wire_set_for,
)
from defects_in_welds.simulation.lead_letters import STROKES, Lettering, draw_plate_text, draw_text, stroke_points
from defects_in_welds.simulation.objects import (
    AddedBody,
    count_overlaps,
    draw_duplex_wire,
    draw_lead_letters,
    draw_objects,
    draw_wire_iqi,
)
from defects_in_welds.simulation.weld import draw_weld
from defects_in_welds.simulation.weld_section import section_of

PITCH_MM = 0.08
DETECTOR = DigitalDetector(
    pixel_pitch_mm=0.02,
    milliampere_seconds=50.0,
    open_quanta=40_000.0,
    black_signal=1.6,
    unsharpness_mm=0.4,
    electronic_noise_quanta=0.0,
    gain_variation=0.0,
    dead_pixel_share=0.0,
)


@pytest.fixture
def section(params):
    params.simulate.weld.pipe_share = 0.0
    weld = dataclasses.replace(draw_weld(np.random.default_rng(1), params.simulate.weld), material="steel")
    return section_of(weld, np.random.default_rng(1), (700, 1500), PITCH_MM)


def rendered(thickness_mm: np.ndarray, detector: DigitalDetector, per_mm: float = 4.0) -> np.ndarray:
    """Signal of a detector behind wires of platinum, with its noise."""
    grey = detector.render(np.exp(-per_mm * thickness_mm))
    return 1.6 * (1 - detector.read_out(grey, np.random.default_rng(0)) / 65535.0)


def duplex_dips(image: np.ndarray, pairs: list[Wires], angle_deg: float, pitch_mm: float) -> dict[float, float]:
    dips = {}
    for pair in pairs:
        rows, columns = pair.thickness_mm.shape
        # Half the clearance to the next pair is background on either side.
        half_length_px = (1.5 * pair.diameter_mm + 1.0) / pitch_mm
        middle = (pair.top_px + rows / 2, pair.left_px + columns / 2)
        profile = profile_across(image, middle, angle_deg, half_length_px, 0.3 * DUPLEX_LENGTH_MM / pitch_mm)
        dips[pair.diameter_mm] = wire_pair_dip(profile)
    return dips


class TestWires:
    def test_the_mean_chord_is_that_of_a_circle(self):
        fine = np.linspace(0.3, 0.4, 100_001)
        chord = 2 * np.sqrt(np.maximum(0.25 - fine**2, 0))
        assert mean_chord_mm(np.array([0.35]), 1.0, 0.1)[0] == pytest.approx(chord.mean(), rel=1e-5)
        assert mean_chord_mm(np.array([0.6]), 1.0, 0.1)[0] == 0

    @pytest.mark.parametrize("angle_deg", [0.0, 3.7, -2.0])
    @pytest.mark.parametrize("first", [1, 10, 13])
    def test_wires_have_the_volume_of_cylinders(self, first, angle_deg):
        _, wires = draw_wire_set(first, 10.0, angle_deg, PITCH_MM)
        assert [wire.number for wire in wires] == list(range(first, first + 7))
        for wire in wires:
            volume_mm3 = wire.thickness_mm.sum() * PITCH_MM**2
            assert volume_mm3 == pytest.approx(np.pi / 4 * wire.diameter_mm**2 * 10.0, rel=0.005)
            assert wire.thickness_mm.max() <= wire.diameter_mm

    def test_a_pair_has_twice_the_volume(self):
        (rows, columns), pairs = draw_duplex_wires(-3.0, 0.05)
        assert [pair.number for pair in pairs] == list(range(1, 14))
        for pair in pairs:
            volume_mm3 = pair.thickness_mm.sum() * 0.05**2
            assert volume_mm3 == pytest.approx(2 * np.pi / 4 * pair.diameter_mm**2 * DUPLEX_LENGTH_MM, rel=0.005)
            assert pair.top_px >= 0
            assert pair.left_px >= 0
            assert pair.top_px + pair.thickness_mm.shape[0] <= rows
            assert pair.left_px + pair.thickness_mm.shape[1] <= columns

    def test_diameters_follow_the_series_of_tenths(self):
        """Both standards take preferred numbers: ten steps are a factor of ten."""
        for diameters in (WIRE_DIAMETERS_MM, DUPLEX_DIAMETERS_MM):
            for number, diameter in diameters.items():
                assert diameter == pytest.approx(diameters[1] * 10 ** (-(number - 1) / 10), rel=0.03)

    @pytest.mark.parametrize(("path_mm", "first"), [(3.0, 13), (10.0, 10), (25.0, 10), (40.0, 6), (100.0, 6)])
    def test_the_set_suits_the_thickness(self, path_mm, first):
        assert wire_set_for(path_mm) == first


class TestImageQuality:
    @pytest.mark.parametrize("unsharpness_mm", [0.2, 0.4, 0.8])
    @pytest.mark.parametrize("angle_deg", [3.0, -4.5])
    def test_the_duplex_wires_read_the_unsharpness_within_one_pair(self, unsharpness_mm, angle_deg):
        detector = dataclasses.replace(DETECTOR, unsharpness_mm=unsharpness_mm)
        frame_hw, pairs = draw_duplex_wires(angle_deg, detector.pixel_pitch_mm)
        thickness = np.zeros(frame_hw)
        for pair in pairs:
            rows, columns = pair.thickness_mm.shape
            place = thickness[pair.top_px : pair.top_px + rows, pair.left_px : pair.left_px + columns]
            place += pair.thickness_mm
        dips = duplex_dips(rendered(thickness, detector), pairs, angle_deg, detector.pixel_pitch_mm)
        read_mm = basic_spatial_resolution_mm(dips)
        numbers = [min(DUPLEX_DIAMETERS_MM, key=lambda n: abs(np.log(DUPLEX_DIAMETERS_MM[n] / size)))
                   for size in (read_mm, unsharpness_mm / 2)]  # fmt: skip
        assert abs(numbers[0] - numbers[1]) <= 1

    def test_a_pair_of_thin_wires_dips_by_a_fifth_at_the_square_root_of_two_of_the_blur(self):
        places_mm = np.arange(-3, 3, 0.01)
        chords = sum(mean_chord_mm(places_mm - axis, 0.4, 0.01) for axis in (-0.4, 0.4))
        kernel = np.exp(-(places_mm**2) / (2 * (0.4 / np.sqrt(2)) ** 2))
        assert wire_pair_dip(np.convolve(chords, kernel / kernel.sum(), "same")) == pytest.approx(0.2, abs=0.002)

    def test_dips_are_read_in_either_polarity_on_a_slope(self):
        profile = np.zeros(200) + np.linspace(5, 9, 200)
        profile[80:90] += 4
        profile[110:120] += 4
        profile[90:110] += 1
        assert wire_pair_dip(profile) == pytest.approx(0.75, abs=0.01)
        assert wire_pair_dip(-profile) == pytest.approx(0.75, abs=0.01)

    def test_resolution_is_interpolated_between_pairs(self):
        assert basic_spatial_resolution_mm({0.5: 0.6, 0.4: 0.3, 0.32: 0.1, 0.25: 0.0}) == pytest.approx(0.36)
        assert basic_spatial_resolution_mm({0.5: 0.6, 0.4: 0.3}) == 0.4
        with pytest.raises(ValueError, match=r"0\.5 mm"):
            basic_spatial_resolution_mm({0.5: 0.1})

    def test_snr_n_agrees_with_dose_and_unsharpness(self):
        """In the mean over an area the blur does not change the noise, so SNR_N hardly depends on the detector."""
        detector = dataclasses.replace(DETECTOR, pixel_pitch_mm=0.05, unsharpness_mm=0.4)
        snr = signal_to_noise(rendered(np.zeros((200, 300)), detector))
        sigma_px = detector.blur_px
        expected = np.sqrt(40_000) * 2 * np.sqrt(np.pi) * sigma_px
        assert snr == pytest.approx(expected, rel=0.05)
        assert normalised_snr(snr, 0.2) == pytest.approx(expected * 0.0886 / 0.2, rel=0.05)


class TestLetters:
    LETTERING = Lettering(height_mm=8.0, width_mm=4.0, stroke_mm=1.2, pitch_mm=7.0, lead_mm=1.8, disorder_deg=3.0)

    @pytest.mark.parametrize("letter", sorted(STROKES))
    def test_a_letter_is_as_high_as_asked_and_as_thick_as_its_lead(self, letter):
        lead = draw_text(np.random.default_rng(0), letter, self.LETTERING, 0.1)
        assert lead.min() == 0
        assert lead.max() == pytest.approx(1.8)
        rows = np.flatnonzero(lead.max(axis=1) > 0.9)
        assert (rows[-1] - rows[0]) * 0.1 == pytest.approx(9.2, abs=0.7)

    def test_a_straight_stroke_has_the_area_of_its_capsule(self):
        lettering = dataclasses.replace(self.LETTERING, disorder_deg=0.0)
        area_mm2 = draw_text(np.random.default_rng(0), "I", lettering, 0.05).sum() * 0.05**2 / 1.8
        assert area_mm2 == pytest.approx(8.0 * 1.2 + np.pi * 0.6**2, rel=0.03)

    def test_a_plate_lacks_the_lead_of_its_letters(self):
        solid = draw_text(np.random.default_rng(0), "50", self.LETTERING, 0.1)
        cut = draw_plate_text(np.random.default_rng(0), "50", self.LETTERING, 0.1)
        assert solid + cut == pytest.approx(np.full(solid.shape, 1.8))

    def test_rounding_keeps_the_ends_of_open_strokes_and_closes_closed_ones(self):
        assert stroke_points("~01 00 40 43 06")[0] == (0, 1)
        assert stroke_points("~01 00 40 43 06")[-1] == (0, 6)
        closed = stroke_points("~00 40 46 06 00")
        assert closed[0] == closed[-1]
        assert (0.0, 0.0) not in closed
        assert stroke_points("00 26 40") == [(0, 0), (2, 6), (4, 0)]


class TestObjects:
    @pytest.mark.parametrize("draw", [draw_lead_letters, draw_wire_iqi, draw_duplex_wire])
    def test_objects_lie_on_the_film_and_beside_the_weld(self, section, draw):
        drawn = 0
        for seed in range(6):
            for body in draw(np.random.default_rng(seed), section, []):
                drawn += 1
                x0, y0, x1, y1 = body.box_xyxy
                assert x0 >= 0
                assert y0 >= 0
                assert x1 <= 1500
                assert y1 <= 700
                assert body.thickness_mm.min() >= 0
                if body.name != "IQI wire":
                    toes = [section.centre_mm[x0:x1] + side * section.cap_half_mm[x0:x1] for side in (-1, 1)]
                    assert y1 * PITCH_MM <= toes[0].min() + PITCH_MM or y0 * PITCH_MM >= toes[1].max() - PITCH_MM
        assert drawn > 5

    def test_objects_keep_clear_of_flaws_and_of_one_another(self, section, params):
        objects = params.simulate.objects
        objects.lead_letters = objects.wire_iqi = objects.duplex_wire = 1.0
        flaws = [(left, 0, left + 60, 120) for left in range(0, 1500, 400)]
        letters = 0
        for seed in range(6):
            bodies = draw_objects(np.random.default_rng(seed), section, objects, flaws)
            for body in bodies:
                if body.name.startswith("lead"):
                    letters += 1
                    others = [other.box_xyxy for other in bodies if other is not body]
                    assert count_overlaps(body.box_xyxy, [*flaws, *others]) == 0
        assert letters > 3

    def test_shares_of_0_draw_nothing(self, section, params):
        params.simulate.objects = dataclasses.replace(
            params.simulate.objects, lead_letters=0.0, wire_iqi=0.0, duplex_wire=0.0
        )
        assert draw_objects(np.random.default_rng(0), section, params.simulate.objects, []) == []

    def test_a_small_film_has_no_room(self, section):
        small = dataclasses.replace(
            section,
            thickness_mm=section.thickness_mm[:100, :100],
            centre_mm=section.centre_mm[:100],
            cap_half_mm=section.cap_half_mm[:100],
        )
        for draw in (draw_lead_letters, draw_wire_iqi, draw_duplex_wire):
            assert draw(np.random.default_rng(0), small, []) == []

    def test_the_truth_names_wires_and_pairs(self, section):
        wires = [body for body in draw_wire_iqi(np.random.default_rng(0), section, []) if body.diameter_mm]
        assert [body.label for body in wires] == [f"W{n}" for n in range(int(wires[0].label[1:]), 99)][:7]
        assert all(body.material == "metal" for body in wires)
        pairs = draw_duplex_wire(np.random.default_rng(0), section, [])
        assert [(body.label, body.material) for body in pairs][2:4] == [("D3", "tungsten"), ("D4", "platinum")]
        assert 2 <= abs(pairs[0].angle_deg) <= 5

    def test_the_same_generator_gives_the_same_bits(self, section, params):
        objects = dataclasses.replace(params.simulate.objects, lead_letters=1.0, wire_iqi=1.0, duplex_wire=1.0)

        def drawn() -> list[AddedBody]:
            return draw_objects(np.random.default_rng(9), section, objects, [])

        for first, second in zip(drawn(), drawn(), strict=True):
            assert first.box_xyxy == second.box_xyxy
            assert first.label == second.label
            assert np.array_equal(first.thickness_mm, second.thickness_mm)

import numpy as np
import pytest

from defects_in_welds.simulation.flaws import FLAW_KINDS, draw_crack, draw_lack_of_penetration, draw_pore
from defects_in_welds.simulation.weld import draw_weld, section_of
from defects_in_welds.taxonomy import iso_6520_1_number

PITCH_MM = 0.05


@pytest.fixture
def section():
    rng = np.random.default_rng(1)
    return section_of(draw_weld(rng), rng, (512, 1600), PITCH_MM)


@pytest.mark.parametrize("name", sorted(FLAW_KINDS))
def test_a_flaw_fits_in_the_steel_and_its_box_holds_all_of_it(section, name):
    for seed in range(8):
        flaw = FLAW_KINDS[name](np.random.default_rng(seed), section, PITCH_MM)
        assert flaw.defect_class == name
        assert iso_6520_1_number(name) is not None
        assert flaw.chord_mm.min() >= 0
        assert 0 < flaw.chord_mm.max() < section.thickness_mm.min()
        x0, y0, x1, y1 = flaw.box_xyxy
        outside = flaw.chord_mm.copy()
        outside[y0:y1, x0:x1] = 0
        assert not outside.any()
        assert flaw.chord_mm[y0].any()
        assert flaw.chord_mm[y1 - 1].any()
        assert 0 < flaw.area_px <= (x1 - x0) * (y1 - y0)


def test_the_chord_of_a_pore_is_that_of_a_sphere(section):
    flaw = draw_pore(np.random.default_rng(5), section, PITCH_MM)
    volume_mm3 = flaw.chord_mm.sum() * PITCH_MM**2
    assert volume_mm3 == pytest.approx(np.pi / 6 * flaw.length_mm**3, rel=0.02)
    assert flaw.chord_mm.max() == pytest.approx(flaw.length_mm, rel=0.02)
    x0, y0, x1, y1 = flaw.box_xyxy
    for side_px in (x1 - x0, y1 - y0):
        assert side_px * PITCH_MM == pytest.approx(flaw.length_mm, abs=2 * PITCH_MM)


def test_the_volume_of_a_lack_of_penetration_does_not_depend_on_the_pixel_pitch():
    volumes_mm3 = []
    for pitch_mm in (0.05, 0.2):
        rng = np.random.default_rng(1)
        section = section_of(draw_weld(rng), rng, (int(25.6 / pitch_mm), int(80 / pitch_mm)), pitch_mm)
        flaw = draw_lack_of_penetration(np.random.default_rng(4), section, pitch_mm)
        volumes_mm3.append(flaw.chord_mm.sum() * pitch_mm**2 / (flaw.length_mm * flaw.width_mm * flaw.height_mm))
    assert volumes_mm3 == pytest.approx([1, 1], rel=0.1)


def test_a_crack_thinner_than_a_pixel_shades_it_in_part(section):
    flaw = draw_crack(np.random.default_rng(2), section, 0.4)
    assert flaw.width_mm < 0.4
    assert flaw.chord_mm.max() < flaw.height_mm

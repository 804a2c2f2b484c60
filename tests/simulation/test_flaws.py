from dataclasses import replace

import numpy as np
import pytest

from defects_in_welds.params.simulate import FlawParams, FlawsParams
from defects_in_welds.simulation.flaws import CLASS_NAMES, FLAW_KINDS
from defects_in_welds.simulation.flaws.fusion import angle_deg
from defects_in_welds.simulation.weld import Weld, WeldSection
from defects_in_welds.taxonomy import iso_6520_1_number

PITCH_MM = 0.05
PLATE_MM = 12.0

NUMBERS = {
    "longitudinal_crack": "1011",
    "transverse_crack": "1021",
    "gas_pore": "2011",
    "uniformly_distributed_porosity": "2012",
    "clustered_porosity": "2013",
    "linear_porosity": "2014",
    "elongated_cavity": "2015",
    "worm_hole": "2016",
    "slag_inclusion": "301",
    "tungsten_inclusion": "3041",
    "lack_of_sidewall_fusion": "4011",
    "lack_of_penetration": "402",
    "undercut": "501",
    "excess_penetration": "504",
    "burn_through": "510",
}

SIZES_MM = {
    "longitudinal_crack": ([8, 40], [0.05, 0.4], [1.5, 5]),
    "transverse_crack": ([2, 10], [0.03, 0.2], [1, 5]),
    "gas_pore": ([0.3, 2.5], [0.3, 2.5], [0.3, 2.5]),
    "uniformly_distributed_porosity": ([15, 50], [4, 10], [0.4, 1.5]),
    "clustered_porosity": ([3, 20], [2, 8], [0.3, 1.5]),
    "linear_porosity": ([8, 40], [0.5, 1.5], [0.4, 1.5]),
    "elongated_cavity": ([0.8, 6], [0.4, 1.5], [0.4, 1.5]),
    "worm_hole": ([1.5, 6], [0.4, 1.2], [0.8, 5]),
    "slag_inclusion": ([1.5, 30], [0.5, 2.5], [0.5, 2.5]),
    "tungsten_inclusion": ([0.3, 2], [0.2, 1], [0.2, 1]),
    "lack_of_sidewall_fusion": ([4, 40], [0.1, 0.5], [1, 4]),
    "lack_of_penetration": ([5, 40], [0.2, 1.5], [0.8, 3]),
    "undercut": ([2, 40], [0.6, 2], [0.2, 1.2]),
    "excess_penetration": ([4, 25], [2.5, 5], [1, 3]),
    "burn_through": ([2.5, 8], [2, 4.5], [2, 6]),
}

GROUPS = {"uniformly_distributed_porosity", "clustered_porosity", "linear_porosity"}
# Their width is that of the cross-section, across a line that wanders.
ALONG_A_LINE = {
    "longitudinal_crack",
    "transverse_crack",
    "lack_of_sidewall_fusion",
    "lack_of_penetration",
    "undercut",
    "excess_penetration",
}
ANY_WAY_ROUND = {"gas_pore", "elongated_cavity", "worm_hole", "tungsten_inclusion"}
SLANTED = {"longitudinal_crack", "transverse_crack", "lack_of_sidewall_fusion", "lack_of_penetration"}


def flaw_params(kind: str, tilt_deg=(0.0, 8.0)) -> FlawParams:
    length, width, height = SIZES_MM[kind]
    tilt = list(tilt_deg) if kind in SLANTED else [0.0, 0.0]
    return FlawParams(most_per_film=1, length_mm=length, width_mm=width, height_mm=height, tilt_deg=tilt)


def section_with(preparation: str, image_hw=(600, 2000), pitch_mm=PITCH_MM) -> WeldSection:
    """A weld that wanders a little, without the thickness of its cap: flaws need only its outline."""
    weld = Weld(
        material="steel",
        plate_mm=PLATE_MM,
        pipe_diameter_mm=None,
        preparation=preparation,
        groove_tan=0.577,
        narrowest_mm=3.0,
        cap_width_mm=18.0 if preparation == "V" else 11.0,
        cap_height_mm=1.6,
        root_width_mm=3.6 if preparation == "V" else 11.0,
        root_height_mm=0.8,
        ripple_mm=2.0,
        ripple_height=0.05,
        weaving_mm=0.3,
        misalignment_mm=0.0,
        thickness_step_mm=0.0,
        unevenness=0.1,
        fullness=0.5,
        toe_radius_mm=1.0,
        spatter_per_100_mm=0.0,
    )
    place_mm = (np.arange(image_hw[1]) + 0.5) * pitch_mm
    wave = np.sin(2 * np.pi * place_mm / 60)
    return WeldSection(
        weld=weld,
        pixel_pitch_mm=pitch_mm,
        thickness_mm=np.full(image_hw, PLATE_MM),
        centre_mm=image_hw[0] * pitch_mm / 2 + 0.3 * wave,
        cap_half_mm=weld.cap_width_mm / 2 * (1 + 0.05 * wave),
        root_half_mm=weld.root_width_mm / 2 * (1 + 0.05 * wave),
    )


SECTIONS = {preparation: section_with(preparation) for preparation in ("V", "X")}


def drawn(kind: str, preparation: str, seeds=range(10), **changes):
    """The flaws that found room, by seed."""
    flaws = {
        seed: FLAW_KINDS[kind](np.random.default_rng(seed), SECTIONS[preparation], flaw_params(kind, **changes))
        for seed in seeds
    }
    return {seed: flaw for seed, flaw in flaws.items() if flaw is not None}


every_kind = pytest.mark.parametrize("kind", list(FLAW_KINDS))
both_preparations = pytest.mark.parametrize("preparation", ["V", "X"])


def test_the_kinds_are_those_of_the_parameters_and_have_the_numbers_of_the_standard():
    assert set(FLAW_KINDS) == set(FlawsParams.__dataclass_fields__)
    assert {kind: iso_6520_1_number(name) for kind, name in CLASS_NAMES.items()} == NUMBERS
    assert list(FLAW_KINDS) == list(CLASS_NAMES) == sorted(FLAW_KINDS, key=NUMBERS.__getitem__)


@both_preparations
@every_kind
def test_a_flaw_lies_on_the_film_and_in_the_plate(kind, preparation):
    section = SECTIONS[preparation]
    flaws = drawn(kind, preparation)
    assert len(flaws) >= 8
    for flaw in flaws.values():
        assert flaw.defect_class == CLASS_NAMES[kind]
        rows, columns = flaw.chord_mm.shape
        assert flaw.top_px >= 0
        assert flaw.left_px >= 0
        assert flaw.top_px + rows <= section.thickness_mm.shape[0]
        assert flaw.left_px + columns <= section.thickness_mm.shape[1]
        assert flaw.box_xyxy == (flaw.left_px, flaw.top_px, flaw.left_px + columns, flaw.top_px + rows)
        assert flaw.chord_mm.dtype == np.float64
        assert flaw.chord_mm.min() >= 0
        assert 0 < flaw.chord_mm.max() <= 0.9 * PLATE_MM + 1e-9
        if kind == "excess_penetration":
            assert flaw.material == "metal"
            assert flaw.depth_mm > PLATE_MM
        elif kind not in GROUPS:
            half = flaw.height_mm / 2 * np.cos(np.radians(flaw.tilt_deg))
            assert flaw.depth_mm - half >= -1e-9
            assert flaw.depth_mm + half <= PLATE_MM + 1e-9


@both_preparations
@every_kind
def test_the_sizes_are_drawn_from_the_ranges_or_less(kind, preparation):
    for flaw in drawn(kind, preparation).values():
        for size, (low, high) in zip((flaw.length_mm, flaw.width_mm, flaw.height_mm), SIZES_MM[kind], strict=True):
            assert 0.2 * low <= size <= (1.3 if kind == "worm_hole" else 1.0) * high + 1e-9


def widest_extent_px(mask) -> float:
    """Largest distance of two shaded pixels' middles, and a pixel for their halves at either end."""
    rows, columns = np.nonzero(mask & ~(np.roll(mask, 1, 1) & np.roll(mask, -1, 1)) | mask & (np.cumsum(mask, 1) == 1))
    return np.sqrt((rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2).max() + 1


@both_preparations
@every_kind
def test_the_sizes_are_the_extents_of_what_is_shaded(kind, preparation):
    for flaw in drawn(kind, preparation).values():
        rows, columns = (side * PITCH_MM for side in flaw.chord_mm.shape)
        slack = 2.1 * PITCH_MM
        if kind in ANY_WAY_ROUND:
            assert widest_extent_px(flaw.mask) * PITCH_MM == pytest.approx(flaw.length_mm, abs=slack)
            continue
        length, width = (rows, columns) if kind == "transverse_crack" else (columns, rows)
        assert length == pytest.approx(flaw.length_mm, abs=slack)
        if kind in ALONG_A_LINE:
            assert width >= flaw.width_mm * 0.6 - slack
        else:
            assert width == pytest.approx(flaw.width_mm, abs=slack)


@pytest.mark.parametrize(
    "kind",
    [
        "gas_pore",
        "elongated_cavity",
        "tungsten_inclusion",
        "slag_inclusion",
        "excess_penetration",
        "burn_through",
        "undercut",
    ],
)
def test_the_longest_chord_is_the_height(kind):
    for flaw in drawn(kind, "V").values():
        if flaw.width_mm > 10 * PITCH_MM:
            assert flaw.chord_mm.max() == pytest.approx(
                flaw.height_mm, rel=0.2 if kind in {"slag_inclusion", "tungsten_inclusion"} else 0.05
            )


@every_kind
def test_the_same_seed_draws_the_same_flaw(kind):
    (seed, flaw), *_ = drawn(kind, "V").items()
    again = drawn(kind, "V", seeds=[seed])[seed]
    np.testing.assert_array_equal(flaw.chord_mm, again.chord_mm)
    assert replace(flaw, chord_mm=np.empty(0)).__repr__() == replace(again, chord_mm=np.empty(0)).__repr__()


@every_kind
def test_a_flaw_keeps_its_volume_when_the_pixels_change(kind):
    volumes = []
    for pitch_mm in (0.05, 0.2):
        section = section_with("V", (int(30 / pitch_mm), int(100 / pitch_mm)), pitch_mm)
        flaw = FLAW_KINDS[kind](np.random.default_rng(3), section, flaw_params(kind))
        volumes.append(flaw.chord_mm.sum() * pitch_mm**2)
    assert volumes[1] == pytest.approx(volumes[0], rel=0.03)


@pytest.mark.parametrize("kind", sorted(set(FLAW_KINDS) - ANY_WAY_ROUND - {"transverse_crack"}))
def test_a_flaw_longer_than_the_film_finds_no_room(kind):
    section = section_with("V", (600, 30))
    assert FLAW_KINDS[kind](np.random.default_rng(0), section, flaw_params(kind)) is None


@every_kind
def test_a_flaw_in_a_pipe_narrower_than_the_film_lies_over_its_bore(kind):
    plate = SECTIONS["V"]
    pipe = replace(plate, weld=replace(plate.weld, pipe_diameter_mm=80.0))
    found = [FLAW_KINDS[kind](np.random.default_rng(seed), pipe, flaw_params(kind)) for seed in range(20)]
    boxes = [flaw.box_xyxy for flaw in found if flaw is not None]
    assert boxes
    middle_mm, bore_mm = 50.0, 40.0 - PLATE_MM
    slack_mm = 2 * PITCH_MM + (1.0 if kind in GROUPS else 0.0)
    assert min(box[0] for box in boxes) * PITCH_MM >= middle_mm - bore_mm - slack_mm
    assert max(box[2] for box in boxes) * PITCH_MM <= middle_mm + bore_mm + slack_mm


@pytest.mark.parametrize("kind", sorted(set(FLAW_KINDS) - {"undercut", "excess_penetration", "burn_through"}))
@both_preparations
def test_a_flaw_inside_the_weld_lies_in_the_fused_metal(kind, preparation):
    section = SECTIONS[preparation]
    half = max(section.weld.fused_half_width_mm(depth) for depth in (0.0, PLATE_MM))
    for flaw in drawn(kind, preparation).values():
        x0, y0, x1, y1 = flaw.box_xyxy
        centre = section.centre_mm[x0:x1]
        lean = flaw.height_mm if kind in SLANTED else 0.0
        assert y0 * PITCH_MM >= centre.min() - half - lean - 2 * PITCH_MM
        assert y1 * PITCH_MM <= centre.max() + half + lean + 2 * PITCH_MM


@pytest.mark.parametrize("kind", sorted(GROUPS))
@both_preparations
def test_the_pores_of_a_group_never_fill_the_plate(kind, preparation):
    for flaw in drawn(kind, preparation).values():
        assert flaw.height_mm <= flaw.chord_mm.max() * 1.05
        assert flaw.chord_mm.max() < PLATE_MM


def test_the_longest_chord_of_a_crack_falls_with_its_tilt():
    means = [
        np.mean([flaw.chord_mm.max() for flaw in drawn("longitudinal_crack", "V", tilt_deg=(tilt, tilt)).values()])
        for tilt in (0.0, 5.0, 15.0, 30.0)
    ]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.5 * means[0]


@both_preparations
def test_a_lack_of_sidewall_fusion_lies_on_a_flank_and_leans_as_it_does(preparation):
    section = SECTIONS[preparation]
    for flaw in drawn("lack_of_sidewall_fusion", preparation, tilt_deg=(0.0, 0.0)).values():
        assert abs(flaw.tilt_deg) == pytest.approx(np.degrees(np.arctan(0.577)), abs=1e-9)
        _, y0, _, y1 = flaw.box_xyxy
        middle = (flaw.left_px + flaw.chord_mm.shape[1] / 2) * PITCH_MM
        centre = section.centre_mm[int(middle / PITCH_MM)]
        off = (y0 + y1) / 2 * PITCH_MM - centre
        assert abs(off) == pytest.approx(section.weld.fused_half_width_mm(flaw.depth_mm), abs=flaw.height_mm / 2)
        upper_half = preparation == "V" or flaw.depth_mm < PLATE_MM / 2
        assert flaw.tilt_deg * off < 0 if upper_half else flaw.tilt_deg * off > 0


@both_preparations
def test_a_lack_of_penetration_is_straight_in_the_middle_at_the_root(preparation):
    section = SECTIONS[preparation]
    for flaw in drawn("lack_of_penetration", preparation, tilt_deg=(0.0, 0.0)).values():
        bottom = PLATE_MM - flaw.height_mm / 2
        assert flaw.depth_mm == pytest.approx(bottom if preparation == "V" else PLATE_MM / 2)
        middle = (flaw.top_px + flaw.chord_mm.shape[0] / 2) * PITCH_MM
        assert middle == pytest.approx(section.centre_mm.mean(), abs=0.4)
        assert flaw.chord_mm.shape[0] * PITCH_MM <= flaw.width_mm + 0.004 * flaw.length_mm + 2 * PITCH_MM


@pytest.mark.parametrize("angle", [-60.0, -1.0, 0.0, 12.5, 30.0, 75.0])
def test_an_angle_is_found_from_its_tangent(angle):
    assert angle_deg(float(np.tan(np.radians(angle)))) == pytest.approx(angle, abs=1e-10)

from dataclasses import replace

import cv2
import numpy as np
import pytest

from defects_in_welds.params.simulate import WeldParams
from defects_in_welds.simulation.weld import Weld, draw_weld
from defects_in_welds.simulation.weld_section import section_of

PITCH_MM = 0.1


def weld_params(**changes) -> WeldParams:
    values = {
        "materials": ["steel", "titanium"],
        "plate_mm": [8, 14],
        "pipe_share": 0.0,
        "pipe_diameter_mm": [200, 600],
        "preparations": ["V", "X"],
        "groove_angle_deg": [50, 70],
        "cap_width_mm": [1, 4],
        "cap_height_mm": [1.0, 2.2],
        "root_width_mm": [3.0, 4.5],
        "root_height_mm": [0.4, 1.0],
        "ripple_mm": [1.2, 3.5],
        "ripple_height": [0.02, 0.1],
        "weaving_mm": [0.2, 0.8],
        "misalignment_mm": [0.0, 0.3],
        "unevenness": [0.05, 0.15],
        "spatter_per_100_mm": [0, 2],
    }
    return WeldParams(**{**values, **changes})


def drawn(seed: int = 0, **changes) -> Weld:
    return draw_weld(np.random.default_rng(seed), weld_params(**changes))


def still(weld: Weld, **changes) -> Weld:
    """The weld without anything that varies along it."""
    calm = {"unevenness": 0.0, "weaving_mm": 0.0, "ripple_height": 0.0, "misalignment_mm": 0.0}
    return replace(weld, **{**calm, "thickness_step_mm": 0.0, "spatter_per_100_mm": 0.0, **changes})


def section(weld: Weld, image_hw=(400, 1000), pitch_mm: float = PITCH_MM, seed: int = 1):
    return section_of(weld, np.random.default_rng(seed), image_hw, pitch_mm)


def plate_tolerance_mm(weld: Weld) -> float:
    """How far the uneven surface of a plate lets its thickness stray: knots of up to 1, overshot by up to a quarter."""
    return 1.25 * (2 * 0.004 * weld.plate_mm + 0.015 + 0.04)


def at_rows(thickness_mm, y_mm, pitch_mm: float = PITCH_MM):
    rows = np.floor(np.asarray(y_mm) / pitch_mm).astype(int)
    return thickness_mm[rows, np.arange(len(rows))]


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_weld_lies_in_its_ranges(seed):
    params = weld_params(pipe_share=0.5)
    weld = draw_weld(np.random.default_rng(seed), params)
    surplus_mm = weld.cap_width_mm - 2 * weld.fused_half_width_mm(0.0)
    low, high = params.cap_width_mm
    assert low <= surplus_mm <= high
    for name in ("plate_mm", "cap_height_mm", "ripple_mm", "ripple_height", "weaving_mm", "unevenness"):
        low, high = getattr(params, name)
        assert low <= getattr(weld, name) <= high, name
    assert abs(weld.misalignment_mm) <= params.misalignment_mm[1]
    assert np.tan(np.radians(25)) <= weld.groove_tan <= np.tan(np.radians(35))
    walls = 1 if weld.pipe_diameter_mm is None else 2
    assert weld.nominal_path_mm == walls * weld.plate_mm


def test_pipes_are_welded_from_outside_and_thick_plates_from_both_sides_where_that_is_offered():
    assert {drawn(seed, pipe_share=1.0).preparation for seed in range(9)} == {"V"}
    assert {drawn(seed, plate_mm=[30, 50]).preparation for seed in range(9)} == {"X"}
    assert {drawn(seed).preparation for seed in range(9)} == {"V", "X"}
    assert drawn(plate_mm=[30, 50], preparations=["V"]).preparation == "V"
    assert drawn(pipe_share=1.0, preparations=["X"]).preparation == "X"


def test_the_wall_of_a_pipe_leaves_a_bore():
    weld = drawn(pipe_share=1.0, plate_mm=[50, 50], pipe_diameter_mm=[60, 60])
    assert weld.plate_mm == 15


def test_a_v_narrows_from_its_mouth_to_the_root():
    weld = drawn(preparations=["V"])
    halves = [weld.fused_half_width_mm(share * weld.plate_mm) for share in np.linspace(0, 1, 41)]
    assert (np.diff(halves) <= 0).all()
    assert halves[-1] == weld.root_width_mm / 2 == weld.narrowest_mm / 2
    assert halves[0] - weld.fused_half_width_mm(1.0) == pytest.approx(weld.groove_tan)
    assert weld.fused_half_width_mm(-1.0) == halves[0]


def test_an_x_is_narrowest_in_the_middle_and_has_two_caps():
    weld = drawn(preparations=["X"])
    halves = np.array([weld.fused_half_width_mm(share * weld.plate_mm) for share in np.linspace(0, 1, 41)])
    assert halves == pytest.approx(halves[::-1])
    assert halves.min() == halves[20] == weld.narrowest_mm / 2
    assert halves[0] - weld.fused_half_width_mm(1.0) == pytest.approx(weld.groove_tan)
    assert min(weld.cap_width_mm, weld.root_width_mm) > 2 * halves[0]
    assert 1.0 <= weld.root_height_mm <= 2.2


@pytest.mark.parametrize("preparation", ["V", "X"])
@pytest.mark.parametrize("plate_mm", [3.0, 11.0, 40.0])
def test_sizes_on_the_film_agree_with_the_weld(preparation, plate_mm):
    weld = drawn(plate_mm=[plate_mm, plate_mm], preparations=[preparation], spatter_per_100_mm=[0, 0])
    weld = replace(weld, misalignment_mm=0.0, thickness_step_mm=0.0)
    film = section(weld, image_hw=(900, 1000))
    tolerance_mm = plate_tolerance_mm(weld)
    plate = np.concatenate([film.thickness_mm[:60], film.thickness_mm[-60:]])
    assert plate == pytest.approx(np.full_like(plate, plate_mm), abs=tolerance_mm)

    assert np.abs(film.cap_half_mm * 2 / weld.cap_width_mm - 1).max() <= 1.25 * weld.unevenness
    free = 1 if preparation == "X" else 2  # a root bead is twice as uneven
    assert np.abs(film.root_half_mm * 2 / weld.root_width_mm - 1).max() <= 1.25 * free * weld.unevenness

    # A wide cap is of several beads, with valleys between them.
    share = 1.5 * free * weld.unevenness + 1.5 * weld.ripple_height + 0.15
    tolerance_mm += share * (weld.cap_height_mm + weld.root_height_mm)
    middle = at_rows(film.thickness_mm, film.centre_mm)
    assert middle == pytest.approx(plate_mm + weld.cap_height_mm + weld.root_height_mm, abs=tolerance_mm)


def test_the_middle_of_a_narrow_cap_is_as_high_as_stated_on_average():
    weld = drawn(plate_mm=[6, 6], preparations=["X"], spatter_per_100_mm=[0, 0])
    film = section(weld, image_hw=(300, 4000))
    middle = at_rows(film.thickness_mm, film.centre_mm)
    height_mm = weld.cap_height_mm + weld.root_height_mm
    assert middle.mean() - weld.plate_mm == pytest.approx(height_mm, abs=weld.unevenness * height_mm)


def test_a_pipe_shows_both_its_walls_by_the_chord_of_a_cylinder():
    weld = drawn(pipe_share=1.0, plate_mm=[10, 10], pipe_diameter_mm=[120, 120], spatter_per_100_mm=[0, 0])
    weld = replace(weld, misalignment_mm=0.0, thickness_step_mm=0.0)
    film = section(weld, image_hw=(400, 1400))
    x_mm = (np.arange(1400) + 0.5) * PITCH_MM - 70
    outer, inner = (np.sqrt(np.maximum(0, radius * radius - x_mm * x_mm)) for radius in (60, 50))
    tolerance_mm = plate_tolerance_mm(weld) / np.sqrt(0.1)
    for row in (0, 20, 380, 399):
        assert film.thickness_mm[row] == pytest.approx(2 * (outer - inner), abs=tolerance_mm)
    assert not film.thickness_mm[:, np.abs(x_mm) > 60].any()
    # The weld is on one wall only: at the film's middle it adds its height once.
    middle = at_rows(film.thickness_mm, film.centre_mm)[680:720].mean()
    height_mm = weld.cap_height_mm + weld.root_height_mm
    assert middle - 20 == pytest.approx(height_mm, rel=0.35)


def test_the_cap_meets_the_plate_in_a_fillet_of_the_stated_radius():
    weld = still(drawn(preparations=["X"], cap_width_mm=[2, 2]), fullness=0.0, toe_radius_mm=2.0)
    weld = replace(weld, root_height_mm=0.0)
    pitch_mm = 0.02
    film = section(weld, image_hw=(1400, 128), pitch_mm=pitch_mm)
    bend = np.diff(film.thickness_mm, n=2, axis=0) / pitch_mm**2
    skewed = (1 + 1.25 * (0.3 + 0.1)) ** 2
    assert 0.3 / weld.toe_radius_mm < bend.max() < skewed / weld.toe_radius_mm + 0.1
    slope = np.abs(np.diff(film.thickness_mm, axis=0)).max() / pitch_mm
    assert slope < np.sqrt(skewed) * 4 * weld.cap_height_mm / weld.cap_width_mm + 0.05


def test_misaligned_plates_show_as_more_metal_on_one_side_of_the_root_and_less_on_the_other():
    step_mm = 2.0
    weld = still(drawn(preparations=["V"], plate_mm=[10, 10]), misalignment_mm=step_mm)
    weld = replace(weld, cap_height_mm=0.0, root_height_mm=0.0)
    film = section(weld)
    y_mm = (np.arange(400)[:, None] + 0.5) * PITCH_MM - film.centre_mm

    def surface(half_mm):
        u = np.clip(y_mm / half_mm, -1, 1)
        return step_mm / 2 * (3 * u - u**3) / 2

    expected = 10 + surface(weld.root_width_mm / 2) - surface(weld.cap_width_mm / 2)
    # The step varies along the weld by up to 3/8, and the weld is no steadier than the plate.
    assert film.thickness_mm == pytest.approx(expected, abs=0.375 * 0.8 * step_mm / 2 + plate_tolerance_mm(weld))
    root_edge_mm = weld.root_width_mm / 2
    more, less = (at_rows(film.thickness_mm, film.centre_mm + side * root_edge_mm).mean() for side in (1, -1))
    assert more - less > 0.5 * step_mm


def test_plates_of_different_thickness_differ_by_the_stated_step():
    weld = still(drawn(plate_mm=[10, 10]), thickness_step_mm=0.8)
    thickness_mm = section(weld).thickness_mm
    assert thickness_mm[-40:].mean() - thickness_mm[:40].mean() == pytest.approx(0.8, rel=0.5)


def test_ripples_do_not_repeat():
    weld = still(drawn(preparations=["X"], plate_mm=[6, 6]), ripple_height=0.08)
    film = section(weld, image_hw=(160, 4000))
    middle = at_rows(film.thickness_mm, film.centre_mm)
    pattern = middle - np.convolve(middle, np.ones(61) / 61, mode="same")
    pattern = pattern[100:-100] - pattern[100:-100].mean()
    assert pattern.std() > 0.02
    correlation = np.correlate(pattern, pattern, mode="full")[len(pattern) - 1 :] / (pattern @ pattern)
    ripple_px = weld.ripple_mm / PITCH_MM
    assert np.abs(correlation[int(0.75 * ripple_px) : len(pattern) // 2]).max() < 0.6
    assert np.abs(correlation[int(3 * ripple_px) : len(pattern) // 2]).max() < 0.35


def test_ripples_are_arcs():
    weld = still(drawn(preparations=["X"], plate_mm=[6, 6]), ripple_height=0.1, fullness=0.5)
    lags = []
    for seed in range(4):
        film = section(replace(weld, root_height_mm=0.0), image_hw=(160, 3000), seed=seed)
        lines = [at_rows(film.thickness_mm, film.centre_mm + share * film.cap_half_mm) for share in (-0.6, 0.0, 0.6)]
        above, middle, below = (line - np.convolve(line, np.ones(61) / 61, mode="same") for line in lines)
        shift = np.arange(-80, 81)
        both = np.correlate(middle[200:-200], above[200:-200], "full") + np.correlate(
            middle[200:-200], below[200:-200], "full"
        )
        centre = len(middle[200:-200]) - 1
        lags.append(shift[np.argmax(both[centre - 80 : centre + 81])] * PITCH_MM)
    assert all(lag != 0 for lag in lags)
    assert len({np.sign(lag) for lag in lags}) == 1


@pytest.mark.parametrize("plate_mm", [6, 16])
def test_the_same_weld_comes_out_at_another_pixel_pitch(plate_mm):
    weld = drawn(plate_mm=[plate_mm, plate_mm], preparations=["X"])
    coarse = section(weld, image_hw=(400, 1000), pitch_mm=0.1).thickness_mm
    fine = section(weld, image_hw=(800, 2000), pitch_mm=0.05).thickness_mm
    fine = (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) / 4
    assert np.abs(fine - coarse).max() < 0.05
    assert np.sqrt(((fine - coarse) ** 2).mean()) < 0.006


def test_drops_of_spatter_are_as_many_as_stated_and_lie_beside_the_cap():
    weld = still(drawn(preparations=["V"], plate_mm=[8, 8]), spatter_per_100_mm=12.0)
    counts = []
    for seed in range(6):
        film = section(weld, image_hw=(700, 2000), seed=seed)
        y_mm = (np.arange(700)[:, None] + 0.5) * PITCH_MM
        beside = np.abs(y_mm - film.centre_mm) > film.cap_half_mm + 0.7
        drops = beside & (film.thickness_mm > weld.plate_mm + 0.15)
        counts.append(cv2.connectedComponents(drops.astype(np.uint8))[0] - 1)
    # The smallest and flattest drops are no higher than this and drops may touch each other.
    assert 0.5 * 24 < np.mean(counts) < 1.1 * 24


def test_nothing_of_size_0_fails():
    nothing = [0.0, 0.0]
    names = ("cap_height_mm", "root_width_mm", "root_height_mm", "weaving_mm", "unevenness", "spatter_per_100_mm")
    weld = drawn(preparations=["V"], ripple_height=nothing, **dict.fromkeys(names, nothing))
    thickness_mm = section(weld).thickness_mm
    assert np.abs(thickness_mm - weld.plate_mm).max() < plate_tolerance_mm(weld) + 0.5


def test_a_weld_wider_than_the_film_covers_it():
    weld = drawn(preparations=["V"], plate_mm=[40, 40])
    film = section(weld, image_hw=(128, 256))
    assert np.isfinite(film.thickness_mm).all()
    assert film.thickness_mm.min() > 40


def test_two_films_of_a_weld_share_its_sizes_but_not_its_pattern():
    weld = drawn(plate_mm=[10, 10], preparations=["X"])
    rng = np.random.default_rng(4)
    first, second = (section_of(weld, rng, (300, 600), PITCH_MM) for _ in range(2))
    assert first.weld is second.weld is weld
    assert not np.array_equal(first.thickness_mm, second.thickness_mm)
    assert first.cap_half_mm.mean() == pytest.approx(second.cap_half_mm.mean(), rel=weld.unevenness)


def test_the_same_seed_gives_the_same_bits():
    films = [section(drawn(3, pipe_share=0.5), seed=5) for _ in range(2)]
    assert films[0].weld == films[1].weld
    assert films[0].thickness_mm.tobytes() == films[1].thickness_mm.tobytes()
    assert films[0].thickness_mm.dtype == np.float64

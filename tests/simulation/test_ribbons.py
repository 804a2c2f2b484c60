import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.simulation.ribbons import RoundedProfile, Run, SlabProfile, ribbon


def slab(opening_mm, height_mm, tilt_deg, samples=1):
    ones = np.ones(samples)
    return SlabProfile(opening_mm * ones, height_mm * ones, float(np.tan(np.radians(tilt_deg))))


def straight(run, middle_mm):
    return np.full(len(run.x_mm), middle_mm)


def volume_mm3(projection, pitch_mm):
    return projection.chord_mm.sum() * pitch_mm**2


def chord_through_rectangle(offset_mm, opening_mm, height_mm, tilt_deg):
    """Cut a beam at an offset with the two pairs of sides of a tilted rectangle."""
    sine, cosine = np.sin(np.radians(tilt_deg)), np.cos(np.radians(tilt_deg))
    # On the beam, the offset across is fixed: z runs where |x cos - z sin| <= w / 2 and |x sin + z cos| <= h / 2.
    low, high = -np.inf, np.inf
    for fixed, slope, half in (
        (offset_mm * cosine, -sine, opening_mm / 2),
        (offset_mm * sine, cosine, height_mm / 2),
    ):
        if abs(slope) < 1e-12:
            if abs(fixed) > half:
                return 0.0
            continue
        ends = sorted(((-half - fixed) / slope, (half - fixed) / slope))
        low, high = max(low, ends[0]), min(high, ends[1])
    return max(0.0, high - low)


SLABS = {
    "opening_mm": st.floats(0.01, 1.0),
    "height_mm": st.floats(0.2, 6.0),
    "tilt_deg": st.one_of(st.just(0.0), st.floats(1e-3, 80.0)),
}


@given(**SLABS)
def test_the_shade_of_a_slab_is_the_trapezoid(opening_mm, height_mm, tilt_deg):
    profile = slab(opening_mm, height_mm, tilt_deg)
    sine, cosine = np.sin(np.radians(tilt_deg)), np.cos(np.radians(tilt_deg))
    assert 2 * profile.half_base_mm[0] == pytest.approx(height_mm * sine + opening_mm * cosine)
    assert 2 * profile.half_top_mm[0] == pytest.approx(abs(height_mm * sine - opening_mm * cosine), abs=1e-9)
    plateau = min(height_mm / cosine, opening_mm / sine if sine > 0 else np.inf)
    assert profile.plateau_mm[0] == pytest.approx(plateau)
    reach = np.array([[-2 * profile.reach_mm], [2 * profile.reach_mm]])
    area = profile.area_to(reach)
    assert area[1, 0] - area[0, 0] == pytest.approx(opening_mm * height_mm)


@given(**SLABS, offset=st.floats(-1.2, 1.2))
def test_the_chords_of_a_slab_are_those_through_a_rectangle(opening_mm, height_mm, tilt_deg, offset):
    profile = slab(opening_mm, height_mm, tilt_deg)
    offset_mm = offset * profile.reach_mm
    step = 1e-6 * profile.reach_mm
    area = profile.area_to(offset_mm + step * np.array([[-1.0], [1.0]]))
    exact = chord_through_rectangle(offset_mm, opening_mm, height_mm, tilt_deg)
    near = [
        chord_through_rectangle(offset_mm + shift * step, opening_mm, height_mm, tilt_deg) for shift in (-1.01, 1.01)
    ]
    mean = (area[1, 0] - area[0, 0]) / (2 * step)
    slack = 1e-6 * max(exact, *near) + 1e-6 * height_mm
    assert min(exact, *near) - slack <= mean <= max(exact, *near) + slack


def test_a_slab_along_the_beam_is_as_wide_as_its_opening_and_as_long_as_its_height():
    profile = slab(0.4, 3.0, 0.0)
    assert profile.half_base_mm[0] == profile.half_top_mm[0] == 0.2
    assert profile.plateau_mm[0] == pytest.approx(3.0)


def test_tilting_a_slab_lowers_the_longest_chord_as_the_geometry_says():
    plateaus = [slab(0.1, 4.0, tilt).plateau_mm[0] for tilt in (0, 1, 2, 5, 10, 20)]
    assert plateaus == sorted(plateaus, reverse=True) or plateaus[1] > plateaus[0]  # h / cos first, then w / sin
    assert plateaus[-1] == pytest.approx(0.1 / np.sin(np.radians(20)))


@given(
    opening_mm=st.floats(0.005, 0.5),
    tilt_deg=st.floats(0.0, 40.0),
    start_mm=st.floats(-3.0, 3.0),
    length_mm=st.floats(0.3, 9.0),
    middle_mm=st.floats(-2.0, 2.0),
    pitch_mm=st.sampled_from([0.025, 0.05, 0.1, 0.4]),
)
def test_the_volume_of_a_gap_does_not_depend_on_the_pixel_pitch(
    opening_mm, tilt_deg, start_mm, length_mm, middle_mm, pitch_mm
):
    run = Run(start_mm, length_mm, pitch_mm)
    projection = ribbon(run, straight(run, middle_mm), slab(opening_mm, 3.0, tilt_deg, len(run.x_mm)))
    assert volume_mm3(projection, pitch_mm) == pytest.approx(opening_mm * 3.0 * length_mm, rel=1e-9)
    assert projection.chord_mm.min() >= 0


def test_a_gap_of_a_fifth_of_a_pixel_shades_a_fifth():
    run = Run(0.0, 2.0, 0.1)
    projection = ribbon(run, straight(run, 0.55), slab(0.02, 3.0, 0.0, len(run.x_mm)))
    shaded = projection.chord_mm[projection.chord_mm > 0]
    assert len(shaded) == 20
    assert shaded == pytest.approx(0.6)


@pytest.mark.parametrize("slope", [-1.5, 0.0, 0.3])
def test_a_gap_that_runs_askew_keeps_its_opening_and_its_length(slope):
    run = Run(1.0, 8.0, 0.05)
    projection = ribbon(run, 3.0 + slope * (run.x_mm - 1.0), slab(0.2, 3.0, 5.0, len(run.x_mm)))
    volume = 0.2 * 3.0 * 8.0 * np.sqrt(1 + slope**2)
    assert volume_mm3(projection, 0.05) == pytest.approx(volume, rel=0.003)


def test_a_run_begins_and_ends_between_pixels():
    run = Run(1.23, 0.5, 0.1)
    projection = ribbon(run, straight(run, 0.5), slab(0.3, 1.0, 0.0, len(run.x_mm)))
    along = projection.chord_mm.sum(axis=0) * 0.1 / 0.3
    assert projection.left_px == 12
    assert along == pytest.approx([0.7, 1, 1, 1, 1, 0.3])
    assert run.place.min() >= 0
    assert run.place.max() <= 1


@pytest.mark.parametrize(("flat", "share"), [(False, 2 / 3), (True, 6 / 7)])
def test_a_groove_has_the_area_of_its_profile(flat, share):
    run = Run(0.0, 3.0, 0.1)
    ones = np.ones(len(run.x_mm))
    projection = ribbon(run, straight(run, 2.0), RoundedProfile(0.8 * ones, 0.3 * ones, 0.9 * ones, flat))
    assert volume_mm3(projection, 0.1) == pytest.approx(share * 0.8 * 1.2 * 3.0, rel=1e-6)
    rows = np.flatnonzero(projection.chord_mm.any(axis=1)) + projection.top_px
    assert (rows[0], rows[-1]) == (17, 28)
    assert projection.chord_mm.max() <= 0.8


def test_where_nothing_is_open_nothing_is_shaded():
    run = Run(0.0, 2.0, 0.1)
    opening = np.where(run.x_mm < 1.0, 0.0, 0.2)
    projection = ribbon(run, straight(run, 0.5), SlabProfile(opening, np.ones_like(opening), 0.0))
    assert not projection.chord_mm[:, :10].any()
    assert projection.chord_mm[:, 10:].any()

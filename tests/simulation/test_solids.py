import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.simulation.exact_math import sin_cos_deg
from defects_in_welds.simulation.solids import Polyhedron, crater, ellipsoid, tube

PITCH_MM = 0.05


def volume_mm3(projection, pitch_mm=PITCH_MM):
    return projection.chord_mm.sum() * pitch_mm**2


def extents_mm(projection, pitch_mm=PITCH_MM):
    """Extents along and across of what is shaded, within a pixel at either end."""
    shaded = projection.chord_mm > 0
    return shaded.any(axis=0).sum() * pitch_mm, shaded.any(axis=1).sum() * pitch_mm


@given(
    diameter_px=st.floats(1.0, 60.0),
    x_mm=st.floats(-1.0, 1.0),
    y_mm=st.floats(-1.0, 1.0),
    pitch_mm=st.sampled_from([0.04, 0.1]),
)
def test_a_sphere_keeps_its_volume_at_any_size_and_place(diameter_px, x_mm, y_mm, pitch_mm):
    diameter = diameter_px * pitch_mm
    projection = ellipsoid(x_mm, y_mm, (diameter, diameter, diameter), pitch_mm)
    assert volume_mm3(projection, pitch_mm) == pytest.approx(np.pi / 6 * diameter**3, rel=0.02)
    assert projection.chord_mm.max() <= diameter


def test_the_chords_of_a_sphere_are_those_of_a_circle():
    projection = ellipsoid(0.0, 0.0, (3.0, 3.0, 3.0), PITCH_MM)
    rows, columns = projection.chord_mm.shape
    y = (projection.top_px + np.arange(rows)[:, None] + 0.5) * PITCH_MM
    x = (projection.left_px + np.arange(columns) + 0.5) * PITCH_MM
    square = x * x + y * y
    inner = square < 1.4**2
    np.testing.assert_allclose(projection.chord_mm[inner], 2 * np.sqrt(1.5**2 - square[inner]), rtol=0.01)


def test_a_turned_ellipsoid_has_its_volume_and_extents():
    sine, cosine = sin_cos_deg(30.0)
    projection = ellipsoid(7.3, 2.1, (4.0, 1.5, 1.0), PITCH_MM, (sine, cosine))
    assert volume_mm3(projection) == pytest.approx(np.pi / 6 * 4.0 * 1.5 * 1.0, rel=0.003)
    along, across = np.sqrt(16 * cosine**2 + 2.25 * sine**2), np.sqrt(16 * sine**2 + 2.25 * cosine**2)
    assert extents_mm(projection) == pytest.approx((along, across), abs=2 * PITCH_MM)
    assert projection.chord_mm.max() == pytest.approx(1.0, rel=0.005)


def straight_tube(length_mm, rise_mm, radius_mm):
    place = np.arange(400) / 399 - 0.5
    middle = np.stack([place * length_mm, np.zeros(400), place * rise_mm], axis=1)
    return tube(middle, np.full(400, radius_mm), PITCH_MM)


def test_a_level_tube_is_a_capsule():
    projection = straight_tube(4.0, 0.0, 0.5)
    assert volume_mm3(projection) == pytest.approx(np.pi * 0.25 * 4.0 + 4 / 3 * np.pi * 0.125, rel=0.005)
    assert extents_mm(projection) == pytest.approx((5.0, 1.0), abs=2 * PITCH_MM)


@pytest.mark.parametrize("rise_mm", [1.0, 4.0])
def test_the_chord_of_a_rising_tube_grows_with_its_slope(rise_mm):
    projection = straight_tube(4.0, rise_mm, 0.4)
    run = np.sqrt(16 + rise_mm**2)
    assert volume_mm3(projection) == pytest.approx(np.pi * 0.16 * run + 4 / 3 * np.pi * 0.064, rel=0.01)
    middle = projection.chord_mm[:, projection.chord_mm.shape[1] // 2].max()
    assert middle == pytest.approx(0.8 * run / 4.0, rel=0.01)


def test_a_bent_tube_has_the_volume_of_a_straight_one_as_long():
    angle = np.linspace(0.0, np.pi / 2, 300)
    middle = np.stack([3 * np.cos(angle), 3 * np.sin(angle), 0 * angle], axis=1)
    projection = tube(middle, np.full(300, 0.3), PITCH_MM)
    straight = np.pi * 0.09 * 1.5 * np.pi + 4 / 3 * np.pi * 0.027
    assert volume_mm3(projection) == pytest.approx(straight, rel=0.005)


def test_a_tapering_tube_has_the_volume_of_a_cone():
    place = np.arange(400) / 399
    middle = np.stack([6.0 * place, 0 * place, 0 * place], axis=1)
    projection = tube(middle, 0.5 - 0.3 * place, PITCH_MM)
    frustum = np.pi * 6.0 / 3 * (0.25 + 0.1 + 0.04)
    ends = 2 / 3 * np.pi * (0.125 + 0.008)
    assert volume_mm3(projection) == pytest.approx(frustum + ends, rel=0.01)


def test_an_octahedron_has_its_vertices_and_its_volume():
    signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
    octahedron = Polyhedron(signs / np.sqrt(3), np.full(8, 1 / np.sqrt(3)))
    corners = {tuple(round(part) for part in vertex) for vertex in octahedron.vertices_mm()}
    assert corners == {(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)}
    projection = octahedron.project(0.02, 0.01, PITCH_MM)
    assert volume_mm3(projection) == pytest.approx(4 / 3, rel=0.003)
    assert extents_mm(projection) == pytest.approx((2.0, 2.0), abs=2 * PITCH_MM)
    assert projection.chord_mm.max() == pytest.approx(2.0, rel=0.05)


def test_a_box_upright_in_the_beam_has_one_chord():
    faces = np.concatenate([np.eye(3), -np.eye(3)])
    projection = Polyhedron(faces, np.array([1.0, 0.5, 0.3, 1.0, 0.5, 0.3])).project(5.0, 5.0, 0.1)
    assert volume_mm3(projection, 0.1) == pytest.approx(2.0 * 1.0 * 0.6, rel=1e-6)
    assert np.unique(np.round(projection.chord_mm[projection.chord_mm > 0], 9)) == pytest.approx([0.6])


def test_a_crater_without_lobes_is_half_an_ellipsoid():
    projection = crater(5.0, 4.0, (4.0, 3.0, 2.0), np.zeros((2, 2)), PITCH_MM)
    assert volume_mm3(projection) == pytest.approx(2 / 3 * np.pi * 2.0 * 1.5 * 2.0, rel=0.003)
    assert projection.chord_mm.max() == pytest.approx(2.0, rel=0.005)


def test_lobes_change_the_outline_of_a_crater_but_not_its_size():
    lobes = np.array([[0.15, -0.1], [0.08, 0.05]])
    projection = crater(5.0, 4.0, (4.0, 3.0, 2.0), lobes, PITCH_MM)
    assert extents_mm(projection) == pytest.approx((4.0, 3.0), abs=2 * PITCH_MM)
    assert projection.left_px * PITCH_MM == pytest.approx(3.0, abs=PITCH_MM)
    chord = projection.chord_mm[:60, :80]
    assert np.abs(chord - chord[::-1, ::-1]).max() > 0.5

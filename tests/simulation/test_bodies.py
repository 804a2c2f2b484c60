import numpy as np
import pytest

from defects_in_welds.simulation.bodies import GAS, Projection, merge

CHORD_MM = np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 1.0, 3.0, 0.0]])


def as_flaw(projection, film_hw):
    return projection.as_flaw("gas pore", GAS, film_hw, size_mm=(2.0, 1.5, 1.0), depth_mm=4.0)


def test_a_flaw_lies_on_the_smallest_patch_that_holds_it():
    flaw = as_flaw(Projection(10, 20, CHORD_MM), (50, 50))
    assert (flaw.top_px, flaw.left_px) == (11, 21)
    assert flaw.chord_mm.tolist() == [[2.0, 0.0], [1.0, 3.0]]
    assert flaw.box_xyxy == (21, 11, 23, 13)
    assert flaw.area_px == 3
    assert flaw.mask.tolist() == [[True, False], [True, True]]
    assert (flaw.length_mm, flaw.width_mm, flaw.height_mm, flaw.depth_mm, flaw.tilt_deg) == (2.0, 1.5, 1.0, 4.0, 0.0)


@pytest.mark.parametrize(("top", "left"), [(-2, 0), (0, -2), (8, 0), (0, 8)])
def test_a_flaw_that_the_edge_would_cut_is_none(top, left):
    assert as_flaw(Projection(top, left, CHORD_MM), (10, 10)) is None


@pytest.mark.parametrize(("top", "left"), [(-1, -1), (7, 7)])
def test_only_what_is_shaded_has_to_lie_on_the_film(top, left):
    assert as_flaw(Projection(top, left, CHORD_MM), (10, 10)) is not None


def test_a_body_without_a_shade_is_no_flaw():
    assert as_flaw(Projection(0, 0, np.zeros((3, 3))), (10, 10)) is None


def test_merged_chords_add_where_bodies_overlap():
    merged = merge([Projection(5, 5, np.ones((2, 2))), Projection(6, 3, 2 * np.ones((1, 3)))])
    assert (merged.top_px, merged.left_px) == (5, 3)
    assert merged.chord_mm.tolist() == [[0, 0, 1, 1], [2, 2, 3, 1]]
    assert merged.at_most(2.5).chord_mm.max() == 2.5


def test_transposing_swaps_along_and_across():
    turned = Projection(10, 20, CHORD_MM).transposed()
    assert (turned.top_px, turned.left_px) == (20, 10)
    np.testing.assert_array_equal(turned.chord_mm, CHORD_MM.T)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defects_in_welds import boxes
from defects_in_welds.data.tiling import boxes_in_tile, plan_tiles
from defects_in_welds.inference.detections import Detections
from defects_in_welds.inference.tile_merging import _overlapping_pairs, merge_tiles

TILE_PX = 64
OVERLAP_PX = 16


def merge(found, tiles, film_hw, merge_iou=0.5):
    """Merge rows of (tile, x0, y0, x1, y1, score, label)."""
    rows = np.array(found, dtype=np.float64).reshape(-1, 7)
    return merge_tiles(
        rows[:, 1:5], rows[:, 5], rows[:, 6].astype(np.int64), rows[:, 0].astype(np.int64), tiles, film_hw, merge_iou
    )


def as_rows(detections: Detections):
    columns = [detections.boxes_xyxy, detections.scores[:, None], detections.labels[:, None]]
    return [tuple(np.round(row, 3)) for row in np.concatenate(columns, axis=1).tolist()]


def see_in_tiles(film_boxes, labels, tiles, scores):
    """What a perfect detector reports: in every tile, all that the tile shows of every flaw."""
    found = []
    for index, tile in enumerate(tiles):
        kept, tile_boxes = boxes_in_tile(film_boxes, tile, min_visible_share=0.0)
        for flaw, box in zip(kept, tile_boxes + np.tile(tile[:2], 2), strict=True):
            found.append((index, *box, scores[flaw], labels[flaw]))
    return found


def row_of_tiles(*starts):
    return np.array([(x0, 0, x0 + TILE_PX, TILE_PX) for x0 in starts])


def test_a_flaw_seen_whole_in_two_tiles_is_found_once_with_the_better_score():
    found = [(0, 50, 10, 60, 20, 0.7, 1), (1, 51, 10, 61, 20, 0.9, 1)]
    assert as_rows(merge(found, row_of_tiles(0, 48), (64, 112))) == [(51, 10, 61, 20, 0.9, 1)]


def test_a_flaw_on_a_seam_is_found_once_and_whole():
    found = [(0, 20, 10, 64, 18, 0.6, 1), (1, 48, 11, 100, 19, 0.8, 1)]
    assert as_rows(merge(found, row_of_tiles(0, 48), (64, 112))) == [(20, 10, 100, 19, 0.8, 1)]


def test_a_flaw_cut_in_one_tile_and_whole_in_the_other_is_found_once():
    found = [(0, 56, 10, 64, 18, 0.9, 1), (1, 56, 10, 100, 18, 0.5, 1)]
    assert as_rows(merge(found, row_of_tiles(0, 48), (64, 112))) == [(56, 10, 100, 18, 0.9, 1)]


def test_a_flaw_longer_than_several_tiles_is_found_once_and_whole():
    tiles = plan_tiles((64, 400), TILE_PX, OVERLAP_PX)
    found = see_in_tiles(np.array([[10.0, 30, 390, 34]]), [2], tiles, [0.5])
    assert len(found) == len(tiles) > 5
    assert as_rows(merge(found, tiles, (64, 400))) == [(10, 30, 390, 34, 0.5, 2)]


def test_pieces_that_end_a_little_short_of_the_border_are_joined():
    found = [(0, 10, 10, 60, 18, 0.6, 1), (1, 51, 10, 100, 18, 0.8, 1)]
    assert as_rows(merge(found, row_of_tiles(0, 48), (64, 112))) == [(10, 10, 100, 18, 0.8, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_long_flaws_whose_pieces_end_up_to_ten_pixels_short_are_found_once_each(seed):
    rng = np.random.default_rng(seed)
    lines = np.array([[20.0, 100, 980, 112], [30.0, 114, 900, 126]])
    tiles = plan_tiles((256, 1000), 256, 64)
    found = []
    for index, *box, score, label in see_in_tiles(lines, [1, 1], tiles, [0.9, 0.8]):
        left, right = tiles[index, 0], tiles[index, 2]
        x0, y0, x1, y1 = box
        x0, x1 = x0 + (x0 == left) * rng.uniform(2, 10), x1 - (x1 == right) * rng.uniform(2, 10)
        found.append((index, x0, y0, x1, y1, score, label))
    assert len(found) > 8
    assert as_rows(merge(found, tiles, (256, 1000))) == [(20, 100, 980, 112, 0.9, 1), (30, 114, 900, 126, 0.8, 1)]


def test_a_short_flaw_that_ends_near_the_border_is_not_cut_by_it():
    found = [(0, 40, 10, 60, 18, 0.9, 1), (1, 52, 10, 72, 18, 0.8, 1)]
    assert len(merge(found, row_of_tiles(0, 48), (64, 112))) == 2


def test_a_cut_piece_inside_a_better_flaw_of_another_tile_is_dropped():
    found = [(0, 54, 12, 64, 16, 0.5, 1), (1, 48, 10, 100, 18, 0.8, 1)]
    assert as_rows(merge(found, row_of_tiles(0, 48), (64, 112))) == [(48, 10, 100, 18, 0.8, 1)]


def test_a_cut_piece_inside_a_joined_flaw_gives_it_its_score():
    found = [(0, 20, 10, 64, 18, 0.4, 1), (0, 54, 12, 64, 16, 0.9, 1), (1, 48, 10, 100, 18, 0.8, 1)]
    assert as_rows(merge(found, row_of_tiles(0, 48), (64, 112))) == [(20, 10, 100, 18, 0.9, 1)]


@pytest.mark.parametrize(
    "other",
    [
        (0, 48, 12, 56, 16, 0.5, 1),  # ends where no border cuts it
        (1, 54, 12, 64, 16, 0.5, 1),  # of the same tile
        (0, 54, 12, 64, 16, 0.5, 2),  # of another class
        (0, 54, 12, 64, 16, 0.9, 1),  # better than the flaw around it
        (0, 54, 14, 64, 22, 0.5, 1),  # half outside
    ],
)
def test_a_box_on_a_flaw_that_is_no_piece_of_it_stays(other):
    assert len(merge([other, (1, 48, 10, 100, 18, 0.8, 1)], row_of_tiles(0, 48), (64, 112))) == 2


def test_two_lines_side_by_side_across_a_seam_stay_two():
    lines = np.array([[20.0, 10, 100, 18], [20.0, 20, 100, 28]])
    tiles = row_of_tiles(0, 48)
    merged = merge(see_in_tiles(lines, [1, 1], tiles, [0.9, 0.8]), tiles, (64, 112))
    assert as_rows(merged) == [(20, 10, 100, 18, 0.9, 1), (20, 20, 100, 28, 0.8, 1)]


def test_two_flaws_in_a_row_stay_two_although_both_touch_the_same_seam():
    found = [(0, 20, 10, 64, 14, 0.9, 1), (1, 48, 13, 100, 40, 0.8, 1)]
    assert len(merge(found, row_of_tiles(0, 48), (64, 112))) == 2


def test_pieces_that_no_border_cuts_stay_apart():
    found = [(0, 20, 10, 58, 18, 0.9, 1), (1, 54, 10, 100, 18, 0.8, 1)]
    assert len(merge(found, row_of_tiles(0, 48), (64, 112))) == 2


def test_pieces_of_different_classes_stay_apart():
    found = [(0, 20, 10, 64, 18, 0.9, 1), (1, 48, 10, 100, 18, 0.8, 2)]
    assert len(merge(found, row_of_tiles(0, 48), (64, 112))) == 2


def test_a_sloppy_second_detection_does_not_stretch_a_good_one():
    found = [(0, 20, 10, 64, 18, 0.9, 1), (0, 20, 10, 64, 23, 0.1, 1), (1, 48, 10, 100, 18, 0.8, 1)]
    assert (20, 10, 100, 18, 0.9, 1) in as_rows(merge(found, row_of_tiles(0, 48), (64, 112)))


def test_the_border_of_the_film_cuts_no_flaw():
    found = [(0, 0, 10, 20, 18, 0.9, 1), (0, 15, 10, 40, 18, 0.8, 1)]
    assert len(merge(found, row_of_tiles(0), (64, 64))) == 2


def test_boxes_are_cut_to_the_film_and_what_lies_in_the_padding_is_dropped():
    found = [(0, 30, 10, 60, 20, 0.9, 1), (0, 45, 10, 60, 20, 0.8, 1)]
    assert as_rows(merge(found, np.array([[0, 0, 40, 30]]), (30, 40))) == [(30, 10, 40, 20, 0.9, 1)]


def test_no_detections():
    merged = merge([], row_of_tiles(0, 48), (64, 112))
    assert len(merged) == 0
    assert merged.boxes_xyxy.shape == (0, 4)


@st.composite
def separate_flaws(draw):
    """Flaws on a grid of cells that none of them leaves, so that no two touch."""
    film_hw = draw(st.integers(20, 150)), draw(st.integers(20, 300))
    flaws = []
    if draw(st.booleans()):
        cells_hw = 10, draw(st.sampled_from([10, 30, 300]))
    else:
        cells_hw = draw(st.sampled_from([30, 150])), 15
    for y0 in range(0, film_hw[0] - 9, cells_hw[0]):
        for x0 in range(0, film_hw[1] - 9, cells_hw[1]):
            if draw(st.integers(0, 3)) == 0:
                y1, x1 = min(y0 + cells_hw[0], film_hw[0]), min(x0 + cells_hw[1], film_hw[1])
                flaws.append((x0 + draw(st.integers(0, 2)), y0 + draw(st.integers(0, 2)), x1 - 3, y1 - 3))
    return film_hw, np.array(flaws, dtype=np.float64).reshape(-1, 4)


@settings(deadline=None, max_examples=60)
@given(separate_flaws())
def test_flaws_seen_perfectly_in_every_tile_come_back_as_they_are(film_and_flaws):
    film_hw, flaws = film_and_flaws
    tiles = plan_tiles(film_hw, TILE_PX, OVERLAP_PX)
    labels = [1 + index % 2 for index in range(len(flaws))]
    scores = np.linspace(0.9, 0.1, len(flaws))
    merged = merge(see_in_tiles(flaws, labels, tiles, scores), tiles, film_hw)
    np.testing.assert_allclose(merged.boxes_xyxy, flaws)
    np.testing.assert_allclose(merged.scores, scores, rtol=1e-6)
    assert merged.labels.tolist() == labels


@st.composite
def any_detections(draw):
    film_hw = draw(st.integers(30, 150)), draw(st.integers(30, 200))
    tiles = plan_tiles(film_hw, TILE_PX, OVERLAP_PX)
    found = []
    for _ in range(draw(st.integers(0, 25))):
        index = draw(st.integers(0, len(tiles) - 1))
        x0, y0, x1, y1 = tiles[index].tolist()
        left, top = draw(st.integers(x0, x1 - 1)), draw(st.integers(y0, y1 - 1))
        right, bottom = draw(st.integers(left + 1, x1)), draw(st.integers(top + 1, y1))
        score = draw(st.sampled_from([0.25, 0.5, 0.75]))
        found.append((index, left, top, right, bottom, score, draw(st.integers(1, 2))))
    return film_hw, tiles, found


@settings(deadline=None, max_examples=60)
@given(any_detections(), st.randoms(use_true_random=False), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_the_order_of_tiles_and_detections_does_not_matter(film, random, merge_iou):
    film_hw, tiles, found = film
    expected = as_rows(merge(found, tiles, film_hw, merge_iou))
    new_place = list(range(len(tiles)))
    random.shuffle(new_place)
    shuffled_tiles = np.empty_like(tiles)
    shuffled_tiles[new_place] = tiles
    shuffled = [(new_place[index], *rest) for index, *rest in found]
    random.shuffle(shuffled)
    assert as_rows(merge(shuffled, shuffled_tiles, film_hw, merge_iou)) == expected


@settings(deadline=None, max_examples=60)
@given(any_detections())
def test_the_best_detection_of_every_class_survives_inside_the_film(film):
    film_hw, tiles, found = film
    merged = merge(found, tiles, film_hw)
    for label in (1, 2):
        best = max((row[5] for row in found if row[6] == label), default=0)
        assert merged.scores[merged.labels == label].max(initial=0) == best
    height, width = film_hw
    np.testing.assert_array_equal(merged.boxes_xyxy, boxes.clip(merged.boxes_xyxy, (0, 0, width, height)))
    assert (np.diff(merged.scores) <= 0).all()


@settings(deadline=None, max_examples=60)
@given(any_detections())
def test_overlapping_pairs_are_those_that_a_look_at_all_pairs_finds(film):
    _, _, found = film
    rows = np.array(found, dtype=np.float64).reshape(-1, 7)
    film_boxes, labels = rows[:, 1:5], rows[:, 6].astype(np.int64)
    first, second = _overlapping_pairs(film_boxes, labels)
    overlap = (boxes.intersections(film_boxes, film_boxes) > 0) & (labels[:, None] == labels)
    expected = {(i, j) for i, j in zip(*np.nonzero(np.triu(overlap, k=1)), strict=True)}
    assert {(min(pair), max(pair)) for pair in zip(first, second, strict=True)} == expected
    assert len(first) == len(expected)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.data.tiling import boxes_in_tile, cut_tile, plan_tiles, share_out_boxes

image_hws = st.tuples(st.integers(1, 400), st.integers(1, 400))
overlaps = st.integers(0, 31)


@st.composite
def films_with_box(draw):
    height, width = draw(st.tuples(st.integers(1, 120), st.integers(1, 120)))  # the tests look at every tile
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return (height, width), np.array([[x0, y0, x1, y1]], dtype=np.float32)


@given(image_hw=image_hws, overlap=overlaps)
def test_plan_tiles_covers_every_pixel(image_hw, overlap):
    seen = np.zeros(image_hw, dtype=bool)
    for x0, y0, x1, y1 in plan_tiles(image_hw, tile_px=32, overlap_px=overlap):
        seen[y0:y1, x0:x1] = True
    assert seen.all()


@given(image_hw=image_hws, overlap=overlaps)
def test_tiles_lie_in_the_image_and_have_full_size_where_it_allows(image_hw, overlap):
    tiles = plan_tiles(image_hw, tile_px=32, overlap_px=overlap)
    height, width = image_hw
    assert (tiles[:, :2] >= 0).all()
    assert (tiles[:, 2:] <= [width, height]).all()
    assert (tiles[:, 2:] - tiles[:, :2] == [min(width, 32), min(height, 32)]).all()


@given(length=st.integers(33, 400), overlap=overlaps)
def test_plan_tiles_takes_the_fewest_tiles_with_the_asked_overlap(length, overlap):
    tiles = plan_tiles((32, length), tile_px=32, overlap_px=overlap)
    assert (tiles[:-1, 2] - tiles[1:, 0] >= overlap).all()
    fewer = len(tiles) - 1
    assert fewer * 32 - (fewer - 1) * overlap < length


def test_tiles_come_in_reading_order():
    tiles = plan_tiles((10, 10), tile_px=6, overlap_px=2)
    assert tiles.tolist() == [[0, 0, 6, 6], [4, 0, 10, 6], [0, 4, 6, 10], [4, 4, 10, 10]]


@pytest.mark.parametrize(("image_hw", "overlap"), [((0, 5), 0), ((5, 0), 0), ((5, 5), 32), ((5, 5), -1)])
def test_plan_tiles_refuses_what_cannot_be_tiled(image_hw, overlap):
    with pytest.raises(ValueError, match="px"):
        plan_tiles(image_hw, tile_px=32, overlap_px=overlap)


@given(film=films_with_box(), overlap=overlaps)
def test_a_flaw_no_larger_than_the_overlap_lies_whole_in_a_tile(film, overlap):
    image_hw, boxes = film
    boxes[:, 2:] = np.minimum(boxes[:, 2:], boxes[:, :2] + max(overlap, 1))
    round_trips = []
    for tile in plan_tiles(image_hw, tile_px=32, overlap_px=overlap):
        kept, in_tile = boxes_in_tile(boxes, tile, min_visible_share=1.0)
        round_trips += [in_tile[0] + [tile[0], tile[1], tile[0], tile[1]] for _ in kept]
    assert round_trips
    for box in round_trips:
        np.testing.assert_array_equal(box, boxes[0])


@given(film=films_with_box(), share=st.floats(0.01, 1))
def test_boxes_in_a_tile_are_what_is_visible_of_them(film, share):
    image_hw, boxes = film
    for tile in plan_tiles(image_hw, tile_px=32, overlap_px=8):
        kept, in_tile = boxes_in_tile(boxes, tile, share)
        film_mask = np.zeros(image_hw, dtype=np.uint8)
        x0, y0, x1, y1 = boxes[0].astype(int)
        film_mask[y0:y1, x0:x1] = 1
        pixels = cut_tile(film_mask, tile, 32)[: tile[3] - tile[1], : tile[2] - tile[0]]
        possible = min(x1 - x0, 32, image_hw[1]) * min(y1 - y0, 32, image_hw[0])
        assert len(kept) == (pixels.sum() > 0 and pixels.sum() >= share * possible)
        for left, top, right, bottom in in_tile.astype(int):
            assert pixels[top:bottom, left:right].all()
            assert pixels[top:bottom, left:right].sum() == pixels.sum()


def test_a_slice_of_a_flaw_longer_than_a_tile_counts():
    long_flaw = np.array([[0.0, 10.0, 1000.0, 14.0]])
    kept, in_tile = boxes_in_tile(long_flaw, np.array([500, 0, 532, 32]), min_visible_share=0.9)
    assert kept.tolist() == [0]
    assert in_tile.tolist() == [[0, 10, 32, 14]]


def test_a_corner_of_a_flaw_does_not_count():
    kept, in_tile = boxes_in_tile(np.array([[28.0, 28.0, 48.0, 48.0]]), np.array([0, 0, 32, 32]), min_visible_share=0.3)
    assert kept.size == 0
    assert in_tile.shape == (0, 4)


def test_less_than_a_pixel_counts_only_where_the_flaw_is_no_larger():
    boxes = np.array([[31.5, 0.0, 60.0, 20.0], [10.2, 10.2, 10.8, 10.8]])
    kept, _ = boxes_in_tile(boxes, np.array([0, 0, 32, 32]), min_visible_share=0.001)
    assert kept.tolist() == [1]


def test_no_boxes_give_no_boxes():
    kept, in_tile = boxes_in_tile(np.zeros((0, 4)), np.array([0, 0, 32, 32]), min_visible_share=0.3)
    assert kept.size == 0
    assert in_tile.dtype == np.float32


def test_a_flaw_where_four_tiles_meet_is_in_the_one_that_shows_most_of_it():
    tiles = plan_tiles((64, 64), tile_px=32, overlap_px=0)
    centred, shifted, plain = [28.0, 28.0, 36.0, 36.0], [27.0, 29.0, 36.0, 38.0], [40.0, 2.0, 44.0, 6.0]
    shares = share_out_boxes(np.array([centred, shifted, plain]), tiles, min_visible_share=0.5)
    assert [kept.tolist() for kept, _ in shares] == [[0], [2], [1], []]
    assert [boxes.tolist() for _, boxes in shares] == [[[28, 28, 32, 32]], [[8, 2, 12, 6]], [[27, 0, 32, 6]], []]


@given(film=films_with_box(), overlap=overlaps, share=st.floats(0.01, 1))
def test_no_flaw_is_in_no_tile(film, overlap, share):
    image_hw, boxes = film
    tiles = plan_tiles(image_hw, tile_px=32, overlap_px=overlap)
    shares = share_out_boxes(boxes, tiles, share)
    assert sum(len(kept) for kept, _ in shares) >= 1
    for tile, (kept, in_tile) in zip(tiles, shares, strict=True):
        fair, fair_boxes = boxes_in_tile(boxes, tile, share)
        assert set(fair) <= set(kept)
        if len(fair):
            np.testing.assert_array_equal(in_tile, fair_boxes)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_small_film_is_continued_by_its_last_pixels(dtype):
    film = np.array([[1, 2], [3, 4]], dtype=dtype)
    tile = cut_tile(film, np.array([0, 0, 2, 2]), tile_px=3)
    assert tile.dtype == dtype
    assert tile.tolist() == [[1, 2, 2], [3, 4, 4], [3, 4, 4]]


def test_a_tile_holds_the_film_exactly():
    film = np.random.default_rng(0).integers(0, 65536, (70, 50), dtype=np.uint16)
    for x0, y0, x1, y1 in plan_tiles(film.shape, tile_px=32, overlap_px=5):
        np.testing.assert_array_equal(cut_tile(film, np.array([x0, y0, x1, y1]), 32), film[y0:y1, x0:x1])

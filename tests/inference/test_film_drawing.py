import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds import boxes
from defects_in_welds.inference.detections import Detections
from defects_in_welds.inference.film_drawing import draw_indications, enlargement, place_labels
from defects_in_welds.radiograph import Radiograph


def draw(pixels, found_xyxy, names=("gas pore",), bit_depth=8):
    count = len(found_xyxy)
    found = Detections(
        np.array(found_xyxy, dtype=np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        1 + np.arange(count) % len(names),
    )
    return draw_indications(Radiograph(pixels, bit_depth, None, "film.tif"), found, names)


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_grey_levels_fill_the_screen_whatever_the_bit_depth(bit_depth, dtype):
    highest = 2**bit_depth - 1
    pixels = np.linspace(0.3 * highest, 0.5 * highest, 40_000).reshape(200, 200).astype(dtype)
    picture = draw(pixels, [], bit_depth=bit_depth)
    assert (picture.dtype, picture.shape) == (np.uint8, (600, 600, 3))
    assert (picture.min(), picture.max()) == (0, 255)
    assert (np.diff(picture[:, 100, 0].astype(int)) >= 0).all()


def test_nothing_is_drawn_on_an_indication_while_there_is_room():
    pixels = np.full((300, 500), 100, dtype=np.uint8)
    found = [(200, 100, 230, 120), (200.5, 150.2, 203.1, 220.7), (0, 0, 30, 20), (470, 280, 500, 300)]
    picture = draw(pixels, found)
    for x0, y0, x1, y1 in np.array(found) * enlargement(pixels.shape):
        inside = picture[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        assert (inside == inside[0, 0]).all()
    assert (picture != picture[150, 10]).any(axis=2).sum() > 1000


def test_a_name_in_any_script_is_written():
    pixels = np.full((100, 300), 100, dtype=np.uint8)
    box = [(150, 50, 170, 70)]
    latin, cyrillic, han = (draw(pixels, box, (name,)) for name in ("pore", "пора", "气孔"))
    assert (latin != cyrillic).any()
    assert (cyrillic != han).any()


def test_a_film_smaller_than_its_label_is_drawn():
    picture = draw(np.zeros((5, 8), dtype=np.uint8), [(1, 1, 4, 4)])
    assert picture.shape[0] > 5 * enlargement((5, 8))
    assert picture.shape[1:] == (8 * enlargement((5, 8)), 3)


@pytest.mark.parametrize(
    ("film_hw", "factor"),
    [((128, 768), 3), ((768, 128), 3), ((16, 16), 8), ((100, 3000), 1), ((600, 900), 1), ((1024, 15360), 1)],
)
def test_small_films_are_enlarged_for_the_eye(film_hw, factor):
    assert enlargement(film_hw) == factor


def test_an_enlarged_film_keeps_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 200), dtype=np.uint8)
    picture = draw(pixels, [])
    factor = enlargement(pixels.shape)
    blocks = picture.reshape(100, factor, 200, factor, 3)
    assert (blocks == blocks[:, :1, :, :1, :1]).all()


def test_classes_are_named_below_the_film_once_each():
    pixels = np.full((300, 500), 100, dtype=np.uint8)
    height = 300 * enlargement(pixels.shape)
    assert len(draw(pixels, [])) == height
    box = (200, 100, 230, 120)
    one, again, other = (draw(pixels, [box] * count, ("gas pore", "crack")) for count in (1, 3, 2))
    name_of_one, names = one[height:], other[height:]
    assert len(name_of_one) > 10
    assert (again[height:] == names).all()
    assert (names != name_of_one).any()


def test_many_names_take_several_lines_below_a_narrow_film():
    pixels = np.full((900, 200), 100, dtype=np.uint8)
    names = [f"class number {index}" for index in range(6)]
    height = 900 * enlargement(pixels.shape)
    one, all_of_them = (draw(pixels, [(100, 100, 110, 110)] * count, names) for count in (1, 6))
    assert len(all_of_them) - height >= 3 * (len(one) - height)


@given(
    st.lists(st.tuples(*[st.integers(0, 300)] * 2, *[st.integers(1, 60)] * 2), max_size=12),
    st.tuples(st.integers(20, 300), st.integers(90, 400)),
)
def test_labels_lie_inside_the_film(found, film_hw):
    frames = np.array([(x, y, x + width, y + height) for x, y, width, height in found], dtype=np.int64).reshape(-1, 4)
    for x, y in place_labels(frames, [(14, 80)] * len(frames), film_hw):
        assert 0 <= x <= film_hw[1] - 80
        assert 0 <= y <= film_hw[0] - 14


def test_labels_of_neighbours_keep_apart():
    frames = np.array([(100 + 12 * i, 100, 110 + 12 * i, 120) for i in range(4)])
    corners = np.array(place_labels(frames, [(14, 80)] * 4, (300, 400)))
    labels = np.hstack([corners, corners + np.array([80, 14])])
    assert np.triu(boxes.intersections(labels, labels), k=1).sum() == 0
    assert boxes.intersections(labels, frames).sum() == 0

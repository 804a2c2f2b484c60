from dataclasses import replace

import cv2
import numpy as np
import pytest
from films import make_film
from known_project import write_store

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.grey_levels import percentile_window, window_level
from defects_in_welds.evaluation.film_pictures import FILM_PICTURE_PX, STYLES, assemble_film, draw_crop, draw_film
from defects_in_welds.evaluation.matching import match_film

GREY = 90


def decode(jpeg):
    """RGB pixels."""
    return cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)


def colours_near(picture, x, y, reach=3):
    """How far the pixels around a place are from grey, at most."""
    near = picture[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].reshape(-1, 3)
    return (near.max(axis=1) - near.min(axis=1)).max()


def draw(flaws, found, image_hw=(100, 200)):
    film = make_film(flaws, found, image_hw=image_hw)
    return draw_film(np.full(image_hw, GREY, np.uint8), film, match_film(film.truth, film.detections))


def test_a_film_is_put_together_from_its_tiles(tmp_path):
    store = write_store(tmp_path / "store", ("a.png", Split.TEST, ()))
    film = np.random.default_rng(0).integers(1000, 3000, (64, 100), dtype=np.uint16)
    np.testing.assert_array_equal(assemble_film(store, 0), window_level(film, *percentile_window(film)))


def test_a_resampled_film_is_shown_in_the_size_of_its_file(tmp_path, monkeypatch):
    store = write_store(tmp_path / "store", ("a.png", Split.TEST, ()))
    shown = assemble_film(store, 0)
    (record,) = store.manifest.films
    films = (replace(record, source_height=128, source_width=201),)
    monkeypatch.setattr(store, "manifest", replace(store.manifest, films=films))
    large = assemble_film(store, 0)
    assert large.shape == (128, 201)
    small = cv2.resize(large, (100, 64), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), shown.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("image_hw", "picture_hw"), [((500, 5000), (160, 1600)), ((5000, 500), (1600, 160))])
def test_a_long_film_is_scaled_to_the_page(image_hw, picture_hw):
    picture = decode(draw([], [], image_hw=image_hw))
    assert picture.shape[:2] == picture_hw
    assert max(picture.shape) <= FILM_PICTURE_PX
    assert abs(picture - GREY).max() <= 3


@pytest.mark.parametrize("image_hw", [(20, 40000), (8, 60000), (40000, 20)])
def test_a_film_that_the_scale_would_make_thinner_than_a_pixel_is_stretched(image_hw):
    height, width = image_hw
    film = make_film([(0, 0, width, height, 1, False)], [], image_hw=image_hw)
    matches = match_film(film.truth, film.detections)
    pixels = np.full(image_hw, GREY, np.uint8)
    for jpeg in (draw_film(pixels, film, matches), draw_crop(pixels, film.truth.boxes_xyxy[0], film, matches)):
        picture = decode(jpeg)
        assert 20 <= min(picture.shape[:2]) < max(picture.shape[:2]) <= FILM_PICTURE_PX
        assert colours_near(picture, 2, 2) > 60


@pytest.mark.parametrize(
    ("flaws", "found"),
    [
        ([(50, 20, 90, 60, 1, False)], []),
        ([(50, 20, 90, 60, 1, False)], [(50, 20, 90, 60, 1, 0.9)]),
        ([], [(50, 20, 90, 60, 1, 0.9)]),
    ],
)
def test_boxes_are_drawn_in_colour_where_they_lie(flaws, found):
    picture = decode(draw(flaws, found))
    # The small film is drawn at twice its size.
    assert picture.shape[:2] == (200, 400)
    assert colours_near(picture, 100, 80) > 60
    assert colours_near(picture, 180, 80) > 60
    assert colours_near(picture, 140, 80) < 20


def test_a_crop_shows_the_surroundings_at_full_resolution_or_larger():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 3000), dtype=np.uint8)
    film = make_film([(1500, 100, 1520, 110, 1, False)], [], image_hw=(300, 3000))
    picture = decode(draw_crop(pixels, film.truth.boxes_xyxy[0], film, match_film(film.truth, film.detections)))
    height, width = picture.shape[:2]
    assert width / height == pytest.approx(116 / 106, abs=0.01)
    assert width >= 116
    assert colours_near(picture, round(48 / 116 * width), height // 2, reach=6) > 60


def test_kinds_of_boxes_can_be_told_apart_without_colour():
    lines = {(style.dashes, style.width_px) for style in STYLES.values()}
    assert len(lines) == len(STYLES)

from base64 import b64decode
from dataclasses import replace

import cv2
import numpy as np
import pytest
from films import make_film
from known_project import CLASSES, write_store

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.grey_levels import percentile_window, window_level
from defects_in_welds.evaluation.matching import match
from defects_in_welds.evaluation.report.film_pictures import (
    MOST_PICTURE_PX,
    STYLES,
    assemble_film,
    boxes_to_draw,
    draw_crop,
    draw_film,
)

GREY = 90


def boxes_of(flaws, found, image_hw=(100, 200)):
    return boxes_to_draw(match([make_film(flaws, found, image_hw=image_hw)], CLASSES, "iou", 0.5), 0.5)


def decode(picture):
    head, data = picture.url.split(",")
    assert head == "data:image/jpeg;base64"
    pixels = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (picture.height_px, picture.width_px)
    return pixels.astype(int)


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


@pytest.mark.parametrize("image_hw", [(500, 5000), (5000, 500), (20, 40000), (40000, 20)])
def test_a_long_film_is_scaled_down_but_stays_to_be_seen(image_hw):
    picture = draw_film(np.full(image_hw, GREY, np.uint8), boxes_of([], [], image_hw))
    pixels = decode(picture)
    assert max(pixels.shape) == MOST_PICTURE_PX
    assert min(pixels.shape) >= 20
    assert picture.view_xywh == (0, 0, *image_hw[::-1])
    assert picture.scale == pytest.approx(MOST_PICTURE_PX / max(image_hw))
    assert abs(pixels - GREY).max() <= 1


def test_every_kind_of_box_has_its_place_name_and_layer():
    flaws = [
        (0, 0, 10, 10, 1, False),
        (20, 0, 30, 10, 1, False),
        (40, 0, 50, 10, 1, False),
        (60, 0, 70, 10, 2, True),
    ]
    found = [(0, 0, 10, 10, 1, 0.9), (20, 0, 30, 10, 2, 0.8), (90, 0, 99, 10, 1, 0.7), (90, 50, 99, 60, 1, 0.4)]
    boxes = boxes_of(flaws, found)
    assert boxes["kind"].tolist() == ["difficult", "found", "hit", "false_call", "false_call", "misnamed", "missed"]
    texts = boxes.set_index("x0")["text"]
    assert texts[40] == "known flaw that was missed: crack"
    assert texts[90] == "false call: crack, score 0.70"
    picture = draw_film(np.full((100, 200), GREY, np.uint8), boxes)
    assert [(box.kind, box.x, box.width) for box in picture.boxes][-1] == ("missed", 40, 10)


def test_the_picture_itself_has_no_boxes_burnt_in():
    pixels = decode(draw_film(np.full((100, 200), GREY, np.uint8), boxes_of([(50, 20, 90, 60, 1, False)], [])))
    assert abs(pixels - GREY).max() <= 1


def test_a_crop_shows_the_surroundings_at_full_resolution():
    rng = np.random.default_rng(0)
    film = cv2.blur(rng.integers(0, 256, (300, 3000), dtype=np.uint8), (5, 5))
    boxes = boxes_of([(1500, 100, 1520, 110, 1, False), (10, 10, 20, 20, 1, False)], [], (300, 3000))
    picture = draw_crop(film, (1500, 100, 1520, 110), boxes)
    assert picture.view_xywh == (1452, 52, 116, 106)
    assert (picture.scale, len(picture.boxes)) == (1, 1)
    assert abs(decode(picture) - film[52:158, 1452:1568].astype(int)).max() <= 12


def test_a_crop_ends_where_the_film_does():
    picture = draw_crop(np.full((50, 60), GREY, np.uint8), (0, 0, 10, 10), boxes_of([], []))
    assert picture.view_xywh == (0, 0, 58, 50)


def test_kinds_of_boxes_can_be_told_apart_without_colour():
    lines = {(style.dashes, style.width_px) for style in STYLES.values()}
    assert len(lines) == len(STYLES)

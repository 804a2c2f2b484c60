import csv
import json
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile

from defects_in_welds.data import preparation
from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.preview import choose_tiles
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.params import ParamsError, load_params

TILE = 64


@pytest.fixture(autouse=True)
def small_preview(monkeypatch):
    monkeypatch.setattr("defects_in_welds.data.preview._DPI", 15)


def tiny(**prepare):
    params = load_params()
    return replace(params, prepare=replace(params.prepare, **{"img_size": TILE, "overlap_px": 16} | prepare))


def edit_truth(data, change):
    path = data / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def add_box_outside(content):
    content["annotations"].append({"id": 99, "image_id": 0, "category_id": 1, "bbox": [500, 5, 9, 9]})


def read_checks(path):
    with path.open() as file:
        return [(row["kind"], row["path"]) for row in csv.DictReader(file)]


def test_16_bit_grey_levels_reach_the_store_untouched(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8)
    store = prepare_dataset(tiny(), data, tmp_path / "out")
    assert len(store.manifest.films) == 8
    for index, tile in enumerate(store.manifest.tiles):
        film = tifffile.imread(data / store.film_of(index).name)
        x0, y0, x1, y1 = tile.xyxy
        assert store.pixels(index).dtype == np.uint16
        np.testing.assert_array_equal(store.pixels(index), film[y0:y1, x0:x1])


def test_tiles_show_the_flaws_of_their_film(tmp_path, write_films):
    store = prepare_dataset(tiny(), write_films(tmp_path / "data", 8), tmp_path / "out")
    seen = set()
    for index, tile in enumerate(store.manifest.tiles):
        for (x0, y0, x1, y1), label in zip(tile.boxes_xyxy.astype(int), tile.labels, strict=True):
            assert (store.pixels(index)[y0:y1, x0:x1] > 2**15).all()
            film = store.film_of(index)
            assert store.manifest.defect_classes[label - 1] == film.annotations[0].defect_class
            seen.add(film.name)
    assert seen == {film.name for film in store.manifest.films if film.annotations}
    assert len(seen) == 6
    assert store.manifest.defect_classes == ("pore", "crack")


def test_a_flaw_where_four_tiles_meet_is_in_a_tile_of_the_store(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6, image_hw=(128, 128))
    edit_truth(data, lambda content: content["annotations"][0].update(bbox=[60, 60, 8, 8]))
    store = prepare_dataset(tiny(overlap_px=0, min_visible_share=0.5), data, tmp_path / "out")
    assert [store.manifest.tiles[index].boxes_xyxy.tolist() for index in store.film_tiles(0)] == [
        [[60, 60, 64, 64]],
        [],
        [],
        [],
    ]


def test_difficult_annotations_stay_flagged(tmp_path, write_films):
    store = prepare_dataset(tiny(), write_films(tmp_path / "data", 8), tmp_path / "out")
    flags = {store.film_of(i).name: bool(t.difficult[0]) for i, t in enumerate(store.manifest.tiles) if t.labels.size}
    assert [name for name, flag in flags.items() if flag] == ["images/film_06.tiff"]


def test_films_keep_what_is_known_of_them(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8)
    edit_truth(data, lambda content: content["images"][0].update(pixel_pitch_mm=0.05))
    film, other = prepare_dataset(tiny(), data, tmp_path / "out").manifest.films[:2]
    assert (film.height, film.width, film.bit_depth, film.weld) == (96, 150, 16, "weld 0")
    assert (film.pixel_pitch_mm, other.pixel_pitch_mm) == (0.05, None)
    named = prepare_dataset(tiny(pixel_pitch_mm=0.2), data, tmp_path / "out")
    assert {film.pixel_pitch_mm for film in named.manifest.films} == {0.2}


def test_without_values_neither_grey_levels_nor_sizes_change(tmp_path, write_films):
    manifest = prepare_dataset(tiny(), write_films(tmp_path / "data", 6), tmp_path / "out").manifest
    assert (manifest.resample_pitch_mm, manifest.background_mm) == (None, None)
    film = manifest.films[0]
    assert (film.source_height, film.source_width, film.source_pixel_pitch_mm) == (film.height, film.width, None)


def test_films_are_brought_to_one_pitch_with_their_boxes(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    edit_truth(data, lambda content: [image.update(pixel_pitch_mm=0.05) for image in content["images"][1:]])
    edit_truth(data, lambda content: content["images"][0].update(pixel_pitch_mm=0.1))
    plain = prepare_dataset(tiny(), data, tmp_path / "plain").manifest
    store = prepare_dataset(tiny(resample_pitch_mm=0.1), data, tmp_path / "out")
    manifest = store.manifest
    assert manifest.resample_pitch_mm == 0.1
    assert {film.pixel_pitch_mm for film in manifest.films} == {0.1}
    assert [(film.height, film.width, film.bit_depth) for film in manifest.films[:2]] == [(96, 150, 16), (48, 75, 16)]
    assert [film.source_pixel_pitch_mm for film in manifest.films[:2]] == [0.1, 0.05]
    for before, after, scale in zip(plain.films, manifest.films, [1] + [0.5] * 5, strict=True):
        assert (after.source_height, after.source_width) == (before.height, before.width) == (96, 150)
        boxes, rescaled = ([one.box_xyxy for one in film.annotations] for film in (before, after))
        np.testing.assert_allclose(np.array(rescaled), np.array(boxes) * scale, rtol=1e-12)
    np.testing.assert_array_equal(store.pixels(0), tifffile.imread(data / plain.films[0].name)[:TILE, :TILE])
    for index, tile in enumerate(manifest.tiles):
        for x0, y0, x1, y1 in tile.boxes_xyxy:
            seen = store.pixels(index)[int(np.ceil(y0)) : int(y1), int(np.ceil(x0)) : int(x1)]
            assert (seen > 2**15).all()


def test_the_background_is_that_of_the_film_and_not_of_its_tiles(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    values = {"pixel_pitch_mm": 0.05, "background_mm": 2.0}
    films = []
    for name, overlap_px in (("a", 16), ("b", 40)):
        store = prepare_dataset(tiny(overlap_px=overlap_px, **values), data, tmp_path / name)
        assert (store.manifest.background_mm, store.manifest.films[0].bit_depth) == (2.0, 16)
        pixels = np.zeros((96, 150), dtype=np.uint16)
        for index in store.film_tiles(0):
            x0, y0, x1, y1 = store.manifest.tiles[index].xyxy
            pixels[y0:y1, x0:x1] = store.pixels(index)[: y1 - y0, : x1 - x0]
        films.append(pixels)
    np.testing.assert_array_equal(*films)
    assert 2**15 - 2000 < np.median(films[0]) < 2**15 + 2000


@pytest.mark.parametrize("on_finding", ["fail", "drop", "keep"])
def test_a_pitch_that_is_needed_and_unknown_stops_the_stage(tmp_path, write_films, on_finding):
    data = write_films(tmp_path / "data", 6)
    with pytest.raises(ParamsError, match=r"film_00\.tiff does not say its pixel pitch; set prepare\.pixel_pitch_mm"):
        prepare_dataset(tiny(background_mm=2.0, on_finding=on_finding), data, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_flaw_that_the_pitch_is_too_coarse_for_is_a_finding(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    edit_truth(data, lambda content: content["annotations"][0].update(bbox=[20, 20, 30, 3]))
    values = {"pixel_pitch_mm": 0.05, "resample_pitch_mm": 0.4}
    with pytest.raises(DataError, match=r"1 empty_box; .* less than 0\.5 px at prepare\.resample_pitch_mm=0\.4;"):
        prepare_dataset(tiny(**values), data, tmp_path / "out")
    dropped, kept = (prepare_dataset(tiny(on_finding=on, **values), data, tmp_path / on) for on in ("drop", "keep"))
    assert len(dropped.manifest.films) == 5
    assert [len(film.annotations) for film in kept.manifest.films] == [0, 1, 1, 0, 1, 1]


def test_films_of_both_depths_lie_side_by_side(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8)
    shallow = (tifffile.imread(data / "images/film_00.tiff") >> 8).astype(np.uint8)
    tifffile.imwrite(data / "images/film_00.tiff", shallow)
    store = prepare_dataset(tiny(), data, tmp_path / "out")
    assert [tile.dtype for tile in store.manifest.tiles][:7] == ["uint8"] * 6 + ["uint16"]
    np.testing.assert_array_equal(store.pixels(0), shallow[:TILE, :TILE])


def test_a_film_smaller_than_a_tile_is_continued(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6, image_hw=(40, 50))
    store = prepare_dataset(tiny(), data, tmp_path / "out")
    assert store.manifest.tiles[0].xyxy == (0, 0, 50, 40)
    tile = store.pixels(0)
    assert (tile[:, 50:] == tile[:, 49:50]).all()
    assert (tile[40:] == tile[39]).all()


def test_polarity_and_bit_depth_are_those_asked_for(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    for path in (data / "images").iterdir():
        tifffile.imwrite(path, tifffile.imread(path) >> 4)
    store = prepare_dataset(tiny(bit_depth=12, invert_polarity=True), data, tmp_path / "out")
    film = tifffile.imread(data / "images/film_00.tiff")
    assert store.manifest.films[0].bit_depth == 12
    np.testing.assert_array_equal(store.pixels(0), 4095 - film[:TILE, :TILE])
    assert store.unit_pixels(0).max() <= 1


def test_a_hidden_bit_depth_is_found_before_it_spoils_the_scale(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    for path in (data / "images").iterdir():
        tifffile.imwrite(path, tifffile.imread(path) >> 4)
    with pytest.raises(DataError, match=r"1 hidden_bit_depth; .* set prepare\.bit_depth=12;"):
        prepare_dataset(tiny(), data, tmp_path / "out")
    prepare_dataset(tiny(on_finding="keep"), data, tmp_path / "out")
    assert read_checks(tmp_path / "out/checks.csv") == [("hidden_bit_depth", "images/film_00.tiff")]


def test_grey_statistics_are_those_of_the_training_tiles(tmp_path, write_films):
    store = prepare_dataset(tiny(), write_films(tmp_path / "data", 8), tmp_path / "out")
    tiles = np.stack([store.unit_pixels(index) for index in store.tile_indices(Split.TRAIN)]).astype(np.float64)
    assert store.manifest.grey_mean == pytest.approx(tiles.mean(), rel=1e-6)
    assert store.manifest.grey_std == pytest.approx(tiles.std(), rel=1e-6)


def test_films_without_contrast_have_a_spread_that_can_be_divided_by(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    for i, path in enumerate(sorted((data / "images").iterdir())):
        tifffile.imwrite(path, np.full((96, 150), 10000, dtype=np.uint16), description=str(i))
    store = prepare_dataset(tiny(), data, tmp_path / "out")
    assert store.manifest.grey_std == 1 / 255


def test_two_runs_give_the_same_bytes(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8)
    for name in ("a", "b"):
        prepare_dataset(tiny(), data, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["checks.csv", "manifest.json", "preview.png", "tiles_uint16.npy"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_manifest_names_no_folder_of_this_computer(tmp_path, write_films):
    prepare_dataset(tiny(), write_films(tmp_path / "data", 6), tmp_path / "out")
    assert str(tmp_path) not in (tmp_path / "out/manifest.json").read_text()


def test_the_flag_for_augmentation_is_recorded_and_seen_in_the_preview(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    stores = [prepare_dataset(tiny(augmentations=flag), data, tmp_path / str(flag)) for flag in (True, False)]
    assert [store.manifest.augmentations for store in stores] == [True, False]
    changed, plain = (cv2.imread(str(tmp_path / str(flag) / "preview.png")) for flag in (True, False))
    assert changed.shape == plain.shape
    assert (changed != plain).mean() > 0.1


def test_the_preview_shows_each_class_in_turn(tmp_path, write_films):
    store = prepare_dataset(tiny(), write_films(tmp_path / "data", 24), tmp_path / "out")
    chosen = choose_tiles(store, 4, seed=0)
    assert sorted(int(label) for index in chosen for label in store.manifest.tiles[index].labels) == [1, 1, 2, 2]


def test_a_failing_stage_leaves_the_old_store_and_a_table_of_all_findings(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8)
    prepare_dataset(tiny(), data, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    edit_truth(data, add_box_outside)
    (data / "images/film_05.tiff").write_bytes(b"II*\0 cut short")

    with pytest.raises(DataError, match=r"1 box_outside_image, 1 unreadable_image; .*checks\.csv") as caught:
        prepare_dataset(tiny(), data, tmp_path / "out")

    assert "\n" not in str(caught.value)
    assert str(tmp_path / "checks.csv") in str(caught.value)
    assert {kind for kind, _ in read_checks(tmp_path / "checks.csv")} == {"box_outside_image", "unreadable_image"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checks.csv", "data", "out"]


def test_a_success_removes_the_table_of_an_earlier_failure(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8)
    edit_truth(data, add_box_outside)
    with pytest.raises(DataError):
        prepare_dataset(tiny(), data, tmp_path / "out")
    prepare_dataset(tiny(on_finding="drop"), data, tmp_path / "out")
    assert not (tmp_path / "checks.csv").exists()
    assert read_checks(tmp_path / "out/checks.csv") == [("box_outside_image", "annotations.json")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bbox": [500, 5, 9, 9]},
        {"bbox": [5, 5, 0, 9]},
        {"bbox": [20, 5, -9, 9]},
        {"bbox": [20, 5, 9]},
        {"category_id": 7},
    ],
    ids=["outside", "empty", "inverted", "broken", "unknown class"],
)
def test_drop_leaves_out_the_film_that_lacks_an_annotation(tmp_path, write_films, wrong):
    annotation = {"id": 99, "image_id": 5, "category_id": 1, "bbox": [5, 5, 9, 9]} | wrong
    data = write_films(tmp_path / "data", 8)
    edit_truth(data, lambda content: content["annotations"].append(annotation))
    dropped, kept = (prepare_dataset(tiny(on_finding=what), data, tmp_path / what) for what in ("drop", "keep"))
    names = [f"images/film_{i:02}.tiff" for i in range(8)]
    assert [film.name for film in kept.manifest.films] == names
    assert [film.name for film in dropped.manifest.films] == names[:5] + names[6:]
    with (tmp_path / "drop/checks.csv").open() as file:
        assert [row["action"].partition(";")[0] for row in csv.DictReader(file)] == ["image left out"]


def test_a_repeated_annotation_costs_no_film(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    edit_truth(data, lambda content: content["annotations"].append(content["annotations"][0] | {"id": 99}))
    films = prepare_dataset(tiny(on_finding="drop"), data, tmp_path / "out").manifest.films
    assert [len(film.annotations) for film in films] == [1, 1, 1, 0, 1, 1]
    assert read_checks(tmp_path / "out/checks.csv") == [("repeated_annotation", "annotations.json")]


def test_an_unreadable_film_is_left_out(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8)
    (data / "images/film_05.tiff").write_bytes(b"II*\0 cut short")
    store = prepare_dataset(tiny(on_finding="drop"), data, tmp_path / "out")
    assert len(store.manifest.films) == 7
    assert read_checks(tmp_path / "out/checks.csv") == [("unreadable_image", "images/film_05.tiff")]


def test_unreadable_films_are_named_before_the_lack_of_welds_that_they_cause(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    for name in ("film_00.tiff", "film_01.tiff"):
        (data / "images" / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match="2 unreadable_image"):
        prepare_dataset(tiny(), data, tmp_path / "out")
    with pytest.raises(DataError, match="2 weld"):
        prepare_dataset(tiny(on_finding="drop"), data, tmp_path / "out")


def copy_with_noise(data, source, target):
    pixels = tifffile.imread(data / source).astype(np.int64)
    noise = np.random.default_rng(0).integers(-50, 50, pixels.shape)
    tifffile.imwrite(data / target, np.clip(pixels + noise, 0, 65535).astype(np.uint16))


def test_films_that_look_the_same_across_splits_are_found_and_dropped(tmp_path, write_films):
    data = write_films(tmp_path / "data", 8, splits=("train", "val", "test", "train"))
    copy_with_noise(data, "images/film_00.tiff", "images/film_02.tiff")
    (data / "images/film_05.tiff").write_bytes((data / "images/film_04.tiff").read_bytes())
    with pytest.raises(DataError, match="1 duplicated_image, 1 near_duplicate_across_splits"):
        prepare_dataset(tiny(), data, tmp_path / "out")
    assert len(prepare_dataset(tiny(on_finding="keep"), data, tmp_path / "kept").manifest.films) == 8

    store = prepare_dataset(tiny(on_finding="drop"), data, tmp_path / "out")
    names = [film.name for film in store.manifest.films]
    assert names == [f"images/film_0{i}.tiff" for i in (1, 2, 3, 5, 6, 7)]
    for index, tile in enumerate(store.manifest.tiles):
        x0, y0, x1, y1 = tile.xyxy
        film = tifffile.imread(data / store.film_of(index).name)
        np.testing.assert_array_equal(store.pixels(index), film[y0:y1, x0:x1])


def test_nothing_to_train_on_is_an_error(tmp_path, write_films):
    data = write_films(tmp_path / "data", 4, splits=("val", "test"))
    with pytest.raises(DataError, match="no film is left to train on"):
        prepare_dataset(tiny(), data, tmp_path / "out")


def test_memory_does_not_grow_with_the_films(tmp_path, write_films, monkeypatch):
    monkeypatch.setattr(preparation, "draw_preview", lambda *_: None)  # takes what its twelve tiles take
    params = tiny(img_size=256)
    prepare_dataset(params, write_films(tmp_path / "data_0", 5), tmp_path / "out_0")  # what is loaded once
    peaks = []
    for films in (5, 20):
        data = write_films(tmp_path / f"data_{films}", films, image_hw=(500, 800))
        tracemalloc.start()
        prepare_dataset(params, data, tmp_path / "out")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    bytes_of_a_film = 500 * 800 * 2
    assert peaks[1] - peaks[0] < bytes_of_a_film / 2


def test_the_counts_are_logged(tmp_path, write_films, caplog):
    caplog.set_level("INFO")
    data = write_films(tmp_path / "data", 8, splits=("train", "val", "test", "train"))
    edit_truth(data, add_box_outside)
    prepare_dataset(tiny(on_finding="drop"), data, tmp_path / "out")
    assert "read 8 films, " in caplog.text
    assert "train: 3 films, 18 tiles" in caplog.text
    assert "pore 1, crack 0" in caplog.text
    assert "findings: box_outside_image 1; see" in caplog.text


def test_the_store_is_the_one_that_is_opened_later(tmp_path, write_films):
    store = prepare_dataset(tiny(), write_films(tmp_path / "data", 6), tmp_path / "out")
    assert TensorStore.open(tmp_path / "out").manifest.data_sha256 == store.manifest.data_sha256
    assert store.path == tmp_path / "out"

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.tensor_store import (
    FilmAnnotation,
    FilmRecord,
    Manifest,
    StoreWriter,
    TensorStore,
    TileRecord,
)

SIDE = 8


def make_tiles():
    rng = np.random.default_rng(3)
    shallow = rng.integers(0, 256, (2, SIDE, SIDE), dtype=np.uint8)
    deep = rng.integers(0, 65536, (1, SIDE, SIDE), dtype=np.uint16)
    return [shallow[0], deep[0], shallow[1]]


def write_store(path, tiles, complete=True):
    annotation = FilmAnnotation((1.5, 2.0, 4.25, 6.1), "crack", difficult=True)
    films = tuple(
        FilmRecord(
            f"films/{i}.png",
            "ab" * 32,
            split,
            f"weld {i}",
            SIDE,
            SIDE,
            tile.dtype.itemsize * 8,
            pitch,
            truths,
            9,
            8,
            0.04,
        )
        for i, (tile, split, pitch, truths) in enumerate(
            zip(tiles, Split, (0.05, None, None), ((annotation,), (), ()), strict=True)
        )
    )
    with StoreWriter(path, SIDE) as writer:
        records = []
        for index, tile in enumerate(tiles):
            dtype, row = writer.append(tile)
            boxes = np.array([a.box_xyxy for a in films[index].annotations], dtype=np.float32).reshape(-1, 4)
            labels, difficult = np.ones(len(boxes), dtype=np.int64), np.ones(len(boxes), dtype=np.bool_)
            records.append(TileRecord(index, (0, 0, SIDE, SIDE), dtype, row, boxes, labels, difficult))
        manifest = Manifest(SIDE, 2, 0.3, True, ("crack",), 0.25, 0.125, films, tuple(records), 0.05, 3.0)
        if complete:
            writer.complete(manifest)
    return manifest


def test_what_is_written_is_read(tmp_path):
    tiles = make_tiles()
    manifest = write_store(tmp_path / "store", tiles)

    store = TensorStore.open(tmp_path / "store")

    for index, tile in enumerate(tiles):
        assert store.pixels(index).dtype == tile.dtype
        np.testing.assert_array_equal(store.pixels(index), tile)
    read = store.manifest
    assert read.films == manifest.films
    assert (read.img_size, read.overlap_px, read.min_visible_share, read.augmentations) == (SIDE, 2, 0.3, True)
    assert (read.resample_pitch_mm, read.background_mm) == (0.05, 3.0)
    assert (read.defect_classes, read.grey_mean, read.grey_std) == (("crack",), 0.25, 0.125)
    assert read.data_sha256 == manifest.data_sha256
    for ours, theirs in zip(read.tiles, manifest.tiles, strict=True):
        assert (ours.film, ours.xyxy, ours.dtype, ours.row) == (theirs.film, theirs.xyxy, theirs.dtype, theirs.row)
        for name in ("boxes_xyxy", "labels", "difficult"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == getattr(theirs, name).dtype


def test_tiles_are_found_by_split_and_film(tmp_path):
    write_store(tmp_path / "store", make_tiles())
    store = TensorStore.open(tmp_path / "store")
    assert [store.tile_indices(split) for split in Split] == [[0], [1], [2]]
    assert store.film_tiles(1) == [1]
    assert store.film_of(2).name == "films/2.png"


def test_tiles_are_mapped_and_read_only(tmp_path):
    write_store(tmp_path / "store", make_tiles())
    pixels = TensorStore.open(tmp_path / "store").pixels(0)
    assert isinstance(pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 1


def test_unit_pixels_use_the_full_scale_of_the_film(tmp_path):
    tiles = make_tiles()
    write_store(tmp_path / "store", tiles)
    store = TensorStore.open(tmp_path / "store")
    np.testing.assert_allclose(store.unit_pixels(0), tiles[0] / 255, rtol=1e-6)
    np.testing.assert_allclose(store.unit_pixels(1), tiles[1] / 65535, rtol=1e-6)


def test_a_spawned_process_maps_the_files_anew(tmp_path):
    tiles = make_tiles()
    write_store(tmp_path / "store", tiles)
    store = TensorStore.open(tmp_path / "store")
    message = pickle.dumps(store)
    assert len(message) < 1000
    np.testing.assert_array_equal(pickle.loads(message).pixels(1), tiles[1])  # noqa: S301 - our own bytes


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_store(tmp_path / name, make_tiles())
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["manifest.json", "tiles_uint16.npy", "tiles_uint8.npy"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_arrays_are_plain_npy_files(tmp_path):
    tiles = make_tiles()
    write_store(tmp_path / "store", tiles)
    np.testing.assert_array_equal(np.load(tmp_path / "store/tiles_uint8.npy"), [tiles[0], tiles[2]])


def test_the_data_hash_follows_the_data_alone(tmp_path):
    manifest = write_store(tmp_path / "store", make_tiles())
    assert replace(manifest, overlap_px=0, tiles=()).data_sha256 == manifest.data_sha256
    moved = replace(manifest.films[0], split=Split.TEST)
    assert replace(manifest, films=(moved, *manifest.films[1:])).data_sha256 != manifest.data_sha256


def test_a_new_store_takes_the_place_of_the_old(tmp_path):
    write_store(tmp_path / "store", make_tiles())
    tiles = [255 - tile.astype(np.uint8) for tile in make_tiles()]
    write_store(tmp_path / "store", tiles)
    np.testing.assert_array_equal(TensorStore.open(tmp_path / "store").pixels(1), tiles[1])
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_failure_leaves_the_old_store(tmp_path):
    write_store(tmp_path / "store", make_tiles())
    before = (tmp_path / "store/manifest.json").read_bytes()

    def interrupted_write():
        with StoreWriter(tmp_path / "store", SIDE) as writer:
            writer.append(make_tiles()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_write()
    assert (tmp_path / "store/manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_the_remains_of_a_killed_run_do_not_disturb(tmp_path):
    remains = tmp_path / ".store.partial"
    remains.mkdir()
    (remains / "tiles_uint8.npy").write_bytes(b"half")
    write_store(tmp_path / "store", make_tiles())
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_missing_store_names_the_remedy(tmp_path):
    with pytest.raises(DataError, match="no prepared data; run `dvc repro prepare`"):
        TensorStore.open(tmp_path / "store")


def break_manifest(folder):
    (folder / "manifest.json").write_text("{")


def drop_key(folder):
    content = json.loads((folder / "manifest.json").read_bytes())
    del content["tiles"][0]["labels"]
    (folder / "manifest.json").write_text(json.dumps(content))


def drop_key_of_annotation(folder, key):
    content = json.loads((folder / "manifest.json").read_bytes())
    del next(film for film in content["films"] if film["annotations"])["annotations"][0][key]
    (folder / "manifest.json").write_text(json.dumps(content))


def drop_box(folder):
    drop_key_of_annotation(folder, "box_xyxy")


def drop_measures(folder):
    drop_key_of_annotation(folder, "measures")


def other_version(folder):
    content = json.loads((folder / "manifest.json").read_bytes())
    for film in content["films"]:
        for annotation in film["annotations"]:
            annotation["of another version"] = 1
    (folder / "manifest.json").write_text(json.dumps(content | {"format_version": 0}))


def cut_array(folder):
    array = folder / "tiles_uint8.npy"
    array.write_bytes(array.read_bytes()[:-1])


def remove_array(folder):
    (folder / "tiles_uint16.npy").unlink()


def shrink_array(folder):
    np.save(folder / "tiles_uint8.npy", np.zeros((1, SIDE, SIDE), dtype=np.uint8))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (break_manifest, "manifest.json: not a readable manifest"),
        (drop_key, "manifest.json: broken manifest .*labels"),
        (drop_box, "manifest.json: broken manifest .*box_xyxy"),
        (drop_measures, "manifest.json: broken manifest .*measures"),
        (other_version, "prepared by another version"),
        (cut_array, "tiles_uint8.npy: not a readable array"),
        (remove_array, "tiles_uint16.npy: not a readable array"),
        (shrink_array, r"tiles_uint8.npy: holds uint8 \(1, 8, 8\), the manifest needs uint8 \(2 or more"),
    ],
)
def test_a_broken_store_says_what_is_broken_and_what_to_do(tmp_path, damage, says):
    write_store(tmp_path / "store", make_tiles())
    damage(tmp_path / "store")
    with pytest.raises(DataError, match=f"{says}.*dvc repro prepare") as caught:
        TensorStore.open(tmp_path / "store")
    assert "\n" not in str(caught.value)

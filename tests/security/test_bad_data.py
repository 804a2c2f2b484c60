"""Kinds of bad data in every format that could hold them: a result that is right, or one error; never nonsense."""

import json
import random

import numpy as np
import pytest
from benchmark_modules import load_benchmark
from reader_errors import error_of

from defects_in_welds.data.annotation import DataError, FindingKind
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.image_reading import read_radiograph
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.params import load_params

fuzzed = load_benchmark("fuzzed_readers")
IMAGES = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "TIFF": ".tif", "DICOM": ".dcm"}


# --- Coordinates --------------------------------------------------------------------------------------------------


def yolo(value):
    return {"data.yaml": "names: [pore]", "a.txt": f"0 {value} .5 .3 .3\n0 .5 .5 .2 .2\n"}


def coco(value):
    boxes = [[float(value), 5, 6, 6], [10, 6, 8, 8]]
    flaws = [{"id": number, "image_id": 1, "category_id": 1, "bbox": box} for number, box in enumerate(boxes)]
    content = {"images": [{"id": 1, "file_name": "a.bmp"}], "annotations": flaws}
    return {"truth.json": json.dumps(content | {"categories": [{"id": 1, "name": "pore"}]})}


def voc(value):
    edges = "<ymin>5</ymin><xmax>18</xmax><ymax>14</ymax>"
    boxes = (f"<bndbox><xmin>{left}</xmin>{edges}</bndbox>" for left in (value, 10))
    flaws = "".join(f"<object><name>pore</name>{box}</object>" for box in boxes)
    return {"a.xml": f"<annotation>{flaws}</annotation>"}


def gdxray(value):
    return {"ground_truth.txt": f"1 {value} 18 5 14\n1 10 18 6 14\n"}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e30", "-1e30", "1e308", "-7"])
@pytest.mark.parametrize("truth", [yolo, coco, voc, gdxray])
def test_no_impossible_coordinate_gets_into_the_store(tmp_path, truth, value):
    """Its box is told and left out, or cut to the film where that is asked for; the other box stays."""
    image = "a_1.bmp" if truth is gdxray else "a.bmp"
    for name, content in {image: fuzzed.picture(), **truth(value)}.items():
        fuzzed.write(tmp_path / "data" / name, content if isinstance(content, bytes) else content.encode())
    overrides = ["prepare.img_size=32", "prepare.overlap_px=8", "prepare.val_share=0", "prepare.test_share=0"]
    with pytest.raises(DataError, match=r"prepare\.on_finding"):
        prepare_dataset(load_params([*overrides, "prepare.on_finding=fail"]), tmp_path / "data", tmp_path / "out")
    store = prepare_dataset(load_params([*overrides, "prepare.on_finding=keep"]), tmp_path / "data", tmp_path / "out")
    (tile,) = store.manifest.tiles
    assert 1 <= len(tile.labels) <= 2
    assert (tile.boxes_xyxy >= 0).all()
    assert (tile.boxes_xyxy <= np.array([30, 20, 30, 20])).all()
    assert (tile.boxes_xyxy[:, 2:] > tile.boxes_xyxy[:, :2]).all()


def test_two_annotations_of_one_id_both_count(tmp_path):
    fuzzed.write(tmp_path / "a.bmp", fuzzed.picture())
    content = coco("2")["truth.json"].replace('"id": 0', '"id": 1')
    fuzzed.write(tmp_path / "truth.json", content.encode())
    (film,) = read_dataset(tmp_path).radiographs
    assert [found.line for found in film.annotations] == [1, 1]
    assert len({found.box_xyxy for found in film.annotations}) == 2


# --- Files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fuzzed.READERS)
def test_a_file_of_no_bytes_is_nothing_or_one_error(tmp_path, name):
    error = error_of(fuzzed.READERS[name].prepare(tmp_path), b"")
    assert len(error) < 3000
    assert error or name in ("YOLO labels", "run.json, metrics.json")  # defect-free; the reader keeps it to itself


@pytest.mark.parametrize("kind", IMAGES)
def test_a_flipped_bit_is_one_error_or_an_image_of_its_size(tmp_path, capfd, kind):
    """40 bits of each file, one at a time."""
    read = fuzzed.READERS[kind].prepare(tmp_path)
    dice = random.Random(7)
    errors = []
    for seed in fuzzed.READERS[kind].seeds():
        for _ in range(40):
            data = bytearray(seed)
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            errors.append(error_of(read, bytes(data)))  # which compares the size with that of the header
    assert 0 < max(map(len, errors)) < 3000
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", IMAGES.values())
@pytest.mark.parametrize("kind", IMAGES)
def test_a_film_with_another_extension_is_the_same_film(tmp_path, kind, suffix):
    data = fuzzed.READERS[kind].seeds()[0]
    expected, renamed = tmp_path / f"film{IMAGES[kind]}", tmp_path / f"renamed{suffix}"
    for path in (expected, renamed):
        path.write_bytes(data)
    np.testing.assert_array_equal(read_radiograph(renamed).pixels, read_radiograph(expected).pixels)


@pytest.mark.parametrize("suffix", IMAGES.values())
def test_a_text_that_is_named_as_a_film_is_told(tmp_path, suffix):
    for name, content in {"a.bmp": fuzzed.picture(), **yolo(0.5)}.items():
        fuzzed.write(tmp_path / name, content if isinstance(content, bytes) else content.encode())
    fuzzed.write(tmp_path / f"b{suffix}", b"Dear colleague, please find the films attached.\n")
    dataset = read_dataset(tmp_path)
    assert [film.name for film in dataset.radiographs] == ["a.bmp"]
    assert (FindingKind.UNREADABLE_IMAGE, f"b{suffix}") in [(found.kind, found.path) for found in dataset.findings]

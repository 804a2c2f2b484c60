import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from defects_in_welds.data.annotation import DataError, FindingKind, Split
from defects_in_welds.data.annotation_formats import coco


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((50, 100), dtype=np.uint8))


def image(number: int = 1, file_name: str = "a.png", **more: object) -> dict[str, object]:
    return {"id": number, "file_name": file_name, "width": 100, "height": 50, **more}


def annotation(number: int = 1, image_id: int = 1, **more: object) -> dict[str, object]:
    return {"id": number, "image_id": image_id, "category_id": 40, "bbox": [10, 5, 30.5, 20], **more}


def write(path: Path, **content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 40, "name": "pore"}, {"id": 7, "name": "crack"}]
    path.write_text(json.dumps({"images": [image()], "annotations": [], "categories": categories} | content))


def findings(root: Path) -> list[tuple[FindingKind, str, int | None]]:
    return [(finding.kind, finding.path, finding.line) for finding in coco.read(root).findings]


def test_annotations_and_the_fields_beyond_the_standard_are_read(tmp_path):
    write_image(tmp_path / "images/a.png")
    write_image(tmp_path / "images/b.png")
    write(
        tmp_path / "annotations.json",
        images=[image(9, "images/b.png"), image(5, "a.png", weld="w1", pixel_pitch_mm=0.05, split="valid")],
        annotations=[annotation(3, 5), annotation(4, 5, category_id=7, difficult=1), annotation(8, 5, iscrowd=1)],
    )
    dataset = coco.read(tmp_path)
    assert dataset.defect_classes == ("crack", "pore")
    assert dataset.findings == ()
    film, empty = dataset.radiographs
    assert (empty.name, empty.annotations, empty.split) == ("images/b.png", (), None)
    assert (film.name, film.split, film.weld, film.pixel_pitch_mm) == ("images/a.png", Split.VAL, "w1", 0.05)
    assert [(found.defect_class, found.line, found.difficult) for found in film.annotations] == [
        ("pore", 3, False),
        ("crack", 4, True),
        ("pore", 8, True),
    ]
    assert film.annotations[0].box_xyxy == (10, 5, 40.5, 25)
    assert film.annotations[0].path == "annotations.json"


@pytest.mark.parametrize(
    ("json_path", "image_path", "split"),
    [
        ("annotations/instances_train2017.json", "train2017/a.png", Split.TRAIN),
        ("annotations/instances_val2017.json", "images/val2017/a.png", Split.VAL),
        ("valid/_annotations.coco.json", "valid/a.png", Split.VAL),
        ("test.json", "test/a.png", Split.TEST),
        ("train.v2.json", "a.png", Split.TRAIN),
        ("validation-2.json", "a.png", Split.VAL),
        ("annotations/all.json", "images/a.png", None),
        ("test pieces/all.json", "test pieces/a.png", None),
        ("weld_test_plate.json", "a.png", None),
    ],
)
def test_images_and_splits_are_found_by_the_names_of_file_and_folder(tmp_path, json_path, image_path, split):
    write_image(tmp_path / image_path)
    write(tmp_path / json_path)
    (film,) = coco.read(tmp_path).radiographs
    assert (film.name, film.split) == (image_path, split)


def test_splits_with_the_same_file_names_stay_apart(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / split / "a.png")
        write(tmp_path / "annotations" / f"instances_{split}.json")
    dataset = coco.read(tmp_path)
    assert {film.name: film.split for film in dataset.radiographs} == {
        "train/a.png": Split.TRAIN,
        "val/a.png": Split.VAL,
    }
    assert dataset.findings == ()


def test_foreign_absolute_path_is_found_by_its_end(tmp_path):
    write_image(tmp_path / "images/a.png")
    write(tmp_path / "all.json", images=[image(1, "D:\\weld\\images\\a.png")])
    assert [film.name for film in coco.read(tmp_path).radiographs] == ["images/a.png"]


@pytest.mark.parametrize("file_name", ["../secret.png", "{above}/secret.png", "other/a.png", "", None])
def test_images_that_are_not_in_the_data_set_are_findings(tmp_path, file_name):
    root = tmp_path / "data"
    write_image(tmp_path / "secret.png")
    write_image(root / "a.png")
    named = file_name and file_name.format(above=tmp_path)
    write(root / "all.json", images=[image(), image(2, named)], annotations=[annotation(1, 2)])
    assert [film.name for film in coco.read(root).radiographs] == ["a.png"]
    assert findings(root) == [(FindingKind.LABEL_WITHOUT_IMAGE, "all.json", 2)]


def test_unlisted_images_are_told(tmp_path):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    write(tmp_path / "all.json")
    assert findings(tmp_path) == [(FindingKind.IGNORED_FILE, "b.png", None)]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"bbox": [1, 2, 3]}, FindingKind.BROKEN_LABEL),
        ({"bbox": None}, FindingKind.BROKEN_LABEL),
        ({"bbox": [1, 2, "x", 4]}, FindingKind.BROKEN_LABEL),
        ({"bbox": [1, 2, float("nan"), 4]}, FindingKind.BROKEN_LABEL),
        ({"bbox": [1, 2, float("inf"), 4]}, FindingKind.BROKEN_LABEL),
        ({"category_id": 3}, FindingKind.UNKNOWN_CLASS),
        ({"category_id": [40]}, FindingKind.UNKNOWN_CLASS),
        ({"image_id": 3}, FindingKind.LABEL_WITHOUT_IMAGE),
        ({"image_id": {}}, FindingKind.LABEL_WITHOUT_IMAGE),
    ],
)
def test_broken_annotation_is_a_finding_and_the_others_stay(tmp_path, wrong, kind):
    write_image(tmp_path / "a.png")
    write(tmp_path / "all.json", annotations=[annotation(1), annotation(2, **wrong)])
    assert findings(tmp_path) == [(kind, "all.json", 2)]
    assert [found.line for found in coco.read(tmp_path).radiographs[0].annotations] == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 1},  # used twice
        {"id": "2"},
        {"width": 99},
        {"width": "wide"},
        {"split": "weekend"},
        {"pixel_pitch_mm": -1},
        {"pixel_pitch_mm": "fine"},
    ],
)
def test_broken_image_is_left_out_with_a_finding(tmp_path, wrong):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    write(tmp_path / "all.json", images=[image(), image(2, "b.png") | wrong])
    dataset = coco.read(tmp_path)
    assert [film.name for film in dataset.radiographs] == ["a.png"]
    assert dataset.findings[0].kind is FindingKind.BROKEN_LABEL
    assert dataset.findings[0].path == "all.json"


def test_image_listed_twice_is_a_finding_and_stays_in_the_judging_split(tmp_path):
    write_image(tmp_path / "a.png")
    write(tmp_path / "train.json")
    write(tmp_path / "val.json")
    dataset = coco.read(tmp_path)
    assert [film.split for film in dataset.radiographs] == [Split.VAL]
    assert findings(tmp_path) == [(FindingKind.DUPLICATED_IMAGE, "a.png", None)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"images": [], "annotations": [],\n "categories": [}', r"all\.json:2: no valid JSON"),
        ('{"images": {}, "annotations": [], "categories": []}', "images must be a list of objects"),
        ('{"images": [], "annotations": [1], "categories": []}', "annotations must be a list of objects"),
        ('["images", "annotations", "categories"]', "images must be a list of objects"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "needs a whole id and a name"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "there twice",
        ),
        ('{"images": [], "annotations": [], "categories": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_file_is_an_error(tmp_path, content, reason):
    (tmp_path / "all.json").write_text(content)
    assert coco.recognises(tmp_path)
    with pytest.raises(DataError, match=reason):
        coco.read(tmp_path)


def test_other_json_is_not_recognised(tmp_path):
    (tmp_path / "settings.json").write_text('{"images": 3}')
    (tmp_path / "empty.json").touch()
    assert not coco.recognises(tmp_path)


@pytest.mark.parametrize("block_bytes", [1, 2, 30])
def test_a_file_is_recognised_wherever_its_blocks_end(tmp_path, block_bytes, monkeypatch):
    monkeypatch.setattr(coco, "_BLOCK_BYTES", block_bytes)
    write(tmp_path / "all.json")
    (tmp_path / "settings.json").write_text('{"images": 3, "categories": 4, "annotation": "s"}')
    assert coco._instance_files(tmp_path) == [tmp_path / "all.json"]


def test_what_nobody_reads_hides_nothing_that_is_read(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    write(
        tmp_path / "all.json",
        info={"id": 1, "image_id": 1},
        images=[image(1, weld={"number": 1}, scene={"weld": 3}), image(2, "b.png", weld={"number": 2})],
        annotations=[
            annotation(1, difficult={"by": "x"}, segmentation={"counts": "abc", "size": [1, 2]}),
            annotation(2, bbox={"left": 1}),
        ],
    )
    dataset = coco.read(tmp_path)
    assert [film.weld for film in dataset.radiographs] == ["{'number': 1}", "{'number': 2}"]
    assert [found.difficult for found in dataset.radiographs[0].annotations] == [True]
    assert [finding.message for finding in dataset.findings] == [
        "bbox: {'left': 1} where [left, top, width, height] is expected"
    ]

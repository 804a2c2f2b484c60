import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from defects_in_welds.data.annotation import DataError, FindingKind
from defects_in_welds.data.annotation_formats import FORMATS, read_dataset
from defects_in_welds.params import ParamsError


def write_yolo(root: Path) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    cv2.imwrite(str(root / "images/film_1.png"), np.zeros((50, 100), dtype=np.uint8))
    (root / "labels/film_1.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n")
    (root / "data.yaml").write_text("names: [pore, crack]\n")


def write_coco(root: Path) -> None:
    content = {"images": [{"id": 1, "file_name": "images/film_1.png"}], "annotations": []}
    (root / "all.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": "slag"}]}))


def write_voc(root: Path) -> None:
    (root / "film_1.xml").write_text(
        "<annotation><object><name>pore</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        "</object></annotation>"
    )


def write_gdxray(root: Path) -> None:
    (root / "images/ground_truth.txt").write_text("1 1 9 1 9\n")


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_recognised(tmp_path, name):
    write_yolo(tmp_path)
    if name != "yolo":
        (tmp_path / "data.yaml").unlink()
        (tmp_path / "labels/film_1.txt").unlink()
        globals()[f"write_{name}"](tmp_path)
    dataset = read_dataset(tmp_path)
    assert dataset.annotation_format == name
    assert [film.name for film in dataset.radiographs] == ["images/film_1.png"]


def test_several_formats_need_a_choice(tmp_path):
    write_yolo(tmp_path)
    write_coco(tmp_path)
    with pytest.raises(DataError, match=r"several formats \(yolo, coco\); set prepare.annotation_format to one"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, "coco").defect_classes == ("slag",)
    assert read_dataset(tmp_path, "yolo").defect_classes == ("pore", "crack")


def test_named_format_must_be_there(tmp_path):
    write_yolo(tmp_path)
    with pytest.raises(DataError, match=r"no voc annotations: .*correct prepare.annotation_format"):
        read_dataset(tmp_path, "voc")


def test_nothing_recognised_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.md").write_text("films will come")
    with pytest.raises(DataError, match=r"looked for data\.yaml.* \(yolo\), .* \(coco\), .* \(voc\), .* \(gdxray\)"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("content", ["missing", "empty", ".gitignore"])
def test_no_data_says_how_to_get_some(tmp_path, content):
    root = tmp_path / "data"
    if content != "missing":
        root.mkdir()
    if content == ".gitignore":
        (root / content).touch()
    with pytest.raises(DataError, match=r"no data; run `dvc pull`, or `python -m defects_in_welds simulate`"):
        read_dataset(root)


def test_annotations_without_any_image_are_an_error(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "images/film_1.png").unlink()
    with pytest.raises(DataError, match="no images that yolo annotations can be used with"):
        read_dataset(tmp_path)


def test_defect_free_films_alone_name_no_class(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "labels/film_1.txt").write_text("")
    with pytest.raises(DataError, match=r"name no class; name them in prepare\.classes"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, classes=["pore"]).defect_classes == ("pore",)


@pytest.mark.parametrize("name", ["all", "background", "missed"])
def test_a_class_that_tables_of_results_would_confuse_is_refused(tmp_path, name):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(f"names: [pore, {name}]\n")
    with pytest.raises(DataError, match=rf"a class is named '{name}', .*; rename it, or name the other cl"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, classes=["pore"]).defect_classes == ("pore",)


def test_where_every_annotation_file_is_broken_the_first_is_named(tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8), dtype=np.uint8))
    (tmp_path / "a.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"name no class.*; a\.xml: "):
        read_dataset(tmp_path, "voc")


def test_classes_order_and_restrict(tmp_path):
    write_yolo(tmp_path)
    assert read_dataset(tmp_path, classes=["crack", "pore"]).defect_classes == ("crack", "pore")
    dataset = read_dataset(tmp_path, classes=["crack"])
    assert dataset.defect_classes == ("crack",)
    assert [found.defect_class for found in dataset.radiographs[0].annotations] == ["crack"]
    (finding,) = dataset.findings
    assert (finding.kind, finding.path, finding.line) == (FindingKind.LEFT_OUT_CLASS, "labels/film_1.txt", 1)


NAMES_FOR = {"yolo": ["crack", "pore"], "coco": ["slag"], "voc": ["pore"], "gdxray": ["defect"]}


@pytest.mark.parametrize("name", FORMATS)
def test_a_misspelt_class_is_refused(tmp_path, name):
    write_yolo(tmp_path)
    if name != "yolo":
        globals()[f"write_{name}"](tmp_path)
    assert read_dataset(tmp_path, name, NAMES_FOR[name]).defect_classes == tuple(NAMES_FOR[name])
    for misspelt in (["Pore"], ["poer", *NAMES_FOR[name][1:]]):
        with pytest.raises(ParamsError, match=r"prepare\.classes holds .[Pp]o.*classes of the data set, ") as error:
            read_dataset(tmp_path, name, misspelt)
        assert all(repr(known) in str(error.value) for known in NAMES_FOR[name])


def test_a_listed_class_needs_no_flaw(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels/film_1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert read_dataset(tmp_path, "yolo", ["pore", "crack"]).defect_classes == ("pore", "crack")
    with pytest.raises(ParamsError, match=r"holds 'slag'; allowed: .*, 'pore', 'crack'$"):
        read_dataset(tmp_path, "yolo", ["pore", "crack", "slag"])


def test_where_no_list_names_the_classes_one_may_wait_for_its_first_flaw(tmp_path):
    write_yolo(tmp_path)
    write_voc(tmp_path)
    assert read_dataset(tmp_path, "voc", ["crack", "pore"]).defect_classes == ("crack", "pore")
    (tmp_path / "data.yaml").unlink()
    assert read_dataset(tmp_path, "yolo", ["class 0", "class 1", "class 2"]).defect_classes[2] == "class 2"
    with pytest.raises(ParamsError, match=r"holds 'class 2'; allowed: .*, 'class 0', 'class 1'$"):
        read_dataset(tmp_path, "yolo", ["class 0", "class 2"])


def test_an_image_whose_name_is_no_utf8_is_a_finding(tmp_path):
    write_yolo(tmp_path)
    for folder, suffix in (("images", ".png"), ("labels", ".txt")):
        content = (tmp_path / folder / f"film_1{suffix}").read_bytes()
        (tmp_path / folder / (os.fsdecode(b"naht_\xfc") + suffix)).write_bytes(content)
    dataset = read_dataset(tmp_path)
    assert [film.name for film in dataset.radiographs] == ["images/film_1.png"]
    (finding,) = dataset.findings
    assert (finding.kind, finding.message) == (FindingKind.UNREADABLE_IMAGE, "its name is not UTF-8; rename it")


def test_symlinked_images_are_read(tmp_path):
    write_yolo(tmp_path / "data")
    (tmp_path / "data/images/film_1.png").rename(tmp_path / "film.png")
    (tmp_path / "data/images/film_1.png").symlink_to(tmp_path / "film.png")
    assert [film.name for film in read_dataset(tmp_path / "data").radiographs] == ["images/film_1.png"]

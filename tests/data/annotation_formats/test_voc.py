from pathlib import Path

import cv2
import numpy as np
import pytest

from defects_in_welds.data.annotation import FindingKind, Split
from defects_in_welds.data.annotation_formats import voc


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((50, 100), dtype=np.uint8))


def box(name: str = "pore", corners: tuple[object, ...] = (11, 6, 40, 25), more: str = "") -> str:
    edges = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    corners_xml = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return f"<object>\n<name>{name}</name>{more}<bndbox>{corners_xml}</bndbox></object>\n"


def write_xml(path: Path, *objects: str, filename: str = "", size: tuple[object, object] = (100, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"<filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>\n"
    path.write_text(f"<annotation>\n{head}{''.join(objects)}</annotation>\n")


def findings(root: Path) -> list[tuple[FindingKind, str, int | None]]:
    return [(finding.kind, finding.path, finding.line) for finding in voc.read(root).findings]


def test_corners_counted_from_1_become_half_open_boxes(tmp_path):
    write_image(tmp_path / "a.png")
    write_xml(tmp_path / "a.xml", box(), box("crack", (1, 1, 100, 50.0), "<difficult>1</difficult>"))
    dataset = voc.read(tmp_path)
    assert dataset.defect_classes == ("crack", "pore")
    assert dataset.findings == ()
    pore, crack = dataset.radiographs[0].annotations
    assert (pore.box_xyxy, pore.path, pore.line, pore.difficult) == ((10, 5, 40, 25), "a.xml", 3, False)
    assert (crack.box_xyxy, crack.line, crack.difficult) == ((0, 0, 100, 50), 5, True)


@pytest.mark.parametrize(
    ("xml", "image", "split"),
    [
        ("Annotations/a.xml", "JPEGImages/a.png", None),
        ("ANNOTATIONS/a.xml", "IMAGES/a.png", None),
        ("train/annotations/a.xml", "train/images/a.png", Split.TRAIN),
        ("validation/a.xml", "validation/a.png", Split.VAL),
    ],
)
def test_images_are_found_beside_the_annotations(tmp_path, xml, image, split):
    write_image(tmp_path / image)
    write_xml(tmp_path / xml)
    (film,) = voc.read(tmp_path).radiographs
    assert (film.name, film.split) == (image, split)
    assert findings(tmp_path) == []


def test_the_nearest_of_images_with_one_name_is_meant(tmp_path):
    for split, name in {"train": "pore", "test": "crack"}.items():
        write_image(tmp_path / split / "images/a.png")
        write_xml(tmp_path / split / "labels/a.xml", box(name))
    films = voc.read(tmp_path).radiographs
    assert {film.name: film.annotations[0].defect_class for film in films} == {
        "train/images/a.png": "pore",
        "test/images/a.png": "crack",
    }


def test_filename_counts_where_the_names_differ_and_cannot_leave_the_folder(tmp_path):
    write_image(tmp_path / "data/a.png")
    write_image(tmp_path / "secret.png")
    write_xml(tmp_path / "data/1.xml", filename="C:\\films\\a.png")
    write_xml(tmp_path / "data/2.xml", filename="../secret.png")
    assert [film.name for film in voc.read(tmp_path / "data").radiographs] == ["a.png"]
    assert findings(tmp_path / "data") == [(FindingKind.LABEL_WITHOUT_IMAGE, "2.xml", None)]


def test_image_sets_give_the_splits(tmp_path):
    sets = tmp_path / "ImageSets/Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("a\nb\nc\n\n")
    (sets / "val.txt").write_text("b\ngone\n")
    for name in "abcd":
        write_image(tmp_path / f"JPEGImages/{name}.png")
        write_xml(tmp_path / f"Annotations/{name}.xml")
    assert {film.image_path.stem: film.split for film in voc.read(tmp_path).radiographs} == {
        "a": Split.TRAIN,
        "b": Split.VAL,
        "c": Split.TRAIN,
        "d": None,
    }
    assert findings(tmp_path) == [
        (FindingKind.LABEL_WITHOUT_IMAGE, "ImageSets/Main/val.txt", 2),
        (FindingKind.DUPLICATED_IMAGE, "ImageSets/Main/train.txt", 2),
    ]


def test_image_without_xml_is_defect_free_and_told(tmp_path):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    write_xml(tmp_path / "a.xml")
    assert [film.name for film in voc.read(tmp_path).radiographs] == ["a.png", "b.png"]
    assert findings(tmp_path) == [(FindingKind.IMAGE_WITHOUT_LABEL, "b.png", None)]


@pytest.mark.parametrize(
    "broken",
    [
        box("", (1, 1, 5, 5)),
        box("pore", ("x", 1, 5, 5)),
        box("pore", ("nan", 1, 5, 5)),
        "<object><name>a</name></object>",
    ],
    ids=["no name", "no number", "nan", "no box"],
)
def test_broken_object_is_a_finding_and_the_others_stay(tmp_path, broken):
    write_image(tmp_path / "a.png")
    write_xml(tmp_path / "a.xml", box(), broken)
    assert findings(tmp_path) == [(FindingKind.BROKEN_LABEL, "a.xml", 5)]
    assert voc.read(tmp_path).findings[0].film == "a.png"
    assert len(voc.read(tmp_path).radiographs[0].annotations) == 1


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("<annotation>\n<object>\n</annotation>", 3, "mismatched tag"),
        (
            '<!DOCTYPE annotation [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>',
            None,
            "has a DOCTYPE",
        ),
        ("<annotation><size><width>99</width><height>50</height></size></annotation>", None, "says 99x50 px"),
        ("<annotation><size><width>wide</width><height>50</height></size></annotation>", None, "'wide' is no number"),
    ],
)
def test_image_of_a_broken_file_is_left_out_for_it_is_not_defect_free(tmp_path, content, line, reason):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    (tmp_path / "a.xml").write_text(content)
    write_xml(tmp_path / "b.xml", size=(0, 0))  # some tools do not know the size
    dataset = voc.read(tmp_path)
    assert [film.name for film in dataset.radiographs] == ["b.png"]
    (finding,) = dataset.findings
    assert (finding.kind, finding.path, finding.line) == (FindingKind.BROKEN_LABEL, "a.xml", line)
    assert reason in finding.message


def test_second_file_for_an_image_is_a_finding(tmp_path):
    write_image(tmp_path / "a.png")
    write_xml(tmp_path / "a.xml", box())
    write_xml(tmp_path / "b.xml", box("crack"), filename="a.png")
    assert findings(tmp_path) == [(FindingKind.BROKEN_LABEL, "b.xml", None)]
    assert voc.read(tmp_path).findings[0].film == "a.png"
    assert voc.read(tmp_path).defect_classes == ("pore",)


def test_other_xml_is_told(tmp_path):
    write_image(tmp_path / "a.png")
    write_xml(tmp_path / "a.xml")
    (tmp_path / "settings.xml").write_text("<settings/>")
    assert findings(tmp_path) == [(FindingKind.IGNORED_FILE, "settings.xml", None)]


def test_only_annotations_are_recognised(tmp_path):
    (tmp_path / "settings.xml").write_text("<settings/>")
    assert not voc.recognises(tmp_path)
    write_xml(tmp_path / "a.xml")
    assert voc.recognises(tmp_path)


def test_masks_are_no_films(tmp_path):
    write_image(tmp_path / "JPEGImages/a.png")
    write_image(tmp_path / "SegmentationClass/a.png")
    write_xml(tmp_path / "Annotations/a.xml", box())
    assert [film.name for film in voc.read(tmp_path).radiographs] == ["JPEGImages/a.png"]
    assert findings(tmp_path) == [(FindingKind.IGNORED_FILE, "SegmentationClass/a.png", None)]

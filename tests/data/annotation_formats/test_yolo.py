from pathlib import Path

import cv2
import numpy as np
import pytest

from defects_in_welds.data.annotation import DataError, FindingKind, Split
from defects_in_welds.data.annotation_formats import yolo

NAMES = "names: [pore, crack]\n"


def write_film(path: Path, label: str | None = "", label_path: Path | None = None) -> None:
    """Write a film of 100x50 px and its label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((50, 100), dtype=np.uint8))
    if label is not None:
        label_path = label_path or Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        label_path.parent.mkdir(parents=True, exist_ok=True)
        label_path.write_text(label)


def splits(root: Path) -> dict[str, Split | None]:
    return {film.name: film.split for film in yolo.read(root).radiographs}


def findings(root: Path) -> list[tuple[FindingKind, str, int | None]]:
    return [(finding.kind, finding.path, finding.line) for finding in yolo.read(root).findings]


def test_lines_become_boxes_in_pixels_and_ids_become_names(tmp_path):
    (tmp_path / "data.yaml").write_text(NAMES)
    write_film(tmp_path / "train/images/a.png", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.1 0.1\n")
    dataset = yolo.read(tmp_path)
    assert dataset.defect_classes == ("pore", "crack")
    assert dataset.findings == ()
    (film,) = dataset.radiographs
    assert film.split is Split.TRAIN
    crack, pore = film.annotations
    assert (crack.defect_class, crack.path, crack.line) == ("crack", "train/labels/a.txt", 1)
    np.testing.assert_allclose(crack.box_xyxy, (40, 15, 60, 35))
    assert (pore.defect_class, pore.line) == ("pore", 3)
    np.testing.assert_allclose(pore.box_xyxy, (5, 2.5, 15, 7.5))


def test_polygon_becomes_its_bounding_box(tmp_path):
    write_film(tmp_path / "images/a.png", "0 0.1 0.2 0.5 0.2 0.3 0.8\n")
    (film,) = yolo.read(tmp_path).radiographs
    np.testing.assert_allclose(film.annotations[0].box_xyxy, (10, 10, 50, 40))


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 0.9",  # a confidence: a prediction, no truth
        "pore 0.5 0.5 0.2 0.2",
        "0 0.5 nan 0.2 0.2",
        "0 0.5 0.5 inf 0.2",
        "0.5 0.5 0.5 0.2 0.2",
        "-1 0.5 0.5 0.2 0.2",
        "\x00\x00",
    ],
)
def test_broken_line_is_a_finding_and_the_others_stay(tmp_path, line):
    write_film(tmp_path / "images/a.png", f"0 0.5 0.5 0.2 0.2\n{line}\n")
    assert findings(tmp_path) == [(FindingKind.BROKEN_LABEL, "labels/a.txt", 2)]
    assert yolo.read(tmp_path).findings[0].film == "images/a.png"
    assert len(yolo.read(tmp_path).radiographs[0].annotations) == 1


def test_class_without_a_name_is_a_finding(tmp_path):
    (tmp_path / "data.yaml").write_text(NAMES)
    write_film(tmp_path / "images/a.png", "2 0.5 0.5 0.2 0.2\n")
    assert findings(tmp_path) == [(FindingKind.UNKNOWN_CLASS, "labels/a.txt", 1)]
    assert yolo.read(tmp_path).findings[0].film == "images/a.png"
    assert yolo.read(tmp_path).radiographs[0].annotations == ()


def test_empty_label_is_a_defect_free_film_and_a_missing_one_is_told(tmp_path):
    write_film(tmp_path / "images/a.png", "")
    write_film(tmp_path / "images/b.png", None)
    write_film(tmp_path / "images/c.png", "0 0.5 0.5 0.2 0.2")
    (tmp_path / "images/c.png").unlink()
    assert [film.name for film in yolo.read(tmp_path).radiographs] == ["images/a.png", "images/b.png"]
    assert findings(tmp_path) == [
        (FindingKind.IMAGE_WITHOUT_LABEL, "images/b.png", None),
        (FindingKind.LABEL_WITHOUT_IMAGE, "labels/c.txt", None),
    ]


def test_unreadable_image_is_left_out_with_a_finding(tmp_path):
    write_film(tmp_path / "images/a.png", "0 0.5 0.5 0.2 0.2")
    write_film(tmp_path / "images/b.png", "0 0.5 0.5 0.2 0.2")
    (tmp_path / "images/a.png").write_bytes(b"no image")
    assert [film.name for film in yolo.read(tmp_path).radiographs] == ["images/b.png"]
    assert findings(tmp_path) == [(FindingKind.UNREADABLE_IMAGE, "images/a.png", None)]
    assert yolo.read(tmp_path).findings[0].message.startswith("is no PNG")


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train/images", "valid/images", "test/images"),
        ("../train/images", "../valid/images", "../test/images"),  # as Roboflow writes
        ("/content/weld/train/images", "/content/weld/valid/images", "/content/weld/test/images"),
        ("C:\\weld\\train\\images", "C:\\weld\\valid\\images", "C:\\weld\\test\\images"),
        ("/elsewhere/a", "/elsewhere/b", "/elsewhere/c"),  # nothing fits: the usual folders
        ("[train/images]", "valid", "./test/images/"),
    ],
)
def test_splits_are_found_whatever_computer_wrote_their_paths(tmp_path, train, val, test):
    (tmp_path / "data.yaml").write_text(f"train: {train}\nval: {val}\ntest: {test}\n{NAMES}")
    for folder in ("train", "valid", "test"):
        write_film(tmp_path / folder / "images/a.png")
    assert splits(tmp_path) == {
        "train/images/a.png": Split.TRAIN,
        "valid/images/a.png": Split.VAL,
        "test/images/a.png": Split.TEST,
    }


def test_absolute_paths_of_this_computer_and_a_base_path_are_found(tmp_path):
    (tmp_path / "data.yaml").write_text(
        f"path: ../datasets/weld\ntrain: images/train\nval: {tmp_path}/images/night\n{NAMES}"
    )
    write_film(tmp_path / "images/train/a.png")
    write_film(tmp_path / "images/night/b.png")
    assert splits(tmp_path) == {"images/train/a.png": Split.TRAIN, "images/night/b.png": Split.VAL}


def test_paths_never_leave_the_data_set(tmp_path):
    root = tmp_path / "data"
    write_film(tmp_path / "secret/images/b.png")
    write_film(root / "images/a.png")
    (root / "data.yaml").write_text(f"train: images\nval: ../secret/images/b.png\ntest: {tmp_path}/secret\n{NAMES}")
    assert set(splits(root)) == {"images/a.png"}
    assert findings(root) == [(FindingKind.IGNORED_FILE, "data.yaml", None)] * 2


def test_lists_of_images_are_splits(tmp_path):
    (tmp_path / "data.yaml").write_text(f"train: train.txt\nval: val.txt\n{NAMES}")
    (tmp_path / "train.txt").write_text("./images/a.png\n\n/content/weld/images/b.png\nimages/gone.png\n")
    (tmp_path / "val.txt").write_text("images/c.png\n")
    for name in "abc":
        write_film(tmp_path / f"images/{name}.png")
    assert splits(tmp_path) == {
        "images/a.png": Split.TRAIN,
        "images/b.png": Split.TRAIN,
        "images/c.png": Split.VAL,
    }
    assert findings(tmp_path) == [(FindingKind.LABEL_WITHOUT_IMAGE, "train.txt", 4)]


def test_image_in_two_splits_is_a_finding_and_stays_in_the_judging_one(tmp_path):
    (tmp_path / "data.yaml").write_text(f"train: images\nval: images/val\n{NAMES}")
    write_film(tmp_path / "images/a.png")
    write_film(tmp_path / "images/val/b.png")
    assert splits(tmp_path) == {"images/a.png": Split.TRAIN, "images/val/b.png": Split.VAL}
    assert findings(tmp_path) == [(FindingKind.DUPLICATED_IMAGE, "images/val/b.png", None)]


def test_plain_folders_need_no_yaml(tmp_path):
    write_film(tmp_path / "images/a.png", "3 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")
    dataset = yolo.read(tmp_path)
    assert dataset.defect_classes == ("class 1", "class 3")
    assert dataset.radiographs[0].split is None


def test_classes_txt_names_the_classes(tmp_path):
    write_film(tmp_path / "images/a.png", "1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "labels/classes.txt").write_text("pore\ncrack\n")
    dataset = yolo.read(tmp_path)
    assert dataset.defect_classes == ("pore", "crack")
    assert dataset.radiographs[0].annotations[0].defect_class == "crack"
    assert dataset.findings == ()


def test_lists_of_classes_that_contradict_each_other_are_refused(tmp_path):
    write_film(tmp_path / "train/images/a.png", "1 0.5 0.5 0.2 0.2\n")
    write_film(tmp_path / "valid/images/b.png", "1 0.5 0.5 0.2 0.2\n")
    first, second = (tmp_path / split / "labels/classes.txt" for split in ("train", "valid"))
    first.write_text("pore \r\ncrack\r\n")
    second.write_text("pore\ncrack\nslag\n")
    assert yolo.read(tmp_path).defect_classes == ("pore", "crack", "slag")
    second.write_text("crack\npore\n")
    with pytest.raises(DataError, match=r"valid/labels/classes\.txt:1: class 0 is 'crack', but 'pore' in another"):
        yolo.read(tmp_path)


def test_a_list_that_holds_a_class_twice_is_refused(tmp_path):
    write_film(tmp_path / "images/a.png", "1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "labels/classes.txt").write_text("pore\ncrack\npore\n")
    with pytest.raises(DataError, match=r"labels/classes\.txt: holds a name twice; correct it"):
        yolo.read(tmp_path)


def test_labels_may_lie_beside_their_images(tmp_path):
    (tmp_path / "data.yaml").write_text(f"train: films\n{NAMES}")
    write_film(tmp_path / "films/a.png", "0 0.5 0.5 0.2 0.2\n", tmp_path / "films/a.txt")
    (film,) = yolo.read(tmp_path).radiographs
    assert [annotation.path for annotation in film.annotations] == ["films/a.txt"]


def test_data_set_may_lie_in_a_subfolder(tmp_path):
    write_film(tmp_path / "weld/train/images/a.png")
    (tmp_path / "weld/data.yaml").write_text(f"train: train/images\n{NAMES}")
    assert yolo.recognises(tmp_path)
    assert splits(tmp_path) == {"weld/train/images/a.png": Split.TRAIN}


def test_names_may_be_a_mapping_with_gaps(tmp_path):
    (tmp_path / "data.yaml").write_text("names: {0: pore, 7: crack}\n")
    write_film(tmp_path / "images/a.png", "7 0.5 0.5 0.2 0.2\n")
    dataset = yolo.read(tmp_path)
    assert dataset.defect_classes == ("pore", "crack")
    assert dataset.radiographs[0].annotations[0].defect_class == "crack"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("names: [pore\n", r"data\.yaml:2: no valid YAML"),
        ("train images\n", "expected keys"),
        ("train: images\n", "names must list"),
        ("names: [pore, pore]\n", "twice"),
        ("names: {a: pore}\n", "class ids"),
        ("nc: 3\nnames: [pore, crack]\n", "nc is 3, but names holds 2"),
        ("names: !!python/object/apply:os.getcwd []\n", "no valid YAML"),
    ],
)
def test_broken_yaml_is_an_error(tmp_path, content, reason):
    (tmp_path / "data.yaml").write_text(content)
    write_film(tmp_path / "images/a.png")
    with pytest.raises(DataError, match=reason):
        yolo.read(tmp_path)


def test_two_data_sets_are_an_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.yaml").write_text(NAMES)
    with pytest.raises(DataError, match="several YOLO data sets"):
        yolo.recognises(tmp_path)


def test_other_folders_are_not_recognised(tmp_path):
    write_film(tmp_path / "images/a.png", None)
    (tmp_path / "notes.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert not yolo.recognises(tmp_path)


def test_images_outside_the_listed_splits_are_told(tmp_path):
    (tmp_path / "data.yaml").write_text(NAMES + "train: train/images\n")
    write_film(tmp_path / "train/images/a.png", "0 0.5 0.5 0.2 0.2")
    write_film(tmp_path / "extra/images/b.png", "0 0.5 0.5 0.2 0.2")
    assert findings(tmp_path) == [(FindingKind.IGNORED_FILE, "extra/images/b.png", None)]

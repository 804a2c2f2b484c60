from pathlib import Path

import cv2
import numpy as np
import pytest

from defects_in_welds.data.annotation import DataError, FindingKind
from defects_in_welds.data.annotation_formats import gdxray

ROW = "   1.0000000e+00   8.5000000e+00   2.3500000e+01   1.2150000e+02   1.3050000e+02\n"


def write_series(folder: Path, rows: str, numbers: tuple[int, ...] = (1,)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ground_truth.txt").write_text(rows)
    for number in numbers:
        cv2.imwrite(str(folder / f"W0001_{number:04d}.png"), np.zeros((9, 9), dtype=np.uint8))


def findings(root: Path) -> list[tuple[FindingKind, str, int | None]]:
    return [(finding.kind, finding.path, finding.line) for finding in gdxray.read(root).findings]


def test_rows_become_boxes_of_pixel_edges(tmp_path):
    write_series(tmp_path, ROW + "\n" + ROW.replace("8.5", "9.5"))
    dataset = gdxray.read(tmp_path)
    assert dataset.defect_classes == ("defect",)
    assert dataset.findings == ()
    (film,) = dataset.radiographs
    assert film.name == "W0001_0001.png"
    assert [found.box_xyxy for found in film.annotations] == [(8, 121, 23, 130), (9, 121, 23, 130)]
    assert [(found.defect_class, found.path, found.line) for found in film.annotations] == [
        ("defect", "ground_truth.txt", 1),
        ("defect", "ground_truth.txt", 3),
    ]


def test_several_series_are_read_and_folders_without_a_table_are_told(tmp_path):
    write_series(tmp_path / "W0001", ROW)
    write_series(tmp_path / "C0001", ROW)
    write_series(tmp_path / "W0002", "")
    (tmp_path / "W0002/ground_truth.txt").unlink()
    assert [film.name for film in gdxray.read(tmp_path).radiographs] == ["C0001/W0001_0001.png", "W0001/W0001_0001.png"]
    assert findings(tmp_path) == [(FindingKind.IGNORED_FILE, "W0002", None)]


def test_stray_table_is_told(tmp_path):
    write_series(tmp_path, ROW)
    (tmp_path / "ground_truth.txt;").write_text(ROW)
    assert findings(tmp_path) == [(FindingKind.IGNORED_FILE, "ground_truth.txt;", None)]


def test_images_without_rows_and_rows_without_images_are_findings(tmp_path):
    write_series(tmp_path, ROW + "7 1 2 3 4\n7 1 2 3 5\n", numbers=(1, 2))
    dataset = gdxray.read(tmp_path)
    assert [len(film.annotations) for film in dataset.radiographs] == [1, 0]
    assert findings(tmp_path) == [
        (FindingKind.IMAGE_WITHOUT_LABEL, "W0001_0002.png", None),
        (FindingKind.LABEL_WITHOUT_IMAGE, "ground_truth.txt", 2),
    ]


@pytest.mark.parametrize(
    ("row", "film"),
    [("2 3 4", "W0001_0002.png"), ("2,x,3,4,5", "W0001_0002.png"), ("2x 1 2 3 4", None), ("9 1 2 3", None)],
)
def test_a_broken_row_names_its_film_where_it_can(tmp_path, row, film):
    write_series(tmp_path, f"{ROW}{row}\n", numbers=(1, 2))
    assert [finding.film for finding in gdxray.read(tmp_path).findings if finding.line == 2] == [film]


@pytest.mark.parametrize("row", ["1 2 3 4", "1 2 3 4 5 6", "1 2 nan 4 5", "1.5 2 3 4 5", "one 2 3 4 5"])
def test_broken_row_is_a_finding_and_the_others_stay(tmp_path, row):
    write_series(tmp_path, f"{ROW}{row}\n")
    assert findings(tmp_path) == [(FindingKind.BROKEN_LABEL, "ground_truth.txt", 2)]
    assert len(gdxray.read(tmp_path).radiographs[0].annotations) == 1


def test_two_images_with_one_number_are_an_error(tmp_path):
    write_series(tmp_path, ROW)
    cv2.imwrite(str(tmp_path / "W0002_0001.png"), np.zeros((9, 9), dtype=np.uint8))
    with pytest.raises(DataError, match="has the number 1"):
        gdxray.read(tmp_path)


def test_recognised_by_the_table(tmp_path):
    assert not gdxray.recognises(tmp_path)
    write_series(tmp_path / "W0001", ROW)
    assert gdxray.recognises(tmp_path)

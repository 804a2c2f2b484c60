"""Every row of ``docs/errors.md`` is true: what is wrong, the command, its exit code and its error line."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from defects_in_welds.cli import COMMANDS
from defects_in_welds.command_line import run_command
from defects_in_welds.model.checkpoint import save_checkpoint
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.params import load_params

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
ROW = re.compile(
    r"^\| (?P<wrong>[^|]+) \| `python -m defects_in_welds (?P<command>[^`]+)` \| (?P<code>\d) \| `` (?P<line>.+) `` \|$"
)
TAIL = re.compile(r"^A line that ends in `…` goes on: `(?P<tail>.+)`$")

DATA = Path("data")
LABEL = DATA / "train/labels/film_2.txt"
IMAGE = DATA / "train/images/film_2.png"
SIDE_PX = 128


def read_page() -> list[dict[str, str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (tail,) = (found["tail"] for found in map(TAIL.match, lines) if found)
    rows = [found.groupdict() for found in map(ROW.match, lines) if found]
    return [row | {"line": row["line"].replace("…", tail)} for row in rows]


# --- what is wrong ------------------------------------------------------------------------------------------------


def write_films(*folders: Path) -> None:
    """Write four films a folder, each with its own pattern."""
    rng = np.random.default_rng(0)
    for folder in folders:
        folder.mkdir(parents=True)
        for film in range(1, 5):
            cv2.imwrite(str(folder / f"film_{film}.png"), rng.integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8))


def write_yolo() -> None:
    write_films(*(DATA / split / "images" for split in ("train", "valid", "test")))
    (DATA / "data.yaml").write_text("names: [pore, crack]\n")
    for image in DATA.rglob("*.png"):
        label = image.parents[1] / "labels" / f"{image.stem}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.25\n1 0.2 0.2 0.1 0.1\n")


def write_coco(box: list[float], broken_by: str = "") -> None:
    write_films(DATA / "images")
    images = [
        {"id": film, "file_name": f"images/film_{film}.png", "width": SIDE_PX, "height": SIDE_PX}
        for film in range(1, 5)
    ]
    annotations = [{"id": 5, "image_id": 2, "category_id": 1, "bbox": box}]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "pore"}]}
    (DATA / "annotations.json").write_text(json.dumps(truth) + broken_by)


def write_voc(xmax: str) -> None:
    write_films(DATA / "JPEGImages")
    (DATA / "Annotations").mkdir()
    for film, edge in ((1, "60"), (2, xmax)):
        (DATA / "Annotations" / f"film_{film}.xml").write_text(
            "<annotation>\n<object><name>pore</name>\n"
            f"<bndbox><xmin>40</xmin><ymin>40</ymin><xmax>{edge}</xmax><ymax>60</ymax></bndbox>\n"
            "</object>\n</annotation>\n"
        )


def write_gdxray(line: str) -> None:
    (DATA / "W0001").mkdir(parents=True)
    write_films(DATA / "films")
    for image in sorted((DATA / "films").iterdir()):
        image.rename(DATA / "W0001" / f"W0001_000{image.stem[-1]}.png")
    (DATA / "films").rmdir()
    (DATA / "W0001" / "ground_truth.txt").write_text(f"1 10 20 10 20\n{line}\n")


def with_label(text: str) -> Callable[[], None]:
    """Write a data set in which the second line of one label file is this."""

    def write() -> None:
        write_yolo()
        LABEL.write_text(f"0 0.5 0.5 0.25 0.25\n{text}\n")

    return write


def with_changed(change: Callable[[], object]) -> Callable[[], None]:
    """Write a data set and spoil it."""

    def write() -> None:
        write_yolo()
        change()

    return write


def hide_12_bits_in_16() -> None:
    for image in DATA.rglob("*.png"):
        cv2.imwrite(str(image), cv2.imread(str(image), cv2.IMREAD_UNCHANGED).astype(np.uint16) << 4)


def copy_film_lighter_into_validation() -> None:
    pixels = cv2.imread(str(IMAGE), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(DATA / "valid/images/film_9.png"), pixels // 2 + 100)
    (DATA / "valid/labels/film_9.txt").write_text("")


def leave_one_crack() -> None:
    for label in DATA.rglob("film_*.txt"):
        if label != LABEL:
            label.write_text("0 0.5 0.5 0.25 0.25\n")


def leave_one_film() -> None:
    for path in DATA.rglob("*.*"):
        if path.is_file() and path.parts[1:] not in {("train", "images", "film_2.png"), ("data.yaml",)}:
            path.unlink()


def train_at_a_pitch() -> None:
    """Write films, and a model that was trained on films of one pixel pitch."""
    write_yolo()
    model = replace(load_params().model, architecture="fasterrcnn_mobilenet_v3_large_320_fpn")
    spec = InputSpec(SIDE_PX, 0.5, 0.2, resample_pitch_mm=0.1)
    save_checkpoint(Path("artifacts/model/best.ckpt"), build_detector(model, ["pore"], spec), model, ["pore"], spec, {})


def prepare() -> None:
    write_yolo()
    run_command(COMMANDS, ["prepare"])


def break_export() -> None:
    write_yolo()
    Path("artifacts/exported").mkdir(parents=True)
    Path("artifacts/exported/exported_model.json").write_text("{")


def nothing() -> None:
    """The fault is in the command, or in an empty project."""


SCENARIOS: dict[str, Callable[[], None]] = {
    "there is no data": nothing,
    "images without any annotations": lambda: write_films(DATA),
    "annotations in two formats": with_changed(
        lambda: (DATA / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    ),
    "another format is named than the data has": write_yolo,
    "a line of a label file is broken": with_label("0 0.5 0.5 wide 0.1"),
    "an unknown class": with_label("2 0.5 0.5 0.1 0.1"),
    "a class that the parameters leave out": with_changed(leave_one_crack),
    "a class that the data does not have": write_yolo,
    "a box outside the image": with_label("0 0.95 0.5 0.25 0.1"),
    "an empty box": with_label("0 0.5 0.5 0 0.1"),
    "an inverted box": lambda: write_voc(xmax="20"),
    "an image that cannot be read": with_changed(lambda: IMAGE.write_bytes(IMAGE.read_bytes()[:2000])),
    "12-bit levels in 16-bit files": with_changed(hide_12_bits_in_16),
    "the same image twice": with_changed(lambda: shutil.copy(IMAGE, DATA / "train/images/film_9.png")),
    "nearly the same image in two splits": with_changed(copy_film_lighter_into_validation),
    "a label file without an image": with_changed(IMAGE.unlink),
    "an image without a label file": with_changed(LABEL.unlink),
    "a broken data.yaml": with_changed(lambda: (DATA / "data.yaml").write_text("train: images\nnames: [pore\n")),
    "data.yaml without class names": with_changed(lambda: (DATA / "data.yaml").write_text("train: images\n")),
    "a broken JSON file": lambda: write_coco([10, 10, 5, 5], broken_by="]]"),
    "a COCO box that is no box": lambda: write_coco([10, 10, 5]),
    "a broken XML file": lambda: write_voc(xmax="60</xmax"),
    "a broken line of ground_truth.txt": lambda: write_gdxray("2 10 20 ten 20"),
    "too few welds to split": with_changed(
        lambda: (
            [shutil.rmtree(DATA / split) for split in ("valid", "test")]
            + [path.unlink() for path in DATA.rglob("film_[234].*")]
        )
    ),
    "an unknown parameter": nothing,
    "a parameter of the wrong type": nothing,
    "an impossible parameter": nothing,
    "a pixel pitch that is needed and unknown": write_yolo,
    "an unknown experiment": nothing,
    "an unknown flag": nothing,
    "an unknown command": nothing,
    "a folder that holds other data": write_yolo,
    "training before preparing": nothing,
    "evaluating before training": prepare,
    "one run to compare": nothing,
    "a run to compare that is none": nothing,
    "more folds than welds": prepare,
    "predicting nothing": nothing,
    "predicting a film that is not there": nothing,
    "predicting a folder without films": nothing,
    "predicting what is no image": with_changed(lambda: IMAGE.write_text("no image")),
    "predicting into a folder that holds other data": write_yolo,
    "predicting before training": write_yolo,
    "predicting without a pixel pitch that the model needs": train_at_a_pitch,
    "an export for an unknown runtime": nothing,
    "an export before training": nothing,
    "predicting with a broken export": break_export,
    "reporting before evaluating": prepare,
}


@pytest.mark.parametrize("row", read_page(), ids=lambda row: row["wrong"])
def test_the_command_ends_as_the_page_says(row, project, capsys):
    SCENARIOS[row["wrong"]]()
    code, line = run(row["command"], capsys)
    assert (code, line) == (int(row["code"]), row["line"])


def run(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command; give its exit code and its one error line, or the one row of the findings where it succeeds."""
    try:
        run_command(COMMANDS, command.split())
    except SystemExit as ended:
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
        return int(str(ended.code)), line
    header, row = csv.reader(Path("artifacts/prepared/checks.csv").read_text(encoding="utf-8").splitlines())
    finding = dict(zip(header, row, strict=True))
    return 0, f"{finding['kind']}: {finding['path']}: {finding['message']}"


def test_the_page_shows_every_scenario():
    assert [row["wrong"] for row in read_page()] == list(SCENARIOS)

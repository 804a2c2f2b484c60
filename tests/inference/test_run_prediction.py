"""The command ``predict``, with a detector whose answers are known."""

import csv
import json
import logging

import cv2
import numpy as np
import pytest
import tifffile
import torch
from pycocotools.coco import COCO

from defects_in_welds.data.annotation import DataError
from defects_in_welds.data.film_files import find_films
from defects_in_welds.inference import run_prediction
from defects_in_welds.inference.film_drawing import enlargement
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.inference.run_prediction import predict_films
from defects_in_welds.model.checkpoint import CheckpointError
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.params import UserError

TILE_PX = 64
BRIGHT = 10, 20, 120, 32


@pytest.fixture
def films(tmp_path):
    """Three films: a flaw longer than a tile, two flaws of different brightness, and none."""
    folder = tmp_path / "films"
    (folder / "more").mkdir(parents=True)
    tifffile.imwrite(
        folder / "long.tif",
        film_with((*BRIGHT, 240)),
        resolution=(200, 200),
        resolutionunit="CENTIMETER",
        photometric="minisblack",
    )
    cv2.imwrite(str(folder / "more" / "long.png"), film_with((4, 4, 14, 9, 255), (130, 40, 140, 60, 150)))
    cv2.imwrite(str(folder / "more" / "empty.png"), film_with())
    (folder / "notes.txt").write_text("no film")
    return folder


def film_with(*bright):
    pixels = np.zeros((TILE_PX, 150), dtype=np.uint8)
    for x0, y0, x1, y1, level in bright:
        pixels[y0:y1, x0:x1] = level
    return pixels


@pytest.fixture
def predict(tmp_path, params, detector, monkeypatch):
    """Run the command with the known detector; its parameters are ``predict.params``."""
    params.prepare.overlap_px = 16
    (tmp_path / "model").mkdir()
    spec = InputSpec(TILE_PX, 0.5, 0.2)
    predictor = Predictor(detector, ("crack", "gas pore"), spec, torch.device("cpu"))
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: predictor)

    def run(*given, **options):
        folders = tmp_path / "model", tmp_path / "evaluation", tmp_path / "out"
        predict_films(params, given, *folders, **options)
        return tmp_path / "out"

    run.params = params
    return run


def read_table(out):
    with (out / "indications.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_found_is_told_in_a_table(films, predict):
    rows = read_table(predict(films))
    assert rows == [
        {
            **{"film": "long.tif", "defect_class": "gas pore", "iso_6520_1": "2011", "score": "0.9412"},
            **{"x0": "10.0", "y0": "20.0", "x1": "120.0", "y1": "32.0", "length_mm": "5.5", "width_mm": "0.6"},
        },
        {
            **{"film": "more/long.png", "defect_class": "gas pore", "iso_6520_1": "2011", "score": "1.0"},
            **{"x0": "4.0", "y0": "4.0", "x1": "14.0", "y1": "9.0", "length_mm": "", "width_mm": ""},
        },
        {
            **{"film": "more/long.png", "defect_class": "gas pore", "iso_6520_1": "2011", "score": "0.5882"},
            **{"x0": "130.0", "y0": "40.0", "x1": "140.0", "y1": "60.0", "length_mm": "", "width_mm": ""},
        },
    ]


def test_the_json_is_a_coco_data_set_and_its_annotations_are_coco_results(films, predict):
    out = predict(films)
    content = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in content["images"]] == ["long.tif", "more/empty.png", "more/long.png"]
    assert content["images"][0] | {"pixel_pitch_mm": 0.05, "height": 64, "width": 150} == content["images"][0]
    assert [category["name"] for category in content["categories"]] == ["crack", "gas pore"]
    assert content["info"]["min_score"] == 0.5
    found = [(row["image_id"], row["category_id"], row["bbox"]) for row in content["annotations"]]
    assert found == [(1, 2, [10, 20, 110, 12]), (3, 2, [4, 4, 10, 5]), (3, 2, [130, 40, 10, 20])]
    coco = COCO(str(out / "predictions.json"))
    assert coco.loadRes(content["annotations"]).getAnnIds(imgIds=[3]) == [2, 3]


def test_no_indication_at_all_is_told_as_well(films, predict):
    out = predict(films / "more" / "empty.png")
    assert read_table(out) == []
    content = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert (content["annotations"], len(content["images"])) == ([], 1)


def test_pictures_show_every_film_and_leave_the_flaw_as_it_is(films, predict):
    out = predict(films)
    pictures = sorted(path.relative_to(out / "pictures").as_posix() for path in out.rglob("*.png"))
    assert pictures == ["long.tif.png", "more/empty.png.png", "more/long.png.png"]
    picture = cv2.imread(str(out / "pictures" / "long.tif.png"))
    factor = enlargement((TILE_PX, 150))
    assert picture.shape[0] > TILE_PX * factor
    assert picture.shape[1:] == (150 * factor, 3)
    x0, y0, x1, y1 = (factor * edge for edge in BRIGHT)
    assert (picture[y0:y1, x0:x1] == 255).all()
    is_coloured = picture.min(axis=2) != picture.max(axis=2)
    assert is_coloured[y0 - 4 : y0, x0:x1].any(axis=0).all()
    assert not (cv2.imread(str(out / "pictures" / "more" / "empty.png.png")) > 0).any()


def test_pictures_can_be_left_out(films, predict):
    out = predict(films, with_pictures=False)
    assert sorted(path.name for path in out.iterdir()) == ["indications.csv", "predictions.json"]


@pytest.mark.parametrize(
    ("point", "asked", "expected", "said"),
    [
        ({"run_id": "a", "min_score": 0.95}, None, 0.95, "operating point in"),
        ({"run_id": "a", "min_score": 1.0000001, "note": "none is counted"}, None, 1.0000001, "none is counted"),
        ({"run_id": "a", "min_score": 0.95}, 0.6, 0.6, "--min_score"),
        ({"run_id": "b", "min_score": 0.95}, None, 0.5, "evaluate.fallback_score_threshold"),
        ({"run_id": "a", "min_score": "0.95"}, None, 0.5, "no operating point of this model; `python -m"),
        ([], None, 0.5, "evaluate.fallback_score_threshold"),
        (None, None, 0.5, "evaluate.fallback_score_threshold"),
    ],
)
def test_the_least_score_is_that_of_the_operating_point_of_the_same_run(
    tmp_path, films, predict, caplog, point, asked, expected, said
):
    (tmp_path / "model" / "run.json").write_text('{"run_id": "a"}')
    if point is not None:
        (tmp_path / "evaluation").mkdir()
        (tmp_path / "evaluation" / "operating_point.json").write_text(json.dumps(point))
    with caplog.at_level(logging.INFO):
        out = predict(films, min_score=asked)
    assert json.loads((out / "predictions.json").read_text())["info"]["min_score"] == expected
    assert [float(row["score"]) >= expected for row in read_table(out)] == [True] * (
        sum(score >= expected for score in (0.9412, 1.0, 0.5882))
    )
    assert said in caplog.text


def test_a_model_without_a_record_takes_no_operating_point_for_its_own(tmp_path, films, predict):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "operating_point.json").write_text('{"min_score": 0.95}')
    assert len(read_table(predict(films))) == 3


def cut_short(films):
    path = films / "more" / "empty.png"
    path.write_bytes(path.read_bytes()[:60])
    return path


def no_image(films):
    path = films / "more" / "empty.png"
    path.write_text("no image")
    return path


@pytest.mark.parametrize("spoil", [cut_short, no_image])
def test_a_film_that_cannot_be_read_stops_everything_and_leaves_what_there_was(films, predict, spoil):
    out = predict(films / "long.tif")
    path = spoil(films)
    with pytest.raises(DataError, match=rf"^{path}: .*; prepare.on_finding=drop leaves such films out$"):
        predict(films)
    assert [row["film"] for row in read_table(out)] == ["long.tif"]
    assert sorted(each.name for each in out.parent.iterdir()) == ["films", "model", "out"]


@pytest.mark.parametrize("spoil", [cut_short, no_image])
@pytest.mark.parametrize("on_finding", ["drop", "keep"])
def test_a_film_that_cannot_be_read_is_left_out_and_listed(films, predict, spoil, on_finding, caplog):
    spoil(films)
    predict.params.prepare.on_finding = on_finding
    out = predict(films)
    assert [row["film"] for row in read_table(out)] == ["long.tif", "more/long.png", "more/long.png"]
    (row,) = csv.DictReader((out / "checks.csv").read_text(encoding="utf-8").splitlines())
    assert (row["kind"], row["path"], row["action"]) == ("unreadable_image", "more/empty.png", "image left out")
    assert "1 films left out" in caplog.text


def test_films_of_which_none_can_be_read_are_no_result(films, predict):
    path = cut_short(films)
    predict.params.prepare.on_finding = "drop"
    with pytest.raises(DataError, match=r"^no film can be read; the first: empty.png: damaged"):
        predict(path)


def test_levels_of_12_bits_in_files_of_16_are_warned_of(tmp_path, predict, caplog):
    cv2.imwrite(str(tmp_path / "film.png"), film_with((*BRIGHT, 255)).astype(np.uint16) * 16)
    predict(tmp_path / "film.png")
    assert "film.png: no level" in caplog.text
    assert "set prepare.bit_depth=12" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"), [("no", "there is no such film"), ("model", "no films; looked for .bmp")]
)
def test_a_path_without_films_is_named(tmp_path, predict, given, message):
    with pytest.raises(DataError, match=rf"^{tmp_path / given}: {message}"):
        predict(tmp_path / given)


def test_without_a_model_nothing_is_written(tmp_path, films, params):
    with pytest.raises(CheckpointError, match=r"model/best.ckpt: there is no checkpoint"):
        predict_films(params, [films], tmp_path / "model", tmp_path, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"other.ckpt: there is no checkpoint"):
        predict_films(params, [films], tmp_path / "other.ckpt", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["mine.png", "predictions.json", "pictures"])
def test_a_folder_that_holds_anything_else_is_left_alone(tmp_path, films, predict, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(UserError, match=r"out holds no earlier predictions; move it away or name another folder"):
        predict(films)
    assert (tmp_path / "out" / name).read_text() == "precious"


def test_films_are_not_written_over(films, predict):
    out = predict(films)
    with pytest.raises(UserError, match=r"out would be replaced, but .*long.tif.png lies in it"):
        predict(out / "pictures")
    assert len(read_table(out)) == 3


def test_each_film_has_one_name_of_its_own_wherever_it_lies(films, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_folder = find_films([films])
    assert [film.name for film in by_folder] == ["long.tif", "more/empty.png", "more/long.png"]
    assert find_films([films / "more" / "..", films / "long.tif"])[0].name == "long.tif"
    assert [film.name for film in find_films([films / "more" / "long.png"])] == ["long.png"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "long.tif").write_bytes((films / "long.tif").read_bytes())
    names = [film.name for film in find_films([films / "long.tif", tmp_path / "other"])]
    assert names == ["films/long.tif", "other/long.tif"]


def test_no_more_than_one_film_is_read_ahead(films, predict, detector, monkeypatch):
    read, at_work = [], []
    read_film, look_at = run_prediction.read_film, detector.look_at
    monkeypatch.setattr(
        run_prediction, "read_film", lambda path, prepare: read.append(path) or read_film(path, prepare)
    )
    monkeypatch.setattr(detector, "look_at", lambda image: at_work.append(len(read)) or look_at(image))
    predict(films)
    assert len(read) == 3
    assert at_work[0] <= 2

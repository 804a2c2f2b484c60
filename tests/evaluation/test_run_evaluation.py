import csv
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from known_project import CLASSES, FLAWS, RUN, Oracle, write_store

from defects_in_welds.data.annotation import DataError, Measures, Split
from defects_in_welds.data.tensor_store import FilmAnnotation
from defects_in_welds.evaluation import run_evaluation
from defects_in_welds.evaluation.film_results import from_coco
from defects_in_welds.evaluation.matching import MatchTable
from defects_in_welds.evaluation.run_evaluation import evaluate
from defects_in_welds.inference.detections import Detections
from defects_in_welds.inference.predictor import Predictor


@pytest.fixture
def run(artifacts, params):
    # The oracle raises 100 on the validation film, all of them with a score of 0.6.
    params.evaluate.false_calls_per_metre = 200
    return lambda: evaluate(params, artifacts.prepared, artifacts.model, artifacts.evaluation)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def read(path):
    return json.loads(path.read_text(), parse_constant=refuse)


def test_metrics_say_what_was_found(artifacts, run):
    metrics = run()
    assert read(artifacts.evaluation / "metrics.json") == metrics
    assert {key: metrics[key] for key in ("split", "films", "flaws", "found", "missed", "false_calls")} == {
        "split": "test",
        "films": 2,
        "flaws": 4,
        "found": 2,
        "missed": 2,
        "false_calls": 2,
    }
    assert metrics["false_calls_per_film"] == 1
    crack, pore = metrics["per_class"]["crack"], metrics["per_class"]["gas pore"]
    assert (crack["iso_6520_1"], crack["flaws"], crack["found"], crack["missed"]) == ("100", 3, 2, 1)
    assert (pore["iso_6520_1"], pore["flaws"], pore["AP"], pore["AP50"]) == ("2011", 1, 0, 0)
    # Two of three cracks are found before the first false call: precision 1 up to a recall of 2/3.
    assert crack["AP50"] == crack["AP"] == pytest.approx(67 / 101)
    assert metrics["mAP"] == metrics["mAP50"] == metrics["mAP75"] == pytest.approx(67 / 202)
    assert metrics["AR"] == pytest.approx(1 / 3)
    assert metrics["settings"]["match_rule"] == "overlap"
    assert metrics["note"] is None
    assert (metrics["weld_m"], metrics["false_calls_per_metre"]) == pytest.approx((0.02, 100))
    low, high = metrics["intervals"]["found_share"]  # that of two in four: both films are alike
    assert (low, high) == pytest.approx((0.0676, 0.9324), abs=1e-4)
    assert metrics["pod"]["pooled"]["refused"].startswith("4 flaws are too few")
    assert metrics["by_size"][0] == {"low_mm": 0, "high_mm": 2, "flaws": 1, "AP": 0, "AP50": 0, "AR": 0}
    assert metrics["errors"]["missed"]["count"] == metrics["errors"]["background"]["count"] == 2
    assert (metrics["cells"]["cells"], metrics["cells"]["with_flaw"]) == (2, 2)


def test_the_validation_films_choose_the_threshold_for_the_test_films(artifacts, run, params):
    metrics = run()
    point = metrics["operating_point"]
    assert (point["min_score"], point["chosen_on"], point["note"]) == (pytest.approx(0.6), "val", None)
    assert (point["false_calls_per_metre_there"], point["recall_there"]) == pytest.approx((100, 0.5))
    assert read(artifacts.evaluation / "operating_point.json") == {"run_id": RUN["run_id"], **point}
    params.evaluate.false_calls_per_metre = 50
    metrics = run()
    assert metrics["operating_point"]["min_score"] == pytest.approx(0.9)
    assert (metrics["found"], metrics["false_calls"]) == (2, 0)


def test_without_validation_films_the_threshold_is_the_fallback(artifacts, run, params, caplog):
    artifacts.prepare(("a.png", Split.TEST, FLAWS))
    params.evaluate.fallback_score_threshold = 0.7
    point = run()["operating_point"]
    assert (point["min_score"], point["chosen_on"]) == (0.7, None)
    assert point["note"].startswith("there are no validation films")
    assert point["note"] in caplog.text


def test_the_matches_are_kept_for_whoever_measures_more(artifacts, run):
    metrics = run()
    table = MatchTable.read(artifacts.evaluation / "matches")
    assert table.films["name"].tolist() == ["test/<c>.png", "test/d.png"]
    assert int(table.is_found(0.6).sum()) == metrics["found"]
    assert int(table.is_false_call(0.6).sum()) == metrics["false_calls"]


def test_sizes_that_the_truth_knows_go_before_those_of_the_box(artifacts, run, params):
    known = FilmAnnotation((10, 10, 30, 20), "crack", False, Measures(length_mm=4.0, contrast=-0.3))
    artifacts.prepare(("a.png", Split.TEST, (known, FLAWS[1])))
    run()
    flaws = MatchTable.read(artifacts.evaluation / "matches").flaws
    assert flaws["length_mm"].tolist() == pytest.approx([4, 1])
    assert flaws["contrast"].tolist() == pytest.approx([-0.3, np.nan], nan_ok=True)
    params.evaluate.pod_size = "contrast"
    assert run()["pod"]["pooled"]["flaws"] == 1


class Confused(Oracle):
    """Takes every flaw for one of the other class."""

    def predict_store_film(self, *arguments):
        found = super().predict_store_film(*arguments)
        return Detections(found.boxes_xyxy, found.scores, 3 - found.labels)


def test_flaws_under_the_wrong_name_are_told_apart_from_flaws_that_were_not_seen(run, monkeypatch):
    assert run()["misnamed"] == 0
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Confused())
    metrics = run()
    assert [metrics[key] for key in ("flaws", "found", "missed", "misnamed", "false_calls")] == [4, 0, 4, 2, 4]
    assert {name: row["misnamed"] for name, row in metrics["per_class"].items()} == {"crack": 2, "gas pore": 0}


def test_predictions_and_truth_are_kept_for_the_report(artifacts, run):
    run()
    truth, predictions = (read(artifacts.evaluation / f"{name}.json") for name in ("ground_truth", "predictions"))
    results = from_coco(truth, predictions)
    assert [result.name for result in results] == ["test/<c>.png", "test/d.png"]
    assert [result.pixel_pitch_mm for result in results] == [0.1, 0.1]
    assert results[0].truth.boxes_xyxy.tolist() == [list(flaw.box_xyxy) for flaw in FLAWS]
    assert results[0].detections.boxes_xyxy.tolist() == [[10, 10, 30, 20], [80, 5, 90, 15]]
    assert truth["categories"][1] == {"id": 2, "name": "gas pore", "iso_6520_1": "2011"}


def test_the_curve_of_a_class_has_its_ap50_as_its_mean(artifacts, run):
    metrics = run()
    with (artifacts.evaluation / "plots" / "precision_recall.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in CLASSES:
        precision = [float(row["precision"]) for row in rows if row["defect_class"] == name]
        assert len(precision) == 101
        assert np.mean(precision) == pytest.approx(metrics["per_class"][name]["AP50"])


def test_the_same_films_give_the_same_bytes(artifacts, run):
    run()
    files = {path: path.read_bytes() for path in artifacts.evaluation.rglob("*") if path.is_file()}
    run()
    assert len(files) == 14
    assert {path: path.read_bytes() for path in artifacts.evaluation.rglob("*") if path.is_file()} == files


def test_only_the_best_detections_of_a_film_count(run, params):
    params.evaluate.max_detections_per_film = 1
    assert run()["false_calls"] == 0


def test_weak_detections_are_not_counted_but_measured(run, params, monkeypatch):
    params.evaluate.false_calls_per_metre = 1e-9
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Confused())
    metrics = run()
    assert metrics["operating_point"]["min_score"] > 0.9
    assert (metrics["found"], metrics["false_calls"]) == (0, 0)
    assert metrics["calibration"]["detections"] == 4


def test_validation_films_take_the_place_of_missing_test_films(artifacts, run, caplog):
    artifacts.prepare(("b.png", Split.VAL, FLAWS), ("a.png", Split.TRAIN, FLAWS))
    with caplog.at_level(logging.WARNING):
        metrics = run()
    assert (metrics["split"], metrics["films"]) == ("val", 1)
    assert sum("no test films" in record.message for record in caplog.records) == 1


def test_without_test_and_validation_films_there_is_one_clear_error(artifacts, run):
    artifacts.prepare(("a.png", Split.TRAIN, FLAWS))
    with pytest.raises(DataError, match=r"neither test nor validation films.*prepare\.test_share"):
        run()


def test_films_without_flaws_give_nulls_and_a_note(artifacts, run, caplog):
    artifacts.prepare(("a.png", Split.TEST, ()))
    metrics = run()
    read(artifacts.evaluation / "metrics.json")
    assert [metrics[key] for key in ("mAP", "mAP50", "mAP75", "AR")] == [None] * 4
    assert metrics["per_class"]["crack"]["AP"] is None
    assert metrics["false_calls"] == 1
    assert "no test film has a flaw" in metrics["note"]
    assert metrics["note"] in caplog.text


def test_difficult_flaws_are_counted_apart(artifacts, run):
    difficult = FilmAnnotation((10, 10, 30, 20), "crack", True)
    artifacts.prepare(("a.png", Split.TEST, (difficult, FLAWS[1])))
    metrics = run()
    assert (metrics["flaws"], metrics["missed"], metrics["difficult_flaws"]) == (1, 1, 1)
    assert metrics["false_calls"] == 1
    assert metrics["per_class"]["crack"]["AP"] is None


def test_a_model_for_other_classes_is_refused(run, monkeypatch):
    class Other(Oracle):
        defect_classes = ("crack",)

    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Other())
    with pytest.raises(DataError, match=r"prepared for crack, gas pore in tiles of 64 px, but .* trained for crack in"):
        run()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (
            {"resample_pitch_mm": 0.08},
            r"in tiles of 64 px, but .* in tiles of 64 px, resampled to 0\.08 mm; train again",
        ),
        ({"background_mm": 3.0}, r"in tiles of 64 px, but .* px, freed of their background over 3\.0 mm; train again"),
    ],
)
def test_a_model_for_films_that_were_made_otherwise_is_refused(run, monkeypatch, made, says):
    class Other(Oracle):
        input_spec = replace(Oracle.input_spec, **made)

    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Other())
    with pytest.raises(DataError, match=says):
        run()


def test_films_that_were_for_training_when_the_model_was_trained_are_not_measured(artifacts, run):
    write_store(artifacts.prepared, ("train/a.png", Split.TEST, FLAWS[:1]), ("test/d.png", Split.TRAIN, FLAWS))
    with pytest.raises(DataError, match=r"prepared: not the films, splits.* trained with: .*; train again, or prepare"):
        run()
    assert not artifacts.evaluation.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing"),
        ('{"run_id": "0123', r"cannot be read \(Unterminated string.*\)"),
        ("[]", "no record of a training, for it lacks run_id, tracking_uri, .*, data_sha256, precision"),
        (json.dumps(RUN), "no record of a training, for it lacks data_sha256"),
    ],
    ids=["missing", "cut short", "no record", "without the data's hash"],
)
def test_a_model_without_the_record_of_its_training_is_refused(artifacts, run, content, reason):
    record = artifacts.model / "run.json"
    record.unlink() if content is None else record.write_text(content)
    with pytest.raises(DataError, match=rf"model/run\.json: {reason}; run `dvc repro train` or `python -m") as error:
        run()
    assert "\n" not in str(error.value)
    assert not artifacts.evaluation.exists()


def test_a_stage_that_fails_leaves_the_old_results_alone(artifacts, run, monkeypatch):
    run()
    before = (artifacts.evaluation / "metrics.json").read_bytes()

    def fail(measures, folder):
        raise OSError("disk full")

    monkeypatch.setattr(run_evaluation, "write_curves", fail)
    with pytest.raises(OSError, match="disk full"):
        run()
    assert (artifacts.evaluation / "metrics.json").read_bytes() == before
    assert sorted(path.name for path in artifacts.evaluation.parent.iterdir()) == ["evaluation", "model", "prepared"]


def test_a_tracking_server_that_is_away_costs_one_warning(artifacts, run, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    run()
    assert (artifacts.evaluation / "metrics.json").is_file()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "written but not in MLflow's run 0123456789abcdef0123456789abcdef" in warning
    assert "secret" not in caplog.text


# What MLflow's database library says of itself is not ours to mend.
@pytest.mark.filterwarnings("ignore:The ``noload``")
def test_metrics_and_files_join_the_training_run(tracked_run, run):
    client, run_id = tracked_run
    metrics = run()

    logged = client.get_run(run_id).data.metrics
    assert logged["test/mAP"] == pytest.approx(metrics["mAP"])
    assert logged["test/AP50/crack"] == pytest.approx(metrics["per_class"]["crack"]["AP50"])
    assert logged["test/AP/gas pore"] == 0
    assert logged["test/score_threshold"] == pytest.approx(0.6)
    files = {entry.path for entry in client.list_artifacts(run_id, "evaluation")}
    assert {"evaluation/metrics.json", "evaluation/predictions.json", "evaluation/plots"} <= files


def test_a_detector_that_reports_nothing_has_found_nothing(run, monkeypatch):
    class Silent(Oracle):
        def predict_store_film(self, *_):
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Silent())
    metrics = run()
    assert (metrics["mAP"], metrics["AR"], metrics["found"], metrics["false_calls"]) == (0, 0, 0, 0)

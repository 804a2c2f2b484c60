import json
from dataclasses import replace

import numpy as np
import pytest
from films import films, make_film
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from defects_in_welds.data.annotation import DataError
from defects_in_welds.evaluation.comparison import Difference, compare, compare_runs, tabulate, verdict
from defects_in_welds.evaluation.film_results import to_coco
from defects_in_welds.inference.detections import Detections

CLASSES = ("crack", "pore")
RULE = ("iou", 0.5)


def weld_films(count, recall, seed):
    """One film a weld, with four flaws that are found with a given probability, and a false call on every second."""
    rng = np.random.default_rng(seed)
    results = []
    for index in range(count):
        truth = [(20 * k, 0, 20 * k + 10, 10, 1 + k % 2, False) for k in range(4)]
        found = [(*row[:5], rng.uniform(0.5, 1)) for row in truth if rng.random() < recall]
        found += [(150, 50, 160, 60, 1, rng.uniform(0.5, 1))] * (index % 2)
        results.append(make_film(truth, sorted(found, key=lambda row: -row[5]), name=f"{index:03}.png"))
    return results


def compare_at(a, b, min_scores=(0.5, 0.5), samples=300, seed=7):
    return compare(a, b, CLASSES, *RULE, min_scores, samples, seed)


def test_a_run_does_not_differ_from_itself():
    differences = compare_at(weld_films(12, 0.6, 0), weld_films(12, 0.6, 0))
    for name, row in differences.items():
        assert (row.difference, row.low, row.high, row.p_value) == (0, 0, 0, 1), name
        assert row.a == row.b
        assert verdict(name, row) == "no difference can be told from these films"


@settings(max_examples=10)
@given(st.lists(films(), min_size=2, max_size=4))
def test_no_film_differs_from_itself(results):
    named = [replace(film, name=f"{index}.png", weld=str(index)) for index, film in enumerate(results)]
    for row in compare_at(named, named, samples=20).values():
        assert row is None or (row.difference, row.low, row.high, row.p_value) == (0, 0, 0, 1)


def test_a_much_better_run_is_better():
    differences = compare_at(weld_films(40, 0.5, 0), weld_films(40, 0.9, 1))
    recall = differences["recall"]
    assert recall.difference == recall.b - recall.a
    assert 0 < recall.low < recall.difference < recall.high
    assert recall.p_value == pytest.approx(2 / 301)
    assert verdict("recall", recall) == "the difference is real: b is better"
    assert verdict("mAP", differences["mAP"]) == "the difference is real: b is better"
    assert differences["false_calls_per_film"].p_value == 1


def test_the_other_way_round_the_difference_changes_its_sign_alone():
    a, b = weld_films(20, 0.5, 0), weld_films(20, 0.7, 1)
    for ours, theirs in zip(compare_at(a, b).values(), compare_at(b, a).values(), strict=True):
        assert (ours.a, ours.b, ours.difference) == (theirs.b, theirs.a, -theirs.difference)
        assert (ours.low, ours.high) == pytest.approx((-theirs.high, -theirs.low))
        assert ours.p_value == theirs.p_value


def test_fewer_false_calls_are_better():
    a, b = weld_films(20, 0.5, 0), [film_without_false_calls(film) for film in weld_films(20, 0.5, 0)]
    differences = compare_at(a, b)
    fewer = differences["false_calls_per_metre"]
    assert fewer.high < 0
    assert verdict("false_calls_per_metre", fewer) == "the difference is real: b is better"
    assert differences["recall"].difference == 0


def film_without_false_calls(film):
    return replace(film, detections=film.detections[film.detections.boxes_xyxy[:, 1] < 50])


@pytest.mark.slow
def test_two_runs_of_the_same_detector_seldom_seem_different():
    real = sum(
        compare_at(weld_films(30, 0.7, seed), weld_films(30, 0.7, seed + 1000), samples=200)["recall"].is_real
        for seed in range(40)
    )
    assert real <= 6  # 2 are meant


def test_each_run_is_counted_at_its_own_threshold():
    films_ = weld_films(10, 1, 0)
    differences = compare_at(films_, films_, min_scores=(0.5, 2.0))
    assert (differences["recall"].a, differences["recall"].b) == (1, 0)
    assert differences["mAP"].difference == 0


def test_the_order_of_the_films_does_not_matter():
    a, b = weld_films(10, 0.5, 0), weld_films(10, 0.8, 1)
    assert compare_at(a, b[::-1]) == compare_at(a, b)


def test_truth_that_came_back_rounded_is_the_same():
    a = weld_films(10, 0.5, 0)
    b = [replace(film, truth=replace(film.truth, boxes_xyxy=film.truth.boxes_xyxy + np.float32(1e-3))) for film in a]
    assert all(row.difference == 0 for row in compare_at(a, b).values())


def with_truth(film, **changes):
    return replace(film, truth=replace(film.truth, **changes))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda film: replace(film, weld="other"), "weld"),
        (lambda film: replace(film, image_hw=(1, 2)), "size"),
        (lambda film: replace(film, pixel_pitch_mm=None), "pixel pitch"),
        (lambda film: make_film([], [], name=film.name), "number of flaws"),
        (lambda film: with_truth(film, labels=3 - film.truth.labels), "truth"),
        (lambda film: with_truth(film, boxes_xyxy=film.truth.boxes_xyxy + 1), "truth"),
        (lambda film: with_truth(film, is_difficult=~film.truth.is_difficult), "truth"),
    ],
)
def test_runs_over_other_truth_are_refused(change, what):
    a = weld_films(4, 0.5, 0)
    with pytest.raises(DataError, match=rf"^002\.png: its {what} differs between the runs; evaluate both on the same"):
        compare_at(a, [*a[:2], change(a[2]), a[3]])


def test_runs_over_other_films_are_refused():
    a = weld_films(4, 0.5, 0)
    with pytest.raises(DataError, match=r"^003\.png: only run a has this film; compare"):
        compare_at(a, a[:3])
    with pytest.raises(DataError, match=r"^000\.png: only run b has this film; compare"):
        compare_at(a[1:], a)


def test_a_single_weld_tells_nothing():
    a = [replace(film, weld="w") for film in weld_films(4, 0.5, 0)]
    differences = compare_at(a, a)
    assert set(differences.values()) == {None}
    assert "cannot be measured on these films" in tabulate(differences)[1]


def test_the_table():
    rows = {"mAP": Difference(0.5, 0.6, 0.1, 0.02, 0.18, 0.01), "recall/pore": None}
    assert tabulate(rows)[:3] == [
        "                    a         b     b - a       95 % interval       p",
        "mAP             0.500     0.600    +0.100    +0.020 to +0.180   0.010  the difference is real: b is better",
        "recall/pore         -         -         -                   -       -  cannot be measured on these films",
    ]


def write_run(folder, results, min_score=0.5, classes=CLASSES):
    folder.mkdir()
    ground_truth, predictions = to_coco(results, classes)
    metrics = {"operating_point": {"min_score": min_score}}
    for name, content in (("ground_truth", ground_truth), ("predictions", predictions), ("metrics", metrics)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_two_folders_give_a_table(tmp_path, params):
    params.evaluate.bootstrap_samples = 100
    a = write_run(tmp_path / "a", weld_films(20, 0.3, 0))
    b = write_run(tmp_path / "b", weld_films(20, 0.9, 1), min_score=0.25)
    text = compare_runs(str(a), str(b), params)
    lines = text.splitlines()
    assert lines[:3] == [
        f"a: {a}, scores from 0.5",
        f"b: {b}, scores from 0.25",
        "20 films of 20 welds, 100 resamples of the welds",
    ]
    (recall,) = [line for line in lines if line.startswith("recall ")]
    assert recall.endswith("the difference is real: b is better")
    assert compare_runs(str(a), str(b), params) == text


# What MLflow's database library says of itself is not ours to mend.
@pytest.mark.filterwarnings("ignore:The ``noload``")
def test_runs_are_read_from_mlflow(tmp_path, params, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params.train.tracking_uri = f"sqlite:///{tmp_path}/mlflow.db"
    params.evaluate.bootstrap_samples = 20
    client = MlflowClient(params.train.tracking_uri)
    experiment = client.create_experiment("trial", artifact_location=str(tmp_path / "mlartifacts"))
    run_id, bare = (client.create_run(experiment).info.run_id for _ in range(2))
    folder = write_run(tmp_path / "a", weld_films(6, 0.5, 0))
    client.log_artifacts(run_id, str(folder), "evaluation")
    assert (
        compare_runs(run_id, str(folder), params).splitlines()[3:]
        == (compare_runs(str(folder), str(folder), params).splitlines()[3:])
    )
    for missing in (bare, "0" * 32):
        with pytest.raises(
            DataError, match=rf"^MLflow's run {missing} at sqlite:///\S*: no evaluation to read \(.*\);"
        ):
            compare_runs(str(folder), missing, params)


def test_a_tracking_server_that_is_away_is_named_without_its_password(tmp_path, params, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    folder = write_run(tmp_path / "a", weld_films(2, 0.5, 0))
    with pytest.raises(DataError, match=r"at http://127\.0\.0\.1:9: no evaluation to read") as error:
        compare_runs(str(folder), "0" * 32, params)
    assert "secret" not in str(error.value)


def test_what_is_no_run_is_refused(tmp_path, params):
    folder = write_run(tmp_path / "a", weld_films(2, 0.5, 0))
    with pytest.raises(DataError, match=r"^nowhere: neither a folder that .* nor the id of an MLflow run"):
        compare_runs(str(folder), "nowhere", params)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(DataError, match=r"a: not what .* writes \(KeyError: 'operating_point'\); run it again"):
        compare_runs(str(folder), str(folder), params)
    (folder / "predictions.json").unlink()
    with pytest.raises(DataError, match=r"predictions\.json: missing; run `dvc repro evaluate`"):
        compare_runs(str(folder), str(folder), params)


def test_runs_of_other_classes_are_refused(tmp_path, params):
    a = write_run(tmp_path / "a", weld_films(2, 0.5, 0))
    b = write_run(tmp_path / "b", weld_films(2, 0.5, 0), classes=("crack", "slag"))
    with pytest.raises(DataError, match=r"a finds crack, pore, but .*b crack, slag: compare detectors of the same"):
        compare_runs(str(a), str(b), params)


def test_a_silent_run_finds_nothing():
    a = weld_films(6, 1, 0)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    differences = compare_at(a, [replace(film, detections=nothing) for film in a])
    assert (differences["recall"].a, differences["recall"].b, differences["mAP"].b) == (1, 0, 0)

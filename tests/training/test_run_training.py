import json
import logging
import re
import shutil
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from tiny_training import CLASSES, folder_to_train_in, tiny_params, write_store

from defects_in_welds.data.annotation import DataError
from defects_in_welds.model.checkpoint import load_detector
from defects_in_welds.params import ParamsError
from defects_in_welds.training import run_training
from defects_in_welds.training.lit_module import DetectionModule, TrainingError
from defects_in_welds.training.run_training import resolve_precision, train

PREPARED, MODEL, TRAINING = Path("prepared"), Path("model"), Path("training")


def run(params):
    return train(params, PREPARED, MODEL, TRAINING)


def last_weights():
    return torch.load(TRAINING / "last.ckpt", weights_only=True)["state_dict"]


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def store(tmp_path, monkeypatch, mlflow_uri):
    """Prepared data in the current directory, which is empty besides."""
    monkeypatch.chdir(tmp_path)
    write_store(PREPARED)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which two epochs were trained without interruption, and the parameters."""
    folder = tmp_path_factory.mktemp("trained")
    with folder_to_train_in(folder):
        run(tiny_params())
    return folder, tiny_params()


def test_a_training_leaves_the_model_its_record_and_the_resume_state(trained):
    folder, params = trained
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {file for file in files if not file.startswith(("mlruns", "prepared"))} == {
        "mlflow.db",
        "model/best.ckpt",
        "model/run.json",
        "training/best.ckpt",
        "training/last.ckpt",
        "training/started.json",
    }
    _, checkpoint = load_detector(folder / "model/best.ckpt")
    assert checkpoint.defect_classes == CLASSES
    assert checkpoint.model == params.model
    assert checkpoint.input_spec.img_size == 64


def test_the_record_names_the_run_and_its_parameters(trained):
    folder, params = trained
    record = json.loads((folder / "model/run.json").read_text())
    assert record["params"]["model"] == asdict(params.model)
    assert set(record["params"]) == {"augmentation", "model", "train", "trainer"}
    assert (record["epochs"], record["precision"]) == (2, "bf16-mixed")
    assert record["tracking_uri"] == f"sqlite:///{folder}/mlflow.db"
    assert 0 <= record["best_map"] <= 1
    assert len(record["data_sha256"]) == 64


def test_mlflow_holds_the_curves_and_the_checkpoint_once(trained):
    folder, _ = trained
    record = json.loads((folder / "model/run.json").read_text())
    client = MlflowClient(record["tracking_uri"])
    found = client.get_run(record["run_id"])
    assert found.info.status == "FINISHED"
    assert found.info.experiment_id == record["experiment_id"]
    losses = ("loss", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
    train_names = {f"train/{name}" for name in (*losses, "learning_rate", "images_per_second")}
    val_names = {"val/mAP", "val/mAP50", "val/mAP75", "val/AP/gas pore"}  # of the other class there is none
    assert set(found.data.metrics) == train_names | val_names | {"epoch"}
    for name in train_names | val_names:
        assert len(client.get_metric_history(record["run_id"], name)) == 2
    assert [file.path for file in client.list_artifacts(record["run_id"])] == ["best.ckpt"]
    assert found.data.tags["data_sha256"] == record["data_sha256"]


def test_the_same_parameters_give_the_same_weights(trained, store, tiny):
    run(tiny)
    folder, _ = trained
    before = torch.load(folder / TRAINING / "last.ckpt", weights_only=True)["state_dict"]
    assert are_equal(last_weights(), before)
    run(replace(tiny, train=replace(tiny.train, seed=8)))
    assert not are_equal(last_weights(), before)


@pytest.fixture
def keyboard():
    """Lightning leaves Ctrl+C ignored after one."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def stop_in_second_epoch(monkeypatch, params):
    start = DetectionModule.on_train_batch_start

    def stop(module, batch, batch_idx):
        if module.current_epoch == 1:
            raise KeyboardInterrupt
        start(module, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(DetectionModule, "on_train_batch_start", stop)
        with pytest.raises(SystemExit):
            run(params)


def test_an_interrupted_run_goes_on_to_the_same_weights(trained, store, mlflow_uri, tiny, monkeypatch, keyboard):
    stop_in_second_epoch(monkeypatch, tiny)
    assert not MODEL.exists()
    run_id = json.loads((TRAINING / "started.json").read_text())["run_id"]
    assert MlflowClient(mlflow_uri).get_run(run_id).info.status == "KILLED"
    first = last_weights()

    run(replace(tiny, train=replace(tiny.train, resume=True)))

    folder, _ = trained
    whole = torch.load(folder / TRAINING / "last.ckpt", weights_only=True)["state_dict"]
    assert not are_equal(first, whole)
    assert are_equal(last_weights(), whole)
    record = json.loads((MODEL / "run.json").read_text())
    expected = json.loads((folder / MODEL / "run.json").read_text())
    assert record["run_id"] == run_id
    assert (record["best_map"], record["epochs"]) == (expected["best_map"], 2)
    found = MlflowClient(mlflow_uri).get_run(run_id)
    assert found.info.status == "FINISHED"
    history = MlflowClient(mlflow_uri).get_metric_history(run_id, "train/loss")
    assert [row.step for row in history] == [1, 3]


def test_another_model_or_other_data_is_not_resumed(trained, store, tiny):
    shutil.copytree(trained[0] / TRAINING, TRAINING)
    resumed = replace(tiny, train=replace(tiny.train, resume=True))
    with pytest.raises(ParamsError, match=r"model\.nms_iou is 0\.3 and was 0\.5 in the interrupted run"):
        run(replace(resumed, model=replace(tiny.model, nms_iou=0.3)))
    with pytest.raises(ParamsError, match=r"train\.learning_rate is 0\.5 and was"):
        run(replace(resumed, train=replace(resumed.train, learning_rate=0.5)))
    write_store(PREPARED, train_tiles=5)
    with pytest.raises(ParamsError, match=r"data\.sha256 is '\w+' and was '\w+' in the interrupted run"):
        run(resumed)
    write_store(PREPARED, grey_mean=0.62)
    with pytest.raises(ParamsError, match=r"data\.grey_mean is 0\.62 and was 0\.38 in the interrupted run"):
        run(resumed)
    assert (TRAINING / "last.ckpt").is_file()


def test_there_must_be_a_run_to_resume(store, tiny):
    with pytest.raises(ParamsError, match=r"train\.resume is True, but training holds no finished epoch; set train\.r"):
        run(replace(tiny, train=replace(tiny.train, resume=True)))
    assert not Path("mlflow.db").exists()


def test_a_validation_without_boxes_keeps_the_last_weights(store, mlflow_uri, tiny):
    write_store(PREPARED, val_boxes=False)
    run(tiny)
    record = json.loads((MODEL / "run.json").read_text())
    assert record["best_map"] is None
    assert load_detector(MODEL / "best.ckpt")[1].extra["epoch"] == 2
    metrics = MlflowClient(mlflow_uri).get_run(record["run_id"]).data.metrics
    assert not any(name.startswith("val/") for name in metrics)


def test_a_failed_training_leaves_the_old_model(trained, store, mlflow_uri, tiny):
    shutil.copytree(trained[0] / MODEL, MODEL)
    before = (MODEL / "run.json").read_bytes()
    wild = replace(tiny, train=replace(tiny.train, learning_rate=1e30, gradient_clip_norm=1e30))
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        run(wild)
    assert (MODEL / "run.json").read_bytes() == before
    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name(tiny.train.experiment_name)
    assert [found.info.status for found in client.search_runs([experiment.experiment_id])] == ["FAILED"]


def test_training_stops_early(store, tiny):
    still = replace(tiny.train, learning_rate=1e-30, max_epochs=5, early_stopping_epochs=1)
    run(replace(tiny, train=still))
    assert json.loads((MODEL / "run.json").read_text())["epochs"] == 2


def test_missing_data_is_an_error_before_anything_is_written(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there is no prepared data"):
        run(tiny)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "given", "expected"),
    [
        ("auto", False, "16-mixed", "bf16-mixed"),
        ("cpu", True, "16-mixed", "bf16-mixed"),
        ("auto", True, "16-mixed", "16-mixed"),
        ("gpu", True, "16-mixed", "16-mixed"),
        ("auto", False, "32-true", "32-true"),
    ],
)
def test_a_cpu_takes_bfloat16(params, monkeypatch, accelerator, has_gpu, given, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_precision(replace(params.trainer, accelerator=accelerator, precision=given)) == expected


def test_the_change_of_precision_is_said_once(store, tiny, caplog):
    with caplog.at_level(logging.INFO):
        run(replace(tiny, train=replace(tiny.train, max_epochs=1)))
    said = [record.getMessage() for record in caplog.records if "bf16-mixed" in record.getMessage()]
    assert said == ["trainer.precision 16-mixed is bf16-mixed on a CPU"]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.batch_size=0", r"error: params: train\.batch_size is 0; allowed: a number above 0"),
        ("train.batch_size=few", r"error: params: .*batch_size.*"),
        ("train.batchsize=1", r"error: params: .*batchsize.*"),
        ("train.seed=1", r"error: artifacts/prepared: there is no prepared data.*"),
    ],
)
def test_a_wrong_command_ends_in_one_line(project, monkeypatch, capsys, override, line):
    monkeypatch.setattr(sys, "argv", ["run_training", override])
    with pytest.raises(SystemExit) as exit_info:
        run_training.main()
    assert exit_info.value.code == 1
    (written,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(line, written)
    assert [path.name for path in project.iterdir()] == ["configs"]

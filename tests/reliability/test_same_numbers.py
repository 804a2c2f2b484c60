"""The same parameters and data give the same bits, in one go or in two."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from tiny_training import folder_to_train_in, tiny_params, write_store

from defects_in_welds.training import run_training
from defects_in_welds.training.lit_module import DetectionModule
from defects_in_welds.training.run_training import train

BEST, LAST = Path("model/best.ckpt"), Path("training/last.ckpt")


def params(**changed):
    tiny = tiny_params()
    return replace(tiny, train=replace(tiny.train, batch_size=1, **changed))


def run(**changed):
    train(params(**changed), Path("prepared"), Path("model"), Path("training"))


def weights():
    return torch.load(LAST, weights_only=True)["state_dict"]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a training leaves that nothing interrupts and no other process loads for."""
    folder = tmp_path_factory.mktemp("whole")
    with folder_to_train_in(folder, augmentations=True):
        run()
        return folder, weights(), BEST.read_bytes(), json.loads(Path("model/run.json").read_text())


@pytest.fixture
def store(whole, tmp_path, monkeypatch):
    folder, *_ = whole
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    write_store(Path("prepared"), augmentations=True)


def test_the_store_is_the_same_to_the_byte(whole, store):
    written = {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (whole[0] / "prepared").iterdir()}


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_loading_processes_gives_the_same_checkpoint(whole, store, workers):
    run(num_workers=workers)
    _, expected, best, _ = whole
    assert_same(weights(), expected)
    assert BEST.read_bytes() == best


@pytest.mark.parametrize(
    ("number", "workers", "step"), [(signal.SIGTERM, 0, 1), (signal.SIGINT, 2, 5), (signal.SIGTERM, 2, 3)]
)
def test_a_signal_saves_first_and_the_training_goes_on_from_there(whole, store, monkeypatch, number, workers, step):
    """Steps 0 to 3 are the first epoch: 3 is followed by a validation, which is finished."""
    start = DetectionModule.on_train_batch_start
    steps = []

    def interrupt(module, batch, batch_idx):
        steps.append(module.global_step)
        if module.global_step == step and len(steps) == step + 1:
            os.kill(os.getpid(), number)
        start(module, batch, batch_idx)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(DetectionModule, "on_train_batch_start", interrupt)
    with pytest.raises(SystemExit) as stopped:
        run(num_workers=workers)
    assert stopped.value.code == 128 + number
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert torch.load(LAST, weights_only=True)["global_step"] == step + 1

    run(num_workers=workers, resume=True)
    assert steps == list(range(8))
    _, expected, best, record = whole
    assert_same(weights(), expected)
    assert BEST.read_bytes() == best
    resumed = json.loads(Path("model/run.json").read_text())
    assert {key: resumed[key] for key in ("best_map", "epochs")} == {key: record[key] for key in ("best_map", "epochs")}
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    logged = [row.step for row in client.get_metric_history(resumed["run_id"], "train/loss")]
    assert logged == sorted({step, 3, 7})  # none of the steps is missing from the means


OVERRIDES = (
    "model.architecture=fasterrcnn_mobilenet_v3_large_320_fpn model.proposals=30 train.batch_size=1 train.max_epochs=2 "
    "train.warmup_steps=0 trainer.accelerator=cpu trainer.devices=1 trainer.enable_progress_bar=false"
)


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_to_the_same_checkpoint(whole, store, project):
    """As from a terminal, with loading processes; killed as soon as there is a state."""
    artifacts = project / "artifacts"
    write_store(artifacts / "prepared", augmentations=True)
    command = [
        sys.executable,
        "-m",
        "defects_in_welds.training.run_training",
        *OVERRIDES.split(),
        "train.num_workers=1",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with (project / "log").open("w") as log, subprocess.Popen(command, env=environment, stderr=log) as training:
        while not (artifacts / "training/last.ckpt").is_file():
            assert training.poll() is None, (project / "log").read_text()
            time.sleep(0.001)
        training.kill()
    assert not (artifacts / "model").exists()

    train(params(resume=True), artifacts / "prepared", artifacts / "model", artifacts / "training")
    assert_same(torch.load(artifacts / "training/last.ckpt", weights_only=True)["state_dict"], whole[1])
    assert (artifacts / "model/best.ckpt").read_bytes() == whole[2]
    assert {path.name for path in artifacts.iterdir()} == {"prepared", "training", "model"}


@pytest.mark.parametrize("val_boxes", [True, False])
def test_a_training_that_was_killed_when_all_was_learnt_is_only_finished(store, monkeypatch, val_boxes):
    """Also where it had stopped early, and where no validation had anything to find."""
    write_store(Path("prepared"), val_boxes=val_boxes)
    changed = {"learning_rate": 1e-30, "max_epochs": 4, "early_stopping_epochs": 1} if val_boxes else {"max_epochs": 1}

    def die(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_training, "_publish", die)
        with pytest.raises(KeyboardInterrupt):
            run(**changed)
    if not val_boxes:
        Path("training/best.ckpt").unlink()  # as if the kill had come before it was written
    before = weights()
    run(**changed, resume=True)
    assert_same(weights(), before)
    assert json.loads(Path("model/run.json").read_text())["epochs"] == (2 if val_boxes else 1)
    assert BEST.is_file()


def test_what_a_training_ran_on_is_recorded(whole):
    folder, *_, record = whole
    described = record["environment"]
    assert described["torch"] == torch.__version__.partition("+")[0]
    assert described["threads"] == str(torch.get_num_threads())
    assert {"python", "cpu", "cpu_capability", "cores", "gpus", "cuda", "numpy", "torchvision"} <= set(described)
    tags = MlflowClient(f"sqlite:///{folder}/mlflow.db").get_run(record["run_id"]).data.tags
    assert {key: tags[f"environment.{key}"] for key in described} == described

"""A training goes on without its MLflow server, and no record is lost."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from defects_in_welds.params import load_params
from defects_in_welds.training import outbox, tracking
from defects_in_welds.training.outbox import Outbox
from defects_in_welds.training.tracking import RunTracker, tracked_run

UNSENT = Path("unsent")


@dataclass
class Server:
    """An MLflow server that can be killed and started again with the same records."""

    folder: Path
    port: int
    process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--artifacts-destination", self.folder]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        pytest.fail("the server does not answer")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """One that is not started yet, and an empty project beside it."""
    (tmp_path / "server").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(tmp_path / "server", probe.getsockname()[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(outbox, "PAUSE_S", 0.0)
    yield server
    server.kill()


def log_steps(tracker: RunTracker, *steps: int) -> None:
    for step in steps:
        tracker.log_metrics({"train/loss": 1 / step}, step)


def steps_of(client: MlflowClient, run_id: str) -> list[int]:
    return [row.step for row in client.get_metric_history(run_id, "train/loss")]


@pytest.mark.slow
def test_no_record_is_lost_when_the_server_dies_and_comes_back(server, caplog):
    Path("best.ckpt").write_text("weights")
    server.start()
    client = MlflowClient(server.uri)
    with tracked_run(load_params(), "", unsent_dir=UNSENT) as tracker:
        log_steps(tracker, 1)
        server.kill()
        log_steps(tracker, 2, 3)
        tracker.log_file(Path("best.ckpt"))
        assert len(caplog.records) == 1
        assert f"they wait in unsent/{tracker.run_id}" in caplog.text
        server.start()
        log_steps(tracker, 4)
        assert steps_of(client, tracker.run_id) == [1, 2, 3, 4]
        assert not (UNSENT / tracker.run_id).exists()
        server.kill()
        log_steps(tracker, 5)
        Path("best.ckpt").write_text("other weights")
        tracker.log_file(Path("best.ckpt"))
    Path("best.ckpt").unlink()  # what waits is a copy
    assert len(caplog.records) == 1

    server.start()
    with tracked_run(load_params(), "", unsent_dir=UNSENT) as other:
        log_steps(other, 1)
    assert not list(UNSENT.iterdir())
    assert steps_of(client, tracker.run_id) == [1, 2, 3, 4, 5]
    found = client.get_run(tracker.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.end_time < client.get_run(other.run_id).info.start_time
    (copy,) = server.folder.rglob(f"{tracker.run_id}/artifacts/best.ckpt")
    assert copy.read_text() == "other weights"


def test_a_server_that_is_away_from_the_start_has_a_local_stand_in(server, caplog, monkeypatch):
    local = f"sqlite:///{Path.cwd()}/mlflow.db"
    monkeypatch.setattr(tracking, "LOCAL_STORE", local)
    with tracked_run(load_params(), "", unsent_dir=UNSENT) as tracker:
        log_steps(tracker, 1, 2)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"MLflow at {server.uri} cannot be reached: this run is recorded in {local}"
    ]
    assert tracker.uri == local
    assert steps_of(MlflowClient(local), tracker.run_id) == [1, 2]
    started = {"run_id": tracker.run_id, "experiment_id": tracker.experiment_id, "tracking_uri": tracker.uri}
    with tracked_run(load_params(), "", started, UNSENT) as resumed:
        log_steps(resumed, 3)
    assert steps_of(MlflowClient(local), tracker.run_id) == [1, 2, 3]


class Store:
    """Takes metrics when it is there, of all steps but those that it refuses."""

    def __init__(self, refused=()):
        self.is_there = False
        self.refused = refused
        self.steps = []

    def get_run(self, run_id):
        if not self.is_there:
            raise MlflowException("API request to http://user:secret@host failed")

    def log_batch(self, run_id, metrics):
        self.get_run(run_id)
        for metric in metrics:
            if metric.step in self.refused:
                raise MlflowException("no such thing")
            self.steps.append(metric.step)


def record(step: int) -> dict:
    return {"metrics": [("loss", 0.5, 1000 + step, step)]}


def test_a_store_that_is_away_is_reported_once_and_not_asked_at_every_step(tmp_path, caplog, monkeypatch):
    store = Store()
    waiting = Outbox(store, "run", tmp_path / "run")
    for step in range(3):
        waiting.add(record(step))
        store.is_there = True  # the pause is not over
    assert store.steps == []
    assert waiting.deliver()
    assert store.steps == [0, 1, 2]
    assert not (tmp_path / "run").exists()
    assert [entry.getMessage() for entry in caplog.records] == [
        "MLflow does not take the records of run run (MlflowException): they wait in "
        f"{tmp_path}/run, and this training or the next sends them"
    ]


def test_what_a_store_refuses_holds_nothing_up(tmp_path, caplog):
    store = Store(refused=(1, 3))
    store.is_there = True
    outbox_ = Outbox(store, "run", tmp_path / "run")
    for step in range(5):
        outbox_.add(record(step))
    assert store.steps == [0, 2, 4]
    assert [entry.getMessage() for entry in caplog.records] == [
        "MLflow does not take the records of run run (MlflowException): what it refuses stays in "
        f"{tmp_path}/run, and the next training tries again"
    ]
    store.refused = (3,)
    assert not Outbox(store, "run", tmp_path / "run").deliver()
    assert store.steps == [0, 2, 4, 1]
    assert len(list((tmp_path / "run").iterdir())) == 1
    store.refused = ()
    outbox.deliver_left_behind(store, tmp_path)
    assert store.steps == [0, 2, 4, 1, 3]
    assert not list(tmp_path.iterdir())


def test_what_waits_survives_a_kill_also_while_it_is_written(tmp_path):
    store = Store()
    waiting = Outbox(store, "run", tmp_path / "run")
    for step in range(3):
        waiting.add(record(step))
    last = max((tmp_path / "run").iterdir())
    last.rename(last.with_suffix(".partial"))
    (last.with_suffix(".partial") / "record.json").write_text('{"metr')
    waiting = Outbox(store, "run", tmp_path / "run")
    waiting.add(record(2))  # of the step that a resumed training does again
    store.is_there = True
    assert Outbox(store, "run", tmp_path / "run").deliver()
    assert store.steps == [0, 1, 2]
    assert not list(tmp_path.iterdir())


def test_records_wait_in_memory_where_they_cannot_be_written(tmp_path, caplog):
    store = Store()
    (tmp_path / "run").write_text("a file where the folder should be")
    waiting = Outbox(store, "run", tmp_path / "run")
    waiting.add(record(0))
    assert "run: cannot be written: " in caplog.text
    store.is_there = True
    assert waiting.deliver()
    assert store.steps == [0]

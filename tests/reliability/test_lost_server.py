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
from defects_in_welds.training import mlflow_store, outbox
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
    assert not UNSENT.exists()
    assert steps_of(client, tracker.run_id) == [1, 2, 3, 4, 5]
    found = client.get_run(tracker.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.end_time < client.get_run(other.run_id).info.start_time
    (copy,) = server.folder.rglob(f"{tracker.run_id}/artifacts/best.ckpt")
    assert copy.read_text() == "other weights"


def test_a_server_that_is_away_from_the_start_has_a_local_stand_in(server, caplog, monkeypatch):
    local = f"sqlite:///{Path.cwd()}/mlflow.db"
    monkeypatch.setattr(mlflow_store, "LOCAL_STORE", local)
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
    """Takes metrics and the end of a run when it is there, but for what it refuses: steps, and words of an end."""

    def __init__(self, *refused):
        self.is_there = True
        self.refused = refused
        self.taken = []

    def get_run(self, run_id):
        if not self.is_there:
            raise MlflowException("API request to http://user:secret@host failed")

    def log_batch(self, run_id, metrics):
        for metric in metrics:
            self._take(metric.step)

    def set_terminated(self, run_id, status, end_ms):
        self._take(status)

    def _take(self, record):
        self.get_run("run")
        if record in self.refused:
            raise MlflowException("no such thing")
        self.taken.append(record)


def record(step: int) -> dict:
    return {"metrics": [("loss", 0.5, 1000 + step, step)]}


def fill(waiting: Outbox, *steps: int) -> None:
    for step in steps:
        waiting.add(record(step))


@pytest.fixture
def away() -> Store:
    store = Store()
    store.is_there = False
    return store


def test_a_store_that_is_away_is_reported_once_and_not_asked_at_every_step(tmp_path, caplog, away):
    waiting = Outbox(away, "run", tmp_path / "run")
    fill(waiting, 0)
    away.is_there = True
    fill(waiting, 1, 2)  # the pause is not over
    assert away.taken == []
    assert waiting.deliver()
    assert away.taken == [0, 1, 2]
    assert not (tmp_path / "run").exists()
    assert [entry.getMessage() for entry in caplog.records] == [
        "MLflow does not take the records of run run (MlflowException): they wait in "
        f"{tmp_path}/run, and this training or the next sends them"
    ]


def test_what_a_store_refuses_holds_nothing_up(tmp_path, caplog):
    store = Store(1, 3)
    fill(Outbox(store, "run", tmp_path / "run"), *range(5))
    assert store.taken == [0, 2, 4]
    assert [entry.getMessage() for entry in caplog.records] == [
        "MLflow does not take the records of run run (MlflowException): what it refuses stays in "
        f"{tmp_path}/run, and later trainings try again"
    ]
    store.refused = (3,)
    assert not Outbox(store, "run", tmp_path / "run").deliver()
    assert store.taken == [0, 2, 4, 1]
    assert len(list((tmp_path / "run").iterdir())) == 1
    store.refused = ()
    outbox.deliver_left_behind(store, tmp_path)
    assert store.taken == [0, 2, 4, 1, 3]
    assert not list(tmp_path.iterdir())


def test_a_store_that_was_away_for_a_moment_is_asked_again_at_the_end(tmp_path):
    store = Store(1)
    waiting = Outbox(store, "run", tmp_path / "run")
    fill(waiting, 0, 1, 2)
    store.refused = ()
    waiting.deliver_all()
    assert store.taken == [0, 2, 1]
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_is_not_ended_by_what_waits(tmp_path, away):
    Outbox(away, "run", tmp_path / "run").add({"status": ("KILLED", 1)})
    resumed = Outbox(away, "run", tmp_path / "run")
    resumed.drop_status()
    away.is_there = True
    fill(resumed, 1)
    assert away.taken == [1]


def test_an_end_that_was_refused_does_not_undo_a_later_one(tmp_path):
    store = Store("KILLED")
    waiting = Outbox(store, "run", tmp_path / "run")
    waiting.add({"status": ("KILLED", 1)})
    waiting.add({"status": ("FINISHED", 2)})
    store.refused = ()
    outbox.deliver_left_behind(store, tmp_path)
    assert store.taken == ["FINISHED"]
    assert not (tmp_path / "run").exists()


def test_what_waits_survives_a_kill_also_while_it_is_written(tmp_path, away):
    fill(Outbox(away, "run", tmp_path / "run"), 0, 1, 2)
    last = max((tmp_path / "run").iterdir())
    half = last.rename(last.with_suffix(".partial"))
    (half / "record.json").write_text('{"metr')
    fill(Outbox(away, "run", tmp_path / "run"), 2)  # a resumed training does the step again
    away.is_there = True
    assert Outbox(away, "run", tmp_path / "run").deliver()
    assert away.taken == [0, 1, 2]
    assert not list(tmp_path.iterdir())


def test_a_kill_while_what_was_sent_is_removed_stops_no_later_training(tmp_path, away):
    fill(Outbox(away, "run", tmp_path / "run"), 0, 1)
    (tmp_path / "run/00000000").rename(tmp_path / "run/00000000.sent")
    (tmp_path / "run/00000000.sent/record.json").unlink()
    away.is_there = True
    outbox.deliver_left_behind(away, tmp_path)
    assert away.taken == [1]
    assert not list(tmp_path.iterdir())


def test_a_damaged_record_stops_no_other(tmp_path, away):
    fill(Outbox(away, "run", tmp_path / "run"), 0, 1)
    (tmp_path / "run/00000000/record.json").write_text("{")
    away.is_there = True
    outbox.deliver_left_behind(away, tmp_path)
    assert away.taken == [1]
    assert (tmp_path / "run/00000000").is_dir()


def test_what_others_keep_in_the_folder_stays(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/records.jsonl").write_text("of another version")
    caplog.set_level(logging.INFO)
    outbox.deliver_left_behind(Store(), tmp_path)
    assert (tmp_path / "run/records.jsonl").is_file()
    assert not caplog.records


def test_the_records_of_a_training_that_is_at_work_are_left_to_it(tmp_path, away):
    fill(Outbox(away, "run", tmp_path / "run"), 0)
    hold = (
        "import pathlib, sys\n"
        "from defects_in_welds.output_folder import reserved\n"
        f"with reserved(pathlib.Path({str(tmp_path / 'run')!r})):\n"
        "    print('at work', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    away.is_there = True
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as training:
        assert training.stdout.readline() == b"at work\n"
        outbox.deliver_left_behind(away, tmp_path)
        assert away.taken == []
        training.stdin.close()
    outbox.deliver_left_behind(away, tmp_path)
    assert away.taken == [0]


def test_records_wait_in_memory_until_they_can_be_written(tmp_path, caplog, away):
    (tmp_path / "run").write_text("a file where the folder should be")
    waiting = Outbox(away, "run", tmp_path / "run")
    fill(waiting, 0, 1)
    assert caplog.text.count("run: cannot be written: ") == 1
    (tmp_path / "run").unlink()
    fill(waiting, 2)
    away.is_there = True
    assert Outbox(away, "run", tmp_path / "run").deliver()
    assert away.taken == [0, 1, 2]

"""Of two runs that write the same, the second says at once that the first is at work; no files are mixed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tiny_training import tiny_params, write_store

from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.output_folder import read_together, replaced_folder, reserved
from defects_in_welds.params import UserError
from defects_in_welds.training.run_training import train

HOLD = """
import sys, time
from pathlib import Path
from defects_in_welds.output_folder import replaced_folder
with replaced_folder(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("first")
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def first_run(path: Path) -> Iterator[subprocess.Popen]:
    """Another process that is writing a folder, until its input is closed."""
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_the_second_is_told_which_process_is_at_work(tmp_path):
    path = tmp_path / "out"
    with first_run(path) as first:
        start = time.monotonic()
        message = rf"out: another run \(process {first.pid}\) is writing it; wait until it has ended, or stop it"
        with pytest.raises(UserError, match=message), replaced_folder(path):
            pass
        assert time.monotonic() - start < 1
    assert (path / "file").read_text() == "first"
    assert [left.name for left in tmp_path.iterdir()] == ["out"]
    with replaced_folder(path):
        pass


def test_a_run_that_was_killed_holds_nobody_up(tmp_path):
    with first_run(tmp_path / "out") as first:
        first.kill()
        first.wait()
        with replaced_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("second")
    assert [left.name for left in tmp_path.iterdir()] == ["out"]


def test_a_second_training_ends_before_it_touches_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_store(Path("prepared"))
    with first_run(Path("training")), pytest.raises(UserError, match=r"^training: another run"):
        train(tiny_params(), Path("prepared"), Path("model"), Path("training"))
    assert {path.name for path in tmp_path.iterdir()} == {"prepared", "training"}


def test_the_place_is_free_when_many_try_for_it_at_once(tmp_path):
    """Each either writes or is refused, and the last to write has left its files alone."""
    script = (
        "import os, sys, time, pathlib\n"
        "from defects_in_welds.output_folder import replaced_folder\n"
        "from defects_in_welds.params import UserError\n"
        "written = 0\n"
        "while written < 20:\n"
        "    try:\n"
        "        with replaced_folder(pathlib.Path('out')) as folder:\n"
        "            for name in 'ab':\n"
        "                (folder / name).write_text(f'{os.getpid()} {written}')\n"
        "        written += 1\n"
        "    except UserError as error:\n"
        "        assert 'another run' in str(error), error\n"
        "        time.sleep(0.001)\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) for _ in range(3)]
    seen = set()
    while any(run.poll() is None for run in runs):
        try:
            with read_together(tmp_path / "out"):
                pair = tuple((tmp_path / "out" / name).read_text() for name in "ab")
            seen.add(pair)
        except (UserError, FileNotFoundError):
            time.sleep(0.001)
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert [pair for pair in seen if len(set(pair)) != 1] == []
    assert len(seen) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_store_that_is_replaced_while_it_is_opened_is_refused(tmp_path, monkeypatch):
    write_store(tmp_path / "prepared")
    from defects_in_welds.data import tensor_store

    read = tensor_store._read_manifest

    def read_and_replace(path):
        manifest = read(path)
        write_store(path, seed=1)
        return manifest

    monkeypatch.setattr(tensor_store, "_read_manifest", read_and_replace)
    with pytest.raises(UserError, match="prepared: another run has replaced it while it was read; start again"):
        TensorStore.open(tmp_path / "prepared")


def test_one_may_write_beside_another(tmp_path):
    with reserved(tmp_path / "training"), replaced_folder(tmp_path / "model") as folder:
        (folder / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


LOG = """
from defects_in_welds.params import load_params
from defects_in_welds.training.tracking import tracked_run
with tracked_run(load_params(), "") as tracker:
    for step in range(5):
        tracker.log_metrics({"train/loss": 1.0}, step)
"""


@pytest.mark.slow
def test_two_runs_may_make_the_tables_of_mlflow_at_once(project):
    uri = f"sqlite:///{project}/mlflow.db"
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    runs = [subprocess.Popen([sys.executable, "-c", LOG], env=environment) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    client = MlflowClient(uri)
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert [run.info.status for run in found] == ["FINISHED"] * 2
    assert [len(client.get_metric_history(run.info.run_id, "train/loss")) for run in found] == [5, 5]

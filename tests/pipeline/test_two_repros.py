"""Two times ``dvc repro`` in one clone at the same time: one runs, the other says that it has to wait."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLOW_STAGE = """
import pathlib, time
from defects_in_welds.output_folder import replaced_folder
with replaced_folder(pathlib.Path("out")) as folder:
    (folder / "file").write_text("half")
    pathlib.Path("started").touch()
    while not pathlib.Path("go_on").exists():
        time.sleep(0.05)
    (folder / "file").write_text("whole")
"""


@pytest.fixture
def repro(tmp_path, monkeypatch, run_command):
    """Start ``dvc repro`` in a project with one stage, which waits for a file to end."""
    monkeypatch.chdir(tmp_path)
    Path("stage.py").write_text(SLOW_STAGE)
    Path("dvc.yaml").write_text("stages:\n  slow:\n    cmd: python stage.py\n    deps: [stage.py]\n    outs: [out]\n")
    run_command("git init -q").check_returncode()
    run_command("dvc init -q").check_returncode()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def start():
        with Path("log").open("w") as log:
            return subprocess.Popen(["dvc", "repro"], env=os.environ | {"PATH": path}, stdout=log, stderr=log)

    return start


def wait_for(name: str) -> None:
    deadline = time.monotonic() + 60
    while not Path(name).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_the_second_repro_names_the_first(repro, run_command):
    first = repro()
    wait_for("started")
    second = run_command("dvc repro")
    assert second.returncode != 0
    assert "is busy" in second.stderr
    assert str(first.pid) in second.stderr
    Path("go_on").touch()
    assert first.wait() == 0, Path("log").read_text()
    assert Path("out/file").read_text() == "whole"
    assert "up to date" in run_command("dvc status").stdout


@pytest.mark.slow
def test_a_repro_beside_the_stage_of_a_killed_one_is_refused(repro, run_command):
    """SIGKILL ends DVC, not the stage that it has started."""
    first = repro()
    wait_for("started")
    first.kill()
    first.wait()
    second = run_command("dvc repro")
    assert second.returncode != 0
    assert "out: another run (process" in second.stderr
    Path("go_on").touch()
    wait_for("out/file")
    assert Path("out/file").read_text() == "whole"
    run_command("dvc repro").check_returncode()
    assert Path("out/file").read_text() == "whole"

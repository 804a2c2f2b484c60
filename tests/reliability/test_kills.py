"""A stage that is killed leaves the old result or the new one, and a rerun completes.

`benchmarks/reliability_kills.py` kills the stages themselves; here it is what they all write with.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from defects_in_welds import output_folder
from defects_in_welds.output_folder import replaced_folder

OLD = {"a": "old", "b": "old"}
NEW = {"a": "new", "c": "new"}


def write(path: Path, content: dict[str, str]) -> None:
    with replaced_folder(path) as folder:
        for name, text in content.items():
            (folder / name).write_text(text)


def read(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir()}


# What Python tells its auditors before it does it: all that changes a folder, and `renameat2`, which ctypes looks up.
CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "ctypes.dlsym", "fcntl.lockf")


def write_until_killed(path: Path, step: int) -> bool:
    """Replace a folder in a fork that kills itself before a step; tell whether it did."""
    child = os.fork()
    if child == 0:
        left = [step]

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if event in CHANGES:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        write(path, NEW)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_folder_is_the_old_or_the_new_whenever_the_kill_comes(tmp_path):
    path = tmp_path / "out"
    found = []
    while True:
        write(path, OLD)
        was_killed = write_until_killed(path, len(found))
        found.append(read(path))
        assert found[-1] in (OLD, NEW), f"after {len(found) - 1} steps"
        write(path, NEW)
        assert read(path) == NEW
        assert [left.name for left in tmp_path.iterdir()] == ["out"]
        if not was_killed:
            break
    assert found[-1] == NEW
    assert len(found) > 10
    assert [content == NEW for content in found] == sorted(content == NEW for content in found)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_without_an_exchange_in_one_step_a_rerun_still_finds_one_of_them(tmp_path, monkeypatch):
    """Systems other than Linux: for an instant the old folder has only its other name."""
    monkeypatch.setattr(output_folder, "_exchange", lambda first, second: False)
    path = tmp_path / "out"
    was_killed = True
    step = 0
    while was_killed:
        write(path, OLD)
        was_killed = write_until_killed(path, step)
        step += 1
        with pytest.raises(ZeroDivisionError), replaced_folder(path):
            raise ZeroDivisionError  # a rerun that fails
        assert read(path) in (OLD, NEW)
    assert step > 10


def test_workers_that_outlive_their_run_write_nothing_into_the_next(tmp_path):
    path = tmp_path / "out"
    with replaced_folder(path) as orphaned:
        shutil.copytree(orphaned, tmp_path / ".out.of_the_dead.partial")
    orphan = tmp_path / ".out.of_the_dead.partial" / "late"
    with replaced_folder(path) as folder:
        assert folder != orphan.parent
        with pytest.raises(FileNotFoundError):
            orphan.write_text("old")
        (folder / "file").write_text("new")
    assert read(path) == {"file": "new"}

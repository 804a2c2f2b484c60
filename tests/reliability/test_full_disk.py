"""A full disk or a folder without rights ends in one line, and what was there before stays."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from limits import largest_file
from tiny_training import tiny_params, write_store

from defects_in_welds.output_folder import replaced_folder, reserved
from defects_in_welds.params import UserError
from defects_in_welds.training.run_training import train

NOBODY = 65534


@contextmanager
def no_rights() -> Iterator[None]:
    """Be nobody for a while: permissions do not bind root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def write(path: Path, content: bytes) -> None:
    with replaced_folder(path) as folder:
        (folder / "file").write_bytes(content)


def test_a_file_that_grows_too_large_leaves_the_old_folder(tmp_path):
    write(tmp_path / "out", b"old")
    with largest_file(1000), pytest.raises(UserError, match=r"out: cannot be written: File too large; raise the limit"):
        write(tmp_path / "out", bytes(5000))
    assert (tmp_path / "out/file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_that_cannot_be_reserved_is_named(tmp_path):
    with largest_file(0), pytest.raises(UserError, match=r"out: cannot be written: "), reserved(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_without_rights_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("out"), b"old")
    tmp_path.chmod(0o555)
    with no_rights(), pytest.raises(UserError, match=r"^out: cannot be written: Permission denied; ask for the right"):
        write(Path("out"), b"new")
    tmp_path.chmod(0o755)
    assert Path("out/file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


ON_A_FULL_DISK = """
import pathlib
from defects_in_welds.output_folder import replaced_folder
from defects_in_welds.params import report_user_errors
with report_user_errors():
    for content in (b"old", bytes(10**7)):
        try:
            with replaced_folder(pathlib.Path("disk/out")) as folder:
                (folder / "file").write_bytes(content)
        finally:
            print(*sorted(str(path) for path in pathlib.Path("disk").rglob("*")))
"""


def test_a_disk_that_is_full(tmp_path):
    """A real one, of a megabyte, that exists for this process alone."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here: a small disk cannot be made")
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(ON_A_FULL_DISK)
    mount = "mount -t tmpfs -o size=1m tmpfs disk"
    in_a_namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*in_a_namespace, mount], cwd=tmp_path, capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody mount a small disk")
    run = subprocess.run(
        [*in_a_namespace, f"{mount} && exec {sys.executable} script.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr == "error: disk/out: cannot be written: No space left on device; free some space\n"
    assert run.stdout.splitlines() == ["disk/out disk/out/file"] * 2


@pytest.mark.slow
def test_a_training_that_cannot_save_ends_in_one_line_and_keeps_what_it_has(tmp_path, monkeypatch):
    """The weights take 75 MB, the state to resume twice that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_store(Path("prepared"))
    tiny = tiny_params()
    folders = Path("prepared"), Path("model"), Path("training")
    for size, name, kept in (
        (10_000_000, "best.ckpt", {"started.json"}),
        (100_000_000, "last.ckpt", {"started.json", "best.ckpt"}),
    ):
        message = rf"^training/{name}: cannot be written: File too large; raise the limit"
        with largest_file(size), pytest.raises(UserError, match=message):
            train(tiny, *folders)
        assert {path.name for path in Path("training").iterdir()} == kept
        assert not Path("model").exists()
    train(replace(tiny, train=replace(tiny.train, max_epochs=1)), *folders)
    assert {path.name for path in Path("training").iterdir()} == {"started.json", "best.ckpt", "last.ckpt"}

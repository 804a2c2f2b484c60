"""What ``make`` does about the data, in a project whose tools are installed."""

import shutil
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tiny_project, run_command) -> Path:
    """The tiny project with a ``data.dvc`` that names its sample, and stamps that say that all is installed."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tiny_project / name)
    (tiny_project / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tiny_project / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (tiny_project / ".venv" / "run-tools.stamp").touch()
    for command in ("git init -q", "dvc add -q data"):
        run_command(command).check_returncode()
    return tiny_project


@pytest.fixture
def without_data(installed) -> Path:
    """The project as another clone finds it: no data, nothing in DVC's cache."""
    shutil.rmtree(installed / "data", ignore_errors=True)
    shutil.rmtree(installed / ".dvc" / "cache", ignore_errors=True)
    return installed


def test_missing_data_are_simulated_and_are_what_data_dvc_names(without_data, run_command):
    named = (without_data / "data.dvc").read_text()
    run = run_command("make data")
    assert run.returncode == 0, run.stderr
    assert (without_data / "data.dvc").read_text() == named
    assert "up to date" in run_command("dvc status data.dvc").stdout


def test_the_sample_does_not_pass_for_other_data(without_data, run_command):
    data_dvc = without_data / "data.dvc"
    named = data_dvc.read_text()
    other = named.replace("md5: ", "md5: 0", 1)
    data_dvc.write_text(other)
    run = run_command("make data")
    assert run.returncode != 0
    assert "get the data that it names with 'dvc pull'" in run.stderr
    assert not (without_data / "data").exists()
    assert data_dvc.read_text() == other
    data_dvc.write_text(named)


def test_data_that_are_there_are_left_alone(without_data, run_command):
    (without_data / "data").mkdir()
    plan = run_command("make --dry-run repro")
    assert "dvc repro" in plan.stdout
    assert "simulate" not in plan.stdout
    assert "pip install" not in plan.stdout


def test_a_python_that_is_too_old_is_named(installed, run_command):
    (installed / "old-python").write_text("#!/bin/sh\nexit 1\n")
    (installed / "old-python").chmod(0o755)
    (installed / "tests").mkdir()
    (installed / "tests" / "requirements.txt").touch()
    run = run_command("make PYTHON=./old-python test")
    assert run.returncode != 0
    assert "./old-python is missing or is not Python 3.11, 3.12 or 3.13" in run.stderr


def test_make_alone_lists_the_targets(installed, run_command):
    listed = run_command("make").stdout
    assert [line.split(" - ")[0] for line in listed.splitlines()] == [
        "help",
        "repro",
        "test",
        "bench",
        "soak",
        "ui",
        "lock",
        "clean",
    ]

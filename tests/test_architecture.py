"""The plan of the house holds: who may import whom, and files that run as scripts by their path."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "defects_in_welds"
SCRIPT_FOLDERS = [PACKAGE / "data", PACKAGE / "training"]


def third_party_modules() -> set[str]:
    """Top-level names that an import in this environment can mean, other than our own."""
    site_packages = {Path(path) for path in sys.path if Path(path).name == "site-packages"}
    return {path.stem for folder in site_packages for path in folder.iterdir()} - {PACKAGE.name}


def test_imports_go_downward_only():
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout


def test_import_contract_covers_every_module():
    contract = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(each for each in contract["contracts"] if each["type"] == "layers")
    assert layers["exhaustive"]
    assert layers["containers"] == [PACKAGE.name]


def test_the_report_does_without_pytorch():
    """It would take four times the memory."""
    script = "import sys, defects_in_welds.evaluation.report.report_page; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.parametrize("folder", SCRIPT_FOLDERS, ids=lambda folder: folder.name)
def test_no_script_has_a_sibling_that_hides_another_module(folder):
    """``python FOLDER/script.py`` puts FOLDER first on the path, so that ``FOLDER/types.py`` would hide ``types``."""
    siblings = {
        path.stem for path in folder.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__")
    }
    assert siblings & (set(sys.stdlib_module_names) | third_party_modules()) == set()


def test_third_party_modules_are_seen():
    assert {"torch", "numpy", "yaml"} <= third_party_modules()


def test_no_module_changes_the_import_path():
    sources = [
        path for folder in (PACKAGE, REPOSITORY / "tests") for path in folder.rglob("*.py") if path != Path(__file__)
    ]
    assert len(sources) > 10
    tricks = ("PYTHON" + "PATH", "sys.path.insert", "sys.path.append", "sys.path +", "sys.path[")
    assert [path for path in sources if any(trick in path.read_text(encoding="utf-8") for trick in tricks)] == []

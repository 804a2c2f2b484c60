"""Fixtures that several rooms share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import yaml

from defects_in_welds.params import Params, load_params

# The tests keep their runs to themselves, and start make as a shell does, also where make has started them.
for variable in ("MLFLOW_TRACKING_URI", "MAKELEVEL", "MAKEFLAGS", "MFLAGS"):
    os.environ.pop(variable, None)

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

REPOSITORY = Path(__file__).resolve().parents[1]

# In place of the baseline's values, so that the whole pipeline runs in seconds.
TINY = {
    "simulate": {"films": 8, "height_px": 128, "width_px": 192, "films_per_weld": 1},
    "prepare": {"img_size": 128, "overlap_px": 32, "val_share": 0.25, "test_share": 0.25},
    "model": {"architecture": "fasterrcnn_mobilenet_v3_large_320_fpn", "proposals": 50},
    "train": {"batch_size": 2, "max_epochs": 1, "warmup_steps": 0},
    "trainer": {"limit_train_batches": 2, "log_every_n_steps": 1, "enable_progress_bar": False},
    "report": {"worst_films": 1},
}


@pytest.fixture
def params() -> Params:
    return load_params()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with the repository's parameters, as the current directory."""
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a clone holds, with tiny values and simulated data; the current directory of the module's tests."""
    from defects_in_welds.simulation.dataset import simulate_dataset

    folder = tmp_path_factory.mktemp("project")
    for name in ("configs", "defects_in_welds"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / ".dvc" / "plots", folder / ".dvc" / "plots")
    for name in ("dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"):
        shutil.copy(REPOSITORY / name, folder / name)
    params_file = folder / "configs" / "params.yaml"
    values = yaml.safe_load(params_file.read_text(encoding="utf-8"))
    for section, tiny_values in TINY.items():
        values[section] |= tiny_values
    params_file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        simulate_dataset(load_params().simulate, Path("data"))
        yield folder


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command line in the current directory, with the programs of this Python's environment found first."""

    def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, **environment}
        return subprocess.run(command.split(), env=variables, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Radiographs that may not be copied into the project; their tests are skipped where the folder is missing."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder

"""Fixtures that several rooms share."""

import shutil
from pathlib import Path

import pytest

from defects_in_welds.params import Params, load_params

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def params() -> Params:
    return load_params()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with the repository's parameters, as the current directory."""
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Radiographs that may not be copied into the project; their tests are skipped where the folder is missing."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder

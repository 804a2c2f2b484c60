import pytest
from tiny_training import tiny_params


@pytest.fixture
def tiny():
    return tiny_params()


@pytest.fixture
def mlflow_uri(tmp_path, monkeypatch):
    """An MLflow store of the test's own: MLflow keeps the first file that it opens under a relative address."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri

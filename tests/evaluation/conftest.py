import json

import pytest
from known_project import FLAWS, Oracle, Project
from mlflow import MlflowClient

from defects_in_welds.data.annotation import Split
from defects_in_welds.inference.predictor import Predictor


@pytest.fixture
def artifacts(tmp_path, monkeypatch) -> Project:
    """Prepared films of all splits, a model that is an oracle, and an MLflow server that is away."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Oracle())
    project = Project(*(tmp_path / name for name in ("prepared", "model", "evaluation", "report")))
    project.prepare(
        ("train/a.png", Split.TRAIN, FLAWS[:1]),
        ("val/b.png", Split.VAL, FLAWS),
        ("test/<c>.png", Split.TEST, FLAWS),
        ("test/d.png", Split.TEST, [FLAWS[0], FLAWS[0]]),
    )
    return project


@pytest.fixture
def tracked_run(artifacts, tmp_path) -> tuple[MlflowClient, str]:
    """A run in an MLflow store of its own, which the model's record names."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("trial", artifact_location=str(tmp_path / "mlartifacts"))
    run_id = client.create_run(experiment).info.run_id
    record = json.loads((artifacts.model / "run.json").read_text())
    (artifacts.model / "run.json").write_text(json.dumps({**record, "run_id": run_id, "tracking_uri": uri}))
    return client, run_id

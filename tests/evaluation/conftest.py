import pytest
from known_project import FLAWS, Oracle, Project

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

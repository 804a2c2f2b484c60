import subprocess
import time
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from defects_in_welds.params import ParamsError, without_credentials
from defects_in_welds.training.mlflow_store import tracking_uri
from defects_in_welds.training.tracking import git_commit, metric_name, tracked_run, training_params


@pytest.fixture
def store(tmp_path, monkeypatch, mlflow_uri):
    """An MLflow store in the current directory, which is no git repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


@pytest.fixture
def client(store, mlflow_uri):
    return MlflowClient(mlflow_uri)


def test_a_run_holds_parameters_tags_metrics_and_a_file(store, client, params):
    (store / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n")
    (store / "best.ckpt").write_text("weights")
    with tracked_run(params, "d" * 64, started=None) as tracker:
        assert client.get_run(tracker.run_id).info.status == "RUNNING"
        tracker.log_metrics({"val/AP/трещина (100)": 0.0}, step=3)
        tracker.log_file(store / "best.ckpt")
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.batch_size"] == str(params.train.batch_size)
    assert run.data.params["model.anchor_sizes_px"] == str(params.model.anchor_sizes_px)
    assert {name.split(".")[0] for name in run.data.params} == {"augmentation", "model", "train", "trainer"}
    assert run.data.tags["data_sha256"] == "d" * 64
    assert run.data.tags["data_dvc_md5"] == "abc.dir"
    assert run.data.metrics == {"val/AP/трещина _100_": 0.0}
    (row,) = client.get_metric_history(run.info.run_id, "val/AP/трещина _100_")
    assert row.step == 3
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["best.ckpt"]


def test_a_run_is_named_by_its_start(client, params):
    with tracked_run(params, "", started=None) as tracker:
        pass
    run = client.get_run(tracker.run_id)
    named = time.mktime(time.strptime(run.info.run_name, "%Y-%m-%d %H:%M:%S"))
    assert named == pytest.approx(run.info.start_time / 1000, abs=60)


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (RuntimeError, "FAILED")]
)
def test_the_status_says_how_a_run_ended(client, params, error, status):
    with pytest.raises(error), tracked_run(params, "", started=None) as tracker:
        raise error
    assert client.get_run(tracker.run_id).info.status == status


def test_a_run_goes_on_under_its_own_id(client, params):
    with tracked_run(params, "", started=None) as first:
        pass
    changed = replace(params, train=replace(params.train, resume=True))
    started = {"run_id": first.run_id, "experiment_id": first.experiment_id, "tracking_uri": first.uri}
    with tracked_run(changed, "", started) as second:
        assert client.get_run(first.run_id).info.status == "RUNNING"
    assert (second.run_id, second.experiment_id) == (first.run_id, first.experiment_id)
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_the_environment_names_the_store_first(params, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking_uri(params) == "sqlite:///other.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri(params) == params.train.tracking_uri


def test_a_store_that_cannot_be_used_is_an_error_without_credentials(params, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+nothing://user:secret@127.0.0.1:9/db")
    with (
        pytest.raises(ParamsError, match="MLFLOW_TRACKING_URI cannot be used") as error,
        tracked_run(params, "", started=None),
    ):
        pass
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("https://user:secret@host:80/path", "https://host:80/path"),
        ("postgresql://host/db?password=secret", "postgresql://host/db"),
        ("postgresql+psycopg2://user:a#s/e?cret@host/db", "postgresql+psycopg2://host/db"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_credentials_are_left_out(uri, plain, params):
    assert without_credentials(uri) == plain
    with_uri = replace(params, train=replace(params.train, tracking_uri=uri), model=replace(params.model, weights=uri))
    sections = training_params(with_uri)
    assert sections["train"]["tracking_uri"] == sections["model"]["weights"] == plain


def test_the_commit_is_that_of_the_working_directory(store):
    assert git_commit() is None
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    (store / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], [*settings, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], check=True)
    commit, is_dirty = git_commit()
    assert len(commit) == 40
    assert not is_dirty
    (store / "file").write_text("2")
    assert git_commit() == (commit, True)


def test_metric_names_keep_letters_of_any_alphabet():
    assert metric_name("val/AP/непровар, 402") == "val/AP/непровар_ 402"

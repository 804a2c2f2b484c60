"""The record of a training in MLflow: one run, from the first step to the checkpoint."""

import logging
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from os import environ
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from pytorch_lightning.loggers.logger import Logger

from defects_in_welds.params import DATA_DIR, Params, ParamsError

_SECTIONS = ("augmentation", "model", "train", "trainer")
_BATCH = 100  # most parameters that MLflow takes at once


def tracking_uri(params: Params) -> str:
    """Find the MLflow store: the environment's ``MLFLOW_TRACKING_URI`` goes before ``train.tracking_uri``."""
    return environ.get("MLFLOW_TRACKING_URI") or params.train.tracking_uri


def without_credentials(uri: str) -> str:
    """Leave user, password and query out of a URI, so that it can be written down."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc and not parts.query:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def training_params(params: Params) -> dict[str, dict[str, Any]]:
    """List the parameters that a training reads, by section and without credentials."""
    sections = {name: asdict(getattr(params, name)) for name in _SECTIONS}
    sections["train"]["tracking_uri"] = without_credentials(params.train.tracking_uri)
    return sections


def git_commit() -> tuple[str, bool] | None:
    """Find the commit that the working directory is at, and whether files differ from it; None outside of git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None


class RunTracker(Logger):
    """Takes what Lightning logs to one MLflow run.

    Lightning's own logger strips all but ASCII letters from metric names, which can leave nothing of a class name.

    Attributes:
        run_id: The run.
        experiment_id: The experiment that it belongs to.
    """

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        """Take an open run."""
        super().__init__()
        self._client = client
        self.run_id = run_id
        self.experiment_id = experiment_id

    @property
    def name(self) -> str:
        """The experiment's id."""
        return self.experiment_id

    @property
    def version(self) -> str:
        """The run's id."""
        return self.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, under names that MLflow allows."""
        now_ms = int(time.time() * 1000)
        rows = [Metric(metric_name(name), float(value), now_ms, step or 0) for name, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=rows)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Do nothing: `tracked_run` has recorded all parameters."""

    def log_file(self, path: Path) -> None:
        """Keep a copy of a file with the run."""
        self._client.log_artifact(self.run_id, str(path))


def metric_name(name: str) -> str:
    """Replace the characters that MLflow does not allow in a metric's name."""
    return re.sub(r"[^/\w.\- :]", "_", name)


@contextmanager
def tracked_run(params: Params, data_sha256: str, run_id: str | None) -> Iterator[RunTracker]:
    """Open an MLflow run, and close it as finished, failed or killed.

    Args:
        params: All parameters.
        data_sha256: Hash of the prepared data.
        run_id: Run to go on with, as it was recorded; None: a new one.

    Raises:
        ParamsError: If the MLflow store cannot be used.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it reports every table that it makes
    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
    try:
        tracker, client = _open_run(params, data_sha256, run_id)
    except MlflowException as error:
        reason = str(error).splitlines()[0].replace(tracking_uri(params), without_credentials(tracking_uri(params)))
        raise ParamsError(f"params: train.tracking_uri or MLFLOW_TRACKING_URI cannot be used: {reason}") from None
    try:
        yield tracker
    except (KeyboardInterrupt, SystemExit):
        client.set_terminated(tracker.run_id, RunStatus.to_string(RunStatus.KILLED))
        raise
    except BaseException:
        client.set_terminated(tracker.run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
    client.set_terminated(tracker.run_id, RunStatus.to_string(RunStatus.FINISHED))


def _open_run(params: Params, data_sha256: str, run_id: str | None) -> tuple[RunTracker, MlflowClient]:
    client = MlflowClient(tracking_uri(params))
    if run_id is not None:
        run = client.get_run(run_id)
        client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
        return RunTracker(client, run_id, run.info.experiment_id), client
    experiment = client.get_experiment_by_name(params.train.experiment_name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(params.train.experiment_name)
    run = client.create_run(experiment_id, tags=_tags(data_sha256))
    flat = [
        Param(f"{section}.{key}", str(value))
        for section, values in training_params(params).items()
        for key, value in values.items()
    ]
    for start in range(0, len(flat), _BATCH):
        client.log_batch(run.info.run_id, params=flat[start : start + _BATCH])
    return RunTracker(client, run.info.run_id, experiment_id), client


def _tags(data_sha256: str) -> dict[str, str]:
    tags = {"data_sha256": data_sha256}
    commit = git_commit()
    if commit is not None:
        tags["mlflow.source.git.commit"], is_dirty = commit
        tags["git_dirty"] = str(is_dirty).lower()
    dvc_file = Path(f"{DATA_DIR}.dvc")
    if dvc_file.is_file():
        (output,) = yaml.safe_load(dvc_file.read_text())["outs"]
        tags["data_dvc_md5"] = output["md5"]
    return tags


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603

"""The record of a training in MLflow: one run, from the first step to the checkpoint."""

import logging
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from os import environ
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from pytorch_lightning.loggers.logger import Logger

from defects_in_welds.params import DATA_DIR, Params, ParamsError, without_credentials

_log = logging.getLogger(__name__)

_SECTIONS = ("augmentation", "model", "train", "trainer")
_BATCH = 100  # most parameters that MLflow takes at once


def tracking_uri(params: Params) -> str:
    """Find the MLflow store: the environment's ``MLFLOW_TRACKING_URI`` goes before ``train.tracking_uri``."""
    return environ.get("MLFLOW_TRACKING_URI") or params.train.tracking_uri


def training_params(params: Params) -> dict[str, dict[str, Any]]:
    """List the parameters that a training reads, by section and without credentials."""
    sections = {name: asdict(getattr(params, name)) for name in _SECTIONS}
    for section, key in (("train", "tracking_uri"), ("model", "weights")):
        sections[section][key] = without_credentials(sections[section][key])
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
        self._has_warned = False
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
        self._try(lambda: self._client.log_batch(self.run_id, metrics=rows), "metrics")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Do nothing: `tracked_run` has recorded all parameters."""

    def log_params(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """Record parameters as ``section.key``."""
        flat = [
            Param(f"{section}.{key}", str(value))
            for section, values in sections.items()
            for key, value in values.items()
        ]
        for start in range(0, len(flat), _BATCH):
            self._client.log_batch(self.run_id, params=flat[start : start + _BATCH])

    def log_file(self, path: Path) -> None:
        """Keep a copy of a file with the run; where the store does not take it, say so: the training is done."""
        self._try(lambda: self._client.log_artifact(self.run_id, str(path)), str(path))

    def close(self, status: str) -> None:
        """Record how the run ended."""
        self._try(lambda: self._client.set_terminated(self.run_id, status), "its end")

    def _try(self, record: Callable[[], None], what: str) -> None:
        """Record something; a store that is away costs the record, not the training, and is reported once."""
        try:
            record()
        except Exception as error:  # whatever a tracking store or its artifact store can raise
            if not self._has_warned:
                _log.warning("MLflow's run %s lacks %s, and maybe more: %s", self.run_id, what, type(error).__name__)
            self._has_warned = True


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
    # With MLflow's own seven retries, a server that is away holds a training up for minutes.
    environ.setdefault(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "2")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it reports every table that it makes
    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
    try:
        tracker = _open_run(params, data_sha256, run_id)
    except Exception as error:  # whatever a tracking store can raise: all of it is the address or the name
        uri = tracking_uri(params)
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace(uri, without_credentials(uri))
        raise ParamsError(
            f"params: train.experiment_name, train.tracking_uri or MLFLOW_TRACKING_URI cannot be used: {reason}"
        ) from None
    try:
        yield tracker
    except (KeyboardInterrupt, SystemExit):
        tracker.close(RunStatus.to_string(RunStatus.KILLED))
        raise
    except BaseException:
        tracker.close(RunStatus.to_string(RunStatus.FAILED))
        raise
    tracker.close(RunStatus.to_string(RunStatus.FINISHED))


def _open_run(params: Params, data_sha256: str, run_id: str | None) -> RunTracker:
    client = MlflowClient(tracking_uri(params))
    if run_id is not None:
        run = client.get_run(run_id)
        client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
        return RunTracker(client, run_id, run.info.experiment_id)
    experiment = client.get_experiment_by_name(params.train.experiment_name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(params.train.experiment_name)
    # MLflow would draw a name from the generator that the training has seeded: the same for every run.
    name = time.strftime("%Y-%m-%d %H:%M:%S")
    run = client.create_run(experiment_id, run_name=name, tags=_tags(data_sha256))
    tracker = RunTracker(client, run.info.run_id, experiment_id)
    tracker.log_params(training_params(params))
    return tracker


def _tags(data_sha256: str) -> dict[str, str]:
    tags = {"data_sha256": data_sha256}
    commit = git_commit()
    if commit is not None:
        tags["mlflow.source.git.commit"], is_dirty = commit
        tags["git_dirty"] = str(is_dirty).lower()
    dvc_file = Path(f"{DATA_DIR}.dvc")
    if dvc_file.is_file():
        (output,) = yaml.safe_load(dvc_file.read_text())["outs"]
        if "md5" in output:  # not so for data that is imported, or versioned by its store
            tags["data_dvc_md5"] = output["md5"]
    return tags


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603

"""The record of a training in MLflow: one run, from the first step to the checkpoint."""

import logging
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from pytorch_lightning.loggers.logger import Logger

from defects_in_welds.output_folder import reserved
from defects_in_welds.params import DATA_DIR, Params, ParamsError, without_credentials
from defects_in_welds.training import mlflow_store
from defects_in_welds.training.mlflow_store import limit_retries, store_of, tracking_uri
from defects_in_welds.training.outbox import Outbox, deliver_left_behind

_log = logging.getLogger(__name__)

_SECTIONS = ("augmentation", "model", "train", "trainer")
_BATCH = 100  # most parameters that MLflow takes at once


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
        uri: The store's address, without credentials.
    """

    def __init__(self, outbox: Outbox, run_id: str, experiment_id: str, uri: str) -> None:
        """Take an open run, and what sends its records."""
        super().__init__()
        self._outbox = outbox
        self.run_id = run_id
        self.experiment_id = experiment_id
        self.uri = without_credentials(uri)

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
        rows = [(metric_name(name), float(value), now_ms, step or 0) for name, value in metrics.items()]
        self._outbox.add({"metrics": rows})

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Do nothing: `tracked_run` has recorded all parameters."""

    def log_params(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """Record parameters as ``section.key``."""
        flat = [
            (f"{section}.{key}", str(value)) for section, values in sections.items() for key, value in values.items()
        ]
        for start in range(0, len(flat), _BATCH):
            self._outbox.add({"params": flat[start : start + _BATCH]})

    def log_tags(self, section: str, tags: Mapping[str, str]) -> None:
        """Record what may change when the run goes on elsewhere, as ``section.key``."""
        self._outbox.add({"tags": [(f"{section}.{key}", value) for key, value in tags.items()]})

    def log_file(self, path: Path) -> None:
        """Keep a copy of a file with the run."""
        self._outbox.add({"file": str(path)})

    def close(self, status: str) -> None:
        """Record how the run ended, and try once more to send what waits."""
        self._outbox.add({"status": (status, int(time.time() * 1000))})
        self._outbox.deliver_all()


def metric_name(name: str) -> str:
    """Replace the characters that MLflow does not allow in a metric's name."""
    return re.sub(r"[^/\w.\- :]", "_", name)


@contextmanager
def tracked_run(
    params: Params, data_sha256: str, started: Mapping[str, Any] | None = None, unsent_dir: Path = Path("unsent")
) -> Iterator[RunTracker]:
    """Open an MLflow run, and close it as finished, failed or killed.

    A server that is away costs no record: from the start, all go to a local store; later, they wait until it is back.

    Args:
        params: All parameters.
        data_sha256: Hash of the prepared data.
        started: ``run_id``, ``experiment_id`` and ``tracking_uri`` of the run to go on with; None: a new one.
        unsent_dir: Folder in which records wait for the store.

    Raises:
        ParamsError: If the MLflow store cannot be used.
    """
    limit_retries()
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it reports every table that it makes
    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
    uri = tracking_uri(params)
    try:
        if started is not None:
            tracker = _reopen_run(uri, started, unsent_dir)
        else:
            tracker = _open_new_run(uri, params, data_sha256, unsent_dir)
    except Exception as error:  # whatever a tracking store can raise: all of it is the address or the name
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace(uri, without_credentials(uri))
        raise ParamsError(
            f"params: train.experiment_name, train.tracking_uri or MLFLOW_TRACKING_URI cannot be used: {reason}"
        ) from None
    with reserved(unsent_dir / tracker.run_id):  # another training would send what waits, and remove it
        try:
            yield tracker
        except (KeyboardInterrupt, SystemExit):
            tracker.close(RunStatus.to_string(RunStatus.KILLED))
            raise
        except BaseException:
            tracker.close(RunStatus.to_string(RunStatus.FAILED))
            raise
        tracker.close(RunStatus.to_string(RunStatus.FINISHED))
    with suppress(OSError):  # something waits there
        unsent_dir.rmdir()


def _alone_at(uri: str) -> AbstractContextManager[None]:
    """Let one process at a time open a SQLite file: two that make MLflow's tables would get in each other's way."""
    scheme, _, name = uri.partition(":///")
    path = Path(name)
    return reserved(path, is_awaited=True) if scheme == "sqlite" and path.parent.is_dir() else nullcontext()


def _reopen_run(uri: str, started: Mapping[str, Any], unsent_dir: Path) -> RunTracker:
    """Go on with a run where it was begun; if the server is away, its records wait."""
    run_id, experiment_id = started["run_id"], started["experiment_id"]
    uri = store_of(started, uri)
    with _alone_at(uri):
        client = MlflowClient(uri)
    outbox = Outbox(client, run_id, unsent_dir / run_id)
    outbox.drop_status()
    try:
        client.get_run(run_id)
        client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
    except Exception as error:
        if not _is_server_away(uri, error):
            raise
    else:
        deliver_left_behind(client, unsent_dir)
    return RunTracker(outbox, run_id, experiment_id, started["tracking_uri"])


def _open_new_run(uri: str, params: Params, data_sha256: str, unsent_dir: Path) -> RunTracker:
    """Begin a run, in the local store if the server is away."""
    try:
        client, experiment_id, run_id = _create_run(uri, params, data_sha256)
    except Exception as error:
        if not _is_server_away(uri, error):
            raise
        _log.warning(
            "MLflow at %s cannot be reached: this run is recorded in %s",
            without_credentials(uri),
            mlflow_store.LOCAL_STORE,
        )
        uri = mlflow_store.LOCAL_STORE
        client, experiment_id, run_id = _create_run(uri, params, data_sha256)
    deliver_left_behind(client, unsent_dir)
    tracker = RunTracker(Outbox(client, run_id, unsent_dir / run_id), run_id, experiment_id, uri)
    tracker.log_params(training_params(params))
    return tracker


def _create_run(uri: str, params: Params, data_sha256: str) -> tuple[MlflowClient, str, str]:
    name = params.train.experiment_name
    with _alone_at(uri):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    # MLflow would draw a name from the generator that the training has seeded: the same for every run.
    run = client.create_run(experiment_id, run_name=time.strftime("%Y-%m-%d %H:%M:%S"), tags=_tags(data_sha256))
    return client, experiment_id, run.info.run_id


def _is_server_away(uri: str, error: BaseException | None) -> bool:
    """Tell a server that does not answer from one that refuses, and from an address that is none."""
    if urlsplit(uri).scheme not in ("http", "https"):
        return False
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, ValueError):  # those of requests are OSErrors
            return True
        error = error.__cause__ or error.__context__
    return False


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

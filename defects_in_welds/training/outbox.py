"""Records on their way to MLflow: what it does not take waits on disk, and is sent when it does."""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

RECORDS_NAME = "records.jsonl"
PAUSE_S = 60.0
"""Time between two tries: each may take as long as MLflow's own retries, and holds the training up."""

_log = logging.getLogger(__name__)

Record = dict[str, Any]
"""One of ``metrics``, ``params``, ``tags``, ``file`` and ``status``, with what is recorded."""


class Outbox:
    """Sends the records of a run in order; a store that is away costs neither the training nor a record.

    Sending a record twice does no harm: MLflow keeps one.
    """

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        """Take what an earlier process could not send.

        Args:
            client: Of the store.
            run_id: The run.
            folder: Where its records wait; it exists only as long as some do.
        """
        self._client = client
        self._run_id = run_id
        self._folder = folder
        self._waiting = _read_records(folder / RECORDS_NAME)
        self._next_try_s = 0.0
        self._has_warned = False

    def add(self, record: Record) -> None:
        """Send a record, or keep it for later."""
        self._waiting.append(record)
        if time.monotonic() < self._next_try_s or not self.deliver():
            self._keep(record)

    def deliver(self) -> bool:
        """Send what waits; tell whether nothing waits any more."""
        try:
            while self._waiting:
                self._send(self._waiting[0])
                del self._waiting[0]
        except Exception as error:  # whatever a tracking store or its artifact store can raise
            self._next_try_s = time.monotonic() + PAUSE_S
            self._warn(error)
            return False
        shutil.rmtree(self._folder, ignore_errors=True)
        return True

    def _send(self, record: Record) -> None:
        ((kind, content),) = record.items()
        if kind == "metrics":
            self._client.log_batch(self._run_id, metrics=[Metric(*row) for row in content])
        elif kind == "params":
            self._client.log_batch(self._run_id, params=[Param(*row) for row in content])
        elif kind == "tags":
            self._client.log_batch(self._run_id, tags=[RunTag(*row) for row in content])
        elif kind == "file":
            kept = self._folder / Path(content).name
            self._client.log_artifact(self._run_id, str(kept if kept.is_file() else content))
        else:
            self._client.set_terminated(self._run_id, *content)

    def _keep(self, record: Record) -> None:
        """Write a record down, and copy the file that it names: by the time it is sent, that may be another."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if "file" in record:
                shutil.copy(record["file"], self._folder)
            with (self._folder / RECORDS_NAME).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            _log.warning("%s: cannot be written: %s; the records wait in memory", self._folder, error.strerror)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            _log.warning(
                "MLflow does not take the records of run %s (%s): they wait in %s, and this training or the next sends "
                "them",
                self._run_id,
                type(error).__name__,
                self._folder,
            )
        self._has_warned = True


def deliver_left_behind(client: MlflowClient, folder: Path) -> None:
    """Send what earlier trainings could not, as far as the store knows their runs."""
    for waiting in sorted(folder.glob(f"*/{RECORDS_NAME}")):
        run_id = waiting.parent.name
        try:
            client.get_run(run_id)
        except Exception:  # noqa: S112 - of another store, or the store is away again: they go on waiting
            continue
        if Outbox(client, run_id, waiting.parent).deliver():
            _log.info("MLflow has the records of run %s now", run_id)


def _read_records(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    return [record for line in path.read_text(encoding="utf-8").splitlines() for record in _parsed(line)]


def _parsed(line: str) -> Sequence[Record]:
    """Read a record; a kill can have cut the last one short."""
    try:
        return [json.loads(line)]
    except ValueError:
        return []

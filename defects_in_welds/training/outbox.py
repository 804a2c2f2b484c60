"""Records on their way to MLflow: what it does not take waits on disk, and is sent when it does."""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

PAUSE_S = 60.0
"""Time between two tries: each may take as long as MLflow's own retries, and holds the training up."""

_RECORD_NAME = "record.json"

_log = logging.getLogger(__name__)

Record = dict[str, Any]
"""One of ``metrics``, ``params``, ``tags``, ``file`` and ``status``, with what is recorded."""


@dataclass
class _Entry:
    """A record, and the folder that keeps it while it waits."""

    record: Record
    folder: Path | None = None


class Outbox:
    """Sends the records of a run in order; a store that is away costs neither the training nor a record.

    What a store refuses although it is there stays on disk and holds nothing up. Sending a record twice does no harm:
    MLflow keeps one.
    """

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        """Take what an earlier process could not send.

        Args:
            client: Of the store.
            run_id: The run.
            folder: Where its records wait, a folder each; it exists only as long as some do.
        """
        self._client = client
        self._run_id = run_id
        self._folder = folder
        self._waiting = _read_entries(folder)
        self._refused: list[_Entry] = []
        kept = [int(entry.folder.name) for entry in self._waiting if entry.folder]
        self._next_number = max(kept, default=-1) + 1
        self._next_try_s = 0.0
        self._warned: set[str] = set()

    def add(self, record: Record) -> None:
        """Send a record, or keep it for later."""
        entry = _Entry(record)
        self._waiting.append(entry)
        if time.monotonic() >= self._next_try_s:
            self.deliver()
        if entry in self._waiting or entry in self._refused:
            self._keep(entry)

    def deliver(self) -> bool:
        """Send what waits; tell whether the store has all of it."""
        while self._waiting:
            entry = self._waiting[0]
            try:
                self._send(entry)
            except Exception as error:  # whatever a tracking store or its artifact store can raise
                if not self._is_store_there():
                    self._next_try_s = time.monotonic() + PAUSE_S
                    self._warn("they wait in %s, and this training or the next sends them", error)
                    return False
                self._warn("what it refuses stays in %s, and the next training tries again", error)
                self._refused.append(entry)
            else:
                if entry.folder is not None:
                    shutil.rmtree(entry.folder, ignore_errors=True)
            del self._waiting[0]
        if not self._refused:
            shutil.rmtree(self._folder, ignore_errors=True)
        return not self._refused

    def _is_store_there(self) -> bool:
        try:
            self._client.get_run(self._run_id)
        except Exception:
            return False
        return True

    def _send(self, entry: _Entry) -> None:
        ((kind, content),) = entry.record.items()
        if kind == "metrics":
            self._client.log_batch(self._run_id, metrics=[Metric(*row) for row in content])
        elif kind == "params":
            self._client.log_batch(self._run_id, params=[Param(*row) for row in content])
        elif kind == "tags":
            self._client.log_batch(self._run_id, tags=[RunTag(*row) for row in content])
        elif kind == "file":
            kept = entry.folder / Path(content).name if entry.folder else None
            self._client.log_artifact(self._run_id, str(kept if kept and kept.is_file() else content))
        else:
            self._client.set_terminated(self._run_id, *content)

    def _keep(self, entry: _Entry) -> None:
        """Write a record down, and copy the file that it names: by the time it is sent, that may be another."""
        folder = self._folder / f"{self._next_number:08d}"
        self._next_number += 1
        partial = folder.with_suffix(".partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)  # what a kill has cut short
            partial.mkdir(parents=True)
            if "file" in entry.record:
                shutil.copy(entry.record["file"], partial)
            (partial / _RECORD_NAME).write_text(json.dumps(entry.record), encoding="utf-8")
            partial.rename(folder)
            entry.folder = folder
        except OSError as error:
            _log.warning("%s: cannot be written: %s; the records wait in memory", self._folder, error.strerror)
            shutil.rmtree(partial, ignore_errors=True)

    def _warn(self, outlook: str, error: Exception) -> None:
        """Say once what becomes of the records; the error's own text may hold credentials."""
        if outlook not in self._warned:
            cause = f"MLflow does not take the records of run %s (%s): {outlook}"
            _log.warning(cause, self._run_id, type(error).__name__, self._folder)
        self._warned.add(outlook)


def deliver_left_behind(client: MlflowClient, folder: Path) -> None:
    """Send what earlier trainings could not, as far as the store knows their runs."""
    for waiting in sorted(path for path in folder.glob("*") if path.is_dir()):
        run_id = waiting.name
        try:
            client.get_run(run_id)
        except Exception:  # noqa: S112 - of another store, or the store is away again: they go on waiting
            continue
        if Outbox(client, run_id, waiting).deliver():
            _log.info("MLflow has the records of run %s now", run_id)


def _read_entries(folder: Path) -> list[_Entry]:
    """Read what waits, in order; what a kill has cut short has no number yet."""
    kept: Sequence[Path] = sorted(path for path in folder.glob("*") if path.name.isdecimal())
    return [_Entry(json.loads((path / _RECORD_NAME).read_text(encoding="utf-8")), path) for path in kept]

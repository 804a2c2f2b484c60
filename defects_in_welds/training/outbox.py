"""Records on their way to MLflow: what it does not take waits on disk, and is sent when it does."""

import json
import logging
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from defects_in_welds.output_folder import reserved
from defects_in_welds.params import UserError

PAUSE_S = 60.0
"""Time between two tries: each may take twice as long as MLflow's own retries, and holds the training up."""

_RECORD_NAME = "record.json"
_PARTIAL, _SENT = ".partial", ".sent"  # of folders that are being written, and removed
_REPLACING = ("tags", "status")  # of these the last one counts

_log = logging.getLogger(__name__)

Record = dict[str, Any]
"""One of ``metrics``, ``params``, ``tags``, ``file`` and ``status``, with what is recorded."""


@dataclass(eq=False)
class _Entry:
    """A record, and the folder that keeps it while it waits."""

    record: Record
    folder: Path | None = None


class Outbox:
    """Sends the records of a run in order; a store that is away costs neither the training nor a record.

    What a store refuses although it is there stays on disk, holds nothing up, and is sent out of order if it is taken
    later. Sending a record twice does no harm: MLflow keeps one.
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
        taken = [int(path.stem) for path in folder.glob("*") if path.stem.isdecimal()]
        self._next_number = max(taken, default=-1) + 1
        self._next_try_s = 0.0
        self._warned: set[str] = set()

    def add(self, record: Record) -> None:
        """Send a record, or keep it for later."""
        self._waiting.append(_Entry(record))
        try:
            if time.monotonic() >= self._next_try_s:
                self.deliver()
        finally:
            for entry in (*self._waiting, *self._refused):
                if entry.folder is None:
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
                    self._warn("they wait in {}, and this training or the next sends them", error)
                    return False
                self._warn("what it refuses stays in {}, and later trainings try again", error)
                self._refused.append(entry)
            else:
                _remove(entry)
                self._drop_outdated(entry)
            del self._waiting[0]
        if not self._refused:
            for half in (*self._folder.glob(f"*{_PARTIAL}"), *self._folder.glob(f"*{_SENT}")):  # what a kill has left
                shutil.rmtree(half, ignore_errors=True)
            with suppress(OSError):  # never made, or something else is in it
                self._folder.rmdir()
        return not self._refused

    def deliver_all(self) -> None:
        """Send what waits, and what was refused before: the store may have been away for that moment alone."""
        self._waiting = self._refused + self._waiting
        self._refused = []
        self.deliver()

    def drop_status(self) -> None:
        """Forget how the run ended: it goes on."""
        for entry in self._waiting:
            if "status" in entry.record:
                _remove(entry)
        self._waiting = [entry for entry in self._waiting if "status" not in entry.record]

    def _drop_outdated(self, sent: _Entry) -> None:
        """Forget refused records that would undo a later one."""
        (kind,) = sent.record
        outdated = [entry for entry in self._refused if kind in _REPLACING and kind in entry.record]
        for entry in outdated:
            _remove(entry)
            self._refused.remove(entry)

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
        partial = folder.with_suffix(_PARTIAL)
        try:
            partial.mkdir(parents=True)
            if "file" in entry.record:
                shutil.copy(entry.record["file"], partial)
            (partial / _RECORD_NAME).write_text(json.dumps(entry.record), encoding="utf-8")
            partial.rename(folder)
            entry.folder = folder
        except OSError as error:
            self._warn_once(f"{self._folder}: cannot be written: {error.strerror}; the records wait in memory")
            shutil.rmtree(partial, ignore_errors=True)

    def _warn(self, outlook: str, error: Exception) -> None:
        """Say what becomes of the records; the error's own text may hold credentials."""
        self._warn_once(
            f"MLflow does not take the records of run {self._run_id} ({type(error).__name__}): "
            + outlook.format(self._folder)
        )

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            _log.warning("%s", message)
        self._warned.add(message)


def deliver_left_behind(client: MlflowClient, folder: Path) -> None:
    """Send what earlier trainings could not, as far as the store knows their runs."""
    for waiting in sorted({path.parent.parent for path in folder.glob(f"*/*/{_RECORD_NAME}")}):
        run_id = waiting.name
        try:
            client.get_run(run_id)
        except Exception:  # noqa: S112 - of another store, or the store is away again: they go on waiting
            continue
        with suppress(UserError), reserved(waiting):  # that of a training that is still at work
            if Outbox(client, run_id, waiting).deliver():
                _log.info("MLflow has the records of run %s now", run_id)


def _read_entries(folder: Path) -> list[_Entry]:
    """Read what waits, in order; what is half written, or half removed after it was sent, has another name."""
    entries = []
    for path in sorted(path for path in folder.glob("*") if path.name.isdecimal()):
        with suppress(OSError, ValueError):  # damaged: it stays where it is
            entries.append(_Entry(json.loads((path / _RECORD_NAME).read_text(encoding="utf-8")), path))
    return entries


def _remove(entry: _Entry) -> None:
    if entry.folder is not None:
        sent = entry.folder.with_suffix(_SENT)
        with suppress(OSError):  # it is sent once more, then
            entry.folder.rename(sent)
        shutil.rmtree(sent, ignore_errors=True)

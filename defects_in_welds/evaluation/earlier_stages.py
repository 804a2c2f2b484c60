"""Read what earlier stages wrote; where it is missing or broken, say which stage writes it anew."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from defects_in_welds.data.annotation import DataError

_RUN_KEYS = ("run_id", "tracking_uri", "params", "best_map", "epochs", "git_commit", "data_sha256", "precision")
_METRICS_KEYS = ("run_id", "split", "operating_point", "intervals", "per_class", "pod", "errors", "cells", "settings")


def read_run(model_dir: Path) -> dict[str, Any]:
    """Read the record of the training that lies beside a model.

    Raises:
        DataError: If it is missing, no JSON, or not all of a record.
    """
    return _read_keys(model_dir / "run.json", "train", "no record of a training", _RUN_KEYS)


def read_metrics(evaluation_dir: Path) -> dict[str, Any]:
    """Read the numbers of the evaluate stage.

    Raises:
        DataError: If they are missing, no JSON, or not all that this version of the stage writes.
    """
    return _read_keys(evaluation_dir / "metrics.json", "evaluate", "no numbers of this version", _METRICS_KEYS)


def read_json(path: Path, stage: str) -> Any:  # noqa: ANN401 - whatever the stage wrote
    """Read a JSON file.

    Args:
        path: The file.
        stage: The stage that writes it.

    Raises:
        DataError: If it is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(f"{path}: {reason}; {_remedy(stage)}") from None


def _read_keys(path: Path, stage: str, lack: str, keys: Sequence[str]) -> dict[str, Any]:
    content = read_json(path, stage)
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path}: {lack}, for it lacks {', '.join(missing)}; {_remedy(stage)}")
    return content


def _remedy(stage: str) -> str:
    return f"run `dvc repro {stage}` or `python -m defects_in_welds {stage}`"

"""The least score of what is reported, and where it comes from."""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MinScore:
    """From which score a detection is reported.

    Attributes:
        value: From 0 to 1; above all scores where the operating point lets nothing pass.
        origin: Who chose it, in words.
    """

    value: float
    origin: str


def choose_min_score(asked: float | None, model_dir: Path, evaluation_dir: Path, fallback: float) -> MinScore:
    """Take the least score that was asked for, else the model's operating point, else the fallback.

    Args:
        asked: By the user; None: nothing was.
        model_dir: Holds the model's ``run.json``.
        evaluation_dir: Holds ``operating_point.json``, which counts if it is of the same run.
        fallback: ``evaluate.fallback_score_threshold``.
    """
    if asked is not None:
        return MinScore(asked, "--min_score")
    path = evaluation_dir / "operating_point.json"
    point, run_id = _read_object(path), _read_object(model_dir / "run.json").get("run_id")
    score = point.get("min_score")
    if run_id is None or point.get("run_id") != run_id or not _is_score(score):
        _log.warning("%s: no operating point of this model; `python -m defects_in_welds evaluate` chooses one", path)
        return MinScore(fallback, "evaluate.fallback_score_threshold")
    if point.get("note"):
        _log.warning("%s: %s", path, point["note"])
    return MinScore(score, f"operating point in {path}")


def _is_score(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one stands for what is missing or broken."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}

"""Add what was measured to the MLflow run of the training."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from defects_in_welds.params import without_credentials
from defects_in_welds.training.mlflow_store import limit_retries, store_of

_log = logging.getLogger(__name__)


def add_to_run(run: dict[str, Any], path: Path, add: Callable[[MlflowClient, str], object]) -> None:
    """Add to a run, with one warning where that fails: what the stage wrote is in its place all the same.

    Args:
        run: The record of the training, as ``run.json`` has it.
        path: What the stage wrote, for the warning.
        add: Adds it, given a client and the run's id.
    """
    uri = store_of(run, os.environ.get("MLFLOW_TRACKING_URI") or run["tracking_uri"])
    limit_retries()
    try:
        client = MlflowClient(uri)
        client.get_run(run["run_id"])
        add(client, run["run_id"])
    except Exception as error:  # whatever a tracking store or its artifact store can raise
        reason = (str(error).splitlines() or [""])[0].replace(uri, without_credentials(uri))
        _log.warning(
            "%s is written but not in MLflow's run %s: %s: %s", path, run["run_id"], type(error).__name__, reason
        )

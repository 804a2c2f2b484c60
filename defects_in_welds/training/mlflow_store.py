"""Where MLflow keeps the records of a run, and how long it is waited for.

Apart from `training.tracking`, so that stages without a network need not import PyTorch.
"""

from collections.abc import Mapping
from os import environ
from pathlib import Path
from typing import Any

from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

from defects_in_welds.params import Params

LOCAL_STORE = "sqlite:///mlflow.db"
"""Takes the records of a training whose MLflow server is away from the start."""


def tracking_uri(params: Params) -> str:
    """Find the MLflow store: the environment's ``MLFLOW_TRACKING_URI`` goes before ``train.tracking_uri``."""
    return environ.get("MLFLOW_TRACKING_URI") or params.train.tracking_uri


def store_of(run: Mapping[str, Any], uri: str) -> str:
    """Find the store that holds a run: the local one if that is where it was begun, and it is still there.

    Args:
        run: The run's ``tracking_uri``, as it was noted when it began, without credentials.
        uri: The store that is in use now.
    """
    is_local = run["tracking_uri"] == LOCAL_STORE and Path(LOCAL_STORE.removeprefix("sqlite:///")).is_file()
    return LOCAL_STORE if is_local else uri


def limit_retries() -> None:
    """Wait less for a server that is away: MLflow's own seven retries of two minutes hold everything up."""
    environ.setdefault(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "2")
    environ.setdefault(MLFLOW_HTTP_REQUEST_TIMEOUT.name, "30")

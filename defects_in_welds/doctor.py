"""What a report of a fault needs to say about this machine, and what in its set-up cannot work.

Nothing is sent or changed, and no secret is read: of keys only whether they are there is told.
"""

import os
import platform
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from defects_in_welds.params import Params, without_credentials
from defects_in_welds.training.environment import dependencies, package
from defects_in_welds.training.mlflow_store import tracking_uri
from defects_in_welds.training.tracking import git_commit

LEAST_FREE_GB = 5.0
"""Less free disk space, in 10^9 bytes, is a problem: a training of the sample writes about a gigabyte."""

_CONNECT_S = 3.0
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Attributes:
        name: What was looked at.
        found: What is there.
        remedy: What to do about it; None where all is well.
    """

    name: str
    found: str
    remedy: str | None = None


def examine(params: Params, folder: Path) -> list[Check]:
    """Look at this machine and the project in a folder, without changing anything.

    Args:
        params: Where MLflow's records go, and what the trainer runs on.
        folder: The project's.

    Raises:
        UserError: If this package is not installed.
    """
    installed = package()
    return [
        Check("package", f"{installed['Version']}{_commit()}"),
        Check("Python", f"{platform.python_version()} (supported: {installed['Requires-Python']})"),
        Check("system", f"{platform.platform()}, {os.cpu_count()} CPU cores"),
        *_libraries(),
        _accelerator(params),
        _disk(folder),
        *_remote(folder),
        _mlflow(params),
    ]


def describe(checks: list[Check]) -> str:
    """Write the examination as lines, the problems with their remedies."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{'  ' if check.remedy is None else '! '}{check.name:{width}}  {check.found}")
        if check.remedy is not None:
            lines.append(f"  {'':{width}}  -> {check.remedy}")
    return "\n".join(lines)


def _commit() -> str:
    commit = git_commit()
    if commit is None:
        return ", not in git"
    name, is_changed = commit
    return f", commit {name[:12]}{' with changes' if is_changed else ''}"


def _libraries() -> Iterator[Check]:
    for name, found in dependencies():
        remedy = None if found else "install it: `poetry install`, or `make repro`"
        yield Check(name, found or "missing", remedy)


def _accelerator(params: Params) -> Check:
    import torch

    wanted = params.trainer.accelerator
    threads = f"{torch.get_num_threads()} threads on the CPU"
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        named = ", ".join(f"{device.name} with {device.total_memory / 1e9:.0f} GB" for device in devices)
        return Check("GPU", f"{named}; CUDA {torch.version.cuda}; {threads}")
    remedy = None
    if wanted == "gpu":
        remedy = "trainer.accelerator is gpu: set it to auto, or install a driver for the GPU"
    built_for = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
    return Check("GPU", f"none; {built_for}; {threads}", remedy)


def _disk(folder: Path) -> Check:
    free_gb = shutil.disk_usage(folder).free / 1e9
    remedy = None if free_gb >= LEAST_FREE_GB else f"free some space: below {LEAST_FREE_GB:g} GB trainings may stop"
    return Check("free disk", f"{free_gb:.0f} GB", remedy)


def _remote(folder: Path) -> Iterator[Check]:
    """Tell where DVC's remote is and whether somebody answers there."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        config = Repo(str(folder)).config
    except DvcException:
        yield Check("DVC", f"{folder} is no DVC project", "run the command in the folder of dvc.yaml")
        return
    name = config["core"].get("remote")
    if name is None or name not in config["remote"]:
        yield Check("DVC remote", "none", "name one with `dvc remote add --default`, where others should get the data")
        return
    remote = config["remote"][name]
    url, endpoint = str(remote["url"]), str(remote.get("endpointurl") or "")
    found = f"{without_credentials(url)}{f' at {without_credentials(endpoint)}' if endpoint else ''}"
    if not url.startswith("s3://"):
        yield Check("DVC remote", found)
        return
    has_keys = bool(os.environ.get("AWS_ACCESS_KEY_ID") or remote.get("access_key_id") or remote.get("profile"))
    yield Check("DVC remote", f"{found}, {'keys are set' if has_keys else 'no keys in environment or configuration'}")
    if endpoint:
        yield _reachable(
            "DVC endpoint", endpoint, "check the network and endpointurl; `dvc pull` needs it, the sample not"
        )


def _mlflow(params: Params) -> Check:
    uri = tracking_uri(params)
    if urlsplit(uri).scheme in _PORTS:
        return _reachable("MLflow", uri, "start the server, or set train.tracking_uri=sqlite:///mlflow.db")
    return Check("MLflow", without_credentials(uri))


def _reachable(name: str, url: str, remedy: str) -> Check:
    parts = urlsplit(url)
    shown = without_credentials(url)
    try:
        port = parts.port or _PORTS[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_S).close()
    except (OSError, ValueError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return Check(name, f"{shown} cannot be reached ({reason})", remedy)
    return Check(name, f"{shown} can be reached")

"""What a training ran on: the same parameters and data give the same bits on the same of these."""

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata, version
from pathlib import Path

import torch

from defects_in_welds.params import UserError

PACKAGE = "defects-in-welds"


def environment() -> dict[str, str]:
    """Describe the versions of Python and all direct dependencies, the processor, its threads and the GPUs.

    Raises:
        UserError: If this package is not installed.
    """
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "gpus": ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())) or "none",
        "cuda": torch.version.cuda or "none",
        "cudnn": str(torch.backends.cudnn.version() or "none"),  # type: ignore[no-untyped-call]
    }
    return found | {PACKAGE: package()["Version"]} | {name: at or "missing" for name, at in dependencies()}


def package() -> PackageMetadata:
    """Read what is known of this package, as it is installed.

    Raises:
        UserError: If it is not: its files alone do not name their version and dependencies.
    """
    try:
        return metadata(PACKAGE)
    except PackageNotFoundError:
        raise UserError(
            f"the package {PACKAGE} is not installed; run `poetry install` or `pip install -e .` in the folder of the "
            "project"
        ) from None


def dependencies() -> Iterator[tuple[str, str | None]]:
    """Name the direct dependencies, without optional ones, with their versions; None is one that is missing."""
    for requirement in package().get_all("Requires-Dist", ()):
        if "extra ==" in requirement:
            continue
        (name,) = re.findall(r"^[\w.-]+", requirement)
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if models:
            return str(models[0])
    return platform.processor() or platform.machine()

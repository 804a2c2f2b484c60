"""What a training ran on: the same parameters and data give the same bits on the same of these."""

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import torch

PACKAGE = "defects-in-welds"


def environment() -> dict[str, str]:
    """Describe the versions of Python and all direct dependencies, the processor, its threads and the GPUs."""
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
    return found | {PACKAGE: version(PACKAGE)} | {name: at or "missing" for name, at in dependencies()}


def dependencies() -> Iterator[tuple[str, str | None]]:
    """Name the direct dependencies with their versions; None is one that is missing."""
    for requirement in requires(PACKAGE) or ():
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

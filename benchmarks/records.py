"""What every benchmark does with its numbers: print them and keep them in ``results.json``."""

import datetime
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"
LIBRARIES = ("numpy", "torch", "torchvision")


def record(benchmark: str, result: dict[str, Any]) -> None:
    """Print a result and append it to ``results.json`` with date, machine and versions."""
    entry = {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": {"cpu": _cpu_model(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "result": result,
    }
    entries = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    partial = RESULTS.with_suffix(".partial")
    partial.write_text(json.dumps([*entries, entry], indent=1) + "\n", encoding="utf-8")
    partial.replace(RESULTS)
    print(json.dumps(result, indent=1))


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )

"""How time and memory of each stage grow with the data.

    python benchmarks/growth.py

Small simulated films and a small network that learns for one epoch: what grows with the films is measured, not the
network. Each stage of each number of films is a process of its own. Its time leaves imports out, its memory does not;
what they take is given apart. An exponent is the slope of the logarithms, fitted to all numbers of films.
"""

import argparse
import importlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from records import record

from defects_in_welds.params import Params, load_params

OVERRIDES = [
    "simulate.height_px=128",
    "simulate.width_px=192",
    "simulate.films_per_weld=1",
    "prepare.img_size=128",
    "prepare.overlap_px=32",
    "prepare.val_share=0.1",
    "prepare.test_share=0.45",
    "prepare.near_duplicate_correlation=1",  # of hundreds of tiny films some look alike
    "model.architecture=fasterrcnn_mobilenet_v3_large_320_fpn",
    "train.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]
STAGES = {  # the module, its function, and which of the folders below the function takes
    "prepare": ("defects_in_welds.data.preparation", "prepare_dataset", ("data", "prepared")),
    "train": ("defects_in_welds.training.run_training", "train", ("prepared", "model", "training")),
    "evaluate": ("defects_in_welds.evaluation.run_evaluation", "evaluate", ("prepared", "model", "evaluation")),
    "report": (
        "defects_in_welds.evaluation.report.report_page",
        "write_report",
        ("prepared", "model", "evaluation", "report"),
    ),
}
MEASURES = ("imports MiB", "peak MiB", "CPU seconds", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, nargs="+", default=[30, 90, 300, 900])
    parser.add_argument("--runs", type=int, default=1, help="of each number; the median counts")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        print(*run_stage(arguments.stage))
        return
    stages: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for films in arguments.films:
        runs = [run_pipeline(films) for _ in range(arguments.runs)]
        for stage, rows in stages.items():
            rows[str(films)] = {key: statistics.median(run[stage][key] for run in runs) for key in MEASURES}
    for rows in stages.values():
        rows["exponents"] = {
            key: exponent(arguments.films, [rows[str(films)][key] for films in arguments.films])
            for key in ("CPU seconds", "seconds", "peak MiB")
        }
    record("growth", stages)


def exponent(films: list[int], measured: list[float]) -> float:
    return round(float(np.polyfit(np.log(films), np.log(measured), 1)[0]), 2)


def run_pipeline(films: int) -> dict[str, dict[str, float]]:
    from defects_in_welds.simulation.dataset import simulate_dataset

    with tempfile.TemporaryDirectory() as folder:
        simulate_dataset(parameters(films).simulate, Path(folder) / "data")
        return {stage: run_in_process(stage, folder) for stage in STAGES}


def run_in_process(stage: str, folder: str) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout
    return dict(zip(MEASURES, map(float, output.split()[-len(MEASURES) :]), strict=True))


def run_stage(stage: str) -> tuple[float, ...]:
    """Run a stage in the working directory; give what it took, as ``MEASURES`` names it."""
    module, function, folders = STAGES[stage]
    run: Callable[..., object] = getattr(importlib.import_module(module), function)
    params = parameters()
    imports = peak_mib()
    cpu, start = time.process_time(), time.perf_counter()
    run(params, *map(Path, folders))
    return imports, peak_mib(), round(time.process_time() - cpu, 2), round(time.perf_counter() - start, 2)


def parameters(films: int = 1) -> Params:
    # MLflow keeps a relative path open.
    return load_params([*OVERRIDES, f"simulate.films={films}", f"train.tracking_uri=sqlite:///{Path.cwd()}/mlflow.db"])


def peak_mib() -> int:
    """Read the peak of this program alone: getrusage also counts what the process was before it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)


if __name__ == "__main__":
    main()

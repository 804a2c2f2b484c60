"""How time and memory of the evaluate and report stages grow with the number of films.

    python benchmarks/evaluation_growth.py

Small simulated films and a small network that was trained for two steps: what grows with the films is measured, not the
network. Each number of films is a process of its own; what its imports take is given apart.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from records import record

from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.params import load_params
from defects_in_welds.simulation.dataset import simulate_dataset
from defects_in_welds.training.run_training import train

OVERRIDES = [
    "simulate.height_px=128",
    "simulate.width_px=192",
    "simulate.films_per_weld=1",
    "prepare.img_size=128",
    "prepare.overlap_px=32",
    "prepare.val_share=0.1",
    "prepare.test_share=0.8",
    "prepare.near_duplicate_correlation=1",  # of a thousand tiny films some look alike
    "model.architecture=fasterrcnn_mobilenet_v3_large_320_fpn",
    "model.proposals=50",
    "train.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--stage", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        run_stages(arguments.stage)
        return
    rows = {films: measure(films) for films in arguments.films}
    first, last = min(rows), max(rows)
    exponent = math.log(rows[last]["evaluate seconds"] / rows[first]["evaluate seconds"]) / math.log(last / first)
    record("evaluation_growth", {"films": rows, "exponent of the time of evaluate": round(exponent, 2)})


def measure(films: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        store = f"train.tracking_uri=sqlite:///{folder}/mlflow.db"  # MLflow keeps a relative one open
        params = load_params([*OVERRIDES, f"simulate.films={films}", store])
        simulate_dataset(params.simulate, Path("data"), workers=os.cpu_count() or 1)
        prepare_dataset(params, Path("data"), Path("prepared"))
        train(params, Path("prepared"), Path("model"), Path("training"))
        command = [sys.executable, str(Path(__file__).resolve()), "--stage", folder]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        os.chdir(Path(__file__).parent)
    names = ("imports MiB", "evaluate seconds", "report seconds", "peak MiB")
    return dict(zip(names, map(float, output.split()[-4:]), strict=True))


def run_stages(folder: Path) -> None:
    """Run both stages and print what they took."""
    from defects_in_welds.evaluation.report.report_page import write_report
    from defects_in_welds.evaluation.run_evaluation import evaluate

    os.chdir(folder)
    params = load_params(OVERRIDES)
    paths = [Path(name) for name in ("prepared", "model", "evaluation", "report")]
    imports = _peak_kib()
    start = time.perf_counter()
    evaluate(params, *paths[:3])
    middle = time.perf_counter()
    write_report(params, *paths)
    end = time.perf_counter()
    print(round(imports / 1024), round(middle - start, 1), round(end - middle, 1), round(_peak_kib() / 1024))


def _peak_kib() -> int:
    """Read the peak of this program alone: getrusage also counts what the process was before it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


if __name__ == "__main__":
    main()

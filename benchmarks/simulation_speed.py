"""How fast the simulator is, how much two workers gain, and whether its memory grows with the number of films.

    python benchmarks/simulation_speed.py

Each run is a process of its own; runs to be compared take turns. The first films of a process also pay for its tables
of spectra: they are part of every run, as they are for a user.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from records import record

from defects_in_welds.params import load_params

SIZES = {
    "small film": ["simulate.height_px=192", "simulate.width_px=1024", "simulate.pixel_pitch_mm=0.1"],
    "whole film": ["simulate.height_px=1250", "simulate.width_px=5000", "simulate.pixel_pitch_mm=0.04"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each kind that take turns")
    parser.add_argument("--films", type=int, default=2000, help="small films a run; of whole ones a fortieth")
    parser.add_argument("--many", type=int, default=1000, help="films of the run whose memory is measured")
    arguments = parser.parse_args()
    result: dict[str, object] = {}
    for name, overrides in SIZES.items():
        params = load_params(overrides).simulate
        megapixels = params.height_px * params.width_px / 1e6
        films = arguments.films if name == "small film" else arguments.films // 40
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(arguments.pairs):
            for workers in seconds:
                seconds[workers].append(simulate(films, workers, overrides)[0])
        one = statistics.median(seconds[1])
        result[name] = {
            "films": films,
            "films a second": round(films / one, 2),
            "megapixels a second": round(films * megapixels / one, 2),
            "two workers over one": round(
                statistics.median(a / b for a, b in zip(seconds[1], seconds[2], strict=True)), 2
            ),
        }
    result["peak memory in MiB"] = {
        f"{films} films": round(simulate(films, 1, SIZES["small film"])[1])
        for films in (arguments.many // 10, arguments.many)
    }
    record("simulation_speed", result)


def simulate(films: int, workers: int, overrides: list[str]) -> tuple[float, float]:
    """Simulate films in a new process.

    Returns:
        Seconds, and the largest resident memory of the process that simulates, in MiB.
    """
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from defects_in_welds.params import load_params\n"
        "from defects_in_welds.simulation.dataset import simulate_dataset\n"
        "if __name__ == '__main__':\n"
        "    simulate_dataset(load_params(sys.argv[3:]).simulate, Path(sys.argv[1]), int(sys.argv[2]))\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(script, encoding="utf-8")
        command = [sys.executable, str(program), f"{folder}/data", str(workers), *overrides, f"simulate.films={films}"]
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return time.perf_counter() - start, int(run.stdout.split()[-1]) / 1024


if __name__ == "__main__":
    main()

"""How fast prepare is beside SAHI's COCO slicing, what a second process adds, and which share of the limit it reaches.

    python3 -m venv /tmp/sahi && /tmp/sahi/bin/pip install sahi==0.12.8
    python benchmarks/prepare_speed.py --sahi /tmp/sahi/bin/python

SAHI brings an OpenCV of its own, which must not meet ours: it lives in a virtual environment of its own. Both cut the
same films into as many tiles of the same size and overlap, and carry the boxes over. Prepare checks the films besides,
hashes them, looks for near-duplicates and draws a preview. SAHI writes each tile as a PNG of 8 bits and three channels.
Of 16-bit films it makes white, for it cuts levels off at 255: instead of them it gets the same films as 8-bit TIFF.
The limit is a loop that only decodes the films and writes the tiles' bytes.

Runs to be compared take turns, each a process of its own; what imports take is left out, except in the processes that
prepare starts. Those of one core are bound to it. CPU time is that of all processes and threads of a run.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from records import record
from whole_films import HEIGHT_PX, KINDS, OVERLAP_PX, TILE_PX, WIDTH_PX, film_params, write_films

from defects_in_welds.data import tiling
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.film_cutting import cut_films
from defects_in_welds.data.tensor_store import TileFiles

SAHI_SCRIPT = """
import os, sys, time
from sahi.slicing import slice_coco
data, tile, overlap, out = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
cpu, start = sum(os.times()[:4]), time.perf_counter()
coco, _ = slice_coco(f"{data}/annotations.json", data, "sliced", out, slice_height=tile, slice_width=tile,
                     overlap_height_ratio=overlap, overlap_width_ratio=overlap, min_area_ratio=0.3)
print(time.perf_counter() - start, sum(os.times()[:4]) - cpu, len(coco["images"]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sahi", type=Path, help="Python of a virtual environment with SAHI; left out without it")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each kind that take turns")
    parser.add_argument("--films", type=int, default=8, help="films of these runs")
    parser.add_argument(
        "--repeats", type=int, default=30, help="times that they are taken, except by the stage and SAHI"
    )
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        name, data, repeats, out = arguments.run
        print(*measure(RUNS[name], Path(data), Path(out), int(repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data_of = write_films(Path(folder), arguments.films, (*KINDS, "8-bit TIFF"))
        sahi_data = {"16-bit TIFF": data_of["8-bit TIFF"], "8-bit PNG": data_of["8-bit PNG"]}
        result = {kind: measure_kind(data_of[kind], sahi_data[kind], arguments) for kind in KINDS}
    sizes = {"film": f"{WIDTH_PX}x{HEIGHT_PX} px", "films": arguments.films, "repeats": arguments.repeats}
    record("prepare_speed", sizes | result)


def measure_kind(data: Path, sahi_data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    megabytes = sum(path.stat().st_size for path in (data / "images").iterdir()) / 1e6 / arguments.films
    repeats = arguments.repeats
    runs = {
        "stage": ours("stage", data),
        "films alone": ours("pass", data, repeats),
        "limit": ours("limit", data, repeats),
    }
    if arguments.sahi:
        runs["SAHI"] = sahi(arguments.sahi, sahi_data)
    on_one = in_turn(arguments.pairs, 1, runs)
    pairs = [("SAHI", "stage"), ("SAHI", "films alone"), ("limit", "films alone")]
    runs = {"one": runs["films alone"], "two": ours("pass by two", data, repeats)}
    on_two = in_turn(arguments.pairs, 2, runs)
    return {
        "megabytes a film": round(megabytes, 2),
        "on one core": summarise(on_one, arguments.films, [pair for pair in pairs if pair[0] in on_one]),
        "by one process and two": summarise(on_two, arguments.films, [("one", "two")]),
    }


def in_turn(pairs: int, cores: int, runs: dict[str, list[str]]) -> dict[str, dict[str, list[float]]]:
    """Run each command in turn on that many cores; give its seconds and its CPU seconds for all films, once."""
    measured: dict[str, dict[str, list[float]]] = {name: {"time": [], "CPU time": []} for name in runs}
    tiles = set()
    for _ in range(pairs):
        for name, command in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                output = subprocess.run(
                    [*command, f"{folder}/out"],
                    capture_output=True,
                    text=True,
                    check=True,
                    preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]),
                ).stdout
            seconds, cpu, written = output.split()[-3:]
            measured[name]["time"].append(float(seconds))
            measured[name]["CPU time"].append(float(cpu))
            tiles.add(written)
    assert len(tiles) == 1, tiles
    return measured


def summarise(measured: dict[str, dict[str, list[float]]], films: int, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Give films a second of each run, and the time of one run over that of another, turn by turn."""
    summary: dict[str, Any] = {}
    for name, runs in measured.items():
        summary[name] = {
            "films a second": round(films / statistics.median(runs["time"]), 2),
            "CPU milliseconds a film": round(1000 * statistics.median(runs["CPU time"]) / films, 1),
        }
    for above, below in pairs:
        for clock in ("time", "CPU time"):
            ratios = [a / b for a, b in zip(measured[above][clock], measured[below][clock], strict=True)]
            summary[f"{clock} of {above} over {below}"] = {
                "median": round(statistics.median(ratios), 2),
                "from": round(min(ratios), 2),
                "to": round(max(ratios), 2),
            }
    return summary


def ours(run: str, data: Path, repeats: int = 1) -> list[str]:
    return [sys.executable, __file__, "--run", run, str(data), str(repeats)]


def sahi(python: Path, data: Path) -> list[str]:
    return [str(python), "-c", SAHI_SCRIPT, str(data), str(TILE_PX), str(OVERLAP_PX / TILE_PX)]


def measure(run: Callable[[Path, Path, int], int], data: Path, out: Path, repeats: int) -> tuple[float, float, int]:
    if run is run_stage:
        importlib.import_module("defects_in_welds.data.preparation")
    film_params()  # imports Hydra
    cpu, start = cpu_seconds(), time.perf_counter()
    tiles = run(data, out, repeats)
    return (time.perf_counter() - start) / repeats, (cpu_seconds() - cpu) / repeats, tiles // repeats


def cpu_seconds() -> float:
    """Of this process and of those that it has started and seen to their end."""
    return sum(os.times()[:4])


def run_stage(data: Path, out: Path, repeats: int) -> int:
    from defects_in_welds.data.preparation import prepare_dataset  # here, for the second process imports this file

    return len(prepare_dataset(film_params(), data, out).manifest.tiles)


def run_pass(data: Path, out: Path, repeats: int, workers: int = 1) -> int:
    prepare = film_params().prepare
    films = read_dataset(data, "coco", None).radiographs
    out.mkdir()
    cut = [film for film, _ in cut_films(films * repeats, prepare, TileFiles(out, TILE_PX), workers)]
    return sum(len(film.tiles_xyxy) for film in cut if film is not None)


def run_limit(data: Path, out: Path, repeats: int) -> int:
    out.mkdir()
    tiles_xyxy = tiling.plan_tiles((HEIGHT_PX, WIDTH_PX), TILE_PX, OVERLAP_PX)
    paths = sorted((data / "images").iterdir()) * repeats
    with (out / "tiles").open("wb") as file:
        for path in paths:
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.suffix == ".png" else tifffile.imread(path)
            for x0, y0, x1, y1 in tiles_xyxy:
                file.write(np.ascontiguousarray(pixels[y0:y1, x0:x1]).data)
    return len(paths) * len(tiles_xyxy)


RUNS: dict[str, Callable[[Path, Path, int], int]] = {
    "stage": run_stage,
    "pass": run_pass,
    "pass by two": lambda data, out, repeats: run_pass(data, out, repeats, workers=2),
    "limit": run_limit,
}


if __name__ == "__main__":
    main()

"""How fast COCO's measures are beside pycocotools', at equal numbers, and how matching and they grow with the films.

    python benchmarks/evaluation_speed.py

Runs to be compared take turns. Both begin with COCO's dictionaries in memory, each run with its own copies. The runs
that show the growth are a process each.
"""

import argparse
import contextlib
import gc
import io
import json
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from typing import Any

import numpy as np
from records import record

from defects_in_welds.data.annotation import MEASURES
from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.film_results import FilmResult, Truth, to_coco
from defects_in_welds.evaluation.matching import match
from defects_in_welds.inference.detections import Detections

CLASSES = ("crack", "lack of fusion", "lack of penetration", "gas pore", "slag inclusion")
FLAWS_PER_FILM, DETECTIONS_PER_FILM = 12, 40
MAX_DETECTIONS = 500
SIZE_EDGES_MM = (2, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="runs of each kind that take turns")
    parser.add_argument("--films", type=int, default=350, help="films of these runs, with 40 detections each")
    parser.add_argument("--growth", type=int, nargs="+", default=[10, 100, 1000], help="films of the single runs")
    parser.add_argument("--single", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.single:
        print(json.dumps(measure_once(arguments.single)))
        return
    record(
        "evaluation_speed",
        {
            "beside pycocotools": compare(arguments.films, arguments.pairs),
            "growth": measure_growth(arguments.growth),
        },
    )


def compare(films: int, pairs: int) -> dict[str, Any]:
    results = make_films(films)
    seconds: dict[str, list[float]] = {"ours": [], "pycocotools": []}
    difference = 0.0
    for _ in range(pairs):
        values = {}
        for name, measure in (("ours", measure_with_ours), ("pycocotools", measure_with_pycocotools)):
            truth, predictions = to_coco(results, CLASSES)
            gc.collect()
            start = time.perf_counter()
            values[name] = measure(truth, predictions)
            seconds[name].append(time.perf_counter() - start)
        difference = max(difference, float(np.abs(np.subtract(*values.values())).max()))
        assert difference <= 1e-6, values
    ratios = [ours / theirs for ours, theirs in zip(*seconds.values(), strict=True)]
    return {
        "films": films,
        "detections": films * DETECTIONS_PER_FILM,
        "largest difference of mAP, AP50, AP75 and AR": difference,
        "milliseconds": {name: round(1000 * statistics.median(times), 1) for name, times in seconds.items()},
        "our time over theirs": {"median": round(statistics.median(ratios), 4), "worst": round(max(ratios), 4)},
    }


def measure_with_ours(truth: dict[str, list[dict[str, Any]]], predictions: list[dict[str, Any]]) -> list[float]:
    metrics = measure_coco(truth, predictions, MAX_DETECTIONS)
    return [
        metrics.mean_average_precision,
        metrics.mean_average_precision_50,
        metrics.mean_average_precision_75,
        metrics.average_recall,
    ]


def measure_with_pycocotools(truth: dict[str, list[dict[str, Any]]], predictions: list[dict[str, Any]]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(predictions), "bbox")
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return [of[of > -1].mean() for of in (precision, precision[0], precision[5], recall)]


def measure_growth(film_counts: list[int]) -> dict[str, Any]:
    """Measure each number of films in a process of its own, and fit powers of that number to time and memory."""
    runs = {}
    for films in film_counts:
        command = [sys.executable, __file__, "--single", str(films)]
        runs[films] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    exponents = {
        key: round(float(np.polyfit(np.log(film_counts), np.log([run[key] for run in runs.values()]), 1)[0]), 2)
        for key in ("match seconds", "coco seconds", "both seconds", "allocated MiB")
    }
    return {"films": {str(films): run for films, run in runs.items()}, "exponents": exponents}


def measure_once(films: int) -> dict[str, float]:
    """Match films and compute COCO's measures, by size too.

    Returns:
        The best of three times, the process's peak memory, and what the two add to that of the films at most: without
        the libraries, which take more than any of them.
    """
    results = make_films(films)
    times = [match_and_measure(results) for _ in range(3)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    match_and_measure(results)
    _, allocated = tracemalloc.get_traced_memory()
    matching, coco = (min(of_runs) for of_runs in zip(*times, strict=True))
    return {
        "match seconds": round(matching, 4),
        "coco seconds": round(coco, 4),
        "both seconds": round(matching + coco, 4),
        "peak MiB": round(peak / 1024, 1),
        "allocated MiB": round(allocated / 2**20, 2),
    }


def match_and_measure(results: list[FilmResult]) -> tuple[float, float]:
    start = time.perf_counter()
    match(results, CLASSES, "iou", 0.5)
    middle = time.perf_counter()
    measure_coco(*to_coco(results, CLASSES), MAX_DETECTIONS, SIZE_EDGES_MM)
    return middle - start, time.perf_counter() - middle


def make_films(count: int) -> list[FilmResult]:
    """Long films with flaws of some millimetres, most of them reported, some several times or under another class."""
    rng = np.random.default_rng(0)
    return [make_film(rng, f"{place}.png") for place in range(count)]


def make_film(rng: np.random.Generator, name: str) -> FilmResult:
    corner = rng.uniform(0, [4800, 550], (FLAWS_PER_FILM, 2))
    flaws = np.hstack([corner, corner + rng.uniform(5, 120, (FLAWS_PER_FILM, 2))])
    labels = rng.integers(1, len(CLASSES) + 1, FLAWS_PER_FILM)
    meant = rng.integers(0, FLAWS_PER_FILM, DETECTIONS_PER_FILM)
    sides = np.tile(flaws[meant, 2:] - flaws[meant, :2], 2)
    found = flaws[meant] + rng.normal(0, 0.1, (DETECTIONS_PER_FILM, 4)) * sides
    found[rng.random(DETECTIONS_PER_FILM) < 0.3] += 300
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    is_misnamed = rng.random(DETECTIONS_PER_FILM) < 0.1
    reported = np.where(is_misnamed, rng.integers(1, len(CLASSES) + 1, DETECTIONS_PER_FILM), labels[meant])
    return FilmResult(
        name,
        name,
        (600, 5000),
        0.1,
        Truth(
            flaws.astype(np.float32),
            labels,
            rng.random(FLAWS_PER_FILM) < 0.05,
            {measure: np.full(FLAWS_PER_FILM, np.nan) for measure in MEASURES},
        ),
        Detections(
            found.astype(np.float32), np.sort(rng.random(DETECTIONS_PER_FILM))[::-1].astype(np.float32), reported
        ),
    )


if __name__ == "__main__":
    main()

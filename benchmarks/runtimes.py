"""How fast other runtimes are on a CPU beside PyTorch, how far their results are from its, and what AP they keep.

    dvc repro
    python benchmarks/runtimes.py

The runtimes take turns, each with all of the same tiles in batches, on all cores in the way that `predict` uses them.
AP is that of the test films of the prepared data.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import record
from torch import nn

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.film_results import FilmResult, to_coco
from defects_in_welds.evaluation.run_evaluation import predict_split
from defects_in_welds.inference.graph_runtimes import PACKAGE_OF, PRECISIONS_OF
from defects_in_welds.inference.model_export import export_model
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.checkpoint import BEST_NAME
from defects_in_welds.params import MODEL_DIR, PREPARED_DIR, load_params

REFERENCE = "torch float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL_DIR / BEST_NAME, help="checkpoint")
    parser.add_argument("--prepared", type=Path, default=PREPARED_DIR, help="data that it was trained with")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=64, help="in a round")
    arguments = parser.parse_args()
    store = TensorStore.open(arguments.prepared)
    with tempfile.TemporaryDirectory() as folder:
        runtimes = open_runtimes(arguments.model, arguments.prepared, Path(folder))
        result = {"threads": torch.get_num_threads(), "packages": {name: version(name) for name in PACKAGE_OF.values()}}
        for part in arguments.parts:
            result |= PARTS[part](runtimes, store, arguments)
        record("runtimes", result)


def open_runtimes(checkpoint: Path, prepared: Path, folder: Path) -> dict[str, Predictor]:
    runtimes = {
        REFERENCE: Predictor.from_checkpoint(checkpoint),
        "torch bfloat16": Predictor.from_checkpoint(checkpoint),
    }
    in_bfloat16 = runtimes["torch bfloat16"]
    in_bfloat16._detector = InBfloat16(in_bfloat16._detector)
    for runtime, precisions in PRECISIONS_OF.items():
        for precision in precisions:
            name = f"{runtime} {precision}"
            export_model(checkpoint, folder / name, runtime, precision, prepared)
            runtimes[name] = Predictor.from_exported_model(folder / name)
    return runtimes


class InBfloat16(nn.Module):
    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        with torch.autocast("cpu", torch.bfloat16):
            return self.detector(images)


def measure_speed(runtimes: dict[str, Predictor], store: TensorStore, arguments: argparse.Namespace) -> dict[str, Any]:
    batch_size = load_params().evaluate.batch_size
    tiles = [store.unit_pixels(index) for index in store.tile_indices(Split.TEST)[: arguments.tiles]]
    batches = [tiles[start : start + batch_size] for start in range(0, len(tiles), batch_size)]
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for round_ in range(-1, arguments.rounds):  # the first is to warm up
        for name, predictor in runtimes.items():
            given = batches[:1] if round_ < 0 else batches
            start = time.perf_counter()
            for _ in predictor._predict_batches(iter(given), len(given)):
                pass
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {
        "tile side, px": store.manifest.img_size,
        "tiles at once": batch_size,
        "rounds": arguments.rounds,
        "tiles/s": {name: round(len(tiles) / statistics.median(times), 2) for name, times in seconds.items()},
        f"times as fast as {REFERENCE}": {
            name: spread([other / own for other, own in zip(seconds[REFERENCE], times, strict=True)])
            for name, times in seconds.items()
        },
    }


def spread(ratios: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(ratios), 2), "range": [round(min(ratios), 2), round(max(ratios), 2)]}


def measure_results(
    runtimes: dict[str, Predictor], store: TensorStore, arguments: argparse.Namespace
) -> dict[str, Any]:
    settings = load_params().evaluate
    found = {name: predict_split(store, predictor, Split.TEST, settings) for name, predictor in runtimes.items()}
    return {
        "films": len(found[REFERENCE]),
        "AP": {
            name: average_precision(results, store, settings.max_detections_per_film) for name, results in found.items()
        },
        f"beside {REFERENCE}": {name: differences(results, found[REFERENCE]) for name, results in found.items()},
    }


def average_precision(results: list[FilmResult], store: TensorStore, most: int) -> dict[str, float]:
    metrics = asdict(measure_coco(*to_coco(results, store.manifest.defect_classes), most))
    return {
        "mAP50": round(metrics["mean_average_precision_50"], 4),
        "mAP": round(metrics["mean_average_precision"], 4),
    }


def differences(results: list[FilmResult], reference: list[FilmResult]) -> dict[str, Any]:
    """Pair the detections of each film that are nearest in class and place."""
    boxes, scores, alone = [], [], 0
    for ours, theirs in zip(results, reference, strict=True):
        ours, theirs = ours.detections, theirs.detections
        box = np.abs(ours.boxes_xyxy[:, None] - theirs.boxes_xyxy[None]).max(axis=2, initial=0)
        score = np.abs(ours.scores[:, None] - theirs.scores[None])
        is_pair = (box < 0.5) & (score < 1e-3) & (ours.labels[:, None] == theirs.labels[None])
        alone += int((~is_pair.any(axis=0)).sum() + (~is_pair.any(axis=1)).sum())
        boxes += box[is_pair].tolist()
        scores += score[is_pair].tolist()
    return {
        "detections": sum(len(film.detections) for film in results),
        "without a partner within 0.5 px and 0.001": alone,
        "largest box difference of partners, px": max(boxes, default=None),
        "largest score difference of partners": max(scores, default=None),
    }


PARTS = {"speed": measure_speed, "results": measure_results}


if __name__ == "__main__":
    main()

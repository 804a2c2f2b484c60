"""How fast whole films are predicted beside SAHI's sliced prediction, with the same network, weights and tiles.

    python3 -m venv /tmp/sahi && /tmp/sahi/bin/pip install sahi==0.12.8
    python benchmarks/prediction_speed.py --sahi /tmp/sahi/bin/python --model artifacts/model/best.ckpt

SAHI brings an OpenCV of its own, which must not meet ours: it lives in a virtual environment of its own, with torch and
torchvision from ours. It gets torchvision's own Faster R-CNN with the checkpoint's weights and settings by way of
its model type ``torchvision``; the same tile size and overlap, the least score of the checkpoint, and the suppression
that it chooses itself at so low a score: NMS by IoU, here with `evaluate.merge_iou`. The prediction of the film as a
whole, which it would add, is switched off. Both get the same films, as PNG of 8 bits, since SAHI takes no more.

The films are those of the sample, as wide and high as asked for, with as many flaws for each millimetre. Runs take
turns, each a process of its own; imports, loading the model and a first small film are left out, decoding the file is
not. On a busy machine the CPU time says more than the clock, and on one core the most: threads that wait for each other
count as busy. With --exported, folders that `export_model` has written are measured as well. With --folder the films
and what was measured stay there, and a later call measures what is missing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import record
from whole_films import write_films

from defects_in_welds import boxes
from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.model.checkpoint import load_detector
from defects_in_welds.params import Params, load_params

HEIGHT_PX, WIDTH_PX = 1024, 15360
KIND = "8-bit PNG"
MAX_DETECTIONS = 10_000
SHOWN_SCORES = 0.05, 0.5

SAHI_SCRIPT = """
import json, os, sys, time
import numpy as np
checkpoint, overlap, merge_iou, libraries, film, warm_up, out = sys.argv[1:]
sys.path.append(libraries)
import torch
from sahi import AutoDetectionModel
from sahi.predict import get_sliced_prediction
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator

content = torch.load(checkpoint, map_location="cpu", weights_only=True)
settings, spec, classes = content["model"], content["input_spec"], content["defect_classes"]
assert settings["architecture"] == "fasterrcnn_resnet50_fpn" and not settings["frozen_batch_norm"]
tile = spec["img_size"]
sizes = tuple((size,) for size in settings["anchor_sizes_px"])
network = fasterrcnn_resnet50_fpn(
    weights=None, weights_backbone=None, num_classes=len(classes) + 1, min_size=tile, max_size=tile,
    image_mean=[spec["grey_mean"]] * 3, image_std=[spec["grey_std"]] * 3,
    rpn_anchor_generator=AnchorGenerator(sizes, (tuple(settings["anchor_aspect_ratios"]),) * len(sizes)),
    rpn_pre_nms_top_n_test=2 * settings["proposals"], rpn_post_nms_top_n_test=settings["proposals"],
    box_score_thresh=settings["score_threshold"], box_nms_thresh=settings["nms_iou"],
    box_detections_per_img=settings["detections_per_tile"],
)
network.load_state_dict(content["state_dict"])
names = {str(label): name for label, name in enumerate(["background", *classes])}
model = AutoDetectionModel.from_pretrained(
    "torchvision", model=network, category_mapping=names, confidence_threshold=settings["score_threshold"], device="cpu"
)

def predict(path):
    return get_sliced_prediction(
        path, model, slice_height=tile, slice_width=tile, overlap_height_ratio=float(overlap) / tile,
        overlap_width_ratio=float(overlap) / tile, perform_standard_pred=False, postprocess_type="NMS",
        postprocess_match_metric="IOU", postprocess_match_threshold=float(merge_iou), verbose=0,
    ).object_prediction_list

predict(warm_up)
cpu, start = sum(os.times()[:4]), time.perf_counter()
found = predict(film)
seconds, cpu = time.perf_counter() - start, sum(os.times()[:4]) - cpu
json.dump({
    "seconds": seconds, "CPU seconds": cpu, "threads": torch.get_num_threads(),
    "boxes": [list(map(float, one.bbox.to_xyxy())) for one in found],
    "scores": [float(one.score.value) for one in found],
    "labels": [one.category.id for one in found],
}, open(out, "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sahi", type=Path, required=True, help="Python of a virtual environment with SAHI")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint with a Faster R-CNN R50-FPN")
    parser.add_argument("--exported", type=Path, nargs="*", default=[], help="exported models of the same checkpoint")
    parser.add_argument("--films", type=int, default=5, help="films to simulate, each to be predicted by both in turn")
    parser.add_argument("--pairs", type=int, help="how many of them to predict; left out: all")
    parser.add_argument("--batch_size", type=int, help="tiles at once; left out: evaluate.batch_size")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="cores that each run is bound to")
    parser.add_argument("--size", type=int, nargs=2, default=(HEIGHT_PX, WIDTH_PX), help="height and width in pixels")
    parser.add_argument("--folder", type=Path, help="keeps films and runs")
    parser.add_argument("--run", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        measure(arguments.model, *arguments.run, arguments.batch_size)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        films, truth = simulated_films(folder, arguments)
        models = {"ours": arguments.model, **{f"ours, {exported_precision(path)}": path for path in arguments.exported}}
        commands = {name: ours(model, arguments) for name, model in models.items()} | {"SAHI": sahi(arguments)}
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
        for film in films:
            for name, command in commands.items():
                out = folder / f"{film.stem} by {name} on {arguments.cores}.json"
                if not out.exists():
                    run_on(arguments.cores, [*command, film, film.with_name("warm_up.png"), out])
                runs[name].append(json.loads(out.read_text(encoding="utf-8")))
    _, checkpoint = load_detector(arguments.model)
    summary = summarise(runs, truth, checkpoint.defect_classes, arguments.size)
    batch_size = arguments.batch_size or load_params().evaluate.batch_size
    record("prediction_speed", {"cores": arguments.cores, "tiles at once in ours": batch_size, **summary})


def exported_precision(folder: Path) -> str:
    described = json.loads((folder / "exported_model.json").read_text(encoding="utf-8"))
    return f"{described['runtime']} {described['precision']}"


def run_on(cores: int, command: list[str | Path]) -> None:
    """Run a process bound to that many cores."""
    subprocess.run(
        command, check=True, preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    )


def simulated_films(folder: Path, arguments: argparse.Namespace) -> tuple[list[Path], dict[str, Any]]:
    """Simulate what the folder does not hold yet; give the files and their truth as COCO has it."""
    data = folder / KIND.replace(" ", "_")
    if not data.exists():
        params = sample_params(*arguments.size)
        assert write_films(folder, arguments.films, [KIND], params)[KIND] == data
        write_films(folder / "small", 1, [KIND], sample_params(params.prepare.img_size, 4 * params.prepare.img_size))
        (small,) = (folder / "small" / data.name / "images").iterdir()
        small.rename(data / "images" / "warm_up.png")
    truth = json.loads((data / "annotations.json").read_text(encoding="utf-8"))
    truth["images"] = truth["images"][: arguments.pairs]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [flaw for flaw in truth["annotations"] if flaw["image_id"] in ids]
    return [data / image["file_name"] for image in truth["images"]], truth


def sample_params(height_px: int, width_px: int) -> Params:
    """Take the sample's parameters, with another size of films and as many flaws for each millimetre of weld."""
    params = load_params(["simulate.films_per_weld=1", "simulate.defect_free_share=0", "simulate.seed=1"])
    for flaws in vars(params.simulate.flaws).values():
        flaws.most_per_film = round(flaws.most_per_film * width_px / params.simulate.width_px)
    params.simulate.height_px, params.simulate.width_px = height_px, width_px
    return params


def ours(model: Path, arguments: argparse.Namespace) -> list[str | Path]:
    settings = [] if arguments.batch_size is None else [f"--batch_size={arguments.batch_size}"]
    return [sys.executable, __file__, f"--sahi={arguments.sahi}", f"--model={model}", *settings, "--run"]


def measure(model: Path, film: Path, warm_up: Path, out: Path, batch_size: int | None) -> None:
    from defects_in_welds.inference.predictor import Predictor

    params = load_params([] if batch_size is None else [f"evaluate.batch_size={batch_size}"])
    predictor = Predictor.from_exported_model(model) if model.is_dir() else Predictor.from_checkpoint(model)
    predictor.predict(warm_up, params)
    cpu, start = cpu_seconds(), time.perf_counter()
    found = predictor.predict(film, params)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    run = {
        "seconds": seconds,
        "CPU seconds": cpu,
        "threads": torch.get_num_threads(),
        "boxes": found.boxes_xyxy.tolist(),
        "scores": found.scores.tolist(),
        "labels": found.labels.tolist(),
    }
    out.write_text(json.dumps(run), encoding="utf-8")


def cpu_seconds() -> float:
    """Of all threads of this process."""
    return sum(os.times()[:2])


def sahi(arguments: argparse.Namespace) -> list[str | Path]:
    params = load_params()
    libraries = Path(torch.__file__).parents[1]
    settings = str(params.prepare.overlap_px), str(params.evaluate.merge_iou), libraries
    return [arguments.sahi, "-c", SAHI_SCRIPT, arguments.model, *settings]


def summarise(
    runs: dict[str, list[dict[str, Any]]], truth: dict[str, Any], defect_classes: Sequence[str], size: Sequence[int]
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "film": f"{size[1]}x{size[0]} px",
        "films": len(truth["images"]),
        "flaws": len(truth["annotations"]),
    }
    for name, of_films in runs.items():
        summary[name] = {
            "seconds a film": spread([run["seconds"] for run in of_films], 1),
            "CPU seconds a film": spread([run["CPU seconds"] for run in of_films], 1),
            "threads": of_films[0]["threads"],
            **average_precision(of_films, truth, defect_classes),
        }
    for name in [name for name in runs if name != "SAHI"]:
        for clock in ("seconds", "CPU seconds"):
            ratios = [theirs[clock] / ours[clock] for ours, theirs in zip(runs[name], runs["SAHI"], strict=True)]
            summary[f"{clock} of SAHI over {name}"] = spread(ratios, 2)
        for score in SHOWN_SCORES:
            summary[f"detections from score {score}, {name}"] = compare(runs[name], runs["SAHI"], score)
    return summary


def spread(values: Sequence[float], digits: int) -> dict[str, float]:
    of = {"median": statistics.median(values), "from": min(values), "to": max(values)}
    return {name: round(value, digits) for name, value in of.items()}


def average_precision(
    of_films: list[dict[str, Any]], truth: dict[str, Any], defect_classes: Sequence[str]
) -> dict[str, float]:
    category_of = {category["name"]: category["id"] for category in truth["categories"]}
    predictions = [
        {
            "image_id": image["id"],
            "category_id": category_of[defect_classes[label - 1]],
            "bbox": boxes.xyxy_to_xywh(np.array([box]))[0].tolist(),
            "score": score,
        }
        for image, run in zip(truth["images"], of_films, strict=True)
        for box, score, label in zip(run["boxes"], run["scores"], run["labels"], strict=True)
    ]
    measured = measure_coco(truth, predictions, MAX_DETECTIONS)
    assert measured.mean_average_precision is not None
    assert measured.mean_average_precision_50 is not None
    return {
        "mAP": round(100 * measured.mean_average_precision, 2),
        "mAP50": round(100 * measured.mean_average_precision_50, 2),
    }


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], min_score: float) -> dict[str, Any]:
    """Pair detections of a class one to one, the largest IoU first, and count those that overlap by more than half."""
    counts = {"ours": 0, "SAHI": 0, "paired": 0, "paired with IoU 0.99 and score within 0.01": 0}
    for films in zip(ours, theirs, strict=True):
        found = [above(film, min_score) for film in films]
        iou = boxes.iou(found[0][0], found[1][0]) * (found[0][2][:, None] == found[1][2])
        counts["ours"], counts["SAHI"] = counts["ours"] + iou.shape[0], counts["SAHI"] + iou.shape[1]
        while iou.size and iou.max() > 0.5:
            one, other = np.unravel_index(iou.argmax(), iou.shape)
            is_same = iou[one, other] >= 0.99 and abs(found[0][1][one] - found[1][1][other]) <= 0.01
            counts["paired"] += 1
            counts["paired with IoU 0.99 and score within 0.01"] += int(is_same)
            iou[one], iou[:, other] = 0, 0
    return counts


def above(film: dict[str, Any], min_score: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chosen = np.array(film["scores"]) >= min_score
    columns = np.array(film["boxes"]).reshape(-1, 4), np.array(film["scores"]), np.array(film["labels"], dtype=np.int64)
    return columns[0][chosen], columns[1][chosen], columns[2][chosen]


if __name__ == "__main__":
    main()

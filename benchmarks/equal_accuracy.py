"""Whether a training ends with the same AP as one of torchvision's own model, and how far two runs of one seed part.

    dvc repro prepare
    python benchmarks/equal_accuracy.py

Both train on the same batches of the prepared store, from the same weights, with the same optimiser and schedule. Ours
is the project's detector under Lightning, in mixed precision; theirs is torchvision's own Faster R-CNN with its default
transform, its anchors and its pooling, in float32, in a plain loop. Both end as weights of our detector, which then
finds the flaws on the tiles of the test split in float32.
"""

import argparse
import logging
import statistics
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from records import record
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import MultiScaleRoIAlign

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.data_module import WeldDataModule, collate
from defects_in_welds.data.detection_dataset import DetectionDataset
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.model.faster_rcnn import build_detector
from defects_in_welds.params import PREPARED_DIR, Params, load_params
from defects_in_welds.training.lit_module import (
    DetectionModule,
    TileResult,
    learning_rate_factor,
    mean_average_precision,
)
from defects_in_welds.training.run_training import input_spec_of, resolve_precision

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Run:
    """A training: whose detector, which seed, which of several that should be equal, and whether torch sees to that."""

    of: str
    seed: int
    repeat: int = 0
    deterministic: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=PREPARED_DIR, help="prepared data")
    parser.add_argument("--epochs", type=int, help="epochs of a training, where not those of params.yaml")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    arguments = parser.parse_args()
    params = load_params()
    params = replace(params, train=replace(params.train, max_epochs=arguments.epochs or params.train.max_epochs))
    runs = [Run(of, seed) for seed in range(arguments.seeds) for of in ("ours", "torchvision")]
    runs += [Run("ours", 0, repeat=1)]
    if torch.cuda.is_available():
        runs += [Run("ours", 0, repeat, deterministic=False) for repeat in (0, 1)]
    trained: dict[Run, tuple[Weights, dict[str, float]]] = {}
    # Spawned, not forked: CUDA does not survive a fork.
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        threads = max(1, torch.get_num_threads() // arguments.jobs)
        jobs = {pool.submit(train, run, params, arguments.store, threads): run for run in runs}
        for job in as_completed(jobs):
            run = jobs[job]
            trained[run] = job.result()
            print(asdict(run), {name: round(value, 4) for name, value in trained[run][1].items()}, flush=True)
    record("equal_accuracy", summarise(trained, params))


def train(run: Run, params: Params, store_dir: Path, threads: int) -> tuple[Weights, dict[str, float]]:
    """Train, and measure on the test split; the weights come back on the CPU."""
    quiet()
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    params = replace(params, train=replace(params.train, seed=run.seed))
    store = TensorStore.open(store_dir)
    torch.manual_seed(run.seed)
    detector = build_detector(params.model, store.manifest.defect_classes, input_spec_of(store.manifest))
    data = WeldDataModule(store_dir, params.train, params.augmentation)
    if run.of == "ours":
        train_ours(detector, data, params, store.manifest.defect_classes, run.deterministic)
    else:
        reference = build_reference(params, store)
        reference.load_state_dict(detector.state_dict())
        train_reference(reference.to(device), data, params, device)
        detector.load_state_dict(reference.state_dict())
    torch.use_deterministic_algorithms(False)
    measures = measure(detector.to(device).eval(), store, params, device)
    return {name: values.detach().cpu() for name, values in detector.named_parameters()}, measures


def quiet() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")


def train_ours(
    detector: nn.Module, data: WeldDataModule, params: Params, defect_classes: Sequence[str], deterministic: bool
) -> None:
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=resolve_precision(params.trainer),
        deterministic=("warn" if torch.cuda.is_available() else True) if deterministic else False,
        max_epochs=params.train.max_epochs,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        gradient_clip_val=params.train.gradient_clip_norm,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = DetectionModule(detector, defect_classes, params.model.detections_per_tile, params.train)
    trainer.fit(module, data)


def build_reference(params: Params, store: TensorStore) -> nn.Module:
    """Build torchvision's Faster R-CNN with the settings of ours."""
    model, manifest = params.model, store.manifest
    reference: nn.Module = FasterRCNN(
        resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5),
        num_classes=len(manifest.defect_classes) + 1,
        min_size=manifest.img_size,
        max_size=manifest.img_size,
        image_mean=[manifest.grey_mean] * 3,
        image_std=[manifest.grey_std] * 3,
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in model.anchor_sizes_px),
            (tuple(model.anchor_aspect_ratios),) * len(model.anchor_sizes_px),
        ),
        rpn_pre_nms_top_n_train=2 * model.proposals,
        rpn_post_nms_top_n_train=model.proposals,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_batch_size_per_image=model.box_samples,
    )
    return reference


def train_reference(reference: nn.Module, data: WeldDataModule, params: Params, device: torch.device) -> None:
    """Train in float32, step for step as ours is."""
    data.setup()
    loader = data.train_dataloader()
    weights = [weight for weight in reference.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1]},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=params.train.learning_rate, weight_decay=params.train.weight_decay)
    steps = params.train.max_epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, params.train.warmup_steps, steps)
    )
    reference.train()
    torch.manual_seed(params.train.seed)
    for epoch in range(params.train.max_epochs):
        loader.sampler.set_epoch(epoch)
        for images, targets in loader:
            colours = [image.to(device).expand(3, -1, -1) for image in images]
            on_device = [{name: values.to(device) for name, values in target.items()} for target in targets]
            loss = sum(reference(colours, on_device).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, params.train.gradient_clip_norm)
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def measure(detector: nn.Module, store: TensorStore, params: Params, device: torch.device) -> dict[str, float]:
    """Compute the average precision over the tiles of the test split."""
    dataset = DetectionDataset(store, store.tile_indices(Split.TEST), None, params.train.seed, keep_difficult=True)
    results = {}
    for first in range(0, len(dataset), params.train.batch_size):
        positions = range(first, min(first + params.train.batch_size, len(dataset)))
        images, targets = collate([dataset[position, 0] for position in positions])
        for found, true in zip(detector([image.to(device) for image in images]), targets, strict=True):
            tensors = [found[key].cpu() for key in ("boxes", "scores", "labels")]
            results[int(true["image_id"])] = TileResult(*tensors, true["boxes"], true["labels"], true["difficult"])
    return mean_average_precision(results, store.manifest.defect_classes, params.model.detections_per_tile)


def summarise(trained: dict[Run, tuple[Weights, dict[str, float]]], params: Params) -> dict[str, Any]:
    runs = sorted(trained, key=lambda run: run.seed)
    measures: dict[str, Any] = {}
    for of in ("ours", "torchvision"):
        seeds = [run for run in runs if run.of == of and run.repeat == 0 and run.deterministic]
        for name in ("mAP50", "mAP"):
            values = [trained[run][1][name] for run in seeds]
            spread = statistics.stdev(values) if len(values) > 1 else None
            measures[f"{name}, {of}"] = {
                "mean": round(statistics.mean(values), 4),
                "standard deviation": spread and round(spread, 4),
                "by seed": [round(value, 4) for value in values],
            }
    repeats = {
        "deterministic" if first.deterministic else "not deterministic": difference(trained[first], trained[second])
        for first in trained
        for second in trained
        if second == replace(first, repeat=1) and first.repeat == 0
    }
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "precision of ours": resolve_precision(params.trainer),
        "epochs": params.train.max_epochs,
        **measures,
        "two runs of one seed": repeats,
    }


def difference(first: tuple[Weights, dict[str, float]], second: tuple[Weights, dict[str, float]]) -> dict[str, Any]:
    """Tell how far two trainings part: their weights as a share of the norm, and the average precision of both."""
    flat = [np.concatenate([values.numpy().ravel() for values in weights.values()]) for weights, _ in (first, second)]
    precision = {name: [round(measures[name], 4) for _, measures in (first, second)] for name in ("mAP50", "mAP")}
    return {"weights": float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[0])), **precision}


if __name__ == "__main__":
    main()

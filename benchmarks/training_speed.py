"""How fast a training step is beside torchvision's reference loop, and whether the losses are the same.

    python benchmarks/training_speed.py

Faster R-CNN R50-FPN from a random start, on tiles in memory. Ours is timed inside Lightning, between the start and the
end of a step; theirs is torchvision's model in the loop of its reference scripts, once with its default image size and
once with ours. After each of our steps the others take their turn. One thing of theirs is not the default: it keeps
1000 proposals, as ours does.
"""

import argparse
import contextlib
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from records import record
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from defects_in_welds.data.data_module import Batch
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.params import ModelParams, Params, load_params
from defects_in_welds.training.lit_module import DetectionModule
from defects_in_welds.training.run_training import resolve_precision

CLASSES = ("crack", "lack of fusion", "lack of penetration", "gas pore", "slag inclusion")
GREY_MEAN, GREY_STD = 0.5, 0.2
PROPOSALS = 1000
GOALS = {"torchvision, its size": 2.5, "torchvision, our size": 1.6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="steps of each kind that take turns")
    parser.add_argument("--warm-up", type=int, default=1, help="steps of each kind before them")
    parser.add_argument("--img-size", type=int, default=640, help="tile side, in pixels")
    parser.add_argument("--batch-size", type=int, help="tiles a step; 2 on a CPU and 8 on a GPU where it is not given")
    parser.add_argument("--loss-steps", type=int, default=50, help="steps of the check of losses, on the CPU; 0: none")
    parser.add_argument("--loss-img-size", type=int, default=128, help="tile side of that check, in pixels")
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch_size = arguments.batch_size or (8 if device.type == "cuda" else 2)
    speed = compare_speed(arguments.img_size, batch_size, arguments.warm_up, arguments.pairs, device)
    print_table(speed)
    losses = compare_losses(arguments.loss_img_size, arguments.loss_steps) if arguments.loss_steps else None
    record(
        "training_speed",
        {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
            "img_size": arguments.img_size,
            "batch_size": batch_size,
            "speed": speed,
            "losses": losses,
        },
    )


def compare_speed(img_size: int, batch_size: int, warm_up: int, pairs: int, device: torch.device) -> dict[str, Any]:
    params = load_params(["experiment=gpu"] if device.type == "cuda" else [])
    references = {
        "torchvision, its size": ReferenceLoop(build_reference(800, 1333), device),
        "torchvision, our size": ReferenceLoop(build_reference(img_size, img_size), device),
    }
    turns = TakeTurns({name: loop.step for name, loop in references.items()})
    module = DetectionModule(build_ours(img_size), CLASSES, params.model.detections_per_tile, params.train)
    train_with_lightning(module, make_tiles(img_size, batch_size, warm_up + pairs), params, turns)
    seconds = {name: np.array(times[warm_up:]) for name, times in turns.seconds.items()}
    return {
        name: {
            "images a second": round(batch_size / float(np.median(times[:, 0])), 3),
            "ours over it": round(float(np.median(times[:, 0] / seconds["ours"][:, 0])), 2),
            "processor seconds a step": round(float(np.median(times[:, 1])), 2),
            "processor seconds over ours": round(float(np.median(times[:, 1] / seconds["ours"][:, 1])), 2),
            "goal": GOALS.get(name),
            "seconds of each step": times[:, 0].round(3).tolist(),
        }
        for name, times in seconds.items()
    }


def model_params() -> ModelParams:
    """Ours with torchvision's default anchors, proposals and samples."""
    return replace(
        load_params().model,
        anchor_sizes_px=[32, 64, 128, 256, 512],
        anchor_aspect_ratios=[0.5, 1.0, 2.0],
        proposals=PROPOSALS,
        box_samples=512,
    )


def build_ours(img_size: int) -> nn.Module:
    torch.manual_seed(0)
    return build_detector(model_params(), CLASSES, InputSpec(img_size, GREY_MEAN, GREY_STD))


def build_reference(min_size: int, max_size: int) -> nn.Module:
    torch.manual_seed(0)
    detector: nn.Module = fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(CLASSES) + 1,
        min_size=min_size,
        max_size=max_size,
        image_mean=[GREY_MEAN] * 3,
        image_std=[GREY_STD] * 3,
        rpn_post_nms_top_n_train=PROPOSALS,
    )
    return detector


def make_tiles(img_size: int, batch_size: int, batches: int) -> list[Batch]:
    """Draw tiles of noise with bright boxes to find, in one channel."""
    generator = torch.Generator().manual_seed(0)
    return [
        tuple(map(list, zip(*(make_tile(img_size, generator) for _ in range(batch_size)), strict=True)))
        for _ in range(batches)
    ]


def make_tile(img_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    flaws = 4
    sizes = torch.randint(12, 48, (flaws, 2), generator=generator)
    corners = (torch.rand(flaws, 2, generator=generator) * (img_size - sizes)).long()
    boxes = torch.cat([corners, corners + sizes], dim=1)
    labels = torch.randint(1, len(CLASSES) + 1, (flaws,), generator=generator)
    pixels = 0.4 + 0.05 * torch.randn(1, img_size, img_size, generator=generator)
    for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        pixels[:, y0:y1, x0:x1] += 0.08 * label
    return pixels.clamp(0, 1), {"boxes": boxes.float(), "labels": labels}


class ReferenceLoop:
    """A step as in ``references/detection/engine.py`` of torchvision: float32, or float16 with a scaler on a GPU."""

    def __init__(self, detector: nn.Module, device: torch.device) -> None:
        self.detector = detector.to(device).train()
        self.device = device
        weights = [weight for weight in detector.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.SGD(weights, lr=0.001, momentum=0.9, weight_decay=1e-4)
        self.scaler = torch.amp.GradScaler(enabled=device.type == "cuda")

    def step(self, batch: Batch) -> None:
        images = [image.expand(3, -1, -1).to(self.device) for image in batch[0]]
        targets = [{name: values.to(self.device) for name, values in target.items()} for target in batch[1]]
        with torch.autocast(self.device.type, enabled=self.scaler.is_enabled()):
            loss = sum(self.detector(images, targets).values())
        assert math.isfinite(loss.item())
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


class TakeTurns(pl.Callback):
    """Time each step of a training, and let the others make one after it."""

    def __init__(self, others: Mapping[str, Callable[[Batch], None]]) -> None:
        self.others = others
        self.seconds: dict[str, list[np.ndarray]] = {name: [] for name in ("ours", *others)}

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, index: int) -> None:
        self.start = now()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: Batch, index: int
    ) -> None:
        self.seconds["ours"].append(now() - self.start)
        with no_determinism():
            for name, step in self.others.items():
                start = now()
                step(batch)
                self.seconds[name].append(now() - start)
        print({name: round(float(times[-1][0]), 2) for name, times in self.seconds.items()}, flush=True)


def now() -> np.ndarray:
    """Read the clock and this process's time on all processors, in seconds; others' load hardly moves the latter."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return np.array([time.perf_counter(), time.process_time()])


@contextlib.contextmanager
def no_determinism() -> Iterator[None]:
    """Compute as the reference scripts do by default."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(before, warn_only=torch.cuda.is_available())


def train_with_lightning(
    module: DetectionModule, tiles: list[Batch], params: Params, callback: pl.Callback | None = None
) -> None:
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=resolve_precision(params.trainer),
        deterministic=params.trainer.deterministic,
        max_epochs=1,
        gradient_clip_val=params.train.gradient_clip_norm,
        callbacks=[callback] if callback else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(tiles, batch_size=None))


def compare_losses(img_size: int, steps: int) -> dict[str, Any]:
    """Train from the same weights with the same optimiser; two seeds of each show how far samples alone part them."""
    tiles = make_tiles(img_size, batch_size=2, batches=8)
    losses = {}
    for seed in (0, 1):
        reference = build_reference(img_size, img_size)
        reference.transform.torch_choice = lambda sizes: sizes[0]  # no random number for one size
        ours = build_ours(img_size)
        ours.load_state_dict(reference.state_dict())
        losses[f"ours, seed {seed}"] = train_plainly(ours, tiles, steps, seed, mixed=True)
        losses[f"torchvision, seed {seed}"] = train_plainly(reference, tiles, steps, seed)
    last = max(1, steps // 5)
    return {
        name: {
            "first": round(values[0], 4),
            f"mean of {steps}": round(statistics.mean(values), 4),
            f"mean of the last {last}": round(statistics.mean(values[-last:]), 4),
        }
        for name, values in losses.items()
    }


def train_plainly(detector: nn.Module, tiles: list[Batch], steps: int, seed: int, mixed: bool = False) -> list[float]:
    """Train on the CPU.

    Returns:
        The loss of each step.
    """
    optimizer = torch.optim.AdamW(detector.train().parameters(), lr=1e-4)
    torch.manual_seed(seed)
    losses = []
    for step in range(steps):
        images, targets = tiles[step % len(tiles)]
        if not mixed:
            images = [image.expand(3, -1, -1) for image in images]
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def print_table(speed: Mapping[str, Mapping[str, Any]]) -> None:
    print("| | images/s | ours over it | processor s/step | over ours | goal |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, row in speed.items():
        processor = f"{row['processor seconds a step']} | {row['processor seconds over ours']}"
        print(f"| {name} | {row['images a second']} | {row['ours over it']} | {processor} | {row['goal'] or ''} |")


if __name__ == "__main__":
    main()

"""How the detector learns, and how well it finds: one training step, one validation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from defects_in_welds.data.data_module import Batch
from defects_in_welds.params import TrainParams, UserError


class TrainingError(UserError):
    """The training went wrong; the message says what to change."""


class TileResult(NamedTuple):
    """What was found on a tile, and what is there; boxes in tile pixels.

    Attributes:
        boxes_xyxy: Detected boxes.
        scores: Their scores.
        labels: Their classes.
        true_boxes_xyxy: Annotated boxes.
        true_labels: Their classes.
        difficult: Which of them count neither as a miss nor as a false call.
    """

    boxes_xyxy: Float[Tensor, "detections 4"]
    scores: Float[Tensor, " detections"]
    labels: Int64[Tensor, " detections"]
    true_boxes_xyxy: Float[Tensor, "flaws 4"]
    true_labels: Int64[Tensor, " flaws"]
    difficult: Bool[Tensor, " flaws"]


class DetectionModule(pl.LightningModule):
    """A torchvision detector under Lightning.

    Attributes:
        validation_map: mAP of the last validation; None before the first one, and where there is nothing to find.
    """

    def __init__(
        self, detector: nn.Module, defect_classes: Sequence[str], detections_per_tile: int, train: TrainParams
    ) -> None:
        """Take the detector and the settings of its training.

        Args:
            detector: What ``build_detector`` makes.
            defect_classes: Names in order of their ids, from 1.
            detections_per_tile: Most detections of the detector on a tile.
            train: Optimiser and schedule.
        """
        super().__init__()
        self.detector = detector
        self.validation_map: float | None = None
        self._defect_classes = defect_classes
        self._detections_per_tile = detections_per_tile
        self._train = train
        self._results: dict[int, TileResult] = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make the random choices of a step depend on nothing before it, so that a resumed run repeats them."""
        torch.manual_seed(self._train.seed + 1_000_003 * self.global_step + self.global_rank)

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Returns:
            The parts of the loss, and their sum as ``loss``.

        Raises:
            TrainingError: If the loss is no finite number.
        """
        images, targets = batch
        parts: dict[str, Tensor] = self.detector(images, targets)
        total = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            raise TrainingError(
                f"the loss is {total.item()} at step {self.global_step}; lower train.learning_rate or raise "
                "train.warmup_steps"
            )
        self.log("loss", total.detach(), prog_bar=True, logger=False)
        return {"loss": total, **parts}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Keep what is found on a batch until the epoch ends."""
        images, targets = batch
        for found, true in zip(self.detector(images), targets, strict=True):
            tensors = (*(found[key] for key in ("boxes", "scores", "labels")), true["boxes"], true["labels"])
            result = TileResult(*(tensor.cpu() for tensor in (*tensors, true["difficult"])))
            self._results[int(true["image_id"])] = result

    def on_validation_epoch_end(self) -> None:
        """Compute the mean average precision over the tiles of all processes; every one gets the same numbers."""
        results = gather_results(self._results)
        self._results = {}
        metrics = mean_average_precision(results, self._defect_classes, self._detections_per_tile)
        self.validation_map = metrics.get("mAP")
        self.log_dict({f"val/{name}": value for name, value in metrics.items()}, sync_dist=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type is a union of eleven
        """Set up AdamW, with a rate that rises for the warm-up steps and then falls to zero.

        From a random start SGD needs about twice the steps for the same AP.

        References:
            Loshchilov and Hutter 2019, arXiv:1711.05101.
        """
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
            # Norms and biases: decay would pull scales to zero that nothing else bounds from below.
            {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        train = self._train
        optimizer = torch.optim.AdamW(
            groups,
            lr=train.learning_rate,
            weight_decay=train.weight_decay,
            fused=self.device.type == "cpu" or None,  # one pass over the weights; a GPU takes torch's own choice
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, train.warmup_steps, steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm; Lightning refuses a fused optimiser, which on a GPU would scale gradients by itself."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)


def learning_rate_factor(step: int, warmup_steps: int, steps: int) -> float:
    """Compute the share of the peak rate at a step: a line up, then a cosine down to zero at the last step's end.

    Args:
        step: From 0.
        warmup_steps: Steps of the line; the first is above zero, and the one after them at the peak.
        steps: All steps of the training.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return 0.5 * (1 + math.cos(math.pi * done))


def gather_results(results: dict[int, TileResult]) -> dict[int, TileResult]:
    """Bring the results of all processes together, by tile: one that several have seen counts once."""
    if not torch.distributed.is_initialized():
        return results
    of_ranks: list[dict[int, TileResult]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(of_ranks, results)
    return {tile: result for of_rank in of_ranks for tile, result in of_rank.items()}


def mean_average_precision(
    results: Mapping[int, TileResult], defect_classes: Sequence[str], detections_per_tile: int
) -> dict[str, float]:
    """Compute COCO's average precision over tiles.

    Args:
        results: By tile.
        defect_classes: Names in order of their ids, from 1.
        detections_per_tile: Most detections on a tile.

    Returns:
        ``mAP``, ``mAP50``, ``mAP75`` and ``AP/<class>``, from 0 to 1. A class without a flaw to find has no number, and
        where no class has one there are no numbers at all.
    """
    metric = MeanAveragePrecision(
        max_detection_thresholds=[1, 10, max(100, detections_per_tile)],
        class_metrics=True,
        backend="faster_coco_eval",
        sync_on_compute=False,  # the results of all processes are here already
    )
    for _, result in sorted(results.items()):
        found = {"boxes": result.boxes_xyxy, "scores": result.scores, "labels": result.labels}
        true = {"boxes": result.true_boxes_xyxy, "labels": result.true_labels, "iscrowd": result.difficult.long()}
        metric.update([found], [true])
    if all(result.difficult.all() for result in results.values()):
        return {}
    values = metric.compute()
    metrics = {"mAP": values["map"], "mAP50": values["map_50"], "mAP75": values["map_75"]}
    of_classes = zip(values["classes"].reshape(-1).tolist(), values["map_per_class"].reshape(-1), strict=True)
    metrics |= {f"AP/{defect_classes[label - 1]}": value for label, value in of_classes if value >= 0}
    return {name: float(value) for name, value in metrics.items()}

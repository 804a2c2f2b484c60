"""What happens around the training steps: the log, the best weights, the state to resume from."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor

from defects_in_welds.data.data_module import Batch
from defects_in_welds.model.checkpoint import save_checkpoint
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.params import ModelParams
from defects_in_welds.training.lit_module import DetectionModule

_log = logging.getLogger(__name__)


class TrainingLog(Callback):
    """Logs losses, learning rate and speed every so many steps, and at the end of an epoch: means since the last time.

    The numbers are those of the first process; the speed counts all processes.
    """

    def __init__(self, every_steps: int) -> None:
        """Take the number of steps between two entries."""
        self._every_steps = every_steps
        self._learning_rate = 0.0
        self._restart()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out the time of the validation before."""
        self._restart()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note the learning rate before the schedule moves on."""
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Add a step, and log if it is time."""
        self._steps += 1
        self._images += len(batch[0])
        assert isinstance(outputs, Mapping)
        for name, value in outputs.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        if self._steps == self._every_steps or trainer.is_last_batch:
            self._log_means(trainer)
            self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say on the terminal how far the training is, and how good."""
        assert isinstance(pl_module, DetectionModule)
        if trainer.is_global_zero:
            found = pl_module.validation_map
            shown = "nothing to find" if found is None else f"mAP {found:.3f}"
            _log.info("epoch %d of %s, validation: %s", trainer.current_epoch + 1, trainer.max_epochs, shown)

    def _log_means(self, trainer: pl.Trainer) -> None:
        metrics = {f"train/{name}": float(total) / self._steps for name, total in self._sums.items()}
        metrics["train/learning_rate"] = self._learning_rate
        elapsed_s = time.perf_counter() - self._start_s
        metrics["train/images_per_second"] = self._images * trainer.world_size / elapsed_s
        metrics["epoch"] = float(trainer.current_epoch)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step - 1)  # Lightning's own count of steps

    def _restart(self) -> None:
        self._steps = 0
        self._images = 0
        self._sums: dict[str, Tensor | int] = {}
        self._start_s = time.perf_counter()


class BestCheckpoint(Checkpoint):
    """Keeps the weights of the validation with the highest mAP; where there is no mAP, those of the last epoch.

    Attributes:
        best_map: That mAP, or None.
    """

    def __init__(self, path: Path, model: ModelParams, defect_classes: Sequence[str], input_spec: InputSpec) -> None:
        """Take the file to write, and what it holds beside the weights."""
        self.best_map: float | None = None
        self._path = path
        self._model = model
        self._defect_classes = defect_classes
        self._input_spec = input_spec

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights if they are the best so far."""
        assert isinstance(pl_module, DetectionModule)
        found = pl_module.validation_map
        if found is not None and (self.best_map is None or found > self.best_map):
            self.best_map = found
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last weights where no validation had anything to find."""
        if self.best_map is None:
            assert isinstance(pl_module, DetectionModule)
            self._save(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Tell the resume state what the best was."""
        return {"best_map": self.best_map}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best from the resume state."""
        self.best_map = state_dict["best_map"]

    def _save(self, trainer: pl.Trainer, module: DetectionModule) -> None:
        if trainer.is_global_zero:
            extra = {"epoch": trainer.current_epoch, "step": trainer.global_step, "map": self.best_map}
            save_checkpoint(self._path, module.detector, self._model, self._defect_classes, self._input_spec, extra)


class ResumeState(Checkpoint):
    """Writes all that an interrupted run needs to go on, after every epoch."""

    def __init__(self, path: Path) -> None:
        """Take the file to write."""
        self._path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the state of the epoch before; every process takes part."""
        partial = self._path.with_name(f".{self._path.name}.partial")
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            partial.replace(self._path)

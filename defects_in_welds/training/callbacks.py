"""What happens around the training steps: the log, the best weights, the state to resume from."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint
from torch import Tensor

from defects_in_welds.data.data_module import Batch
from defects_in_welds.model.checkpoint import save_checkpoint
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.output_folder import write_errors
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
            self.log_means(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say on the terminal how far the training is, and how good."""
        assert isinstance(pl_module, DetectionModule)
        if trainer.is_global_zero:
            found = pl_module.validation_map
            shown = "nothing to find" if found is None else f"mAP {found:.3f}"
            _log.info("epoch %d of %s, validation: %s", trainer.current_epoch + 1, trainer.max_epochs, shown)

    def log_means(self, trainer: pl.Trainer) -> None:
        """Log the means since the last time, if there were steps since."""
        if self._steps == 0:
            return
        metrics = {f"train/{name}": float(total) / self._steps for name, total in self._sums.items()}
        metrics["train/learning_rate"] = self._learning_rate
        elapsed_s = time.perf_counter() - self._start_s
        metrics["train/images_per_second"] = self._images * trainer.world_size / elapsed_s
        metrics["epoch"] = float(trainer.current_epoch)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step - 1)  # Lightning's own count of steps
        self._restart()

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

    def complete(self, trainer: pl.Trainer, module: DetectionModule) -> None:
        """Save the last weights where no validation had anything to find."""
        if self.best_map is None:
            self._save(trainer, module)

    def state_dict(self) -> dict[str, Any]:
        """Tell the resume state what the best was."""
        return {"best_map": self.best_map}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best from the resume state."""
        self.best_map = state_dict["best_map"]

    def _save(self, trainer: pl.Trainer, module: DetectionModule) -> None:
        if trainer.is_global_zero:
            extra = {"epoch": trainer.current_epoch, "step": trainer.global_step, "map": self.best_map}
            with write_errors(self._path):
                save_checkpoint(self._path, module.detector, self._model, self._defect_classes, self._input_spec, extra)


class ResumeState(Checkpoint):
    """Writes all that an interrupted run needs to go on: after every epoch, and when it is told to stop.

    After SIGTERM, or Ctrl-C, the step at hand is finished and the state saved; a validation is finished too. A second
    signal ends the training at once, with the state of the last time.
    """

    def __init__(self, path: Path, log: TrainingLog) -> None:
        """Take the file to write, and the log that must not lose the last steps."""
        self._path = path
        self._log = log
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to the signals."""
        if threading.current_thread() is threading.main_thread():  # Python allows it to no other
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._handlers = {number: signal.signal(number, self._note_signal) for number in numbers}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Save and stop, if that is asked for; after the last step of an epoch there is its validation first."""
        if not trainer.is_last_batch and self._is_stopped(trainer):
            self._log.log_means(trainer)
            self._save(trainer)
            self._stop()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the state of the epoch before; every process takes part."""
        self._save(trainer)
        if self._is_stopped(trainer):
            self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the signals as they were: where the training came to its end, Lightning has done so already."""
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note_signal:
                signal.signal(number, handler)
        self._handlers = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note whether the training has stopped early: Lightning would go on."""
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a training that has stopped early stay so."""
        trainer.should_stop = checkpoint["should_stop"]

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
        # Not the log: it may be at work below this very handler.
        os.write(sys.stderr.fileno(), b"\nsaving, then stopping; once more stops at once\n")

    def _is_stopped(self, trainer: pl.Trainer) -> bool:
        """Tell whether any process was told to stop, in all of them alike; before the first step, Lightning listens."""
        is_told = self._signal is not None or trainer.received_sigterm
        return trainer.strategy.reduce_boolean_decision(is_told, all=False)

    def _stop(self) -> None:
        sys.exit(128 + (self._signal or signal.SIGTERM))  # as a shell reports it

    def _save(self, trainer: pl.Trainer) -> None:
        partial = self._path.with_name(f".{self._path.name}.partial")
        with write_errors(self._path):
            try:
                trainer.save_checkpoint(partial, weights_only=False)
                if trainer.is_global_zero:
                    partial.replace(self._path)
            finally:
                if trainer.is_global_zero:
                    partial.unlink(missing_ok=True)

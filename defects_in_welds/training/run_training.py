"""Train the detector on the prepared tiles: ``python -m defects_in_welds.training.run_training train.batch_size=8``."""

import json
import logging
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, cast

import hydra
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from defects_in_welds.command_line import log_to_terminal
from defects_in_welds.data.data_module import WeldDataModule
from defects_in_welds.data.tensor_store import Manifest
from defects_in_welds.model.checkpoint import BEST_NAME
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.output_folder import replaced_folder, reserved, write_errors
from defects_in_welds.params import (
    MODEL_DIR,
    PREPARED_DIR,
    TRAINING_DIR,
    Params,
    ParamsError,
    TrainerParams,
    load_params,
    report_user_errors,
)
from defects_in_welds.params.composition import CONFIG_NAME, config_dir, require_no_code, to_params
from defects_in_welds.training.callbacks import BestCheckpoint, ResumeState, TrainingLog
from defects_in_welds.training.environment import environment
from defects_in_welds.training.lit_module import DetectionModule
from defects_in_welds.training.tracking import (
    RunTracker,
    git_commit,
    tracked_run,
    training_params,
)

RUN_NAME = "run.json"
UNSENT_NAME = "unsent"
_LAST_NAME = "last.ckpt"
_STARTED_NAME = "started.json"
# Of `train`, what a resumed run may have otherwise: neither weights nor order nor schedule depend on it.
_FREE_TO_CHANGE = ("resume", "num_workers", "early_stopping_epochs", "experiment_name", "tracking_uri")

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]

_log = logging.getLogger("defects_in_welds.training.run_training")  # as a script the module is called __main__


def train(
    params: Params, prepared_dir: Path, model_dir: Path, training_dir: Path, unsent_dir: Path | None = None
) -> Path:
    """Train a detector and put the best checkpoint, with the record of its run, in place.

    Args:
        params: All parameters; ``augmentation``, ``model``, ``train`` and ``trainer`` are read.
        prepared_dir: Prepared data.
        model_dir: Folder that gets ``best.ckpt`` and ``run.json``, both or neither.
        training_dir: Folder for the state to resume from, which a new training empties.
        unsent_dir: Folder for records that MLflow does not take; None: ``unsent`` beside that of the state.

    Returns:
        The best checkpoint's path.

    Raises:
        ParamsError: If a parameter does not suit the data, or the run to resume.
        DataError: If the prepared data cannot be used.
        TrainingError: If the loss is no finite number.
        UserError: If another training is at work there, or a file cannot be written.
    """
    data = WeldDataModule(prepared_dir, params.train, params.augmentation)
    data.setup("fit")
    with reserved(training_dir) if _is_first_process() else nullcontext():
        return _train_on(data, params, model_dir, training_dir, unsent_dir or training_dir.parent / UNSENT_NAME)


def _train_on(data: WeldDataModule, params: Params, model_dir: Path, training_dir: Path, unsent_dir: Path) -> Path:
    manifest = data.store.manifest
    input_spec = input_spec_of(manifest)
    pl.seed_everything(params.train.seed, workers=True, verbose=False)
    detector = build_detector(params.model, manifest.defect_classes, input_spec)
    module = DetectionModule(detector, manifest.defect_classes, params.model.detections_per_tile, params.train)
    best = BestCheckpoint(training_dir / BEST_NAME, params.model, manifest.defect_classes, input_spec)
    started = _interrupted_run(params, manifest, training_dir) if params.train.resume else None
    ran_on = environment()
    with _quiet_lightning(), _tracked_on_rank_zero(params, manifest, started, unsent_dir) as tracker:
        try:
            trainer = _make_trainer(params, training_dir, best, tracker)
            if tracker is not None:
                if started is None:
                    _start_training_dir(params, manifest, training_dir, tracker)
                tracker.log_tags("environment", ran_on)
            last = training_dir / _LAST_NAME
            trainer.fit(module, datamodule=data, ckpt_path=last if started else None, weights_only=True)
        except SIGTERMException:  # Lightning's, where one process has told the others
            sys.exit(128 + signal.SIGTERM)
        except MisconfigurationException as error:
            raise ParamsError(f"params: trainer does not suit this machine or data: {error}") from None
        best.complete(trainer, module)
        if tracker is not None:
            epochs: Any = trainer.fit_loop.epoch_progress.current  # right also where there was nothing left to train
            run = _run_record(params, manifest, tracker, best.best_map, epochs.processed, ran_on)
            _publish(training_dir / BEST_NAME, run, model_dir)
            tracker.log_file(model_dir / BEST_NAME)
    return model_dir / BEST_NAME


def input_spec_of(manifest: Manifest) -> InputSpec:
    """Tell how the tiles of a store are made, for the checkpoint."""
    return InputSpec(
        manifest.img_size, manifest.grey_mean, manifest.grey_std, manifest.resample_pitch_mm, manifest.background_mm
    )


def resolve_precision(trainer: TrainerParams) -> Precision:
    """Find the precision to train in: a CPU has no mixed float16 and takes bfloat16 in its place."""
    has_accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not has_accelerator)
    return cast(Precision, "bf16-mixed" if on_cpu and trainer.precision == "16-mixed" else trainer.precision)


def _is_first_process() -> bool:
    """Tell whether this process writes; Lightning starts the others with their rank in the environment."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _make_trainer(params: Params, training_dir: Path, best: BestCheckpoint, tracker: RunTracker | None) -> pl.Trainer:
    given = params.trainer
    precision = resolve_precision(given)
    if precision != given.precision and _is_first_process():
        _log.info("trainer.precision %s is %s on a CPU", given.precision, precision)
    log = TrainingLog(given.log_every_n_steps)
    callbacks = [
        log,
        EarlyStopping(
            "val/mAP",
            mode="max",
            patience=params.train.early_stopping_epochs,
            strict=False,
            check_on_train_epoch_end=None,
        ),
        best,
        ResumeState(training_dir / _LAST_NAME, log),
    ]
    return pl.Trainer(
        accelerator=given.accelerator,
        devices=given.devices,
        strategy=given.strategy,
        precision=precision,
        # Some of the detector's steps have no deterministic form on a GPU: those warn there.
        deterministic="warn" if given.deterministic and torch.cuda.is_available() else given.deterministic,
        max_epochs=params.train.max_epochs,
        check_val_every_n_epoch=given.check_val_every_n_epoch,
        limit_train_batches=given.limit_train_batches,
        limit_val_batches=given.limit_val_batches,
        log_every_n_steps=1,  # `TrainingLog` keeps the interval
        enable_progress_bar=given.enable_progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=params.train.gradient_clip_norm,
        use_distributed_sampler=False,  # the data module's samplers know their rank
        callbacks=callbacks,
        logger=tracker or False,
        default_root_dir=training_dir,
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning says about choices that are ours."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Reading a memory-mapped tile takes no time worth a process; train.num_workers says how many there are.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # A step that the gradient scaler skips moves the schedule on: one step of many.
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.. before .optimizer.step.*")
        # The data module knows which batch is next.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
        yield


def _tracked_on_rank_zero(
    params: Params, manifest: Manifest, started: dict[str, Any] | None, unsent_dir: Path
) -> AbstractContextManager[RunTracker | None]:
    if _is_first_process():
        return tracked_run(params, manifest.data_sha256, started, unsent_dir)
    return nullcontext()


def _fingerprint(params: Params, manifest: Manifest) -> dict[str, Any]:
    """List what a resumed run must share with the interrupted one, as JSON gives it back."""
    sections = training_params(params)
    return {
        "model": sections["model"],
        "augmentation": sections["augmentation"],
        "train": {key: value for key, value in sections["train"].items() if key not in _FREE_TO_CHANGE},
        "data": {
            "sha256": manifest.data_sha256,
            "img_size": manifest.img_size,
            "overlap_px": manifest.overlap_px,
            "min_visible_share": manifest.min_visible_share,
            "augmentations": manifest.augmentations,
            "resample_pitch_mm": manifest.resample_pitch_mm,
            "background_mm": manifest.background_mm,
            # The hash is of the files: these tell how their grey levels were treated.
            "grey_mean": manifest.grey_mean,
            "grey_std": manifest.grey_std,
        },
    }


def _start_training_dir(params: Params, manifest: Manifest, training_dir: Path, tracker: RunTracker) -> None:
    """Empty the folder, and note what a resumed run must share with this one."""
    fingerprint = _fingerprint(params, manifest)
    store = {"run_id": tracker.run_id, "experiment_id": tracker.experiment_id, "tracking_uri": tracker.uri}
    with write_errors(training_dir):
        (training_dir / _LAST_NAME).unlink(missing_ok=True)  # first: without it, the rest is no state to resume from
        shutil.rmtree(training_dir, ignore_errors=True)
        training_dir.mkdir(parents=True)
        (training_dir / _STARTED_NAME).write_text(json.dumps({**store, **fingerprint}, indent=2))
    tracker.log_params({"data": fingerprint["data"]})


def _interrupted_run(params: Params, manifest: Manifest, training_dir: Path) -> dict[str, Any]:
    """Find the run to go on with, as it was noted when it began.

    Raises:
        ParamsError: If there is nothing to resume, or it had another model or other data.
    """
    remedy = "set train.resume=false to start anew"
    if not (training_dir / _LAST_NAME).is_file():
        raise ParamsError(f"params: train.resume is True, but {training_dir} holds no finished epoch; {remedy}")
    started: dict[str, Any] = json.loads((training_dir / _STARTED_NAME).read_text())
    if not {"run_id", "experiment_id", "tracking_uri"} <= set(started):
        raise ParamsError(f"params: train.resume is True, but {training_dir} is of another version; {remedy}")
    for section, now in _fingerprint(params, manifest).items():
        for key, value in now.items():
            before = started[section].get(key)
            if before != value:
                raise ParamsError(
                    f"params: train.resume is True, but {section}.{key} is {value!r} and was {before!r} in the "
                    f"interrupted run; {remedy}"
                )
    return started


def _run_record(
    params: Params,
    manifest: Manifest,
    tracker: RunTracker,
    best_map: float | None,
    epochs: int,
    ran_on: dict[str, str],
) -> dict[str, Any]:
    commit = git_commit()
    return {
        "run_id": tracker.run_id,
        "experiment_id": tracker.experiment_id,
        "tracking_uri": tracker.uri,
        "params": training_params(params),
        "best_map": best_map,
        "epochs": epochs,
        "git_commit": commit[0] if commit else None,
        "data_sha256": manifest.data_sha256,
        "precision": resolve_precision(params.trainer),
        "environment": ran_on,
    }


def _publish(best: Path, run: dict[str, Any], model_dir: Path) -> None:
    with replaced_folder(model_dir) as folder:
        shutil.copyfile(best, folder / BEST_NAME)
        (folder / RUN_NAME).write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n")


def _run(config: DictConfig) -> None:
    with report_user_errors():
        train(to_params(config), PREPARED_DIR, MODEL_DIR, TRAINING_DIR)


def main() -> None:
    """Train with the parameters of ``configs/params.yaml`` and the overrides of the command line."""
    log_to_terminal()
    overrides = sys.argv[1:]
    with report_user_errors():
        require_no_code(overrides)
        if not any(argument.startswith("-") for argument in overrides):
            load_params(overrides)  # Hydra itself reports a wrong override in several lines
    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=CONFIG_NAME)(_run)()


if __name__ == "__main__":
    main()

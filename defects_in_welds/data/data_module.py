"""The prepared data for Lightning, and the command ``prepare`` that makes it.

``python defects_in_welds/data/data_module.py prepare --img_size 640 --augmentations True``
"""

import signal
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler

from defects_in_welds.command_line import run_command
from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.augmentation import Augmentation
from defects_in_welds.data.detection_dataset import (
    DetectionDataset,
    OrderedSampler,
    Target,
    TileSampler,
    is_trained_on,
)
from defects_in_welds.data.preparation import prepare
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.params import AugmentationParams, TrainParams

Batch = tuple[list[torch.Tensor], list[Target]]


class WeldDataModule(pl.LightningDataModule):
    """Training and validation tiles of a store.

    Attributes:
        store: The prepared data, after `setup`.
    """

    store: TensorStore

    def __init__(self, store_dir: Path, train: TrainParams, augmentation: AugmentationParams) -> None:
        """Plan the loading.

        Args:
            store_dir: Folder of the prepared data.
            train: Batches, share of empty tiles, limits and seed.
            augmentation: How training tiles are changed, if the data was prepared for it.
        """
        super().__init__()
        self._store_dir = store_dir
        self._train = train
        self._augmentation = augmentation
        self._start = {"epoch": 0, "batches": 0}

    def setup(self, stage: str | None = None) -> None:
        """Open the store.

        Raises:
            DataError: If it is missing or broken, or has nothing to train on or to validate with.
        """
        self.store = TensorStore.open(self._store_dir)
        self._train_tiles = self._choose_train_tiles()
        self._val_tiles = (
            self._train_tiles if self._train.validate_on == "train" else self.store.tile_indices(Split.VAL)
        )
        if not self._val_tiles:
            raise DataError(
                f"{self._store_dir}: no tile to validate with; prepare with prepare.val_share above 0, or set "
                "train.validate_on=train"
            )

    def _choose_train_tiles(self) -> list[int]:
        tiles = self.store.tile_indices(Split.TRAIN)
        annotated = [index for index in tiles if is_trained_on(self.store, index)]
        if not annotated:
            raise DataError(
                f"{self._store_dir}: no training tile shows a flaw; add annotations to the training films, or lower "
                "prepare.min_visible_share"
            )
        return tiles if self._train.tile_limit is None else annotated[: self._train.tile_limit]

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, Target]]:
        """Load training tiles in a new order each epoch, augmented if the data was prepared for it."""
        manifest = self.store.manifest
        augmentation = Augmentation(self._augmentation, manifest.min_visible_share) if manifest.augmentations else None
        dataset = DetectionDataset(self.store, self._train_tiles, augmentation, self._train.seed, keep_difficult=False)
        sampler = TileSampler(
            [not is_trained_on(self.store, index) for index in self._train_tiles],
            self._train.empty_tile_share,
            self._train.seed,
            rank=self._rank,
            world_size=self._world_size,
        )
        sampler.start_at(self._start["epoch"], self._start["batches"] * self._train.batch_size)
        return self._load(dataset, sampler)

    def state_dict(self) -> dict[str, Any]:
        """Tell the resume state which batch is next."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        epochs: Any = loop.epoch_progress.current  # Lightning's annotation names a parent class
        is_within_epoch = epochs.started > epochs.processed
        batches: Any = loop.epoch_loop.batch_progress.current
        return {"epoch": epochs.processed, "batches": batches.processed if is_within_epoch else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the next batch from the resume state; Lightning knows the epoch only when tiles are being loaded."""
        self._start = state_dict

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, Target]]:
        """Load validation tiles as they are. Processes share them evenly, so that a few may come twice."""
        dataset = DetectionDataset(self.store, self._val_tiles, None, self._train.seed, keep_difficult=True)
        return self._load(dataset, OrderedSampler(len(dataset), rank=self._rank, world_size=self._world_size))

    def _load(
        self, dataset: DetectionDataset, sampler: Sampler[tuple[int, int]]
    ) -> DataLoader[tuple[torch.Tensor, Target]]:
        workers = self._train.num_workers
        return DataLoader(
            dataset,
            batch_size=self._train.batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            worker_init_fn=_leave_signals_to_the_training,
        )

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1


def collate(items: list[tuple[torch.Tensor, Target]]) -> Batch:
    """Make a batch: a list of tiles and a list of targets, for boxes do not stack."""
    return [image for image, _ in items], [target for _, target in items]


def _leave_signals_to_the_training(worker: int) -> None:
    """Let a loading process live on when a terminal interrupts all: the training still finishes what it is at."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    run_command({"prepare": prepare}, sys.argv[1:])

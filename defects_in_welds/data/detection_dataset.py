"""Prepared tiles as a detector in training wants them, and the order in which it sees them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch.utils.data import Dataset, DistributedSampler

from defects_in_welds.data.augmentation import Augmentation
from defects_in_welds.data.tensor_store import TensorStore

Target = dict[str, torch.Tensor]


def read_tile(
    store: TensorStore, tile_index: int, augmentation: Augmentation | None, seed: Sequence[int]
) -> tuple[
    Float32[np.ndarray, "height width"],
    Float32[np.ndarray, "boxes 4"],
    Int64[np.ndarray, " boxes"],
    Bool[np.ndarray, " boxes"],
]:
    """Read a tile, changed at random or as it is.

    Args:
        store: The prepared data.
        tile_index: Of the tile in the store.
        augmentation: None leaves the tile as it is.
        seed: Numbers that name this one change.

    Returns:
        The tile, black 0 and full scale 1; boxes in its pixels; class ids; and which of them are difficult.
    """
    tile = store.manifest.tiles[tile_index]
    if augmentation is None:
        return store.unit_pixels(tile_index), tile.boxes_xyxy, tile.labels, tile.difficult
    bit_depth = store.film_of(tile_index).bit_depth
    image, boxes, rows = augmentation(store.pixels(tile_index), bit_depth, tile.boxes_xyxy, seed)
    return image, boxes, tile.labels[rows], tile.difficult[rows]


class DetectionDataset(Dataset[tuple[torch.Tensor, Target]]):
    """Tiles with torchvision's targets.

    The key of an item is its position and the epoch. The same seed, tile and epoch give the same augmented tile,
    whichever process loads it.
    """

    def __init__(
        self,
        store: TensorStore,
        tile_indices: Sequence[int],
        augmentation: Augmentation | None,
        seed: int,
        *,
        keep_difficult: bool,
    ) -> None:
        """Choose the tiles.

        Args:
            store: The prepared data.
            tile_indices: Tiles of the store, by position in this data set.
            augmentation: None gives the tiles as they are.
            seed: Of the augmentation.
            keep_difficult: Whether difficult annotations are among the targets, flagged. Training goes without them.
        """
        self._store = store
        self._tile_indices = tuple(tile_indices)
        self._augmentation = augmentation
        self._seed = seed
        self._keep_difficult = keep_difficult

    def __len__(self) -> int:
        return len(self._tile_indices)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, Target]:
        """Read one tile.

        Args:
            key: Position and epoch.

        Returns:
            The tile, black 0 and full scale 1, of shape (1, height, width); and its target: ``boxes`` (n, 4) in tile
            pixels, ``labels`` (n) from 1, ``difficult`` (n), and ``image_id``, the index of the tile in the store.
        """
        position, epoch = key
        index = self._tile_indices[position]
        image, boxes, labels, difficult = read_tile(
            self._store, index, self._augmentation, seed=(self._seed, epoch, index)
        )
        kept = np.ones_like(difficult) if self._keep_difficult else ~difficult
        target = {
            "boxes": torch.from_numpy(boxes[kept]),
            "labels": torch.from_numpy(labels[kept]),
            "difficult": torch.from_numpy(difficult[kept]),
            "image_id": torch.tensor(index, dtype=torch.int64),
        }
        return torch.from_numpy(np.ascontiguousarray(image))[None], target


def is_trained_on(store: TensorStore, tile_index: int) -> bool:
    """Tell whether a tile shows a flaw that training learns from; those marked as difficult are none."""
    return not store.manifest.tiles[tile_index].difficult.all()


# Both samplers are DistributedSampler so that Lightning, which wraps all others, does not divide the tiles twice.
class TileSampler(DistributedSampler[Any]):
    """Shuffle the training tiles, with no more than a share of empty ones, drawn anew in each epoch.

    Every process gets as many tiles as every other; a few are repeated for that.
    """

    def __init__(
        self, is_empty: Sequence[bool], empty_tile_share: float, seed: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        """Count the tiles of an epoch.

        Args:
            is_empty: For each position of the data set, whether the tile shows no flaw.
            empty_tile_share: Largest share of empty tiles in an epoch.
            seed: Of order and choice.
            rank: Of this process.
            world_size: Number of processes.
        """
        super().__init__(is_empty, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        (self._annotated,) = np.nonzero(~np.asarray(is_empty, dtype=np.bool_))
        (self._empty,) = np.nonzero(np.asarray(is_empty, dtype=np.bool_))
        most_empty = int(len(self._annotated) * empty_tile_share / (1 - empty_tile_share))
        self._empty_count = min(most_empty, len(self._empty))
        self.num_samples = -(-(len(self._annotated) + self._empty_count) // world_size)
        self._start = 0, 0

    def start_at(self, epoch: int, tiles: int) -> None:
        """Leave out the first tiles of this process in an epoch: an interrupted training has seen them."""
        self.set_epoch(epoch)
        self._start = epoch, tiles

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = rng.choice(self._empty, self._empty_count, replace=False)
        order = rng.permutation(np.concatenate([self._annotated, drawn]))
        wrapped = np.resize(order, self.num_samples * self.num_replicas)
        mine = wrapped[self.rank :: self.num_replicas]
        start_epoch, seen = self._start
        return ((int(position), self.epoch) for position in mine[seen if self.epoch == start_epoch else 0 :])


class OrderedSampler(DistributedSampler[Any]):
    """All tiles in order, the same each time, as validation wants them.

    Every process gets as many tiles as every other; the first are repeated for that, to be told by their ``image_id``.
    """

    def __init__(self, tiles: int, *, rank: int = 0, world_size: int = 1) -> None:
        """Divide the tiles among processes.

        Args:
            tiles: Length of the data set.
            rank: Of this process.
            world_size: Number of processes.
        """
        super().__init__(range(tiles), num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((position, 0) for position in super().__iter__())

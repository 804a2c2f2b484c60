"""Tiny prepared data, and parameters under which a training takes seconds."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.tensor_store import FilmRecord, Manifest, StoreWriter, TileRecord
from defects_in_welds.params import load_params

TILE_PX = 64
CLASSES = ("gas pore", "трещина (crack)")


def write_store(
    path: Path, *, train_tiles=4, val_tiles=2, val_boxes=True, grey_mean=0.38, augmentations=False, seed=0
) -> None:
    """Write films of one tile each, with a dark flaw of the first class on every one."""
    rng = np.random.default_rng(seed)
    films, tiles = [], []
    with StoreWriter(path, TILE_PX) as writer:
        for index in range(train_tiles + val_tiles):
            split = Split.TRAIN if index < train_tiles else Split.VAL
            pixels = rng.integers(90, 120, (TILE_PX, TILE_PX)).astype(np.uint8)
            x, y = (int(value) for value in rng.integers(4, 30, 2))
            pixels[y : y + 16, x : x + 24] = 20
            boxes = np.array([[x, y, x + 24, y + 16]] if val_boxes or split is Split.TRAIN else [], dtype=np.float32)
            dtype, row = writer.append(pixels)
            size = TILE_PX, TILE_PX
            films.append(FilmRecord(f"{index}.png", "0" * 64, split, f"{index}", *size, 8, None, (), *size, None))
            tiles.append(
                TileRecord(
                    film=index,
                    xyxy=(0, 0, TILE_PX, TILE_PX),
                    dtype=dtype,
                    row=row,
                    boxes_xyxy=boxes.reshape(-1, 4),
                    labels=np.ones(len(boxes), dtype=np.int64),
                    difficult=np.zeros(len(boxes), dtype=np.bool_),
                )
            )
        writer.complete(Manifest(TILE_PX, 8, 0.3, augmentations, CLASSES, grey_mean, 0.1, tuple(films), tuple(tiles)))


@contextmanager
def folder_to_train_in(folder: Path, *, augmentations=False):
    """Work in a folder with prepared data and an MLflow store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        write_store(Path("prepared"), augmentations=augmentations)
        yield


def tiny_params():
    """The parameters of the repository, made small."""
    params = load_params()
    return replace(
        params,
        model=replace(params.model, architecture="fasterrcnn_mobilenet_v3_large_320_fpn", proposals=30),
        train=replace(params.train, batch_size=2, max_epochs=2, warmup_steps=0),
        trainer=replace(params.trainer, enable_progress_bar=False, accelerator="cpu", devices=1),
    )

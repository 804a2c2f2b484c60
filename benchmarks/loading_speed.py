"""How fast the store loads tiles beside a folder of PNG tiles with albumentations' own transforms, and beside memcpy.

    python benchmarks/loading_speed.py

The folder holds the very tiles of the store, as PNG of 16 or 8 bits and, of the latter, of three equal channels too,
which is what SAHI writes and most readers make of them. Its data set is what one writes by hand: read the file, apply
the transforms that `Augmentation` stands for, make tensors. 16-bit tiles go through the transforms as float32, which
know no other way to keep their levels. Both feed the same DataLoader in one process on one thread, and take turns. All
files are in the page cache.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from records import record
from torch.utils.data import DataLoader, Dataset
from whole_films import TILE_PX, film_params, write_films

from defects_in_welds.data.augmentation import Augmentation
from defects_in_welds.data.data_module import collate
from defects_in_welds.data.detection_dataset import DetectionDataset, OrderedSampler, Target
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.params import AugmentationParams

BATCH_SIZE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="passes of each kind that take turns")
    parser.add_argument("--films", type=int, default=4, help="films, of 30 tiles each")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, data in write_films(Path(folder), arguments.films).items():
            store = prepare_dataset(film_params(), data, data / "prepared")
            folders = {"grey PNG": cv2.IMREAD_UNCHANGED}
            if kind == "8-bit PNG":
                folders["RGB PNG"] = cv2.IMREAD_COLOR
            write_tiles(store, data / "tiles", list(folders))
            for name, reading in folders.items():
                peer = TileFolder(store, data / "tiles" / name, reading)
                result[f"tiles of {kind} films, augmented, beside {name}"] = compare(store, peer, arguments.pairs)
            result[f"tiles of {kind} films, as they are, beside memcpy"] = compare_with_memcpy(store, arguments.pairs)
    record("loading_speed", {"tile": f"{TILE_PX} px", **result})


class TileFolder(Dataset[tuple[torch.Tensor, Target]]):
    """What one writes who has a folder of tiles, and boxes in memory."""

    def __init__(self, store: TensorStore, folder: Path, reading: int) -> None:
        self._paths = sorted(folder.iterdir())
        self._targets = [(tile.boxes_xyxy, tile.labels) for tile in store.manifest.tiles]
        self._reading = reading
        self._pipeline = stock_pipeline(film_params().augmentation, store.manifest.min_visible_share)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        boxes, labels = self._targets[index]
        image = cv2.imread(str(self._paths[index]), self._reading)
        if image.dtype == np.uint16:
            image = image.astype(np.float32) / 65535
        changed = self._pipeline(image=image, bboxes=boxes, labels=labels)
        image = changed["image"]
        if image.dtype == np.uint8:
            image = image.astype(np.float32) / 255
        tensor = torch.from_numpy(image)[None] if image.ndim == 2 else torch.from_numpy(image).permute(2, 0, 1)
        return tensor.contiguous(), {
            "boxes": torch.as_tensor(np.array(changed["bboxes"], dtype=np.float32).reshape(-1, 4)),
            "labels": torch.as_tensor(np.array(changed["labels"], dtype=np.int64)),
            "image_id": torch.tensor(index),
        }


def stock_pipeline(augmentation: AugmentationParams, min_visible_share: float) -> Any:
    import albumentations

    limit = augmentation.scale_limit
    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=augmentation.horizontal_flip),
            albumentations.VerticalFlip(p=augmentation.vertical_flip),
            albumentations.RandomRotate90(p=augmentation.quarter_turns),
            albumentations.Affine(
                scale=(1 - limit, 1 + limit), keep_ratio=True, border_mode=cv2.BORDER_REPLICATE, p=float(limit > 0)
            ),
            albumentations.RandomBrightnessContrast(
                brightness_limit=augmentation.brightness_limit, contrast_limit=augmentation.contrast_limit, p=1
            ),
            albumentations.GaussNoise(std_range=(0, augmentation.noise_std_max)),
        ],
        bbox_params=albumentations.BboxParams(
            format="pascal_voc", label_fields=["labels"], min_visibility=min_visible_share, min_width=1, min_height=1
        ),
        seed=0,
    )


def write_tiles(store: TensorStore, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(len(store.manifest.tiles)):
            pixels = store.pixels(index)
            image = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if name == "RGB PNG" else np.array(pixels)
            cv2.imwrite(str(folder / name / f"{index:06d}.png"), image)


def compare(store: TensorStore, peer: TileFolder, pairs: int) -> dict[str, Any]:
    params = film_params().augmentation
    augmentation = Augmentation(params, store.manifest.min_visible_share)
    loaders = {"store": load(store, augmentation), "folder": DataLoader(peer, BATCH_SIZE, collate_fn=collate)}
    seconds = in_turn({name: lambda loader=loader: drain(loader) for name, loader in loaders.items()}, pairs)
    return summarise(seconds, len(peer), "folder", "store")


def compare_with_memcpy(store: TensorStore, pairs: int) -> dict[str, Any]:
    loader = load(store, None)
    tiles = len(store.manifest.tiles)
    # What comes out is float32: as many bytes are copied, from as many places.
    source = np.ones((tiles, TILE_PX, TILE_PX), dtype=np.float32)
    seconds = in_turn({"store": lambda: drain(loader), "memcpy": lambda: copy_all(source)}, pairs)
    return summarise(seconds, tiles, "memcpy", "store")


def load(store: TensorStore, augmentation: Augmentation | None) -> DataLoader[Any]:
    tiles = list(range(len(store.manifest.tiles)))
    dataset = DetectionDataset(store, tiles, augmentation, seed=0, keep_difficult=False)
    return DataLoader(dataset, BATCH_SIZE, sampler=OrderedSampler(len(dataset)), collate_fn=collate)


def drain(loader: DataLoader[Any]) -> None:
    for _ in loader:
        pass


def copy_all(source: np.ndarray) -> None:
    copy = np.empty_like(source[0])
    for tile in source:
        np.copyto(copy, tile)


def in_turn(runs: dict[str, Callable[[], object]], pairs: int) -> dict[str, list[float]]:
    """Measure CPU seconds: on one thread they are those of the clock on an idle machine, and hold on a busy one."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # libraries warm up, files come into the page cache
        run()
    for _ in range(pairs):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return seconds


def summarise(seconds: dict[str, list[float]], tiles: int, above: str, below: str) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
    return {
        **{f"tiles a second, {name}": round(tiles / statistics.median(of), 1) for name, of in seconds.items()},
        f"time of {above} over {below}": {
            "median": round(statistics.median(ratios), 2),
            "from": round(min(ratios), 2),
            "to": round(max(ratios), 2),
        },
    }


if __name__ == "__main__":
    main()

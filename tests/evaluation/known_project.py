"""A tiny project whose films and detector are known to the last flaw."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from defects_in_welds.data.tensor_store import (
    FilmAnnotation,
    FilmRecord,
    Manifest,
    StoreWriter,
    TensorStore,
    TileRecord,
)
from defects_in_welds.data.tiling import boxes_in_tile, cut_tile, plan_tiles
from defects_in_welds.inference.detections import Detections
from defects_in_welds.model.faster_rcnn import InputSpec

TILE_PX = 64
CLASSES = ("crack", "gas pore")
RUN = {
    "run_id": "0123456789abcdef0123456789abcdef",
    "experiment_id": "1",
    "tracking_uri": "http://127.0.0.1:9",
    "params": {"model": {"weights": "none", "anchor_sizes_px": [8, 16], "weights_sha256": None}},
    "best_map": 0.25,
    "epochs": 3,
    "git_commit": "c0ffee" * 6 + "c0de",
    "precision": "bf16-mixed",
}
FLAWS = (FilmAnnotation((10, 10, 30, 20), "crack", False), FilmAnnotation((60, 30, 70, 40), "gas pore", False))


class Oracle:
    """Stands in for a trained detector: reports every flaw but the last of a film, and one that is not there."""

    defect_classes, input_spec = CLASSES, InputSpec(TILE_PX, 0.5, 0.2)

    def predict_store_film(self, store, film, batch_size, merge_iou):
        flaws = store.manifest.films[film].annotations[:-1]
        true_boxes = np.array([flaw.box_xyxy for flaw in flaws], dtype=np.float32).reshape(-1, 4)
        return Detections(
            np.concatenate([true_boxes, [[80, 5, 90, 15]]]).astype(np.float32),
            np.array([0.9] * len(flaws) + [0.6], dtype=np.float32),
            np.array([CLASSES.index(flaw.defect_class) + 1 for flaw in flaws] + [1], dtype=np.int64),
        )


@dataclass
class Project:
    """Where the stages read and write."""

    prepared: Path
    model: Path
    evaluation: Path
    report: Path

    def prepare(self, *films):
        """Prepare films as `write_store` does, and let the model be trained on them."""
        run = {**RUN, "data_sha256": write_store(self.prepared, *films).manifest.data_sha256}
        self.model.mkdir(exist_ok=True)
        (self.model / "run.json").write_text(json.dumps(run))


def write_store(path, *films):
    """A store from films given as (name, split, annotations)."""
    rng = np.random.default_rng(0)
    records, tiles = [], []
    with StoreWriter(path, TILE_PX) as writer:
        for index, (name, split, annotations) in enumerate(films):
            pixels = rng.integers(1000, 3000, (64, 100), dtype=np.uint16)
            size = pixels.shape
            records.append(FilmRecord(name, "00", split, name, *size, 12, 0.1, tuple(annotations), *size, 0.1))
            flaw_boxes = np.array([flaw.box_xyxy for flaw in annotations]).reshape(-1, 4)
            labels = np.array([CLASSES.index(flaw.defect_class) + 1 for flaw in annotations], dtype=np.int64)
            for xyxy in plan_tiles(pixels.shape, TILE_PX, 16):
                place = writer.append(cut_tile(pixels, xyxy, TILE_PX))
                kept, tile_boxes = boxes_in_tile(flaw_boxes, xyxy, 0.3)
                difficult = np.zeros(len(kept), dtype=np.bool_)
                tiles.append(TileRecord(index, tuple(xyxy.tolist()), *place, tile_boxes, labels[kept], difficult))
        writer.complete(Manifest(TILE_PX, 16, 0.3, True, CLASSES, 0.5, 0.2, tuple(records), tuple(tiles)))
        header = "kind,corrupting,path,line,action,message\n"
        (writer.folder / "checks.csv").write_text(header + "ignored_file,false,a.txt,,not read,odd\n")
    return TensorStore.open(path)

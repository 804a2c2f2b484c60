import numpy as np
import pytest
import torch
from torch import nn

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.tensor_store import FilmRecord, Manifest, StoreWriter, TensorStore, TileRecord
from defects_in_welds.data.tiling import cut_tile, plan_tiles
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.checkpoint import save_checkpoint
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector

TILE_PX = 64
NO_BOXES = np.zeros((0, 4), dtype=np.float32)
NO_LABELS = np.zeros(0, dtype=np.int64)


def write_store(path, *films):
    """A store of 12-bit films, given as arrays."""
    records, tiles = [], []
    with StoreWriter(path, TILE_PX) as writer:
        for index, pixels in enumerate(films):
            size = pixels.shape
            records.append(FilmRecord(f"{index}.tif", "00", Split.TEST, str(index), *size, 12, None, (), *size, None))
            for xyxy in plan_tiles(pixels.shape, TILE_PX, 16):
                place = writer.append(cut_tile(pixels, xyxy, TILE_PX))
                tiles.append(TileRecord(index, tuple(xyxy.tolist()), *place, NO_BOXES, NO_LABELS, NO_LABELS > 0))
        writer.complete(Manifest(TILE_PX, 16, 0.3, False, ("crack", "pore"), 0.5, 0.2, tuple(records), tuple(tiles)))
    return TensorStore.open(path)


class BrightPartDetector(nn.Module):
    """Reports the bounding box of all that is brighter than half of full scale, with the brightness as its score."""

    def __init__(self):
        super().__init__()
        self.batch_sizes = []

    def forward(self, images):
        self.batch_sizes.append(len(images))
        return [self.look_at(image[0]) for image in images]

    def look_at(self, image):
        rows, columns = torch.nonzero(image > 0.5, as_tuple=True)
        if not len(rows):
            return {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        return {"boxes": box[None], "scores": image.max()[None], "labels": torch.tensor([2])}


def film_with(height, width, *bright):
    pixels = np.zeros((height, width), dtype=np.uint16)
    for x0, y0, x1, y1 in bright:
        pixels[y0:y1, x0:x1] = 4095
    return pixels


def predict(store, film, detector=None, batch_size=4):
    spec = InputSpec(TILE_PX, 0.5, 0.2)
    predictor = Predictor(detector or BrightPartDetector(), ("crack", "pore"), spec, torch.device("cpu"))
    return predictor.predict_store_film(store, film, batch_size, merge_iou=0.5)


def test_a_flaw_is_found_where_it_lies_on_the_film(tmp_path):
    store = write_store(tmp_path / "store", film_with(64, 64), film_with(200, 300, (231, 170, 240, 182)))
    found = predict(store, film=1)
    assert found.boxes_xyxy.tolist() == [[231, 170, 240, 182]]
    assert found.scores.tolist() == [1]
    assert found.labels.tolist() == [2]


def test_a_flaw_longer_than_a_tile_is_found_once(tmp_path):
    store = write_store(tmp_path / "store", film_with(64, 300, (10, 30, 290, 36)))
    assert predict(store, film=0).boxes_xyxy.tolist() == [[10, 30, 290, 36]]


def test_boxes_do_not_reach_into_the_padding_of_a_small_film(tmp_path):
    store = write_store(tmp_path / "store", film_with(40, 50, (30, 20, 50, 40)))
    assert predict(store, film=0).boxes_xyxy.tolist() == [[30, 20, 50, 40]]


def test_a_film_without_anything_gives_no_detections(tmp_path):
    found = predict(write_store(tmp_path / "store", film_with(64, 200)), film=0)
    assert len(found) == 0
    assert found.boxes_xyxy.dtype == np.float32
    assert found.labels.dtype == np.int64


def test_tiles_come_in_batches_of_the_asked_size_and_make_no_difference(tmp_path):
    store = write_store(tmp_path / "store", film_with(64, 300, (10, 30, 290, 36)))
    detector = BrightPartDetector()
    found = predict(store, film=0, detector=detector, batch_size=4)
    assert detector.batch_sizes == [4, 2]
    assert predict(store, film=0, batch_size=1).boxes_xyxy.tolist() == found.boxes_xyxy.tolist()


@pytest.fixture
def checkpoint(tmp_path, params):
    params.model.architecture = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.manual_seed(0)
    spec = InputSpec(TILE_PX, 0.5, 0.2)
    detector = build_detector(params.model, ("crack", "pore"), spec)
    save_checkpoint(tmp_path / "best.ckpt", detector, params.model, ("crack", "pore"), spec, {})
    return tmp_path / "best.ckpt"


def test_a_trained_detector_predicts_the_same_every_time(tmp_path, checkpoint):
    rng = np.random.default_rng(0)
    store = write_store(tmp_path / "store", rng.integers(0, 4096, (64, 100), dtype=np.uint16))
    predictor = Predictor.from_checkpoint(checkpoint)
    assert predictor.defect_classes == ("crack", "pore")
    assert predictor.input_spec == InputSpec(TILE_PX, 0.5, 0.2)
    first, second = (
        predictor.predict_store_film(store, film=0, batch_size=2, merge_iou=0.5),
        Predictor.from_checkpoint(checkpoint).predict_store_film(store, film=0, batch_size=2, merge_iou=0.5),
    )
    assert len(first) > 0
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert (first.boxes_xyxy >= 0).all()
    assert (first.boxes_xyxy <= [100, 64, 100, 64]).all()

import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.tensor_store import FilmRecord, Manifest, StoreWriter, TensorStore, TileRecord
from defects_in_welds.data.tiling import cut_tile, plan_tiles
from defects_in_welds.evaluation.film_results import film_result
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.checkpoint import save_checkpoint
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.params import ParamsError

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


def film_with(height, width, *bright):
    pixels = np.zeros((height, width), dtype=np.uint16)
    for x0, y0, x1, y1 in bright:
        pixels[y0:y1, x0:x1] = 4095
    return pixels


def predictor_of(detector, **standardisation):
    spec = InputSpec(TILE_PX, 0.5, 0.2, **standardisation)
    return Predictor(detector, ("crack", "pore"), spec, torch.device("cpu"), batches_at_once=3)


def predict(store, film, detector, batch_size=4):
    return predictor_of(detector).predict_store_film(store, film, batch_size, merge_iou=0.5)


def test_a_flaw_is_found_where_it_lies_on_the_film(tmp_path, detector):
    store = write_store(tmp_path / "store", film_with(64, 64), film_with(200, 300, (231, 170, 240, 182)))
    found = predict(store, 1, detector)
    assert found.boxes_xyxy.tolist() == [[231, 170, 240, 182]]
    assert found.scores.tolist() == [1]
    assert found.labels.tolist() == [2]


def test_a_flaw_longer_than_a_tile_is_found_once(tmp_path, detector):
    store = write_store(tmp_path / "store", film_with(64, 300, (10, 30, 290, 36)))
    assert predict(store, 0, detector).boxes_xyxy.tolist() == [[10, 30, 290, 36]]


def test_boxes_do_not_reach_into_the_padding_of_a_small_film(tmp_path, detector):
    store = write_store(tmp_path / "store", film_with(40, 50, (30, 20, 50, 40)))
    assert predict(store, 0, detector).boxes_xyxy.tolist() == [[30, 20, 50, 40]]


def test_a_film_without_anything_gives_no_detections(tmp_path, detector):
    found = predict(write_store(tmp_path / "store", film_with(64, 200)), 0, detector)
    assert len(found) == 0
    assert found.boxes_xyxy.dtype == np.float32
    assert found.labels.dtype == np.int64


def test_tiles_come_in_batches_of_the_asked_size_and_make_no_difference(tmp_path, detector):
    store = write_store(tmp_path / "store", film_with(64, 300, (10, 30, 290, 36)))
    found = predict(store, 0, detector, batch_size=4)
    assert sorted(detector.batch_sizes) == [2, 4]
    assert predict(store, 0, detector, batch_size=1).boxes_xyxy.tolist() == found.boxes_xyxy.tolist()


@pytest.fixture
def tiled(params):
    """Parameters under which a film is cut as those of `write_store` are."""
    params.prepare.overlap_px = 16
    params.evaluate.merge_iou = 0.5
    return params


@pytest.mark.parametrize("box", [[50, 20, 60, 30], [10, 30, 290, 36], [60, 40, 130, 60]])
def test_a_flaw_on_the_seam_of_tiles_is_found_once_on_any_film(box, detector, tiled):
    pixels = film_with(64, 300, box)
    found = predictor_of(detector).predict(pixels * 16, tiled)
    assert found.boxes_xyxy.tolist() == [box]
    assert sum(detector.batch_sizes) == 6


def test_a_film_is_read_from_its_file_as_the_parameters_say(tmp_path, detector, tiled):
    tiled.prepare.bit_depth = 12
    cv2.imwrite(str(tmp_path / "film.png"), film_with(100, 200, (150, 20, 170, 40)))
    for path in (tmp_path / "film.png", str(tmp_path / "film.png")):
        found = predictor_of(detector).predict(path, tiled)
        assert (found.boxes_xyxy.tolist(), found.scores.tolist()) == ([[150, 20, 170, 40]], [1])
    tiled.prepare.invert_polarity = True
    assert predictor_of(detector).predict(path, tiled).boxes_xyxy.tolist() == [[0, 0, 200, 100]]


def test_boxes_are_in_pixels_of_the_file_whatever_pitch_the_detector_sees(detector, tiled):
    tiled.prepare.pixel_pitch_mm = 0.05
    pixels = film_with(160, 400, (200, 40, 240, 80)) * 16
    found = predictor_of(detector, resample_pitch_mm=0.1).predict(pixels, tiled)
    assert found.boxes_xyxy.tolist() == [[200, 40, 240, 80]]
    assert sum(detector.batch_sizes) == len(plan_tiles((80, 200), TILE_PX, 16))


def test_without_parameters_those_of_the_project_count(project, detector):
    params_file = project / "configs/params.yaml"
    params_file.write_text(re.sub(r"overlap_px: \d+", "overlap_px: 64", params_file.read_text()))
    with pytest.raises(ParamsError, match=r"prepare.overlap_px is 64; allowed: below 64, the model's tile side"):
        predictor_of(detector).predict(film_with(64, 64))


@pytest.mark.parametrize(
    ("pitch_mm", "standardisation", "message"),
    [
        (None, {"resample_pitch_mm": 0.1}, r"^pixels: does not say its pixel pitch, .*; set prepare.pixel_pitch_mm$"),
        (None, {"background_mm": 3.0}, r"^pixels: does not say its pixel pitch, .*; set prepare.pixel_pitch_mm$"),
        (2.0, {"background_mm": 3.0}, r"^pixels: its pixel pitch, 2 mm, does not suit .* background_mm=3.0; correct"),
        (
            500.0,
            {"resample_pitch_mm": 0.01},
            r"^pixels: its pixel pitch, 500 mm, does not suit .* resample_pitch_mm=0.01,",
        ),
    ],
)
def test_a_film_that_cannot_be_brought_to_the_scale_of_the_model_is_refused(
    pitch_mm, standardisation, message, detector, tiled
):
    tiled.prepare.pixel_pitch_mm = pitch_mm
    with pytest.raises(DataError, match=message):
        predictor_of(detector, **standardisation).predict(film_with(64, 64), tiled)


@pytest.mark.parametrize(
    "pixels", [np.zeros((9, 9)), np.zeros((9, 9), dtype=np.int16), np.zeros(9, dtype=np.uint8), np.zeros((0, 9), "u1")]
)
def test_pixels_that_are_no_grey_levels_are_refused(pixels, detector, tiled):
    with pytest.raises(DataError, match=r"pixels: .*; give uint8 or uint16"):
        predictor_of(detector).predict(pixels, tiled)


@pytest.mark.parametrize(
    "prepare",
    [
        {},
        {"invert_polarity": True, "bit_depth": 16},
        {"resample_pitch_mm": 0.15, "background_mm": 2.0, "pixel_pitch_mm": 0.1},
        {"resample_pitch_mm": 0.08, "pixel_pitch_mm": 0.1},
    ],
)
def test_a_film_by_itself_and_as_prepared_gives_the_same_to_the_bit(tmp_path, params, prepare):
    params.model.architecture = "fasterrcnn_mobilenet_v3_large_320_fpn"
    params.prepare = replace(
        params.prepare, img_size=TILE_PX, overlap_px=16, val_share=0.0, test_share=0.0, on_finding="keep", **prepare
    )
    write_dataset(tmp_path / "data")
    store = prepare_dataset(params, tmp_path / "data", tmp_path / "prepared")
    manifest, evaluate = store.manifest, params.evaluate
    spec = InputSpec(TILE_PX, manifest.grey_mean, manifest.grey_std, manifest.resample_pitch_mm, manifest.background_mm)
    torch.manual_seed(0)
    detector = build_detector(params.model, manifest.defect_classes, spec).eval()
    predictor = Predictor(detector, manifest.defect_classes, spec, torch.device("cpu"))
    params.prepare = replace(params.prepare, resample_pitch_mm=9.0, background_mm=None)  # the model knows better
    for index, film in enumerate(manifest.films):
        prepared = predictor.predict_store_film(store, index, evaluate.batch_size, evaluate.merge_iou)
        prepared = film_result(film, manifest.defect_classes, prepared).detections
        alone = predictor.predict(tmp_path / "data" / film.name, params)
        assert len(alone) > 0
        for one, other in zip(vars(alone).values(), vars(prepared).values(), strict=True):
            np.testing.assert_array_equal(one, other)


def write_dataset(folder):
    """Two 16-bit films of different sizes, one smaller than a tile, in COCO."""
    rng = np.random.default_rng(0)
    sizes = {"a.png": (100, 170), "b.png": (50, 90)}
    (folder / "images").mkdir(parents=True)
    for name, size in sizes.items():
        cv2.imwrite(str(folder / "images" / name), rng.integers(0, 65536, size, dtype=np.uint16))
    images = [
        {"id": i, "file_name": f"images/{name}", "height": height, "width": width}
        for i, (name, (height, width)) in enumerate(sizes.items(), start=1)
    ]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 20, 30, 12]}]
    categories = [{"id": 1, "name": "pore"}, {"id": 2, "name": "crack"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


@pytest.fixture
def checkpoint(tmp_path, params):
    params.model.architecture = "fasterrcnn_mobilenet_v3_large_320_fpn"
    torch.manual_seed(0)
    spec = InputSpec(TILE_PX, 0.5, 0.2)
    detector = build_detector(params.model, ("crack", "pore"), spec)
    save_checkpoint(tmp_path / "best.ckpt", detector, params.model, ("crack", "pore"), spec, {})
    return tmp_path / "best.ckpt"


def test_batches_at_once_come_in_order_and_leave_the_threads_as_they_were(tmp_path, detector):
    flaws = [(x0, 20, x0 + 10, 30) for x0 in range(8, 800, 150)]  # no tile shows two
    store = write_store(tmp_path / "store", film_with(64, 800, *flaws))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = predict(store, 0, detector, batch_size=2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(detector.batch_sizes) == 9
    assert sorted(found.boxes_xyxy[:, 0]) == [x0 for x0, *_ in flaws]


def test_an_error_in_a_batch_reaches_the_caller(tmp_path, detector):
    store = write_store(tmp_path / "store", film_with(64, 800))
    detector.look_at = lambda image: 1 / 0
    with pytest.raises(ZeroDivisionError):
        predict(store, 0, detector, batch_size=2)


@pytest.mark.parametrize("threads", [1, 2])
def test_detections_do_not_depend_on_the_batch_size_or_the_threads(tmp_path, checkpoint, threads):
    rng = np.random.default_rng(0)
    store = write_store(tmp_path / "store", rng.integers(0, 4096, (100, 300), dtype=np.uint16))
    before = torch.get_num_threads()
    expected = Predictor.from_checkpoint(checkpoint).predict_store_film(store, film=0, batch_size=1, merge_iou=0.5)
    assert len(expected) > 10
    torch.set_num_threads(threads)
    try:
        predictor = Predictor.from_checkpoint(checkpoint)
        for batch_size in (1, 3, 100):
            found = predictor.predict_store_film(store, film=0, batch_size=batch_size, merge_iou=0.5)
            assert found.labels.tolist() == expected.labels.tolist()
            np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    finally:
        torch.set_num_threads(before)


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

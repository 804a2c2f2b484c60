"""One scene in three files: the grey levels differ in depth, the picture does not."""

import json

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from defects_in_welds.data.grey_levels import to_unit_float32
from defects_in_welds.data.image_reading import read_radiograph
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.params import load_params

SCENE = np.random.default_rng(3).random((40, 60))  # transmitted share


def levels(bit_depth: int) -> np.ndarray:
    return np.rint(SCENE * (2**bit_depth - 1)).astype(np.uint8 if bit_depth <= 8 else np.uint16)


def write_png(path):
    cv2.imwrite(str(path), levels(8))


def write_tiff(path):
    tifffile.imwrite(path, levels(16), resolution=(200.0, 200.0), resolutionunit="CENTIMETER")


def write_diconde(path):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientName = "weld 17"  # DICONDE: component name
    dataset.Rows, dataset.Columns = SCENE.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.DetectorElementSpacing = [0.05, 0.05]
    dataset.PixelData = (4095 - levels(12)).tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("name", "write", "bit_depth", "pixel_pitch_mm"),
    [
        ("film.png", write_png, 8, None),
        ("film.tiff", write_tiff, 16, 0.05),
        ("film.dcm", write_diconde, 12, 0.05),
    ],
)
def test_one_scene_in_three_files(tmp_path, name, write, bit_depth, pixel_pitch_mm):
    write(tmp_path / name)
    radiograph = read_radiograph(tmp_path / name)
    np.testing.assert_array_equal(radiograph.pixels, levels(bit_depth))
    assert radiograph.pixels.dtype == levels(bit_depth).dtype
    assert radiograph.bit_depth == bit_depth
    assert radiograph.pixel_pitch_mm == pytest.approx(pixel_pitch_mm)
    unit = to_unit_float32(radiograph.pixels, radiograph.bit_depth)
    np.testing.assert_allclose(unit, SCENE, atol=0.5001 / (2**bit_depth - 1))


def test_only_16_bit_files_that_do_not_say_their_depth_may_hide_one(tmp_path):
    for name, write in {"film.png": write_png, "film.dcm": write_diconde}.items():
        write(tmp_path / name)
        assert read_radiograph(tmp_path / name).highest_stored_level is None
    # White is zero: the level is that of the file, not that of the picture.
    tifffile.imwrite(tmp_path / "film.tiff", levels(12), photometric="miniswhite")
    assert read_radiograph(tmp_path / "film.tiff").highest_stored_level == levels(12).max()
    assert read_radiograph(tmp_path / "film.tiff", bit_depth=12).highest_stored_level is None


@pytest.mark.parametrize(("suffix", "write"), [(".png", write_png), (".tiff", write_tiff), (".dcm", write_diconde)])
def test_one_annotation_gives_the_same_boxes_for_each_file(tmp_path, suffix, write):
    """The boxes of a film do not depend on the kind of file that its grey levels came in."""
    data = tmp_path / "data"
    data.mkdir()
    height, width = SCENE.shape
    boxes = [[3, 5, 10, 8], [30.5, 12.25, 20, 20]]
    images, annotations = [], []
    for film in range(4):
        write(data / f"film_{film}{suffix}")
        images.append({"id": film, "file_name": f"film_{film}{suffix}", "height": height, "width": width})
        annotations += [{"id": 2 * film + i, "image_id": film, "category_id": 1, "bbox": boxes[i]} for i in range(2)]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "pore"}]}
    (data / "annotations.json").write_text(json.dumps(truth))
    # The four films are copies of one scene: all are kept.
    params = load_params(["prepare.img_size=32", "prepare.overlap_px=8", "prepare.on_finding=keep"])
    store = prepare_dataset(params, data, tmp_path / "prepared")
    film_boxes = [[(3, 5, 13, 13), (30.5, 12.25, 50.5, 32.25)]] * 4
    assert [[one.box_xyxy for one in film.annotations] for film in store.manifest.films] == film_boxes
    for index, tile in enumerate(store.manifest.tiles):
        x0, y0, x1, y1 = tile.xyxy
        expected = levels(store.film_of(index).bit_depth)[y0:y1, x0:x1]
        np.testing.assert_array_equal(store.pixels(index)[: y1 - y0, : x1 - x0], expected)
    of_first_film = [(tile.xyxy, tile.boxes_xyxy.tolist()) for tile in store.manifest.tiles if tile.film == 0]
    assert of_first_film == [
        ((0, 0, 32, 32), [[3, 5, 13, 13]]),
        ((14, 0, 46, 32), [[16.5, 12.25, 32, 32]]),
        ((28, 0, 60, 32), [[2.5, 12.25, 22.5, 32]]),
        ((0, 8, 32, 40), [[3, 0, 13, 5]]),
        ((14, 8, 46, 40), [[16.5, 4.25, 32, 24.25]]),
        ((28, 8, 60, 40), [[2.5, 4.25, 22.5, 24.25]]),
    ]

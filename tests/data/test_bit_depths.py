"""One scene in three files: the grey levels differ in depth, the picture does not."""

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from defects_in_welds.data.grey_levels import to_unit_float32
from defects_in_welds.data.image_reading import read_radiograph

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

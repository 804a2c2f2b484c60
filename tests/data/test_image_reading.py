import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from defects_in_welds.data import image_reading
from defects_in_welds.data.annotation import DataError
from defects_in_welds.data.image_reading import read_image_hw, read_radiograph

GREY_16 = np.arange(6 * 8, dtype=np.uint16).reshape(6, 8) * 1365  # 0 to 64155
GREY_8 = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) * 5
NOISE = np.random.default_rng(5).integers(0, 256, (64, 80)).astype(np.uint8)


def write_dicom(path: Path, pixels: np.ndarray, bits_stored: int = 12, **elements: object) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"  # computed radiography, which DICONDE shares
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = 0
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_png(path: Path, width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> Path:
    """Write chunk by chunk what OpenCV cannot write: palettes, single bits, false sizes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = b"".join(chunk(data[:4], data[4:]) for data in extra) + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("suffix", "pixels"),
    [(".png", GREY_8), (".png", GREY_16), (".tiff", GREY_8), (".tiff", GREY_16), (".bmp", GREY_8)],
)
def test_grey_files_are_read_without_loss(tmp_path, suffix, pixels):
    path = tmp_path / f"film{suffix}"
    if suffix == ".tiff":
        tifffile.imwrite(path, pixels)
    else:
        cv2.imwrite(str(path), pixels)
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, pixels)
    assert radiograph.pixels.dtype == pixels.dtype
    assert radiograph.bit_depth == 8 * pixels.dtype.itemsize
    assert radiograph.pixel_pitch_mm is None
    assert read_image_hw(path) == (6, 8)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzw"},
        {"compression": "deflate", "predictor": True},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"byteorder": ">"},
        {"bigtiff": True},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_tiff_variants_are_read_without_loss(tmp_path, options):
    tifffile.imwrite(tmp_path / "film.tif", GREY_16, **options)
    np.testing.assert_array_equal(read_radiograph(tmp_path / "film.tif").pixels, GREY_16)


def test_jpeg_is_read_as_opencv_decodes_it(tmp_path):
    path = tmp_path / "film.jpg"
    cv2.imwrite(str(path), GREY_8)
    np.testing.assert_array_equal(read_radiograph(path).pixels, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    assert read_image_hw(path) == (6, 8)


def test_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "film.png"
    path.write_bytes(cv2.imencode(".bmp", GREY_8)[1].tobytes())
    np.testing.assert_array_equal(read_radiograph(path).pixels, GREY_8)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_equal_channels_become_one_without_loss(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    cv2.imwrite(str(path), np.repeat(GREY_16[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_radiograph(path).pixels, GREY_16)


@pytest.mark.parametrize("planar", ["contig", "separate", "opencv"])
def test_colour_becomes_luma_in_the_source_depth(tmp_path, planar):
    rgb = np.zeros((2, 3, 3), dtype=np.uint16)
    rgb[...] = (60000, 30000, 1000)
    path = tmp_path / "film.tiff"
    if planar == "opencv":
        path = tmp_path / "film.png"
        cv2.imwrite(str(path), rgb[..., ::-1])
    else:
        stored = np.moveaxis(rgb, 2, 0) if planar == "separate" else rgb
        tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar)
    luma = 0.299 * 60000 + 0.587 * 30000 + 0.114 * 1000
    np.testing.assert_allclose(read_radiograph(path).pixels, luma, atol=2)


def test_alpha_is_dropped(tmp_path):
    grey_and_alpha = np.stack([GREY_8, GREY_8, GREY_8, np.full_like(GREY_8, 3)], axis=2)
    cv2.imwrite(str(tmp_path / "film.png"), grey_and_alpha)
    np.testing.assert_array_equal(read_radiograph(tmp_path / "film.png").pixels, GREY_8)
    tifffile.imwrite(tmp_path / "film.tif", grey_and_alpha[..., 2:], photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "film.tif").pixels, GREY_8)


def test_single_bits_and_palettes_become_8_bits(tmp_path):
    bits = write_png(tmp_path / "bits.png", 8, 1, 1, 0, b"\0\xa5")
    np.testing.assert_array_equal(read_radiograph(bits).pixels, [[255, 0, 255, 0, 0, 255, 0, 255]])
    palette = write_png(tmp_path / "palette.png", 2, 1, 8, 3, b"\0\1\0", b"PLTE\x0a\x0a\x0a\x14\x14\x14")
    np.testing.assert_array_equal(read_radiograph(palette).pixels, [[20, 10]])


def test_exif_orientation_is_not_applied(tmp_path):
    path = tmp_path / "film.jpg"
    plain = cv2.imencode(".jpg", GREY_8)[1].tobytes()
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # orientation 6: a quarter turn
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(turned) + 2) + turned + plain[2:])
    assert read_radiograph(path).image_hw == read_image_hw(path) == (6, 8)


def test_zero_is_white_tiff_is_inverted(tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", GREY_16, photometric="miniswhite")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "film.tif").pixels, 65535 - GREY_16)


@pytest.mark.parametrize(
    ("resolution", "unit", "pitch_mm"),
    [
        ((254.0, 254.0), "CENTIMETER", 10 / 254),
        ((635.0, 635.0), "INCH", 0.04),
        ((72.0, 72.0), "INCH", None),  # software's way to say that it does not know
        ((96.0, 96.0), "INCH", None),
        ((254.0, 254.0), "NONE", None),
        ((254.0, 127.0), "CENTIMETER", None),  # no square pixels
    ],
)
def test_tiff_resolution_becomes_pitch_where_plausible(tmp_path, resolution, unit, pitch_mm):
    tifffile.imwrite(tmp_path / "film.tif", GREY_8, resolution=resolution, resolutionunit=unit)
    assert read_radiograph(tmp_path / "film.tif").pixel_pitch_mm == pytest.approx(pitch_mm)


def test_the_given_pitch_goes_first(tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", GREY_8, resolution=(254.0, 254.0), resolutionunit="CENTIMETER")
    assert read_radiograph(tmp_path / "film.tif", pixel_pitch_mm=0.1).pixel_pitch_mm == 0.1


def test_monochrome1_is_inverted_within_the_stored_bits(tmp_path):
    levels = GREY_16 >> 4
    path = write_dicom(tmp_path / "film.dcm", levels, PhotometricInterpretation="MONOCHROME1")
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, 4095 - levels)
    assert radiograph.bit_depth == 12


def test_dicom_rescaling_is_not_applied(tmp_path):
    path = write_dicom(tmp_path / "film.dcm", GREY_16 >> 4, RescaleSlope="2", RescaleIntercept="-7")
    np.testing.assert_array_equal(read_radiograph(path).pixels, GREY_16 >> 4)


@pytest.mark.parametrize(
    "keyword", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "DetectorElementSpacing"]
)
def test_dicom_spacing_becomes_pitch(tmp_path, keyword):
    path = write_dicom(tmp_path / "film.dcm", GREY_16 >> 4, **{keyword: [0.05, 0.05]})
    assert read_radiograph(path).pixel_pitch_mm == 0.05


def test_dicom_colour_and_8_bits_are_read(tmp_path):
    rgb = np.repeat(GREY_8[..., None], 3, axis=2)
    path = write_dicom(
        tmp_path / "film.dcm", rgb, 8, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB"
    )
    radiograph = read_radiograph(path)
    np.testing.assert_array_equal(radiograph.pixels, GREY_8)
    assert radiograph.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelRepresentation": 1}, "PixelRepresentation 1"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"HighBit": 15}, "HighBit 15"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
    ],
)
def test_dicom_that_cannot_be_read_is_an_error(tmp_path, elements, reason):
    pixels = np.stack([GREY_16 >> 4] * 2) if "NumberOfFrames" in elements else GREY_16 >> 4
    path = write_dicom(tmp_path / "film.dcm", pixels, **elements)
    with pytest.raises(DataError, match=reason):
        read_radiograph(path)


def test_levels_above_the_stored_bits_are_an_error(tmp_path):
    with pytest.raises(DataError, match="grey level 64155 is above 4095, the full scale of 12 bits"):
        read_radiograph(write_dicom(tmp_path / "film.dcm", GREY_16))


@pytest.mark.parametrize(
    "pixels", [GREY_8.astype(np.float32), GREY_8.astype(np.int16), GREY_8.astype(np.uint32)], ids=lambda p: p.dtype.name
)
def test_levels_that_are_no_unsigned_16_bits_are_an_error(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "film.tif", pixels)
    with pytest.raises(DataError, match=r"film\.tif: .*levels; save it with unsigned whole numbers"):
        read_radiograph(tmp_path / "film.tif")


def test_tiff_of_several_pages_is_an_error(tmp_path):
    with tifffile.TiffWriter(tmp_path / "film.tif") as tiff:
        tiff.write(GREY_8)
        tiff.write(GREY_8)
    with pytest.raises(DataError, match="holds 2 images"):
        read_image_hw(tmp_path / "film.tif")


def test_thumbnail_of_a_tiff_is_no_second_image(tmp_path):
    with tifffile.TiffWriter(tmp_path / "film.tif") as tiff:
        tiff.write(GREY_8)
        tiff.write(GREY_8[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_radiograph(tmp_path / "film.tif").pixels, GREY_8)


def encode(kind: str) -> bytes:
    if kind.startswith("tiff"):
        file = io.BytesIO()
        tifffile.imwrite(file, NOISE, compression=kind.partition(" ")[2] or None)
        return file.getvalue()
    if kind == "dicom":
        return b""
    return cv2.imencode(f".{kind}", NOISE)[1].tobytes()


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tiff", "tiff lzw", "tiff deflate", "tiff jpeg", "dicom"])
def test_truncated_files_are_errors_and_print_nothing(tmp_path, capfd, kind, share):
    path = tmp_path / "film"
    if kind == "dicom":
        write_dicom(path, NOISE.astype(np.uint16))
    else:
        path.write_bytes(encode(kind))
    assert read_radiograph(path).image_hw == (64, 80)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=f"^{path}: "):
        read_radiograph(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_damage_in_the_middle_is_an_error_and_prints_nothing(tmp_path, capfd, kind):
    data = bytearray(encode(kind))
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff\xd9" * 20  # for JPEG: the end of the image, half-way
    path = tmp_path / "film"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"^{path}: damaged, cut short or not supported"):
        read_radiograph(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a and more", b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"\0" * 128 + b"DICM"]
)
def test_files_that_are_no_images_are_errors(tmp_path, content):
    path = tmp_path / "film.png"
    path.write_bytes(content)
    for read in (read_image_hw, read_radiograph):
        with pytest.raises(DataError, match=f"^{path}: "):
            read(path)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_radiograph(tmp_path / "film.png")


def test_decompression_bomb_is_refused_from_its_header(tmp_path, monkeypatch):
    path = write_png(tmp_path / "film.png", 60_000, 60_000, 8, 0, b"\0")
    monkeypatch.setattr(image_reading, "_DECODERS", {})  # nothing may be decoded
    with pytest.raises(DataError, match="claims 60000x60000 pixels"):
        read_radiograph(path)


def test_bit_depth_hidden_by_the_file_is_taken_from_the_parameters(tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", GREY_16 >> 4, photometric="miniswhite")
    radiograph = read_radiograph(tmp_path / "film.tif", bit_depth=12)
    np.testing.assert_array_equal(radiograph.pixels, 4095 - (GREY_16 >> 4))
    assert radiograph.bit_depth == 12


def test_8_true_bits_in_16_become_uint8(tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", GREY_8.astype(np.uint16))
    radiograph = read_radiograph(tmp_path / "film.tif", bit_depth=8)
    np.testing.assert_array_equal(radiograph.pixels, GREY_8)
    assert radiograph.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("pixels", "bit_depth", "reason"),
    [(GREY_16, 12, "grey level 64155 is above 4095"), (GREY_8, 12, "holds 8 bits, prepare.bit_depth says 12")],
)
def test_wrong_bit_depth_is_an_error(tmp_path, pixels, bit_depth, reason):
    tifffile.imwrite(tmp_path / "film.tif", pixels)
    with pytest.raises(DataError, match=reason):
        read_radiograph(tmp_path / "film.tif", bit_depth=bit_depth)

"""Read image files without loss: PNG, TIFF, JPEG, BMP and DICOM/DICONDE, told apart by their content.

The grey levels are those that the file stores. DICOM rescaling, value-of-interest windows and gamma are not applied.
Colour becomes grey: one channel where all three are equal, else the usual luma in the source's depth. An alpha channel
is dropped. Levels of files whose zero is white (MONOCHROME1, MINISWHITE) are inverted, so that higher is lighter.
EXIF and TIFF orientations are not applied: annotations refer to the pixels as stored.
"""

import io
import logging
import math
import os
import re
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import pydicom
import tifffile
from jaxtyping import Shaped
from pydicom.encaps import get_frame
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from defects_in_welds.data.annotation import DataError
from defects_in_welds.radiograph import Radiograph

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".dcm", ".dic", ".dicom", ".dcn"})

MAX_PIXELS = 400_000_000
"""Largest image that is decoded: a 35 cm by 43 cm film at 20 um per pixel has fewer pixels."""

PLAUSIBLE_TIFF_PITCH_MM = (0.001, 0.25)
"""A TIFF's resolution is believed within these bounds: the 72 and 96 dpi that software writes when it does not know
(0.353 and 0.265 mm) lie above, and so would a detector too coarse for welds."""

_PNG = b"\x89PNG\r\n\x1a\n"

# Both report on damaged files through logging, which prints them; what matters comes as an exception as well.
for _name in ("tifffile", "pydicom"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class _Stored:
    """An image as its file stores it: one channel, or red, green, blue and perhaps more."""

    pixels: Shaped[np.ndarray, "height width *channels"]
    bit_depth: int
    zero_is_white: bool = False
    pixel_pitch_mm: float | None = None


def read_radiograph(path: Path, *, bit_depth: int | None = None, pixel_pitch_mm: float | None = None) -> Radiograph:
    """Read an image file as one grey channel.

    Args:
        path: The file.
        bit_depth: True bit depth where the file hides it (12-bit levels in a 16-bit file); None: what the file says.
        pixel_pitch_mm: Pixel pitch in mm that goes before the file's own; None: what the file says.

    Raises:
        DataError: If the file is missing, damaged or cut short; holds several images or levels that are not unsigned
            whole numbers of at most 16 bits; is too large; or has levels above the full scale of the bit depth.
    """
    image_hw = read_image_hw(path)
    with _as_data_error(path):
        container = _container(path)
        stored = _DECODERS[container](path)
        if stored.pixels.shape[:2] != image_hw:
            raise ValueError(f"decoded to {stored.pixels.shape}")
    # PNG and TIFF give the size of a sample; DICOM, how many of its bits are used.
    return _to_radiograph(stored, str(path), bit_depth, pixel_pitch_mm, says_depth=container == "dicom")


def radiograph_of(
    pixels: Shaped[np.ndarray, "height width *channels"],
    *,
    bit_depth: int | None = None,
    pixel_pitch_mm: float | None = None,
) -> Radiograph:
    """Take pixels that were read otherwise, as `read_radiograph` takes those of a file.

    Args:
        pixels: Unsigned whole numbers of 8 or 16 bits, higher is lighter: one channel, or red, green and blue.
        bit_depth: As there.
        pixel_pitch_mm: Pixel pitch in mm, if it is known.

    Raises:
        DataError: If they are no such pixels, or have levels above the full scale of the bit depth.
    """
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2 or pixels.ndim not in (2, 3) or pixels.size == 0:
        raise DataError(
            f"pixels: {pixels.dtype} {pixels.shape}; give uint8 or uint16 of the shape (height, width), or with "
            "channels last"
        )
    stored = _Stored(pixels, bit_depth=8 * pixels.dtype.itemsize)
    return _to_radiograph(stored, "pixels", bit_depth, pixel_pitch_mm, says_depth=False)


def _to_radiograph(
    stored: _Stored, source: str, bit_depth: int | None, pixel_pitch_mm: float | None, *, says_depth: bool
) -> Radiograph:
    """Check the levels against the bit depth, and make them one grey channel in which higher is lighter."""
    if bit_depth is not None and bit_depth > stored.bit_depth:
        raise DataError(f"{source}: holds {stored.bit_depth} bits, prepare.bit_depth says {bit_depth}; correct it")
    depth = stored.bit_depth if bit_depth is None else bit_depth
    full_scale = 2**depth - 1
    grey = _to_grey(stored.pixels)
    highest = int(grey.max())
    if highest > full_scale:
        raise DataError(
            f"{source}: grey level {highest} is above {full_scale}, the full scale of {depth} bits; correct "
            "prepare.bit_depth or the file"
        )
    is_said = bit_depth is not None or depth < 16 or says_depth
    grey = grey.astype(np.uint8 if depth <= 8 else np.uint16, copy=False)
    return Radiograph(
        pixels=np.ascontiguousarray(full_scale - grey if stored.zero_is_white else grey, dtype=grey.dtype),
        bit_depth=depth,
        pixel_pitch_mm=stored.pixel_pitch_mm if pixel_pitch_mm is None else pixel_pitch_mm,
        source=source,
        highest_stored_level=None if is_said else highest,
    )


def read_image_hw(path: Path) -> tuple[int, int]:
    """Read height and width, in pixels, from the header of an image file.

    Raises:
        DataError: If the file is missing, is no image of a known kind, or claims no pixels or more than `MAX_PIXELS`.
    """
    with _as_data_error(path):
        height, width = map(int, _HEADERS[_container(path)](path))
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(f"{path}: claims {width}x{height} pixels; 1 to {MAX_PIXELS} pixels can be read")
    return height, width


@contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    """Turn whatever a decoder makes of a damaged file into a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # decoders raise anything from struct.error to ZeroDivisionError on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged, cut short or not supported ({reason[:200]})") from None


def _container(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(132)
    if not head:
        raise DataError(f"{path}: is empty")
    if head.startswith(_PNG):
        return "png"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"BM"):
        return "bmp"
    if head[128:] == b"DICM":
        return "dicom"
    raise DataError(f"{path}: is no PNG, TIFF, JPEG, BMP or DICOM file")


def _to_grey(pixels: Shaped[np.ndarray, "height width *channels"]) -> Shaped[np.ndarray, "height width"]:
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] < 3:  # grey and alpha
        return pixels[..., 0]
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    return cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_RGB2GRAY)


def _square_pitch_mm(row_mm: float, column_mm: float) -> float | None:
    """Give the pitch of square pixels; None where they are not square, or not of any size."""
    if not (math.isfinite(row_mm) and math.isfinite(column_mm) and row_mm > 0 and column_mm > 0):
        return None
    return row_mm if math.isclose(row_mm, column_mm, rel_tol=0.01) else None


# --- PNG, JPEG, BMP: OpenCV ---------------------------------------------------------------------------------------


def _png_hw(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        width, height = struct.unpack(">II", file.read(24)[16:])
    return height, width


def _check_png_chunks(data: bytes) -> None:
    """Refuse chunks that end beyond the file, for OpenCV makes room for 2 GB first, and several images in one."""
    kind, start = b"", 8
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, start)
        start += 12 + size
        if start > len(data):
            raise ValueError("a chunk ends beyond the file")
        if kind == b"acTL":
            raise ValueError("is animated; save one image")


def _bmp_hw(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        head = file.read(26)
    (header_size,) = struct.unpack("<I", head[14:18])
    width, height = struct.unpack("<HH", head[18:22]) if header_size == 12 else struct.unpack("<ii", head[18:26])
    return abs(height), width  # a negative height: rows from the top


def _jpeg_hw(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        return _jpeg_frame_hw(file)


def _jpeg_frame_hw(file: BinaryIO) -> tuple[int, int]:
    """Walk over the segments of JPEG data to the frame header, and end where the decoder would not go the same way."""
    frames = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # tables share the range; 0xF7 is JPEG-LS
    file.seek(2)
    while True:
        marker, code = file.read(2)
        while code == 0xFF:  # filling
            (code,) = file.read(1)
        (size,) = struct.unpack(">H", file.read(2))
        has_no_size = code <= 0x01 or 0xD0 <= code <= 0xD9
        if marker != 0xFF or has_no_size or size < 2:
            raise ValueError("damaged JPEG header")
        if code in frames:
            _, height, width, channels = struct.unpack(">BHHB", file.read(6))
            if channels > 3:
                raise ValueError("CMYK; save it as grey or RGB")
            return height, width
        file.seek(size - 2, os.SEEK_CUR)


_DAMAGE = re.compile(rb"^(libpng error|Premature end of JPEG|Corrupt JPEG data(?!.*extraneous)).*", re.MULTILINE)


def _decode_opencv(path: Path) -> _Stored:
    data = path.read_bytes()
    if data.startswith(_PNG):
        _check_png_chunks(data)
    with _spoken_on_stderr() as spoken:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    damage = _DAMAGE.search(spoken)
    if pixels is None or damage:
        reason = f" ({damage.group().decode(errors='replace').strip()})" if damage else ""
        raise DataError(f"{path}: damaged, cut short or not supported{reason}")
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., 2::-1]  # OpenCV has blue first
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: {pixels.dtype} levels; save it with 8 or 16 bits")
    return _Stored(pixels, bit_depth=8 * pixels.dtype.itemsize)


@contextmanager
def _spoken_on_stderr() -> Iterator[bytearray]:
    """Collect what C libraries print: libjpeg tells of damage there alone, and hands out half-grey pixels."""
    spoken = bytearray()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield spoken
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            spoken += file.read()


# --- TIFF ---------------------------------------------------------------------------------------------------------

_TIFF_COLOURS = {
    tifffile.PHOTOMETRIC.MINISWHITE,
    tifffile.PHOTOMETRIC.MINISBLACK,
    tifffile.PHOTOMETRIC.RGB,
    tifffile.PHOTOMETRIC.YCBCR,
}


# Their data do not say a size of their own, which could be any, and never grow beyond that of the image.
_TIFF_CODECS = {
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.LZMA,
    tifffile.COMPRESSION.ZSTD,
}

_MAX_SAMPLES = 4  # red, green, blue and alpha
_MAX_PAGES = 100  # a film and its thumbnails are a few
_MCU_PX = 16  # JPEG data may be filled up to whole blocks


def _only_page(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPage:
    pages = (page for page in islice(file.pages, _MAX_PAGES) if isinstance(page, tifffile.TiffPage))
    full = list(islice((page for page in pages if not page.is_reduced), 2))
    if len(full) != 1:
        number = "2 images or more" if full else "no image of full size"
        raise DataError(f"{path}: holds {number}; save each image as a file of its own")
    return full[0]


def _tiff_hw(path: Path) -> tuple[int, int]:
    with tifffile.TiffFile(path) as file:
        page = _only_page(file, path)
        # A tile is decoded whole, however little of it the image shows; samples multiply the size.
        if page.samplesperpixel > _MAX_SAMPLES or page.tilelength * page.tilewidth > MAX_PIXELS:
            raise DataError(
                f"{path}: claims {page.samplesperpixel} samples a pixel in tiles of {page.tilewidth}x{page.tilelength} "
                f"pixels; at most {_MAX_SAMPLES} samples in tiles of {MAX_PIXELS} pixels can be read"
            )
        return page.imagelength, page.imagewidth


def _decode_tiff(path: Path) -> _Stored:
    with tifffile.TiffFile(path) as file:
        page = _only_page(file, path)
        if page.sampleformat != tifffile.SAMPLEFORMAT.UINT or page.bitspersample > 16:
            kind = f"{page.bitspersample}-bit {tifffile.SAMPLEFORMAT(page.sampleformat).name}"
            raise DataError(f"{path}: {kind} levels; save it with unsigned whole numbers of at most 16 bits")
        if page.photometric not in _TIFF_COLOURS or page.axes not in ("YX", "YXS", "SYX"):
            raise DataError(
                f"{path}: {tifffile.PHOTOMETRIC(page.photometric).name} TIFF, axes {page.axes}; save it as grey or RGB"
            )
        if page.compression == tifffile.COMPRESSION.JPEG:
            _check_jpeg_segments(file, page)
        elif page.compression not in _TIFF_CODECS:
            kind = tifffile.COMPRESSION(page.compression).name
            raise DataError(f"{path}: {kind} compression; save it with LZW, Deflate or none")
        # JPEG strips that are cut short decode to grey without a complaint.
        ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > path.stat().st_size:
            raise DataError(f"{path}: cut short")
        pixels = page.asarray()
        if pixels.dtype == np.bool_:  # of single bits
            pixels = pixels.astype(np.uint8)
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"decoded to {pixels.dtype}")
        return _Stored(
            pixels=np.moveaxis(pixels, 0, 2) if page.axes == "SYX" else pixels,
            bit_depth=page.bitspersample,
            zero_is_white=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
            pixel_pitch_mm=_tiff_pitch_mm(page),
        )


def _check_jpeg_segments(file: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Refuse strips and tiles whose JPEG data are of another image, perhaps a giant one."""
    rows, columns = page.tilelength, page.tilewidth
    if not page.is_tiled:
        rows, columns = min(page.rowsperstrip, page.imagelength), page.imagewidth
    for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.filehandle.seek(start)
        height, width = _jpeg_frame_hw(io.BytesIO(file.filehandle.read(size)))
        if height >= rows + _MCU_PX or width >= columns + _MCU_PX:
            raise ValueError(f"its JPEG data are of {width}x{height} pixels, not of at most {columns}x{rows}")


def _tiff_pitch_mm(page: tifffile.TiffPage) -> float | None:
    """Turn the resolution tags into a pitch, where they have a unit and are plausible."""
    unit_mm = {2: 25.4, 3: 10.0}.get(int(page.resolutionunit))
    columns_per_unit, rows_per_unit = page.resolution
    if unit_mm is None or rows_per_unit <= 0 or columns_per_unit <= 0:
        return None
    pitch_mm = _square_pitch_mm(unit_mm / rows_per_unit, unit_mm / columns_per_unit)
    low, high = PLAUSIBLE_TIFF_PITCH_MM
    return pitch_mm if pitch_mm is not None and low <= pitch_mm <= high else None


# --- DICOM, DICONDE -----------------------------------------------------------------------------------------------

# From the object's plane to the detector's; the third is that of digitised film.
_DICOM_PITCHES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "DetectorElementSpacing")


def _dicom_hw(path: Path) -> tuple[int, int]:
    # pydicom would inflate it at once, to a thousand times the size of the file, before anything is known of it.
    if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise DataError(f"{path}: its data set is compressed as a whole (Deflated Explicit VR); save it without")
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    if "Rows" not in dataset or "Columns" not in dataset:
        raise DataError(f"{path}: holds no image")
    return int(dataset.Rows), int(dataset.Columns)


def _decode_dicom(path: Path) -> _Stored:
    dataset = pydicom.dcmread(path)
    if "PixelData" not in dataset:
        raise DataError(f"{path}: holds no pixels, or none that are whole numbers")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"{path}: holds {frames} frames; save each as a file of its own")
    bits = int(dataset.BitsStored)
    if dataset.PixelRepresentation != 0 or bits > 16 or int(dataset.HighBit) != bits - 1:
        raise DataError(
            f"{path}: BitsStored {bits}, HighBit {dataset.HighBit}, PixelRepresentation "
            f"{dataset.PixelRepresentation}; only unsigned levels of at most 16 bits, lowest bit first, can be read"
        )
    colours = str(dataset.PhotometricInterpretation)
    if not colours.startswith(("MONOCHROME", "RGB", "YBR_")):
        raise DataError(f"{path}: PhotometricInterpretation {colours}; save it as MONOCHROME2")
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_encapsulated_frame(dataset)
    return _Stored(
        # Not corrected, levels above BitsStored show that the header is wrong.
        pixels=pixel_array(dataset, correct_unused_bits=False),
        bit_depth=bits,
        zero_is_white=colours == "MONOCHROME1",
        pixel_pitch_mm=_dicom_pitch_mm(dataset),
    )


def _check_encapsulated_frame(dataset: pydicom.Dataset) -> None:
    """Refuse compressed pixels that say another size than the data set: the decoder would make room for it."""
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        return  # says none
    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1, extended_offsets=offsets)
    is_jpeg_2000 = frame.startswith(b"\xff\x4f\xff\x51")
    height, width = _jpeg_2000_hw(frame) if is_jpeg_2000 else _jpeg_frame_hw(io.BytesIO(frame))
    if (height, width) != (dataset.Rows, dataset.Columns):
        raise ValueError(f"its compressed pixels are {width}x{height}, not {dataset.Columns}x{dataset.Rows}")


def _jpeg_2000_hw(frame: bytes) -> tuple[int, int]:
    right, bottom, left, top = struct.unpack(">IIII", frame[8:24])
    return bottom - top, right - left


def _dicom_pitch_mm(dataset: pydicom.Dataset) -> float | None:
    for keyword in _DICOM_PITCHES:
        spacing = dataset.get(keyword)
        if spacing:
            return _square_pitch_mm(float(spacing[0]), float(spacing[-1]))
    return None


_HEADERS = {"png": _png_hw, "jpeg": _jpeg_hw, "bmp": _bmp_hw, "tiff": _tiff_hw, "dicom": _dicom_hw}
_DECODERS = {
    "png": _decode_opencv,
    "jpeg": _decode_opencv,
    "bmp": _decode_opencv,
    "tiff": _decode_tiff,
    "dicom": _decode_dicom,
}

"""Read image files without loss: PNG, TIFF, JPEG, BMP and DICOM/DICONDE, told apart by their content.

The grey levels are those that the file stores. DICOM rescaling, value-of-interest windows and gamma are not applied.
Colour becomes grey: one channel where all three are equal, else the usual luma in the source's depth. An alpha channel
is dropped. Levels of files whose zero is white (MONOCHROME1, MINISWHITE) are inverted, so that higher is lighter.
EXIF and TIFF orientations are not applied: annotations refer to the pixels as stored.
"""

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
from pathlib import Path

import cv2
import numpy as np
import pydicom
import tifffile
from jaxtyping import Shaped
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian

from defects_in_welds.data.annotation import DataError
from defects_in_welds.radiograph import Radiograph

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".dcm", ".dic", ".dicom", ".dcn"})

MAX_PIXELS = 400_000_000
"""Largest image that is decoded: a 35 cm by 43 cm film at 20 um per pixel has fewer pixels."""

PLAUSIBLE_TIFF_PITCH_MM = (0.001, 0.25)
"""A TIFF's resolution is believed within these bounds: the 72 and 96 dpi that software writes when it does not know
(0.353 and 0.265 mm) lie above, and so would a detector too coarse for welds."""

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
    read_image_hw(path)
    with _as_data_error(path):
        container = _container(path)
        stored = _DECODERS[container](path)
    if bit_depth is not None and bit_depth > stored.bit_depth:
        raise DataError(f"{path}: holds {stored.bit_depth} bits, prepare.bit_depth says {bit_depth}; correct it")
    depth = stored.bit_depth if bit_depth is None else bit_depth
    full_scale = 2**depth - 1
    grey = _to_grey(stored.pixels)
    highest = int(grey.max())
    if highest > full_scale:
        raise DataError(
            f"{path}: grey level {highest} is above {full_scale}, the full scale of {depth} bits; correct "
            "prepare.bit_depth or the file"
        )
    # PNG and TIFF give the size of a sample; DICOM, how many of its bits are used.
    is_said = bit_depth is not None or depth < 16 or container == "dicom"
    grey = grey.astype(np.uint8 if depth <= 8 else np.uint16, copy=False)
    return Radiograph(
        pixels=np.ascontiguousarray(full_scale - grey if stored.zero_is_white else grey, dtype=grey.dtype),
        bit_depth=depth,
        pixel_pitch_mm=stored.pixel_pitch_mm if pixel_pitch_mm is None else pixel_pitch_mm,
        source=str(path),
        highest_stored_level=None if is_said else highest,
    )


def read_image_hw(path: Path) -> tuple[int, int]:
    """Read height and width, in pixels, from the header of an image file.

    Raises:
        DataError: If the file is missing, is no image of a known kind, or claims no pixels or more than `MAX_PIXELS`.
    """
    with _as_data_error(path):
        height, width = _HEADERS[_container(path)](path)
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
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
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


def _bmp_hw(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        head = file.read(26)
    (header_size,) = struct.unpack("<I", head[14:18])
    width, height = struct.unpack("<HH", head[18:22]) if header_size == 12 else struct.unpack("<ii", head[18:26])
    return abs(height), width  # a negative height: rows from the top


def _jpeg_hw(path: Path) -> tuple[int, int]:
    """Walk over the segments to the frame header."""
    no_frame = {0xC4, 0xC8, 0xCC}  # tables that share the frame headers' range of markers
    with path.open("rb") as file:
        file.seek(2)
        while True:
            marker, code, size = struct.unpack(">BBH", file.read(4))
            if marker != 0xFF:
                raise DataError(f"{path}: damaged JPEG header")
            if 0xC0 <= code <= 0xCF and code not in no_frame:
                _, height, width = struct.unpack(">BHH", file.read(5))
                return height, width
            file.seek(size - 2, os.SEEK_CUR)


_DAMAGE = re.compile(rb"^(libpng error|Premature end of JPEG|Corrupt JPEG data(?!.*extraneous)).*", re.MULTILINE)


def _decode_opencv(path: Path) -> _Stored:
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    with _spoken_on_stderr() as spoken:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
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


_MAX_SAMPLES = 4  # red, green, blue and alpha


def _only_page(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPage:
    pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and not page.is_reduced]
    if len(pages) != 1:
        raise DataError(f"{path}: holds {len(pages)} images; save each as a file of its own")
    return pages[0]


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
        # JPEG strips that are cut short decode to grey without a complaint.
        ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends, default=0) > path.stat().st_size:
            raise DataError(f"{path}: cut short")
        pixels = page.asarray()
        return _Stored(
            pixels=np.moveaxis(pixels, 0, 2) if page.axes == "SYX" else pixels,
            bit_depth=page.bitspersample,
            zero_is_white=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
            pixel_pitch_mm=_tiff_pitch_mm(page),
        )


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
    return _Stored(
        # Not corrected, levels above BitsStored show that the header is wrong.
        pixels=pixel_array(dataset, correct_unused_bits=False),
        bit_depth=bits,
        zero_is_white=colours == "MONOCHROME1",
        pixel_pitch_mm=_dicom_pitch_mm(dataset),
    )


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

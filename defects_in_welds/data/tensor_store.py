"""The prepared tensors: all tiles of a data set, memory-mapped, and a manifest that says what they show.

A store is a folder with one array for each pixel type, ``tiles_uint8.npy`` and ``tiles_uint16.npy``, in the grey levels
of the source files or, where the parameters ask for it, those that `standardisation` makes of them, and
``manifest.json``. The same data and parameters give the same bytes.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8, UInt16
from numpy.lib import format as npy_format

from defects_in_welds.data.annotation import NOT_MEASURED, DataError, Measures, Split
from defects_in_welds.data.grey_levels import to_unit_float32
from defects_in_welds.output_folder import read_together, replaced_folder
from defects_in_welds.params.checks import is_count

FORMAT_VERSION = 3
MANIFEST_NAME = "manifest.json"
_DTYPES = ("uint8", "uint16")
_REMEDY = "run `dvc repro prepare` or `python -m defects_in_welds prepare`"


@dataclass(frozen=True, slots=True)
class FilmAnnotation:
    """One true flaw on a film, checked.

    Attributes:
        box_xyxy: Half-open box inside the film, in film pixels.
        defect_class: Name of the class.
        difficult: Counts neither as a miss nor as a false call.
        measures: Of its body, where the data set knows them.
    """

    box_xyxy: tuple[float, float, float, float]
    defect_class: str
    difficult: bool
    measures: Measures = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class FilmRecord:
    """A prepared film, at the pixel pitch that it was brought to or, otherwise, that of its file.

    Attributes:
        name: Path of its file below the data set's folder.
        sha256: Hash of that file.
        split: The part of the work that it serves.
        weld: Group that never lies in two splits.
        height: In pixels.
        width: In pixels.
        bit_depth: Full scale of the grey levels is ``2**bit_depth - 1``.
        pixel_pitch_mm: Distance of neighbouring pixels, in mm; None where unknown.
        annotations: True flaws; empty for a defect-free film.
        source_height: Of the file, in pixels of its own, as are the next two.
        source_width: Of the file.
        source_pixel_pitch_mm: Of the file, in mm; None where unknown.
    """

    name: str
    sha256: str
    split: Split
    weld: str
    height: int
    width: int
    bit_depth: int
    pixel_pitch_mm: float | None
    annotations: tuple[FilmAnnotation, ...]
    source_height: int
    source_width: int
    source_pixel_pitch_mm: float | None


@dataclass(frozen=True, eq=False, slots=True)
class TileRecord:
    """A tile of a film.

    Attributes:
        film: Index of the film in the manifest.
        xyxy: Half-open place of the tile in film pixels; smaller than the tile side where the film is.
        dtype: ``uint8`` or ``uint16``: the array that holds it.
        row: Row of that array.
        boxes_xyxy: What is visible of each flaw, in tile pixels.
        labels: Class ids from 1, as ``defect_classes.index(name) + 1``.
        difficult: Which flaws count neither as a miss nor as a false call.
    """

    film: int
    xyxy: tuple[int, int, int, int]
    dtype: str
    row: int
    boxes_xyxy: Float32[np.ndarray, "boxes 4"]
    labels: Int64[np.ndarray, " boxes"]
    difficult: Bool[np.ndarray, " boxes"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """What a store holds.

    Attributes:
        img_size: Tile side, in pixels.
        overlap_px: Least border that neighbouring tiles share, in pixels.
        min_visible_share: Share of a flaw that a tile must show for the flaw to count in it.
        augmentations: Whether training augments the tiles.
        defect_classes: Class names in order of their ids; the background is not among them.
        grey_mean: Mean grey level of the training tiles, black 0 and full scale 1.
        grey_std: Standard deviation of the same.
        films: Sorted by name.
        tiles: Film by film, each in reading order.
        resample_pitch_mm: Pixel pitch that every film was brought to, in mm; None: each kept its own.
        background_mm: Extent of the background that was subtracted from every film, in mm; None: none was.
    """

    img_size: int
    overlap_px: int
    min_visible_share: float
    augmentations: bool
    defect_classes: tuple[str, ...]
    grey_mean: float
    grey_std: float
    films: tuple[FilmRecord, ...]
    tiles: tuple[TileRecord, ...]
    resample_pitch_mm: float | None = None
    background_mm: float | None = None

    @cached_property
    def data_sha256(self) -> str:
        """Hash of what was prepared: the films' files, sizes, splits and annotations, but not grey levels and tiles."""
        return hashlib.sha256(_compact_json({"classes": self.defect_classes, "films": self.films})).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the manifest of a store whose arrays lie in that folder."""
        content = {"format_version": FORMAT_VERSION, "data_sha256": self.data_sha256, **_as_json(self)}
        (folder / MANIFEST_NAME).write_bytes(_compact_json(content))


@dataclass(frozen=True)
class TileFiles:
    """The arrays of a store that is being written; several processes can write rows of one array at a time.

    Attributes:
        folder: Where they lie.
        img_size: Tile side, in pixels.
    """

    folder: Path
    img_size: int

    def write(
        self, tiles: Sequence[UInt8[np.ndarray, "tile tile"] | UInt16[np.ndarray, "tile tile"]], row: int
    ) -> None:
        """Write tiles of one pixel type.

        Args:
            tiles: At least one.
            row: Of the first of them in the array of their type; the others follow.
        """
        assert {(tile.dtype, tile.shape) for tile in tiles} == {(tiles[0].dtype, (self.img_size, self.img_size))}
        path = self.folder / _array_name(tiles[0].dtype.name)
        path.touch()
        with path.open("r+b") as file:
            file.seek(len(self._header(tiles[0].dtype, 0)) + row * tiles[0].nbytes)
            for tile in tiles:
                file.write(np.ascontiguousarray(tile).data)

    def complete(self) -> None:
        """Say in each array's header how many rows it has got."""
        for dtype in map(np.dtype, _DTYPES):
            path = self.folder / _array_name(dtype.name)
            if path.exists():
                tile_bytes = path.stat().st_size - len(self._header(dtype, 0))
                with path.open("r+b") as file:
                    file.write(self._header(dtype, tile_bytes // (self.img_size**2 * dtype.itemsize)))

    def _header(self, dtype: np.dtype[Any], rows: int) -> bytes:
        # NumPy pads it so that the number of rows can grow without moving what follows.
        shape = (rows, self.img_size, self.img_size)
        header = io.BytesIO()
        description = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(header, description)
        return header.getvalue()


class StoreWriter:
    """Write a store into a temporary neighbour, which takes the place of the old store when everything went well.

    Memory use does not grow with the number of tiles.

    Attributes:
        folder: The temporary folder; other files of the stage go there too.
        files: Its arrays.
    """

    def __init__(self, path: Path, img_size: int) -> None:
        """Plan a store; entering the context begins it.

        Args:
            path: Folder of the store.
            img_size: Tile side, in pixels.
        """
        self._rows: Counter[str] = Counter()
        self._img_size = img_size
        self._replacement = replaced_folder(path)

    def __enter__(self) -> Self:
        self.folder = self._replacement.__enter__()
        self.files = TileFiles(self.folder, self._img_size)
        return self

    def append(self, tile: UInt8[np.ndarray, "tile tile"] | UInt16[np.ndarray, "tile tile"]) -> tuple[str, int]:
        """Add a tile.

        Returns:
            Name of its pixel type and its row in that array, for the tile's record.
        """
        dtype = tile.dtype.name
        row = self._rows[dtype]
        self._rows[dtype] += 1
        self.files.write([tile], row)
        return dtype, row

    def complete(self, manifest: Manifest) -> None:
        """Complete the arrays and write the manifest: `folder` is a store from here on."""
        self.files.complete()
        manifest.write(self.folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._replacement.__exit__(kind, error, traceback)


class TensorStore:
    """A prepared data set, read-only.

    Attributes:
        path: Folder of the store.
        manifest: What it holds.
    """

    def __init__(self, path: Path, manifest: Manifest, arrays: dict[str, np.ndarray]) -> None:
        """Take what `open` has read."""
        self.path = path
        self.manifest = manifest
        self._arrays = arrays
        self._tiles_of_film: list[list[int]] = [[] for _ in manifest.films]
        for index, tile in enumerate(manifest.tiles):
            self._tiles_of_film[tile.film].append(index)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store, its tiles memory-mapped.

        Raises:
            DataError: If there is none, or it is broken or of another version.
        """
        arrays = {}
        with read_together(path):
            manifest = _read_manifest(path)
            for dtype in _DTYPES:
                rows = [tile.row for tile in manifest.tiles if tile.dtype == dtype]
                if rows:
                    arrays[dtype] = _map_array(path / _array_name(dtype), dtype, manifest.img_size, 1 + max(rows))
        return cls(path, manifest, arrays)

    def __reduce__(self) -> tuple[Callable[[Path], Self], tuple[Path]]:
        # A data-loading process that is spawned maps the files anew; copying a map would copy every tile.
        return type(self).open, (self.path,)

    def pixels(self, tile_index: int) -> UInt8[np.ndarray, "tile tile"] | UInt16[np.ndarray, "tile tile"]:
        """Look at a tile in the grey levels of its film, without a copy."""
        tile = self.manifest.tiles[tile_index]
        return self._arrays[tile.dtype][tile.row]

    def unit_pixels(self, tile_index: int) -> Float32[np.ndarray, "tile tile"]:
        """Read a tile, black 0 and full scale 1."""
        return to_unit_float32(self.pixels(tile_index), self.film_of(tile_index).bit_depth)

    def film_of(self, tile_index: int) -> FilmRecord:
        """Find the film that a tile is cut from."""
        return self.manifest.films[self.manifest.tiles[tile_index].film]

    def film_tiles(self, film_index: int) -> list[int]:
        """List the tiles of a film, in reading order."""
        return self._tiles_of_film[film_index]

    def tile_indices(self, split: Split) -> list[int]:
        """List the tiles of a split."""
        films = self.manifest.films
        return [index for index, tile in enumerate(self.manifest.tiles) if films[tile.film].split is split]


def _array_name(dtype: str) -> str:
    return f"tiles_{dtype}.npy"


def _compact_json(content: object) -> bytes:
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_as_json
    )
    return text.encode()


def _as_json(record: Any) -> Any:  # noqa: ANN401 - a record becomes a dictionary, an array a list
    """Turn one record into what JSON knows, but not yet what is in it: all at once would take much memory."""
    if isinstance(record, np.ndarray):
        return record.tolist()
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _map_array(path: Path, dtype: str, side_px: int, least_rows: int) -> np.ndarray:
    try:
        array = npy_format.open_memmap(path, mode="r")  # unlike np.load, knows neither pickles nor archives
    except Exception as error:  # of a broken header NumPy raises anything from MemoryError to tokenize's TokenError
        raise DataError(f"{path}: not a readable array ({error!s:.200}); {_REMEDY}") from None
    # Rows of films that were left out in the end are in the array too, so that it may be longer than the manifest says.
    if array.dtype != dtype or array.shape[1:] != (side_px, side_px) or len(array) < least_rows:
        expected = f"{dtype} ({least_rows} or more, {side_px}, {side_px})"
        raise DataError(f"{path}: holds {array.dtype} {array.shape}, the manifest needs {expected}; {_REMEDY}")
    return array


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST_NAME
    try:
        content = json.loads(file.read_bytes(), object_hook=_annotation_at_once)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no prepared data; {_REMEDY}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not a readable manifest ({error}); {_REMEDY}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        found = f"format {version!s:.40}, not {FORMAT_VERSION}"
        raise DataError(f"{file}: prepared by another version ({found}); {_REMEDY}")
    try:
        return _manifest_from_json(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{file}: broken manifest ({type(error).__name__}: {error!s:.200}); {_REMEDY}") from None


def _manifest_from_json(content: dict[str, Any]) -> Manifest:
    if not is_count(content["img_size"]):
        raise ValueError(f"img_size {content['img_size']!r:.40}")
    return Manifest(
        img_size=content["img_size"],
        overlap_px=content["overlap_px"],
        min_visible_share=content["min_visible_share"],
        augmentations=content["augmentations"],
        defect_classes=tuple(content["defect_classes"]),
        grey_mean=content["grey_mean"],
        grey_std=content["grey_std"],
        films=tuple(_film_from_json(film) for film in content["films"]),
        tiles=tuple(_tile_from_json(tile, len(content["films"])) for tile in content["tiles"]),
        resample_pitch_mm=content["resample_pitch_mm"],
        background_mm=content["background_mm"],
    )


def _annotation_at_once(content: dict[str, Any]) -> Any:  # noqa: ANN401 - what makes no annotation stays as it is
    """Make annotations while JSON is parsed: as dictionaries, all of them together would take much memory."""
    try:
        return _annotation_from_json(content)
    except (KeyError, TypeError):
        return content


def _annotation_from_json(content: dict[str, Any]) -> FilmAnnotation:
    measures = Measures(**content["measures"])
    return FilmAnnotation(**{**content, "box_xyxy": tuple(content["box_xyxy"]), "measures": measures})


def _film_from_json(content: dict[str, Any]) -> FilmRecord:
    annotations = tuple(
        one if isinstance(one, FilmAnnotation) else _annotation_from_json(one) for one in content["annotations"]
    )
    return FilmRecord(**{**content, "split": Split(content["split"]), "annotations": annotations})


def _tile_from_json(content: dict[str, Any], films: int) -> TileRecord:
    film, row, dtype = content["film"], content["row"], content["dtype"]
    if type(film) is not int or type(row) is not int or not 0 <= film < films or row < 0 or dtype not in _DTYPES:
        raise ValueError(f"a tile of film {film!r:.40} in row {row!r:.40} of {dtype!r:.40}")
    return TileRecord(
        film=film,
        xyxy=_int_box(content["xyxy"]),
        dtype=dtype,
        row=row,
        boxes_xyxy=np.array(content["boxes_xyxy"], dtype=np.float32).reshape(-1, 4),
        labels=np.array(content["labels"], dtype=np.int64),
        difficult=np.array(content["difficult"], dtype=np.bool_),
    )


def _int_box(edges: Sequence[int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = edges
    return x0, y0, x1, y1

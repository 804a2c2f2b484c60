"""Cut films into the tiles of a store, by one process or several: the bytes are the same.

This module imports little, for each of the processes imports it anew.
"""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.context import SpawnContext
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from defects_in_welds import boxes
from defects_in_welds.data import dataset_checks, splitting, tiling
from defects_in_welds.data.annotation import AnnotatedRadiograph, Annotation, DataError, Finding, FindingKind
from defects_in_welds.data.film_files import read_film
from defects_in_welds.data.standardisation import standardise
from defects_in_welds.data.tensor_store import TileFiles
from defects_in_welds.params import PrepareParams, UserError
from defects_in_welds.radiograph import Radiograph

_Tiles = list[UInt8[np.ndarray, "tile tile"] | UInt16[np.ndarray, "tile tile"]]


@dataclass(frozen=True, slots=True)
class CutFilm:
    """What is kept of a film after its pixels are gone.

    Attributes:
        film: As the data set has it.
        annotations: Those that passed the checks, in pixels of the prepared film.
        sha256: Of its file.
        image_hw: Height and width of the prepared film, in pixels.
        bit_depth: Of its grey levels.
        highest_stored_level: As the radiograph has it.
        pixel_pitch_mm: Of the prepared film, in mm, or None.
        source_hw: Height and width of the file, in pixels of its own.
        source_pixel_pitch_mm: Of the file, in mm, or None.
        fingerprint: For near-duplicates.
        tiles_xyxy: Place of each tile, in pixels of the prepared film.
        dtype: Pixel type of the tiles.
        first_row: Of its tiles in the store's array of that type; the others follow.
        grey_sum: Sum over all pixels of all tiles, black 0 and full scale 1.
        grey_square_sum: Sum of the squares of the same.
    """

    film: AnnotatedRadiograph
    annotations: tuple[Annotation, ...]
    sha256: str
    image_hw: tuple[int, int]
    bit_depth: int
    highest_stored_level: int | None
    pixel_pitch_mm: float | None
    source_hw: tuple[int, int]
    source_pixel_pitch_mm: float | None
    fingerprint: Float32[np.ndarray, " 1024"]
    tiles_xyxy: tuple[tuple[int, int, int, int], ...]
    dtype: str
    first_row: int
    grey_sum: float
    grey_square_sum: float


def cut_films(
    films: Sequence[AnnotatedRadiograph], prepare: PrepareParams, files: TileFiles, workers: int
) -> Iterator[tuple[CutFilm | None, tuple[Finding, ...]]]:
    """Read and check films, and write their tiles.

    Args:
        films: Of the data set.
        prepare: How they are read and cut.
        files: Where the tiles go, film by film.
        workers: Processes that do it; any number gives the same bytes.

    Yields:
        Each film, None if it cannot be read, and what was found.

    Raises:
        ParamsError: As `standardise`.
        UserError: If a process was killed.
    """
    if workers == 1:
        yield from map(_FilmCutter(prepare, files, _RowsInOrder()), count(), films)
        return
    # Spawned, not forked: a fork would copy the locks of threads that it has not got.
    context = multiprocessing.get_context("spawn")
    cutter = _FilmCutter(prepare, files, _RowsInTurn(context))
    with ProcessPoolExecutor(workers, context, _start_worker, (cutter,)) as pool:
        try:
            yield from pool.map(_cut_in_worker, range(len(films)), films)
        except BrokenProcessPool:
            raise UserError(
                "prepare: the system has killed one of its processes, as it does where memory is short; set fewer "
                "--workers"
            ) from None


class _Rows(Protocol):
    """The rows of a store's arrays, given out film by film."""

    def claim(self, place: int, tiles: _Tiles) -> int:
        """Give the tiles of a film their rows.

        Args:
            place: Of the film in the data set.
            tiles: None of them, if it cannot be read.

        Returns:
            Row of the first tile in the array of its pixel type.
        """


class _RowsInOrder:
    """Rows for one process, which takes the films in order."""

    def __init__(self) -> None:
        self._next: Counter[int] = Counter()

    def claim(self, place: int, tiles: _Tiles) -> int:
        if not tiles:
            return 0
        size = tiles[0].itemsize
        self._next[size] += len(tiles)
        return self._next[size] - len(tiles)


class _RowsInTurn:
    """Rows for several processes: each film waits until those before it have claimed theirs."""

    def __init__(self, context: SpawnContext) -> None:
        self._turn = context.Condition()
        self._next_film = context.RawValue("q", 0)
        self._next_row = context.RawArray("q", 3)  # by bytes of a pixel

    def claim(self, place: int, tiles: _Tiles) -> int:
        with self._turn:
            self._turn.wait_for(lambda: self._next_film.value == place)
            size = tiles[0].itemsize if tiles else 0
            row: int = self._next_row[size]
            self._next_row[size] += len(tiles)
            self._next_film.value += 1
            self._turn.notify_all()
        return row


@dataclass(frozen=True)
class _FilmCutter:
    prepare: PrepareParams
    files: TileFiles
    rows: _Rows

    def __call__(self, place: int, film: AnnotatedRadiograph) -> tuple[CutFilm | None, tuple[Finding, ...]]:
        tiles: _Tiles = []
        try:
            cut_film, tiles, findings = _cut_film(film, self.prepare)
        except DataError as error:
            return None, (dataset_checks.unreadable_image(film, error),)
        finally:
            row = self.rows.claim(place, tiles)  # whatever went wrong: the films after this one wait for it
        self.files.write(tiles, row)
        return replace(cut_film, first_row=row), findings


_cutter: _FilmCutter | None = None  # of a worker process


def _start_worker(cutter: _FilmCutter) -> None:
    global _cutter
    _cutter = cutter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all; the first process ends the others
    threading.Thread(target=_end_with_the_first_process, daemon=True).start()
    cv2.setNumThreads(1)


def _end_with_the_first_process() -> None:
    """Leave no worker behind where the first process was killed."""
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)


def _cut_in_worker(place: int, film: AnnotatedRadiograph) -> tuple[CutFilm | None, tuple[Finding, ...]]:
    assert _cutter is not None
    return _cutter(place, film)


def _cut_film(film: AnnotatedRadiograph, prepare: PrepareParams) -> tuple[CutFilm, _Tiles, tuple[Finding, ...]]:
    source = read_film(film.image_path, prepare, film.pixel_pitch_mm)
    annotations, findings = dataset_checks.check_annotations(film, source.image_hw, prepare.on_finding)
    radiograph = standardise(source, resample_pitch_mm=prepare.resample_pitch_mm, background_mm=prepare.background_mm)
    if radiograph.image_hw != source.image_hw:
        annotations, lost = _rescale(annotations, film, source, radiograph)
        findings += lost
    tiles_xyxy = tiling.plan_tiles(radiograph.image_hw, prepare.img_size, prepare.overlap_px)
    tiles = [tiling.cut_tile(radiograph.pixels, xyxy, prepare.img_size) for xyxy in tiles_xyxy]
    full_scale = 2**radiograph.bit_depth - 1
    cut_film = CutFilm(
        film=film,
        annotations=annotations,
        sha256=dataset_checks.file_sha256(film.image_path),
        image_hw=radiograph.image_hw,
        bit_depth=radiograph.bit_depth,
        highest_stored_level=radiograph.highest_stored_level,
        pixel_pitch_mm=radiograph.pixel_pitch_mm,
        source_hw=source.image_hw,
        source_pixel_pitch_mm=source.pixel_pitch_mm,
        fingerprint=splitting.fingerprint(source.pixels),
        tiles_xyxy=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in tiles_xyxy.tolist()),
        dtype=radiograph.pixels.dtype.name,
        first_row=0,
        # Whole numbers: the same sums in any order, on any computer.
        grey_sum=sum(int(cv2.sumElems(tile)[0]) for tile in tiles) / full_scale,
        grey_square_sum=sum(_square_sum(tile) for tile in tiles) / full_scale**2,
    )
    return cut_film, tiles, findings


def _square_sum(tile: UInt8[np.ndarray, "tile tile"] | UInt16[np.ndarray, "tile tile"]) -> int:
    return int(np.square(tile, dtype=np.uint32).sum(dtype=np.uint64))


def _rescale(
    annotations: Sequence[Annotation], film: AnnotatedRadiograph, source: Radiograph, radiograph: Radiograph
) -> tuple[tuple[Annotation, ...], tuple[Finding, ...]]:
    """Carry annotations to the resampled film; report those that it is too coarse for."""
    boxes_xyxy = np.array([annotation.box_xyxy for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    rescaled = boxes.rescale(boxes_xyxy, source.image_hw, radiograph.image_hw)
    is_seen = (rescaled[:, 2:] - rescaled[:, :2]).min(axis=1, initial=np.inf) >= boxes.LEAST_SIDE_PX
    message = (
        f"a side is less than {boxes.LEAST_SIDE_PX:g} px at prepare.resample_pitch_mm={radiograph.pixel_pitch_mm:g}"
    )
    kept = []
    findings = []
    for annotation, (x0, y0, x1, y1), seen in zip(annotations, rescaled.tolist(), is_seen.tolist(), strict=True):
        if seen:
            kept.append(replace(annotation, box_xyxy=(x0, y0, x1, y1)))
        else:
            findings.append(Finding(FindingKind.EMPTY_BOX, annotation.path, annotation.line, message, film.name))
    return tuple(kept), tuple(findings)

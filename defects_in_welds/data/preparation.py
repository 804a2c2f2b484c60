"""The prepare stage: from a folder of radiographs and annotations to a store of tiles.

One pass over the films: each is read, checked, cut and forgotten, so that memory does not grow with their number.
Splits, near-duplicates and the decision about the findings follow when all films are known.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from math import fsum, sqrt
from pathlib import Path

import numpy as np
from tqdm import tqdm

from defects_in_welds.data import dataset_checks, splitting, tiling
from defects_in_welds.data.annotation import AnnotatedDataset, DataError, Finding, Split
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.film_cutting import CutFilm, cut_films
from defects_in_welds.data.preview import draw_preview
from defects_in_welds.data.tensor_store import (
    FilmAnnotation,
    FilmRecord,
    Manifest,
    StoreWriter,
    TensorStore,
    TileFiles,
    TileRecord,
)
from defects_in_welds.params import DATA_DIR, PREPARED_DIR, Params, PrepareParams, load_params, require_count
from defects_in_welds.taxonomy import label_of

PREVIEW_NAME = "preview.png"

# Grey levels are divided by their spread later: one grey level of an 8-bit film is the least that it can mean.
_LEAST_GREY_STD = 1 / 255

_log = logging.getLogger(__name__)


def prepare(
    *overrides: str,
    img_size: int | None = None,
    augmentations: bool | None = None,
    workers: int = 1,
    data_dir: str | Path = DATA_DIR,
    out_dir: str | Path = PREPARED_DIR,
) -> None:
    """Read, check and split the radiographs, and cut them into tiles.

    Args:
        overrides: Such as ``prepare.on_finding=drop``.
        img_size: Tile side in pixels, in place of prepare.img_size.
        augmentations: Whether training augments the tiles, in place of prepare.augmentations.
        workers: Processes that read and cut films; any number gives the same bytes.
        data_dir: Folder of the data set.
        out_dir: Folder of the prepared data.

    Raises:
        ParamsError: If a parameter is unknown or impossible.
        DataError: If the data cannot be used.
    """
    require_count("workers", workers)
    flags = {"img_size": img_size, "augmentations": augmentations}
    given = [f"prepare.{key}={value}" for key, value in flags.items() if value is not None]
    prepare_dataset(load_params([*overrides, *given]), Path(data_dir), Path(out_dir), workers)


def prepare_dataset(params: Params, data_dir: Path, out_dir: Path, workers: int = 1) -> TensorStore:
    """Read, check, split and tile a data set.

    The store holds the table of findings and, as a picture, some training tiles with their boxes. An older store is
    replaced only by a complete one.

    Args:
        params: Sections ``prepare`` and ``augmentation``.
        data_dir: Folder of the data set.
        out_dir: Folder of the store.
        workers: Processes that read and cut films; any number gives the same bytes.

    Raises:
        DataError: If the data set cannot be read or divided, or ``prepare.on_finding`` is ``fail`` and something in it
            corrupts training; all findings then are in a table beside ``out_dir``.
        ParamsError: If a film's pixel pitch is needed and unknown, or the parameters that need it do not suit the film.
        UserError: If another run is at work there, or the store cannot be written.
    """
    prepare = params.prepare
    findings: list[Finding] = []
    failure_table = out_dir.with_name(dataset_checks.CHECKS_NAME)
    with StoreWriter(out_dir, prepare.img_size) as writer:
        # What is kept of each film is given up here: later steps need the manifest alone.
        writer.complete(_store_films(data_dir, prepare, writer.files, workers, findings, failure_table))
        dataset_checks.write_checks(findings, prepare.on_finding, writer.folder / dataset_checks.CHECKS_NAME)
        store = TensorStore.open(writer.folder)
        draw_preview(store, params.augmentation, prepare.seed, writer.folder / PREVIEW_NAME)
    store.path = out_dir  # the folder's name from now on: a process that takes over the store opens it there
    _report(store.manifest, findings, out_dir)
    return store


def _store_films(
    data_dir: Path, prepare: PrepareParams, files: TileFiles, workers: int, findings: list[Finding], failure_table: Path
) -> Manifest:
    """Store the tiles of all films that can be used; add what is found to the findings, or leave it as a table."""
    dataset = read_dataset(data_dir, prepare.annotation_format, prepare.classes)
    findings += dataset.findings
    films = _cut_films(dataset, prepare, files, workers, findings)
    if prepare.on_finding == "drop":
        wrongly_marked = dataset_checks.wrongly_marked(findings)
        films = [film for film in films if film.film.name not in wrongly_marked]
    try:
        split_of = splitting.assign_splits([film.film for film in films], prepare)
    except DataError:
        # Films that could not be read may be why: they are the better news.
        _stop_on_findings(findings, prepare.on_finding, failure_table)
        raise
    left_out = _find_copies(films, split_of, prepare, findings)
    _stop_on_findings(findings, prepare.on_finding, failure_table)
    if prepare.on_finding == "drop":
        films = [film for film in films if film.film.name not in left_out]
    if not any(split_of[film.film.name] is Split.TRAIN for film in films):
        raise DataError(f"{data_dir}: no film is left to train on; see prepare.on_finding and the data set's splits")
    return _make_manifest(films, split_of, dataset.defect_classes, prepare)


def _cut_films(
    dataset: AnnotatedDataset, prepare: PrepareParams, files: TileFiles, workers: int, findings: list[Finding]
) -> list[CutFilm]:
    """Store the tiles of all films that can be read; add what is found to the findings."""
    films = []
    start = time.monotonic()
    cut = cut_films(dataset.radiographs, prepare, files, workers)
    for film, found in tqdm(cut, desc="prepare", unit="film", total=len(dataset.radiographs)):
        findings.extend(found)
        if film is not None:
            films.append(film)
    findings += dataset_checks.hidden_bit_depth_findings(
        {film.film.name: film.highest_stored_level for film in films if film.highest_stored_level is not None}
    )
    seconds = time.monotonic() - start
    _log.info("read %d films, %.1f films/s", len(films), len(films) / max(seconds, 1e-9))
    return films


def _find_copies(
    films: Sequence[CutFilm], split_of: Mapping[str, Split], prepare: PrepareParams, findings: list[Finding]
) -> frozenset[str]:
    """Add films that show the same to the findings; name those that ``drop`` leaves out."""
    sha256_of = {film.film.name: film.sha256 for film in films}
    copies = dataset_checks.duplicate_groups(sha256_of)
    alike = splitting.near_duplicates(
        {film.film.name: film.fingerprint for film in films}, split_of, prepare.near_duplicate_correlation
    )
    pairs = [(name, other) for name, other in alike if sha256_of[name] != sha256_of[other]]
    findings += dataset_checks.duplicate_findings(copies)
    findings += dataset_checks.near_duplicate_findings(pairs, split_of)
    return dataset_checks.copies_to_leave_out([*copies, *pairs], split_of)


def _stop_on_findings(findings: Sequence[Finding], on_finding: str, table: Path) -> None:
    """Raise where the findings ask for it, and leave their table only then."""
    dataset_checks.write_checks(findings, on_finding, table)
    dataset_checks.raise_on_findings(findings, on_finding, table)
    table.unlink()


def _make_manifest(
    films: Sequence[CutFilm], split_of: Mapping[str, Split], defect_classes: tuple[str, ...], prepare: PrepareParams
) -> Manifest:
    trained = [film for film in films if split_of[film.film.name] is Split.TRAIN]
    grey_mean, grey_std = _grey_statistics(trained, prepare.img_size)
    return Manifest(
        img_size=prepare.img_size,
        overlap_px=prepare.overlap_px,
        min_visible_share=prepare.min_visible_share,
        augmentations=prepare.augmentations,
        defect_classes=defect_classes,
        grey_mean=grey_mean,
        grey_std=grey_std,
        films=tuple(_film_record(film, split_of[film.film.name], prepare.weld_pattern) for film in films),
        tiles=tuple(
            tile
            for index, film in enumerate(films)
            for tile in _tile_records(film, index, defect_classes, prepare.min_visible_share)
        ),
        resample_pitch_mm=prepare.resample_pitch_mm,
        background_mm=prepare.background_mm,
    )


def _grey_statistics(films: Sequence[CutFilm], tile_px: int) -> tuple[float, float]:
    pixels = sum(len(film.tiles_xyxy) for film in films) * tile_px**2
    mean = fsum(film.grey_sum for film in films) / pixels
    variance = fsum(film.grey_square_sum for film in films) / pixels - mean**2
    return mean, max(sqrt(max(variance, 0)), _LEAST_GREY_STD)


def _film_record(film: CutFilm, split: Split, weld_pattern: str | None) -> FilmRecord:
    height, width = film.image_hw
    source_height, source_width = film.source_hw
    return FilmRecord(
        name=film.film.name,
        sha256=film.sha256,
        split=split,
        weld=splitting.weld_of(film.film, weld_pattern),
        height=height,
        width=width,
        bit_depth=film.bit_depth,
        pixel_pitch_mm=film.pixel_pitch_mm,
        annotations=tuple(
            FilmAnnotation(annotation.box_xyxy, annotation.defect_class, annotation.difficult, annotation.measures)
            for annotation in film.annotations
        ),
        source_height=source_height,
        source_width=source_width,
        source_pixel_pitch_mm=film.source_pixel_pitch_mm,
    )


def _tile_records(
    film: CutFilm, film_index: int, defect_classes: Sequence[str], min_visible_share: float
) -> list[TileRecord]:
    film_boxes = np.array([annotation.box_xyxy for annotation in film.annotations], dtype=np.float64).reshape(-1, 4)
    labels = np.array([label_of(one.defect_class, defect_classes) for one in film.annotations], dtype=np.int64)
    difficult = np.array([annotation.difficult for annotation in film.annotations], dtype=np.bool_)
    shares = tiling.share_out_boxes(film_boxes, np.array(film.tiles_xyxy), min_visible_share)
    return [
        TileRecord(film_index, xyxy, film.dtype, row, tile_boxes, labels[kept], difficult[kept])
        for row, xyxy, (kept, tile_boxes) in zip(count(film.first_row), film.tiles_xyxy, shares, strict=False)
    ]


def _report(manifest: Manifest, findings: Iterable[Finding], out_dir: Path) -> None:
    """Log what the store holds, by split, and what was found."""
    for split in Split:
        films = [film for film in manifest.films if film.split is split]
        tiles = [tile for tile in manifest.tiles if manifest.films[tile.film].split is split]
        boxes = Counter(annotation.defect_class for film in films for annotation in film.annotations)
        by_class = ", ".join(f"{name} {boxes[name]}" for name in manifest.defect_classes)
        annotated = sum(len(tile.labels) > 0 for tile in tiles)
        _log.info(
            "%s: %d films, %d tiles (%d annotated), boxes: %s", split, len(films), len(tiles), annotated, by_class
        )
    by_kind = Counter(finding.kind for finding in findings)
    listed = ", ".join(f"{kind} {count}" for kind, count in sorted(by_kind.items()))
    _log.info("findings: %s", f"{listed}; see {out_dir / dataset_checks.CHECKS_NAME}" if listed else "none")

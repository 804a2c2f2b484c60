"""The same prepared tiles under another split, for cross-validation."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.tensor_store import FilmAnnotation, FilmRecord, Manifest, TensorStore, TileRecord
from defects_in_welds.output_folder import replaced_folder


def draw_folds(groups: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """Deal groups out to folds of nearly equal numbers.

    Args:
        groups: Names, repeated or not.
        folds: Number of folds.
        seed: Of the order in which they are dealt.

    Returns:
        Fold by name, from 0.

    Raises:
        DataError: If there are fewer groups than folds.
    """
    names = sorted(set(groups))
    if len(names) < folds:
        raise DataError(f"data: {len(names)} weld(s) cannot be dealt out to {folds} folds; set evaluate.folds lower")
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[index]: place % folds for place, index in enumerate(order)}


def split_by_fold(fold_of: Mapping[str, int], folds: int, tested: int) -> dict[str, Split]:
    """Test one fold, choose the model on the next, and train on the others."""
    special = {tested: Split.TEST, (tested + 1) % folds: Split.VAL}
    return {name: special.get(fold, Split.TRAIN) for name, fold in fold_of.items()}


def tiles_as_films(manifest: Manifest) -> Manifest:
    """Count every tile as a film of its own, that shows what the tile shows of its film's flaws.

    The weld stays that of the film, so that a split by weld keeps a film's tiles together.
    """
    films, tiles = [], []
    for number, tile in enumerate(manifest.tiles):
        film, (x0, y0, x1, y1) = manifest.films[tile.film], tile.xyxy
        flaws = zip(tile.boxes_xyxy.tolist(), tile.labels.tolist(), tile.difficult.tolist(), strict=True)
        height, width = y1 - y0, x1 - x0
        films.append(
            replace(
                film,
                name=f"{film.name}#{y0:06d},{x0:06d}",  # sorts as the tiles lie
                height=height,
                width=width,
                annotations=tuple(
                    FilmAnnotation((left, top, right, bottom), manifest.defect_classes[label - 1], difficult)
                    for (left, top, right, bottom), label, difficult in flaws
                ),
                source_height=height,
                source_width=width,
                source_pixel_pitch_mm=film.pixel_pitch_mm,
            )
        )
        tiles.append(replace(tile, film=number, xyxy=(0, 0, width, height)))
    return replace(manifest, films=tuple(films), tiles=tuple(tiles))


def write_regrouped(store: TensorStore, manifest: Manifest, split_of: Sequence[Split], out_dir: Path) -> TensorStore:
    """Write a store with the same tiles under another split; the arrays are linked, where the disk allows it.

    Args:
        store: Whose tiles they are.
        manifest: Its manifest, or what `tiles_as_films` makes of it.
        split_of: Split of each of the manifest's films.
        out_dir: Folder to write.

    Returns:
        The new store; its grey statistics are those of its own training tiles.

    Raises:
        DataError: If no film is left to train on.
    """
    films = tuple(replace(film, split=split) for film, split in zip(manifest.films, split_of, strict=True))
    mean, std = _grey_statistics(store, films, manifest.tiles)
    content = replace(manifest, films=films, grey_mean=mean, grey_std=std)
    with replaced_folder(out_dir) as folder:
        for array in sorted(store.path.glob("*.npy")):
            _link_or_copy(array, folder / array.name)
        content.write(folder)
    return TensorStore.open(out_dir)


def _grey_statistics(
    store: TensorStore, films: Sequence[FilmRecord], tiles: Sequence[TileRecord]
) -> tuple[float, float]:
    """Mean and standard deviation of the training tiles' grey levels."""
    sums = [
        (pixels.mean(dtype=np.float64), np.square(pixels).mean(dtype=np.float64))
        for index, tile in enumerate(tiles)
        if films[tile.film].split is Split.TRAIN
        for pixels in [store.unit_pixels(index)]
    ]
    if not sums:
        raise DataError(f"{store.path}: no film is left to train on; set evaluate.folds higher")
    mean, square = np.mean(sums, axis=0).tolist()
    return mean, max(square - mean**2, 0) ** 0.5 or store.manifest.grey_std


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

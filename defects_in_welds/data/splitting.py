"""Divide films into training, validation and test so that none of them knows another.

Films of one weld share its bead, its plate and often the very same flaws: they stay in one split. Films that look the
same without a common weld are found by their fingerprints.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from defects_in_welds.data.annotation import AnnotatedRadiograph, DataError, Split
from defects_in_welds.params import ParamsError, PrepareParams

_FINGERPRINT_SIDE = 32
_BLOCK = 256


def weld_of(film: AnnotatedRadiograph, weld_pattern: str | None) -> str:
    """Name the weld that a film shows: as the data set says, else as its file name says, else the film itself."""
    if film.weld is not None:
        return film.weld
    return _weld_in_name(film, weld_pattern) or film.name


def _weld_in_name(film: AnnotatedRadiograph, weld_pattern: str | None) -> str | None:
    match = re.search(weld_pattern, film.image_path.stem) if weld_pattern is not None else None
    return match.group(1) if match else None


def assign_splits(radiographs: Sequence[AnnotatedRadiograph], prepare: PrepareParams) -> dict[str, Split]:
    """Give each film its split.

    A split that the data set names is kept. Where it names no validation split, one is carved out of the training
    welds, and a test split with it if that is missing too. Films without a split go with their weld.

    Args:
        radiographs: The films.
        prepare: Shares, seed and pattern of the welds' names.

    Returns:
        The split of each film's name.

    Raises:
        DataError: If there are too few welds, or one weld is in two splits of the data set.
        ParamsError: If ``prepare.weld_pattern`` names no weld at all.
    """
    _require_a_match(radiographs, prepare.weld_pattern)
    films_of: dict[str, list[AnnotatedRadiograph]] = defaultdict(list)
    for film in sorted(radiographs, key=lambda film: film.name):
        films_of[weld_of(film, prepare.weld_pattern)].append(film)
    _require_whole_welds(films_of, prepare.weld_pattern)

    named = {film.split for film in radiographs} - {None}
    kept = set(Split)
    split_of_weld = {weld: _named_split(films) for weld, films in sorted(films_of.items())}
    if Split.VAL not in named:
        kept = {Split.TEST}
        pool = [weld for weld, split in split_of_weld.items() if split in (None, Split.TRAIN)]
        shares = {Split.VAL: prepare.val_share, Split.TEST: prepare.test_share}
        wanted = {split: share for split, share in shares.items() if split not in named and share > 0}
        split_of_weld |= _draw(pool, wanted, prepare.seed)
    return {
        film.name: film.split if film.split in kept else split_of_weld[weld] or Split.TRAIN
        for weld, films in films_of.items()
        for film in films
    }


def _named_split(films: Sequence[AnnotatedRadiograph]) -> Split | None:
    """Find where the data set puts a weld; of several splits the one that training must see least of."""
    named = {film.split for film in films}
    return next((split for split in (Split.TEST, Split.VAL, Split.TRAIN) if split in named), None)


def _require_a_match(radiographs: Sequence[AnnotatedRadiograph], weld_pattern: str | None) -> None:
    """Refuse a pattern that fits no name: every film would count as a weld of its own, and welds be divided."""
    unnamed = [film for film in radiographs if film.weld is None]
    if weld_pattern is not None and unnamed and not any(_weld_in_name(film, weld_pattern) for film in unnamed):
        raise ParamsError(
            f"params: prepare.weld_pattern is {weld_pattern!r}, which finds no weld in the name of any film, such as "
            f"{unnamed[0].image_path.stem!r}; correct it, or set it to null"
        )


def _require_whole_welds(films_of: Mapping[str, Sequence[AnnotatedRadiograph]], weld_pattern: str | None) -> None:
    for weld, films in sorted(films_of.items()):
        placed = [film for film in films if film.split is not None]
        for film in placed:
            if film.split is not placed[0].split:
                is_named = film.weld is not None
                source = "its name in the data set" if is_named else f"prepare.weld_pattern ({weld_pattern!r})"
                raise DataError(
                    f"data: weld {weld!r} is in two splits: {placed[0].name} in {placed[0].split}, {film.name} in "
                    f"{film.split}; move its films to one of them, or correct {source}"
                )


def _draw(welds: Sequence[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Draw at least one weld for each split, and leave at least one for training."""
    if len(welds) <= len(shares):
        wanted = ", ".join(["train", *shares])
        raise DataError(
            f"data: {len(welds)} weld(s) cannot be divided into {wanted}; add films of other welds, divide the data "
            "into train, val and test folders, or set prepare.val_share or prepare.test_share to 0"
        )
    order = np.random.default_rng(seed).permutation(len(welds))
    drawn: dict[str, Split] = dict.fromkeys(welds, Split.TRAIN)
    start = 0
    for still_to_come, (split, share) in zip(reversed(range(len(shares))), shares.items(), strict=True):
        available = len(welds) - start - still_to_come - 1
        count = min(max(1, round(share * len(welds))), available)
        drawn |= {welds[index]: split for index in order[start : start + count]}
        start += count
    return drawn


def fingerprint(
    pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
) -> Float32[np.ndarray, " 1024"]:
    """Describe what a film shows, whatever its size, bit depth, brightness and contrast.

    A weld is a band across the film: rows and columns are freed of their means, so that it does not make all welds look
    alike.

    Returns:
        A vector of unit length, or zeros for a film without contrast. The product of two is their correlation.
    """
    side = _FINGERPRINT_SIDE
    # Rows first: the same averages, in a third of the time.
    low = cv2.resize(pixels.astype(np.float32), (pixels.shape[1], side), interpolation=cv2.INTER_AREA)
    small = cv2.resize(low, (side, side), interpolation=cv2.INTER_AREA).astype(np.float64)
    detail = small - small.mean(axis=0) - small.mean(axis=1, keepdims=True) + small.mean()
    length = np.linalg.norm(detail)
    # Below this, what is left is rounding.
    if length <= 1e-6 * np.linalg.norm(small):
        return np.zeros(side * side, dtype=np.float32)
    return (detail / length).ravel().astype(np.float32)


def near_duplicates(
    fingerprint_of: Mapping[str, Float32[np.ndarray, " 1024"]], split_of: Mapping[str, str], threshold: float
) -> tuple[tuple[str, str], ...]:
    """Find films of different splits that look the same, be one of them mirrored or turned by quarters.

    Neighbouring frames of a video, or overlapping exposures of one seam, need not correlate: for them
    ``prepare.weld_pattern`` must name what belongs together.

    Args:
        fingerprint_of: Fingerprint of each film's name.
        split_of: Split of each film's name, or any other group of films.
        threshold: Least correlation of two fingerprints.

    Returns:
        Pairs of names, sorted, each pair once.
    """
    names = sorted(fingerprint_of)
    if not names:
        return ()
    matrix = np.stack([fingerprint_of[name] for name in names])
    splits = np.array([split_of[name] for name in names])
    pairs = []
    for start in range(0, len(names), _BLOCK):
        block = slice(start, start + _BLOCK)
        likeness = np.full((len(matrix[block]), len(names)), -np.inf, dtype=np.float32)
        for turned in _flips_and_turns(matrix[block]):
            np.maximum(likeness, turned @ matrix.T, out=likeness)
        is_alike = (likeness >= threshold) & (splits[block, None] != splits)
        pairs += [(start + int(row), int(column)) for row, column in np.argwhere(is_alike) if start + row < column]
    return tuple((names[a], names[b]) for a, b in pairs)


def _flips_and_turns(
    fingerprints: Float32[np.ndarray, "films 1024"],
) -> Iterator[Float32[np.ndarray, "films 1024"]]:
    """Give the fingerprints of the films in all eight positions that a square can lie in."""
    grids = fingerprints.reshape(-1, _FINGERPRINT_SIDE, _FINGERPRINT_SIDE)
    for mirrored in (grids, grids[:, :, ::-1]):
        for quarters in range(4):
            yield np.rot90(mirrored, quarters, axes=(1, 2)).reshape(fingerprints.shape)

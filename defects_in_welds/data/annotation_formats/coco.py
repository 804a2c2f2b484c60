"""COCO: JSON files of ``images``, ``annotations`` (``bbox`` as left, top, width, height in pixels) and ``categories``.

Several files may lie in one folder. The split of an image is its own ``split``, else what the name of its file or
folder says (``instances_train2017.json``, ``valid/_annotations.coco.json``). Beyond the standard, an image may have
``weld`` and ``pixel_pitch_mm``, and an annotation ``difficult``; ``iscrowd`` counts as difficult. A listed image
without annotations is free of defects; an image that no file lists is no part of the data set.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from defects_in_welds.data.annotation import (
    MEASURES,
    AnnotatedDataset,
    AnnotatedRadiograph,
    Annotation,
    DataError,
    Finding,
    FindingKind,
    Measures,
    Split,
)
from defects_in_welds.data.annotation_formats.folders import (
    LONGEST_NAME,
    NO_TEXT,
    SPLIT_FOLDERS,
    find_below,
    list_files,
    list_images,
    read_text,
    relative_name,
    size_mismatch,
    split_of,
    split_of_file,
    to_number,
)

LOOKS_FOR = "a JSON file with images, annotations and categories"
_KEYS = ("images", "annotations", "categories")
_READ_OF_IMAGES = ("id", "file_name", "width", "height", "split", "weld", "pixel_pitch_mm")
_READ_OF_ANNOTATIONS = ("id", "image_id", "category_id", "bbox", "difficult", "iscrowd", *MEASURES)
_BLOCK_BYTES = 2**20


def recognises(root: Path) -> bool:
    """Tell whether a folder holds COCO annotations."""
    return bool(_instance_files(root))


def read(root: Path) -> AnnotatedDataset:
    """Read all COCO files of a data set.

    An image whose size is not what the file says is left out with a finding, for its boxes belong to another image. An
    image that is listed twice is a finding, and its first listing counts: files of the test before val before train.

    Raises:
        DataError: If a file is no valid JSON, or one of its three lists is missing or broken.
    """
    findings: list[Finding] = []
    films: dict[str, AnnotatedRadiograph] = {}
    classes: dict[str, None] = {}
    for path in sorted(_instance_files(root), key=lambda path: (_split_rank(path, root), path)):
        categories, listed, found = _read_file(root, path)
        classes |= dict.fromkeys(categories[number] for number in sorted(categories))
        findings += found
        for film in listed:
            if films.setdefault(film.name, film) is not film:
                message = f"is listed a second time in {relative_name(path, root)}: the first counts"
                findings.append(Finding(FindingKind.DUPLICATED_IMAGE, film.name, None, message))
    for image in list_images(root):
        name = relative_name(image, root)
        if name not in films:
            findings.append(Finding(FindingKind.IGNORED_FILE, name, None, "no COCO file lists it in order: not read"))
    return AnnotatedDataset(
        root,
        "coco",
        tuple(classes),
        tuple(film for _, film in sorted(films.items())),
        tuple(findings),
        lists_classes=bool(classes),
    )


def _instance_files(root: Path) -> list[Path]:
    return [path for path in list_files(root, frozenset({".json"})) if _names_lists(path)]


def _names_lists(path: Path) -> bool:
    """Look for the names of the three lists block by block: a file of another kind may have gigabytes."""
    missing = {f'"{key}"'.encode() for key in _KEYS}
    seen = b""
    try:
        with path.open("rb") as file:
            while missing and (block := file.read(_BLOCK_BYTES)):
                seen = seen[-max(map(len, missing)) :] + block
                missing = {name for name in missing if name not in seen}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    return not missing


def _split_rank(path: Path, root: Path) -> int:
    order = [Split.TEST, Split.VAL, Split.TRAIN, None]
    return order.index(split_of_file(path, root))


def _read_file(root: Path, path: Path) -> tuple[dict[int, str], list[AnnotatedRadiograph], list[Finding]]:
    content = _load(path)
    categories = _read_categories(path, content["categories"])
    findings: list[Finding] = []
    name = relative_name(path, root)
    split = split_of_file(path, root)
    bases = _image_folders(root, path, split)

    films: dict[int, AnnotatedRadiograph | None] = {}
    for image in content["images"]:
        number = image.get("id")
        try:
            if not _is_whole(number) or number in films:
                raise ValueError("its id is no whole number, or is used twice")
            films[number] = None  # left out, unless it turns out to be in order
            image_path = find_below(bases, str(image.get("file_name") or ""))
            if image_path is None or not image_path.is_file():
                message = f"image {number}: {image.get('file_name')!r:.120} does not exist below the data set's folder"
                findings.append(Finding(FindingKind.LABEL_WITHOUT_IMAGE, name, number, message))
                continue
            films[number] = _read_image(root, image_path, image, split)
        except ValueError as error:
            message = f"image {number!r}: {error}; it is left out"
            findings.append(Finding(FindingKind.BROKEN_LABEL, name, _line(number), message))

    annotations: dict[int, list[Annotation]] = defaultdict(list)
    for entry in content["annotations"]:
        line = _line(entry.get("id"))
        number, category = entry.get("image_id"), entry.get("category_id")
        if not _is_whole(number) or number not in films:
            message = f"image_id {number!r} is not among the images"
            findings.append(Finding(FindingKind.LABEL_WITHOUT_IMAGE, name, line, message))
            continue
        film = films[number]
        film_name = None if film is None else film.name
        if not _is_whole(category) or category not in categories:
            message = f"category_id {category!r} is not among the categories"
            findings.append(Finding(FindingKind.UNKNOWN_CLASS, name, line, message, film_name))
        else:
            try:
                box, measures = _parse_bbox(entry.get("bbox")), _parse_measures(entry)
            except ValueError as error:
                findings.append(Finding(FindingKind.BROKEN_LABEL, name, line, str(error), film_name))
                continue
            is_difficult = bool(entry.get("difficult") or entry.get("iscrowd"))
            annotations[number].append(Annotation(box, categories[category], name, line, is_difficult, measures))
    complete = [
        replace(film, annotations=tuple(annotations[number])) for number, film in films.items() if film is not None
    ]
    return categories, complete, findings


def _load(path: Path) -> dict[str, Any]:
    try:
        # What nobody reads, as outlines and scenes, would take most of the memory.
        content = json.loads(read_text(path), object_hook=_what_is_read)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: no valid JSON ({error.msg}); correct it") from None
    except ValueError as error:  # of whole numbers with thousands of digits
        raise DataError(f"{path}: no valid JSON ({error}); correct it") from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply; correct it") from None
    for key in _KEYS:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path}: {key} must be a list of objects, as COCO has it; correct it")
    return content


def _what_is_read(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop the other keys of an image or annotation while JSON is parsed."""
    if "image_id" in entry:
        return {key: entry[key] for key in _READ_OF_ANNOTATIONS if key in entry}
    if "file_name" in entry:
        return {key: entry[key] for key in _READ_OF_IMAGES if key in entry}
    return entry


def _read_categories(path: Path, entries: list[dict[str, Any]]) -> dict[int, str]:
    categories: dict[int, str] = {}
    names: set[str] = set()
    for entry in entries:
        number, name = entry.get("id"), entry.get("name")
        if not _is_whole(number) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: category {entry!r:.120} needs a whole id and a name; correct it")
        if number in categories or name in names:
            raise DataError(f"{path}: category id {number} or name {name!r:.80} is there twice; correct it")
        categories[number] = name
        names.add(name)
    return categories


def _image_folders(root: Path, path: Path, split: Split | None) -> list[Path]:
    """List where the images of a COCO file may lie, the folders of its split first."""
    split_names = SPLIT_FOLDERS[split] if split is not None else ()
    own = [path.stem.rpartition("_")[2], *split_names]  # instances_train2017.json goes with train2017/
    below = [*own, *(f"images/{name}" for name in own), ".", "images"]
    above = [folder for folder in (path.parent, path.parent.parent) if folder.is_relative_to(root)]
    return [folder / name for folder in [*above, root] for name in below]


def _read_image(
    root: Path, image_path: Path, image: Mapping[str, Any], file_split: Split | None
) -> AnnotatedRadiograph:
    """Check what a file says about an image; a ValueError says what is wrong."""
    if image.get("width") and image.get("height"):
        mismatch = size_mismatch(image_path, to_number(image["width"]), to_number(image["height"]))
        if mismatch is not None:
            raise ValueError(mismatch)
    split = file_split
    if image.get("split") is not None:
        split = split_of([str(image["split"])])
        if split is None:
            raise ValueError(f"split is {image['split']!r}; allowed: train, val, test")
    pitch = image.get("pixel_pitch_mm")
    pixel_pitch_mm = None if pitch is None else to_number(pitch)
    if pixel_pitch_mm is not None and pixel_pitch_mm <= 0:
        raise ValueError(f"pixel_pitch_mm is {pitch!r}; allowed: above 0")
    weld = None if image.get("weld") is None else str(image["weld"])
    if weld is not None and (NO_TEXT.search(weld) or len(weld) > LONGEST_NAME):
        raise ValueError(f"weld is {weld!r:.80}; allowed: text of at most {LONGEST_NAME} characters")
    return AnnotatedRadiograph(
        image_path=image_path,
        name=relative_name(image_path, root),
        annotations=(),
        split=split,
        weld=weld,
        pixel_pitch_mm=pixel_pitch_mm,
    )


def _parse_bbox(bbox: object) -> tuple[float, float, float, float]:
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"bbox: {bbox!r:.80} where [left, top, width, height] is expected")
    try:
        left, top, width, height = (to_number(value) for value in bbox)
    except ValueError as error:
        raise ValueError(f"bbox: {error}") from None
    return left, top, left + width, top + height


def _parse_measures(entry: Mapping[str, Any]) -> Measures:
    """Read the measures that the simulator writes, and anybody else may."""
    known: dict[str, float] = {}
    for key in MEASURES:
        if entry.get(key) is not None:
            try:
                known[key] = to_number(entry[key])
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
            if key.endswith("_mm") and known[key] <= 0:
                raise ValueError(f"{key}: {known[key]:g}; allowed: above 0")
    return Measures(**known)


def _is_whole(number: object) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool)


def _line(number: object) -> int | None:
    return number if _is_whole(number) else None

"""YOLO: one text file an image, one line a flaw, ``class cx cy width height`` in shares of the image.

``data.yaml`` names the classes and the folders of the splits. Its paths are often those of another computer: of each,
the longest end that exists below the data set's folder counts, else the usual folder names. Without ``data.yaml``,
folders ``images`` and ``labels`` are enough; class names then come from ``classes.txt``, or are ``class 0`` and so on.

A line with a polygon (``class x1 y1 x2 y2 x3 y3 ...``, as for segmentation) gives the polygon's bounding box. Class
ids start at 0 here and become names at once; the ids of the model are made elsewhere.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from defects_in_welds.boxes import cxcywh_to_xyxy
from defects_in_welds.data.annotation import (
    AnnotatedDataset,
    AnnotatedRadiograph,
    Annotation,
    DataError,
    Finding,
    FindingKind,
    Split,
)
from defects_in_welds.data.annotation_formats.folders import (
    SPLIT_FOLDERS,
    find_below,
    list_files,
    list_images,
    read_plain_yaml,
    read_text,
    relative_name,
    split_of,
    to_number,
)
from defects_in_welds.data.image_reading import read_image_hw

LOOKS_FOR = "data.yaml, or text files in a folder named labels"
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
_YAML_KEYS = {Split.TRAIN: ("train",), Split.VAL: ("val", "valid", "validation"), Split.TEST: ("test",)}
_LONGEST_LINE = 100_000  # characters: a polygon of thousands of points
_NOT_LABELS = {"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt"}


def recognises(root: Path) -> bool:
    """Tell whether a folder holds YOLO annotations."""
    return _find_config(root) is not None or any(
        path.parent.name == "labels" or "labels" in path.relative_to(root).parts
        for path in list_files(root, frozenset({".txt"}))
    )


def read(root: Path) -> AnnotatedDataset:
    """Read a YOLO data set.

    An image that two splits list is a finding and stays in the first of test, val, train. An image whose header cannot
    be read is left out with a finding, for its boxes have no size.

    Raises:
        DataError: If ``data.yaml`` is broken.
    """
    config_path = _find_config(root)
    config = {} if config_path is None else _read_config(config_path)
    findings: list[Finding] = []
    split_of_image = _assign_images(root, config_path, config, findings)
    names = _class_names(config_path, config, root)

    films = []
    label_paths = set()
    for image, split in sorted(split_of_image.items()):
        label = _label_path(image, root)
        label_paths.add(label)
        film, found = _read_film(root, image, label, split, names)
        films += [film] if film is not None else []
        findings += found
    for image in sorted(set(list_images(root)) - split_of_image.keys()):
        findings.append(
            Finding(FindingKind.IGNORED_FILE, relative_name(image, root), None, "in no split of data.yaml: not read")
        )
    for label in sorted(_labels_beside(label_paths) - label_paths):
        findings.append(
            Finding(FindingKind.LABEL_WITHOUT_IMAGE, relative_name(label, root), None, "no image has this name")
        )
    lists_classes = bool(names)
    if not lists_classes:  # neither data.yaml nor classes.txt: the ids in use
        names = _ids_in_use(films)
    return AnnotatedDataset(
        root,
        "yolo",
        tuple(names[number] for number in sorted(names)),
        tuple(sorted(films, key=lambda film: film.name)),
        tuple(findings),
        lists_classes,
    )


# --- data.yaml ----------------------------------------------------------------------------------------------------


def _find_config(root: Path) -> Path | None:
    """Find ``data.yaml`` in the folder, or in its one subfolder that has it."""
    for folders in ([root], sorted(path for path in root.glob("[!.]*") if path.is_dir())):
        found = [folder / name for folder in folders for name in _YAML_NAMES if (folder / name).is_file()]
        if len(found) > 1:
            raise DataError(f"{found[0]} and {found[1]}: several YOLO data sets; keep one below {root}")
        if found:
            return found[0]
    return None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_plain_yaml(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, reason = (f":{mark.line + 1}", "") if mark else ("", f" ({' '.join(str(error).split()):.80})")
        raise DataError(f"{path}{line}: no valid YAML{reason}; correct it") from None
    if not isinstance(config, dict):
        raise DataError(f"{path}: expected keys train, val and names; correct it")
    return config


def _class_names(config_path: Path | None, config: Mapping[str, Any], root: Path) -> dict[int, str]:
    """Map class ids to names; empty where nothing names them."""
    if config_path is None:
        return _listed_names(root)
    named = config.get("names")
    if isinstance(named, list):
        named = dict(enumerate(named))
    if not isinstance(named, dict) or not named:
        raise DataError(f"{config_path}: names must list the class names; correct it")
    try:
        names = {int(number): str(name).strip() for number, name in named.items()}
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{config_path}: the keys of names must be class ids; correct it") from None
    if len(set(names.values())) < len(named):
        raise DataError(f"{config_path}: names holds a name or an id twice; correct it")
    if config.get("nc", len(names)) != len(names):
        raise DataError(f"{config_path}: nc is {config['nc']!r:.80}, but names holds {len(names)} names; correct it")
    return names


def _listed_names(root: Path) -> dict[int, str]:
    """Read ``classes.txt``; labelling tools leave one in every folder, and each may have grown in its own order."""
    names: dict[int, str] = {}
    for path in list_files(root, frozenset({".txt"})):
        if path.name != "classes.txt":
            continue
        found = [name.strip() for name in read_text(path).strip().splitlines()]
        if len(set(found)) < len(found):
            raise DataError(f"{path}: holds a name twice; correct it")
        for number, name in enumerate(found):
            if names.setdefault(number, name) != name:
                raise DataError(
                    f"{path}:{number + 1}: class {number} is {name!r}, but {names[number]!r} in another classes.txt; "
                    "correct one"
                )
    return names


# --- images and their splits --------------------------------------------------------------------------------------


def _assign_images(
    root: Path, config_path: Path | None, config: Mapping[str, Any], findings: list[Finding]
) -> dict[Path, Split | None]:
    split_of_image: dict[Path, Split | None] = {}
    for split in (Split.TEST, Split.VAL, Split.TRAIN):
        for image in dict.fromkeys(_images_of_split(root, config_path, config, split, findings)):
            earlier = split_of_image.setdefault(image, split)
            if earlier is not split:
                findings.append(
                    Finding(
                        FindingKind.DUPLICATED_IMAGE,
                        relative_name(image, root),
                        None,
                        f"is listed in {split} as well as in {earlier}, where it stays",
                    )
                )
    if not split_of_image:
        base = _base(root, config_path)
        folder = base / "images"
        for image in list_images(folder if folder.is_dir() else base):
            split_of_image[image] = split_of(image.parent.relative_to(base).parts)
    return split_of_image


def _images_of_split(
    root: Path, config_path: Path | None, config: Mapping[str, Any], split: Split, findings: list[Finding]
) -> Iterator[Path]:
    base = _base(root, config_path)
    entry_or_list: Any = next((config[key] for key in _YAML_KEYS[split] if config.get(key)), [])
    entries = entry_or_list if isinstance(entry_or_list, list) else [entry_or_list]
    for entry in entries:
        named = [f"{config.get('path') or '.'}/{entry}", str(entry)]
        found = next(filter(None, (find_below([base, root], path) for path in named)), _usual_folder(base, split))
        if found is None:
            name = relative_name(config_path or base, root)
            message = f"{split}: {entry} does not exist below this folder: not read"
            findings.append(Finding(FindingKind.IGNORED_FILE, name, None, message))
        elif found.is_dir():
            yield from list_images(found)
        else:
            yield from _listed_images(root, found, findings)
    usual = _usual_folder(base, split)
    if not entries and usual is not None:
        yield from list_images(usual)


def _base(root: Path, config_path: Path | None) -> Path:
    return root if config_path is None else config_path.parent


def _usual_folder(base: Path, split: Split) -> Path | None:
    candidates = (
        base / pattern.format(name) for name in SPLIT_FOLDERS[split] for pattern in ("{}/images", "images/{}", "{}")
    )
    return next((folder for folder in candidates if folder.is_dir()), None)


def _listed_images(root: Path, listing: Path, findings: list[Finding]) -> Iterator[Path]:
    """Read a text file that names one image a line."""
    for line, text in enumerate(read_text(listing).splitlines(), start=1):
        if not text.strip():
            continue
        image = find_below([listing.parent, root], text.strip())
        if image is not None and image.is_file():
            yield image
        else:
            message = f"{text.strip()[:120]} does not exist below this folder"
            findings.append(Finding(FindingKind.LABEL_WITHOUT_IMAGE, relative_name(listing, root), line, message))


# --- label files --------------------------------------------------------------------------------------------------


def _label_path(image: Path, root: Path) -> Path:
    """Place the label file of an image: in ``labels`` where the image is in ``images``, else beside it."""
    parts = list(image.relative_to(root).parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _labels_beside(label_paths: set[Path]) -> set[Path]:
    return {
        label
        for folder in {path.parent for path in label_paths}
        for label in folder.glob("*.txt")
        if label.name.lower() not in _NOT_LABELS and not label.name.startswith(".")
    }


def _read_film(
    root: Path, image: Path, label: Path, split: Split | None, names: Mapping[int, str]
) -> tuple[AnnotatedRadiograph | None, list[Finding]]:
    name = relative_name(image, root)
    try:
        image_hw = read_image_hw(image)
    except DataError as error:
        reason = str(error).removeprefix(f"{image}: ")
        return None, [Finding(FindingKind.UNREADABLE_IMAGE, name, None, reason)]
    if not label.is_file():
        expected = relative_name(label, root)
        finding = Finding(FindingKind.IMAGE_WITHOUT_LABEL, name, None, f"{expected} does not exist")
        return AnnotatedRadiograph(image, name, (), split), [finding]
    annotations: list[Annotation] = []
    findings: list[Finding] = []
    label_name = relative_name(label, root)
    for line, text in enumerate(read_text(label).splitlines(), start=1):
        if not text.strip():
            continue
        try:
            number, box = _parse_line(text, image_hw)
        except ValueError as error:
            findings.append(Finding(FindingKind.BROKEN_LABEL, label_name, line, str(error), name))
            continue
        if names and number not in names:
            message = f"class {number} is not among the {len(names)} names of the data set"
            findings.append(Finding(FindingKind.UNKNOWN_CLASS, label_name, line, message, name))
            continue
        annotations.append(Annotation(box, names.get(number, f"class {number}"), label_name, line))
    return AnnotatedRadiograph(image, name, tuple(annotations), split), findings


def _parse_line(text: str, image_hw: tuple[int, int]) -> tuple[int, tuple[float, float, float, float]]:
    if len(text) > _LONGEST_LINE:
        raise ValueError(f"{len(text)} characters; a line may have {_LONGEST_LINE}")
    values = text.split()
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f"{len(values)} values where class cx cy width height, or a polygon, is expected")
    number, *shares = (to_number(value) for value in values)
    if number != int(number) or number < 0:
        raise ValueError(f"{values[0]!r:.80} is no class id")
    height, width = image_hw
    with np.errstate(over="ignore"):  # boxes of any size are judged later
        if len(shares) == 4:
            box = cxcywh_to_xyxy(np.array([shares]))[0]
        else:
            points = np.array(shares).reshape(-1, 2)
            box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        x0, y0, x1, y1 = (box * [width, height, width, height]).tolist()
    return int(number), (x0, y0, x1, y1)


def _ids_in_use(films: list[AnnotatedRadiograph]) -> dict[int, str]:
    used = {annotation.defect_class for film in films for annotation in film.annotations}
    return {int(name.removeprefix("class ")): name for name in used}

"""Pascal VOC: one XML file an image, with corners in pixels, counted from 1 and both inclusive.

So ``xmin ymin xmax ymax`` become ``xmin - 1, ymin - 1, xmax, ymax``. Some tools count from 0; their boxes come out one
pixel larger on the left and top, and one that then starts at -1 lies within the tolerance of the checks.

An XML file belongs to the image with its own name, else to the one that its ``filename`` names, in the nearest folder.
Splits come from ``ImageSets/Main/{train,val,test}.txt``, else from folder names. Class names are sorted. An image
without an XML file is taken as free of defects.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from defects_in_welds.data.annotation import (
    AnnotatedDataset,
    AnnotatedRadiograph,
    Annotation,
    Finding,
    FindingKind,
    Split,
)
from defects_in_welds.data.annotation_formats.folders import (
    list_files,
    list_images,
    read_text,
    relative_name,
    size_mismatch,
    split_of,
    to_number,
)

LOOKS_FOR = "XML files with an <annotation>"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def recognises(root: Path) -> bool:
    """Tell whether a folder holds Pascal VOC annotations."""
    return any("<annotation" in read_text(path) for path in list_files(root, frozenset({".xml"})))


def read(root: Path) -> AnnotatedDataset:
    """Read a Pascal VOC data set.

    An image whose XML file is broken, or gives another size than the image has, is left out with a finding: it must
    not pass for free of defects.

    Raises:
        DataError: If a file cannot be read.
    """
    images: list[Path] = []
    masks: list[Path] = []
    for image in list_images(root):
        is_mask = any(part.startswith("Segmentation") for part in image.relative_to(root).parts)
        (masks if is_mask else images).append(image)
    images_of_stem: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        images_of_stem[image.stem].append(image)
    split_of_stem, findings = _read_image_sets(root, images_of_stem)
    findings += [
        Finding(FindingKind.IGNORED_FILE, relative_name(mask, root), None, "a mask: not read") for mask in masks
    ]

    annotations_of: dict[Path, tuple[Annotation, ...] | None] = {}
    for path in list_files(root, frozenset({".xml"})):
        owner, annotations, found = _read_file(root, path, images_of_stem)
        findings += found
        if owner in annotations_of:
            film = relative_name(owner, root)
            message = f"{film} has another XML file, which counts"
            findings.append(Finding(FindingKind.BROKEN_LABEL, relative_name(path, root), None, message, film))
        elif owner is not None:
            annotations_of[owner] = annotations

    films = []
    for image in images:
        name = relative_name(image, root)
        if image not in annotations_of:
            findings.append(Finding(FindingKind.IMAGE_WITHOUT_LABEL, name, None, "no XML file belongs to it"))
        marked = annotations_of.get(image, ())
        if marked is not None:
            split = split_of_stem.get(image.stem) or split_of(image.parent.relative_to(root).parts)
            films.append(AnnotatedRadiograph(image, name, marked, split))
    classes = {annotation.defect_class for film in films for annotation in film.annotations}
    return AnnotatedDataset(root, "voc", tuple(sorted(classes)), tuple(films), tuple(findings), False)


def _read_image_sets(root: Path, images_of_stem: Mapping[str, object]) -> tuple[dict[str, Split], list[Finding]]:
    split_of_stem: dict[str, Split] = {}
    findings: list[Finding] = []
    for split in (Split.TEST, Split.VAL, Split.TRAIN):
        for path in sorted(root.rglob(f"ImageSets/Main/{split}.txt")):
            name = relative_name(path, root)
            for line, text in enumerate(read_text(path).splitlines(), start=1):
                stem = text.strip()
                if not stem:
                    continue
                if stem not in images_of_stem:
                    message = f"no image is named {stem[:120]!r}"
                    findings.append(Finding(FindingKind.LABEL_WITHOUT_IMAGE, name, line, message))
                elif split_of_stem.setdefault(stem, split) is not split:
                    message = f"{stem!r} is in {split_of_stem[stem]} as well, where it stays"
                    findings.append(Finding(FindingKind.DUPLICATED_IMAGE, name, line, message))
    return split_of_stem, findings


def _read_file(
    root: Path, path: Path, images_of_stem: Mapping[str, Sequence[Path]]
) -> tuple[Path | None, tuple[Annotation, ...] | None, list[Finding]]:
    """Read one XML file.

    Returns:
        The image that it belongs to, or None; its annotations, or None where the image must be left out; findings.
    """
    name = relative_name(path, root)
    namesake = _nearest(path, images_of_stem.get(path.stem, []))
    try:
        xml = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_PlainTreeBuilder()))  # noqa: S314 - a DOCTYPE, and so any entity, is refused
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last of an encoding that Python lacks
        line = getattr(error, "position", (None,))[0]
        return namesake, None, [Finding(FindingKind.BROKEN_LABEL, name, line, f"{error}; its image is left out")]
    if xml.tag != "annotation":
        return None, None, [Finding(FindingKind.IGNORED_FILE, name, None, "holds no <annotation>: not read")]
    named = re.split(r"[/\\]", xml.findtext("filename", "").strip())[-1]
    image = namesake or _nearest(path, images_of_stem.get(Path(named).stem, []))
    if image is None:
        message = f"no image is named {path.stem!r} or {named!r}"
        return None, None, [Finding(FindingKind.LABEL_WITHOUT_IMAGE, name, None, message)]
    try:
        width, height = (to_number(xml.findtext(f"size/{side}", "0")) for side in ("width", "height"))
        mismatch = size_mismatch(image, width, height) if width and height else None  # some tools write 0
    except ValueError as error:
        mismatch = f"size: {error}"
    if mismatch is not None:
        return image, None, [Finding(FindingKind.BROKEN_LABEL, name, None, f"{mismatch}; the image is left out")]
    return image, *_read_objects(xml, name, _object_lines(path), relative_name(image, root))


class _PlainTreeBuilder(ElementTree.TreeBuilder):
    """Refuses document types, which no annotation needs and which bombs of nested entities are made of."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse."""
        raise ValueError(f"has a DOCTYPE ({name}), which is refused")


def _nearest(path: Path, images: Sequence[Path]) -> Path | None:
    """Choose the image that shares the most folders with an XML file."""
    return max(images, key=lambda image: len(Path(os.path.commonpath([path, image])).parts), default=None)


def _object_lines(path: Path) -> list[int]:
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [line for line, text in lines for _ in re.finditer(r"<object\b", text)]


def _read_objects(
    xml: ElementTree.Element, name: str, lines: Sequence[int], film: str
) -> tuple[tuple[Annotation, ...], list[Finding]]:
    annotations: list[Annotation] = []
    findings: list[Finding] = []
    objects = xml.findall("object")
    for index, entry in enumerate(objects):
        line = lines[index] if len(lines) == len(objects) else None  # a comment may hold one more
        defect_class = entry.findtext("name", "").strip()
        try:
            if not defect_class:
                raise ValueError("an object has no name")
            x0, y0, x1, y1 = (to_number(entry.findtext(f"bndbox/{edge}")) for edge in _EDGES)
        except ValueError as error:
            findings.append(Finding(FindingKind.BROKEN_LABEL, name, line, str(error), film))
            continue
        is_difficult = entry.findtext("difficult", "0").strip() not in ("", "0", "false")
        annotations.append(Annotation((x0 - 1, y0 - 1, x1, y1), defect_class, name, line, is_difficult))
    return tuple(annotations), findings

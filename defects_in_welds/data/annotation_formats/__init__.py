"""The annotation formats: each module recognises and reads one; ``read_dataset`` chooses."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from defects_in_welds.data.annotation import AnnotatedDataset, AnnotatedRadiograph, DataError, Finding, FindingKind
from defects_in_welds.data.annotation_formats import coco, gdxray, voc, yolo
from defects_in_welds.data.annotation_formats.folders import LONGEST_NAME, NO_TEXT, refuse_links_out
from defects_in_welds.params import ParamsError
from defects_in_welds.taxonomy import RESERVED_NAMES


class AnnotationFormat(Protocol):
    """What each format's module offers."""

    LOOKS_FOR: str

    def recognises(self, root: Path) -> bool:
        """Tell whether a folder holds annotations of this format."""

    def read(self, root: Path) -> AnnotatedDataset:
        """Read the data set in a folder."""


FORMATS: dict[str, AnnotationFormat] = {"yolo": yolo, "coco": coco, "voc": voc, "gdxray": gdxray}


def read_dataset(root: Path, annotation_format: str = "auto", classes: Sequence[str] | None = None) -> AnnotatedDataset:
    """Read what a folder says about its radiographs.

    Args:
        root: Folder of the data set.
        annotation_format: Name of a format, or ``auto`` to recognise it.
        classes: Class names in order of their ids; annotations of other classes become findings. None takes the
            classes of the data set.

    Raises:
        ParamsError: If a class is named that the data set does not have.
        DataError: If the folder is missing or empty, its format cannot be told, or it holds no radiograph or no class,
            a class of a name that is reserved, no text or very long, or a link that leads out of it.
    """
    if not root.is_dir() or not any(root.glob("[!.]*")):
        raise DataError(f"{root}: no data; run `dvc pull`, or `python -m defects_in_welds simulate` for a sample")
    refuse_links_out(root)
    if annotation_format == "auto":
        annotation_format = _recognise(root)
    elif not FORMATS[annotation_format].recognises(root):
        looks_for = FORMATS[annotation_format].LOOKS_FOR
        raise DataError(f"{root}: no {annotation_format} annotations: {looks_for}; correct prepare.annotation_format")
    dataset = FORMATS[annotation_format].read(root)
    dataset = _leave_out_unwritable_names(dataset)
    first = dataset.findings[0] if dataset.findings else None
    reason = f"; {first.path}: {first.message}" if first else ""
    if not dataset.radiographs:
        raise DataError(f"{root}: no images that {annotation_format} annotations can be used with{reason}")
    if classes is not None:
        _require_known_classes(dataset, classes)
        dataset = _restrict(dataset, tuple(classes))
    if not dataset.defect_classes:
        raise DataError(
            f"{root}: the {annotation_format} annotations name no class; name them in prepare.classes{reason}"
        )
    if odd := [name for name in dataset.defect_classes if NO_TEXT.search(name)]:
        raise DataError(f"{root}: the name of a class, {odd[0]!r:.80}, holds characters that are no text; rename it")
    if long := [name for name in dataset.defect_classes if len(name) > LONGEST_NAME]:
        raise DataError(
            f"{root}: the name of a class, {long[0][:40]!r}…, has {len(long[0])} characters; give it at most "
            f"{LONGEST_NAME}"
        )
    if reserved := [name for name in dataset.defect_classes if name in RESERVED_NAMES]:
        raise DataError(
            f"{root}: a class is named {reserved[0]!r}, which means something else in the tables of results; rename "
            "it, or name the other classes in prepare.classes"
        )
    return dataset


def _recognise(root: Path) -> str:
    recognised = [name for name, annotation_format in FORMATS.items() if annotation_format.recognises(root)]
    if len(recognised) == 1:
        return recognised[0]
    if recognised:
        raise DataError(
            f"{root}: annotations in several formats ({', '.join(recognised)}); set prepare.annotation_format to one"
        )
    looked_for = ", ".join(f"{known.LOOKS_FOR} ({name})" for name, known in FORMATS.items())
    raise DataError(f"{root}: no annotations recognised; looked for {looked_for}; see prepare.annotation_format")


def _leave_out_unwritable_names(dataset: AnnotatedDataset) -> AnnotatedDataset:
    """Leave out films whose names are no UTF-8, as an old archive may unpack them: no JSON file could name them."""
    unwritable = [film for film in dataset.radiographs if not _is_utf8(film.name)]
    findings = [
        Finding(FindingKind.UNREADABLE_IMAGE, film.name, None, "its name is not UTF-8; rename it")
        for film in unwritable
    ]
    kept = tuple(film for film in dataset.radiographs if _is_utf8(film.name))
    return replace(dataset, radiographs=kept, findings=(*dataset.findings, *findings))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_known_classes(dataset: AnnotatedDataset, classes: Sequence[str]) -> None:
    """Refuse a name that the data set does not have: were it a misspelling, the flaws of that class would be lost.

    A data set that lists its classes has these and no others, whether or not a flaw of each is marked. Where it does
    not (VOC, YOLO without names), a class may only be waiting for its first flaw: its name passes, unless flaws of
    another class would be left out, which the name may have been meant for.
    """
    unknown = next((name for name in classes if name not in dataset.defect_classes), None)
    leaves_out = not set(dataset.defect_classes) <= set(classes)
    if unknown is not None and (dataset.lists_classes or leaves_out):
        raise ParamsError(
            f"params: prepare.classes holds {unknown!r}; allowed: the classes of the data set, "
            f"{', '.join(map(repr, dataset.defect_classes))}"
        )


def _restrict(dataset: AnnotatedDataset, classes: tuple[str, ...]) -> AnnotatedDataset:
    """Keep the annotations of some classes; each of the others becomes a finding."""
    radiographs: list[AnnotatedRadiograph] = []
    findings = list(dataset.findings)
    for film in dataset.radiographs:
        kept = tuple(annotation for annotation in film.annotations if annotation.defect_class in classes)
        radiographs.append(replace(film, annotations=kept))
        findings += [
            Finding(
                FindingKind.LEFT_OUT_CLASS,
                annotation.path,
                annotation.line,
                f"class {annotation.defect_class!r} is not among prepare.classes",
            )
            for annotation in film.annotations
            if annotation.defect_class not in classes
        ]
    return replace(dataset, defect_classes=classes, radiographs=tuple(radiographs), findings=tuple(findings))

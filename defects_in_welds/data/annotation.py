"""What a data set says about its radiographs, whatever format it is written in."""

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

from defects_in_welds.params import UserError


class DataError(UserError):
    """The data cannot be used; the message names the file, the line and what to do."""


class Split(StrEnum):
    """The part of the work that a radiograph serves."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class FindingKind(StrEnum):
    """What can be wrong with a data set. ``dataset_checks.py`` says what is done about each."""

    UNREADABLE_IMAGE = "unreadable_image"
    HIDDEN_BIT_DEPTH = "hidden_bit_depth"
    BROKEN_LABEL = "broken_label"
    UNKNOWN_CLASS = "unknown_class"
    LEFT_OUT_CLASS = "left_out_class"
    BOX_OUTSIDE_IMAGE = "box_outside_image"
    EMPTY_BOX = "empty_box"
    INVERTED_BOX = "inverted_box"
    REPEATED_ANNOTATION = "repeated_annotation"
    DUPLICATED_IMAGE = "duplicated_image"
    NEAR_DUPLICATE_ACROSS_SPLITS = "near_duplicate_across_splits"
    IMAGE_WITHOUT_LABEL = "image_without_label"
    LABEL_WITHOUT_IMAGE = "label_without_image"
    IGNORED_FILE = "ignored_file"


_LONGEST_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or worth knowing, in a data set.

    Attributes:
        kind: What it is.
        path: File, relative to the data set's folder.
        line: Line of that file, from 1; None where it concerns the whole file.
        message: One sentence with the offending value; of a very long one, its beginning.
        film: Name of the film that is marked wrongly; None where no annotation is wrong, or its film cannot be told.
    """

    kind: FindingKind
    path: str
    line: int | None
    message: str
    film: str | None = None

    def __post_init__(self) -> None:
        """Cut the message: a value of megabytes would fill the table of findings and the terminal."""
        if len(self.message) > _LONGEST_MESSAGE:
            object.__setattr__(self, "message", f"{self.message[:_LONGEST_MESSAGE]}…")


@dataclass(frozen=True, slots=True)
class Measures:
    """What is known of a flaw's body beside its box; None where unknown.

    Attributes:
        length_mm: Largest extent across the beam.
        width_mm: Extent across the beam and across the length.
        height_mm: Extent along the beam.
        contrast: Largest relative change of the radiation behind it.
        cnr: Contrast-to-noise ratio.
    """

    length_mm: float | None = None
    width_mm: float | None = None
    height_mm: float | None = None
    contrast: float | None = None
    cnr: float | None = None


NOT_MEASURED = Measures()

MEASURES = tuple(field.name for field in fields(Measures))


@dataclass(frozen=True, slots=True)
class Annotation:
    """One true flaw as somebody marked it, not yet checked.

    Attributes:
        box_xyxy: Half-open box as the file has it, in pixels; may be outside, empty or inverted.
        defect_class: Name of the class.
        path: File that holds it, relative to the data set's folder.
        line: Line in that file, from 1; for COCO JSON the annotation's id; None where the format has neither.
        difficult: Marked as hard to see: counts neither as a miss nor as a false call.
        measures: Where the format has them.
    """

    box_xyxy: tuple[float, float, float, float]
    defect_class: str
    path: str
    line: int | None = None
    difficult: bool = False
    measures: Measures = NOT_MEASURED


@dataclass(frozen=True, slots=True)
class AnnotatedRadiograph:
    """An image file and the flaws marked on it.

    Attributes:
        image_path: The file.
        name: Its path relative to the data set's folder, with forward slashes: unique, and the order of the films.
        annotations: In the order of the file; empty for a defect-free film.
        split: Where the data set itself puts it, or None.
        weld: The weld that it shows, where the data set says so: films of one weld stay in one split.
        pixel_pitch_mm: Where the annotations say it, in mm; it goes before the image file's own.
    """

    image_path: Path
    name: str
    annotations: tuple[Annotation, ...]
    split: Split | None = None
    weld: str | None = None
    pixel_pitch_mm: float | None = None


@dataclass(frozen=True)
class AnnotatedDataset:
    """A data set as read from its folder.

    Attributes:
        root: Its folder.
        annotation_format: Name of the format it was read as.
        defect_classes: Class names in order of their ids; the background is not among them.
        radiographs: Sorted by name.
        findings: What the reader found broken; nothing is passed over in silence.
        lists_classes: Whether it lists its classes itself; else ``defect_classes`` are those of its annotations.
    """

    root: Path
    annotation_format: str
    defect_classes: tuple[str, ...]
    radiographs: tuple[AnnotatedRadiograph, ...]
    findings: tuple[Finding, ...]
    lists_classes: bool

"""What can be wrong with a data set, and what is done about it: pure functions from findings to decisions.

``prepare.on_finding`` decides. ``fail`` stops at anything that corrupts training. ``drop`` leaves out the films that a
finding concerns: without one of its annotations, a film would teach that a flaw is none. ``keep`` repairs what can be
repaired and leaves out the rest. ``CHECKS`` says it for each kind.
"""

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from defects_in_welds import boxes
from defects_in_welds.data.annotation import AnnotatedRadiograph, Annotation, DataError, Finding, FindingKind, Split
from defects_in_welds.output_folder import replaced_file

_Box = tuple[float, float, float, float]

OVERSHOOT_TOLERANCE_PX = 1.0
"""Boxes that leave the image by no more than this are cut without a finding: rounding in the tools does that."""

_DETECTOR_BIT_DEPTHS = (10, 12)


@dataclass(frozen=True)
class Check:
    """What a kind of finding means.

    Attributes:
        corrupting: Whether training on it would be wrong, so that ``fail`` stops.
        drop: What ``drop`` does, in words.
        keep: What ``keep`` does, in words.
    """

    corrupting: bool
    drop: str
    keep: str


CHECKS = {
    FindingKind.UNREADABLE_IMAGE: Check(True, "image left out", "image left out"),
    FindingKind.HIDDEN_BIT_DEPTH: Check(True, "used as it is", "used as it is"),
    FindingKind.BROKEN_LABEL: Check(True, "image left out; the line alone where it names none", "annotation left out"),
    FindingKind.UNKNOWN_CLASS: Check(True, "image left out", "annotation left out"),
    FindingKind.LEFT_OUT_CLASS: Check(
        False, "annotation left out, as prepare.classes asks", "annotation left out, as prepare.classes asks"
    ),
    FindingKind.BOX_OUTSIDE_IMAGE: Check(True, "image left out", "box cut to the image; left out if wholly outside"),
    FindingKind.EMPTY_BOX: Check(True, "image left out", "annotation left out"),
    FindingKind.INVERTED_BOX: Check(True, "image left out", "edges exchanged"),
    FindingKind.REPEATED_ANNOTATION: Check(True, "second annotation left out", "second annotation left out"),
    FindingKind.DUPLICATED_IMAGE: Check(True, "one copy kept, from test before val before train", "all copies kept"),
    FindingKind.NEAR_DUPLICATE_ACROSS_SPLITS: Check(
        True, "one of the two kept, from test before val before train", "both kept"
    ),
    FindingKind.IMAGE_WITHOUT_LABEL: Check(False, "kept as defect-free", "kept as defect-free"),
    FindingKind.LABEL_WITHOUT_IMAGE: Check(True, "annotations left out", "annotations left out"),
    FindingKind.IGNORED_FILE: Check(False, "not read", "not read"),
}


def is_corrupting(kind: FindingKind) -> bool:
    """Tell whether training on such a finding would be wrong."""
    return CHECKS[kind].corrupting


def unreadable_image(film: AnnotatedRadiograph, error: DataError) -> Finding:
    """Turn the failure to read a film into a finding."""
    return Finding(FindingKind.UNREADABLE_IMAGE, film.name, None, str(error).removeprefix(f"{film.image_path}: "))


def hidden_bit_depth_findings(highest_level_of: Mapping[str, int]) -> tuple[Finding, ...]:
    """Report 16-bit films that together use no more than the levels of a 10-bit or 12-bit detector.

    Args:
        highest_level_of: Highest grey level of each film whose file has 16 bits and does not say how many it uses.

    Returns:
        One finding, at the film with the highest level, or none.
    """
    if not highest_level_of:
        return ()
    name = max(sorted(highest_level_of), key=highest_level_of.__getitem__)
    highest = highest_level_of[name]
    bit_depth = next((bits for bits in _DETECTOR_BIT_DEPTHS if highest < 2**bits), None)
    if bit_depth is None:
        return ()
    message = (
        f"no level of the {len(highest_level_of)} film(s) of 16 bits is above {highest}, the highest of this one: set "
        f"prepare.bit_depth={bit_depth}"
    )
    return (Finding(FindingKind.HIDDEN_BIT_DEPTH, name, None, message),)


def check_annotations(
    film: AnnotatedRadiograph, image_hw: tuple[int, int], on_finding: str
) -> tuple[tuple[Annotation, ...], tuple[Finding, ...]]:
    """Check the boxes of one film against the size of its image.

    Args:
        film: The film with its annotations as the file has them.
        image_hw: Height and width of its image, in pixels.
        on_finding: ``keep`` repairs inverted boxes and boxes outside the image; ``fail`` and ``drop`` leave them out,
            and ``drop`` with them, by `wrongly_marked`, the film.

    Returns:
        The annotations to use, with boxes that lie in the image and are not empty; and what was found.
    """
    kept: list[Annotation] = []
    findings: list[Finding] = []
    seen = set()
    for annotation in film.annotations:
        marked = (annotation.box_xyxy, annotation.defect_class)
        if marked in seen:
            message = f"box {_shown(annotation.box_xyxy)} of {annotation.defect_class!r} is there twice"
            findings.append(Finding(FindingKind.REPEATED_ANNOTATION, annotation.path, annotation.line, message))
            continue
        seen.add(marked)
        box, problems = _check_box(annotation.box_xyxy, image_hw)
        findings += [Finding(kind, annotation.path, annotation.line, message, film.name) for kind, message in problems]
        if box is not None and (on_finding == "keep" or not problems):
            kept.append(replace(annotation, box_xyxy=box))
    return tuple(kept), tuple(findings)


def wrongly_marked(findings: Iterable[Finding]) -> frozenset[str]:
    """Name the films of which an annotation is wrong: ``drop`` leaves them out."""
    return frozenset(finding.film for finding in findings if finding.film is not None)


def _check_box(box_xyxy: _Box, image_hw: tuple[int, int]) -> tuple[_Box | None, list[tuple[FindingKind, str]]]:
    """Repair a box; None where nothing of it can be kept."""
    height, width = image_hw
    shown = _shown(box_xyxy)
    problems = []
    x0, y0, x1, y1 = box_xyxy
    if x0 > x1 or y0 > y1:
        problems.append((FindingKind.INVERTED_BOX, f"box {shown} has its edges in the wrong order"))
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    if x0 == x1 or y0 == y1:
        return None, [*problems, (FindingKind.EMPTY_BOX, f"box {shown} has no area")]

    window = (0.0, 0.0, float(width), float(height))
    cut = boxes.clip(np.array([[x0, y0, x1, y1]]), window)
    overshoot = max(-x0, -y0, x1 - width, y1 - height)
    is_outside = boxes.areas(cut)[0] == 0
    if is_outside or overshoot > OVERSHOOT_TOLERANCE_PX:
        where = "lies outside" if is_outside else f"is {overshoot:g} px outside"
        problems.append((FindingKind.BOX_OUTSIDE_IMAGE, f"box {shown} {where} the image of {width}x{height} px"))
    left, top, right, bottom = cut[0].tolist()
    is_sliver = min(right - left, bottom - top) < boxes.LEAST_SIDE_PX
    if is_sliver and not is_outside:
        message = f"box {shown} has a side of less than {boxes.LEAST_SIDE_PX:g} px in the image"
        problems.append((FindingKind.EMPTY_BOX, message))
    return (None if is_sliver else (left, top, right, bottom)), problems


def _shown(box_xyxy: _Box) -> str:
    return "({:g}, {:g}, {:g}, {:g})".format(*box_xyxy)


def file_sha256(path: Path) -> str:
    """Hash the bytes of a file, in hexadecimal digits.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def duplicate_groups(sha256_of: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Find films whose files are the same to the byte.

    Args:
        sha256_of: Hash of the file for each film's name.

    Returns:
        The names of each group of two or more, sorted.
    """
    names_of: dict[str, list[str]] = defaultdict(list)
    for name in sorted(sha256_of):
        names_of[sha256_of[name]].append(name)
    return tuple(sorted(tuple(names) for names in names_of.values() if len(names) > 1))


def duplicate_findings(groups: Iterable[Sequence[str]]) -> tuple[Finding, ...]:
    """Report each copy of a film beyond the first by name."""
    return tuple(
        Finding(FindingKind.DUPLICATED_IMAGE, name, None, f"the file is a copy of {group[0]}")
        for group in groups
        for name in group[1:]
    )


def near_duplicate_findings(pairs: Iterable[tuple[str, str]], split_of: Mapping[str, Split]) -> tuple[Finding, ...]:
    """Report pairs of films that look the same and serve different splits."""
    return tuple(
        Finding(
            FindingKind.NEAR_DUPLICATE_ACROSS_SPLITS,
            name,
            None,
            f"looks the same as {other} (perhaps mirrored or turned), but one is in {split_of[name]} and the other in "
            f"{split_of[other]}",
        )
        for name, other in pairs
    )


def copies_to_leave_out(groups: Iterable[Sequence[str]], split_of: Mapping[str, Split]) -> frozenset[str]:
    """Choose which of the films that show the same are left out by ``drop``.

    The test keeps its copy, then validation, then training: the numbers that are reported stay comparable, and no film
    is seen in training that is judged later. Within a split the first by name stays.

    Args:
        groups: Groups of duplicates, or pairs of near-duplicates, by name.
        split_of: The split of each film.
    """
    order = [Split.TEST, Split.VAL, Split.TRAIN]
    left_out: set[str] = set()
    for group in groups:
        present = sorted((name for name in group if name not in left_out), key=lambda n: (order.index(split_of[n]), n))
        left_out.update(present[1:])
    return frozenset(left_out)


def raise_on_findings(findings: Iterable[Finding], on_finding: str, checks_path: Path) -> None:
    """Stop where ``prepare.on_finding`` is ``fail`` and something corrupts training.

    Args:
        findings: All findings of the data set.
        on_finding: ``fail``, ``drop`` or ``keep``.
        checks_path: Where the user finds them all.

    Raises:
        DataError: One line with the counts by kind, the first finding and the remedy.
    """
    corrupting = sorted((finding for finding in findings if is_corrupting(finding.kind)), key=_order)
    if on_finding != "fail" or not corrupting:
        return
    counts = Counter(finding.kind for finding in corrupting)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    first = corrupting[0]
    place = first.path if first.line is None else f"{first.path}:{first.line}"
    raise DataError(
        f"data: {kinds}; the first: {place}: {first.message}; all are in {checks_path}; correct the data, or set "
        "prepare.on_finding=drop (leave out the images that it concerns) or prepare.on_finding=keep (keep what can be "
        "kept)"
    )


CHECKS_NAME = "checks.csv"
"""Of the table of findings that lies beside what was made of the films."""


def write_checks(findings: Iterable[Finding], on_finding: str, path: Path) -> None:
    """Write the findings as a CSV table, whole or not at all.

    Args:
        findings: All findings of the data set.
        on_finding: ``fail``, ``drop`` or ``keep``: what the column ``action`` speaks of.
        path: The table.
    """
    # A file name that is no UTF-8 is written escaped.
    with (
        replaced_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["kind", "corrupting", "path", "line", "action", "message"])
        for finding in sorted(findings, key=_order):
            corrupting = str(is_corrupting(finding.kind)).lower()
            action = _action(finding.kind, on_finding)
            table.writerow([finding.kind, corrupting, finding.path, finding.line, action, finding.message])


def _order(finding: Finding) -> tuple[str, str, int, str]:
    return finding.kind, finding.path, finding.line or 0, finding.message


def _action(kind: FindingKind, on_finding: str) -> str:
    check = CHECKS[kind]
    if on_finding == "keep":
        return check.keep
    return "stopped" if on_finding == "fail" and check.corrupting else check.drop

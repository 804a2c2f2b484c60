import csv
import hashlib
from pathlib import Path

import pytest

from defects_in_welds.data.annotation import (
    AnnotatedRadiograph,
    Annotation,
    DataError,
    Finding,
    FindingKind,
    Split,
)
from defects_in_welds.data.dataset_checks import (
    CHECKS,
    check_annotations,
    copies_to_leave_out,
    duplicate_findings,
    duplicate_groups,
    file_sha256,
    hidden_bit_depth_findings,
    is_corrupting,
    near_duplicate_findings,
    raise_on_findings,
    unreadable_image,
    write_checks,
)


def film(*boxes: tuple[float, float, float, float]) -> AnnotatedRadiograph:
    annotations = (Annotation(box, "pore", "film.txt", line) for line, box in enumerate(boxes, start=1))
    return AnnotatedRadiograph(Path("film.png"), "film.png", tuple(annotations))


def check_box(box: tuple[float, float, float, float], on_finding: str) -> tuple[list, list[FindingKind]]:
    annotations, findings = check_annotations(film(box), (50, 100), on_finding)
    return [annotation.box_xyxy for annotation in annotations], [finding.kind for finding in findings]


def test_every_kind_of_finding_has_its_check():
    assert set(CHECKS) == set(FindingKind)


def test_what_the_user_asks_for_and_defect_free_images_do_not_corrupt_training():
    harmless = {kind for kind in FindingKind if not is_corrupting(kind)}
    assert harmless == {FindingKind.LEFT_OUT_CLASS, FindingKind.IMAGE_WITHOUT_LABEL, FindingKind.IGNORED_FILE}


def test_boxes_in_the_image_pass_unchanged():
    assert check_box((0, 0, 100, 50), "fail") == ([(0, 0, 100, 50)], [])


def test_the_smallest_box_passes():
    assert check_box((99.5, 5, 100.9, 5.5), "fail") == ([(99.5, 5, 100, 5.5)], [])


@pytest.mark.parametrize("box", [(-0.4, -1.0, 100.4, 51.0), (-1, 0, 100, 50)])
def test_boxes_that_overshoot_by_rounding_are_cut_without_a_finding(box):
    assert check_box(box, "fail") == ([(0, 0, 100, 50)], [])


@pytest.mark.parametrize(
    ("box", "kept", "kind"),
    [
        ((-1.1, 5, 10, 20), (0, 5, 10, 20), FindingKind.BOX_OUTSIDE_IMAGE),
        ((90, 40, 120, 70), (90, 40, 100, 50), FindingKind.BOX_OUTSIDE_IMAGE),
        ((120, 5, 130, 20), None, FindingKind.BOX_OUTSIDE_IMAGE),
        ((100, 5, 100.5, 20), None, FindingKind.BOX_OUTSIDE_IMAGE),
        ((10, 5, 10, 20), None, FindingKind.EMPTY_BOX),
        ((10, 5, 20, 5), None, FindingKind.EMPTY_BOX),
        ((10, 5, 10.49, 20), None, FindingKind.EMPTY_BOX),
        ((99.6, 5, 100.9, 20), None, FindingKind.EMPTY_BOX),  # cut without a finding of its own, but to a sliver
        ((20, 5, 10, 20), (10, 5, 20, 20), FindingKind.INVERTED_BOX),
        ((10, 20, 20, 5), (10, 5, 20, 20), FindingKind.INVERTED_BOX),
    ],
)
def test_wrong_boxes_are_left_out_or_repaired(box, kept, kind):
    assert check_box(box, "drop") == ([], [kind])
    assert check_box(box, "fail") == ([], [kind])
    assert check_box(box, "keep") == ([] if kept is None else [kept], [kind])


def test_a_box_can_be_wrong_in_two_ways():
    kinds = [FindingKind.INVERTED_BOX, FindingKind.BOX_OUTSIDE_IMAGE]
    assert check_box((120, 5, 90, 20), "keep") == ([(90, 5, 100, 20)], kinds)


def test_an_annotation_that_is_there_twice_counts_once():
    annotations, findings = check_annotations(film((1, 2, 3, 4), (1, 2, 3, 4)), (50, 100), "keep")
    assert [annotation.line for annotation in annotations] == [1]
    assert [(finding.kind, finding.line) for finding in findings] == [(FindingKind.REPEATED_ANNOTATION, 2)]


def test_findings_name_file_and_line():
    _, (finding,) = check_annotations(film((1, 2, 3, 4), (1, 2, 200, 4)), (50, 100), "fail")
    assert (finding.path, finding.line) == ("film.txt", 2)
    assert finding.message == "box (1, 2, 200, 4) is 100 px outside the image of 100x50 px"


@pytest.mark.parametrize(
    ("highest", "bit_depth"), [(0, 10), (1023, 10), (1024, 12), (4095, 12), (4096, None), (65535, None)]
)
def test_12_bits_in_16_are_found_over_all_films(highest, bit_depth):
    found = hidden_bit_depth_findings({"a.png": 0, "b.png": highest, "c.png": highest})
    assert [finding.message.rpartition("=")[2] for finding in found] == ([] if bit_depth is None else [f"{bit_depth}"])
    assert hidden_bit_depth_findings({}) == ()


def test_copies_are_found_by_their_bytes(tmp_path):
    for name, content in {"a": b"1", "b": b"2", "c": b"1", "d": b"1"}.items():
        (tmp_path / name).write_bytes(content)
    hashes = {name: file_sha256(tmp_path / name) for name in "dcba"}
    assert hashes["a"] == hashlib.sha256(b"1").hexdigest()
    groups = duplicate_groups(hashes)
    assert groups == (("a", "c", "d"),)
    assert [finding.path for finding in duplicate_findings(groups)] == ["c", "d"]


def test_hash_of_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        file_sha256(tmp_path / "film.png")


@pytest.mark.parametrize(
    ("groups", "left_out"),
    [
        ([("train1", "val1", "test1")], {"train1", "val1"}),
        ([("train1", "train2")], {"train2"}),
        ([("train1", "val1"), ("test1", "val1")], {"train1", "val1"}),
        ([("train1", "test1"), ("train1", "train2")], {"train1"}),
        ([], set()),
    ],
)
def test_the_judging_split_keeps_its_copy(groups, left_out):
    split_of = {"train1": Split.TRAIN, "train2": Split.TRAIN, "val1": Split.VAL, "test1": Split.TEST}
    assert copies_to_leave_out(groups, split_of) == left_out


def test_near_duplicates_name_both_films_and_splits():
    split_of = {"a": Split.TRAIN, "b": Split.VAL}
    (finding,) = near_duplicate_findings([("a", "b")], split_of)
    assert finding.path == "a"
    message = "looks the same as b (perhaps mirrored or turned), but one is in train and the other in val"
    assert finding.message == message


FINDINGS = (
    Finding(FindingKind.IMAGE_WITHOUT_LABEL, "b.png", None, "no label"),
    Finding(FindingKind.EMPTY_BOX, "a.txt", 3, "box has no area"),
    Finding(FindingKind.EMPTY_BOX, "a.txt", 1, "box, with a comma"),
    unreadable_image(film(), DataError("film.png: cut short")),
)


def test_fail_counts_the_findings_and_says_what_to_do():
    with pytest.raises(DataError) as caught:
        raise_on_findings(FINDINGS, "fail", Path("checks.csv"))
    assert str(caught.value) == (
        "data: 2 empty_box, 1 unreadable_image; the first: a.txt:1: box, with a comma; all are in checks.csv; correct "
        "the data, or set prepare.on_finding=drop (leave out the images that it concerns) or prepare.on_finding=keep "
        "(keep what can be kept)"
    )


@pytest.mark.parametrize("on_finding", ["drop", "keep"])
def test_drop_and_keep_go_on(on_finding):
    raise_on_findings(FINDINGS, on_finding, Path("checks.csv"))


def test_what_does_not_corrupt_goes_on():
    raise_on_findings(FINDINGS[:1], "fail", Path("checks.csv"))


@pytest.mark.parametrize(
    ("on_finding", "action"), [("fail", "stopped"), ("drop", "image left out"), ("keep", "annotation left out")]
)
def test_checks_are_a_sorted_table(tmp_path, on_finding, action):
    table = tmp_path / "prepared" / "checks.csv"
    write_checks(FINDINGS, on_finding, table)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:3] == [
        ["kind", "corrupting", "path", "line", "action", "message"],
        ["empty_box", "true", "a.txt", "1", action, "box, with a comma"],
        ["empty_box", "true", "a.txt", "3", action, "box has no area"],
    ]
    assert rows[3] == ["image_without_label", "false", "b.png", "", "kept as defect-free", "no label"]
    assert list(table.parent.iterdir()) == [table]

import math

import pytest
from films import make_film

from defects_in_welds.data.annotation import DataError
from defects_in_welds.evaluation.matching import match
from defects_in_welds.evaluation.report.acceptance import judge_films, read_limits

CLASSES = ("crack", "gas pore")
LIMITS = {"B": {"crack": 0.0, "gas pore": 2.0}, "C": {"gas pore": 3.0}}


def judge(flaws, found, min_score=0.5, **film):
    (judgement,) = judge_films(match([make_film(flaws, found, **film)], CLASSES, "iou", 0.5), LIMITS, min_score)
    return judgement


def test_limits_are_read(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("levels:\n  B: {crack: 0, gas pore: 2.0}\n  C: {gas pore: 3}\n")
    assert read_limits(path, CLASSES) == LIMITS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levels: {B: {crak: 0}}", r"limits\.yaml: levels\.B names the class 'crak'; the data has: crack, gas pore"),
        ("levels: {B: {crack: large}}", r"levels\.B\.crack is 'large'; allowed: a length in mm, 0 or more"),
        ("levels: {B: {crack: true}}", r"levels\.B\.crack is True"),
        ("levels: {B: {crack: -1}}", r"levels\.B\.crack is -1; allowed"),
        ("levels: {B: {crack: .inf}}", r"levels\.B\.crack is inf; allowed"),
        ("levels: {B: {crack: .nan}}", r"levels\.B\.crack is nan; allowed"),
        ("levels: {B: 2}", r"levels\.B holds 2 where a table is expected"),
        ("levels: [B]", r"levels holds \['B'\] where a table is expected"),
        ("levels: {B: {crack: 0}}\nlevel: 1", r"unknown key level; allowed: levels"),
        ("", r"the file holds None where a table"),
        ("{", r"limits\.yaml: no YAML \("),
        ("levels: {B: {crack: 2020-13-45}}", r"limits\.yaml: no YAML \(month must be in 1\.\.12"),
    ],
)
def test_what_is_no_table_of_limits_is_refused(tmp_path, text, message):
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_limits(path, CLASSES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"limits\.yaml: cannot be read \(No such file.*set report\.acceptance"):
        read_limits(tmp_path / "limits.yaml", CLASSES)


def test_a_limit_may_be_reached_but_not_exceeded():
    assert judge([(0, 0, 20, 5, 2, False)], []).by_flaws == ()
    assert judge([(0, 0, 21, 5, 2, False)], []).by_flaws == ("B",)
    assert judge([(0, 0, 5, 31, 2, False)], []).by_flaws == ("B", "C")


def test_a_limit_of_zero_allows_none_and_a_class_without_limit_any():
    assert judge([(0, 0, 1, 1, 1, False)], []).by_flaws == ("B",)


def test_reports_count_from_the_threshold_and_difficult_flaws_too():
    judgement = judge([(0, 0, 90, 5, 2, True)], [(0, 0, 40, 5, 2, 0.4)])
    assert (judgement.by_flaws, judgement.by_reports) == (("B", "C"), ())
    assert judge([], [(0, 0, 40, 5, 2, 0.5)]).by_reports == ("B", "C")


def test_the_length_of_a_flaw_goes_before_that_of_its_box():
    assert judge([(0, 0, 90, 5, 2, False)], [], length_mm=[1.5]).by_flaws == ()
    assert judge([(0, 0, 90, 5, 2, False)], [], length_mm=[math.nan]).by_flaws == ("B", "C")


def test_without_a_pixel_pitch_only_a_limit_of_zero_can_be_exceeded():
    judgement = judge([(0, 0, 90, 5, 2, False)], [(0, 0, 90, 5, 1, 0.9)], pixel_pitch_mm=None)
    assert (judgement.by_flaws, judgement.by_reports, judgement.unknown) == ((), ("B",), True)
    assert not judge([], [], pixel_pitch_mm=None).unknown

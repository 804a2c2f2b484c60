import numpy as np
from films import films, make_film
from hypothesis import given, settings
from slow_coco import slow_matches

from defects_in_welds import boxes
from defects_in_welds.evaluation.matching import match_film


def match(flaws, found):
    film = make_film(flaws, found)
    return match_film(film.truth, film.detections)


def test_hits_misses_and_false_calls():
    flaws = [(0, 0, 10, 10, 1, False), (50, 0, 60, 10, 1, False)]
    matches = match(flaws, [(0, 0, 10, 9, 1, 0.9), (80, 0, 90, 10, 1, 0.8)])
    assert matches.is_found.tolist() == [True, False]
    assert matches.is_missed.tolist() == [False, True]
    assert matches.is_hit.tolist() == [True, False]
    assert matches.is_false_call.tolist() == [False, True]


def test_the_second_detection_of_a_flaw_is_a_false_call_whatever_fits_better():
    matches = match([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 10, 1, 0.4), (0, 0, 10, 8, 1, 0.9)])
    assert matches.is_hit.tolist() == [False, True]
    assert matches.is_false_call.tolist() == [True, False]


def test_the_wrong_class_finds_nothing():
    matches = match([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 10, 2, 0.9)])
    assert matches.is_missed.tolist() == [True]
    assert matches.is_false_call.tolist() == [True]


def test_a_missed_flaw_that_is_reported_under_another_class_is_misnamed():
    flaws = [(0, 0, 10, 10, 1, False), (50, 0, 60, 10, 1, False), (80, 0, 90, 10, 1, False)]
    matches = match(flaws, [(0, 0, 10, 9, 2, 0.9), (50, 0, 60, 10, 1, 0.8), (80, 0, 90, 4, 2, 0.7)])
    assert matches.is_misnamed.tolist() == [True, False, False]
    assert matches.is_missed.tolist() == [True, False, True]
    assert matches.is_false_call.tolist() == [True, False, True]


def test_one_report_misnames_one_flaw_and_never_a_found_or_difficult_one():
    near = [(0, 0, 10, 10, 1, False), (0, 0, 10, 9, 1, False)]
    assert match(near, [(0, 0, 10, 10, 2, 0.9)]).is_misnamed.tolist() == [True, False]
    found = match(near[:1], [(0, 0, 10, 10, 1, 0.8), (0, 0, 10, 10, 2, 0.9)])
    assert found.is_found.tolist() == [True]
    assert found.is_misnamed.tolist() == [False]
    assert match([(0, 0, 10, 10, 1, True)], [(0, 0, 10, 10, 2, 0.9)]).is_misnamed.tolist() == [False]


def test_half_the_overlap_is_enough_and_less_is_not():
    assert match([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 5, 1, 0.9)]).is_hit.tolist() == [True]
    assert match([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 4.9, 1, 0.9)]).is_hit.tolist() == [False]


def test_difficult_flaws_are_neither_found_nor_missed_nor_do_they_make_false_calls():
    flaws = [(0, 0, 100, 10, 1, True)]
    matches = match(flaws, [(0, 0, 10, 10, 1, 0.9), (20, 0, 30, 10, 1, 0.8), (20, 0, 30, 10, 2, 0.7)])
    assert not matches.is_found.any()
    assert not matches.is_missed.any()
    assert not matches.is_hit.any()
    assert matches.is_false_call.tolist() == [False, False, True]


@settings(deadline=None, max_examples=100)
@given(films())
def test_counts_agree_with_the_slow_implementation_of_cocos_rule(film):
    matches = match_film(film.truth, film.detections)
    for label in (1, 2):
        outcomes, flaws = slow_matches(film, label, 0.5, 100)
        of_class = film.detections.labels == label
        hits = sum(is_hit for _, is_hit in outcomes)
        assert matches.is_hit[of_class].sum() == matches.is_found[film.truth.labels == label].sum() == hits
        assert matches.is_false_call[of_class].sum() == len(outcomes) - hits
        assert matches.is_missed[film.truth.labels == label].sum() == flaws - hits


@settings(deadline=None, max_examples=50)
@given(films())
def test_misnamed_flaws_are_missed_ones_that_a_false_call_of_another_class_overlaps_well(film):
    matches = match_film(film.truth, film.detections)
    is_near = boxes.iou(film.detections.boxes_xyxy, film.truth.boxes_xyxy) >= 0.5
    is_other_class = film.detections.labels[:, None] != film.truth.labels[None, :]
    could_be = (is_near & is_other_class & matches.is_false_call[:, None]).any(axis=0) & matches.is_missed
    assert not (matches.is_misnamed & ~could_be).any()
    assert matches.is_misnamed.any() == could_be.any()


@settings(deadline=None, max_examples=50)
@given(films())
def test_leaving_out_weak_detections_does_not_change_what_the_strong_ones_found(film):
    strong = film.detections.scores >= 0.5
    np.testing.assert_array_equal(
        match_film(film.truth, film.detections[strong]).is_hit, match_film(film.truth, film.detections).is_hit[strong]
    )

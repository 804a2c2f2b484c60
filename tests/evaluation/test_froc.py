import math

import numpy as np
import pytest
from films import films, make_film
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slow_coco import slow_matches

from defects_in_welds.evaluation.froc import choose_threshold, froc, recall_at
from defects_in_welds.evaluation.matching import match

CLASSES = ("crack", "pore")
several_films = st.lists(films(), max_size=4)

# A film of 20 mm with two flaws: found at 0.75 and 0.5, with false calls at 0.75 and, twice, at 0.25.
FLAWS = [(0, 0, 10, 10, 1, False), (50, 0, 60, 10, 2, False)]
FOUND = [
    (0, 0, 10, 10, 1, 0.75),
    (90, 0, 95, 5, 2, 0.75),
    (50, 0, 60, 10, 2, 0.5),
    (90, 20, 95, 25, 1, 0.25),
    (90, 40, 95, 45, 1, 0.25),
]


def table_of(*results):
    return match(results, CLASSES, "iou", 0.5)


def slow_froc(results, labels):
    """(threshold, found, false calls) at each score: leave out the weaker detections, and match anew."""
    scores = {score for film in results for label in labels for score, _ in slow_matches(film, label, 0.5, 100)[0]}
    points = []
    for threshold in sorted(scores, reverse=True):
        outcomes = [
            is_hit
            for film in results
            for strong in [film.detections[film.detections.scores >= threshold]]
            for label in labels
            for _, is_hit in slow_matches(
                make_film(
                    np.column_stack([film.truth.boxes_xyxy, film.truth.labels, film.truth.is_difficult]),
                    np.column_stack([strong.boxes_xyxy, strong.labels, strong.scores]),
                ),
                label,
                0.5,
                100,
            )[0]
        ]
        points.append((threshold, sum(outcomes), len(outcomes) - sum(outcomes)))
    return points


@settings(max_examples=150)
@given(several_films, st.sampled_from([None, *CLASSES]))
def test_agrees_with_a_slow_and_obvious_implementation(results, name):
    labels = [1, 2] if name is None else [CLASSES.index(name) + 1]
    points = slow_froc(results, labels)
    curve = froc(table_of(*results), name)
    assert list(zip(curve.thresholds, curve.found, curve.false_calls, strict=True)) == points
    flaws = sum(slow_matches(film, label, 0.5, 100)[1] for film in results for label in labels)
    assert curve.flaws == flaws
    if flaws:
        np.testing.assert_allclose(curve.recall, [found / flaws for _, found, _ in points])
    else:
        assert np.isnan(curve.recall).all()
    if results:
        false_calls = np.array([count for _, _, count in points])
        np.testing.assert_allclose(curve.false_calls_per_film, false_calls / len(results))
        np.testing.assert_allclose(curve.false_calls_per_metre, false_calls / (0.02 * len(results)))


@settings(max_examples=50)
@given(several_films)
def test_the_order_of_the_films_does_not_matter(results):
    curves = [froc(table_of(*order)) for order in (results, results[::-1])]
    for ours, theirs in zip(*(vars(curve).values() for curve in curves), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=100)
@given(st.lists(films(), min_size=1, max_size=4), st.sampled_from([0, 30, 50, 100, 1e6]))
def test_the_chosen_threshold_is_the_lowest_score_that_keeps_to_the_rate(results, rate):
    table = table_of(*results)
    assume(len(froc(table).thresholds))
    point = choose_threshold(table, rate)
    metres = 0.02 * len(results)
    assert point.false_calls_per_metre == pytest.approx(table.is_false_call(point.threshold).sum() / metres)
    assert point.false_calls_per_metre <= rate
    counted = table.detections["score"][~table.detections["ignored"]]
    weaker = counted[counted < point.threshold]
    if len(weaker):
        assert table.is_false_call(weaker.max()).sum() / metres > rate


def test_detections_of_the_same_score_come_together():
    curve = froc(table_of(make_film(FLAWS, FOUND)))
    assert curve.thresholds.tolist() == [0.75, 0.5, 0.25]
    assert curve.recall.tolist() == [0.5, 1, 1]
    assert curve.false_calls.tolist() == [1, 1, 3]
    assert curve.false_calls_per_film.tolist() == [1, 1, 3]
    np.testing.assert_allclose(curve.false_calls_per_metre, [50, 50, 150])


def test_films_without_detections_count_among_the_films():
    curve = froc(table_of(make_film(FLAWS, FOUND), make_film([], [], name="b.png", image_hw=(600, 100))))
    assert curve.false_calls_per_film.tolist() == [0.5, 0.5, 1.5]
    np.testing.assert_allclose(curve.false_calls_per_metre, [12.5, 12.5, 37.5])


def test_difficult_flaws_and_detections_of_them_count_nowhere():
    curve = froc(table_of(make_film([(0, 0, 10, 10, 1, True)], [(0, 0, 10, 10, 1, 0.9)])))
    assert curve.flaws == len(curve.thresholds) == 0


def test_one_film_of_unknown_pitch_leaves_no_rate_per_metre():
    table = table_of(make_film(FLAWS, FOUND), make_film(FLAWS, FOUND, name="b.png", pixel_pitch_mm=None))
    assert froc(table).false_calls_per_metre is None
    assert froc(table).false_calls_per_film.tolist() == [1, 1, 3]
    assert choose_threshold(table, 10) is None
    assert recall_at(froc(table), [1]) is None


def test_no_films_and_no_detections_choose_nothing():
    assert choose_threshold(table_of(), 10) is None
    assert froc(table_of()).false_calls_per_metre is None
    silent = table_of(make_film(FLAWS, []))
    assert choose_threshold(silent, 10) is None
    assert recall_at(froc(silent), [1, 30]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("rate", "threshold", "recall"), [(1000, 0.25, 1), (150, 0.25, 1), (149, 0.5, 1), (50, 0.5, 1), (49, None, 0)]
)
def test_the_threshold_for_a_rate(rate, threshold, recall):
    table = table_of(make_film(FLAWS, FOUND))
    point = choose_threshold(table, rate)
    assert point.recall == recall
    if threshold is None:
        assert point.threshold > 0.75
        assert np.float32(point.threshold) > np.float32(0.75)
        assert (point.false_calls_per_film, point.false_calls_per_metre) == (0, 0)
    else:
        assert point.threshold == threshold


def test_films_without_flaws_choose_a_threshold_but_have_no_recall():
    table = table_of(make_film([], FOUND))
    assert choose_threshold(table, 100).threshold == 0.5 + 0.25
    assert math.isnan(choose_threshold(table, 100).recall)
    assert math.isnan(choose_threshold(table, 0).recall)
    assert np.isnan(recall_at(froc(table), [0, 1000])).all()


def test_recall_at_rates():
    curve = froc(table_of(make_film(FLAWS, FOUND)))
    assert recall_at(curve, [1, 50, 100, 1000]).tolist() == [0, 1, 1, 1]
    assert recall_at(froc(table_of(make_film(FLAWS, FOUND)), "crack"), [0, 1000]).tolist() == [1, 1]

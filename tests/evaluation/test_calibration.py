import numpy as np
import pytest
from films import films, make_film
from hypothesis import given, settings
from hypothesis import strategies as st

from defects_in_welds.evaluation.calibration import measure_calibration
from defects_in_welds.evaluation.matching import match

CLASSES = ("crack", "pore")


def calibration(results, bin_count=10):
    return measure_calibration(match(results, CLASSES, "iou", 0.5), bin_count)


def film_with_scores(hits, false_calls):
    """Flaws found with the first scores, and false calls with the second."""
    flaws = [(10 * i, 0, 10 * i + 8, 8, 1, False) for i in range(len(hits))]
    found = [(*flaw[:5], score) for flaw, score in zip(flaws, hits, strict=True)]
    found += [(10 * i, 50, 10 * i + 8, 58, 1, score) for i, score in enumerate(false_calls)]
    return make_film(flaws, sorted(found, key=lambda row: -row[-1]))


def slow_curve(table, is_inside):
    """(count, mean score, share of hits) of the bins that hold detections, one detection at a time."""
    rows = []
    for is_in in is_inside:
        inside = [row for row in table.detections.itertuples() if not row.ignored and is_in(row.score)]
        if inside:
            hits = sum(row.flaw >= 0 for row in inside)
            rows.append((len(inside), sum(row.score for row in inside) / len(inside), hits / len(inside)))
    return rows


@settings(max_examples=100)
@given(st.lists(films(), min_size=1, max_size=4), st.integers(1, 9))
def test_agrees_with_counting_one_by_one(results, bin_count):
    table = match(results, CLASSES, "iou", 0.5)
    measured = measure_calibration(table, bin_count)
    scores = table.detections["score"][~table.detections["ignored"]]
    if scores.empty:
        assert measured is None
        return
    edges = np.linspace(0, 1, bin_count + 1)
    for curve, bins in (
        (measured.equal_width, list(zip(edges, [*edges[1:-1], np.inf], strict=False))),
        (
            measured.equal_count,
            list(zip(measured.equal_count.low, [*measured.equal_count.high[:-1], np.inf], strict=True)),
        ),
    ):
        rows = slow_curve(table, [lambda s, low=low, high=high: low <= s < high for low, high in bins])
        np.testing.assert_allclose(
            np.transpose([curve.counts, curve.mean_scores, curve.hit_shares]), rows, rtol=0, atol=1e-12
        )
        errors = [abs(mean - share) for _, mean, share in rows]
        expected = sum(row[0] * error for row, error in zip(rows, errors, strict=True)) / len(scores)
        assert curve.counts.sum() == len(scores)
        assert curve.expected_error == pytest.approx(expected, abs=1e-12)
        assert curve.largest_error == pytest.approx(max(errors), abs=1e-12)
        assert 0 <= curve.expected_error <= curve.largest_error + 1e-12 <= 1 + 2e-12


def test_scores_that_are_right_have_no_error():
    curve = calibration([film_with_scores([0.75] * 3 + [0.25], [0.75] + [0.25] * 3)]).equal_width
    assert curve.counts.tolist() == [4, 4]
    assert (curve.low.round(9).tolist(), curve.high.round(9).tolist()) == ([0.2, 0.7], [0.3, 0.8])
    assert curve.hit_shares.tolist() == [0.25, 0.75]
    assert curve.expected_error == curve.largest_error == 0


def test_errors_weigh_by_the_number_of_detections():
    curve = calibration([film_with_scores([1.0, 0.5], [1.0, 1.0, 1.0])]).equal_width
    assert curve.largest_error == pytest.approx(0.75)
    assert curve.expected_error == pytest.approx((4 * 0.75 + 1 * 0.5) / 5)


def test_equal_counts_cut_where_the_scores_are():
    scores = (np.arange(8) / 80 + 0.9).tolist()
    curve = calibration([film_with_scores(scores, [])], bin_count=4).equal_count
    assert curve.counts.tolist() == [2, 2, 2, 2]
    assert curve.high[-1] == pytest.approx(max(scores))


def test_equal_scores_share_a_bin():
    curve = calibration([film_with_scores([0.5] * 5, [0.5] * 4 + [0.75])], bin_count=5).equal_count
    assert curve.counts.tolist() == [10]
    assert calibration([film_with_scores([0.5] * 3, [0.75] * 3)], bin_count=2).equal_count.counts.tolist() == [3, 3]


def test_ignored_detections_are_left_out():
    difficult = make_film([(0, 0, 10, 10, 1, True)], [(0, 0, 10, 10, 1, 0.9)])
    assert calibration([difficult]) is None
    both = calibration([difficult, film_with_scores([0.5], [])])
    assert both.equal_width.counts.tolist() == both.equal_count.counts.tolist() == [1]


@pytest.mark.parametrize("results", [[], [make_film([(0, 0, 10, 10, 1, False)], [])]])
def test_without_detections_there_is_nothing_to_measure(results):
    assert calibration(results) is None

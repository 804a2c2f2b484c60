import numpy as np
import pytest
from films import films, make_film
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_coco import slow_matches

from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.film_results import to_coco

CLASSES = ("crack", "pore")
IOU_THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
PRECISE = {"rel": 0, "abs": 1e-12}


def measure(results, max_detections=100):
    return measure_coco(*to_coco(results, CLASSES), max_detections)


def slow_precision_and_recall(results, label, threshold, max_detections):
    """Precision at the 101 recalls, and the recall of all detections; None without flaws."""
    outcomes, flaws = [], 0
    for film in results:
        of_film, flaws_of_film = slow_matches(film, label, threshold, max_detections)
        outcomes += of_film
        flaws += flaws_of_film
    if flaws == 0:
        return None
    outcomes.sort(key=lambda outcome: -outcome[0])
    points, hits = [], 0
    for rank, (_, is_hit) in enumerate(outcomes, start=1):
        hits += is_hit
        points.append((hits / flaws, hits / rank))
    precision = [
        max((precision for recall, precision in points if recall >= wanted), default=0.0)
        for wanted in np.linspace(0, 1, 101)
    ]
    return precision, hits / flaws


@settings(deadline=None, max_examples=80)
@given(st.lists(films(), min_size=1, max_size=4), st.sampled_from([2, 100]))
def test_agrees_with_a_slow_and_obvious_implementation(results, max_detections):
    metrics = measure(results, max_detections)
    slow = {
        name: [slow_precision_and_recall(results, label, t, max_detections) for t in IOU_THRESHOLDS]
        for label, name in enumerate(CLASSES, start=1)
    }
    present = {name: values for name, values in slow.items() if values[0] is not None}
    assert {name for name, values in metrics.classes.items() if values is not None} == set(present)
    if not present:
        assert metrics.mean_average_precision is None
        assert metrics.average_recall is None
        return
    precision = {name: np.array([p for p, _ in values]) for name, values in present.items()}
    for name, of_class in precision.items():
        assert metrics.classes[name].average_precision == pytest.approx(of_class.mean(), **PRECISE)
        assert metrics.classes[name].average_precision_50 == pytest.approx(of_class[0].mean(), **PRECISE)
        np.testing.assert_allclose(metrics.classes[name].precision_50, of_class[0], atol=1e-12)
    together = np.array(list(precision.values()))
    assert metrics.mean_average_precision == pytest.approx(together.mean(), **PRECISE)
    assert metrics.mean_average_precision_50 == pytest.approx(together[:, 0].mean(), **PRECISE)
    assert metrics.mean_average_precision_75 == pytest.approx(together[:, 5].mean(), **PRECISE)
    recalls = [recall for values in present.values() for _, recall in values]
    assert metrics.average_recall == pytest.approx(np.mean(recalls), **PRECISE)


def test_all_of_several_hundred_flaws_on_a_film_can_count():
    places = [(10 * (i % 20), 10 * (i // 20)) for i in range(300)]
    flaws = [(x, y, x + 8, y + 8, 1, False) for x, y in places]
    found = [(x, y, x + 8, y + 8, 1, 1 - i / 1000) for i, (x, y) in enumerate(places)]
    film = make_film(flaws, found, image_hw=(200, 200))
    assert measure([film], max_detections=500).mean_average_precision == pytest.approx(1)
    assert measure([film], max_detections=100).average_recall == pytest.approx(1 / 3)


def test_a_class_without_truth_has_no_number_and_no_part_in_the_mean():
    film = make_film([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 10, 1, 0.9), (50, 50, 60, 60, 2, 0.95)])
    metrics = measure([film])
    assert metrics.classes["pore"] is None
    assert metrics.mean_average_precision == pytest.approx(1)


def test_finding_or_missing_difficult_flaws_changes_nothing():
    plain = [(0, 0, 10, 10, 1, False)], [(0, 0, 10, 10, 1, 0.5)]
    with_difficult = make_film([*plain[0], (50, 50, 60, 60, 1, True)], [(50, 50, 60, 60, 1, 0.9), *plain[1]])
    assert measure([with_difficult]).mean_average_precision == measure([make_film(*plain)]).mean_average_precision == 1


def test_without_any_film_there_is_no_number():
    metrics = measure([])
    assert metrics.mean_average_precision is None
    assert metrics.classes == {"crack": None, "pore": None}

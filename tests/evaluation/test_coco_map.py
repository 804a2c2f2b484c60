import contextlib
import io

import numpy as np
import pytest
from films import films, make_film
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from slow_coco import slow_matches

from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.evaluation import assignment
from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.film_results import to_coco

CLASSES = ("crack", "pore")
IOU_THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
PRECISE = {"rel": 0, "abs": 1e-12}


def measure(results, max_detections=100, size_edges_mm=()):
    return measure_coco(*to_coco(results, CLASSES), max_detections, size_edges_mm)


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


@contextlib.contextmanager
def silence():
    """pycocotools prints what it does."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def reference(results, max_detections, area_range=None):
    """Mean AP, AP50, AP75 and AR as pycocotools has them; with a range, of flaws by their length in place of area."""
    truth, predictions = to_coco(results, CLASSES)
    with silence():
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        found = coco.loadRes(predictions)
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng = [area_range or [0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        if area_range:
            pitch_of = {image["id"]: image["pixel_pitch_mm"] for image in truth["images"]}
            for rows in (coco.anns.values(), found.anns.values()):
                for row in rows:
                    row["area"] = row.get("length_mm", max(row["bbox"][2:]) * pitch_of[row["image_id"]])
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][..., 0, 0], evaluation.eval["recall"][..., 0, 0]
    values = precision, precision[0], precision[5], recall
    return tuple(None if (of > -1).sum() == 0 else of[of > -1].mean() for of in values)


def assert_agrees_with_pycocotools(results, max_detections=100, size_edges_mm=()):
    metrics = measure(results, max_detections, size_edges_mm)
    ours = (
        metrics.mean_average_precision,
        metrics.mean_average_precision_50,
        metrics.mean_average_precision_75,
        metrics.average_recall,
    )
    assert ours == approx_or_none(reference(results, max_detections))
    for size in metrics.by_size:
        end = 1e10 if size.high_mm is None else np.nextafter(size.high_mm, 0)  # COCO's ranges hold their ends
        mean, mean_50, _, recall = reference(results, max_detections, [size.low_mm, end])
        ours = size.average_precision, size.average_precision_50, size.average_recall
        assert ours == approx_or_none((mean, mean_50, recall))
    return metrics


def approx_or_none(values):
    return tuple(None if value is None else pytest.approx(value, rel=0, abs=1e-6) for value in values)


def detected_film(rng, flaws, name, false_calls, repeats=1, pixel_pitch_mm=0.1):
    """A film whose flaws are reported near their places, some under another class, with scores of few values."""
    flaws = np.array(flaws, dtype=np.float64).reshape(-1, 6)
    found = np.repeat(flaws, repeats, axis=0)
    sides = found[:, 2:4] - found[:, :2]
    found[:, :4] += rng.normal(0, 0.1, (len(found), 4)) * np.tile(sides, 2)
    found[:, 4] = np.where(rng.random(len(found)) < 0.1, 3 - found[:, 4], found[:, 4])
    corner = rng.uniform(0, 400, (false_calls, 2))
    labels = rng.integers(1, 3, (false_calls, 1))
    others = np.hstack([corner, corner + rng.uniform(2, 40, (false_calls, 2)), labels, np.zeros((false_calls, 1))])
    found = np.vstack([found, others])
    found[:, 2:4] = np.maximum(found[:, 2:4], found[:, :2] + 1)
    found[:, 5] = rng.integers(1, 50, len(found)) / 50
    return make_film(flaws, found[np.argsort(-found[:, 5])], name, (500, 500), pixel_pitch_mm)


def random_flaws(rng, count, difficult_share=0.0):
    corner, sides = rng.uniform(0, 400, (count, 2)), rng.uniform(3, 90, (count, 2))
    is_difficult = rng.random((count, 1)) < difficult_share
    return np.hstack([corner, corner + sides, rng.integers(1, 3, (count, 1)), is_difficult])


@pytest.mark.parametrize(
    ("counts", "difficult_share", "repeats", "max_detections"),
    [((0, 5, 0, 9, 1, 0, 20), 0, 1, 100), ((6, 12, 0, 30), 0.4, 2, 100), ((150, 90, 220), 0.1, 3, 100)],
    ids=["some films without flaws", "difficult flaws", "several hundred detections a film"],
)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_pycocotools(counts, difficult_share, repeats, max_detections, seed):
    rng = np.random.default_rng(seed)
    results = [
        detected_film(rng, random_flaws(rng, count, difficult_share), f"{place}.png", 5, repeats)
        for place, count in enumerate(counts)
    ]
    metrics = assert_agrees_with_pycocotools(results, max_detections, (1, 2, 5))
    assert 0.05 < metrics.mean_average_precision < 0.95
    assert len(metrics.by_size) == 4


def test_agrees_with_pycocotools_on_real_flaws(real_data):
    dataset = read_dataset(real_data / "gdxray-welds/W0001")
    rng = np.random.default_rng(0)
    results = [
        detected_film(
            rng, [(*flaw.box_xyxy, place % 2 + 1, 0) for place, flaw in enumerate(film.annotations)], film.name, 30, 2
        )
        for film in dataset.radiographs
    ]
    assert sum(len(film.truth.labels) for film in results) == 506
    assert max(len(film.detections) for film in results) > 100
    assert_agrees_with_pycocotools(results, 100, (1, 2, 5))
    assert_agrees_with_pycocotools(results, 1000, (1, 2, 5))


@settings(max_examples=80)
@given(st.lists(films(), min_size=1, max_size=4), st.sampled_from([2, 100]))
def test_agrees_with_pycocotools_on_small_films(results, max_detections):
    assume(any(len(film.detections) for film in results))  # pycocotools cannot do without
    assert_agrees_with_pycocotools(results, max_detections, (0.3, 0.5))


def test_each_flaw_lies_in_one_bin_and_counts_by_the_length_that_the_truth_says():
    flaws = [(0, 0, 10, 5, 1, False), (20, 0, 40, 5, 1, False), (60, 0, 90, 5, 1, False), (0, 50, 9, 59, 1, True)]
    found = [(0, 0, 10, 5, 1, 0.9), (60, 0, 90, 5, 1, 0.8)]
    film = make_film(flaws, found, length_mm=[np.nan, np.nan, 0.9, np.nan])
    short, middle, long = measure([film], size_edges_mm=(1, 2)).by_size
    assert [(size.low_mm, size.high_mm, size.flaws) for size in (short, middle, long)] == [
        (0, 1, 1),
        (1, 2, 1),
        (2, None, 1),
    ]
    assert (short.average_precision, middle.average_precision, long.average_precision) == (1, 1, 0)
    assert (short.average_recall, middle.average_recall, long.average_recall) == (1, 1, 0)


def test_what_finds_nothing_counts_in_the_bin_of_its_own_length_alone():
    film = make_film(
        [(0, 0, 10, 5, 1, False), (50, 0, 90, 5, 1, False)],
        [(0, 20, 10, 25, 1, 0.9), (0, 0, 10, 5, 1, 0.8), (50, 0, 90, 5, 1, 0.7)],
    )
    short, long = measure([film], size_edges_mm=(2,)).by_size
    assert short.average_precision == pytest.approx(0.5)
    assert long.average_precision == 1


def test_films_of_unknown_pitch_have_no_part_in_the_sizes():
    flaws, found = [(0, 0, 20, 5, 1, False)], [(0, 0, 20, 5, 1, 0.9)]
    unknown = make_film(flaws, [(50, 0, 70, 5, 1, 0.95), *found], pixel_pitch_mm=None, length_mm=[2.0])
    assert measure([unknown], size_edges_mm=(1,)).by_size is None
    known = make_film(flaws, found)
    assert measure([known, unknown], size_edges_mm=(1,)).by_size == measure([known], size_edges_mm=(1,)).by_size
    assert measure([known, unknown]).average_recall == 1
    assert measure([known]).by_size == []


@pytest.mark.parametrize("pairs_at_once", [1, 7, 1000])
def test_comparing_boxes_in_parts_gives_the_same(monkeypatch, pairs_at_once):
    rng = np.random.default_rng(0)
    results = [detected_film(rng, random_flaws(rng, count), f"{count}.png", 5, 2) for count in (0, 12, 3)]
    whole = measure(results)
    monkeypatch.setattr(assignment, "_PAIRS_AT_ONCE", pairs_at_once)
    assert measure(results).mean_average_precision == whole.mean_average_precision
    assert measure(results).average_recall == whole.average_recall

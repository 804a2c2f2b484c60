from collections import Counter

import numpy as np
import pytest
from films import films, make_film
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_coco import area, overlap

from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.error_types import ERROR_TYPES, false_call_types, measure_errors
from defects_in_welds.evaluation.film_results import to_coco
from defects_in_welds.evaluation.matching import match

CLASSES = ("crack", "pore")
FLAW = (0, 0, 10, 10, 1, False)
FAR_FLAW = (50, 0, 60, 10, 1, False)


def errors(results, min_score=0.0):
    return measure_errors(match(results, CLASSES, "iou", 0.5), min_score)


def occurring(results, min_score=0.0):
    return {name: error.count for name, error in errors(results, min_score).items() if error.count}


class SlowTide:
    """The paper's definitions (section 2.2) and oracles (section 2.3), word for word, over lists."""

    def __init__(self, results):
        self.flaws, self.found = [], []
        for film, result in enumerate(results):
            truth, found = result.truth, result.detections
            for box, label, difficult in zip(truth.boxes_xyxy.tolist(), truth.labels, truth.is_difficult, strict=True):
                self.flaws.append({"film": film, "box": box, "class": label, "difficult": difficult, "by": None})
            for box, label, score in zip(found.boxes_xyxy.tolist(), found.labels, found.scores.tolist(), strict=True):
                self.found.append({"film": film, "box": box, "class": label, "score": score, "type": None})
        self.found.sort(key=lambda found: -found["score"])
        for found in self.found:
            self.judge(found)

    def judge(self, found):
        film = [flaw for flaw in self.flaws if flaw["film"] == found["film"]]
        own = [flaw for flaw in film if flaw["class"] == found["class"] and not flaw["difficult"]]
        other = [flaw for flaw in film if flaw["class"] != found["class"] and not flaw["difficult"]]
        free = self.nearest(found, [flaw for flaw in own if flaw["by"] is None])
        near, near_other = self.nearest(found, own), self.nearest(found, other)
        found["flaw"] = None
        found["means"] = None
        if free and self.iou(found, free) >= 0.5:
            free["by"], found["flaw"], found["type"] = found, free, "hit"
        elif any(
            overlap(found["box"], flaw["box"]) >= 0.5 * area(found["box"])
            for flaw in film
            if flaw["difficult"] and flaw["class"] == found["class"]
        ):
            found["type"] = "ignored"
        elif near and 0.1 <= self.iou(found, near) < 0.5:
            found["type"], found["means"] = "localisation", near
        elif near_other and self.iou(found, near_other) >= 0.5:
            found["type"], found["means"] = "classification", near_other
        elif near and self.iou(found, near) >= 0.5:
            found["type"] = "duplicate"
        elif all(self.iou(found, flaw) < 0.1 for flaw in own + other):
            found["type"] = "background"
        else:
            found["type"] = "both"

    @staticmethod
    def iou(found, flaw):
        shared = overlap(found["box"], flaw["box"])
        return shared / (area(found["box"]) + area(flaw["box"]) - shared)

    def nearest(self, found, flaws):
        return max(flaws, key=lambda flaw: self.iou(found, flaw), default=None)

    def missed(self, min_score):
        covered = [found["means"] for found in self.found if found["means"] and found["score"] >= min_score]
        return [
            flaw
            for flaw in self.flaws
            if not flaw["difficult"]
            and not (flaw["by"] and flaw["by"]["score"] >= min_score)
            and not any(flaw is other for other in covered)
        ]

    def counts(self, min_score):
        counts = Counter(found["type"] for found in self.found if found["score"] >= min_score)
        return {name: counts[name] for name in ERROR_TYPES[:-1]} | {"missed": len(self.missed(min_score))}

    def ap50(self, mended=None):
        """Of each class, after mending a type of errors."""
        calls, taken = [], []
        for found in self.found:
            flaw = found["means"] if found["type"] == mended else found["flaw"]
            if flaw is not None:
                if not any(flaw is other for other in taken):  # the lower score of a duplicate is suppressed
                    taken.append(flaw)
                    calls.append((flaw["class"], True))
            elif found["type"] not in ("ignored", mended):
                calls.append((found["class"], False))
        gone = self.missed(0) if mended == "missed" else []
        values = []
        for label in (1, 2):
            flaws = [flaw for flaw in self.flaws if flaw["class"] == label and not flaw["difficult"]]
            left = [flaw for flaw in flaws if not any(flaw is other for other in gone)]
            if flaws:
                values.append(self.class_ap([hit for of, hit in calls if of == label], len(left)) if left else 1.0)
        return float(np.mean(values)) if values else None

    @staticmethod
    def class_ap(is_hit, flaws):
        points = [(sum(is_hit[:rank]) / flaws, sum(is_hit[:rank]) / rank) for rank in range(1, len(is_hit) + 1)]
        return np.mean([max((p for r, p in points if r >= wanted), default=0.0) for wanted in np.linspace(0, 1, 101)])


@settings(max_examples=100)
@given(st.lists(films(), min_size=0, max_size=3), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_agrees_with_a_slow_implementation_of_the_paper(results, min_score):
    slow, measured = SlowTide(results), errors(results, min_score)
    assert {name: error.count for name, error in measured.items()} == slow.counts(min_score)
    present = slow.ap50()
    for name, error in measured.items():
        if present is None:
            assert error.ap50_gain is None
        else:
            assert error.ap50_gain == pytest.approx(slow.ap50(name) - present, rel=0, abs=1e-12)
            assert -1e-12 <= error.ap50_gain <= 1 - present + 1e-12


@settings(max_examples=50)
@given(st.lists(films(), min_size=1, max_size=3), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_every_false_call_has_one_type_and_nothing_else_has_one(results, min_score):
    table = match(results, CLASSES, "iou", 0.5)
    np.testing.assert_array_equal(false_call_types(table).codes >= 0, table.is_false_call(0))
    measured = measure_errors(table, min_score)
    assert sum(measured[name].count for name in ERROR_TYPES[:-1]) == table.is_false_call(min_score).sum()
    assert measured["missed"].count <= table.is_missed(min_score).sum()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((0, 0, 10, 10, 1, 0.9), {}),
        ((0, 0, 10, 10, 2, 0.9), {"classification": 1}),
        ((0, 0, 10, 4, 1, 0.9), {"localisation": 1}),
        ((0, 0, 10, 4, 2, 0.9), {"both": 1, "missed": 1}),
        ((0, 0, 10, 0.9, 1, 0.9), {"background": 1, "missed": 1}),
        ((0, 0, 10, 0.9, 2, 0.9), {"background": 1, "missed": 1}),
    ],
)
def test_one_detection_near_one_flaw(found, expected):
    assert occurring([make_film([FLAW], [found])]) == expected


def test_a_second_report_is_a_duplicate():
    film = make_film([FLAW], [(0, 0, 10, 10, 1, 0.9), (0, 0, 10, 9, 1, 0.8)])
    assert occurring([film]) == {"duplicate": 1}
    assert errors([film])["duplicate"].ap50_gain == 0  # it comes after all flaws are found


def test_weak_errors_are_not_counted_and_excuse_no_missed_flaw():
    film = make_film([FLAW], [(0, 0, 10, 4, 1, 0.4)])
    assert occurring([film], min_score=0.4) == {"localisation": 1}
    assert occurring([film], min_score=0.5) == {"missed": 1}


def test_what_is_on_difficult_flaws_is_no_error():
    film = make_film([(0, 0, 10, 10, 1, True), FAR_FLAW], [(0, 0, 10, 10, 1, 0.9), (50, 0, 60, 10, 1, 0.8)])
    assert occurring([film]) == {}


def test_a_mended_error_becomes_a_hit_or_goes():
    wrong = (0, 0, 10, 10, 2, 0.9)
    assert errors([make_film([FLAW], [wrong])])["classification"].ap50_gain == 1
    assert errors([make_film([FLAW], [(0, 0, 10, 4, 1, 0.9)])])["localisation"].ap50_gain == 1
    assert errors([make_film([FLAW], [(80, 0, 90, 9, 1, 0.9), (0, 0, 10, 10, 1, 0.8)])])["background"].ap50_gain == 0.5
    missed = errors([make_film([FLAW, FAR_FLAW], [(0, 0, 10, 10, 1, 0.8)])])["missed"]
    assert missed.ap50_gain == pytest.approx(1 - 51 / 101)


def test_a_class_of_which_all_flaws_are_missed_would_be_perfect_without_that():
    assert errors([make_film([FLAW], [])])["missed"].ap50_gain == 1


def test_mending_a_duplicate_keeps_the_better_score():
    film = make_film([FLAW], [(0, 0, 10, 4, 1, 0.9), (0, 0, 10, 10, 1, 0.8)])
    assert errors([film])["localisation"].ap50_gain == 0.5


def test_the_gain_starts_from_cocos_average_precision():
    rng = np.random.default_rng(0)
    places = [(20 * (i % 8), 20 * (i // 8)) for i in range(32)]
    flaws = [(x, y, x + 10, y + 10, i % 2 + 1, False) for i, (x, y) in enumerate(places)]
    calls = [(*box, rng.random()) for *box, _ in flaws]
    calls += [(x + 11, y + 11, x + 19, y + 19, i % 2 + 1, rng.random()) for i, (x, y) in enumerate(places)]
    film = make_film(flaws, sorted(calls, key=lambda call: -call[-1]))
    ap50 = measure_coco(*to_coco([film], CLASSES), 100).mean_average_precision_50
    assert occurring([film]) == {"background": 32}
    assert errors([film])["background"].ap50_gain == pytest.approx(1 - ap50, abs=1e-12)


@pytest.mark.parametrize("results", [[], [make_film([], [])], [make_film([], [(0, 0, 9, 9, 1, 0.9)])]])
def test_without_flaws_nothing_can_be_gained(results):
    measured = errors(results)
    assert list(measured) == list(ERROR_TYPES)
    assert all(error.ap50_gain is None for error in measured.values())
    assert measured["background"].count == sum(len(result.detections) for result in results)

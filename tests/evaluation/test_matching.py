import numpy as np
import pandas as pd
import pytest
from films import films, make_film
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_coco import area, overlap, slow_matches

from defects_in_welds.evaluation.matching import MatchTable, match

CLASSES = ("crack", "pore")
RULES = [("iou", 0.5), ("iou", 0.75), ("overlap", 0.5), ("centre", 0.5)]
several_films = st.lists(films(), max_size=4)


def match_one(flaws, found, rule="iou", least_overlap=0.5):
    return match([make_film(flaws, found)], CLASSES, rule, least_overlap)


def iou(a, b):
    return overlap(a, b) / (area(a) + area(b) - overlap(a, b))


def holds_middle(outer, inner):
    x, y = (inner[0] + inner[2]) / 2, (inner[1] + inner[3]) / 2
    return outer[0] <= x < outer[2] and outer[1] <= y < outer[3]


def fits(found, flaw, rule, least_overlap):
    if rule == "iou":
        return iou(found, flaw) >= least_overlap
    if rule == "overlap":
        return overlap(found, flaw) >= least_overlap * min(area(found), area(flaw))
    return holds_middle(found, flaw) or holds_middle(flaw, found)


def slow_match(film, rule, least_overlap):
    """By flaw (detection, other detection), by detection whether it is ignored: one after the other, best first."""
    flaws = [
        {"box": box, "label": label, "difficult": difficult, "by": -1, "other": -1}
        for box, label, difficult in zip(
            film.truth.boxes_xyxy.tolist(), film.truth.labels.tolist(), film.truth.is_difficult.tolist(), strict=True
        )
    ]
    found = list(
        zip(film.detections.boxes_xyxy.tolist(), film.detections.labels.tolist(), film.detections.scores, strict=True)
    )
    ignored = [False] * len(found)
    crowd_share = least_overlap if rule == "iou" else 0.5
    for index in sorted(range(len(found)), key=lambda i: -found[i][2]):
        box, label, _ = found[index]

        def take(key, candidates, index=index, box=box):
            free = [f for f in candidates if f[key] == -1 and fits(box, f["box"], rule, least_overlap)]
            if free:
                max(reversed(free), key=lambda f: iou(box, f["box"]))[key] = index
            return bool(free)

        own = [f for f in flaws if f["label"] == label]
        if take("by", [f for f in own if not f["difficult"]]):
            continue
        difficult = [f for f in own if f["difficult"]]
        took = take("by", difficult)
        lies_on = any(
            overlap(box, f["box"]) > 0 and overlap(box, f["box"]) / area(box) >= crowd_share for f in difficult
        )
        ignored[index] = took or lies_on
        if not ignored[index]:
            take("other", [f for f in flaws if f["label"] != label and not f["difficult"] and f["by"] == -1])
    return [(f["by"], f["other"]) for f in flaws], ignored


@settings(max_examples=300)
@given(several_films, st.sampled_from(RULES))
def test_agrees_with_a_slow_and_obvious_implementation(results, rule):
    table = match(results, CLASSES, *rule)
    first = 0
    for film, result in enumerate(results):
        flaws = table.flaws[table.flaws["film"] == film]
        of_film = table.detections[table.detections["film"] == film]
        pairs, ignored = slow_match(result, *rule)
        by, other = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        assert of_film["ignored"].tolist() == ignored
        assert flaws["detection"].tolist() == np.where(by >= 0, by + first, -1).tolist()
        scores, labels = result.detections.scores, result.detections.labels
        assert flaws["score"].fillna(-1).tolist() == [scores[i] if i >= 0 else -1 for i in by]
        assert flaws["other_score"].fillna(-1).tolist() == [scores[i] if i >= 0 else -1 for i in other]
        assert (flaws["other_class"].cat.codes + 1).tolist() == [labels[i] if i >= 0 else 0 for i in other]
        first += len(of_film)


@settings(max_examples=100)
@given(several_films, st.sampled_from(RULES))
def test_flaws_and_detections_tell_the_same_story(results, rule):
    table = match(results, CLASSES, *rule)
    flaws, detections = table.flaws, table.detections
    found = flaws[flaws["detection"] >= 0]
    assert detections["flaw"].iloc[found["detection"]].tolist() == found.index.tolist()
    assert (detections["flaw"] >= 0).sum() == len(found)
    for ours, theirs in ((found, detections.iloc[found["detection"]]), (detections, detections)):
        assert ours["iou"].reset_index(drop=True).equals(theirs["iou"].reset_index(drop=True))
    by = detections.iloc[found["detection"]]
    for column in ("film", "defect_class", "score"):
        assert found[column].tolist() == by[column].tolist()
    edges = ["x0", "y0", "x1", "y1"]
    ious = [iou(a, b) for a, b in zip(found[edges].to_numpy(), by[edges].to_numpy(), strict=True)]
    np.testing.assert_allclose(found["iou"], ious, rtol=1e-12)
    assert detections["iou"].isna().tolist() == (detections["flaw"] < 0).tolist()


@settings(max_examples=100)
@given(several_films)
def test_the_largest_iou_with_flaws_of_its_own_and_of_other_classes(results):
    table = match(results, CLASSES, "iou", 0.5)
    edges = ["x0", "y0", "x1", "y1"]
    for _, found in table.detections.iterrows():
        near = table.flaws[(table.flaws["film"] == found["film"]) & ~table.flaws["difficult"]]
        is_own = near["defect_class"] == found["defect_class"]
        for column, rows in (("best_iou", near[is_own]), ("best_iou_other", near[~is_own])):
            ious = [iou(found[edges].tolist(), row) for row in rows[edges].to_numpy().tolist()]
            assert found[column] == pytest.approx(max(ious, default=0))


@settings(max_examples=100)
@given(several_films, st.integers(0, 9), st.sampled_from([0.5, 0.75]))
def test_counts_agree_with_cocos_rule_at_any_threshold(results, eighths, least_overlap):
    min_score = eighths / 8
    table = match(results, CLASSES, "iou", least_overlap)
    for label, name in enumerate(CLASSES, start=1):
        outcomes, flaws = [], 0
        for result in results:
            of_film, flaws_of_film = slow_matches(result, label, least_overlap, 100)
            outcomes += [is_hit for score, is_hit in of_film if score >= min_score]
            flaws += flaws_of_film
        is_class = (table.flaws["defect_class"] == name).to_numpy()
        is_of_class = (table.detections["defect_class"] == name).to_numpy()
        hits = sum(outcomes)
        assert table.is_hit(min_score)[is_of_class].sum() == table.is_found(min_score)[is_class].sum() == hits
        assert table.is_false_call(min_score)[is_of_class].sum() == len(outcomes) - hits
        assert table.is_missed(min_score)[is_class].sum() == flaws - hits


@settings(max_examples=100)
@given(several_films, st.integers(0, 9), st.sampled_from(RULES))
def test_leaving_out_weak_detections_changes_nothing_for_the_strong(results, eighths, rule):
    min_score = eighths / 8
    strong_only = [
        make_film(
            np.column_stack([film.truth.boxes_xyxy, film.truth.labels, film.truth.is_difficult]),
            np.column_stack([strong.boxes_xyxy, strong.labels, strong.scores]),
        )
        for film in results
        for strong in [film.detections[film.detections.scores >= min_score]]
    ]
    everything, strong = match(results, CLASSES, *rule), match(strong_only, CLASSES, *rule)
    is_strong = (everything.detections["score"] >= min_score).to_numpy()
    for name in ("is_found", "is_missed", "is_misnamed"):
        np.testing.assert_array_equal(getattr(everything, name)(min_score), getattr(strong, name)(0))
    for name in ("is_hit", "is_false_call"):
        np.testing.assert_array_equal(getattr(everything, name)(min_score)[is_strong], getattr(strong, name)(0))
        assert not getattr(everything, name)(min_score)[~is_strong].any()
    kept = everything.detections[is_strong].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept.drop(columns=["film", "flaw"]), strong.detections.drop(columns=["film", "flaw"]))


@settings(max_examples=100)
@given(several_films, st.sampled_from(RULES))
def test_films_do_not_meddle_with_each_other(results, rule):
    alone = [match([result], CLASSES, *rule) for result in results]
    together = match(results, CLASSES, *rule)
    for name in ("is_found", "is_missed", "is_misnamed", "is_hit", "is_false_call"):
        parts = [getattr(table, name)(0.5) for table in alone]
        np.testing.assert_array_equal(getattr(together, name)(0.5), np.concatenate([[], *parts]).astype(bool))


@settings(max_examples=30)
@given(st.lists(films(), max_size=3))
def test_the_table_comes_back_from_its_files_as_it_was(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("matches")
    table = match(results, CLASSES, "iou", 0.5)
    table.write(folder)
    read = MatchTable.read(folder)
    for name in ("films", "flaws", "detections"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(table, name))


@pytest.mark.parametrize("results", [[], [make_film([], [])], [make_film([], []), make_film([], [])]])
def test_films_without_anything_on_them(results):
    table = match(results, CLASSES, "iou", 0.5)
    assert [len(rows) for rows in (table.films, table.flaws, table.detections)] == [len(results), 0, 0]
    assert not table.is_found(0).size
    assert not table.is_false_call(0).size


def test_films_and_boxes_know_their_sizes_in_mm():
    film = make_film([(0, 0, 30, 10, 1, False)] * 2, [(0, 0, 5, 20, 2, 0.5)], length_mm=[2.5, np.nan], cnr=[4, np.nan])
    table = match([film, make_film([], [], name="b.png", weld="w", pixel_pitch_mm=None)], CLASSES, "iou", 0.5)
    assert table.films["weld_mm"].fillna(-1).tolist() == [20, -1]
    assert table.films["weld"].tolist() == ["film.png", "w"]
    np.testing.assert_allclose(table.flaws["length_mm"], [2.5, 3])
    np.testing.assert_allclose(table.flaws["width_mm"], [1, 1])
    np.testing.assert_allclose(table.flaws["cnr"], [4, np.nan])
    np.testing.assert_allclose(table.detections[["length_mm", "width_mm"]], [[2, 0.5]])


def test_the_second_detection_of_a_flaw_is_a_false_call_whatever_fits_better():
    table = match_one([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 8, 1, 0.9), (0, 0, 10, 10, 1, 0.4)])
    assert table.is_hit(0).tolist() == [True, False]
    assert table.is_false_call(0).tolist() == [False, True]


def test_who_loses_his_flaw_to_a_better_detection_takes_the_next():
    flaws = [(0, 0, 10, 10, 1, False), (2, 0, 12, 10, 1, False), (4, 0, 14, 10, 1, False)]
    table = match_one(flaws, [(2, 0, 12, 10, 1, 0.9), (2, 0, 12, 10, 1, 0.8), (2, 0, 12, 10, 1, 0.7)])
    assert table.flaws["detection"].tolist() == [2, 0, 1]


def test_half_the_overlap_is_enough_and_less_is_not():
    assert match_one([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 5, 1, 0.9)]).is_hit(0).tolist() == [True]
    assert match_one([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 4.9, 1, 0.9)]).is_hit(0).tolist() == [False]


def test_a_crack_reported_in_part_is_found_by_overlap_and_by_centre_but_not_by_iou():
    crack, part = [(0, 0, 100, 2, 1, False)], [(40, 0, 60, 2, 1, 0.9)]
    assert [match_one(crack, part, rule).is_hit(0).item() for rule, _ in RULES] == [False, False, True, True]


@pytest.mark.parametrize("rule", ["iou", "overlap", "centre"])
def test_difficult_flaws_are_neither_found_nor_missed_nor_do_they_make_false_calls(rule):
    found = [(0, 0, 10, 10, 1, 0.9), (20, 0, 30, 10, 1, 0.8), (20, 0, 30, 10, 2, 0.7)]
    table = match_one([(0, 0, 100, 10, 1, True)], found, rule)
    assert not table.is_found(0).any()
    assert not table.is_missed(0).any()
    assert not table.is_misnamed(0).any()
    assert not table.is_hit(0).any()
    assert table.is_false_call(0).tolist() == [False, False, True]


def test_a_missed_flaw_that_is_reported_under_another_class_is_misnamed():
    flaws = [(0, 0, 10, 10, 1, False), (50, 0, 60, 10, 1, False), (80, 0, 90, 10, 1, False)]
    table = match_one(flaws, [(0, 0, 10, 9, 2, 0.9), (50, 0, 60, 10, 1, 0.8), (80, 0, 90, 4, 2, 0.7)])
    assert table.is_misnamed(0).tolist() == [True, False, False]
    assert table.is_missed(0).tolist() == [True, False, True]
    assert table.is_false_call(0).tolist() == [True, False, True]
    assert table.flaws["other_class"].fillna("pore").tolist() == ["pore"] * 3


def test_a_flaw_that_a_better_detection_has_found_takes_no_report_from_a_missed_one():
    near = [(0, 0, 10, 9, 1, False), (0, 0, 10, 10, 1, False)]
    table = match_one(near, [(0, 0, 10, 10, 1, 0.9), (0, 0, 10, 10, 2, 0.8)])
    assert table.is_found(0).tolist() == [False, True]
    assert table.is_misnamed(0).tolist() == [True, False]


def test_a_misnamed_flaw_is_found_from_the_score_of_the_right_name_on():
    table = match_one([(0, 0, 10, 10, 1, False)], [(0, 0, 10, 10, 2, 0.75), (0, 0, 10, 10, 1, 0.5)])
    assert [table.is_misnamed(score).item() for score in (0.8, 0.6, 0.5)] == [False, True, False]
    assert [table.is_found(score).item() for score in (0.8, 0.6, 0.5)] == [False, False, True]

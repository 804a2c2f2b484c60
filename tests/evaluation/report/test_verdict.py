import pytest
from films import make_film
from hand_made import REFUSED, fitted, make_metrics
from known_project import CLASSES

from defects_in_welds.evaluation.matching import match
from defects_in_welds.evaluation.report.verdict import notices, percent, three_digits, verdict


def metrics_of(flaws=(), found=(), pitch_mm=0.1, **changes):
    return make_metrics(
        match([make_film(flaws, found, pixel_pitch_mm=pitch_mm)], CLASSES, "iou", 0.5), CLASSES, **changes
    )


def say(metrics):
    return [sentence.replace("\u00a0", " ") for sentence in verdict(metrics)]


FLAWS = [(0, 0, 10, 10, 1, False), (20, 0, 30, 10, 1, False), (40, 0, 50, 10, 2, False)]
FOUND = [(0, 0, 10, 10, 1, 0.9), (40, 0, 50, 10, 2, 0.8), (90, 40, 99, 50, 1, 0.7)]


def test_the_verdict_says_what_is_found_reliably_and_how_it_is_counted():
    assert say(metrics_of(FLAWS, FOUND)) == [
        "The detector found 2 of 3 known flaws (67 %; 95 % interval 15 % to 85 %) and missed 1, on 1 film that it had "
        "not been trained on.",
        "Found reliably, that is at least nine of ten with 95 % confidence, by length: crack from 2.5 mm.",
        "From these films nothing can be said about the length from which these are found reliably: gas pore. The "
        "table says why.",
        "It raised 1 false call, 1.0 per film (95 % interval 0.5 to 1.5) and 50 per metre of weld.",
        "Counted is what it reports with a score of 0.5 or more. That threshold was chosen on the validation films, "
        "for at most 20 false calls per metre; there it raised 18.2 and found 81 % of the flaws.",
        "It is weakest on crack: 1 of 2 found.",
    ]


def test_sizes_that_are_never_reached_and_doubtful_fits_are_told():
    metrics = metrics_of(FLAWS, FOUND)
    metrics["per_class"]["crack"]["pod"] = fitted(None)
    metrics["per_class"]["gas pore"]["pod"] = fitted(3.0, warning="poor fit")
    text = " ".join(say(metrics))
    assert "Not found reliably at any length seen here: crack." in text
    assert "gas pore from 3 mm (with doubt: see the table)" in text


def test_a_size_beyond_the_largest_flaw_is_not_said_to_be_found_reliably():
    metrics = metrics_of(FLAWS, FOUND, pod={"size": "length_mm", "pooled": fitted(9.1)})
    metrics["per_class"]["crack"]["pod"] = fitted(9.1)
    text = " ".join(say(metrics))
    assert "Not found reliably at any length seen here: crack." in text
    assert "9.1" not in text


def test_all_kinds_together_stand_in_where_no_kind_has_enough_flaws():
    metrics = metrics_of(FLAWS, FOUND, pod={"size": "cnr", "pooled": fitted(4.0)})
    metrics["per_class"]["crack"]["pod"] = REFUSED
    text = " ".join(say(metrics))
    assert "together are found reliably from a contrast-to-noise ratio of 4 on; a single kind may need more." in text


@pytest.mark.parametrize(
    ("misnamed", "sentence"),
    [
        (1, "1 of the missed flaws was reported under another class, and counted among the false calls too."),
        (2, "2 of the missed flaws were reported under another class, and counted among the false calls too."),
    ],
)
def test_the_verdict_tells_misnamed_flaws_from_unseen_ones(misnamed, sentence):
    assert sentence in say(metrics_of(FLAWS, FOUND) | {"misnamed": misnamed})


def test_no_weakest_kind_is_named_where_nothing_was_missed():
    assert not any("weakest" in sentence for sentence in say(metrics_of(FLAWS[:1], FOUND[:1])))


def test_without_flaws_only_false_calls_are_told():
    first, *rest = say(metrics_of((), FOUND))
    assert first.startswith("There is no known flaw on 1 film that it had not been trained on, so this page cannot say")
    assert len(rest) == 2


def test_a_fallback_threshold_is_told_and_explained():
    point = {"min_score": 0.5, "chosen_on": None, "note": "there are no validation films"}
    metrics = metrics_of(FLAWS, FOUND) | {"operating_point": point}
    assert "That threshold is the one that the parameters set for want of a better." in " ".join(say(metrics))
    assert notices(metrics, is_other_data=False) == ["Threshold: there are no validation films"]


def test_what_the_reader_must_know_is_noticed():
    metrics = metrics_of([*FLAWS, (60, 0, 70, 10, 1, True)], FOUND, pitch_mm=None) | {"split": "val"}
    found = notices(metrics, is_other_data=True)
    for words in ("has no test films", "other data", "1 flaw marked as difficult", "pixel pitch"):
        assert any(words in notice for notice in found)
    assert notices(metrics_of(FLAWS, FOUND), is_other_data=False) == []


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (12.34, "12.3"), (123.4, "123"), (0, "0"), (1.234e-5, "0.0000123")]
)
def test_numbers_have_three_digits(value, text):
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.001, "under 1 %"), (0.5, "50 %"), (0.998, "over 99 %"), (1, "100 %")]
)
def test_nearly_all_is_not_all(share, text):
    assert percent(share).replace("\u00a0", " ") == text


def test_films_of_unknown_pitch_among_others_are_told_apart_from_all_of_them():
    some = metrics_of(FLAWS, FOUND, pitch_mm=None)
    (notice,) = notices(some, is_other_data=False)
    assert notice.startswith("The pixel pitch of some films is not known")
    (notice,) = notices(some | {"cells": None}, is_other_data=False)
    assert notice.startswith("The pixel pitch of the films is not known")

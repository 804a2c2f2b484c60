import numpy as np
import pytest
from films import make_film
from known_project import CLASSES, write_store

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.evaluation.matching import match
from defects_in_welds.evaluation.report.gallery import draw_items, draw_worst_films, list_items, size_text

FLAWS = [
    (0, 0, 10, 10, 1, False),  # found
    (20, 0, 30, 10, 1, False),  # misnamed
    (40, 0, 50, 10, 1, False),  # missed
    (60, 0, 90, 10, 2, False),  # missed, longer, with a weak report
    (0, 40, 10, 50, 1, True),
]
FOUND = [
    (0, 0, 10, 10, 1, 0.9),
    (20, 0, 30, 10, 2, 0.8),
    (70, 40, 80, 50, 1, 0.7),
    (60, 0, 90, 10, 2, 0.3),
]


def table_of(*films):
    return match(films, CLASSES, "iou", 0.5)


@pytest.fixture
def table():
    return table_of(make_film(FLAWS, FOUND, name="test/a.png", image_hw=(64, 100)))


def test_outcomes_take_turns_and_the_worst_of_each_comes_first(table):
    items = list_items(table, 0.5)
    rows = list(zip(items["outcome"], items["x0"], strict=True))
    assert rows == [
        ("missed", 60),
        ("misnamed", 20),
        ("false_call", 20),
        ("hit", 0),
        ("missed", 40),
        ("false_call", 70),
    ]
    remarks = items["remark"].tolist()
    assert remarks[0] == "reported with score 0.30, below the threshold"
    assert remarks[1] == "reported as gas pore, score 0.80"
    assert remarks[2] == "score 0.80; overlaps a known flaw of another kind, IoU 1.00"
    assert remarks[3] == "score 0.90, overlap (IoU) 1.00"
    assert remarks[4] == "no report fits"
    assert remarks[5] == "score 0.70; no known flaw here"


def test_items_are_drawn_in_their_order(table, tmp_path):
    store = write_store(tmp_path / "store", ("test/a.png", Split.TEST, ()))
    items = draw_items(list_items(table, 0.5).head(5), table, store, 0.5)
    assert [item.outcome for item in items] == ["missed", "misnamed", "false_call", "hit", "missed"]
    assert [item.score for item in items] == [None, 0.8, 0.8, 0.9, None]
    assert (items[0].defect_class, items[0].iso_6520_1, items[0].film) == ("gas pore", "2011", "test/a.png")
    assert items[0].size == "3.0 \u00d7 1.0 mm (30 \u00d7 10 px)"


def test_nothing_to_show_is_no_error(tmp_path):
    table = table_of(make_film([], [], name="a.png"))
    items = list_items(table, 0.5)
    assert len(items) == 0
    store = write_store(tmp_path / "store", ("a.png", Split.TEST, ()))
    assert draw_items(items, table, store, 0.5) == []
    assert list(draw_worst_films(table, store, 0.5, 3)) == []


def test_the_worst_films_come_first_and_those_without_fault_not_at_all(tmp_path):
    good = make_film(FLAWS[:1], FOUND[:1], name="good.png", image_hw=(64, 100))
    bad = make_film(FLAWS, FOUND, name="bad.png", image_hw=(64, 100))
    fair = make_film(FLAWS[:3], FOUND[:1], name="fair.png", image_hw=(64, 100))
    store = write_store(tmp_path / "store", *((f"{name}.png", Split.TEST, ()) for name in ("bad", "fair", "good")))
    sections = list(draw_worst_films(table_of(good, fair, bad), store, 0.5, 5))
    assert [section.name for section in sections] == ["bad.png", "fair.png"]
    assert (sections[0].found, sections[0].missed, sections[0].false_calls) == (1, 3, 2)
    assert len(list(draw_worst_films(table_of(good, fair, bad), store, 0.5, 1))) == 1


def test_films_that_are_not_in_the_prepared_data_are_named(table, tmp_path):
    store = write_store(tmp_path / "store", ("other.png", Split.TEST, ()))
    with pytest.raises(DataError, match=r"film test/a\.png is not in the prepared data"):
        draw_items(list_items(table, 0.5), table, store, 0.5)


def test_sizes_are_in_pixels_where_the_pitch_is_unknown():
    assert size_text(20, 10, np.nan, np.nan) == "20 \u00d7 10 px"

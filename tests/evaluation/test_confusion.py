import numpy as np
from films import films, make_film
from hypothesis import given, settings
from hypothesis import strategies as st

from defects_in_welds.evaluation.confusion import BACKGROUND, MISSED, confusion_matrix
from defects_in_welds.evaluation.matching import match

CLASSES = ("crack", "pore")


def table_of(results):
    return match(results, CLASSES, "iou", 0.5)


def test_found_misnamed_and_missed_flaws_and_calls_on_nothing():
    flaws = [(0, 0, 10, 10, 1, False), (20, 0, 30, 10, 1, False), (40, 0, 50, 10, 2, False), (60, 0, 70, 10, 2, True)]
    found = [
        (0, 0, 10, 10, 1, 0.9),
        (20, 0, 30, 10, 2, 0.8),
        (80, 0, 90, 10, 2, 0.7),
        (60, 0, 70, 10, 2, 0.6),
        (0, 0, 10, 9, 1, 0.5),
        (40, 0, 50, 10, 2, 0.4),
    ]
    matrix = confusion_matrix(table_of([make_film(flaws, found)]), 0.5)
    assert matrix.index.tolist() == ["crack", "pore", BACKGROUND]
    assert matrix.columns.tolist() == ["crack", "pore", MISSED]
    assert matrix.to_numpy().tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]


@settings(max_examples=100)
@given(st.lists(films(), min_size=0, max_size=4), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_every_flaw_and_every_report_is_counted_once(results, min_score):
    table = table_of(results)
    matrix = confusion_matrix(table, min_score)
    counts = matrix.to_numpy()
    assert (counts >= 0).all()
    assert matrix.loc[BACKGROUND, MISSED] == 0
    misnamed = counts[:-1, :-1].sum(axis=1) - np.diag(counts)[:-1]
    for place, name in enumerate(CLASSES):
        is_true, is_called = (rows["defect_class"] == name for rows in (table.flaws, table.detections))
        assert counts[place].sum() == (is_true & ~table.flaws["difficult"]).sum()
        assert counts[place, place] == table.is_found(min_score)[is_true].sum()
        assert misnamed[place] == table.is_misnamed(min_score)[is_true].sum()
        assert misnamed[place] + counts[place, -1] == table.is_missed(min_score)[is_true].sum()
        assert counts[:, place].sum() - counts[place, place] == table.is_false_call(min_score)[is_called].sum()

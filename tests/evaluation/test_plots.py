import csv
from xml.etree import ElementTree

import numpy as np
import pytest

from defects_in_welds.evaluation.coco_map import RECALLS, ClassMetrics, CocoMetrics
from defects_in_welds.evaluation.plots import draw_precision_recall, write_precision_recall


def metrics_of(**classes):
    of_classes = {
        name: None if precision is None else ClassMetrics(0.0, float(precision.mean()), precision)
        for name, precision in classes.items()
    }
    return CocoMetrics(0.0, 0.0, 0.0, 0.0, of_classes)


FALLING = np.where(RECALLS <= 0.5, 1 - RECALLS, 0)


def test_the_table_has_a_row_for_each_class_and_recall(tmp_path):
    write_precision_recall(metrics_of(crack=FALLING, pore=None), tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["defect_class"] for row in rows} == {"crack"}
    assert [float(row["recall"]) for row in rows] == pytest.approx(RECALLS.tolist())
    assert [float(row["precision"]) for row in rows] == FALLING.tolist()


def lines_of(svg):
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own drawing
    ids = [element.get("id") for element in root.iter() if (element.get("id") or "").startswith("line2d")]
    return len(ids)


def test_each_class_with_flaws_has_a_line_and_its_entry_in_the_legend():
    one = lines_of(draw_precision_recall(metrics_of(a=FALLING, b=None)))
    assert lines_of(draw_precision_recall(metrics_of(a=FALLING, b=FALLING))) == one + 2


def test_odd_class_names_and_classes_that_are_never_found_are_drawn():
    plain = lines_of(draw_precision_recall(metrics_of(a=FALLING, b=np.zeros(101))))
    assert lines_of(draw_precision_recall(metrics_of(**{"$x_$ & <b>": FALLING, "_hidden": np.zeros(101)}))) == plain


def test_the_drawing_is_the_same_every_time():
    assert draw_precision_recall(metrics_of(a=FALLING)) == draw_precision_recall(metrics_of(a=FALLING))

import json

import pandas as pd
import plotly.graph_objects as go
import pytest
from films import make_film
from hand_made import make_plots, write_evaluation

from defects_in_welds.data.annotation import DataError
from defects_in_welds.evaluation.matching import match
from defects_in_welds.evaluation.report.figures import make_figures
from defects_in_welds.evaluation.report.plot_parts import COLOURS, DASHES

LONG = "a very long name of a class that nobody would want to read aloud"
CLASSES = ("<b>crack</b>", "gas pore", f"{LONG} 1", f"{LONG} 2", "nan")
FLAWS = [(i * 20, 0, i * 20 + 10, 10, 1 + i % 5, False) for i in range(8)]
FOUND = [(i * 20, 0, i * 20 + 10, 10, 1 + i % 5, 0.9 - i / 10) for i in range(8)]
FILM = make_film(FLAWS, FOUND)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def metrics(folder):
    return write_evaluation(folder, [FILM], CLASSES)


def figures_of(folder, metrics):
    return {figure.name: figure for figure in make_figures(folder / "plots", metrics)}


def texts_of(value):
    if isinstance(value, dict):
        return [text for child in value.values() for text in texts_of(child)]
    if isinstance(value, list):
        return [text for child in value for text in texts_of(child)]
    return [value] if isinstance(value, str) else []


def test_every_table_gives_a_figure_that_plotly_knows(folder, metrics):
    figures = figures_of(folder, metrics)
    assert list(figures) == [
        "froc", "pod", "precision-recall", "calibration", "confusion", "errors", "by-size", "cells",
    ]  # fmt: skip
    for figure in figures.values():
        assert figure.title
        assert figure.caption.endswith(".")
        json.dumps(figure.plot, allow_nan=False)
        go.Figure({"data": figure.plot["data"], "layout": figure.plot["layout"]})  # raises on an unknown property


def test_names_cannot_become_markup_and_stay_short(folder, metrics):
    texts = [text for figure in figures_of(folder, metrics).values() for text in texts_of(figure.plot)]
    assert any("&lt;b&gt;crack" in text for text in texts)
    assert not any("<b>" in text for text in texts)
    assert not any(LONG in text for text in texts)


def test_names_that_are_alike_once_shortened_keep_their_own_rows(folder, metrics):
    (trace,) = figures_of(folder, metrics)["confusion"].plot["data"]
    assert len(trace["z"]) == len(trace["z"][0]) == len(CLASSES) + 1
    total = sum(int(text or 0) for row in trace["text"] for text in row)
    assert total == len(FLAWS) + sum(row["false_calls"] for row in metrics["per_class"].values())


def test_lines_can_be_told_apart_without_colour():
    pairs = [(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]) for i in range(22)]
    assert len(set(pairs)) == 22
    assert len(set(DASHES)) > 3


def test_the_threshold_of_the_page_is_marked(folder, metrics):
    plot = figures_of(folder, metrics)["froc"].plot
    mark = plot["data"][-1]
    assert (mark["mode"], mark["x"]) == ("markers", [pytest.approx(metrics["false_calls_per_metre"] or 0.1, rel=0.1)])
    assert plot["layout"]["xaxis"]["type"] == "log"
    assert "metre" in plot["layout"]["xaxis"]["title"]["text"]


def test_without_a_pixel_pitch_false_calls_are_counted_per_film(folder):
    table = make_film(FLAWS, FOUND, pixel_pitch_mm=None)
    metrics = write_evaluation(folder, [table], CLASSES)
    froc = pd.read_csv(folder / "plots" / "froc.csv").assign(false_calls_per_metre="")
    froc.to_csv(folder / "plots" / "froc.csv", index=False)
    assert "per film" in figures_of(folder, metrics)["froc"].plot["layout"]["xaxis"]["title"]["text"]


def test_each_kind_has_its_own_probability_of_detection(folder, metrics):
    plot = figures_of(folder, metrics)["pod"].plot
    (menu,) = plot["layout"]["updatemenus"]
    assert [button["label"] for button in menu["buttons"]][:2] == ["all", "&lt;b&gt;crack&lt;/b&gt;"]
    for button in menu["buttons"]:
        assert len(button["args"][0]["visible"]) == len(plot["data"])
        assert any(button["args"][0]["visible"])
    names = [
        trace["name"]
        for trace, is_shown in zip(plot["data"], menu["buttons"][1]["args"][0]["visible"], strict=True)
        if is_shown
    ]
    marks = [name.removesuffix(" (beyond the axis)") for name in names]
    assert marks == [
        "lower 95 % bound",
        "probability of detection",
        "a90 = 2 mm",
        "a90/95 = 2.5 mm",
        "found: 1",
        "missed: 1",
    ]


@pytest.mark.parametrize(("a90", "is_far"), [(1.4, False), (40.0, True)])
def test_an_a90_far_beyond_the_flaws_does_not_squeeze_the_curve(folder, metrics, a90, is_far):
    largest = pd.read_csv(folder / "plots" / "pod_points.csv")["size"].max()
    metrics["pod"]["pooled"] |= {"a90": a90 * largest, "a90_95": None}
    plot = figures_of(folder, metrics)["pod"].plot
    (name,) = (trace["name"] for trace in plot["data"] if trace["visible"] and trace["name"].startswith("a90"))
    assert name.endswith(" (beyond the axis)") == is_far
    assert plot["layout"]["xaxis"]["range"][1] == pytest.approx(1.05 * largest * (1.0 if is_far else a90))
    (menu,) = plot["layout"]["updatemenus"]
    assert menu["buttons"][0]["args"][1]["xaxis.range"] == plot["layout"]["xaxis"]["range"]


def test_empty_tables_give_no_figures(folder, metrics):
    for path in (folder / "plots").iterdir():
        path.write_text(path.read_text().splitlines()[0] + "\n")
    metrics |= {"cells": None, "calibration": None, "by_size": []}
    assert list(figures_of(folder, metrics)) == ["errors"]


def test_without_flaws_there_are_no_figures(folder):
    metrics = write_evaluation(folder, [make_film([], FOUND)], CLASSES)
    assert figures_of(folder, metrics) == {}


def test_a_missing_table_is_named(folder, metrics):
    (folder / "plots" / "pod.csv").unlink()
    with pytest.raises(DataError, match=r"plots/pod\.csv: missing; run `dvc repro evaluate`"):
        figures_of(folder, metrics)


def test_level_stretches_of_a_curve_are_two_points(folder, metrics):
    froc = make_plots(match([FILM], CLASSES, "iou", 0.5), CLASSES)["froc"]
    (folder / "plots" / "froc.csv").write_text(froc.assign(recall=0.5).to_csv(index=False))
    for trace in figures_of(folder, metrics)["froc"].plot["data"][:-1]:
        assert len(trace["x"]) == len(trace["customdata"]) == 2


def test_errors_say_so_where_they_are_counted_by_another_rule_than_the_page(folder, metrics):
    assert "whatever counts elsewhere" not in figures_of(folder, metrics)["errors"].caption
    metrics["settings"]["match_rule"] = "centre"
    assert "whatever counts elsewhere" in figures_of(folder, metrics)["errors"].caption

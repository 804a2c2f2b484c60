"""Figures of the page as Plotly's JSON, from the tables that the evaluate stage wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from defects_in_welds.data.annotation import DataError
from defects_in_welds.evaluation.report.plot_parts import (
    COLOURS,
    DASHES,
    INK_COLOUR,
    Trace,
    axis,
    diagonal,
    draw_line,
    draw_markers,
    make_plot,
    numbers,
    plain,
    share_axis,
)
from defects_in_welds.taxonomy import ALL, BACKGROUND, MISSED

_BLUE, _BAND, _ORANGE = COLOURS[0], "rgba(0,114,178,0.15)", COLOURS[1]
_FAR = 1.5  # times the largest flaw: an a90 beyond it lies off the axis
_NAMES = {"defect_class": str, "actual": str, "predicted": str}


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: Of its element on the page.
        title: Heading.
        caption: How to read it.
        plot: ``data`` and ``layout`` for Plotly, and its ``height`` in pixels without the legend.
    """

    name: str
    title: str
    caption: str
    plot: dict[str, Any]


def make_figures(plots_dir: Path, metrics: dict[str, Any]) -> list[Figure]:
    """Make all figures that there is something to show for; without flaws there is nothing.

    Args:
        plots_dir: The tables of the evaluate stage.
        metrics: Its ``metrics.json``.

    Raises:
        DataError: If a table is missing.
    """

    def read(name: str) -> pd.DataFrame:
        return _read_table(plots_dir / f"{name}.csv")

    if not metrics["flaws"]:
        return []
    figures = [
        _froc(read("froc"), metrics),
        _pod(read("pod"), read("pod_points"), metrics),
        _precision_recall(read("precision_recall")),
        _calibration(read("calibration"), metrics),
        _confusion(read("confusion"), list(metrics["per_class"])),
        _errors(metrics["errors"], metrics["settings"]),
        _by_size(metrics["by_size"]),
        _cells(read("roc_cells"), metrics),
    ]
    return [figure for figure in figures if figure is not None]


def size_name_and_unit(size: str) -> tuple[str, str]:
    """Take a measure's name apart: ``length_mm`` is a length in mm."""
    names = {"cnr": "contrast-to-noise ratio"}
    if size.endswith("_mm"):
        return size.removesuffix("_mm"), " mm"
    return names.get(size, size), ""


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table whose names of classes are kept as they are, "nan" and "1" too."""
    try:
        numeric = [name for name in pd.read_csv(path, nrows=0).columns if name not in _NAMES]
        table = pd.read_csv(
            path,
            dtype=_NAMES | dict.fromkeys(numeric, float),
            keep_default_na=False,
            na_values=dict.fromkeys(numeric, ""),
        )
    except (OSError, ValueError) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(
            f"{path}: {reason}; run `dvc repro evaluate` or `python -m defects_in_welds evaluate`"
        ) from None
    return table


def _froc(table: pd.DataFrame, metrics: dict[str, Any]) -> Figure | None:
    if not len(table):
        return None
    per_metre = bool(table["false_calls_per_metre"].notna().any())
    column, unit = ("false_calls_per_metre", "metre of weld") if per_metre else ("false_calls_per_film", "film")
    positive = table[column][table[column] > 0]
    edge = positive.min() / 2 if len(positive) else 0.1
    traces = []
    for name, colour, dash, rows in _by_class(table):
        corners = _corners(rows.assign(shown=rows[column].clip(lower=edge)))
        line = {"color": colour, "dash": dash, "width": 3 if name == ALL else 2, "shape": "hv"}
        traces.append(
            {
                **draw_line(name, corners["shown"], corners["recall"], line),
                "customdata": numbers(corners["score"]),
                "hovertemplate": (
                    f"found %{{y:.0%}}<br>%{{x:.3g}} false calls per {unit}<br>score %{{customdata:.2f}} or more"
                    f"<extra>{plain(name)}</extra>"
                ),
            }
        )
    at, found_share = metrics[column], metrics["found"] / metrics["flaws"]
    if at is not None:
        threshold = metrics["operating_point"]["min_score"]
        traces.append(
            {
                **draw_markers(
                    "threshold of this page", [max(at, edge)], [found_share], "star-diamond", INK_COLOUR, 13
                ),
                "hovertemplate": (
                    f"score {threshold:.3g} or more<br>found %{{y:.0%}}<br>{at:.3g} false calls per {unit}"
                    "<extra></extra>"
                ),
            }
        )
    x = {
        **axis(f"false calls per {unit}"),
        "type": "log",
        "dtick": 1,
        "minor": {"showgrid": True, "gridcolor": "#F1F3F5"},
    }
    caption = (
        "From left to right the detector is allowed lower scores: it finds more flaws and raises more false calls. The "
        "curve of a kind counts the flaws and false calls of that kind alone. The scale on the left ends at "
        f"{edge:.2g}: there stands what is found without any false call."
    )
    return Figure(
        "froc", "Found flaws against false calls", caption, make_plot(traces, x, share_axis("share of the flaws found"))
    )


def _pod(curves: pd.DataFrame, points: pd.DataFrame, metrics: dict[str, Any]) -> Figure | None:
    if not len(points):
        return None
    size, unit = size_name_and_unit(metrics["pod"]["size"])
    records = {ALL: metrics["pod"]["pooled"], **{name: row["pod"] for name, row in metrics["per_class"].items()}}
    names = [ALL, *(name for name in metrics["per_class"] if (points["defect_class"] == name).any())]
    with_curve = [name for name in names if (curves["defect_class"] == name).any()]
    shown = (with_curve or names)[0]
    traces: list[Trace] = []
    owners: list[str] = []
    ranges: dict[str, list[float]] = {}
    for name in names:
        curve = curves[curves["defect_class"] == name]
        own = points if name == ALL else points[points["defect_class"] == name]
        ranges[name] = [0.0, _pod_reach(own["size"].max(), records[name])]
        parts = list(_pod_traces(curve, own, records[name], size, unit))
        traces += [{**trace, "visible": name == shown} for trace in parts]
        owners += [name] * len(parts)
    buttons = [
        {
            "label": plain(name),
            "method": "update",
            "args": [{"visible": [owner == name for owner in owners]}, {"xaxis.range": ranges[name]}],
        }
        for name in names
    ]
    plot = make_plot(
        traces,
        {**axis(f"{size} of the flaw{unit and f', in{unit}'}"), "range": ranges[shown]},
        share_axis("probability of detection"),
    )
    plot["layout"]["yaxis"]["range"] = [-0.09, 1.09]
    plot["layout"]["margin"]["t"] = 52
    menu = {"buttons": buttons, "active": names.index(shown), "x": 0, "xanchor": "left", "y": 1.04, "yanchor": "bottom"}
    plot["layout"]["updatemenus"] = [{**menu, "pad": {"b": 4}, "bgcolor": "#FFFFFF", "bordercolor": "#8A939E"}]
    caption = (
        "How likely a flaw of a size is found at the threshold of this page. Choose the kind of flaw above the figure. "
        "The band reaches down to the lower 95 % confidence bound. Ticks above are flaws that were found, ticks below "
        f"are missed ones. From a90 on, nine of ten are found; from a90/95 on, with 95 % confidence. The {size} stands "
        "for all that makes a flaw visible: depth, orientation and contrast count too."
    )
    return Figure("pod", "Probability of detection", caption, plot)


def _pod_reach(largest: float, record: dict[str, Any]) -> float:
    """Choose where the axis of sizes ends: no a90 far beyond the flaws may squeeze the curve."""
    marked = [record[key] for key in ("a90", "a90_95") if record.get(key) is not None]
    return 1.05 * max(largest, *(size for size in (0.0, *marked) if size <= _FAR * largest))


def _pod_traces(
    curve: pd.DataFrame, points: pd.DataFrame, record: dict[str, Any], size: str, unit: str
) -> Iterator[Trace]:
    hover = f"{size} %{{x:.3g}}{unit}"
    if len(curve):
        of_both = {"hovertemplate": f"{hover}<br>%{{y:.1%}}<extra>%{{fullData.name}}</extra>"}
        lower = {"color": _BLUE, "width": 1.5, "dash": "dash"}
        yield {**draw_line("lower 95 % bound", curve["size"], curve["lower_95"], lower), **of_both}
        solid = {"color": _BLUE, "width": 2.5}
        fitted = draw_line("probability of detection", curve["size"], curve["pod"], solid)
        yield {**fitted, "fill": "tonexty", "fillcolor": _BAND, **of_both}
    for key, name, symbol in (("a90", "a90", "circle"), ("a90_95", "a90/95", "diamond")):
        if record.get(key) is not None:
            beyond = " (beyond the axis)" if record[key] > _FAR * points["size"].max() else ""
            label = f"{name} = {record[key]:.3g}{unit}{beyond}"
            marker = draw_markers(label, [record[key]], [0.9], symbol, INK_COLOUR, 11)
            yield {**marker, "hovertemplate": f"{name}: {hover}<extra></extra>"}
    for was_found, name, y, colour in ((1, "found", 1.05, _BLUE), (0, "missed", -0.05, _ORANGE)):
        sizes = points["size"][points["found"] == was_found]
        ticks = draw_markers(f"{name}: {len(sizes)}", sizes, [y] * len(sizes), "line-ns-open", colour, 9)
        yield {**ticks, "hovertemplate": f"{name}: {hover}<extra></extra>"}


def _precision_recall(table: pd.DataFrame) -> Figure | None:
    reached = table[table["precision"] > 0]
    if not len(reached):
        return None
    traces = [
        {
            **draw_line(name, rows["recall"], rows["precision"], {"color": colour, "dash": dash, "width": 2}),
            "hovertemplate": f"found %{{x:.0%}}<br>right %{{y:.1%}}<extra>{plain(name)}</extra>",
        }
        for name, colour, dash, rows in _by_class(reached)
    ]
    x = share_axis("share of the flaws found (recall)")
    caption = (
        "From left to right the detector is allowed lower scores: it finds more flaws, and more of its reports are "
        "wrong. A line ends at the largest share of flaws that is found at any score. Overlap as for AP50."
    )
    return Figure(
        "precision-recall",
        "Precision and recall",
        caption,
        make_plot(traces, x, share_axis("share of reports that are right")),
    )


def _calibration(table: pd.DataFrame, metrics: dict[str, Any]) -> Figure | None:
    measured = metrics["calibration"]
    filled = table[table["detections"] > 0]
    if measured is None or not len(filled):
        return None
    sizes = 6 + 16 * np.sqrt(filled["detections"] / filled["detections"].max())
    points = {
        **draw_line("reports", filled["score"], filled["hit_share"], {"color": _BLUE, "width": 2}),
        "mode": "lines+markers",
        "marker": {"size": numbers(sizes), "color": _BLUE},
        "customdata": numbers(filled["detections"]),
        "hovertemplate": "score %{x:.2f}<br>right %{y:.0%}<br>%{customdata} reports<extra></extra>",
    }
    caption = (
        "On the dashed line a score would be the probability that a report is right; below it, scores promise too "
        f"much. On average a score is off by {measured['ece']:.2f} (ECE), at most by {measured['max_error']:.2f}. "
        "Large dots stand for many reports."
    )
    x, y = {**axis("score"), "range": [0, 1.03]}, share_axis("share of reports that are right")
    return Figure("calibration", "What a score means", caption, make_plot([diagonal("score = share"), points], x, y))


def _confusion(table: pd.DataFrame, names: Sequence[str]) -> Figure | None:
    if not len(table):
        return None
    counts = pd.crosstab(table["actual"], table["predicted"])
    counts = counts.reindex(index=[*names, BACKGROUND], columns=[*names, MISSED], fill_value=0)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    of_columns, of_rows = ([plain(name, 24) for name in [*names, other]] for other in ("not reported", "no flaw"))
    text = counts.astype(str).to_numpy(dtype=object)
    text[-1, -1] = ""
    trace = {
        "type": "heatmap",
        "z": [numbers(row, 4) for row in shares.to_numpy()],
        "text": text.tolist(),
        "texttemplate": "%{text}",
        "colorscale": [[0, "#FFFFFF"], [0.5, "#6BAED6"], [1, "#08306B"]],
        "zmin": 0,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
        "customdata": [[f"known: {row}<br>reported: {column}" for column in of_columns] for row in of_rows],
        "hovertemplate": "%{customdata}<br>%{text} (%{z:.0%} of the row)<extra></extra>",
    }
    # Names that are alike once shortened would be one row: the places are numbers.
    ticks = {"tickmode": "array", "tickvals": list(range(len(counts))), "showgrid": False}
    x = {**axis("reported as"), **ticks, "ticktext": of_columns, "tickangle": -40}
    y = {**axis("known as"), **ticks, "ticktext": of_rows, "autorange": "reversed"}
    caption = (
        "Rows: what the flaw is known as; the last row holds false calls where there is no flaw. Columns: what it was "
        "reported as. Numbers count flaws and reports; the shade is the share of the row."
    )
    return Figure(
        "confusion", "Which kinds are mixed up", caption, make_plot([trace], x, y, height=190 + 34 * len(counts))
    )


def _errors(errors: dict[str, dict[str, Any]], settings: dict[str, Any]) -> Figure:
    meanings = {
        "classification": "right place, wrong kind",
        "localisation": "right kind, poor overlap",
        "both": "wrong kind, poor overlap",
        "duplicate": "reported twice",
        "background": "no flaw there",
        "missed": "not reported",
    }
    names = [name for name in meanings if name in errors]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [meanings[name] for name in names],
        "x": numbers([errors[name]["dAP50"] or 0.0 for name in names]),
        "text": [f"{errors[name]['count']}×" for name in names],  # noqa: RUF001 - a multiplication sign
        "textposition": "auto",
        "marker": {"color": _BLUE},
        "hovertemplate": "%{y}: %{text}<br>AP50 would rise by %{x:.3f}<extra></extra>",
    }
    caption = (
        "By how much AP50 would rise if the errors of a kind were mended, at all scores, and how many of them there "
        "are at the threshold of this page."
    )
    if (settings["match_rule"], settings["match_overlap"]) != ("iou", 0.5):
        caption += " Here a report finds a flaw as for AP50, whatever counts elsewhere: the numbers add up differently."
    x, y = {**axis("gain in AP50"), "rangemode": "tozero"}, {**axis(""), "autorange": "reversed", "showgrid": False}
    return Figure("errors", "What the errors cost", caption, make_plot([trace], x, y, height=320))


def _by_size(rows: Sequence[dict[str, Any]]) -> Figure | None:
    rows = [row for row in rows if row["flaws"]]
    if not rows:
        return None
    labels = [
        f"{row['low_mm']:g} mm or more" if row["high_mm"] is None else f"{row['low_mm']:g} to {row['high_mm']:g} mm"
        for row in rows
    ]
    traces = [
        {
            "type": "bar",
            "name": key,
            "x": labels,
            "y": numbers([row[key] for row in rows]),
            "customdata": [row["flaws"] for row in rows],
            "marker": {"color": colour, "pattern": {"shape": pattern}},
            "hovertemplate": f"%{{x}}<br>{key} %{{y:.3f}}<br>%{{customdata}} flaws<extra></extra>",
        }
        for key, colour, pattern in (("AP50", _BLUE, ""), ("AP", "#E69F00", "/"))
    ]
    flaws = ", ".join(f"{label}: {row['flaws']}" for label, row in zip(labels, rows, strict=True))
    caption = f"Average precision of flaws by their length. Number of flaws: {flaws}."
    y = {**axis("average precision"), "range": [0, 1.03]}
    return Figure("by-size", "By length of the flaw", caption, make_plot(traces, axis("length"), y))


def _cells(table: pd.DataFrame, metrics: dict[str, Any]) -> Figure | None:
    cells = metrics["cells"]
    if cells is None or not len(table):
        return None
    curve = {
        **draw_line("cells", table["false_call_rate"], table["hit_rate"], {"color": _BLUE, "width": 2.5}),
        "hovertemplate": "cells without flaw called %{x:.1%}<br>cells with flaw called %{y:.1%}<extra></extra>",
    }
    traces = [diagonal("guessing"), curve]
    if cells["hit_rate"] is not None and cells["false_call_rate"] is not None:
        at = [cells["false_call_rate"]], [cells["hit_rate"]]
        traces.append(draw_markers("threshold of this page", *at, "star-diamond", INK_COLOUR, 13))
    low_high = cells["auc_interval"]
    area = (
        ""
        if cells["auc"] is None
        else f" The area under the curve is {cells['auc']:.3f}"
        + (f" (95 % interval {low_high[0]:.3f} to {low_high[1]:.3f})." if low_high else ".")
    )
    caption = (
        f"The weld is cut into {cells['cells']} cells of {cells['cell_mm']:g} mm; {cells['with_flaw']} of them hold a "
        f"flaw. This is how human inspectors are compared, whatever the shape of the boxes.{area}"
    )
    x, y = share_axis("share of sound cells called"), share_axis("share of cells with a flaw called")
    return Figure("cells", "Cell by cell along the weld", caption, make_plot(traces, x, y))


def _by_class(table: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Give each class its colour and dashes, in the order of the table; those of all classes come first."""
    names = list(dict.fromkeys(table["defect_class"]))
    kinds = [name for name in names if name != ALL]
    if ALL in names:
        yield ALL, INK_COLOUR, "solid", table[table["defect_class"] == ALL]
    for index, name in enumerate(kinds):
        yield name, COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)], table[table["defect_class"] == name]


def _corners(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out what lies between the first and the last point of a level stretch."""
    recall = rows["recall"].to_numpy()
    is_inner = np.zeros(len(rows), dtype=np.bool_)
    is_inner[1:-1] = (recall[1:-1] == recall[:-2]) & (recall[1:-1] == recall[2:])
    return rows[~is_inner]

"""Parts of figures as Plotly's JSON: traces, axes and the layout that all figures share."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

# Okabe and Ito's colours, which no colour blindness confuses; the dashes tell lines apart without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
INK_COLOUR, SOFT_COLOUR, _GRID_COLOUR = "#1B1F24", "#5B6470", "#E3E7EB"
_HEIGHT_PX = 360
_LONGEST_NAME = 34

Trace = dict[str, Any]


def draw_line(name: str, x: Sequence[float] | pd.Series, y: Sequence[float] | pd.Series, line: dict[str, Any]) -> Trace:
    """Draw a curve."""
    return {"type": "scatter", "mode": "lines", "name": plain(name), "x": numbers(x), "y": numbers(y), "line": line}


def draw_markers(
    name: str, x: Sequence[float] | pd.Series, y: Sequence[float], symbol: str, colour: str, size_px: int
) -> Trace:
    """Draw markers of one kind."""
    marker = {"symbol": symbol, "color": colour, "size": size_px, "line": {"color": colour, "width": 1.5}}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": numbers(x),
        "y": numbers(y),
        "marker": marker,
    }


def diagonal(name: str) -> Trace:
    """Draw the line on which both shares are equal."""
    line = {"color": SOFT_COLOUR, "dash": "dash", "width": 1}
    return {**draw_line(name, [0, 1], [0, 1], line), "hoverinfo": "skip"}


def numbers(values: Sequence[float] | pd.Series | np.ndarray, digits: int = 5) -> list[float | None]:
    """Round to significant digits, which keeps the page small; what is not finite becomes null."""
    return [float(f"{value:.{digits}g}") if value is not None and np.isfinite(value) else None for value in values]


def plain(name: str, most: int = _LONGEST_NAME) -> str:
    """Shorten a name and keep Plotly from reading tags in it."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return html.escape(short, quote=False).replace("%{", "%&#123;")


def axis(title: str) -> dict[str, Any]:
    """Describe an axis."""
    return {
        "title": {"text": title, "standoff": 8},
        "automargin": True,
        "gridcolor": _GRID_COLOUR,
        "linecolor": "#8A939E",
        "zeroline": False,
    }


def share_axis(title: str) -> dict[str, Any]:
    """Describe an axis that goes from 0 to 100 %."""
    return {**axis(title), "range": [0, 1.03], "tickformat": ".0%"}


def make_plot(traces: list[Trace], x: dict[str, Any], y: dict[str, Any], height: int = _HEIGHT_PX) -> dict[str, Any]:
    """Put a plot together; the page makes it higher by its legend, which stands below."""
    below = {"x": 0, "xanchor": "left", "yref": "container", "y": 0, "yanchor": "bottom"}
    layout = {
        "margin": {"l": 8, "r": 12, "t": 32, "b": 8},
        "font": {
            "family": 'system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif',
            "size": 13,
            "color": INK_COLOUR,
        },
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "showlegend": sum("name" in trace for trace in traces) > 1,
        "legend": {"orientation": "h", "traceorder": "normal", **below},
        "hoverlabel": {"align": "left", "namelength": -1},
        "xaxis": x,
        "yaxis": y,
    }
    return {"data": traces, "layout": layout, "height": height}

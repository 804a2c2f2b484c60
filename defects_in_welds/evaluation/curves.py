"""Curves as tables: DVC plots them, and the report draws them."""

from pathlib import Path

import numpy as np
import pandas as pd

from defects_in_welds.evaluation.coco_map import RECALLS, CocoMetrics
from defects_in_welds.evaluation.measures import FilmMeasures, of_class
from defects_in_welds.evaluation.pod.hit_miss import PodFit

POD_POINTS = 101


def write_curves(measures: FilmMeasures, folder: Path) -> None:
    """Write each curve as a CSV file; one that cannot be measured has no rows."""
    tables = {
        "precision_recall": precision_recall(measures.coco),
        "froc": froc_points(measures),
        "pod": pod_points(measures),
        "pod_points": hits_and_misses(measures),
        "calibration": reliability(measures),
        "confusion": confused_pairs(measures.confusion),
        "roc_cells": measures.cell_roc,
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def precision_recall(coco: CocoMetrics) -> pd.DataFrame:
    """Tabulate precision at 101 recalls and IoU 0.5, for each class that has flaws to find."""
    parts = [
        pd.DataFrame({"defect_class": name, "recall": RECALLS.round(2), "precision": of_name.precision_50})
        for name, of_name in coco.classes.items()
        if of_name is not None
    ]
    return _joined(parts, ["defect_class", "recall", "precision"])


def froc_points(measures: FilmMeasures) -> pd.DataFrame:
    """Tabulate the FROC curves of all classes together and of each; curves without flaws are left out."""
    parts = [
        pd.DataFrame(
            {
                "defect_class": name,
                "score": curve.thresholds,
                "false_calls_per_film": curve.false_calls_per_film,
                "false_calls_per_metre": np.nan if curve.false_calls_per_metre is None else curve.false_calls_per_metre,
                "recall": curve.recall,
            }
        )
        for name, curve in measures.froc.items()
        if curve.flaws
    ]
    return _joined(parts, ["defect_class", "score", "false_calls_per_film", "false_calls_per_metre", "recall"])


def pod_points(measures: FilmMeasures) -> pd.DataFrame:
    """Tabulate the probability of detection with its lower 95 % bound, where there is a fit, at sizes that occur."""
    parts = []
    for name, fit in measures.pod.items():
        if isinstance(fit, PodFit):
            sizes = of_class(measures.pod_flaws, name)["size"]
            grid = np.geomspace(sizes.min(), sizes.max(), POD_POINTS)
            curve = fit.curve(grid)
            parts.append(pd.DataFrame({"defect_class": name, "size": grid, "pod": curve.pod, "lower_95": curve.lower}))
    return _joined(parts, ["defect_class", "size", "pod", "lower_95"])


def hits_and_misses(measures: FilmMeasures) -> pd.DataFrame:
    """List size and outcome of each flaw whose size is known."""
    flaws = measures.pod_flaws
    return pd.DataFrame(
        {"defect_class": flaws["defect_class"], "size": flaws["size"], "found": flaws["hit"].astype(np.int64)}
    )


def reliability(measures: FilmMeasures) -> pd.DataFrame:
    """Tabulate the share of hits over the score, in bins of equal width."""
    if measures.calibration is None:
        return pd.DataFrame(columns=["score", "hit_share", "detections"])
    curve = measures.calibration.equal_width
    return pd.DataFrame({"score": curve.mean_scores, "hit_share": curve.hit_shares, "detections": curve.counts})


def confused_pairs(matrix: pd.DataFrame) -> pd.DataFrame:
    """Write each count as so many rows, which is what DVC's template counts."""
    row, column = np.nonzero(matrix.to_numpy())
    counts = matrix.to_numpy()[row, column]
    return pd.DataFrame(
        {
            "actual": matrix.index.to_numpy()[np.repeat(row, counts)],
            "predicted": matrix.columns.to_numpy()[np.repeat(column, counts)],
        }
    )


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts) if parts else pd.DataFrame(columns=columns)

"""What the evaluate stage writes, made by hand: the page is tested with every state that numbers can be in."""

import json

import numpy as np
import pandas as pd

from defects_in_welds.evaluation.matching import match

REFUSED = {"flaws": 1, "hits": 0, "refused": "1 flaw is too few: at least 10 are needed"}
MIN_SCORE = 0.5


def fitted(a90_95=2.5, **changes):
    fit = {"flaws": 40, "hits": 31, "link": "logit", "a50": 1.1, "a90": 2.0, "a90_95": a90_95}
    return {
        **fit,
        "method": "maximum likelihood",
        "largest": 9.0,
        "warning": None,
        "note": None,
        "goodness_p": 0.4,
        **changes,
    }


def make_metrics(table, classes, run_id="run", **changes):
    """Counts from the table, and the rest as if it had been measured."""
    flaws, found = ~table.flaws["difficult"].to_numpy(bool), table.is_found(MIN_SCORE)
    missed, misnamed = table.is_missed(MIN_SCORE), table.is_misnamed(MIN_SCORE)
    false_calls = table.is_false_call(MIN_SCORE)
    per_class = {}
    for index, name in enumerate(classes):
        of_flaws, of_found = table.flaws["defect_class"] == name, table.detections["defect_class"] == name
        per_class[name] = {
            "iso_6520_1": "100" if index == 0 else None,
            "flaws": int((flaws & of_flaws).sum()),
            "found": int((found & of_flaws).sum()),
            "missed": int((missed & of_flaws).sum()),
            "misnamed": int((misnamed & of_flaws).sum()),
            "false_calls": int((false_calls & of_found).sum()),
            "AP": 0.4,
            "AP50": 0.663,
            "found_share_interval": [0.2, 0.9],
            "AP50_interval": None,
            "pod": fitted() if index == 0 else REFUSED,
        }
    total = {key: sum(row[key] for row in per_class.values()) for key in ("flaws", "found", "missed", "misnamed")}
    weld_m = table.films["weld_mm"].sum(skipna=False) / 1000
    return {
        "run_id": run_id,
        "split": "test",
        "films": len(table.films),
        **total,
        "false_calls": int(false_calls.sum()),
        "difficult_flaws": int(table.flaws["difficult"].sum()),
        "false_calls_per_film": int(false_calls.sum()) / len(table.films),
        "false_calls_per_metre": int(false_calls.sum()) / weld_m if weld_m > 0 else None,
        "weld_m": weld_m if weld_m > 0 else None,
        "operating_point": {
            "min_score": MIN_SCORE,
            "chosen_on": "val",
            "target_false_calls_per_metre": 20,
            "false_calls_per_metre_there": 18.2,
            "recall_there": 0.81,
            "note": None,
        },
        "mAP": 0.4,
        "mAP50": 0.663,
        "mAP75": 0.3,
        "AR": None,
        "intervals": {
            "found_share": [0.15, 0.85],
            "false_calls_per_film": [0.5, 1.5],
            "false_calls_per_metre": None,
            "mAP": [0.3, 0.5],
            "mAP50": None,
        },
        "per_class": per_class,
        "pod": {"size": "length_mm", "pooled": fitted(None)},
        "by_size": [
            {"low_mm": 0, "high_mm": 2, "flaws": 2, "AP": 0.3, "AP50": 0.5, "AR": 0.4},
            {"low_mm": 2, "high_mm": None, "flaws": 2, "AP": 0.5, "AP50": 0.8, "AR": 0.6},
        ],
        "errors": {
            name: {"count": number, "dAP50": gain}
            for name, number, gain in (
                ("classification", 2, 0.05),
                ("localisation", 1, 0.01),
                ("both", 0, 0.0),
                ("duplicate", 1, 0.002),
                ("background", 5, 0.08),
                ("missed", 3, None),
            )
        },
        "calibration": {"ece": 0.12, "max_error": 0.3, "detections": 20},
        "cells": {
            "cell_mm": 10,
            "cells": 200,
            "with_flaw": 40,
            "auc": 0.93,
            "auc_interval": [0.9, 0.96],
            "hit_rate": 0.8,
            "false_call_rate": 0.05,
        },
        "recall_at_false_calls_per_metre": {"1": 0.4, "3": 0.55, "10": 0.7},
        "settings": {"match_rule": "iou", "match_overlap": 0.5, "merge_iou": 0.5},
        "note": None,
        **changes,
    }


def write_evaluation(folder, results, classes, **changes):
    """Write an evaluation of these results; changes replace entries of ``metrics.json``.

    Returns:
        The content of ``metrics.json``.
    """
    table = match(results, classes, "iou", 0.5)
    metrics = make_metrics(table, classes, **changes)
    for name in ("plots", "matches"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    table.write(folder / "matches")
    for name, rows in make_plots(table, classes).items():
        rows.to_csv(folder / "plots" / f"{name}.csv", index=False)
    return metrics


def make_plots(table, classes):
    """The tables that the figures are drawn from."""
    size = np.linspace(0.5, 8, 60)
    pod = 1 / (1 + np.exp(-(np.log(size) - 0.3) / 0.25))
    curve = pd.DataFrame({"size": size, "pod": pod, "lower_95": np.clip(pod - 0.15, 0, 1)})
    rates = np.geomspace(0.2, 60, 40)
    rising = pd.DataFrame(
        {
            "score": np.linspace(0.99, 0.05, 40),
            "false_calls_per_film": rates / 10,
            "false_calls_per_metre": rates,
            "recall": np.round(0.9 * (1 - np.exp(-rates / 6)), 2),
        }
    )
    recall = np.linspace(0, 1, 101)
    falling = pd.DataFrame({"recall": recall, "precision": np.where(recall < 0.8, 1 - 0.5 * recall**2, 0)})
    flaws = table.flaws
    edges = np.linspace(0, 1, 40)
    detections = table.detections
    background = ["background"] * len(detections)
    return {
        "froc": _for_classes(rising, ["all", *classes], "recall"),
        "pod": _for_classes(curve, ["all", *classes[:1]], "pod"),
        "pod_points": pd.DataFrame(
            {
                "defect_class": flaws["defect_class"].astype(str),
                "size": flaws["length_mm"],
                "found": (flaws["score"] >= MIN_SCORE).astype(int),
            }
        ).dropna(),
        "precision_recall": _for_classes(falling, classes, "precision"),
        "calibration": pd.DataFrame(
            {"score": [0.15, 0.4, 0.65, 0.9], "hit_share": [0.05, 0.3, 0.7, 0.92], "detections": [90, 40, 30, 60]}
        ),
        "confusion": pd.concat(
            [
                pd.DataFrame(
                    {
                        "actual": flaws["defect_class"].astype(str),
                        "predicted": np.where(flaws["score"] >= MIN_SCORE, flaws["defect_class"].astype(str), "missed"),
                    }
                ),
                pd.DataFrame({"actual": background, "predicted": detections["defect_class"].astype(str)})[
                    table.is_false_call(MIN_SCORE)
                ],
            ]
        ),
        "roc_cells": pd.DataFrame({"false_call_rate": edges, "hit_rate": edges**0.15}),
    }


def _for_classes(rows, names, column):
    """The same curve for every class, each a little lower than the one before."""
    parts = [rows.assign(defect_class=name, **{column: rows[column] * 0.97**place}) for place, name in enumerate(names)]
    joined = pd.concat(parts)
    return joined[["defect_class", *rows.columns]]

"""All measures of a set of films, from one matching, and the numbers that ``metrics.json`` keeps of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from defects_in_welds.evaluation.bootstrap import Interval, headline_intervals
from defects_in_welds.evaluation.calibration import Calibration, measure_calibration
from defects_in_welds.evaluation.cells import CellMeasures, cell_roc, cell_table, measure_cells
from defects_in_welds.evaluation.coco_map import CocoMetrics, measure_coco
from defects_in_welds.evaluation.confusion import confusion_matrix
from defects_in_welds.evaluation.error_types import ErrorMeasure, measure_errors
from defects_in_welds.evaluation.film_results import FilmResult, to_coco
from defects_in_welds.evaluation.froc import Froc, froc, recall_at
from defects_in_welds.evaluation.matching import MatchTable, match
from defects_in_welds.evaluation.pod.hit_miss import Link, PodFit, PodRefusal, fit_pod
from defects_in_welds.params import EvaluateParams
from defects_in_welds.taxonomy import ALL, iso_6520_1_number

RATES_PER_METRE = (1, 3, 10, 30)
"""False calls per metre of weld at which the FROC curve is read."""

CALIBRATION_BINS = 10

_COUNTS = ("flaws", "found", "missed", "misnamed", "false_calls")
"""What is counted of each class; the misnamed flaws are among the missed ones."""


@dataclass(frozen=True, eq=False)
class FilmMeasures:
    """What was measured on a set of films.

    Attributes:
        defect_classes: Names in order of their ids, from 1.
        table: Which detections found which flaws.
        min_score: Score from which a detection counts where a threshold is needed.
        coco: COCO's measures.
        intervals: Of the headline numbers, by the names of `headline_numbers`; None where there is none.
        froc: Curve by class, and of `ALL`.
        pod_size: Name of the size that the probability of detection is a function of.
        pod: Fit, or the reason why there is none, by class and of `ALL`.
        pod_flaws: The flaws whose size is known: ``defect_class``, ``size`` and ``hit``.
        confusion: See `confusion_matrix`.
        errors: By error type; of a match by IoU, whatever the rule of ``table``.
        calibration: None without detections.
        cells: Of the films whose pixel pitch is known.
        cell_roc: Hits over false calls of cells.
    """

    defect_classes: tuple[str, ...]
    table: MatchTable
    min_score: float
    coco: CocoMetrics
    intervals: dict[str, Interval | None]
    froc: dict[str, Froc]
    pod_size: str
    pod: dict[str, PodFit | PodRefusal]
    pod_flaws: pd.DataFrame
    confusion: pd.DataFrame
    errors: dict[str, ErrorMeasure]
    calibration: Calibration | None
    cells: CellMeasures
    cell_roc: pd.DataFrame

    @property
    def flaws(self) -> int:
        """Number of flaws to find."""
        return int((~self.table.flaws["difficult"]).sum())


def measure_films(
    results: Sequence[FilmResult], defect_classes: tuple[str, ...], min_score: float, settings: EvaluateParams
) -> FilmMeasures:
    """Match truth and detections of films once, and measure all that can be.

    Args:
        results: Film by film.
        defect_classes: Names in order of their ids, from 1.
        min_score: Score from which a detection counts where a threshold is needed.
        settings: How it is measured.
    """
    table = match(results, defect_classes, settings.match_rule, settings.match_overlap)
    pod_flaws = _flaws_of_known_size(table, settings.pod_size, min_score)
    return FilmMeasures(
        defect_classes=defect_classes,
        table=table,
        min_score=min_score,
        coco=measure_coco(*to_coco(results, defect_classes), settings.max_detections_per_film, settings.size_edges_mm),
        intervals=headline_intervals(
            results, defect_classes, table, min_score, settings.bootstrap_samples, settings.seed
        ),
        froc={ALL: froc(table), **{name: froc(table, name) for name in defect_classes}},
        pod_size=settings.pod_size,
        pod={
            name: fit_pod(chosen["size"].to_numpy(), chosen["hit"].to_numpy(), cast(Link, settings.pod_link))
            for name in (ALL, *defect_classes)
            for chosen in [of_class(pod_flaws, name)]
        },
        pod_flaws=pod_flaws,
        confusion=confusion_matrix(table, min_score),
        errors=measure_errors(match(results, defect_classes, "iou", 0.5), min_score),
        calibration=measure_calibration(table, CALIBRATION_BINS),
        cells=measure_cells(table, min_score, settings.cell_mm, settings.bootstrap_samples, settings.seed),
        cell_roc=cell_roc(cell_table(table, settings.cell_mm)),
    )


def to_metrics(measures: FilmMeasures) -> dict[str, Any]:
    """Put the numbers together, as ``metrics.json`` has them; null is what cannot be measured."""
    table, coco, intervals = measures.table, measures.coco, measures.intervals
    counts = count_outcomes(table, measures.defect_classes, measures.min_score)
    total = {key: sum(row[key] for row in counts.values()) for key in _COUNTS}
    weld_m = number(table.films["weld_mm"].sum(skipna=False) / 1000)
    recalls = recall_at(measures.froc[ALL], RATES_PER_METRE)
    return {
        "films": len(table.films),
        "weld_m": weld_m,
        **total,
        "difficult_flaws": int(table.flaws["difficult"].sum()),
        "false_calls_per_film": total["false_calls"] / len(table.films),
        "false_calls_per_metre": total["false_calls"] / weld_m if weld_m else None,
        "mAP": coco.mean_average_precision,
        "mAP50": coco.mean_average_precision_50,
        "mAP75": coco.mean_average_precision_75,
        "AR": coco.average_recall,
        "intervals": {
            "found_share": _ends(intervals["recall"]),
            **{
                name: _ends(intervals[name])
                for name in ("false_calls_per_film", "false_calls_per_metre", "mAP", "mAP50")
            },
        },
        "per_class": {
            name: {
                "iso_6520_1": iso_6520_1_number(name),
                "AP": of_name.average_precision if of_name else None,
                "AP50": of_name.average_precision_50 if of_name else None,
                **counts[name],
                "found_share_interval": _ends(intervals[f"recall/{name}"]),
                "AP50_interval": _ends(intervals[f"AP50/{name}"]),
                "pod": _pod_numbers(measures, name),
            }
            for name, of_name in coco.classes.items()
        },
        "pod": {"size": measures.pod_size, "pooled": _pod_numbers(measures, ALL)},
        "by_size": [
            {
                "low_mm": size.low_mm,
                "high_mm": size.high_mm,
                "flaws": size.flaws,
                "AP": size.average_precision,
                "AP50": size.average_precision_50,
                "AR": size.average_recall,
            }
            for size in coco.by_size or ()
        ],
        "errors": {name: {"count": error.count, "dAP50": error.ap50_gain} for name, error in measures.errors.items()},
        "calibration": None
        if measures.calibration is None
        else {
            "ece": measures.calibration.equal_width.expected_error,
            "max_error": measures.calibration.equal_width.largest_error,
            "detections": int(measures.calibration.equal_width.counts.sum()),
        },
        "cells": _cell_numbers(measures.cells) if measures.cells.films else None,
        "recall_at_false_calls_per_metre": None
        if recalls is None
        else {str(rate): number(recall) for rate, recall in zip(RATES_PER_METRE, recalls, strict=True)},
    }


def count_outcomes(table: MatchTable, defect_classes: Sequence[str], min_score: float) -> dict[str, dict[str, int]]:
    """Count what became of flaws and detections by class, among the detections with at least that score."""
    masks = {
        "flaws": ~table.flaws["difficult"].to_numpy(dtype=np.bool_),
        "found": table.is_found(min_score),
        "missed": table.is_missed(min_score),
        "misnamed": table.is_misnamed(min_score),
    }
    by_class = {key: table.flaws.loc[mask, "defect_class"].value_counts() for key, mask in masks.items()}
    by_class["false_calls"] = table.detections.loc[table.is_false_call(min_score), "defect_class"].value_counts()
    return {name: {key: int(by_class[key][name]) for key in _COUNTS} for name in defect_classes}


def of_class(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Choose the rows of a class, or all of them."""
    return rows if name == ALL else rows[rows["defect_class"] == name]


def number(value: float) -> float | None:
    """Write what is no number as null does."""
    return None if math.isnan(value) else float(value)


def _flaws_of_known_size(table: MatchTable, size: str, min_score: float) -> pd.DataFrame:
    """List the flaws for the probability of detection: the difficult ones too, since a miss is one."""
    flaws = pd.DataFrame(
        {
            "defect_class": table.flaws["defect_class"],
            "size": table.flaws[size].abs(),  # contrast has a sign
            "hit": table.flaws["score"] >= min_score,
        }
    )
    return flaws[flaws["size"] > 0]


def _pod_numbers(measures: FilmMeasures, name: str) -> dict[str, Any]:
    pod, flaws = measures.pod[name], of_class(measures.pod_flaws, name)
    counts = {"flaws": len(flaws), "hits": int(flaws["hit"].sum())}
    if isinstance(pod, PodRefusal):
        return {**counts, "refused": pod.reason}
    return {
        **counts,
        "link": pod.link,
        "method": pod.method,
        "largest": float(flaws["size"].max()),
        "a50": pod.a50,
        "a90": pod.a90,
        "a90_95": pod.a90_95,
        "note": pod.unbounded_reason,
        "warning": "; ".join(pod.cautions) or None,
        "goodness_p": pod.hosmer_lemeshow_p,
        "AIC": pod.aic,
    }


def _cell_numbers(cells: CellMeasures) -> dict[str, Any]:
    return {
        "cell_mm": cells.cell_mm,
        "cells": cells.flawed_cells + cells.sound_cells,
        "with_flaw": cells.flawed_cells,
        "ignored": cells.ignored_cells,
        "hit_rate": cells.hit_rate,
        "false_call_rate": cells.false_call_rate,
        "auc": cells.auc,
        "auc_interval": cells.auc_interval,
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]

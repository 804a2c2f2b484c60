"""Curves, as a table for DVC and as a picture for the report."""

import csv
import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from defects_in_welds.evaluation.coco_map import RECALLS, CocoMetrics

# Okabe and Ito's colours, which no colour blindness confuses; the dashes tell lines apart without colour.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_DASHES = ("-", "--", "-.", ":")


def write_precision_recall(metrics: CocoMetrics, path: Path) -> None:
    """Write precision at 101 recalls and IoU 0.5, for each class that has flaws to find."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["defect_class", "recall", "precision"])
        for name, of_class in metrics.classes.items():
            if of_class is not None:
                points = zip(RECALLS.round(2).tolist(), of_class.precision_50.tolist(), strict=True)
                table.writerows([name, recall, precision] for recall, precision in points)


def draw_precision_recall(metrics: CocoMetrics) -> bytes:
    """Draw precision over recall at IoU 0.5, one line a class, up to the recall that it reaches.

    Returns:
        An SVG document, the same for the same metrics.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel="share of the flaws found (recall)", ylabel="share of reports that are right")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.05))
    axes.grid(alpha=0.3)
    of_classes = [(name, of_class.precision_50) for name, of_class in metrics.classes.items() if of_class is not None]
    lines = []
    for index, (_, precision) in enumerate(of_classes):
        reached = precision > 0
        colour, dashes = LINE_COLOURS[index % len(LINE_COLOURS)], LINE_DASHES[index % len(LINE_DASHES)]
        lines += axes.plot(RECALLS[reached], precision[reached], color=colour, linestyle=dashes, linewidth=2)
    # A dollar sign would begin a formula.
    axes.legend(lines, [name.replace("$", r"\$") for name, _ in of_classes], loc="lower left")
    drawing = io.BytesIO()
    with rc_context({"svg.hashsalt": "precision and recall"}):
        figure.savefig(drawing, format="svg", metadata={"Date": None})
    return drawing.getvalue()

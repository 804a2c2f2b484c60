"""What the numbers say, in plain words: the first lines of the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from defects_in_welds.data.annotation import Split
from defects_in_welds.evaluation.report.figures import size_name_and_unit


def verdict(metrics: dict[str, Any]) -> list[str]:
    """Say in a few sentences what the detector finds and what it does not."""
    on_films = f"on {count(metrics['films'], 'film')} that it had not been trained on"
    flaws = metrics["flaws"]
    if not flaws:
        none = f"There is no known flaw {on_films}, so this page cannot say what the detector would miss."
        return [none, _false_calls(metrics), _threshold(metrics["operating_point"])]
    share = percent(metrics["found"] / flaws)
    interval = interval_text(metrics["intervals"]["found_share"], percent)
    sentences = [
        f"The detector found {metrics['found']} of {count(flaws, 'known flaw')} ({share}{interval}) and missed "
        f"{metrics['missed']}, {on_films}.",
        *_reliability(metrics),
        _false_calls(metrics),
        _threshold(metrics["operating_point"]),
    ]
    if misnamed := metrics["misnamed"]:
        sentences.append(
            f"{misnamed} of the missed flaws {'was' if misnamed == 1 else 'were'} reported under another class, and "
            "counted among the false calls too."
        )
    measured = {name: row for name, row in metrics["per_class"].items() if row["flaws"]}
    worst = min(measured, key=lambda name: (measured[name]["found"] / measured[name]["flaws"], name))
    if len(measured) > 1 and measured[worst]["missed"]:
        row = measured[worst]
        sentences.append(f"It is weakest on {worst}: {row['found']} of {row['flaws']} found.")
    return sentences


def notices(metrics: dict[str, Any], is_other_data: bool) -> list[str]:
    """Say what the reader must know before believing the numbers.

    Args:
        metrics: Of the evaluate stage.
        is_other_data: Whether the model was trained on other data than the prepared data.
    """
    found = []
    if metrics["split"] == Split.VAL:
        found.append(
            "The data has no test films. These numbers come from the validation films, which were used to choose the "
            "model and the threshold: expect worse on films that are new to it."
        )
    if is_other_data:
        found.append("The model was trained on other data than the data described here: their hashes differ.")
    if note := metrics["operating_point"]["note"]:
        found.append(f"Threshold: {note}")
    if difficult := metrics["difficult_flaws"]:
        found.append(
            f"{count(difficult, 'flaw')} marked as difficult in the data: not counted as found, missed or false. Only "
            "the probability of detection counts them."
        )
    if metrics["weld_m"] is None and metrics["cells"] is None:
        found.append("The pixel pitch of the films is not known: there are no sizes in mm, and no numbers per metre.")
    elif metrics["weld_m"] is None:
        found.append(
            "The pixel pitch of some films is not known: sizes in mm and cells are those of the other films, and there "
            "are no numbers per metre."
        )
    return found


def count(number: int, noun: str) -> str:
    """Put a number before a noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(share: float) -> str:
    """Write a share as a percentage; what is nearly all or nearly none does not read as all or none."""
    if 0 < share < 0.005:
        return "under 1\u00a0%"
    if 0.995 <= share < 1:
        return "over 99\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def three_digits(value: float) -> str:
    """Write a number with three significant digits, never as a power of ten."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


def interval_text(interval: Sequence[float] | None, write: Any, words: str = "; 95 % interval ") -> str:  # noqa: ANN401
    """Write the bounds of an interval, or nothing where there is none."""
    if interval is None:
        return ""
    low, high = (write(bound) for bound in interval)
    return f"{words}{low} to {high}"


def _reliability(metrics: dict[str, Any]) -> list[str]:
    size, unit = size_name_and_unit(metrics["pod"]["size"])
    reliable, unreliable, unmeasured = [], [], []
    for name, row in metrics["per_class"].items():
        pod = row["pod"]
        if "refused" in pod:
            unmeasured.append(name)
        elif not _is_reached(pod):
            unreliable.append(name)
        else:
            doubt = " (with doubt: see the table)" if pod["warning"] else ""
            reliable.append(f"{name} from {three_digits(pod['a90_95'])}{unit}{doubt}")
    sentences = []
    if reliable:
        sentences.append(
            f"Found reliably, that is at least nine of ten with 95 % confidence, by {size}: {'; '.join(reliable)}."
        )
    if unreliable:
        sentences.append(f"Not found reliably at any {size} seen here: {', '.join(unreliable)}.")
    if unmeasured:
        sentences.append(
            f"From these films nothing can be said about the {size} from which these are found reliably: "
            f"{', '.join(unmeasured)}. The table says why."
        )
    together = metrics["pod"]["pooled"]
    if not reliable and _is_reached(together):
        sentences.append(
            f"All kinds taken together are found reliably from a {size} of {three_digits(together['a90_95'])}{unit} "
            "on; a single kind may need more."
        )
    return sentences


def _is_reached(pod: dict[str, Any]) -> bool:
    """Tell whether a flaw as large as a90/95 was among those looked at: beyond them the curve is a guess."""
    return pod.get("a90_95") is not None and pod["a90_95"] <= pod["largest"]


def _false_calls(metrics: dict[str, Any]) -> str:
    intervals = metrics["intervals"]
    per_film = interval_text(intervals["false_calls_per_film"], three_digits, " (95 % interval ")
    text = f"It raised {count(metrics['false_calls'], 'false call')}, {metrics['false_calls_per_film']:.1f} per film"
    text += per_film and f"{per_film})"
    if (per_metre := metrics["false_calls_per_metre"]) is not None:
        interval = interval_text(intervals["false_calls_per_metre"], three_digits, " (95 % interval ")
        text += f" and {three_digits(per_metre)} per metre of weld{interval and f'{interval})'}"
    return f"{text}."


def _threshold(point: dict[str, Any]) -> str:
    counted = f"Counted is what it reports with a score of {point['min_score']:.3g} or more."
    if point["chosen_on"] is None:
        return f"{counted} That threshold is the one that the parameters set for want of a better."
    target = three_digits(point["target_false_calls_per_metre"])
    text = f"{counted} That threshold was chosen on the validation films, for at most {target} false calls per metre"
    there = []
    if point["false_calls_per_metre_there"] is not None:
        there.append(f"it raised {three_digits(point['false_calls_per_metre_there'])}")
    if point["recall_there"] is not None:
        there.append(f"found {percent(point['recall_there'])} of the flaws")
    return f"{text}; there {' and '.join(there)}." if there else f"{text}."

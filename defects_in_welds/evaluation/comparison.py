"""Tell whether one detector is better than another on the same films, or only luckier.

Both are measured on the same resamples of the welds, so that what makes a film easy or hard for both falls out of the
difference.

References:
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 15.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float
from mlflow import MlflowClient

from defects_in_welds.data.annotation import DataError
from defects_in_welds.evaluation.bootstrap import count_welds, draw_welds, headline_numbers, percentile_interval
from defects_in_welds.evaluation.earlier_stages import read_json
from defects_in_welds.evaluation.film_results import FilmResult, from_coco
from defects_in_welds.evaluation.matching import match
from defects_in_welds.params import Params, without_credentials
from defects_in_welds.training.mlflow_store import limit_retries, tracking_uri

ARTIFACT_FOLDER = "evaluation"
"""Where an MLflow run keeps what the evaluation wrote."""

_SIGNIFICANT = 0.05
_SAME_PX = 0.01  # truth that was prepared at another pixel pitch comes back rounded
_RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Difference:
    """A number of two runs.

    Attributes:
        a: Of the first run.
        b: Of the second run.
        difference: ``b - a``.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: Two-sided: how often resamples would contradict the sign of the difference, were it none.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether chance would seldom make such a difference: p is below 0.05, and 0 outside of the interval."""
        return self.p_value < _SIGNIFICANT


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """What an evaluation left behind.

    Attributes:
        results: Truth and detections, film by film.
        defect_classes: Class names in order of their ids.
        min_score: The score threshold that it applied.
    """

    results: list[FilmResult]
    defect_classes: tuple[str, ...]
    min_score: float


def compare_runs(run_a: str, run_b: str, params: Params) -> str:
    """Compare two evaluations over the same films.

    Args:
        run_a: Folder that an evaluation wrote, or id of the MLflow run that holds it.
        run_b: Likewise.
        params: Of ``evaluate``, the rule of the match, the number of resamples and their seed are read.

    Returns:
        A table as text.

    Raises:
        DataError: If a run is missing or broken, or they are not over the same films, flaws and classes.
    """
    a, b = read_evaluation(run_a, params), read_evaluation(run_b, params)
    if a.defect_classes != b.defect_classes:
        raise DataError(
            f"{run_a} finds {', '.join(a.defect_classes)}, but {run_b} {', '.join(b.defect_classes)}: compare "
            "detectors of the same classes in the same order"
        )
    settings = params.evaluate
    differences = compare(
        a.results,
        b.results,
        a.defect_classes,
        settings.match_rule,
        settings.match_overlap,
        (a.min_score, b.min_score),
        settings.bootstrap_samples,
        settings.seed,
    )
    welds = len({result.weld for result in a.results})
    heading = [
        f"a: {run_a}, scores from {a.min_score:.3g}",
        f"b: {run_b}, scores from {b.min_score:.3g}",
        f"{len(a.results)} films of {welds} welds, {settings.bootstrap_samples} resamples of the welds",
    ]
    return "\n".join([*heading, "", *tabulate(differences)])


def compare(
    results_a: Sequence[FilmResult],
    results_b: Sequence[FilmResult],
    defect_classes: Sequence[str],
    rule: str,
    least_overlap: float,
    min_scores: tuple[float, float],
    samples: int,
    seed: int,
) -> dict[str, Difference | None]:
    """Compare two detectors, number by number, on the same resamples of the welds.

    Args:
        results_a: Truth and detections of the first, film by film.
        results_b: Those of the second, of the same films in any order.
        defect_classes: Class names in order of their ids, which start at 1.
        rule: As `match` has it, for recall and false calls.
        least_overlap: Likewise.
        min_scores: Least score of the detections that are counted for recall and false calls, for each.
        samples: Number of resamples.
        seed: The same seed and films give the same differences.

    Returns:
        By name as in `headline_numbers`; None where there is no number, or a single weld.

    Raises:
        DataError: If the films or their flaws differ.
    """
    # One truth for both, lest its rounding makes a difference.
    truths = zip(results_a, _in_order_of(results_a, results_b), strict=True)
    same_b = [replace(a, detections=b.detections) for a, b in truths]
    tables = [match(results, defect_classes, rule, least_overlap) for results in (results_a, same_b)]
    weights = draw_welds(tables[0], samples, seed)
    numbers_a, numbers_b = (
        headline_numbers(results, defect_classes, table, min_score, weights)
        for results, table, min_score in zip((results_a, same_b), tables, min_scores, strict=True)
    )
    welds = count_welds(tables[0])
    return {name: _difference(numbers_a[name], numbers_b[name], welds) for name in numbers_a}


def tabulate(differences: dict[str, Difference | None]) -> list[str]:
    """Write differences as lines of a table, with a verdict on each."""
    width = max(map(len, differences))
    lines = [f"{'':{width}}  {'a':>8}  {'b':>8}  {'b - a':>8}  {'95 % interval':>18}  {'p':>6}"]
    for name, row in differences.items():
        if row is None:
            lines.append(f"{name:{width}}  {'-':>8}  {'-':>8}  {'-':>8}  {'-':>18}  {'-':>6}  {verdict(name, row)}")
        else:
            interval = f"{row.low:+.3f} to {row.high:+.3f}"
            lines.append(
                f"{name:{width}}  {row.a:8.3f}  {row.b:8.3f}  {row.difference:+8.3f}  {interval:>18}  "
                f"{row.p_value:6.3f}  {verdict(name, row)}"
            )
    return [*lines, "", "Each line is judged by itself: of twenty without a difference, one will seem to have one."]


def verdict(name: str, row: Difference | None) -> str:
    """Say in plain words what a difference means."""
    if row is None:
        return "cannot be measured on these films"
    if not row.is_real:
        return "no difference can be told from these films"
    is_better = (row.difference < 0) == name.startswith("false_calls")
    return f"the difference is real: b is {'better' if is_better else 'worse'}"


def read_evaluation(run: str, params: Params) -> EvaluatedRun:
    """Read what an evaluation wrote.

    Args:
        run: Its folder, or the id of the MLflow run that holds it.
        params: Say where MLflow's store is, unless ``MLFLOW_TRACKING_URI`` does.

    Raises:
        DataError: If it is missing or broken.
    """
    if Path(run).is_dir():
        return _read_folder(Path(run))
    if not _RUN_ID.fullmatch(run):
        raise DataError(
            f"{run}: neither a folder that `python -m defects_in_welds evaluate` wrote nor the id of an MLflow run"
        )
    with TemporaryDirectory() as folder:
        return _read_folder(_download(run, tracking_uri(params), folder))


def _download(run_id: str, uri: str, folder: str) -> Path:
    limit_retries()
    try:
        return Path(MlflowClient(uri).download_artifacts(run_id, ARTIFACT_FOLDER, folder))
    except Exception as error:  # whatever a tracking store or its artifact store can raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace(uri, without_credentials(uri))
        raise DataError(
            f"MLflow's run {run_id} at {without_credentials(uri)}: no evaluation to read ({reason}); see "
            "train.tracking_uri and MLFLOW_TRACKING_URI, and whether the run was evaluated"
        ) from None


def _read_folder(folder: Path) -> EvaluatedRun:
    ground_truth, predictions, metrics = (
        read_json(folder / f"{name}.json", "evaluate") for name in ("ground_truth", "predictions", "metrics")
    )
    try:
        categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
        defect_classes = tuple(category["name"] for category in categories)
        return EvaluatedRun(
            from_coco(ground_truth, predictions), defect_classes, float(metrics["operating_point"]["min_score"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder}: not what `python -m defects_in_welds evaluate` writes ({type(error).__name__}: {error}); run "
            "it again"
        ) from None


def _in_order_of(results_a: Sequence[FilmResult], results_b: Sequence[FilmResult]) -> list[FilmResult]:
    """Put the films of b into the order of a's, and see to it that they are the same."""
    of_a, of_b = ({result.name: result for result in results} for results in (results_a, results_b))
    for name in of_a.keys() ^ of_b.keys():
        raise DataError(
            f"{name}: only run {'a' if name in of_a else 'b'} has this film; compare runs over the same films"
        )
    for name, a in of_a.items():
        differing = _what_differs(a, of_b[name])
        if differing:
            raise DataError(f"{name}: its {differing} differs between the runs; evaluate both on the same data")
    return [of_b[name] for name in of_a]


def _what_differs(a: FilmResult, b: FilmResult) -> str | None:
    for what, ours, theirs in (
        ("weld", a.weld, b.weld),
        ("size", a.image_hw, b.image_hw),
        ("pixel pitch", a.pixel_pitch_mm, b.pixel_pitch_mm),
        ("number of flaws", len(a.truth.labels), len(b.truth.labels)),
    ):
        if ours != theirs:
            return what
    is_same = (
        np.allclose(a.truth.boxes_xyxy, b.truth.boxes_xyxy, rtol=0, atol=_SAME_PX)
        and np.array_equal(a.truth.labels, b.truth.labels)
        and np.array_equal(a.truth.is_difficult, b.truth.is_difficult)
    )
    return None if is_same else "truth"


def _difference(a: Float[np.ndarray, " rows"], b: Float[np.ndarray, " rows"], welds: int) -> Difference | None:
    """Compare a number in the films as they are, the first row, and in their resamples, the others."""
    interval = percentile_interval(b - a, welds)
    if interval is None:
        return None
    resampled = (b - a)[1:][~np.isnan((b - a)[1:])]
    # One more resample that agrees with no difference: p is never 0, and a few resamples prove nothing.
    tails = (1 + np.sum(resampled <= 0), 1 + np.sum(resampled >= 0))
    p_value = min(1.0, 2 * float(min(tails)) / (1 + len(resampled)))
    return Difference(float(a[0]), float(b[0]), interval.value, interval.low, interval.high, p_value)

"""The evaluate stage: predict whole films, compare with the truth, and record what came out."""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from tqdm import tqdm

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.tensor_store import Manifest, TensorStore
from defects_in_welds.evaluation.coco_map import CocoMetrics, measure_coco
from defects_in_welds.evaluation.earlier_stages import read_run
from defects_in_welds.evaluation.film_results import FilmResult, film_result, to_coco
from defects_in_welds.evaluation.matching import match_film
from defects_in_welds.evaluation.plots import draw_precision_recall, write_precision_recall
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.output_folder import replaced_folder
from defects_in_welds.params import EvaluateParams, Params, without_credentials
from defects_in_welds.taxonomy import iso_6520_1_number
from defects_in_welds.training.tracking import metric_name

COUNTS = ("flaws", "found", "missed", "misnamed", "false_calls")
"""What is counted of each class; the misnamed flaws are among the missed ones."""

_log = logging.getLogger(__name__)


def evaluate(params: Params, prepared_dir: Path, model_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Measure a trained detector on films that it has not seen.

    The films are those of the test split, or of the validation split where there is none. Writes ``metrics.json``,
    ``predictions.json`` and ``ground_truth.json`` (COCO) and ``plots/``, and adds metrics and files to the training's
    MLflow run.

    Args:
        params: All parameters; only ``evaluate`` is read.
        prepared_dir: The prepared data.
        model_dir: Holds ``best.ckpt`` and ``run.json``.
        out_dir: Replaced as a whole.

    Returns:
        The content of ``metrics.json``.

    Raises:
        CheckpointError: If ``best.ckpt`` is missing or broken.
        DataError: If the data has no films to measure on, or is not what the model was trained with; or if ``run.json``
            is missing or broken.
    """
    settings = params.evaluate
    store = TensorStore.open(prepared_dir)
    predictor = Predictor.from_checkpoint(model_dir / "best.ckpt")
    _require_same_task(store, predictor)
    run = read_run(model_dir)
    _require_same_data(store, run, model_dir)
    split, films = _films_to_measure(store)
    results = [
        film_result(
            store.manifest.films[film], store.manifest.defect_classes, found[: settings.max_detections_per_film]
        )
        for film in tqdm(films, desc="evaluate", unit="film")
        for found in [predictor.predict_store_film(store, film, settings.batch_size, settings.merge_iou)]
    ]
    ground_truth, predictions = to_coco(results, store.manifest.defect_classes)
    coco = measure_coco(ground_truth, predictions, settings.max_detections_per_film)
    metrics = {"run_id": run["run_id"], **summarise(split, results, coco, settings)}

    with replaced_folder(out_dir) as folder:
        for name, content in (("metrics", metrics), ("ground_truth", ground_truth), ("predictions", predictions)):
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        plots = folder / "plots"
        plots.mkdir()
        write_precision_recall(coco, plots / "precision_recall.csv")
        (plots / "precision_recall.svg").write_bytes(draw_precision_recall(coco))
    _record_in_mlflow(run, metrics, out_dir)
    return metrics


def summarise(
    split: Split, results: Sequence[FilmResult], coco: CocoMetrics, settings: EvaluateParams
) -> dict[str, Any]:
    """Put all measures together, as ``metrics.json`` has them; null is what cannot be measured."""
    counts = _count_outcomes(results, list(coco.classes), settings.report_score_threshold)
    total = {key: sum(of_class[key] for of_class in counts.values()) for key in COUNTS}
    note = None if total["flaws"] else f"no {split} film has a flaw to find: there is nothing to measure"
    if note:
        _log.warning("%s", note)
    return {
        "split": str(split),
        "films": len(results),
        **total,
        "difficult_flaws": sum(int(result.truth.is_difficult.sum()) for result in results),
        "false_calls_per_film": total["false_calls"] / len(results),
        "mAP": coco.mean_average_precision,
        "mAP50": coco.mean_average_precision_50,
        "mAP75": coco.mean_average_precision_75,
        "AR": coco.average_recall,
        "per_class": {
            name: {
                "iso_6520_1": iso_6520_1_number(name),
                "AP": of_class.average_precision if of_class else None,
                "AP50": of_class.average_precision_50 if of_class else None,
                **counts[name],
            }
            for name, of_class in coco.classes.items()
        },
        "settings": asdict(settings),
        "note": note,
    }


def _count_outcomes(
    results: Sequence[FilmResult], defect_classes: Sequence[str], min_score: float
) -> dict[str, dict[str, int]]:
    """Count what became of flaws and detections by class, among the detections with at least that score."""
    counts = {name: dict.fromkeys(COUNTS, 0) for name in defect_classes}
    for result in results:
        detections = result.detections[result.detections.scores >= min_score]
        matches = match_film(result.truth, detections)
        for label, name in enumerate(defect_classes, start=1):
            found = int(np.sum(matches.is_found & (result.truth.labels == label)))
            missed = int(np.sum(matches.is_missed & (result.truth.labels == label)))
            counts[name]["flaws"] += found + missed
            counts[name]["found"] += found
            counts[name]["missed"] += missed
            counts[name]["misnamed"] += int(np.sum(matches.is_misnamed & (result.truth.labels == label)))
            counts[name]["false_calls"] += int(np.sum(matches.is_false_call & (detections.labels == label)))
    return counts


def _require_same_task(store: TensorStore, predictor: Predictor) -> None:
    manifest = store.manifest
    prepared, trained = (
        f"{', '.join(defect_classes)} in tiles of {spec.img_size} px{_standardisation(spec)}"
        for defect_classes, spec in (
            (manifest.defect_classes, manifest),
            (predictor.defect_classes, predictor.input_spec),
        )
    )
    if prepared != trained:
        raise DataError(
            f"{store.path}: prepared for {prepared}, but the model was trained for {trained}; train again, or prepare "
            "with prepare.classes, img_size, resample_pitch_mm and background_mm as they were then"
        )


def _standardisation(made: Manifest | InputSpec) -> str:
    """Say what was done to the films before they were cut into tiles."""
    pitch = "" if made.resample_pitch_mm is None else f", resampled to {made.resample_pitch_mm} mm"
    background = "" if made.background_mm is None else f", freed of their background over {made.background_mm} mm"
    return pitch + background


def _require_same_data(store: TensorStore, run: dict[str, Any], model_dir: Path) -> None:
    """Refuse other data than the model's: with other splits, films that it was trained on would pass as unseen."""
    if run["data_sha256"] != store.manifest.data_sha256:
        raise DataError(
            f"{store.path}: not the films, splits and annotations that {model_dir} was trained with: films that it "
            "learned from could be measured; train again, or prepare the data as it was then"
        )


def _films_to_measure(store: TensorStore) -> tuple[Split, list[int]]:
    for split in (Split.TEST, Split.VAL):
        films = [index for index, film in enumerate(store.manifest.films) if film.split is split]
        if films:
            if split is Split.VAL:
                _log.warning(
                    "the data has no test films: the validation films, which chose the model, take their place"
                )
            return split, films
    raise DataError(f"{store.path}: neither test nor validation films to measure on; set prepare.test_share")


def _record_in_mlflow(run: dict[str, Any], metrics: dict[str, Any], out_dir: Path) -> None:
    uri = os.environ.get("MLFLOW_TRACKING_URI") or run["tracking_uri"]
    # With MLflow's own seven retries, a server that is away holds the stage up for minutes.
    os.environ.setdefault(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, "2")
    try:
        client = MlflowClient(uri)
        client.get_run(run["run_id"])
        now_ms = int(time.time() * 1000)
        client.log_batch(run["run_id"], [Metric(name, value, now_ms, 0) for name, value in _flat(metrics).items()])
        client.log_artifacts(run["run_id"], str(out_dir), "evaluation")
    except Exception as error:  # whatever a tracking store or its artifact store can raise: the evaluation is done
        reason = (str(error).splitlines() or [""])[0].replace(uri, without_credentials(uri))
        _log.warning(
            "the evaluation is in %s but not in MLflow's run %s: %s: %s",
            out_dir,
            run["run_id"],
            type(error).__name__,
            reason,
        )


def _flat(metrics: dict[str, Any]) -> dict[str, float]:
    """Name the measures as the training names its own; those of validation films must not continue its curves."""
    prefix = "test" if metrics["split"] == Split.TEST else "val_films"
    keys = ("mAP", "mAP50", "mAP75", "AR", "found", "missed", "false_calls_per_film")
    values = {f"{prefix}/{key}": metrics[key] for key in keys}
    for name, of_class in metrics["per_class"].items():
        values |= {f"{prefix}/{key}/{name}": of_class[key] for key in ("AP", "AP50")}
    return {metric_name(name): float(value) for name, value in values.items() if value is not None}

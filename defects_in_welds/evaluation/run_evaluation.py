"""The evaluate stage: predict whole films, compare with the truth, and record what came out."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from tqdm import tqdm

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.tensor_store import Manifest, TensorStore
from defects_in_welds.evaluation.curves import write_curves
from defects_in_welds.evaluation.earlier_stages import read_run
from defects_in_welds.evaluation.film_results import FilmResult, film_result, to_coco
from defects_in_welds.evaluation.froc import choose_threshold
from defects_in_welds.evaluation.matching import match
from defects_in_welds.evaluation.measures import measure_films, number, to_metrics
from defects_in_welds.evaluation.mlflow_record import add_to_run
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.checkpoint import BEST_NAME
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.output_folder import read_together, replaced_folder
from defects_in_welds.params import EvaluateParams, Params
from defects_in_welds.training.tracking import metric_name

_log = logging.getLogger(__name__)


def evaluate(params: Params, prepared_dir: Path, model_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Measure a trained detector on films that it has not seen.

    The films are those of the test split, or of the validation split where there is none. The validation films choose
    the score threshold. Writes ``metrics.json``, ``operating_point.json``, ``predictions.json`` and
    ``ground_truth.json`` (COCO), ``matches/`` (see `MatchTable`) and ``plots/``, and adds metrics and files to the
    training's MLflow run.

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
    with read_together(prepared_dir, model_dir):
        store = TensorStore.open(prepared_dir)
        predictor = Predictor.from_checkpoint(model_dir / BEST_NAME)
        run = read_run(model_dir)
    _require_same_task(store, predictor)
    _require_same_data(store, run, model_dir)
    split = _split_to_measure(store)
    classes = store.manifest.defect_classes
    on_validation = predict_split(store, predictor, Split.VAL, settings)
    operating_point = choose_operating_point(on_validation, classes, settings)
    results = on_validation if split is Split.VAL else predict_split(store, predictor, split, settings)
    measures = measure_films(results, classes, operating_point["min_score"], settings)
    metrics = {
        "run_id": run["run_id"],
        "split": str(split),
        "operating_point": operating_point,
        **to_metrics(measures),
        "settings": asdict(settings),
        "note": None if measures.flaws else f"no {split} film has a flaw to find: there is nothing to measure",
    }
    if metrics["note"]:
        _log.warning("%s", metrics["note"])

    ground_truth, predictions = to_coco(results, classes)
    with replaced_folder(out_dir) as folder:
        contents = {
            "metrics": metrics,
            "operating_point": {"run_id": run["run_id"], **operating_point},
            "ground_truth": ground_truth,
            "predictions": predictions,
        }
        for name, content in contents.items():
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        for name in ("matches", "plots"):
            (folder / name).mkdir()
        measures.table.write(folder / "matches")
        write_curves(measures, folder / "plots")
    add_to_run(run, out_dir, lambda client, run_id: _log_to(client, run_id, metrics, out_dir))
    return metrics


def predict_split(store: TensorStore, predictor: Predictor, split: Split, settings: EvaluateParams) -> list[FilmResult]:
    """Predict the films of a split and put the truth beside it, with a progress bar."""
    return [
        film_result(
            store.manifest.films[film], store.manifest.defect_classes, found[: settings.max_detections_per_film]
        )
        for film in tqdm(_films_of(store, split), desc=f"evaluate {split}", unit="film")
        for found in [predictor.predict_store_film(store, film, settings.batch_size, settings.merge_iou)]
    ]


def choose_operating_point(
    results: Sequence[FilmResult], defect_classes: Sequence[str], settings: EvaluateParams
) -> dict[str, Any]:
    """Choose the score threshold on validation films, for a stated rate of false calls.

    Returns:
        As ``metrics.json`` has it; ``note`` says what is to be known of it.
    """
    table = match(results, defect_classes, settings.match_rule, settings.match_overlap)
    chosen = choose_threshold(table, settings.false_calls_per_metre)
    note = None
    if chosen is None:
        if not results:
            reason = "there are no validation films"
        elif table.films["weld_mm"].isna().any():
            reason = "the pixel pitch of some validation films is unknown"
        else:
            reason = "no report on the validation films can be counted"
        note = f"{reason}: evaluate.fallback_score_threshold is the threshold"
    elif not table.is_hit(chosen.threshold).any() and not table.is_false_call(chosen.threshold).any():
        note = (
            "even the best reports on the validation films are more false calls than "
            "evaluate.false_calls_per_metre allows: none is counted"
        )
    if note:
        _log.warning("%s", note)
    return {
        "min_score": chosen.threshold if chosen else settings.fallback_score_threshold,
        "chosen_on": str(Split.VAL) if chosen else None,
        "target_false_calls_per_metre": settings.false_calls_per_metre,
        "false_calls_per_metre_there": chosen.false_calls_per_metre if chosen else None,
        "recall_there": number(chosen.recall) if chosen else None,
        "note": note,
    }


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


def _films_of(store: TensorStore, split: Split) -> list[int]:
    return [index for index, film in enumerate(store.manifest.films) if film.split is split]


def _split_to_measure(store: TensorStore) -> Split:
    if _films_of(store, Split.TEST):
        return Split.TEST
    if _films_of(store, Split.VAL):
        _log.warning("the data has no test films: the validation films, which chose the model, take their place")
        return Split.VAL
    raise DataError(f"{store.path}: neither test nor validation films to measure on; set prepare.test_share")


def _log_to(client: MlflowClient, run_id: str, metrics: dict[str, Any], out_dir: Path) -> None:
    now_ms = int(time.time() * 1000)
    client.log_batch(run_id, [Metric(name, value, now_ms, 0) for name, value in _flat(metrics).items()])
    client.log_artifacts(run_id, str(out_dir), "evaluation")


def _flat(metrics: dict[str, Any]) -> dict[str, float]:
    """Name the measures as the training names its own; those of validation films must not continue its curves."""
    prefix = "test" if metrics["split"] == Split.TEST else "val_films"
    keys = ("mAP", "mAP50", "mAP75", "AR", "found", "missed", "false_calls_per_film", "false_calls_per_metre")
    values = {f"{prefix}/{key}": metrics[key] for key in keys}
    values[f"{prefix}/score_threshold"] = metrics["operating_point"]["min_score"]
    values[f"{prefix}/a90_95"] = metrics["pod"]["pooled"].get("a90_95")
    for name, of_class in metrics["per_class"].items():
        values |= {f"{prefix}/{key}/{name}": of_class[key] for key in ("AP", "AP50")}
        values[f"{prefix}/a90_95/{name}"] = of_class["pod"].get("a90_95")
    return {metric_name(name): float(value) for name, value in values.items() if value is not None}

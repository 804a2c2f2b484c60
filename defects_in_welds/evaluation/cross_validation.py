"""Cross-validation by weld: for data sets of few films, whose split would decide more than the model does.

The welds are dealt out to folds. Each fold is tested once, by a model that was chosen on the next fold and trained on
the others, and what all folds found is measured together. Beside it stands what the same model would seem to reach if
tiles were dealt out at random, so that tiles of one film, which even overlap, lie on both sides.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.regrouping import draw_folds, split_by_fold, tiles_as_films, write_regrouped
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.curves import write_curves
from defects_in_welds.evaluation.film_results import FilmResult, to_coco
from defects_in_welds.evaluation.measures import measure_films, to_metrics
from defects_in_welds.evaluation.run_evaluation import predict_films
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.output_folder import replaced_folder
from defects_in_welds.params import EvaluateParams, Params
from defects_in_welds.training.run_training import BEST_NAME, train

_log = logging.getLogger(__name__)


def cross_validate(params: Params, prepared_dir: Path, out_dir: Path) -> dict[str, Any]:
    """Train and test once for each fold, under a split by weld and under one by tile.

    Writes ``metrics.json``, with the measures on whole films (``by_weld``) and, for tiles under both splits, mAP50
    (``tiles_by_weld``, ``tiles_at_random``); and ``matches/``, the table of all films. Models of the folds stay in
    ``<out_dir>_folds``.

    Args:
        params: All parameters.
        prepared_dir: The prepared data; its own split is not used.
        out_dir: Replaced as a whole.

    Returns:
        The content of ``metrics.json``.

    Raises:
        DataError: If there are fewer welds than folds.
    """
    store = TensorStore.open(prepared_dir)
    settings = params.evaluate
    work_dir = out_dir.with_name(f"{out_dir.name}_folds")
    films, tiles = store.manifest, tiles_as_films(store.manifest)
    by_weld = draw_folds([film.weld for film in films.films], settings.folds, settings.seed)
    at_random = draw_folds([film.name for film in tiles.films], settings.folds, settings.seed)

    on_films: list[FilmResult] = []
    on_tiles: list[FilmResult] = []
    leaked: list[FilmResult] = []
    for fold in range(settings.folds):
        _log.info("fold %d of %d", fold + 1, settings.folds)
        splits = split_by_fold(by_weld, settings.folds, fold)
        folder = work_dir / f"weld_{fold}"
        regrouped = write_regrouped(store, films, [splits[film.weld] for film in films.films], folder / "prepared")
        predictor = _train(params, folder)
        on_films += _predict_tests(regrouped, predictor, settings)
        single = write_regrouped(store, tiles, [splits[film.weld] for film in tiles.films], folder / "tiles")
        on_tiles += _predict_tests(single, predictor, settings)

        splits = split_by_fold(at_random, settings.folds, fold)
        folder = work_dir / f"tile_{fold}"
        mixed = write_regrouped(store, tiles, [splits[film.name] for film in tiles.films], folder / "prepared")
        leaked += _predict_tests(mixed, _train(params, folder), settings)

    on_films.sort(key=lambda result: result.name)
    measures = measure_films(on_films, films.defect_classes, settings.fallback_score_threshold, settings)
    metrics = {
        "folds": settings.folds,
        "by_weld": to_metrics(measures),
        "tiles_by_weld": _map50(on_tiles, films.defect_classes, settings),
        "tiles_at_random": _map50(leaked, films.defect_classes, settings),
        "settings": asdict(settings),
    }
    with replaced_folder(out_dir) as folder:
        text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
        for name in ("matches", "plots"):
            (folder / name).mkdir()
        measures.table.write(folder / "matches")
        write_curves(measures, folder / "plots")
    return metrics


def describe(metrics: dict[str, Any]) -> str:
    """Say in a few lines what came out."""
    measured = metrics["by_weld"]
    lines = [
        f"{metrics['folds']} folds, {measured['films']} films, {measured['flaws']} flaws",
        f"mAP50 on whole films: {_with_interval(measured['mAP50'], measured['intervals']['mAP50'])}",
        f"mAP50 on tiles, films apart: {_with_interval(metrics['tiles_by_weld'])}",
        f"mAP50 on tiles, dealt out at random: {_with_interval(metrics['tiles_at_random'])}",
    ]
    return "\n".join(lines)


def _with_interval(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "cannot be measured"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _map50(results: Sequence[FilmResult], defect_classes: tuple[str, ...], settings: EvaluateParams) -> float | None:
    return measure_coco(*to_coco(results, defect_classes), settings.max_detections_per_film).mean_average_precision_50


def _predict_tests(store: TensorStore, predictor: Predictor, settings: EvaluateParams) -> list[FilmResult]:
    films = [index for index, film in enumerate(store.manifest.films) if film.split is Split.TEST]
    return predict_films(store, predictor, films, settings, "evaluate")


def _train(params: Params, folder: Path) -> Predictor:
    train(params, folder / "prepared", folder / "model", folder / "training")
    return Predictor.from_checkpoint(folder / "model" / BEST_NAME)

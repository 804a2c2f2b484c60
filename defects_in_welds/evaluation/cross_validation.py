"""Cross-validation by weld: for data sets of few films, whose split would decide more than the model does.

The welds are dealt out to folds, those with films that look the same to one fold. Each fold is tested once, by a model
that was chosen on the next fold and trained on the others, and what all folds found is measured together. Beside it
stands what the same model would seem to reach if tiles were dealt out at random, so that tiles of one film, which even
overlap, lie on both sides.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.regrouping import draw_folds, split_by_fold, tiles_as_films, write_regrouped
from defects_in_welds.data.splitting import fingerprint, near_duplicates
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.curves import write_curves
from defects_in_welds.evaluation.earlier_stages import read_run
from defects_in_welds.evaluation.film_results import FilmResult, to_coco
from defects_in_welds.evaluation.measures import measure_films, to_metrics
from defects_in_welds.evaluation.report.film_pictures import assemble_film
from defects_in_welds.evaluation.run_evaluation import choose_operating_point, predict_split
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.checkpoint import BEST_NAME
from defects_in_welds.output_folder import replaced_folder
from defects_in_welds.params import EvaluateParams, Params
from defects_in_welds.training.run_training import RUN_NAME, UNSENT_NAME, input_spec_of, train
from defects_in_welds.training.tracking import training_params

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
    unsent_dir = out_dir.parent / UNSENT_NAME  # that of ordinary trainings: the next one sends what waits
    films, tiles = store.manifest, tiles_as_films(store.manifest)
    group_of = _groups_of_welds(store, params.prepare.near_duplicate_correlation)
    by_group = draw_folds(list(group_of.values()), settings.folds, settings.seed)
    by_weld = {weld: by_group[group] for weld, group in group_of.items()}
    at_random = draw_folds([film.name for film in tiles.films], settings.folds, settings.seed)

    on_films: list[FilmResult] = []
    on_validation: list[FilmResult] = []
    on_tiles: list[FilmResult] = []
    leaked: list[FilmResult] = []
    for fold in range(settings.folds):
        _log.info("fold %d of %d", fold + 1, settings.folds)
        splits = split_by_fold(by_weld, settings.folds, fold)
        folder = work_dir / f"weld_{fold}"
        regrouped = write_regrouped(store, films, [splits[film.weld] for film in films.films], folder / "prepared")
        predictor = _train(params, folder, unsent_dir)
        on_films += predict_split(regrouped, predictor, Split.TEST, settings)
        on_validation += predict_split(regrouped, predictor, Split.VAL, settings)
        single = write_regrouped(store, tiles, [splits[film.weld] for film in tiles.films], folder / "tiles")
        on_tiles += predict_split(single, predictor, Split.TEST, settings)

        splits = split_by_fold(at_random, settings.folds, fold)
        folder = work_dir / f"tile_{fold}"
        mixed = write_regrouped(store, tiles, [splits[film.name] for film in tiles.films], folder / "prepared")
        leaked += predict_split(mixed, _train(params, folder, unsent_dir), Split.TEST, settings)

    on_films.sort(key=lambda result: result.name)
    operating_point = choose_operating_point(on_validation, films.defect_classes, settings)
    measures = measure_films(on_films, films.defect_classes, operating_point["min_score"], settings)
    metrics = {
        "folds": settings.folds,
        "operating_point": operating_point,
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
        f"found at a score of {metrics['operating_point']['min_score']:.2f}: {measured['found']}, "
        f"{measured['false_calls_per_film']:.1f} false calls per film",
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


def _groups_of_welds(store: TensorStore, near_duplicate_correlation: float) -> dict[str, str]:
    """Name the group of each weld: those with films that look the same stay together."""
    films = store.manifest.films
    weld_of = {film.name: film.weld for film in films}
    group_of = {weld: weld for weld in sorted(set(weld_of.values()))}
    prints = {film.name: fingerprint(assemble_film(store, index)) for index, film in enumerate(films)}
    for name, other in near_duplicates(prints, weld_of, near_duplicate_correlation):
        kept, joined = group_of[weld_of[name]], group_of[weld_of[other]]
        _log.warning("%s looks the same as %s: their welds stay in one fold", name, other)
        group_of = {weld: kept if group == joined else group for weld, group in group_of.items()}
    return group_of


def _train(params: Params, folder: Path, unsent_dir: Path) -> Predictor:
    """Train the model of a fold, unless that was done before with the same data and parameters."""
    # Beside the other runs, these would pass for trainings on all films.
    train_params = replace(params.train, experiment_name=f"{params.train.experiment_name} folds")
    params = replace(params, train=train_params)
    if not _is_trained(params, folder):
        train(params, folder / "prepared", folder / "model", folder / "training", unsent_dir)
    return Predictor.from_checkpoint(folder / "model" / BEST_NAME)


def _is_trained(params: Params, folder: Path) -> bool:
    if not (folder / "model" / RUN_NAME).is_file():
        return False
    run = read_run(folder / "model")
    manifest = TensorStore.open(folder / "prepared").manifest
    input_spec = Predictor.from_checkpoint(folder / "model" / BEST_NAME).input_spec
    same_data = (run["data_sha256"], input_spec) == (manifest.data_sha256, input_spec_of(manifest))
    return same_data and run["params"] == json.loads(json.dumps(training_params(params)))

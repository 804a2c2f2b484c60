"""The report stage: what the other stages wrote, on one page that an inspector can read."""

import csv
import platform
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.dataset_checks import CHECKS_NAME
from defects_in_welds.data.tensor_store import Manifest, TensorStore
from defects_in_welds.evaluation.earlier_stages import read_metrics, read_run
from defects_in_welds.evaluation.matching import MatchTable
from defects_in_welds.evaluation.mlflow_record import add_to_run
from defects_in_welds.evaluation.report.acceptance import Limits, judge_films, read_limits
from defects_in_welds.evaluation.report.figures import make_figures, size_name_and_unit
from defects_in_welds.evaluation.report.film_pictures import STYLES
from defects_in_welds.evaluation.report.gallery import OUTCOMES, draw_items, draw_worst_films, list_items
from defects_in_welds.evaluation.report.verdict import count, notices, percent, three_digits, verdict
from defects_in_welds.output_folder import read_together, replaced_folder
from defects_in_welds.params import Params

PAGE_FOLDER = "page"
"""Holds the templates, the style and the script of the page, beside this file."""

_PACKAGES = ("defects-in-welds", "torch", "torchvision", "pytorch-lightning", "numpy", "pandas", "plotly")


def write_report(params: Params, prepared_dir: Path, model_dir: Path, evaluation_dir: Path, out_dir: Path) -> Path:
    """Write the report, and add it to the training's MLflow run.

    Args:
        params: All parameters; only ``report`` is read.
        prepared_dir: The prepared data.
        model_dir: Holds ``run.json``.
        evaluation_dir: What the evaluate stage wrote.
        out_dir: Replaced as a whole.

    Returns:
        The page: one file that needs no other.

    Raises:
        DataError: If what an earlier stage should have written is missing or does not belong together, or if the table
            of acceptance limits cannot be used.
        UserError: If another run replaces a folder that is read.
    """
    settings = params.report
    with read_together(prepared_dir, model_dir, evaluation_dir):
        store = TensorStore.open(prepared_dir)
        run = read_run(model_dir)
        metrics = read_metrics(evaluation_dir)
        table = _read_matches(evaluation_dir / "matches")
        findings = _count_findings(prepared_dir / CHECKS_NAME)
        figures = make_figures(evaluation_dir / "plots", metrics)
    if metrics["run_id"] != run["run_id"]:
        raise DataError(
            f"{evaluation_dir}: another model was measured than {model_dir} holds; run `dvc repro evaluate` or "
            "`python -m defects_in_welds evaluate`"
        )
    min_score = metrics["operating_point"]["min_score"]
    limits = None
    if settings.acceptance is not None:
        limits = read_limits(Path(settings.acceptance), store.manifest.defect_classes)
    items = list_items(table, min_score)
    shown = items.head(settings.gallery_items)
    page = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=settings.title,
            verdict=verdict(metrics),
            notices=notices(metrics, is_other_data=run["data_sha256"] != store.manifest.data_sha256),
            metrics=metrics,
            size=size_name_and_unit(metrics["pod"]["size"]),
            figures=figures,
            plotly=get_plotlyjs() if figures else None,
            styles=STYLES,
            outcomes=OUTCOMES,
            items=draw_items(shown, table, store, min_score),
            item_counts=_count_items(items["outcome"].tolist(), shown["outcome"].tolist()),
            films=list(draw_worst_films(table, store, min_score, settings.worst_films)),
            acceptance=None
            if limits is None
            else _acceptance(table, limits, min_score, Path(settings.acceptance or "")),
            data=_data_card(store.manifest),
            findings=findings,
            run=run,
            versions={"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        )
    )
    with replaced_folder(out_dir) as folder:
        (folder / "index.html").write_text(page, encoding="utf-8")
    path = out_dir / "index.html"
    add_to_run(run, path, lambda client, run_id: client.log_artifact(run_id, str(path), "report"))
    return path


def _read_matches(folder: Path) -> MatchTable:
    try:
        return MatchTable.read(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(
            f"{folder}: {reason}; run `dvc repro evaluate` or `python -m defects_in_welds evaluate`"
        ) from None


def _count_items(there: list[str], shown: list[str]) -> dict[str, tuple[int, int]]:
    """By outcome, how many pictures are on the page, and of how many."""
    counts, of = Counter(shown), Counter(there)
    return {outcome: (counts[outcome], of[outcome]) for outcome in OUTCOMES}


def _acceptance(table: MatchTable, limits: Limits, min_score: float, path: Path) -> dict[str, Any]:
    films = judge_films(table, limits, min_score)
    return {
        "path": path,
        "limits": limits,
        "classes": sorted({name for of_level in limits.values() for name in of_level}),
        "films": films,
        "passed_wrongly": sum(not set(film.by_flaws) <= set(film.by_reports) for film in films),
        "refused_wrongly": sum(not set(film.by_reports) <= set(film.by_flaws) for film in films),
    }


def _data_card(manifest: Manifest) -> dict[str, Any]:
    tiles = Counter(manifest.films[tile.film].split for tile in manifest.tiles)
    by_split = {split: [film for film in manifest.films if film.split is split] for split in Split}
    flaws = {
        split: Counter(flaw.defect_class for film in films for flaw in film.annotations)
        for split, films in by_split.items()
    }
    return {
        "classes": manifest.defect_classes,
        "splits": [
            {
                "name": str(split),
                "films": len(films),
                "welds": len({film.weld for film in films}),
                "tiles": tiles[split],
                "flaws": [flaws[split][name] for name in manifest.defect_classes],
            }
            for split, films in by_split.items()
        ],
        "tile_px": manifest.img_size,
        "overlap_px": manifest.overlap_px,
        "augmentations": manifest.augmentations,
        "resample_pitch_mm": manifest.resample_pitch_mm,
        "background_mm": manifest.background_mm,
        "bit_depths": sorted({film.bit_depth for film in manifest.films}),
        "pitches_mm": sorted({film.source_pixel_pitch_mm for film in manifest.films if film.source_pixel_pitch_mm}),
        "sha256": manifest.data_sha256,
    }


def _count_findings(checks: Path) -> list[tuple[str, str, int]]:
    """Count what the checks of the data found, by kind and by what was done about it."""
    try:
        with checks.open(newline="", encoding="utf-8") as file:
            counts = Counter((row["kind"].replace("_", " "), row["action"]) for row in csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{checks}: cannot be read ({error.strerror}); run `dvc repro prepare`") from None
    return [(*kind_and_action, number) for kind_and_action, number in sorted(counts.items())]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, PAGE_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # NaN is no JSON: better an error here than a page without figures.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    environment.filters |= {"percent": percent, "three_digits": three_digits}
    environment.globals |= {"counted": count}
    return environment

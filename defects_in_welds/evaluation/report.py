"""The report stage: what the other stages wrote, on one page that an inspector can read."""

import csv
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from jinja2 import Environment, StrictUndefined

from defects_in_welds import boxes
from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.tensor_store import Manifest, TensorStore
from defects_in_welds.evaluation.earlier_stages import read_json, read_run
from defects_in_welds.evaluation.film_pictures import STYLES, assemble_film, draw_crop, draw_film
from defects_in_welds.evaluation.film_results import FilmResult, from_coco
from defects_in_welds.evaluation.matching import MATCH_IOU, FilmMatches, match_film
from defects_in_welds.output_folder import replaced_folder
from defects_in_welds.params import Params

TEMPLATE_NAME = "report.html.jinja"

_MISS_CROPS, _FALSE_CALL_CROPS = 4, 2


@dataclass(frozen=True, eq=False)
class _JudgedFilm:
    """A film with the detections that the report counts, and what became of them."""

    result: FilmResult
    matches: FilmMatches

    @property
    def found(self) -> int:
        return int(self.matches.is_found.sum())

    @property
    def missed(self) -> int:
        return int(self.matches.is_missed.sum())

    @property
    def false_calls(self) -> int:
        return int(self.matches.is_false_call.sum())


def write_report(params: Params, prepared_dir: Path, model_dir: Path, evaluation_dir: Path, out_dir: Path) -> Path:
    """Write the report.

    Args:
        params: All parameters; only ``report`` is read.
        prepared_dir: The prepared data.
        model_dir: Holds ``run.json``.
        evaluation_dir: What the evaluate stage wrote.
        out_dir: Replaced as a whole.

    Returns:
        The page: one file that needs no other.

    Raises:
        DataError: If what an earlier stage should have written is missing or does not belong together.
    """
    store = TensorStore.open(prepared_dir)
    run = read_run(model_dir)
    metrics = read_json(evaluation_dir / "metrics.json", "evaluate")
    if metrics.get("run_id") != run["run_id"]:
        raise DataError(
            f"{evaluation_dir}: another model was measured than {model_dir} holds; run `dvc repro evaluate` or "
            "`python -m defects_in_welds evaluate`"
        )
    ground_truth = read_json(evaluation_dir / "ground_truth.json", "evaluate")
    results = from_coco(ground_truth, read_json(evaluation_dir / "predictions.json", "evaluate"))
    films = [judge_film(result, metrics["settings"]["report_score_threshold"]) for result in results]
    page = _render(
        title=params.report.title,
        verdict=verdict(metrics),
        notices=_notices(metrics, run, store.manifest),
        metrics=metrics,
        match_iou=MATCH_IOU,
        curves=_data_url(evaluation_dir / "plots" / "precision_recall.svg") if metrics["flaws"] else None,
        styles=STYLES,
        films=[_film_section(film, store, evaluation_dir) for film in worst_films(films, params.report.worst_films)],
        data=_data_statistics(store.manifest),
        findings=_count_findings(prepared_dir / "checks.csv"),
        run=run,
    )
    with replaced_folder(out_dir) as folder:
        (folder / "index.html").write_text(page, encoding="utf-8")
    return out_dir / "index.html"


def judge_film(result: FilmResult, min_score: float) -> _JudgedFilm:
    """Match the flaws of a film with the detections that have at least that score."""
    detections = result.detections[result.detections.scores >= min_score]
    counted = FilmResult(result.name, result.image_hw, result.pixel_pitch_mm, result.truth, detections)
    return _JudgedFilm(counted, match_film(result.truth, detections))


def worst_films(films: Sequence[_JudgedFilm], count: int) -> list[_JudgedFilm]:
    """Choose the films with the most misses and false calls; those without either are left out."""
    bad = [film for film in films if film.missed + film.false_calls]
    return sorted(bad, key=lambda film: (-film.missed - film.false_calls, film.result.name))[:count]


def verdict(metrics: dict[str, Any]) -> list[str]:
    """Say in a few sentences what the detector found and what it did not."""
    films, flaws, false_calls = metrics["films"], metrics["flaws"], metrics["false_calls"]
    threshold = metrics["settings"]["report_score_threshold"]
    on_films = f"on {_count(films, 'film')} that it had not been trained on"
    calls = f"{_count(false_calls, 'false call')}, {metrics['false_calls_per_film']:.1f} per film"
    if not flaws:
        return [
            f"There is no known flaw {on_films}, so this page cannot say what the detector would miss.",
            f"At a score of {threshold:g} or more it raised {calls}.",
        ]
    share = metrics["found"] / flaws
    sentences = [
        f"The detector found {metrics['found']} of {_count(flaws, 'known flaw')} ({100 * share:.0f} %) and missed "
        f"{metrics['missed']}, {on_films}.",
        f"It raised {calls}. Counted is what it reports with a score of {threshold:g} or more.",
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


def _notices(metrics: dict[str, Any], run: dict[str, Any], manifest: Manifest) -> list[str]:
    notices = []
    if metrics["split"] == Split.VAL:
        notices.append(
            "The data has no test films. These numbers come from the validation films, which were used to choose the "
            "model: expect worse on films that are new to it."
        )
    if run["data_sha256"] != manifest.data_sha256:
        notices.append("The model was trained on other data than the data described here: their hashes differ.")
    if metrics["difficult_flaws"]:
        notices.append(
            f"{_count(metrics['difficult_flaws'], 'flaw')} marked as difficult in the data: not counted as found, "
            "missed or false."
        )
    return notices


def _film_section(film: _JudgedFilm, store: TensorStore, evaluation_dir: Path) -> dict[str, Any]:
    indices = {record.name: index for index, record in enumerate(store.manifest.films)}
    result, matches = film.result, film.matches
    if result.name not in indices:
        raise DataError(f"{evaluation_dir}: film {result.name} is not in the prepared data; run `dvc repro`")
    pixels = assemble_film(store, indices[result.name])
    names = ("", *store.manifest.defect_classes)
    truth, detections = result.truth, result.detections
    (missed,) = np.nonzero(matches.is_missed)
    missed = missed[np.argsort(-boxes.areas(truth.boxes_xyxy[missed]), kind="stable")][:_MISS_CROPS]
    # A false call on a flaw that is shown as missed is to be seen there already.
    is_shown = (boxes.intersections(detections.boxes_xyxy, truth.boxes_xyxy[missed]) > 0).any(axis=1)
    (false_calls,) = np.nonzero(matches.is_false_call & ~is_shown)
    marked = [(truth.boxes_xyxy[i], f"missed: {names[truth.labels[i]]}") for i in missed]
    marked += [
        (detections.boxes_xyxy[i], f"false call: {names[detections.labels[i]]}, score {detections.scores[i]:.2f}")
        for i in false_calls[:_FALSE_CALL_CROPS]
    ]
    height, width = result.image_hw
    return {
        "name": result.name,
        "size": _size_text(np.array([0, 0, width, height], dtype=np.float32), result.pixel_pitch_mm),
        "counts": f"{film.found} found, {film.missed} missed, {_count(film.false_calls, 'false call')}",
        "picture": _jpeg_url(draw_film(pixels, result, matches)),
        "crops": [
            (_jpeg_url(draw_crop(pixels, box, result, matches)), f"{text}, {_size_text(box, result.pixel_pitch_mm)}")
            for box, text in marked
        ],
    }


def _data_statistics(manifest: Manifest) -> dict[str, Any]:
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
    return [(*kind_and_action, count) for kind_and_action, count in sorted(counts.items())]


def _render(**content: object) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files("defects_in_welds.evaluation").joinpath(TEMPLATE_NAME).read_text(encoding="utf-8")
    return environment.from_string(template).render(content)


def _size_text(box_xyxy: Float32[np.ndarray, "4"], pixel_pitch_mm: float | None) -> str:
    width, height = (box_xyxy[2:] - box_xyxy[:2]).tolist()
    in_px = f"{width:.0f} \u00d7 {height:.0f} px"
    if pixel_pitch_mm is None:
        return in_px
    return f"{width * pixel_pitch_mm:.1f} \u00d7 {height * pixel_pitch_mm:.1f} mm ({in_px})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _jpeg_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def _data_url(svg: Path) -> str:
    return f"data:image/svg+xml;base64,{b64encode(svg.read_bytes()).decode()}"

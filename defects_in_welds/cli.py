"""The commands of ``python -m defects_in_welds``.

A command takes Hydra overrides as ``section.key=value``, and ``experiment=name``. It imports what it needs when it is
called, so that ``--help`` is quick.
"""

import sys
from pathlib import Path

from defects_in_welds.command_line import run_command
from defects_in_welds.params import (
    DATA_DIR,
    EVALUATION_DIR,
    FLAW_SHEET,
    FOLDS_DIR,
    IMPLANTED_DIR,
    MODEL_DIR,
    PREDICTIONS_DIR,
    PREPARED_DIR,
    REPORT_DIR,
    TRAINING_DIR,
    UserError,
    load_params,
    require_count,
)


def simulate(
    *overrides: str, out: str | None = None, films: int | None = None, seed: int | None = None, workers: int = 1
) -> None:
    """Write simulated radiographs of butt welds with their true flaws; `simulate preview` draws one flaw of each class.

    Args:
        overrides: Such as ``simulate.width_px=512``.
        out: Folder to write (data/), or picture of the preview (artifacts/simulated_flaws.png).
        films: Number of films, in place of simulate.films.
        seed: In place of simulate.seed.
        workers: Processes that simulate; any number gives the same bytes.
    """
    flags = {"films": films, "seed": seed}
    given = [f"simulate.{key}={value}" for key, value in flags.items() if value is not None]
    if overrides[:1] == ("preview",):
        from defects_in_welds.simulation.preview import draw_flaw_sheet

        picture = _path("out", FLAW_SHEET if out is None else out)
        draw_flaw_sheet(load_params([*overrides[1:], *given]).simulate, picture)
        print(picture)
        return

    from defects_in_welds.simulation.dataset import simulate_dataset

    require_count("workers", workers)
    params = load_params([*overrides, *given]).simulate
    simulate_dataset(params, _path("out", DATA_DIR if out is None else out), workers)


def implant(
    *overrides: str,
    films: str = str(DATA_DIR),
    out: str = str(IMPLANTED_DIR),
    copies: int = 1,
    single_class: str | None = None,
) -> None:
    """Put simulated flaws into real radiographs, and write them as a data set with the truth of both.

    Args:
        overrides: Such as ``prepare.pixel_pitch_mm=0.05`` where the files do not say it.
        films: Folder of a data set in any format that prepare reads.
        out: Folder to write.
        copies: How often each film is written, with other flaws each time.
        single_class: Class of all implanted flaws, where the data set knows only one; each flaw's own otherwise.
    """
    from defects_in_welds.simulation.implant import implant_dataset

    require_count("copies", copies)
    params = load_params(overrides)
    implant_dataset(
        params.simulate,
        _path("films", films),
        _path("out", out),
        params.prepare.pixel_pitch_mm,
        copies=copies,
        single_class=single_class,
        weld_pattern=params.prepare.weld_pattern,
    )


def prepare(*overrides: str, img_size: int | None = None, augmentations: bool | None = None, workers: int = 1) -> None:
    """Read, check and split the radiographs, and cut them into tiles.

    Args:
        overrides: Such as ``prepare.on_finding=drop``.
        img_size: Tile side in pixels, in place of prepare.img_size.
        augmentations: Whether training augments the tiles, in place of prepare.augmentations.
        workers: Processes that read and cut films; any number gives the same bytes.
    """
    from defects_in_welds.data import preparation

    preparation.prepare(*overrides, img_size=img_size, augmentations=augmentations, workers=workers)


def train(*overrides: str) -> None:
    """Train the detector on the prepared tiles.

    Args:
        overrides: Such as ``train.batch_size=8``, ``trainer.precision=16-mixed``, ``experiment=gpu``.
    """
    from defects_in_welds.training import run_training

    run_training.train(load_params(overrides), PREPARED_DIR, MODEL_DIR, TRAINING_DIR)


def evaluate(*overrides: str) -> None:
    """Measure the detector on the test films; `evaluate folds` cross-validates, `evaluate compare A B` compares runs.

    Args:
        overrides: Such as ``evaluate.merge_iou=0.4``. After ``compare`` the two runs come first: folders that evaluate
            wrote, or MLflow run ids.
    """
    if overrides[:1] == ("folds",):
        from defects_in_welds.evaluation.cross_validation import cross_validate, describe

        print(describe(cross_validate(load_params(overrides[1:]), PREPARED_DIR, FOLDS_DIR)))
        return
    if overrides[:1] == ("compare",):
        from defects_in_welds.evaluation.comparison import compare_runs

        if len(overrides) < 3:
            raise UserError("evaluate compare needs two runs: folders that evaluate wrote, or MLflow run ids")
        print(compare_runs(overrides[1], overrides[2], load_params(overrides[3:])))
        return

    from defects_in_welds.evaluation import run_evaluation

    run_evaluation.evaluate(load_params(overrides), PREPARED_DIR, MODEL_DIR, EVALUATION_DIR)


def report(*overrides: str) -> None:
    """Write the results as one page, and print its path.

    Args:
        overrides: Such as ``report.worst_films=10``.
    """
    from defects_in_welds.evaluation.report.report_page import write_report

    print(write_report(load_params(overrides), PREPARED_DIR, MODEL_DIR, EVALUATION_DIR, REPORT_DIR))


def predict(
    *films_and_overrides: str,
    out: str = str(PREDICTIONS_DIR),
    model: str = str(MODEL_DIR),
    min_score: float | None = None,
    pictures: bool = True,
) -> None:
    """Find the flaws on radiographs that have no annotations: a table, COCO JSON and annotated pictures.

    Args:
        films_and_overrides: Image files, and folders that are searched for them; and overrides, such as
            ``prepare.pixel_pitch_mm=0.05`` where the files do not say it.
        out: Folder to write.
        model: Checkpoint, folder of a model, or folder that export_model has written.
        min_score: Least score of what is reported; that of the operating point otherwise.
        pictures: Whether to write an annotated picture of each film.
    """
    from defects_in_welds.inference.run_prediction import predict_films

    overrides = [text for text in films_and_overrides if "=" in text and not Path(text).exists()]
    films = [Path(text) for text in films_and_overrides if text not in overrides]
    if not films:
        raise UserError("predict needs films: image files, or folders of them")
    if not isinstance(pictures, bool):
        raise UserError(f"--pictures is {pictures!r}; allowed: True or False")
    if min_score is not None:
        _require_share("min_score", min_score)
    predict_films(
        load_params(overrides),
        films,
        _path("model", model),
        EVALUATION_DIR,
        _path("out", out),
        min_score=min_score,
        with_pictures=pictures,
    )


def export_model(
    *overrides: str,
    out: str = "artifacts/exported",
    model: str = str(MODEL_DIR),
    runtime: str = "openvino",
    precision: str = "float32",
) -> None:
    """Write the trained detector in the form of a faster runtime; predict takes the folder as --model.

    Args:
        overrides: As of every command.
        out: Folder to write.
        model: Checkpoint, or folder of a model.
        runtime: onnx or openvino; each needs its package.
        precision: float32, bfloat16 (openvino) or int8.
    """
    from defects_in_welds.inference import model_export

    load_params(overrides)
    model_export.export_model(_path("model", model), _path("out", out), runtime, precision, PREPARED_DIR)


def doctor(*overrides: str) -> None:
    """Print what a report of a fault needs, and look for what in the set-up cannot work; exit code 1 if there is such.

    Args:
        overrides: Such as ``trainer.accelerator=gpu``.
    """
    from defects_in_welds.doctor import describe, examine

    checks = examine(load_params(overrides), Path.cwd())
    print(describe(checks))
    if any(check.remedy for check in checks):
        sys.exit(1)


def _path(flag: str, given: object) -> Path:
    if not isinstance(given, str | Path):  # Fire reads `--out 2024` as a number, and a bare `--out` as True
        raise UserError(f"--{flag} is {given!r}; allowed: a path that is no plain number, such as ./2024")
    return Path(given)


def _require_share(flag: str, given: object) -> None:
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 <= given <= 1:
        raise UserError(f"--{flag} is {given!r}; allowed: a number from 0 to 1")


COMMANDS = {
    command.__name__: command
    for command in (simulate, implant, prepare, train, evaluate, report, predict, export_model, doctor)
}


def main() -> None:
    """Run one command."""
    run_command(COMMANDS, sys.argv[1:])

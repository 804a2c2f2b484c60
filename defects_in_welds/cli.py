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
    MODEL_DIR,
    PREPARED_DIR,
    REPORT_DIR,
    TRAINING_DIR,
    UserError,
    load_params,
)


def simulate(*overrides: str, out: str = str(DATA_DIR), films: int | None = None, seed: int | None = None) -> None:
    """Write the sample: simulated radiographs of butt welds with their true flaws.

    Args:
        overrides: Such as ``simulate.width_px=512``.
        out: Folder to write.
        films: Number of films, in place of simulate.films.
        seed: In place of simulate.seed.
    """
    from defects_in_welds.simulation.dataset import simulate_dataset

    if not isinstance(out, str):  # Fire reads `--out 2024` as a number, and a bare `--out` as True
        raise UserError(f"--out is {out!r}; allowed: a folder that is no plain number, such as ./2024")
    flags = {"films": films, "seed": seed}
    given = [f"simulate.{key}={value}" for key, value in flags.items() if value is not None]
    simulate_dataset(load_params([*overrides, *given]).simulate, Path(out))


def prepare(*overrides: str, img_size: int | None = None, augmentations: bool | None = None) -> None:
    """Read, check and split the radiographs, and cut them into tiles.

    Args:
        overrides: Such as ``prepare.on_finding=drop``.
        img_size: Tile side in pixels, in place of prepare.img_size.
        augmentations: Whether training augments the tiles, in place of prepare.augmentations.
    """
    from defects_in_welds.data import data_module

    data_module.prepare(*overrides, img_size=img_size, augmentations=augmentations)


def train(*overrides: str) -> None:
    """Train the detector on the prepared tiles.

    Args:
        overrides: Such as ``train.batch_size=8``, ``trainer.precision=16-mixed``, ``experiment=gpu``.
    """
    from defects_in_welds.training import run_training

    run_training.train(load_params(overrides), PREPARED_DIR, MODEL_DIR, TRAINING_DIR)


def evaluate(*overrides: str) -> None:
    """Measure the detector on the test films.

    Args:
        overrides: Such as ``evaluate.merge_iou=0.4``.
    """
    from defects_in_welds.evaluation import run_evaluation

    run_evaluation.evaluate(load_params(overrides), PREPARED_DIR, MODEL_DIR, EVALUATION_DIR)


def report(*overrides: str) -> None:
    """Write the results as one page, and print its path.

    Args:
        overrides: Such as ``report.worst_films=10``.
    """
    from defects_in_welds.evaluation.report import write_report

    print(write_report(load_params(overrides), PREPARED_DIR, MODEL_DIR, EVALUATION_DIR, REPORT_DIR))


COMMANDS = {command.__name__: command for command in (simulate, prepare, train, evaluate, report)}


def main() -> None:
    """Run one command."""
    run_command(COMMANDS, sys.argv[1:])

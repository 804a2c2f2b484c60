"""How well are flaws found on real films: cross-validation by film on GDXray's W0001, and what leakage would add.

    python benchmarks/gdxray_folds.py --real GDXray --work /tmp/gdxray_folds --weights simulated.ckpt

Six films of the BAM round robin, one class, at half resolution with the slow background taken away, as in
``sim_to_real.py``; ``--weights`` takes a checkpoint to start from, such as one trained on simulated films. Lengths of
flaws come from the boxes and the pitch of 40.3 µm. Where ``W0003/real-values.xls`` is there, the detections are also
scored against the flaws that BAM found in the welds, by sections of 1 cm, as the inspectors of the round robin were.
"""

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from records import record
from sim_to_real import OVERRIDES, PIXEL_PITCH_MM, prepare

from defects_in_welds.data.data_module import WeldDataModule
from defects_in_welds.evaluation.bam_truth import cell_truth_from_bam, read_bam_truth
from defects_in_welds.evaluation.cells import cell_auc, cell_auc_interval, cell_rates
from defects_in_welds.evaluation.cross_validation import cross_validate, describe
from defects_in_welds.evaluation.matching import MatchTable
from defects_in_welds.params import load_params

ROUND_ROBIN_NUMBER = {"0002": 12, "0005": 39, "0006": 40, "0007": 13, "0009": 106}  # W0003/original_readme.txt
KEYS = ("films", "flaws", "mAP50", "mAP", "AR", "intervals", "recall_at_false_calls_per_metre", "pod", "cells")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder that holds W0001 and, perhaps, W0003")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and models, made anew")
    parser.add_argument("--weights", type=Path, help="checkpoint to start from; none: random weights")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150, help="training steps of each fold, in whole epochs")
    arguments = parser.parse_args()

    real, work = arguments.real.resolve(), arguments.work.resolve()
    weights = arguments.weights.resolve() if arguments.weights else "none"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copytree(real / "W0001", work / "data")
    os.chdir(work)  # MLflow's records stay there
    overrides = [*OVERRIDES, f"prepare.pixel_pitch_mm={PIXEL_PITCH_MM}", f"evaluate.folds={arguments.folds}"]
    prepared = prepare(work / "data", overrides)
    data = WeldDataModule(prepared, load_params(overrides).train, load_params(overrides).augmentation)
    data.setup("fit")
    share = (arguments.folds - 2) / arguments.folds
    epochs = max(1, round(arguments.steps / (len(data.train_dataloader()) * share * 6 / 5)))
    given = [f"train.max_epochs={epochs}", f"model.weights={weights}", f"trainer.check_val_every_n_epoch={epochs}"]
    metrics = cross_validate(load_params([*overrides, *given]), prepared, work / "cross_validation")
    print(describe(metrics))
    result: dict[str, Any] = {
        "folds": arguments.folds,
        "steps": arguments.steps,
        "weights": bool(arguments.weights),
        **{key: metrics["by_weld"][key] for key in KEYS},
        "AP50 on tiles, films apart": metrics["tiles_by_weld"],
        "AP50 on tiles, dealt out at random": metrics["tiles_at_random"],
    }
    truth = real / "W0003" / "real-values.xls"
    if truth.is_file():
        result["against the flaws that BAM found, by 1 cm"] = score_against_bam(work / "cross_validation", truth)
    record("gdxray_folds", result)


def score_against_bam(evaluation_dir: Path, path: Path) -> dict[str, Any]:
    """Score the detections by sections of 1 cm, at the threshold that reports as many sections as are flawed."""
    table, truth = MatchTable.read(evaluation_dir / "matches"), read_bam_truth(path)
    cells = pd.concat(
        cell_truth_from_bam(table, film, truth, ROUND_ROBIN_NUMBER[number], offset_mm=0.0)
        for film, name in enumerate(table.films["name"])
        for number in [Path(name).stem.rpartition("_")[2]]
        if number in ROUND_ROBIN_NUMBER
    )
    counted = cells[~cells["ignored"]]
    flawed = int(counted["has_flaw"].sum())
    min_score = float(counted["score"].sort_values(ascending=False).iloc[flawed - 1])
    hit_rate, false_call_rate = cell_rates(cells, min_score)
    return {
        "sections": len(counted),
        "flawed": flawed,
        "AUC": cell_auc(cells),
        "AUC, 95 %": cell_auc_interval(cells, table.films["weld"]),
        "hit rate": hit_rate,
        "false-call rate": false_call_rate,
    }


if __name__ == "__main__":
    main()

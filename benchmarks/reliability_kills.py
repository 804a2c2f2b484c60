"""Kill the stages at random moments: is the old result on disk or the new one, and does a rerun complete?

    python benchmarks/reliability_kills.py

Each trial puts an old result in place, starts the stage with other parameters, and kills it. What then lies in the
output folder must be the old result or the new one, to the byte; a rerun must leave the new one and nothing beside it.
A training goes on from its last state and must end with the weights of one that nobody has killed. SIGKILL ends the
stages; the training is also sent SIGTERM.

A stage is a fork of this program, so that no trial is spent on imports.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from records import record

from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.evaluation.report.report_page import write_report
from defects_in_welds.evaluation.run_evaluation import evaluate
from defects_in_welds.params import load_params
from defects_in_welds.simulation.dataset import simulate_dataset
from defects_in_welds.training.run_training import train

OVERRIDES = [
    "simulate.films=8",
    "simulate.height_px=128",
    "simulate.width_px=192",
    "simulate.films_per_weld=1",
    "prepare.img_size=128",
    "prepare.overlap_px=32",
    "prepare.val_share=0.25",
    "prepare.test_share=0.25",
    "prepare.near_duplicate_correlation=1",
    "model.architecture=fasterrcnn_mobilenet_v3_large_320_fpn",
    "model.proposals=50",
    "train.batch_size=1",
    "train.max_epochs=3",
    "train.warmup_steps=0",
    "trainer.limit_train_batches=3",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "evaluate.bootstrap_samples=50",
    "report.worst_films=1",
]
DATA, PREPARED, MODEL, TRAINING, EVALUATION, REPORT = map(
    Path, ("data", "prepared", "model", "training", "evaluation", "report")
)


@dataclass(frozen=True)
class Stage:
    """A stage, and how its old and its new result are made.

    Attributes:
        run: Runs it with overrides.
        output: The folder that it writes.
        old: Overrides of the old result.
        new: Overrides of the new one.
    """

    run: Callable[[list[str]], object]
    output: Path
    old: str
    new: str


def params(overrides: list[str]):
    return load_params([*OVERRIDES, f"train.tracking_uri=sqlite:///{Path.cwd()}/mlflow.db", *overrides])


STAGES = {
    "simulate": Stage(
        lambda given: simulate_dataset(params(given).simulate, DATA), DATA, "simulate.seed=1", "simulate.seed=2"
    ),
    "prepare": Stage(
        lambda given: prepare_dataset(params(given), DATA, PREPARED), PREPARED, "prepare.seed=1", "prepare.seed=2"
    ),
    "train": Stage(
        lambda given: train(params(given), PREPARED, MODEL, TRAINING), MODEL, "train.seed=1", "train.seed=2"
    ),
    "evaluate": Stage(
        lambda given: evaluate(params(given), PREPARED, MODEL, EVALUATION),
        EVALUATION,
        "evaluate.merge_iou=0.4",
        "evaluate.merge_iou=0.6",
    ),
    "report": Stage(
        lambda given: write_report(params(given), PREPARED, MODEL, EVALUATION, REPORT),
        REPORT,
        "report.title=old",
        "report.title=new",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=15, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=STAGES, help="kill this stage alone")
    parser.add_argument("--dry", action="store_true", help="record nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a fork has no other threads
    rng = random.Random(arguments.seed)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, stage in STAGES.items():
            trials = Trials(stage)
            if arguments.only not in (None, name):
                continue
            results[name] = trials.kill_often(signal.SIGKILL, arguments.kills, rng)
            if name == "train":
                results["train, SIGTERM"] = trials.kill_often(signal.SIGTERM, arguments.kills, rng)
            print(name, results[name], flush=True)
        os.chdir(Path(__file__).parent)
    losses = [loss for result in results.values() for loss in result["losses"]]
    kills = sum(result["kills"] for result in results.values())
    if not arguments.dry:
        record("reliability_kills", {"kills": kills, "losses": len(losses), "stages": results})
    sys.exit(1 if losses else 0)


class Trials:
    """Kills of one stage, in the current directory; the stages before it have left their new results there."""

    def __init__(self, stage: Stage) -> None:
        """Make the old result and the new one."""
        self.stage = stage
        self.digests = {}
        for age, given in (("old", stage.old), ("new", stage.new)):
            self.time_a_run(given)
            self.digests[age] = digest(stage.output)
            shutil.copytree(stage.output, Path("kept") / stage.output / age)
        assert self.digests["old"] != self.digests["new"]

    def time_a_run(self, given: str) -> None:
        """Run the stage, and note after how long the new result is in place, and when it ends."""
        before, start = inode(self.stage.output), time.monotonic()
        child = fork(self.stage.run, [given])
        self.seconds_until_new = None
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if self.seconds_until_new is None and inode(self.stage.output) not in (None, before):
                self.seconds_until_new = time.monotonic() - start
            time.sleep(0.001)
        assert finish(child) == 0, Path("log").read_text()
        self.seconds = time.monotonic() - start

    def kill_often(self, number: signal.Signals, kills: int, rng: random.Random) -> dict:
        result = {"kills": 0, "old": 0, "new": 0, "resumed": 0, "losses": []}
        while result["kills"] < kills:
            # In turn: before the new result is in place, and at any moment.
            after_s = rng.uniform(0, self.seconds if result["kills"] % 2 else self.seconds_until_new or self.seconds)
            self.put_old_in_place()
            child = fork(self.stage.run, [self.stage.new])
            time.sleep(after_s)
            os.kill(child, number)
            if finish(child) == 0:
                continue  # it was quicker this time
            result["kills"] += 1
            try:
                found = self.find()
                result[found] += 1
                result["resumed"] += self.rerun()
            except AssertionError as loss:
                result["losses"].append(f"after {after_s:.2f} s: {loss}")
        return result

    def put_old_in_place(self) -> None:
        output = self.stage.output
        for path in (output, TRAINING if output is MODEL else None):
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(Path("kept") / output / "old", output)

    def find(self) -> str:
        """Tell which result lies on disk."""
        here = digest(self.stage.output) if self.stage.output.exists() else None
        ages = [age for age, of_age in self.digests.items() if of_age == here]
        assert ages, "neither the old nor the new result"
        return ages[0]

    def rerun(self) -> bool:
        """Run the stage once more, and tell whether it went on from a saved state."""
        is_resumed = self.stage.output is MODEL and (TRAINING / "last.ckpt").is_file()
        given = [self.stage.new, *(["train.resume=true"] if is_resumed else [])]
        assert finish(fork(self.stage.run, given)) == 0, Path("log").read_text()
        assert self.find() == "new", "another result after the rerun"
        left = [path.name for path in Path.cwd().iterdir() if path.name.startswith(".")]
        assert not left, f"left behind: {left}"
        return is_resumed


def fork(run: Callable[[list[str]], object], given: list[str]) -> int:
    """Run a stage in a child process, and give its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with Path("log").open("w") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        run(given)
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def inode(folder: Path) -> int | None:
    return folder.stat().st_ino if folder.exists() else None


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digest(folder: Path) -> str:
    """Hash all files of a folder. Of the record of a training, what changes from run to run is left out."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.name == "run.json":
            record = json.loads(content)
            kept = {key: record[key] for key in ("best_map", "epochs", "data_sha256")}
            content = json.dumps([kept, record["params"]["train"]["seed"]]).encode()
        found.update(f"{path.relative_to(folder)} {len(content)} ".encode() + content)
    return found.hexdigest()


if __name__ == "__main__":
    main()

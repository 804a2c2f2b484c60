"""A long and large run: is memory the same for ten times the films, and does nothing leak?

    python benchmarks/soak.py

Films of 2000x1000 px with 16 bits are simulated by two processes, prepared, trained on for one epoch, and evaluated:
200 of them, then 2,000. Each stage is a process of its own. Then a training takes 50 epochs on few films, with a
process that loads them. All takes an hour or so on 2 cores, and 10 GB below ``TMPDIR``.

Memory is that of a stage and of the processes that it starts, looked at 50 times a second. What counts is what the
system cannot take back: anonymous and shared pages. Pages of mapped files, such as the tiles of the store, fill
whatever memory is free and are dropped where it is short; they are given apart.

The films are resampled to four times their pixel pitch, so that each gives two tiles and the network, a small one, does
not take days. MLflow's connections to its database and matplotlib's fonts stay open as long as a process lives: only
the epochs count them.
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from unittest.mock import patch

from records import record

from defects_in_welds.params import Params, load_params

HEIGHT_PX, WIDTH_PX, PITCH_MM = 1000, 2000, 0.1
OVERRIDES = [
    f"simulate.height_px={HEIGHT_PX}",
    f"simulate.width_px={WIDTH_PX}",
    f"simulate.pixel_pitch_mm={PITCH_MM}",
    "simulate.films_per_weld=1",
    f"prepare.resample_pitch_mm={4 * PITCH_MM}",
    "prepare.img_size=256",
    "prepare.overlap_px=12",
    "prepare.on_finding=keep",  # the smallest flaws are lost in resampling
    "prepare.near_duplicate_correlation=1",  # welds are alike
    "prepare.val_share=0.1",
    "prepare.test_share=0.45",
    "model.architecture=fasterrcnn_mobilenet_v3_large_320_fpn",
    "train.max_epochs=1",
    "train.early_stopping_epochs=1000",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]
DATA, PREPARED, MODEL, TRAINING, EVALUATION = map(Path, ("data", "prepared", "model", "training", "evaluation"))
STAGES: dict[str, tuple[str, Callable[[Any, Params], object]]] = {  # the module, and what of it is run
    "simulate": (
        "defects_in_welds.simulation.dataset",
        lambda module, params: module.simulate_dataset(params.simulate, DATA, workers=2),
    ),
    "prepare": (
        "defects_in_welds.data.preparation",
        lambda module, params: module.prepare_dataset(params, DATA, PREPARED),
    ),
    "train": (
        "defects_in_welds.training.run_training",
        lambda module, params: module.train(params, PREPARED, MODEL, TRAINING),
    ),
    "evaluate": (
        "defects_in_welds.evaluation.run_evaluation",
        lambda module, params: module.evaluate(params, PREPARED, MODEL, EVALUATION),
    ),
}
EPOCH_FILMS = 40
MOST_GROWTH_WITH_FILMS = 1.10
MOST_GROWTH_WITH_EPOCHS = 1.03
SETTLED = 5  # epochs after which memory should stay as it is
COMPARED = 10  # epochs at both ends
_SECONDS_BETWEEN_LOOKS = 0.02
_KEPT_BY_LIBRARIES = re.compile(r"/mlflow\.db$|/matplotlib/.*\.ttf$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, nargs=2, default=[200, 2000], metavar=("FEW", "MANY"))
    parser.add_argument("--epochs", type=int, default=50, help=f"at least {SETTLED + COMPARED}")
    parser.add_argument("--dry", action="store_true", help="record nothing")
    parser.add_argument("--run", nargs="+", metavar=("STAGE", "OVERRIDES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        stage, *overrides = arguments.run
        print(json.dumps(run_stage(stage, parameters(*overrides))))
        return
    stages: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for films in arguments.films:
        with tempfile.TemporaryDirectory() as folder:
            for stage, rows in stages.items():
                rows[str(films)] = run_in_process(folder, stage, f"simulate.films={films}")
                print(f"{stage}, {films} films: {rows[str(films)]}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for stage in ("simulate", "prepare"):
            run_in_process(folder, stage, f"simulate.films={EPOCH_FILMS}")
        long = [f"train.max_epochs={arguments.epochs}", "train.num_workers=1"]
        epochs = run_in_process(folder, "epochs", *long)
    checks = {check: kept for stage, rows in stages.items() for check, kept in checks_of_stage(stage, rows).items()}
    checks |= checks_of_epochs(epochs)
    losses = [check for check, kept in checks.items() if not kept]
    result = {"checks": len(checks), "losses": losses, "stages": stages, "epochs": summary(epochs)}
    if arguments.dry:
        print(json.dumps(result, indent=1))
    else:
        record("soak", result)
    sys.exit(1 if losses else 0)


# --- What is promised ---------------------------------------------------------------------------------------------


def checks_of_stage(stage: str, rows: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Tell which promises a stage has kept, with few films and many."""
    few, many = (row["peak MiB"] for row in rows.values())
    checks = {f"{stage}: {many} MiB where {few} were enough": many <= MOST_GROWTH_WITH_FILMS * few}
    for films, row in rows.items():
        for kind in ("files", "processes", "outlived by"):
            checks[f"{stage}, {films} films: {kind} {row[kind]}"] = not row[kind]
    return checks


def checks_of_epochs(epochs: dict[str, Any]) -> dict[str, bool]:
    """Tell which promises a long training has kept."""
    checks = {f"epochs: {kind} {epochs[kind]}": not epochs[kind] for kind in ("files", "processes", "outlived by")}
    for key, (first, last) in ends_of(epochs["after each"]).items():
        most = MOST_GROWTH_WITH_EPOCHS if key == "MiB" else 1
        checks[f"epochs: {key} {first} at first and {last} at last"] = last <= most * first
    return checks


def ends_of(epochs: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Compare the first settled epochs with the last: memory by the median, what is counted by the least.

    Tiles on their way from the loading process are open files of their own, now more and now fewer.
    """
    ends = {}
    for key, values in epochs.items():
        typical = statistics.median if key == "MiB" else min
        ends[key] = typical(values[SETTLED : SETTLED + COMPARED]), typical(values[-COMPARED:])
    return ends


def summary(epochs: dict[str, Any]) -> dict[str, Any]:
    after_each = epochs["after each"]
    ends = {
        key: {"first": first, "last": last, "least": min(after_each[key]), "most": max(after_each[key])}
        for key, (first, last) in ends_of(after_each).items()
    }
    return {**epochs, "after each": ends, "number": len(after_each["MiB"])}


# --- A stage, watched from outside --------------------------------------------------------------------------------


def run_in_process(folder: str, stage: str, *overrides: str) -> dict[str, Any]:
    """Run a stage in a folder, and give its peaks and what it has left behind."""
    peak = Memory(0, 0)
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--run", stage, *overrides]
    with tempfile.TemporaryFile("w+") as output, Path(folder, f"{stage}.log").open("w+") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=log, start_new_session=True)
        before: list[int] = []
        while process.poll() is None:
            # For an instant, a process that begins another program still is a copy of the one that began it.
            now = family(process.pid)
            peak = peak.most(sum((resident(pid) for pid in now if pid in before), Memory(0, 0)))
            before = now
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if process.returncode != 0:
            log.seek(0)
            sys.exit(f"{stage} has failed:\n{log.read()[-5000:]}")
        output.seek(0)
        left = json.loads(output.read().splitlines()[-1])
    peaks = {"peak MiB": peak.kept, "mapped files, MiB": peak.mapped}
    seconds = round(time.perf_counter() - start)
    for _ in range(100):
        outlived_by = in_session(process.pid)
        if not outlived_by:
            break
        time.sleep(0.1)  # Python's watch over semaphores ends when it sees that all others have
    return {**peaks, "seconds": seconds, **left, "outlived by": outlived_by}


@dataclass(frozen=True)
class Memory:
    """Resident memory.

    Attributes:
        kept: What the system cannot take back, in MiB.
        mapped: Pages of mapped files, in MiB.
    """

    kept: int
    mapped: int

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.kept + other.kept, self.mapped + other.mapped)

    def most(self, other: "Memory") -> "Memory":
        return Memory(max(self.kept, other.kept), max(self.mapped, other.mapped))


def resident(pid: int) -> Memory:
    """Look at the memory of a process; pages that processes share count in each."""
    kib = dict.fromkeys(("RssAnon", "RssShmem", "RssFile"), 0)
    with contextlib.suppress(OSError):  # it has ended
        kib |= _kib(Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return Memory(round((kib["RssAnon"] + kib["RssShmem"]) / 1024), round(kib["RssFile"] / 1024))


def _kib(table: str) -> dict[str, int]:
    return {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB", table, re.MULTILINE)}


def family(pid: int) -> list[int]:
    """List a process and all that descend from it."""
    pids = [pid]
    for parent in pids:  # grows meanwhile
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids += map(int, task.read_text(encoding="ascii").split())
    return pids


def in_session(session: int) -> list[str]:
    """Name the processes of a session that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")
            if int(rest.split()[3]) == session:
                found.append(name.partition("(")[2])
    return found


# --- A stage, from within -----------------------------------------------------------------------------------------


def run_stage(stage: str, params: Params) -> dict[str, Any]:
    """Run a stage in the working directory; tell which files and processes are open beyond those of before."""
    module, run = STAGES["train" if stage == "epochs" else stage]
    imported = importlib.import_module(module)
    resource_tracker.ensure_running()  # Python's own, which lives as long as its process
    files, processes = open_files(os.getpid()), children()
    noted = {}
    if stage == "epochs":
        noted["after each"] = noting_each_epoch(lambda: run(imported, params))
    else:
        run(imported, params)
    gc.collect()  # what refers to itself is no leak
    left = {
        "files": [name for name in (open_files(os.getpid()) - files).elements() if not _KEPT_BY_LIBRARIES.search(name)],
        "processes": [name for pid, name in children().items() if pid not in processes],
    }
    return left | noted


def open_files(pid: int) -> Counter[str]:
    """Count what a process holds open, and the files of the working directory that it has mapped."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing itself
            found[re.sub(r"\[\d+\]", "", str(entry.readlink()))] += 1
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        path = line.split(maxsplit=5)[-1]
        if path.startswith(f"{Path.cwd()}/"):
            found[f"mapped {path}"] += 1
    return found


def children() -> dict[int, str]:
    """Name the processes that descend from this one."""
    found = {}
    for pid in family(os.getpid())[1:]:
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")[:200]
    return found


def noting_each_epoch(run: Callable[[], object]) -> dict[str, list[float]]:
    """Run a training; note after each epoch what it and its loading processes take."""
    from defects_in_welds.training.callbacks import ResumeState

    noted: dict[str, list[float]] = {"MiB": [], "files": [], "threads": [], "processes": []}
    end = ResumeState.on_train_epoch_end

    def end_and_note(*given: Any) -> None:
        end(*given)
        pids = family(os.getpid())
        noted["MiB"].append(proportional_mib(pids))
        noted["files"].append(sum(open_files(pid).total() for pid in pids))
        noted["threads"].append(sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids))
        noted["processes"].append(len(pids))

    with patch.object(ResumeState, "on_train_epoch_end", end_and_note):
        run()
    return noted


def proportional_mib(pids: Iterable[int]) -> int:
    """Add up what the system cannot take back; a page that several processes share counts once."""
    tables = [_kib(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")) for pid in pids]
    return round(sum(table["Pss_Anon"] + table["Pss_Shmem"] for table in tables) / 1024)


def parameters(*overrides: str) -> Params:
    # MLflow keeps a relative path open.
    return load_params([*OVERRIDES, f"train.tracking_uri=sqlite:///{Path.cwd()}/mlflow.db", *overrides])


if __name__ == "__main__":
    main()

"""What the command line adds to Python's own start, and a pipeline with nothing to do to DVC's own minimum.

    make repro
    python benchmarks/start_up.py

`--help` is compared with a program that does nothing. `dvc repro` is run in a copy of this project whose outputs are
committed, so that no stage runs, and in one of the same stages with a line of text for every dependency and output.
Runs to be compared take turns; CPU time counts, that of children included.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from records import record

REPOSITORY = Path(__file__).resolve().parents[1]
COPIED = ("configs", "data", "defects_in_welds", "dvc.yaml", ".dvcignore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="runs of each kind that take turns")
    pairs = parser.parse_args().pairs
    programs = {"help": [sys.executable, "-m", "defects_in_welds", "--help"], "bare Python": [sys.executable, "-c", ""]}
    with tempfile.TemporaryDirectory() as folder:
        projects = {
            "project": copy_project(Path(folder) / "project"),
            "minimum": write_minimum(Path(folder) / "minimum"),
        }
        repro = {name: dvc("--cd", str(path), "repro") for name, path in projects.items()}
        result = {"--help": compare(programs, pairs), "dvc repro": compare(repro, pairs)}
    record("start_up", result)


def copy_project(project: Path) -> Path:
    """Copy what the stages read, and let DVC believe that they have run."""
    shutil.copytree(
        REPOSITORY,
        project,
        ignore=lambda folder, names: {
            name for name in names if name == "__pycache__" or (Path(folder) == REPOSITORY and name not in COPIED)
        },
    )
    stages = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return commit(project, [out for stage in stages.values() for out in (*stage["outs"], *stage.get("metrics", ()))])


def write_minimum(project: Path) -> Path:
    """Write as many stages that need nothing of each other but a line of text."""
    project.mkdir()
    (project / "data").write_text("data", encoding="utf-8")
    names = list(yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    stages = {
        name: {"cmd": "true", "deps": [dep], "outs": [name]} for name, dep in zip(names, ["data", *names], strict=False)
    }
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    return commit(project, names)


def commit(project: Path, outs: list[str]) -> Path:
    for out in outs:
        (project / out).parent.mkdir(parents=True, exist_ok=True)
        (project / out).write_text("{}", encoding="utf-8")
    for command in (("init", "--no-scm"), ("add", "data"), ("commit", "--force")):
        subprocess.run(dvc(*command), cwd=project, check=True, capture_output=True)
    output = subprocess.run(dvc("repro"), cwd=project, check=True, capture_output=True, text=True).stdout
    assert "up to date" in output, output
    return project


def dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def compare(commands: dict[str, list[str]], pairs: int) -> dict[str, Any]:
    """Run both commands in turn; give their CPU seconds, and what the first takes more and times."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(pairs):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command))
    both = list(zip(*seconds.values(), strict=True))
    return {
        **{f"CPU seconds, {name}": round(statistics.median(of), 3) for name, of in seconds.items()},
        "more": round(statistics.median(first - second for first, second in both), 3),
        "times": round(statistics.median(first / second for first, second in both), 2),
    }


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

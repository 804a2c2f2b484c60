"""``dvc repro`` from data to report, and what DVC then knows about it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

OUTPUTS = (
    "artifacts/prepared/checks.csv",
    "artifacts/model/best.ckpt",
    "artifacts/model/run.json",
    "artifacts/evaluation/metrics.json",
    "artifacts/evaluation/predictions.json",
    "artifacts/evaluation/ground_truth.json",
    "artifacts/evaluation/plots/precision_recall.csv",
    "artifacts/report/index.html",
)
KEYS = {"AWS_ACCESS_KEY_ID": "the-key-id", "AWS_SECRET_ACCESS_KEY": "the-secret-key"}  # pragma: allowlist secret
METRICS_FILE = "artifacts/evaluation/metrics.json"


@pytest.fixture(scope="module")
def must_run(run_command) -> Callable[[str], str]:
    def must_run(command: str) -> str:
        run: subprocess.CompletedProcess[str] = run_command(command, **KEYS)
        assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    return must_run


@pytest.fixture(scope="module")
def reproduced(tiny_project, must_run) -> Path:
    """The tiny project as a repository, with its pipeline run once and committed."""
    for command in (
        "git init -q",
        "git config user.email somebody@example.org",
        "git config user.name Somebody",
        "dvc add -q data",
        "git add .",
        "git commit -qm Data",
        "dvc repro",
        "git add .",
        "git commit -qm Results",
    ):
        must_run(command)
    return tiny_project


@pytest.mark.parametrize("output", OUTPUTS)
def test_repro_writes(output, reproduced):
    assert (reproduced / output).stat().st_size > 0


def test_status_is_clean_and_a_second_repro_runs_nothing(reproduced, must_run):
    assert "Data and pipelines are up to date." in must_run("dvc status")
    again = must_run("dvc repro")
    assert "Running stage" not in again
    assert must_run("git status --porcelain") == ""


def test_no_key_is_in_any_file(reproduced):
    files = [path for path in reproduced.rglob("*") if path.is_file()]
    assert reproduced / "mlflow.db" in files
    assert [path for path in files if any(key.encode() in path.read_bytes() for key in KEYS.values())] == []


def test_metrics_can_be_shown(reproduced, must_run):
    shown = json.loads(must_run("dvc metrics show --json"))
    metrics = json.loads((reproduced / METRICS_FILE).read_text(encoding="utf-8"))
    numbers = {key: metrics[key] for key in ("mAP", "mAP50", "mAP75", "AR", "flaws")}
    assert numbers.items() <= shown[""]["data"][METRICS_FILE]["data"].items()


def test_the_precision_recall_plot_has_its_axes(reproduced, must_run):
    must_run("dvc plots show --out plots")
    page = (reproduced / "plots" / "index.html").read_text(encoding="utf-8")
    assert "Precision and recall on the test films" in page
    assert '"field": "recall"' in page
    assert '"field": "precision"' in page


def test_a_changed_parameter_runs_only_the_stages_that_read_it_and_shows_in_the_diff(reproduced, must_run):
    params_file = reproduced / "configs" / "params.yaml"
    params_file.write_text(params_file.read_text().replace("merge_iou: 0.5", "merge_iou: 0.6"))
    ran = must_run("dvc repro")
    assert [line for line in ran.splitlines() if line.startswith("Running stage")] == [
        "Running stage 'evaluate':",
        "Running stage 'report':",
    ]
    compared = json.loads(must_run("dvc metrics diff --all --json"))[METRICS_FILE]
    assert {"old", "new"} <= set(compared["mAP50"])
    assert "merge_iou" in must_run("dvc params diff")

"""The command lines that the project promises, word for word."""

import json

import pytest
import torch

pytestmark = pytest.mark.slow

PREPARE = "python defects_in_welds/data/data_module.py prepare --img_size 640 --augmentations True"
TRAIN = (
    "python -m defects_in_welds.training.run_training train.batch_size=4 trainer.precision=16-mixed",
    "python defects_in_welds/training/run_training.py",
)


@pytest.fixture(scope="module")
def prepared(tiny_project, run_command):
    run = run_command(PREPARE)
    assert run.returncode == 0, run.stderr
    return tiny_project


def test_prepare_takes_its_flags(prepared):
    manifest = json.loads((prepared / "artifacts" / "prepared" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["img_size"], manifest["augmentations"]) == (640, True)
    assert (prepared / "artifacts" / "prepared" / "preview.png").stat().st_size > 0


@pytest.mark.parametrize("command", TRAIN)
def test_training_leaves_a_checkpoint_and_its_run(command, prepared, run_command):
    run = run_command(command)
    assert run.returncode == 0, run.stderr
    if not torch.cuda.is_available():
        assert run.stdout.count("trainer.precision 16-mixed is bf16-mixed on a CPU") == 1
    assert "validation: mAP" in run.stdout
    record = json.loads((prepared / "artifacts" / "model" / "run.json").read_text(encoding="utf-8"))
    if "=" in command:
        assert record["params"]["trainer"]["precision"] == "16-mixed"
        assert record["params"]["train"]["batch_size"] == 4
    assert (prepared / "artifacts" / "model" / "best.ckpt").stat().st_size > 0

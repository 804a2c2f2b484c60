import json
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tiny_training import write_store

import defects_in_welds.training.run_training as run_training
from defects_in_welds.model.checkpoint import load_detector

OVERRIDES = (
    "model.architecture=fasterrcnn_mobilenet_v3_large_320_fpn model.proposals=30 train.batch_size=2 train.max_epochs=1 "
    "train.warmup_steps=0 trainer.accelerator=cpu trainer.devices=2 trainer.strategy=ddp "
    "trainer.enable_progress_bar=false"
)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["-m defects_in_welds.training.run_training", run_training.__file__])
def test_two_processes_train_one_model_though_one_has_no_tile_to_validate(project, mlflow_uri, run_command, program):
    write_store(Path("artifacts/prepared"), train_tiles=4, val_tiles=1)
    finished = run_command(f"{sys.executable} {program} {OVERRIDES}", OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    assert "Warning" not in finished.stderr
    record = json.loads(Path("artifacts/model/run.json").read_text())
    assert (record["epochs"], len(record["run_id"])) == (1, 32)
    load_detector(Path("artifacts/model/best.ckpt"))
    client = MlflowClient(mlflow_uri)
    (run,) = client.search_runs([record["experiment_id"]])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["val/mAP"] == pytest.approx(record["best_map"])
    assert {path.name for path in project.iterdir()} <= {"artifacts", "configs", "mlflow.db", "mlruns"}

"""Kill MLflow's server while a training logs to it, and start it again: is a record lost?

    python benchmarks/reliability_server.py

Each trial trains a small network on simulated films and logs every step. At random steps the server, a real one, is
killed or started again; where it stays away, a rerun of the finished training sends the rest. Then every step must be
in MLflow, with the checkpoint and the end of the run.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import requests
from mlflow import MlflowClient
from records import record
from reliability_kills import DATA, MODEL, OVERRIDES, PREPARED, TRAINING

from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.params import load_params
from defects_in_welds.simulation.dataset import simulate_dataset
from defects_in_welds.training import outbox
from defects_in_welds.training.lit_module import DetectionModule
from defects_in_welds.training.run_training import train

STEPS = 9  # three epochs of three steps
EPOCHS_AND_STEPS = ["train.max_epochs=3", "trainer.limit_train_batches=3", "trainer.log_every_n_steps=1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="record nothing")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        server = Server(Path(folder))
        os.environ |= {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        outbox.PAUSE_S = 0.0  # the trainings are short
        params = load_params([*OVERRIDES, *EPOCHS_AND_STEPS])
        simulate_dataset(params.simulate, DATA)
        prepare_dataset(params, DATA, PREPARED)
        try:
            trials = [trial(server, rng) for _ in range(arguments.trainings)]
        finally:
            server.kill()
        os.chdir(Path(__file__).parent)
    losses = [row for row in trials if row["lost"]]
    interruptions = sum(row["interruptions"] for row in trials)
    result = {"trainings": len(trials), "steps of each": STEPS, "interruptions": interruptions, "losses": losses}
    if arguments.dry:
        print(json.dumps(result, indent=1))
    else:
        record("reliability_server", result)
    sys.exit(1 if losses else 0)


class Server:
    """An MLflow server that keeps its records when it is killed."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen | None = None
        store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/kept"]
        self.command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *store]

    def start(self) -> None:
        with Path("server.log").open("w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        while True:
            assert self.process.poll() is None, Path("server.log").read_text()
            try:
                if requests.get(f"{self.uri}/health", timeout=5).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def trial(server: Server, rng: random.Random) -> dict:
    """Train while the server is killed and started in turn, at some steps."""
    if server.process is None:
        server.start()
    at_steps = sorted(rng.sample(range(STEPS), rng.randint(1, 3)))
    with patch.object(DetectionModule, "on_train_batch_start", interfering(server, at_steps)):
        train_with()
    is_away = server.process is None
    if is_away:
        server.start()
        train_with("train.resume=true")
    run_id = json.loads((MODEL / "run.json").read_text())["run_id"]
    client = MlflowClient(server.uri)
    steps = [row.step for row in client.get_metric_history(run_id, "train/loss")]
    files = [file.path for file in client.list_artifacts(run_id)]
    lost: list[object] = sorted(set(range(STEPS)) - set(steps))
    if client.get_run(run_id).info.status != "FINISHED":
        lost.append("the end of the run")
    if "best.ckpt" not in files:
        lost.append("the checkpoint")
    if any(Path("unsent").glob("*")):
        lost.append("something that still waits")
    row = {"killed or started before steps": at_steps, "interruptions": -(-len(at_steps) // 2), "lost": lost}
    print({**row, "away at the end": is_away}, flush=True)
    return row


def interfering(server: Server, at_steps: list[int]) -> Callable[..., None]:
    start = DetectionModule.on_train_batch_start

    def on_train_batch_start(module: DetectionModule, batch: object, batch_idx: int) -> None:
        if module.global_step in at_steps:
            server.start() if server.process is None else server.kill()
        start(module, batch, batch_idx)

    return on_train_batch_start


def train_with(*overrides: str) -> None:
    train(load_params([*OVERRIDES, *EPOCHS_AND_STEPS, *overrides]), PREPARED, MODEL, TRAINING)


if __name__ == "__main__":
    main()

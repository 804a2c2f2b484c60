"""No key in the repository or its history, and none in what the commands write or say."""

import importlib
import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from defects_in_welds import cli
from defects_in_welds.data.annotation import Split
from defects_in_welds.evaluation.report.report_page import write_report
from defects_in_welds.evaluation.run_evaluation import evaluate
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.model.checkpoint import save_checkpoint
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.model.weights import load_start_weights
from defects_in_welds.params import ParamsError, load_params
from defects_in_welds.training import mlflow_store
from defects_in_welds.training.environment import environment
from defects_in_welds.training.run_training import _fingerprint, _run_record
from defects_in_welds.training.tracking import tracked_run

REPOSITORY = Path(__file__).resolve().parents[2]

SECRETS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|\bYC[A-Z][\w-]{22,}"  # Yandex Object Storage, which .dvc/config names
    r"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"
    r"|\bgh[pousr]_\w{36}|\bglpat-[\w-]{20}|\bxox[abpr]-[\w-]{10}|\bhf_[A-Za-z]{30}"
    r"|\b\w+(?:\+\w+)?://[^\s/:@\"'{}<>]+:[^\s@/\"'{}<>]+@"
    r"|(?:secret_access_key|aws_session_token|MLFLOW_TRACKING_PASSWORD)[\"']?\s*[=:]\s*[\"']?[\w/+]{8,}",
    re.IGNORECASE,
)
# What the tests and the documentation hold on purpose. All are made up; a new one needs a line here.
MADE_UP = re.compile(
    r"user:(?:secret|a#s)|u:p@"  # passwords in URLs that must not be shown
    r"|AKIAUNKNOWNUNKNOWN42"  # a key that the test's S3 server does not know
    r"|AKIAIOSFODNN7EXAMPLE"  # that of AWS's own manual
)
LARGEST_HISTORY = 50_000_000  # bytes: more would take longer than a test may


def secrets_in(text):
    found = (match.group() for match in SECRETS.finditer(text))
    return sorted({one for one in found if not MADE_UP.search(one)})


@pytest.fixture(scope="module")
def git():
    """Run git in the repository."""

    def run(*arguments):
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    if not (REPOSITORY / ".git").exists():
        pytest.skip("no .git here: an unpacked archive has no history to look through")
    return run


def test_no_tracked_file_holds_a_secret(git):
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
    found = {}
    for name in filter(None, names):
        path = REPOSITORY / name
        if path.is_file() and (here := secrets_in(path.read_text(encoding="utf-8", errors="replace"))):
            found[name] = here
    assert found == {}


def test_no_secret_was_ever_committed(git):
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        pytest.skip("a shallow clone does not have the history")
    history = git("log", "-p", "--all", "--no-color", "--no-ext-diff", "--no-textconv", "--unified=0")
    if len(history) > LARGEST_HISTORY:
        pytest.skip("the history has outgrown this test: look through it with a tool of its own")
    assert len(history) > 0
    assert secrets_in(history.decode(errors="replace")) == []


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "QWERTYUIOPASDFGH",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "postgresql+psycopg2://ann:" + "hunter2@host/db",
        "secret_access_key = " + "wJalrXUtnFEMIK7MDENG",
        "YCA" + "JEabcdefghijklmnopqrstuv",
        "ghp_" + "a" * 36,
    ],
)
def test_the_scan_finds_what_it_looks_for(secret):
    assert secrets_in(f"before {secret} after") != []


def test_configuration_for_the_store_has_no_keys():
    text = (REPOSITORY / ".dvc" / "config").read_text(encoding="utf-8")
    assert not re.search(r"access_key|secret|password|token|profile", text)


# --- Canaries: what is handed to the commands, and must not come out ----------------------------------------------

CANARY = "kanarienvogel"
CLOSED = "127.0.0.1:9"
WEIGHTS = f"http://{CLOSED}/detector.pth?token={CANARY}"
SERVER = f"http://user:{CANARY}@{CLOSED}"


@pytest.fixture
def secretive(project, monkeypatch):
    """A project, in the environment of somebody who has keys for everything."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    monkeypatch.setenv("TORCH_HOME", str(project / "torch"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    return project


def assert_unseen(folder, *spoken):
    """Look through every file, its name included, as bytes: databases and checkpoints too."""
    names = [path for path in folder.rglob("*") if path.is_file()]
    seen = [str(path) for path in names if CANARY in str(path) or CANARY.encode() in path.read_bytes()]
    assert seen == []
    assert CANARY not in "".join(spoken)
    return names


def run_main(monkeypatch, *arguments):
    """Run a command as from a terminal, and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["defects_in_welds", *arguments])
    try:
        cli.main()
    except SystemExit as leaving:
        return leaving.code
    return 0


def test_doctor_tells_no_secret(secretive, monkeypatch, capfd, caplog):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    remote = f"[core]\nremote = s\n['remote \"s\"']\nurl = s3://user:{CANARY}@films\nendpointurl = {SERVER}\n"
    config = secretive / ".dvc" / "config"
    config.write_text(f"{remote}access_key_id = {CANARY}\nsecret_access_key = {CANARY}\n")
    assert run_main(monkeypatch, "doctor", f"model.weights='{WEIGHTS}'", f"train.tracking_uri={SERVER}") == 1
    spoken = capfd.readouterr()
    assert "cannot be reached" in spoken.out
    config.unlink()  # where the user has put them
    assert_unseen(secretive, *spoken, caplog.text)


def test_prepare_writes_no_secret(secretive, monkeypatch, capfd, caplog):
    for index in range(6):
        for folder in ("images", "labels"):
            (secretive / "data" / folder).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 255, (64, 64), dtype=np.uint8)
        cv2.imwrite(str(secretive / f"data/images/{index}.png"), pixels)
        (secretive / f"data/labels/{index}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    overrides = [
        "prepare.img_size=64",
        "prepare.overlap_px=8",
        "prepare.val_share=0.2",
        "prepare.test_share=0.2",
        "evaluate.seed=1",
    ]
    assert run_main(monkeypatch, "prepare", f"model.weights='{WEIGHTS}'", *overrides) == 0
    written = assert_unseen(secretive, *capfd.readouterr(), caplog.text)
    assert secretive / "artifacts/prepared/manifest.json" in written


def test_a_download_that_fails_quotes_no_token(secretive, capfd, caplog):
    model = replace(load_params().model, weights=WEIGHTS)
    with pytest.raises(ParamsError, match="cannot be fetched") as error:
        load_start_weights(torch.nn.Linear(1, 1), model)
    assert_unseen(secretive, str(error.value), *capfd.readouterr(), caplog.text)


@pytest.mark.parametrize("end", ["", "/", "/path/"])
def test_a_server_that_is_away_is_named_without_its_password(secretive, monkeypatch, capfd, caplog, end):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{SERVER}{end}")
    monkeypatch.setattr(mlflow_store, "LOCAL_STORE", f"sqlite:///{secretive}/mlflow.db")
    with tracked_run(load_params(), "") as tracker:
        tracker.log_metrics({"loss": 1.0})
    assert f"MLflow at http://{CLOSED}" in caplog.text
    assert secretive / "mlflow.db" in assert_unseen(secretive, *capfd.readouterr(), caplog.text)


def test_records_that_wait_for_a_server_hold_no_secret(secretive, capfd, caplog):
    started = {"run_id": "0" * 32, "experiment_id": "0", "tracking_uri": f"http://{CLOSED}"}
    with tracked_run(load_params(), "", started, secretive / "unsent") as tracker:
        tracker.log_metrics({"loss": 1.0})
    written = assert_unseen(secretive, *capfd.readouterr(), caplog.text)
    assert secretive / "unsent" / tracker.run_id / "00000000/record.json" in written


def test_the_records_of_a_training_hold_no_secret(secretive, monkeypatch, capfd, caplog):
    """All that a training writes but the weights: MLflow's database, run.json, the state to resume, the checkpoint."""
    monkeypatch.syspath_prepend(REPOSITORY / "tests/evaluation")
    store = importlib.import_module("known_project").write_store(secretive / "prepared", ("a.png", Split.TRAIN, []))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{secretive}/mlflow.db")
    params = load_params([f"model.weights='{WEIGHTS}'", f"train.tracking_uri={SERVER}"])
    with tracked_run(params, "0" * 64) as tracker:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
        record = _run_record(params, store.manifest, tracker, best_map=None, epochs=1, ran_on=environment())
        started = _fingerprint(params, store.manifest)
        (secretive / "run.json").write_text(json.dumps([record, started]))
        spec = InputSpec(64, 0.5, 0.2)
        save_checkpoint(secretive / "best.ckpt", torch.nn.Linear(1, 1), params.model, ("crack",), spec, {})
        tracker.log_file(secretive / "best.ckpt")
    written = assert_unseen(secretive, *capfd.readouterr(), caplog.text)
    assert {"mlflow.db", "best.ckpt", "run.json"} <= {path.name for path in written}
    assert b"detector.pth" in (secretive / "mlflow.db").read_bytes()


def test_evaluation_and_report_hold_no_secret(secretive, monkeypatch, capfd, caplog):
    monkeypatch.syspath_prepend(REPOSITORY / "tests/evaluation")
    known = importlib.import_module("known_project")
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: known.Oracle())
    folders = [secretive / name for name in ("prepared", "model", "evaluation", "report")]
    known.Project(*folders).prepare(
        ("train/a.png", Split.TRAIN, known.FLAWS),
        ("val/b.png", Split.VAL, known.FLAWS),
        ("test/c.png", Split.TEST, known.FLAWS),
    )
    params = load_params([f"model.weights='{WEIGHTS}'", "evaluate.bootstrap_samples=20", "report.gallery_items=2"])
    with caplog.at_level(logging.DEBUG, "defects_in_welds"):
        evaluate(params, *folders[:3])
        write_report(params, *folders)
    assert "is written but not in MLflow's run" in caplog.text
    written = assert_unseen(secretive, *capfd.readouterr(), caplog.text)
    assert folders[3] / "index.html" in written

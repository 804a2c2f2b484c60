"""The command tree as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from defects_in_welds import cli
from defects_in_welds.cli import COMMANDS
from defects_in_welds.command_line import run_command

TINY = ("simulate.height_px=128", "simulate.width_px=128")


def test_help_is_quick_because_it_imports_no_framework(project):
    script = (
        "import sys, contextlib\n"
        "from defects_in_welds.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "print(sorted({'torch', 'mlflow', 'albumentations', 'matplotlib'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
    assert all(command in run.stderr for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command, project, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(COMMANDS, [command, "--help"])
    assert ended.value.code == 0
    assert "OVERRIDES" in capsys.readouterr().err


def test_who_asks_for_help_beside_other_arguments_gets_help_alone(project, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(COMMANDS, ["simulate", "preview", *TINY, "--help"])
    assert ended.value.code == 0
    assert "OVERRIDES" in capsys.readouterr().err
    assert not Path("artifacts").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predikt"], "no command 'predikt'; there are: simulate, implant, prepare, train"),
        (["simulate", "--film", "3"], "simulate has no flag --film; it has --films"),
        (["simulate", "--film=3"], "simulate has no flag --film;"),
        (["simulate", "-film", "3"], "simulate has no flag --film;"),
        (["prepare", "--img-sise", "640"], "prepare has no flag --img-sise"),
        (["train", "--epochs", "3"], "train has no flag --epochs; it has --help, and overrides as section.key=value"),
        (["simulate", "simulate.films=0"], "simulate.films is 0; allowed: a number above 0"),
        (["simulate", "--films", "0"], "simulate.films is 0; allowed: a number above 0"),
        (["simulate", "simulate.sheets=3"], "unknown key simulate.sheets"),
        (["simulate", "--workers", "0"], "--workers is 0; allowed: a whole number above 0"),
        (["simulate", "preview", "--out", "7"], "--out is 7; allowed: a path that is no plain number, such as ./2024"),
        (["evaluate", "compare", "1", "2"], "1: neither a folder that `python -m defects_in_welds evaluate` wrote nor"),
        (["evaluate", "5"], "params: "),
        (["predict", "a", "--pictures", "b.png"], "--pictures is 'b.png'; allowed: True or False"),
        (["predict", "a", "--min_score", "2"], "--min_score is 2; allowed: a number from 0 to 1"),
        (["predict", "a", "--min_score", "high"], "--min_score is 'high'; allowed: a number from 0 to 1"),
        (["predict", "a", "--model", "7"], "--model is 7; allowed: a path that is no plain number"),
        (["predict", "a", "--films", "b"], "predict has no flag --films; it has --help, --min_score, --model, --out"),
        (["predict", "a", "prepare.bits=12"], "unknown key prepare.bits"),
        (["predict", "prepare.bit_depth=12"], "predict needs films"),
        (["export_model", "--runtime", "tensorrt"], "--runtime is 'tensorrt'; allowed: onnx, openvino"),
        (
            ["export_model", "--runtime=onnx", "--precision=16"],
            "--precision is 16; allowed with --runtime onnx:",
        ),
        (["export_model", "--out", "7"], "--out is 7; allowed: a path that is no plain number"),
        (["export_model"], "artifacts/model/best.ckpt: there is no checkpoint; give a best.ckpt"),
        (["implant", "--copies", "none"], "--copies is 'none'; allowed: a whole number above 0"),
    ],
)
def test_what_the_user_can_put_right_is_one_line_and_exit_code_1(arguments, message, project, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(COMMANDS, arguments)
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (project / "data").exists()


def test_simulate_takes_flags_and_overrides(project):
    run_command(COMMANDS, ["simulate", "--out", "sample", "--films", "3", "--seed", "1", *TINY])
    truth = json.loads((project / "sample" / "annotations.json").read_text())
    assert [image["width"] for image in truth["images"]] == [128, 128, 128]
    assert truth["info"]["seed"] == 1


def test_simulate_writes_into_data_unless_told_otherwise(project):
    run_command(COMMANDS, ["simulate", "--films=1", *TINY])
    assert (project / "data" / "annotations.json").is_file()


def test_simulate_preview_draws_one_flaw_of_each_class(project, capsys):
    run_command(COMMANDS, ["simulate", "preview", "--out", "sheet.png"])
    assert capsys.readouterr().out.strip() == "sheet.png"
    height, width = cv2.imread("sheet.png").shape[:2]
    assert height > 1000
    assert width > 1000
    assert not (project / "data").exists()


def test_simulate_leaves_foreign_data_alone(project, capsys):
    (project / "data").mkdir()
    (project / "data" / "mine.png").write_bytes(b"precious")
    with pytest.raises(SystemExit) as ended:
        run_command(COMMANDS, ["simulate", "--films=1", *TINY])
    assert ended.value.code == 1
    assert (project / "data" / "mine.png").read_bytes() == b"precious"
    assert "move it away or name another folder" in capsys.readouterr().err


def test_predict_takes_films_and_overrides_in_any_order(project, monkeypatch):
    given = []
    monkeypatch.setattr(
        "defects_in_welds.inference.run_prediction.predict_films",
        lambda params, films, *folders, **options: given.append((params.prepare.bit_depth, films, folders, options)),
    )
    (project / "weld=1").mkdir()
    films = ["weld=1", "prepare.bit_depth=12", "2024"]
    run_command(COMMANDS, ["predict", "--model", "keep.ckpt", *films, "--min_score=0.3", "--pictures", "False"])
    folders = Path("keep.ckpt"), Path("artifacts/evaluation"), Path("artifacts/predictions")
    options = {"min_score": 0.3, "with_pictures": False}
    assert given == [(12, [Path("weld=1"), Path("2024")], folders, options)]


def test_python_m_runs_the_same_commands(project):
    run = subprocess.run([sys.executable, "-m", cli.__package__, "predikt"], capture_output=True, text=True)
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)

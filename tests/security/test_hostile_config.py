"""Parameters, overrides and YAML files that try to run something or to read the environment: one line, nothing done."""

import sys

import pytest
import yaml

from defects_in_welds.data.annotation import DataError
from defects_in_welds.data.annotation_formats import yolo
from defects_in_welds.data.annotation_formats.folders import read_plain_yaml
from defects_in_welds.evaluation.report.acceptance import read_limits
from defects_in_welds.params import ParamsError, load_params
from defects_in_welds.params.composition import require_no_code
from defects_in_welds.training import run_training

CANARY = "kanarienvogel"
DIGITS = "9" * 5000  # more than Python turns into a number
DEEP = 3000


@pytest.fixture(autouse=True)
def key_in_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)


def call(folder):
    """What Hydra would call, were it asked to: it makes a folder."""
    return {"_target_": "pathlib.Path.mkdir", "self": {"_target_": "pathlib.Path", "_args_": [str(folder / "called")]}}


def refuse(*overrides):
    with pytest.raises(ParamsError, match=r"^params: ") as error:
        load_params(overrides)
    assert "\n" not in str(error.value)
    assert CANARY not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "+train._target_=os.system",
        "++train._target_=os.system",
        "train._target_=os.system",
        "+simulate.beam._target_=os.system",
        "+_target_=os.system",
        "+prepare={_target_:os.system,_args_:[false]}",
        "trainer.devices={_target_:os.system,_args_:[false]}",
        "prepare.classes=[{_target_:os.system}]",
        "+train.learning_rat=1",
    ],
)
def test_nothing_outside_the_schema_gets_in(override):
    assert any(text in refuse(override) for text in ("unknown key", "allowed", "not in", "could not", "Could not"))


@pytest.mark.parametrize(
    "override",
    [
        "train.experiment_name=${oc.env:AWS_SECRET_ACCESS_KEY}",
        "report.title='${oc.env:AWS_SECRET_ACCESS_KEY}'",
        "train.batch_size=${oc.env:AWS_SECRET_ACCESS_KEY}",
        "prepare.classes=['${oc.env:AWS_SECRET_ACCESS_KEY}']",
        "experiment=${oc.env:AWS_SECRET_ACCESS_KEY}",
        "train.experiment_name=${train.tracking_uri}",
        "hydra.run.dir=${oc.env:AWS_SECRET_ACCESS_KEY}",
    ],
)
def test_no_reference_is_followed_from_an_override(override):
    assert "no ${...}" in refuse(override)


@pytest.mark.parametrize("file", ["params.yaml", "experiment/smoke.yaml"])
def test_no_reference_is_followed_from_a_file(project, file):
    path = project / "configs" / file
    content = yaml.safe_load(path.read_text())
    content.setdefault("train", {})["experiment_name"] = "${oc.env:AWS_SECRET_ACCESS_KEY}"
    head = "# @package _global_\n"
    path.write_text(head + yaml.safe_dump(content, sort_keys=False))
    assert "train.experiment_name is '${oc.env:" in refuse("experiment=smoke")


@pytest.mark.parametrize(
    "override",
    [
        f"train.batch_size={DIGITS}",
        f"train.learning_rate={DIGITS}",
        f"train.learning_rate={'9' * 400}",
        f"prepare.classes={'[' * DEEP}{']' * DEEP}",
        f"trainer.devices={'{a:' * 500}1{'}' * 500}",
        "train.batch_size=\x1b[31mred",
        "experiment=../../../etc/passwd",
        "experiment=/etc/passwd",
    ],
)
def test_what_is_too_large_too_deep_or_elsewhere_is_one_line(override):
    refuse(override)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [called]", "!!python/name:os.system", "!!binary x"])
def test_tags_in_params_yaml_build_nothing(project, tag):
    path = project / "configs/params.yaml"
    path.write_text(path.read_text().replace("title: Defects in welds", f"title: {tag}"))
    refuse()
    assert not (project / "called").exists()


def test_what_steers_a_terminal_is_shown_and_not_sent(project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run_training", "train.validate_on='\x1b[2Jcleared'"])
    with pytest.raises(SystemExit):
        run_training.main()
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "cleared" in said


# --- What Hydra itself would call ---------------------------------------------------------------------------------

LOG_HANDLER = "{version:1,handlers:{x:{class:pathlib.Path.mkdir,self:x}},root:{handlers:[x]}}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["+hydra.callbacks.x._target_=os.system"],
        ["++hydra.callbacks.x={_target_:os.system}"],
        ["hydra.launcher._target_=os.system"],
        ["+hydra.job.env_set.LD_PRELOAD=elsewhere"],
        ["hydra.sweeper._target_=os.system", "--multirun"],
        [f"+hydra.job_logging={LOG_HANDLER}"],
        [f"+hydra.hydra_logging={LOG_HANDLER}"],
        ["+hydra.job_logging.formatters.x.class=os.system"],
        ["experiment=smoke,cpu", "--multirun", "+hydra.callbacks.x._target_=os.system"],
        ["--multirun", "train.seed=1,2", "+hydra.callbacks.x._target_=os.system"],
    ],
)
def test_hydra_gets_no_code_from_the_command_line(overrides):
    with pytest.raises(ParamsError, match=r"hydra\.callbacks, .* name code to run"):
        require_no_code(overrides)
    if not any(text.startswith("--") for text in overrides):
        refuse(*overrides)


@pytest.mark.parametrize("overrides", [[], ["--multirun", "train.seed=1,2"], ["experiment=smoke"], ["--help"]])
def test_usual_command_lines_pass(overrides):
    require_no_code(overrides)
    require_no_code([*overrides, "hydra.sweep.dir=outputs"])


@pytest.mark.parametrize("arguments", [[], ["--multirun", "train.seed=1,2"]])
@pytest.mark.parametrize("file", ["params.yaml", "experiment/smoke.yaml"])
def test_training_calls_nothing_that_a_file_names(project, monkeypatch, capsys, file, arguments):
    path = project / "configs" / file
    content = yaml.safe_load(path.read_text())
    content.setdefault("hydra", {})["callbacks"] = {"x": call(project)}
    path.write_text("# @package _global_\n" + yaml.safe_dump(content, sort_keys=False))
    monkeypatch.setattr(sys, "argv", ["run_training", "experiment=smoke", *arguments])
    with pytest.raises(SystemExit) as leaving:
        run_training.main()
    assert leaving.value.code == 1
    assert not (project / "called").exists()
    assert "name code to run" in capsys.readouterr().err


# --- YAML that others write ---------------------------------------------------------------------------------------


def bomb(levels=12):
    """Nine aliases of nine aliases of nine ...: a few hundred bytes that would write out as 9**levels."""
    return "[&a0 [x], " + ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)) + "]"


HOSTILE_YAML = {
    "a call": "!!python/object/apply:os.mkdir [called]",
    "a call with keywords": "!!python/object/new:os.mkdir {args: [called]}",
    "a name": "!!python/name:os.system",
    "a tag of its own": "!secret x",
    "aliases": bomb(),
    "an alias of itself": "&a [*a]",
    "deep": "[" * DEEP + "]" * DEEP,
    "a giant number": DIGITS,
    "a date that is none": "2024-99-99",
    "a control character": "'\x1b[2J'",
    "two documents": "1\n---\n2",
}


@pytest.mark.parametrize("value", HOSTILE_YAML.values(), ids=HOSTILE_YAML)
def test_hostile_yaml_is_one_error(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(yaml.YAMLError):
        read_plain_yaml(f"names: {value}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/data.yaml").write_text(f"names: {value}")
    with pytest.raises(DataError, match=r"data\.yaml.*no valid YAML.*; correct it$"):
        yolo.read(tmp_path / "data")
    (tmp_path / "limits.yaml").write_text(f"levels: {value}")
    with pytest.raises(DataError, match=r"limits\.yaml: no YAML \(") as error:
        read_limits(tmp_path / "limits.yaml", ("crack",))
    assert len(str(error.value)) < 1000
    assert not (tmp_path / "called").exists()


def test_a_limit_beyond_any_float_is_refused(tmp_path):
    (tmp_path / "limits.yaml").write_text(f"levels: {{B: {{crack: {'9' * 400}}}}}")
    with pytest.raises(DataError, match=r"levels\.B\.crack is 9+; allowed: a length"):
        read_limits(tmp_path / "limits.yaml", ("crack",))

"""``dvc.yaml`` says the whole truth about what each stage reads, and nothing more."""

import ast
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grimp
import pytest
import yaml

from defects_in_welds import cli
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.evaluation.report.report_page import write_report
from defects_in_welds.evaluation.run_evaluation import evaluate
from defects_in_welds.params import (
    DATA_DIR,
    EVALUATION_DIR,
    MODEL_DIR,
    PREPARED_DIR,
    REPORT_DIR,
    TRAINING_DIR,
    Params,
    load_params,
)
from defects_in_welds.training.run_training import train

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "defects_in_welds"
STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
RUN_STAGE: dict[str, Callable[[Params], object]] = {
    "prepare": lambda params: prepare_dataset(params, DATA_DIR, PREPARED_DIR),
    "train": lambda params: train(params, PREPARED_DIR, MODEL_DIR, TRAINING_DIR),
    "evaluate": lambda params: evaluate(params, PREPARED_DIR, MODEL_DIR, EVALUATION_DIR),
    "report": lambda params: write_report(params, PREPARED_DIR, MODEL_DIR, EVALUATION_DIR, REPORT_DIR),
}


class RecordingParams(Params):
    """Parameters that note which of their sections are read."""

    @contextmanager
    def recording(self) -> Iterator[set[str]]:
        self._sections_read: set[str] = set()
        yield self._sections_read
        del self._sections_read

    def __getattribute__(self, name: str) -> object:
        state = super().__getattribute__("__dict__")
        if name in Params.__dataclass_fields__ and "_sections_read" in state:
            state["_sections_read"].add(name)
        return super().__getattribute__(name)


@pytest.fixture(scope="module")
def sections_read(tiny_project) -> dict[str, set[str]]:
    """Run all stages in turn and note what each reads."""
    params = RecordingParams(**vars(load_params()))
    sections = {}
    for name, run in RUN_STAGE.items():
        with params.recording() as sections[name]:
            run(params)
    return sections


def test_the_recorder_sees_what_is_read(project):
    params = RecordingParams(**vars(load_params()))
    with params.recording() as read:
        assert params.report.worst_films >= 0
    assert read == {"report"}


def test_every_stage_is_checked():
    assert list(STAGES) == list(RUN_STAGE)


@pytest.mark.slow
@pytest.mark.parametrize("stage", RUN_STAGE)
def test_stage_declares_the_sections_that_it_reads(stage, sections_read):
    (by_file,) = STAGES[stage]["params"]
    assert list(by_file) == ["configs/params.yaml"]
    assert sections_read[stage] == set(by_file["configs/params.yaml"])


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_code_that_it_imports(stage):
    declared = [REPOSITORY / path for path in STAGES[stage]["deps"] if path.startswith(PACKAGE)]
    imported = imported_files(STAGES[stage]["cmd"])
    undeclared = [file for file in imported if not any(file.is_relative_to(path) for path in declared)]
    needless = [path for path in declared if not any(file.is_relative_to(path) for file in imported)]
    assert (undeclared, needless) == ([], [])


def imported_files(command: str) -> list[Path]:
    """List the files of our modules that hold code and that a stage's command imports, sooner or later."""
    graph = grimp.build_graph(PACKAGE)
    python, dash_m, module, *arguments = command.split()
    assert (python, dash_m) == ("python", "-m")
    if module == PACKAGE:
        # Of the commands in cli.py, only the one that runs imports what it needs.
        start = imported_names(graph, ast.parse(inspect.getsource(cli)).body)
        start |= imported_names(graph, ast.parse(inspect.getsource(cli.COMMANDS[arguments[0]])).body[0].body)
        modules = start | {f"{PACKAGE}.__main__", cli.__name__}
    else:
        modules = start = {module}
    modules = modules.union(*(graph.find_upstream_modules(each) for each in start))
    files = [file_of(each) for each in modules]
    return sorted(file for file in files if file.read_text(encoding="utf-8").strip())


def imported_names(graph: grimp.ImportGraph, statements: list[ast.stmt]) -> set[str]:
    """Name the modules of ours that these statements import themselves."""
    imports = [each for each in statements if isinstance(each, ast.ImportFrom) and each.module.startswith(PACKAGE)]
    names = {(each.module, f"{each.module}.{alias.name}") for each in imports for alias in each.names}
    return {name if name in graph.modules else module for module, name in names}


def file_of(module: str) -> Path:
    path = REPOSITORY.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

"""The notebook runs from its first cell to its last, from the clone on."""

import html
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "colab.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.slow
def test_notebook_goes_from_clone_to_report(notebook, tiny_project, run_command, tmp_path, monkeypatch):
    for command in (
        "git init -q",
        "git config user.email somebody@example.org",
        "git config user.name Somebody",
        "git add .",
        "git commit -qm Project",
    ):
        run_command(command).check_returncode()
    monkeypatch.setenv("REPOSITORY", f"file://{tiny_project}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()

    clone = tmp_path / "project"
    assert (clone / "data" / "annotations.json").is_file()
    page = (clone / "artifacts" / "report" / "index.html").read_text(encoding="utf-8")
    (shown,) = notebook.cells[-1].outputs
    assert html.escape(page) in shown["data"]["text/html"]


def test_notebook_is_kept_without_results(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count] == []

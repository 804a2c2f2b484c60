"""The two requirements files are the lock file in pip's words, and the lock file keeps to pyproject.toml."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
FILES_BY_GROUPS = {"requirements.txt": {"main"}, "tests/requirements.txt": {"main", "dev"}}


def load_toml(name: str) -> dict:
    return tomllib.loads((REPOSITORY / name).read_text(encoding="utf-8"))


def locked_packages(groups: set[str]) -> dict[tuple[str, str], set[str]]:
    """Map (name, version) to the hashes of the package's files; without what only extras of the main group ask for."""
    return {
        (package["name"], package["version"]): {file["hash"] for file in package["files"]}
        for package in load_toml("poetry.lock")["package"]
        if any(group in groups and not is_optional(package, group) for group in package["groups"])
    }


def is_optional(package: dict, group: str) -> bool:
    markers = package.get("markers", "")
    return "extra ==" in (markers if isinstance(markers, str) else markers.get(group, ""))


def required_packages(name: str) -> dict[tuple[str, str], set[str]]:
    text = (REPOSITORY / name).read_text(encoding="utf-8").replace("\\\n", " ")
    packages = {}
    for line in filter(None, text.splitlines()):
        specification, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(specification)
        (version,) = requirement.specifier
        packages[canonicalize_name(requirement.name), version.version] = set(hashes)
    return packages


@pytest.mark.parametrize(("name", "groups"), FILES_BY_GROUPS.items())
def test_requirements_file_agrees_with_the_lock(name, groups):
    assert required_packages(name) == locked_packages(groups)


@pytest.mark.parametrize("name", FILES_BY_GROUPS)
def test_requirements_file_holds_pins_with_hashes_alone(name):
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    assert {line.split("=")[0] for line in lines if line.startswith("-")} == set(), "an option, such as an index"
    assert all(required_packages(name).values())


def test_lock_keeps_to_the_ranges_of_pyproject():
    pyproject = load_toml("pyproject.toml")
    locked = locked_packages({"main", "dev"})
    extras = pyproject["project"]["optional-dependencies"].values()
    for line in chain(pyproject["project"]["dependencies"], pyproject["dependency-groups"]["dev"], *extras):
        requirement = Requirement(line)
        versions = [version for name, version in locked if name == canonicalize_name(requirement.name)]
        assert len(versions) == 1, f"{line}: locked as {versions}"
        assert requirement.specifier.contains(versions[0]), f"{line}: locked as {versions[0]}"


def test_the_tests_have_what_extras_ask_for():
    pyproject = load_toml("pyproject.toml")
    extras = set(chain(*pyproject["project"]["optional-dependencies"].values()))
    assert extras <= set(pyproject["dependency-groups"]["dev"])


def test_every_dependency_says_why_it_is_there():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    tables = [
        re.search(pattern, text, re.DOTALL | re.MULTILINE)
        for pattern in (r"^dependencies = \[(.*?)^\]", r"^runtimes = \[(.*?)^\]", r"^dev = \[(.*?)^\]")
    ]
    lines = [line for table in tables for line in table.group(1).strip().splitlines()]
    assert [line for line in lines if not re.search(r'",\s+# \S', line)] == []


def test_hooks_run_the_locked_ruff():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    pins = {pin for repo in hooks for hook in repo["hooks"] for pin in hook.get("additional_dependencies", [])}
    locked = dict(locked_packages({"dev"}))
    assert f"ruff=={next(version for name, version in locked if name == 'ruff')}" in pins
    assert all("==" in pin for pin in pins)

"""What comes with the program may be used by anybody: permissive licences, pinned by hash."""

import importlib.metadata
import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]

PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla Public|HPND|Unlicense|Zlib|CC0|Zope|ZPL",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"GPL|GNU|Affero|SSPL|Business Source|Commons Clause", re.IGNORECASE)

# Each was looked up by hand, for its metadata name none.
WITHOUT_METADATA = {
    "faster-coco-eval": "Apache-2.0, by the LICENSE file of its repository",
    "huey": "MIT, by the LICENSE file of its repository; MLflow's server runs jobs with it",
    "skops": "MIT, by the LICENSE file of its repository; MLflow asks for it",
}
# None of these is linked into or copied into our package. A new name here needs a reason.
ACCEPTED = {
    "asyncssh": "EPL-2.0 or GPL-2.0-or-later, at choice: EPL; DVC reaches git servers over SSH with it",
    "grandalf": "GPLv2 or EPLv1, at choice: EPL; DVC draws `dvc dag` with it",
    "pygit2": "GPLv2 with a linking exception for any program; DVC reads git with it",
}
# CUDA's run-time libraries, which torch loads on a Linux with an NVIDIA GPU: redistributable, but not open.
NVIDIA = re.compile(r"nvidia-[a-z-]+-cu\d+")


def requirement_lines():
    text = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def locked():
    return {
        canonicalize_name(requirement.name): requirement
        for line in requirement_lines()
        for requirement in [Requirement(line.split("--hash=")[0].strip())]
    }


def optional():
    """Name what our extras ask for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line).name for lines in project["optional-dependencies"].values() for line in lines]


def installed(*more):
    """Walk from our own package, and more, over what each asks for, here and without extras."""
    seen, open_names = set(), ["defects-in-welds", *more, *locked()]
    while open_names:
        name = canonicalize_name(open_names.pop())
        if name in seen:
            continue
        try:
            asked = importlib.metadata.requires(name) or []
        except PackageNotFoundError:  # for another system
            continue
        seen.add(name)
        requirements = map(Requirement, asked)
        open_names += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return sorted(seen - {"defects-in-welds"})


def licence_of(name):
    """Find what the metadata say: the SPDX expression, else the classifiers, else the first line of free text."""
    metadata = importlib.metadata.metadata(name)
    if metadata.get("License-Expression"):
        return metadata["License-Expression"]
    classifiers = [line.split("::")[-1].strip() for line in metadata.get_all("Classifier", []) if line[:7] == "License"]
    text = [line.strip() for line in (metadata.get("License") or "").splitlines()[:1]]
    return "; ".join(one for one in classifiers + text if one != "OSI Approved")


def problem_with(licence):
    """Say why a licence is not accepted; None where it is. Of alternatives (OR) one is enough."""
    if not licence:
        return "no licence in its metadata"
    alternatives = licence.strip("()").split(" OR ")
    if any(PERMISSIVE.search(one) and not COPYLEFT.search(one) for one in alternatives):
        return None
    return f"licence {licence!r}"


def test_every_dependency_may_be_used_by_anybody():
    listed = WITHOUT_METADATA | ACCEPTED
    problems = {
        name: problem
        for name in installed(*optional())
        for problem in [problem_with(licence_of(name))]
        if problem and name not in listed and not NVIDIA.fullmatch(name)
    }
    assert problems == {}


def test_what_is_accepted_by_hand_is_still_there_and_still_needs_it():
    here = set(installed())
    for name in WITHOUT_METADATA | ACCEPTED:
        assert name in locked(), f"{name} is gone: take it off the list"
        if name in here:
            assert problem_with(licence_of(name)), f"{name} says its licence now: take it off the list"


@pytest.mark.parametrize(
    ("licence", "is_accepted"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("AGPL-3.0-only", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("MIT AND GPL-3.0", False),
        ("Other/Proprietary License", False),
        ("", False),
    ],
)
def test_licences_are_told_apart(licence, is_accepted):
    assert (problem_with(licence) is None) is is_accepted


def test_the_walk_ends_in_the_lock():
    """What is installed at run time is what was pinned: a dependency that is not locked would come without a hash."""
    assert set(installed()) - set(locked()) <= {"pip", "setuptools", "wheel"}


def test_every_requirement_has_one_version_and_hashes():
    lines = requirement_lines()
    assert len(lines) > 100
    for line in lines:
        assert re.match(r"[\w.\[\],-]+==[^\s;]+ ", line), line[:80]
        hashes = re.findall(r"--hash=(\S+)", line)
        assert hashes, line[:80]
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), line[:80]
        assert "://" not in line.split("--hash=")[0], line[:80]


def test_a_package_that_is_missing_is_for_another_system():
    here = set(installed())
    for name, requirement in locked().items():
        if name not in here:
            assert not Marker(str(requirement.marker)).evaluate(), f"{name} is not installed"

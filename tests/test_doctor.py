import socket
import subprocess
from collections import namedtuple
from email.message import Message
from importlib.metadata import PackageNotFoundError

import pytest

from defects_in_welds import doctor
from defects_in_welds.doctor import Check, describe, examine
from defects_in_welds.params import UserError
from defects_in_welds.training.environment import dependencies

CANARY = "canary-secret"


@pytest.fixture
def dvc_project(project):
    subprocess.run(["dvc", "init", "--no-scm", "-q"], check=True)
    subprocess.run(["dvc", "remote", "add", "-d", "store", "s3://films"], check=True)
    subprocess.run(["dvc", "remote", "modify", "store", "secret_access_key", CANARY], check=True)
    return project


def checks_of(params, folder):
    return {check.name: check for check in examine(params, folder)}


def endpoint(url):
    subprocess.run(["dvc", "remote", "modify", "store", "endpointurl", url], check=True)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_package_that_is_not_installed_is_one_line(params, dvc_project, monkeypatch):
    def metadata_of(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("defects_in_welds.training.environment.metadata", metadata_of)
    with pytest.raises(UserError, match=r"^the package defects-in-welds is not installed; run `poetry install` or"):
        examine(params, dvc_project)


def test_optional_packages_are_not_missed(monkeypatch):
    installed = Message()
    installed["Requires-Dist"] = "torch (>=2,<3)"
    installed["Requires-Dist"] = 'nowhere-to-be-found (>=1) ; extra == "runtimes"'
    monkeypatch.setattr("defects_in_welds.training.environment.metadata", lambda name: installed)
    assert [name for name, _ in dependencies()] == ["torch"]


def test_a_machine_in_order_has_versions_and_no_problem(params, dvc_project):
    checks = checks_of(params, dvc_project)
    assert checks["torch"].found.startswith("2.")
    assert checks["MLflow"].found == "sqlite:///mlflow.db"
    assert checks["DVC remote"].found.startswith("s3://films")
    assert [check for check in checks.values() if check.remedy] == []


def test_what_answers_can_be_reached_and_what_does_not_cannot(params, dvc_project):
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint(f"http://127.0.0.1:{server.getsockname()[1]}")
        assert checks_of(params, dvc_project)["DVC endpoint"].remedy is None
    endpoint(f"http://127.0.0.1:{closed_port()}")
    params.train.tracking_uri = f"http://user:{CANARY}@127.0.0.1:{closed_port()}"
    checks = checks_of(params, dvc_project)
    assert "cannot be reached (Connection refused)" in checks["DVC endpoint"].found
    assert "start the server" in checks["MLflow"].remedy


def test_no_secret_is_told(params, dvc_project, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    params.train.tracking_uri = f"http://user:{CANARY}@127.0.0.1:{closed_port()}"
    text = describe(examine(params, dvc_project))
    assert "keys are set" in text
    assert "canary" not in text


def test_a_full_disk_and_a_missing_gpu_are_problems_with_a_remedy(params, dvc_project, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(1e9))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    params.trainer.accelerator = "gpu"
    checks = checks_of(params, dvc_project)
    assert "free some space" in checks["free disk"].remedy
    assert "set it to auto" in checks["GPU"].remedy


def test_outside_of_a_project_there_is_a_remedy(params, tmp_path):
    assert "dvc.yaml" in checks_of(params, tmp_path)["DVC"].remedy


def test_problems_are_marked():
    text = describe([Check("disk", "1 GB", "free some"), Check("Python", "3.11")])
    assert text == "! disk    1 GB\n          -> free some\n  Python  3.11"

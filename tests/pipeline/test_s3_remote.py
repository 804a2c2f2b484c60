"""The data travel through an S3 server of their own, with keys from the environment and nowhere else."""

import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
import pytest
import requests

REPOSITORY = Path(__file__).resolve().parents[2]
BUCKET = "defects-in-welds"
ALLOW_ALL = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'


@dataclass(frozen=True)
class Keys:
    """A pair of access keys."""

    key_id: str
    secret: str


@dataclass(frozen=True)
class S3Server:
    """A running server and the one pair of keys that it takes."""

    url: str
    keys: Keys


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    url = f"http://127.0.0.1:{free_port()}"
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        wait_for(url, process, log)
        yield S3Server(url, make_user_and_bucket(url))
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            requests.get(f"{url}/moto-api/", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the server does not answer: {log.read_text()}")


def make_user_and_bucket(url: str) -> Keys:
    """Create them while the server takes any key, then make it check keys and signatures."""
    anyone = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=url, **anyone)
    iam.create_user(UserName="somebody")
    iam.put_user_policy(UserName="somebody", PolicyName="all", PolicyDocument=ALLOW_ALL)
    created = iam.create_access_key(UserName="somebody")["AccessKey"]
    boto3.client("s3", endpoint_url=url, **anyone).create_bucket(Bucket=BUCKET)
    requests.post(f"{url}/moto-api/reset-auth", data=b"0", timeout=5).raise_for_status()
    return Keys(created["AccessKeyId"], created["SecretAccessKey"])


@dataclass(frozen=True)
class Workplace:
    """A folder for clones, and the environment in which their commands run."""

    folder: Path

    def run(self, *command: str, at: str, keys: Keys | None = None) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment |= {
            "HOME": str(self.folder / "home"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder / "site-cache"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder / "global-config"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        }
        if keys is not None:
            environment |= {"AWS_ACCESS_KEY_ID": keys.key_id, "AWS_SECRET_ACCESS_KEY": keys.secret}
        run = subprocess.run(command, cwd=self.folder / at, env=environment, capture_output=True, text=True)
        with (self.folder / "log").open("a") as log:
            log.write(f"{run.stdout}{run.stderr}")
        return run

    def must_run(self, *command: str, at: str, keys: Keys | None = None) -> str:
        run = self.run(*command, at=at, keys=keys)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def files_with(self, text: str) -> list[Path]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert len(files) > 10
        return [path for path in files if text.encode() in path.read_bytes()]


@pytest.fixture
def workplace(tmp_path: Path, s3_server: S3Server) -> Workplace:
    """Project ``ours`` with data that its ``data.dvc`` names, and ``theirs``, a clone of it without the data."""
    workplace = Workplace(tmp_path)
    ours = tmp_path / "ours"
    (ours / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"):
        shutil.copy(REPOSITORY / name, ours / name)
    (ours / "data" / "images").mkdir(parents=True)
    for film in range(3):
        (ours / "data" / "images" / f"film_{film}.tiff").write_bytes(bytes([film]) * 5000)
    for command in (
        ("git", "init", "-q", "-b", "main"),
        ("git", "config", "user.email", "somebody@example.org"),
        ("git", "config", "user.name", "Somebody"),
        ("dvc", "remote", "modify", "storage", "endpointurl", s3_server.url),
        ("dvc", "add", "data"),
        ("git", "add", "."),
        ("git", "commit", "-qm", "Data"),
        ("git", "clone", "-q", ".", "../theirs"),
    ):
        workplace.must_run(*command, at="ours")
    return workplace


def test_data_go_up_from_one_clone_and_down_to_another(workplace, s3_server):
    workplace.must_run("dvc", "push", at="ours", keys=s3_server.keys)
    assert not (workplace.folder / "theirs" / "data").exists()
    workplace.must_run("dvc", "pull", at="theirs", keys=s3_server.keys)
    for path in (workplace.folder / "ours" / "data").rglob("*.tiff"):
        relative = path.relative_to(workplace.folder / "ours")
        assert (workplace.folder / "theirs" / relative).read_bytes() == path.read_bytes()
    assert "up to date" in workplace.must_run("dvc", "status", at="theirs")
    assert workplace.must_run("git", "status", "--porcelain", at="theirs") == ""
    assert workplace.files_with(s3_server.keys.key_id) == []
    assert workplace.files_with(s3_server.keys.secret) == []


@pytest.mark.parametrize("command", ["push", "pull"])
@pytest.mark.parametrize("wrong", ["key_id", "secret"])
def test_a_wrong_key_is_refused(workplace, s3_server, command, wrong):
    keys = replace(s3_server.keys, **{wrong: "AKIAUNKNOWNUNKNOWN42"})  # pragma: allowlist secret
    run = workplace.run("dvc", command, at="ours" if command == "push" else "theirs", keys=keys)
    assert run.returncode != 0
    assert "Forbidden: An error occurred (403)" in run.stderr
    assert "Traceback" not in run.stderr
    assert workplace.files_with(keys.key_id) == []
    assert workplace.files_with(keys.secret) == []


def test_without_keys_the_error_says_that_there_are_none(workplace):
    run = workplace.run("dvc", "push", at="ours")
    assert run.returncode != 0
    assert "Unable to locate credentials" in run.stderr


def test_a_server_that_is_down_is_named(workplace, s3_server):
    nobody = f"http://127.0.0.1:{free_port()}"
    workplace.must_run("dvc", "remote", "modify", "storage", "endpointurl", nobody, at="ours")
    run = workplace.run("dvc", "push", at="ours", keys=s3_server.keys)
    assert run.returncode != 0
    assert f'Could not connect to the endpoint URL: "{nobody}' in run.stderr


def test_the_project_has_one_default_remote_and_no_keys(workplace):
    config = (REPOSITORY / ".dvc" / "config").read_text()
    assert workplace.must_run("dvc", "remote", "list", at="ours").split() == ["storage", f"s3://{BUCKET}", "(default)"]
    assert "key" not in config
    assert "password" not in config


class Gate(socketserver.ThreadingTCPServer):
    """Stands before the server and lets only so many bytes of its answers through; then it breaks off, or is silent."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server_url: str, bytes_left: int, is_silent: bool) -> None:
        super().__init__(("127.0.0.1", 0), Passage)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.server_port = int(server_url.rpartition(":")[2])
        self.bytes_left = bytes_left
        self.is_silent = is_silent


class Passage(socketserver.BaseRequestHandler):
    """One connection through the gate."""

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.server_port)) as server:
            threading.Thread(target=self.pass_on, args=(self.request, server), daemon=True).start()
            self.pass_on(server, self.request, is_answer=True)

    def pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(1000):
                if is_answer:
                    self.server.bytes_left -= len(data)
                if not is_answer or self.server.bytes_left >= 0:
                    target.sendall(data)
                elif not self.server.is_silent:
                    break
            target.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
@pytest.mark.parametrize(("bytes_left", "is_silent"), [(12000, False), (12000, True)])
def test_a_pull_that_is_cut_short_says_so_and_leaves_no_half_data(workplace, s3_server, bytes_left, is_silent):
    workplace.must_run("dvc", "push", at="ours", keys=s3_server.keys)
    with Gate(s3_server.url, bytes_left, is_silent) as gate:
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        for option in (("endpointurl", gate.url), ("read_timeout", "1")):
            workplace.must_run("dvc", "remote", "modify", "--local", "storage", *option, at="theirs")
        run = workplace.run("dvc", "pull", at="theirs", keys=s3_server.keys)
        assert run.returncode != 0
        assert "ERROR: " in run.stderr
        assert "Traceback" not in run.stderr
        whole = {path.read_bytes() for path in (workplace.folder / "ours" / "data").rglob("*.tiff")}
        assert all(path.read_bytes() in whole for path in (workplace.folder / "theirs").glob("data/**/*.tiff"))

        gate.bytes_left = 10**9
        workplace.must_run("dvc", "pull", at="theirs", keys=s3_server.keys)
        assert {path.read_bytes() for path in (workplace.folder / "theirs" / "data").rglob("*.tiff")} == whole
        gate.shutdown()

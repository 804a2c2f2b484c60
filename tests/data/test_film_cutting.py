import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from defects_in_welds.data import film_cutting
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.film_cutting import cut_films
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.tensor_store import TileFiles
from defects_in_welds.params import ParamsError, UserError, load_params


@pytest.fixture(autouse=True)
def small_preview(monkeypatch):
    monkeypatch.setattr("defects_in_welds.data.preview._DPI", 15)


def tiny(**prepare):
    params = load_params()
    return replace(params, prepare=replace(params.prepare, **{"img_size": 64, "overlap_px": 16} | prepare))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_any_number_of_processes_gives_the_same_bytes(tmp_path, write_films):
    data = write_films(tmp_path / "data", 9)
    broken = sorted((data / "images").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:200])  # its rows go to the films after it
    params = tiny(on_finding="keep")
    for workers in (1, 3):
        prepare_dataset(params, data, tmp_path / f"by {workers}", workers)
    assert contents(tmp_path / "by 1") == contents(tmp_path / "by 3")


def test_what_a_process_raises_is_raised(tmp_path, write_films):
    data = write_films(tmp_path / "data", 6)
    films = read_dataset(data, "auto", None).radiographs
    with pytest.raises(ParamsError, match="background_mm"):
        list(cut_films(films, tiny(background_mm=1e-6, pixel_pitch_mm=0.1).prepare, TileFiles(tmp_path, 64), 2))


def test_a_killed_process_is_named(tmp_path, write_films, monkeypatch):
    films = read_dataset(write_films(tmp_path / "data", 4), "auto", None).radiographs
    monkeypatch.setattr(film_cutting, "_start_worker", _be_killed)
    with pytest.raises(UserError, match="workers"):
        list(cut_films(films, tiny().prepare, TileFiles(tmp_path, 64), 2))


def _be_killed(cutter):
    os.kill(os.getpid(), signal.SIGKILL)


SLOW_RUN = """
import sys
from pathlib import Path
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.film_cutting import cut_films
from defects_in_welds.data.tensor_store import TileFiles
from defects_in_welds.params import load_params
if __name__ == "__main__":
    import multiprocessing
    films = read_dataset(Path(sys.argv[1]), "auto", None).radiographs
    for _ in cut_films(films, load_params().prepare, TileFiles(Path(sys.argv[2]), load_params().prepare.img_size), 2):
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        sys.stdin.read()
"""


def test_processes_end_with_the_first_even_if_it_is_killed(tmp_path, write_films):
    program = tmp_path / "program.py"
    program.write_text(SLOW_RUN)
    command = [sys.executable, str(program), str(write_films(tmp_path / "data", 4)), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        workers = [int(pid) for pid in run.stdout.readline().split()]
        run.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

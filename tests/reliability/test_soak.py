"""Nothing grows and nothing is left open: the quick version of ``benchmarks/soak.py``."""

import gc
import signal
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_modules import load_benchmark
from tiny_training import folder_to_train_in, tiny_params

from defects_in_welds.params import load_params
from defects_in_welds.simulation.dataset import simulate_dataset
from defects_in_welds.training.callbacks import ResumeState
from defects_in_welds.training.run_training import train

soak = load_benchmark("soak")

EPOCHS = 5
MOST_MIB = 40  # what one epoch's tiles and weights would take if they were kept for the last three


@pytest.mark.slow
@pytest.mark.parametrize("stage", soak.STAGES)
def test_a_stage_leaves_no_file_and_no_process(stages_before, stage):
    """They run in turn in one folder: each finds what the one before has written."""
    assert soak.run_stage(stage, stages_before) == {"files": [], "processes": []}


@pytest.fixture(scope="module")
def stages_before(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("stages"))
        small = ["simulate.films=6", "simulate.height_px=128", "simulate.width_px=192", "prepare.img_size=64"]
        shares = ["prepare.resample_pitch_mm=0.2", "prepare.val_share=0.2", "prepare.test_share=0.2"]
        yield soak.parameters(*small, *shares, "trainer.limit_train_batches=2")


def test_epochs_leave_no_file_process_or_tensor_and_take_no_more_memory(tmp_path, monkeypatch):
    tensors = []
    end = ResumeState.on_train_epoch_end

    def end_and_count(*given):
        end(*given)
        gc.collect()
        tensors.append(sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects()))

    monkeypatch.setattr(ResumeState, "on_train_epoch_end", end_and_count)
    signals = signal.SIGINT, signal.SIGTERM
    handlers = [*map(signal.getsignal, signals)]
    tiny = tiny_params()
    params = replace(tiny, train=replace(tiny.train, max_epochs=EPOCHS, num_workers=1))
    with folder_to_train_in(tmp_path, augmentations=True):
        after_each = soak.noting_each_epoch(lambda: train(params, Path("prepared"), Path("model"), Path("training")))
    assert [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    ] == handlers  # one would keep the trainer
    memory = after_each.pop("MiB")
    assert len(memory) == EPOCHS
    for noted in (*after_each.values(), tensors):  # the first epoch makes the optimiser's state
        assert len(set(noted[1:])) == 1, (after_each, tensors)
    assert max(memory[-2:]) - max(memory[:2]) < MOST_MIB, memory


def test_simulating_more_films_takes_no_more_memory(tmp_path):
    peaks = []
    small = ["simulate.height_px=100", "simulate.width_px=500", "simulate.beam.tube_kv=[150,150]"]
    for films in (1, 2, 10):  # the first fills the tables of spectra
        params = load_params([f"simulate.films={films}", *small]).simulate
        tracemalloc.start()
        simulate_dataset(params, tmp_path / f"{films}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    bytes_of_a_film = 100 * 500 * 2
    assert peaks[2] - peaks[1] < 4 * bytes_of_a_film

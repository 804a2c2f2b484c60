"""Nothing grows and nothing is left open: the quick version of ``benchmarks/soak.py``.

That memory does not grow with the films is in ``tests/data/test_preparation.py``.
"""

import gc
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_modules import load_benchmark
from tiny_training import folder_to_train_in, tiny_params

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
    assert [*map(signal.getsignal, signals)] == handlers  # Lightning's would keep the whole training alive
    memory = after_each.pop("MiB")
    assert len(memory) == EPOCHS
    for noted in (*after_each.values(), tensors):  # the first epoch makes the optimiser's state
        assert min(noted[3:]) <= min(noted[1:3]), (after_each, tensors)  # the least: a tile may be on its way
    assert max(memory[-2:]) - max(memory[:2]) < MOST_MIB, memory

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from defects_in_welds.training.lit_module import (
    DetectionModule,
    TileResult,
    TrainingError,
    gather_results,
    learning_rate_factor,
    mean_average_precision,
)

CLASSES = ("gas pore", "crack")


def tile(found, true, difficult=None):
    """Make a result from ``(box, label, score)`` and ``(box, label)``."""
    return TileResult(
        torch.tensor([box for box, _, _ in found], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([score for _, _, score in found], dtype=torch.float32),
        torch.tensor([label for _, label, _ in found], dtype=torch.int64),
        torch.tensor([box for box, _ in true], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([label for _, label in true], dtype=torch.int64),
        torch.tensor(difficult or [False] * len(true), dtype=torch.bool),
    )


BOX, OTHER_BOX = (10, 10, 30, 20), (40, 40, 60, 50)


def average_precision(*tiles, detections_per_tile=100):
    return mean_average_precision(dict(enumerate(tiles)), CLASSES, detections_per_tile)


def test_perfect_detections_have_the_precision_one():
    metrics = average_precision(tile([(BOX, 1, 0.9)], [(BOX, 1)]), tile([(OTHER_BOX, 2, 0.8)], [(OTHER_BOX, 2)]))
    assert metrics == pytest.approx({"mAP": 1, "mAP50": 1, "mAP75": 1, "AP/gas pore": 1, "AP/crack": 1})


def test_a_shifted_box_counts_at_the_lower_overlap_alone():
    metrics = average_precision(tile([((10, 10, 30, 16), 1, 0.9)], [(BOX, 1)]))
    assert metrics["mAP50"] == pytest.approx(1)
    assert metrics["mAP75"] == 0


def test_a_class_that_never_appears_has_no_number_and_one_never_found_has_zero():
    metrics = average_precision(tile([(OTHER_BOX, 2, 0.9)], [(BOX, 1)]))
    assert metrics == {"mAP": 0, "mAP50": 0, "mAP75": 0, "AP/gas pore": 0}


def test_a_difficult_flaw_is_neither_a_miss_nor_a_false_call():
    both = [(BOX, 1), (OTHER_BOX, 1)]
    missed = average_precision(tile([(BOX, 1, 0.5)], both, difficult=[False, True]))
    found = average_precision(tile([(BOX, 1, 0.5), (OTHER_BOX, 1, 0.9)], both, difficult=[False, True]))
    assert missed["mAP"] == found["mAP"] == pytest.approx(1)


@pytest.mark.parametrize("found", [[], [(BOX, 1, 0.9)]])
def test_nothing_to_find_has_no_numbers(found):
    assert average_precision(tile(found, []), tile(found, [(BOX, 1)], difficult=[True])) == {}
    assert average_precision() == {}


def test_detections_beyond_one_hundred_count():
    noise = [((0, 0, 2, 2), 1, 0.9)] * 120
    metrics = average_precision(tile([*noise, (BOX, 1, 0.5)], [(BOX, 1)]), detections_per_tile=200)
    assert metrics["mAP50"] > 0


def test_results_of_one_process_stay_as_they_are():
    results = {3: tile([], [])}
    assert gather_results(results) == results


def test_results_of_several_processes_count_each_tile_once(monkeypatch):
    def all_gather_object(into, own):
        into[:] = [own, {1: first, 2: second}]

    first, second = tile([], []), tile([], [(BOX, 1)])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
    assert sorted(gather_results({1: first})) == [1, 2]


def test_the_learning_rate_rises_and_falls_to_zero():
    rates = [learning_rate_factor(step, warmup_steps=4, steps=10) for step in range(11)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[7] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0)
    assert learning_rate_factor(2, warmup_steps=0, steps=2) == 0
    assert learning_rate_factor(5, warmup_steps=9, steps=5) == pytest.approx(0.6)


class Layers(nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)
        self.norm = nn.BatchNorm2d(1)
        self.frozen = nn.Conv2d(1, 1, 1).requires_grad_(False)
        self.loss = loss

    def forward(self, images, targets):
        return {"loss_classifier": torch.tensor(self.loss), "loss_box_reg": torch.tensor(1.0)}


def module_of(train, loss=2.0):
    module = DetectionModule(Layers(loss), CLASSES, 100, train)
    module.trainer = SimpleNamespace(estimated_stepping_batches=10, global_step=4)
    return module


def test_the_total_is_the_sum_of_the_parts(params, monkeypatch):
    module = module_of(params.train)
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    losses = module.training_step(([], []), 0)
    assert {name: float(value) for name, value in losses.items()} == {
        "loss": 3.0,
        "loss_classifier": 2.0,
        "loss_box_reg": 1.0,
    }


def test_a_loss_that_is_no_number_ends_the_training(params):
    with pytest.raises(TrainingError, match=r"the loss is nan at step 4; lower train\.learning_rate"):
        module_of(params.train, loss=float("nan")).training_step(([], []), 0)


def test_norms_biases_and_frozen_layers_do_not_decay(params):
    module = module_of(replace(params.train, warmup_steps=0))
    decaying, others = module.configure_optimizers()["optimizer"].param_groups
    assert [parameter is module.detector.layer.weight for parameter in decaying["params"]] == [True]
    assert (decaying["weight_decay"], others["weight_decay"]) == (params.train.weight_decay, 0)
    assert len(others["params"]) == 3

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from defects_in_welds.model.checkpoint import load_detector
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.training.callbacks import BestCheckpoint, TrainingLog
from defects_in_welds.training.lit_module import DetectionModule

CLASSES = ("gas pore",)


class Entries:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))


@pytest.fixture
def trainer():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    return SimpleNamespace(
        loggers=[Entries()],
        optimizers=[optimizer],
        is_last_batch=False,
        is_global_zero=True,
        world_size=2,
        current_epoch=0,
        global_step=0,
    )


def test_the_log_holds_means_since_the_last_entry_and_the_rest_of_an_epoch(trainer):
    log = TrainingLog(every_steps=2)
    log.on_train_epoch_start(trainer, None)
    for step, loss in enumerate([1.0, 2.0, 4.0]):
        trainer.global_step, trainer.is_last_batch = step + 1, step == 2
        log.on_train_batch_start(trainer, None, None, step)
        trainer.optimizers[0].param_groups[0]["lr"] /= 2
        log.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, ([0, 0, 0], []), step)
    rows = trainer.loggers[0].rows
    assert [(step, row["train/loss"], row["train/learning_rate"]) for step, row in rows] == [
        (1, 1.5, 0.25),
        (2, 4.0, 0.125),
    ]
    assert all(row["train/images_per_second"] > 0 for _, row in rows)


@pytest.fixture
def best_and_module(tiny, tmp_path):
    spec = InputSpec(64, 0.4, 0.2)
    module = DetectionModule(build_detector(tiny.model, CLASSES, spec), CLASSES, 100, tiny.train)
    return BestCheckpoint(tmp_path / "best.ckpt", tiny.model, CLASSES, spec), module, tmp_path / "best.ckpt"


def test_the_weights_of_the_highest_map_are_kept(trainer, best_and_module):
    best, module, path = best_and_module
    for epoch, value in enumerate([0.0, 0.3, 0.3, 0.1]):
        trainer.current_epoch, module.validation_map = epoch, value
        best.on_validation_end(trainer, module)
    best.complete(trainer, module)
    assert best.best_map == 0.3
    assert load_detector(path)[1].extra == {"epoch": 1, "step": 0, "map": 0.3}


def test_a_map_of_zero_is_better_than_none(trainer, best_and_module):
    best, module, path = best_and_module
    module.validation_map = 0.0
    best.on_validation_end(trainer, module)
    assert best.best_map == 0.0
    assert path.is_file()


def test_without_any_map_the_last_weights_are_kept(trainer, best_and_module):
    best, module, path = best_and_module
    best.on_validation_end(trainer, module)
    assert not path.exists()
    trainer.current_epoch = 4
    best.complete(trainer, module)
    assert load_detector(path)[1].extra == {"epoch": 4, "step": 0, "map": None}


def test_only_the_first_process_writes(trainer, best_and_module):
    best, module, path = best_and_module
    trainer.is_global_zero, module.validation_map = False, 0.5
    best.on_validation_end(trainer, module)
    assert best.best_map == 0.5
    assert not path.exists()


def test_the_best_survives_a_resume(best_and_module):
    best, _, _ = best_and_module
    best.load_state_dict({"best_map": 0.7})
    assert best.state_dict() == {"best_map": 0.7}

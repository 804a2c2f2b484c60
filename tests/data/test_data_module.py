import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

import defects_in_welds
from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.data_module import WeldDataModule, collate, prepare
from defects_in_welds.data.detection_dataset import is_trained_on
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.params import load_params

SCRIPT = Path(defects_in_welds.__file__).parent / "data" / "data_module.py"
SPLITS = ("train", "train", "val", "test")


@pytest.fixture(autouse=True)
def small_preview(monkeypatch):
    monkeypatch.setattr("defects_in_welds.data.preview._DPI", 15)


@pytest.fixture
def make_module(tmp_path, write_films):
    def make(films=8, splits=SPLITS, augmentations=True, **train):
        params = load_params()
        tiny = replace(params, prepare=replace(params.prepare, img_size=64, overlap_px=16, augmentations=augmentations))
        prepare_dataset(tiny, write_films(tmp_path / "data", films, splits=splits), tmp_path / "store")
        return WeldDataModule(tmp_path / "store", replace(params.train, **train), params.augmentation)

    return make


def tiles_of(loader):
    return [int(target["image_id"]) for _, targets in loader for target in targets]


def test_batches_are_lists_of_tiles_and_targets(make_module):
    module = make_module(batch_size=3)
    module.setup()
    images, targets = next(iter(module.train_dataloader()))
    assert [image.shape for image in images] == [(1, 64, 64)] * 3
    assert [set(target) for target in targets] == [{"boxes", "labels", "difficult", "image_id"}] * 3
    assert collate([]) == ([], [])


def test_training_sees_its_annotated_tiles_and_a_share_of_empty_ones(make_module):
    module = make_module(empty_tile_share=0.5)
    module.setup()
    trained = tiles_of(module.train_dataloader())
    annotated = [index for index in trained if is_trained_on(module.store, index)]
    assert set(trained) <= set(module.store.tile_indices(Split.TRAIN))
    assert len(trained) == 2 * len(annotated)
    everything = [i for i in module.store.tile_indices(Split.TRAIN) if is_trained_on(module.store, i)]
    assert sorted(annotated) == everything


def test_validation_sees_every_tile_as_it_is(make_module):
    module = make_module()
    module.setup()
    loader = module.val_dataloader()
    assert tiles_of(loader) == module.store.tile_indices(Split.VAL)
    images, targets = next(iter(loader))
    first = module.store.unit_pixels(int(targets[0]["image_id"]))
    assert torch.equal(images[0][0], torch.from_numpy(first))


@pytest.mark.parametrize("augmentations", [True, False])
def test_training_tiles_are_augmented_as_the_prepared_data_says(make_module, augmentations):
    module = make_module(augmentations=augmentations)
    module.setup()
    is_changed = [
        not torch.equal(image[0], torch.from_numpy(module.store.unit_pixels(int(target["image_id"]))))
        for images, targets in module.train_dataloader()
        for image, target in zip(images, targets, strict=True)
    ]
    assert set(is_changed) == {augmentations}


def test_a_limit_takes_the_first_annotated_tiles_and_validation_can_use_them(make_module):
    module = make_module(tile_limit=2, validate_on="train")
    module.setup()
    first = [i for i in module.store.tile_indices(Split.TRAIN) if is_trained_on(module.store, i)][:2]
    assert sorted(tiles_of(module.train_dataloader())) == first
    assert tiles_of(module.val_dataloader()) == first


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.epochs, self.validated = [], set()

    def on_train_epoch_start(self):
        self.epochs.append([])

    def training_step(self, batch, _):
        self.epochs[-1] += [int(target["image_id"]) for target in batch[1]]
        return (self.weight * batch[0][0].mean()).sum()

    def validation_step(self, batch, _):
        self.validated |= {int(target["image_id"]) for target in batch[1]}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:The .*_dataloader. does not have many workers")
def test_lightning_runs_on_it_and_orders_each_epoch_anew(make_module):
    module, recorder = make_module(empty_tile_share=0.0, batch_size=1), Recorder()
    pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(recorder, module)
    assert len({tuple(epoch) for epoch in recorder.epochs}) > 1
    assert len({tuple(sorted(epoch)) for epoch in recorder.epochs}) == 1
    assert recorder.validated == set(module.store.tile_indices(Split.VAL))


def test_nothing_to_learn_is_an_error_with_a_remedy(make_module):
    # Of four films, the last shows no flaw.
    module = make_module(films=4, splits=("val", "test", "test", "train"))
    with pytest.raises(DataError, match=r"no training tile shows a flaw; add annotations"):
        module.setup()


def test_nothing_to_validate_with_is_an_error_with_a_remedy(make_module, tmp_path):
    module = make_module()
    manifest = (tmp_path / "store/manifest.json").read_text()
    (tmp_path / "store/manifest.json").write_text(manifest.replace('"split":"val"', '"split":"test"'))
    with pytest.raises(DataError, match=r"no tile to validate with; .*train.validate_on=train"):
        module.setup()


def test_a_missing_store_is_an_error_with_a_remedy(tmp_path):
    params = load_params()
    with pytest.raises(DataError, match="no prepared data; run `dvc repro prepare`"):
        WeldDataModule(tmp_path / "store", params.train, params.augmentation).setup()


def test_prepare_takes_flags_and_overrides(project, write_films):
    write_films(project / "data", 8)
    prepare("prepare.overlap_px=8", img_size=48, augmentations=False)
    manifest = TensorStore.open(project / "artifacts/prepared").manifest
    assert (manifest.img_size, manifest.overlap_px, manifest.augmentations) == (48, 8, False)


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)


@pytest.mark.parametrize("start", [(SCRIPT,), ("-m", "defects_in_welds.data.data_module")], ids=["script", "module"])
def test_the_command_prepares_the_data(project, write_films, start):
    write_films(project / "data", 8)
    done = run(*start, "prepare", "--img_size", "640", "--augmentations", "True")
    assert done.returncode == 0, done.stderr
    manifest = TensorStore.open(project / "artifacts/prepared").manifest
    assert (manifest.img_size, manifest.augmentations, len(manifest.films)) == (640, True, 8)
    assert (project / "artifacts/prepared/preview.png").is_file()
    assert "film/s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["prepare"], "error: data: no data; run `dvc pull`, or `python -m defects_in_welds simulate` for a sample"),
        (
            ["prepare", "--img_size", "16"],
            "error: params: prepare.img_size is 16; allowed: at least 32 pixels",
        ),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(project, arguments, line):
    done = run(SCRIPT, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line + "\n")


def test_unknown_flags_are_refused_before_the_work(project, write_films):
    write_films(project / "data", 8)
    done = run(SCRIPT, "prepare", "--augmentation", "False")
    assert done.returncode == 1
    assert done.stderr.startswith("error: prepare has no flag --augmentation; it has ")
    assert not (project / "artifacts").exists()

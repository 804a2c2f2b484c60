from pathlib import Path

import pytest
import yaml

from defects_in_welds.params import Params, ParamsError, load_params

SECTIONS = {"simulate", "prepare", "augmentation", "model", "train", "trainer", "evaluate", "report"}


def test_the_file_has_every_section_and_nothing_to_interpolate(project):
    text = (project / "configs/params.yaml").read_text()
    assert set(yaml.safe_load(text)) - {"defaults", "hydra"} == SECTIONS
    assert "${" not in text, "DVC would track the reference, not its value"


def test_overrides_go_before_the_file():
    params = load_params(["train.batch_size=7", "trainer.precision=32-true", "prepare.classes=[pore,crack]"])
    assert (params.train.batch_size, params.trainer.precision) == (7, "32-true")
    assert params.prepare.classes == ["pore", "crack"]


@pytest.mark.parametrize("name", ["smoke", "cpu", "gpu", "overfit", "gdxray"])
def test_every_experiment_composes(name):
    assert load_params([f"experiment={name}"]) != load_params()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.foo=1", r"unknown key train\.foo; allowed: batch_size, "),
        ("nonsense.foo=1", "nonsense"),
        ("train.batch_size=many", r"'many'.*Integer.*train\.batch_size"),
        ("train.batch_size=0", r"train\.batch_size is 0; allowed: a number above 0"),
        ("train.learning_rate=inf", r"train\.learning_rate is inf"),
        ("train.learning_rate=nan", r"train\.learning_rate is nan"),
        ("prepare.on_finding=ignore", r"prepare\.on_finding is 'ignore'; allowed: fail \| drop \| keep"),
        ("evaluate.size_edges_mm=[2,inf]", r"evaluate\.size_edges_mm is \[2\.0, inf\]; allowed: rising lengths"),
        ("prepare.overlap_px=192", r"prepare\.overlap_px is 192"),
        ("prepare.weld_pattern='(a'", r"prepare\.weld_pattern"),
        ("prepare.weld_pattern=a", r"prepare\.weld_pattern is 'a'; allowed: a pattern with a \(group\)"),
        ("prepare.test_share=0.95", "below 1"),
        ("prepare.resample_pitch_mm=0", r"prepare\.resample_pitch_mm is 0\.0; allowed: a number above 0"),
        ("prepare.background_mm=-3", r"prepare\.background_mm is -3\.0"),
        ("model.architecture=yolo", r"model\.architecture is 'yolo'; allowed: fasterrcnn_resnet50_fpn"),
        ("model.frozen_batch_norm=true", r"model\.frozen_batch_norm"),
        ("trainer.precision=8", r"trainer\.precision"),
        ("trainer.limit_train_batches=1.5", r"trainer\.limit_train_batches is 1\.5; allowed: a share"),
        ("trainer.devices=0", r"trainer\.devices is 0"),
        ("trainer.strategy=dpp", r"trainer\.strategy is 'dpp'; allowed: auto \| ddp"),
        (
            "simulate.beam.tube_kv=[300,100]",
            r"simulate\.beam\.tube_kv is \[300\.0, 100\.0\]; allowed: \[low, high\] with 40",
        ),
        ("simulate.film.grain_mm=[0.1]", r"simulate\.film\.grain_mm is \[0\.1\]; allowed: \[low, high\]"),
        ("simulate.digital.unsharpness_mm=[0,.inf]", r"simulate\.digital\.unsharpness_mm"),
        (
            "simulate.weld.materials=[wood]",
            r"simulate\.weld\.materials is \['wood'\]; allowed: some of steel, stainless",
        ),
        ("simulate.flaws.undercut.length_mm=[0,1]", r"simulate\.flaws\.undercut\.length_mm"),
        ("simulate.flaws.gas_pore.tilt_deg=[0,5]", r"simulate\.flaws\.gas_pore\.tilt_deg .* no plane to tilt"),
        ("simulate.flaws.scratch.most_per_film=1", r"unknown key simulate\.flaws\.scratch; allowed: burn_through"),
        ("simulate.objects.wire_iqi=2", r"simulate\.objects\.wire_iqi is 2\.0; allowed: a number from 0 to 1"),
        ("simulate.seed=-1", r"simulate\.seed is -1; allowed: 0 to"),
        ("train.experiment_name=''", r"train\.experiment_name"),
        ("experiment=none_such", "none_such"),
        ("train.batch_size=", r"train\.batch_size"),
    ],
)
def test_a_bad_value_gets_one_line_with_its_key(override, message):
    with pytest.raises(ParamsError, match=message) as caught:
        load_params([override])
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(project: Path):
    path = project / "configs/params.yaml"
    path.write_text(path.read_text().replace("  weight_decay: 0.05\n", ""))
    with pytest.raises(ParamsError, match="weight_decay"):
        load_params()


def test_the_schema_has_no_defaults():
    with pytest.raises(TypeError, match="missing 8 required"):
        Params()

from pathlib import Path

import pytest
import torch

from defects_in_welds.model.checkpoint import FORMAT, CheckpointError, load_detector, save_checkpoint
from defects_in_welds.model.faster_rcnn import build_detector

CLASSES = ("gas pore", "трещина")


@pytest.fixture
def saved(small_model, input_spec, tmp_path):
    torch.manual_seed(1)
    detector = build_detector(small_model, CLASSES, input_spec)
    path = tmp_path / "model" / "best.ckpt"
    save_checkpoint(path, detector, small_model, CLASSES, input_spec, {"epoch": 3})
    return path, detector


def test_a_checkpoint_brings_back_the_detector(saved, small_model, input_spec):
    path, detector = saved
    loaded, checkpoint = load_detector(path)
    assert not loaded.training
    assert (checkpoint.model, checkpoint.input_spec) == (small_model, input_spec)
    assert checkpoint.defect_classes == CLASSES
    assert checkpoint.extra == {"epoch": 3}
    tile = torch.rand(1, 64, 64)
    with torch.inference_mode():
        (found,), (expected,) = loaded([tile]), detector.eval()([tile])
    assert len(expected["boxes"]) > 0
    assert all(torch.equal(found[key], expected[key]) for key in ("boxes", "scores", "labels"))


def test_a_write_that_fails_leaves_the_old_file(saved, small_model, input_spec, monkeypatch):
    path, detector = saved
    before = path.read_bytes()

    def fail(path, content):
        path.touch()
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, detector, small_model, CLASSES, input_spec, {})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["best.ckpt"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"best\.ckpt: there is no checkpoint; give a best\.ckpt"):
        load_detector(tmp_path / "best.ckpt")


class Dangerous:
    def __reduce__(self):
        return (print, ("code runs",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(1)}, "no checkpoint of ours"),
        ({"format": FORMAT, "format_version": 99}, "format 99, not 1"),
        ({"format": FORMAT, "format_version": torch.zeros(2)}, "format tensor"),
        ({"format": FORMAT, "format_version": 1}, "broken"),
        ({"format": FORMAT, "format_version": 1, "model": {"x" * 10**6: 1}}, "broken"),
        (Dangerous(), "no checkpoint of ours"),
    ],
)
def test_another_file_is_refused(tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=rf"other\.ckpt: .*{message}") as error:
        load_detector(tmp_path / "other.ckpt")
    assert len(str(error.value)) < len(str(tmp_path)) + 500
    assert "code runs" not in capsys.readouterr().out


def test_a_checkpoint_from_before_films_were_standardised_is_of_films_as_they_are(saved, input_spec):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    for key in ("resample_pitch_mm", "background_mm"):
        del content["input_spec"][key]
    torch.save(content, path)
    assert load_detector(path)[1].input_spec == input_spec


def test_weights_that_do_not_fit_are_refused(saved):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    content["defect_classes"] = ["gas pore"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="size mismatch"):
        load_detector(path)

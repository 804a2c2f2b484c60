import hashlib
from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from defects_in_welds.model.checkpoint import save_checkpoint
from defects_in_welds.model.faster_rcnn import build_detector
from defects_in_welds.params import ParamsError

CLASSES = ("gas pore", "crack")
PREDICTOR = "roi_heads.box_predictor.cls_score.weight"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file as torchvision publishes them: 91 classes, 15 anchors at each place."""
    torch.manual_seed(1)
    detector = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(detector.state_dict(), path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def serve(monkeypatch, path):
    """Let every download give a file, and list the addresses asked for."""
    asked = []

    def download(url, destination, hash_prefix=None, progress=True):
        asked.append((url, hash_prefix))
        with open(destination, "wb") as file:  # noqa: PTH123 - torch hands over a string
            file.write(path.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return asked


def differing(detector, state_dict):
    """Name the layers whose weights are not those of a file."""
    own = detector.state_dict()
    return {name for name in own if own[name].shape != state_dict[name].shape or not own[name].equal(state_dict[name])}


def test_a_file_fills_all_but_the_class_layers(small_model, input_spec, published, caplog):
    model = replace(small_model, weights=str(published), anchor_aspect_ratios=[0.5, 1.0, 2.0])
    detector = build_detector(model, CLASSES, input_spec)
    left = differing(detector, torch.load(published, weights_only=True))
    assert left == {
        f"roi_heads.box_predictor.{layer}.{kind}" for layer in ("cls_score", "bbox_pred") for kind in ("weight", "bias")
    }
    assert all(name in caplog.text for name in left)


def test_a_file_url_is_read_in_place_and_other_anchors_start_at_random(small_model, input_spec, published, cache):
    detector = build_detector(replace(small_model, weights=published.as_uri()), CLASSES, input_spec)
    left = differing(detector, torch.load(published, weights_only=True))
    assert {name.rsplit(".", 2)[0] for name in left} == {"rpn.head", "roi_heads.box_predictor"}
    assert not cache.exists()


def test_coco_never_keeps_the_class_layers(small_model, input_spec, published, cache, monkeypatch):
    asked = serve(monkeypatch, published)
    model = replace(small_model, weights="coco", anchor_aspect_ratios=[0.5, 1.0, 2.0])
    detector = build_detector(model, [f"class {i}" for i in range(90)], input_spec)
    left = differing(detector, torch.load(published, weights_only=True))
    assert PREDICTOR in left
    assert all(name.startswith("roi_heads.box_predictor") for name in left)
    assert asked == [
        ("https://download.pytorch.org/models/fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth", "907ea3f9")
    ]


def test_a_download_is_kept(small_model, input_spec, published, cache, monkeypatch):
    asked = serve(monkeypatch, published)
    model = replace(small_model, weights="http://example.org/detector.pth")
    for _ in range(2):
        build_detector(model, CLASSES, input_spec)
    assert len(asked) == len(list(cache.iterdir())) == 1


def test_imagenet_fills_the_backbone(small_model, input_spec, tmp_path, cache, monkeypatch):
    torch.manual_seed(1)
    classifier = mobilenet_v3_large(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    serve(monkeypatch, tmp_path / "classifier.pth")
    detector = build_detector(replace(small_model, weights="imagenet_backbone"), CLASSES, input_spec)
    expected = classifier.features.state_dict()
    found = detector.backbone.body.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


def test_frozen_statistics_are_those_of_the_file(small_model, input_spec, published):
    model = replace(small_model, weights=str(published), frozen_batch_norm=True)
    found = build_detector(model, CLASSES, input_spec).state_dict()["backbone.body.0.1.running_var"]
    assert found.equal(torch.load(published, weights_only=True)["backbone.body.0.1.running_var"])


def test_our_own_checkpoint_serves_as_weights(small_model, input_spec, tmp_path):
    torch.manual_seed(1)
    first = build_detector(small_model, CLASSES, input_spec)
    save_checkpoint(tmp_path / "best.ckpt", first, small_model, CLASSES, input_spec, {})
    second = build_detector(replace(small_model, weights=str(tmp_path / "best.ckpt")), CLASSES, input_spec)
    assert differing(second, first.state_dict()) == set()


@pytest.mark.parametrize("weights", ["coco", "imagenet_backbone", "http://example.org/detector.pth"])
def test_without_network_one_error_names_the_setting_and_the_remedy(
    small_model, input_spec, cache, monkeypatch, weights
):
    def fail(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", fail)
    with pytest.raises(ParamsError, match=r"model\.weights is .*without network, .*set model\.weights to its path"):
        build_detector(replace(small_model, weights=weights), CLASSES, input_spec)
    assert list(cache.iterdir()) == []


def test_a_password_in_the_address_is_not_shown(small_model, input_spec, cache):
    weights = "http://user:secret@example.org/detector.pth"  # pragma: allowlist secret
    with pytest.raises(ParamsError, match=r"'http://example\.org/detector\.pth': needs a user .*to its path$") as error:
        build_detector(replace(small_model, weights=weights), CLASSES, input_spec)
    assert "secret" not in str(error.value)


def test_a_download_that_is_no_weights_file_is_not_kept(small_model, input_spec, tmp_path, cache, monkeypatch):
    (tmp_path / "half").write_bytes(b"half a file")
    serve(monkeypatch, tmp_path / "half")
    with pytest.raises(ParamsError, match="is no weights file"):
        build_detector(replace(small_model, weights="http://example.org/detector.pth"), CLASSES, input_spec)
    assert list(cache.iterdir()) == []


def test_the_hash_is_checked(small_model, input_spec, published):
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    model = replace(small_model, weights=str(published), weights_sha256=digest)
    build_detector(model, CLASSES, input_spec)
    with pytest.raises(ParamsError, match=f"has the SHA-256 {digest}; model.weights_sha256 expects 00"):
        build_detector(replace(model, weights_sha256="00" * 32), CLASSES, input_spec)


class Dangerous:
    def __reduce__(self):
        return (print, ("code runs",))


def spoil(state_dict, kind):
    """Make the content of a bad weights file."""
    if kind == "also holds":
        return state_dict | {"other.weight": torch.zeros(1)}
    if kind == "lacks":
        return {name: values for name, values in state_dict.items() if name != "rpn.head.conv.0.0.weight"}
    if kind == "does not fit":
        return state_dict | {"rpn.head.conv.0.0.weight": torch.zeros(1)}
    if kind == "holds no state dict":
        return [1, 2]
    return {"weight": Dangerous()}


@pytest.mark.parametrize("kind", ["also holds", "lacks", "does not fit", "holds no state dict", "is no weights file"])
def test_another_file_is_refused(small_model, input_spec, published, tmp_path, capsys, kind):
    path = tmp_path / "bad.pth"
    torch.save(spoil(dict(torch.load(published, weights_only=True)), kind), path)
    with pytest.raises(ParamsError, match=rf"params: model\.weights is '.*bad\.pth': .*{kind}"):
        build_detector(replace(small_model, weights=str(path)), CLASSES, input_spec)
    assert "code runs" not in capsys.readouterr().out


def test_a_missing_file_is_named(small_model, input_spec):
    with pytest.raises(ParamsError, match=r"model\.weights is 'coca': is no file; allowed: coco"):
        build_detector(replace(small_model, weights="coca"), CLASSES, input_spec)

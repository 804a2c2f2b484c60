"""Weights to start from: torchvision's, or a file or URL of the user's."""

import hashlib
import logging
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V3_Large_Weights, ResNet50_Weights
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights,
    FasterRCNN_ResNet50_FPN_V2_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
)

from defects_in_welds.params import ModelParams, ParamsError, without_credentials

_COCO = {
    "fasterrcnn_resnet50_fpn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "fasterrcnn_resnet50_fpn_v2": FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "fasterrcnn_mobilenet_v3_large_320_fpn": FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
}
_IMAGENET = {
    "fasterrcnn_resnet50_fpn": ResNet50_Weights.IMAGENET1K_V1,
    "fasterrcnn_resnet50_fpn_v2": ResNet50_Weights.IMAGENET1K_V1,
    "fasterrcnn_mobilenet_v3_large_320_fpn": MobileNet_V3_Large_Weights.IMAGENET1K_V1,
}
# Their shapes follow from the number of classes and of anchors: the only layers that weights may not fit.
_CLASS_LAYERS = "roi_heads.box_predictor."
_ANCHOR_LAYERS = ("rpn.head.cls_logits.", "rpn.head.bbox_pred.")

_CLASSIFIER_LAYERS = ("fc.", "classifier.")

_log = logging.getLogger(__name__)


def load_start_weights(detector: nn.Module, model: ModelParams) -> None:
    """Put the weights that ``model.weights`` names into a detector; what they do not fit stays as it is.

    That is the second stage's last layers where the classes differ (with ``coco`` always), and the first stage's where
    the number of anchors differs. The log says which. A file with a classifier's weights serves the backbone alone.

    Raises:
        ParamsError: If the weights cannot be fetched or read, are not those expected, or belong to another network.
    """
    if model.weights == "imagenet_backbone":
        _load_backbone(detector, _read_state_dict(_fetch(_IMAGENET[model.architecture].url, model), model), model)
        return
    url = _COCO[model.architecture].url if model.weights == "coco" else model.weights
    state_dict = _read_state_dict(_fetch(url, model), model)
    if any(name.startswith(_CLASSIFIER_LAYERS) for name in state_dict):
        _load_backbone(detector, state_dict, model)
        return
    wanted = detector.state_dict()
    left_out = [
        name
        for name, values in state_dict.items()
        if (name.startswith(_CLASS_LAYERS) and model.weights == "coco")
        or (name.startswith((_CLASS_LAYERS, *_ANCHOR_LAYERS)) and name in wanted and wanted[name].shape != values.shape)
    ]
    _load(detector, {name: values for name, values in state_dict.items() if name not in left_out}, left_out, model)
    if left_out:
        shown = without_credentials(model.weights)
        _log.warning("model.weights %s: these layers start at random: %s", shown, ", ".join(left_out))


def _load_backbone(detector: nn.Module, state_dict: dict[str, Tensor], model: ModelParams) -> None:
    """Load a classifier's weights into the backbone, without its last layers."""
    body = detector.get_submodule("backbone.body")
    state_dict = {name.removeprefix("features."): values for name, values in state_dict.items()}
    classifier = [name for name in state_dict if name.startswith(_CLASSIFIER_LAYERS)]
    _load(body, {name: values for name, values in state_dict.items() if name not in classifier}, [], model)


def _load(module: nn.Module, state_dict: dict[str, Tensor], left_out: list[str], model: ModelParams) -> None:
    try:
        # torchvision renames the layers of its older files while it loads them: what is missing shows only now.
        missing, unexpected = module.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        raise _error(model, f"does not fit: {str(error).splitlines()[-1].strip()}") from None
    missing = sorted(set(missing) - set(left_out))
    if missing or unexpected:
        names = f"lacks {missing[0]}" if missing else f"also holds {unexpected[0]}"
        raise _error(model, f"is of another network: it {names} ({len(missing) + len(unexpected)} such layers)")


def _fetch(source: str, model: ModelParams) -> Path:
    """Find a weights file on disk, or download it into torch's cache, where it only ever appears whole."""
    scheme = urlsplit(source).scheme
    if "://" not in source or scheme == "file":
        path = Path(url2pathname(urlsplit(source).path) if scheme == "file" else source)
        if not path.is_file():
            raise _error(model, "is no file; allowed: coco | imagenet_backbone | none | path or URL of a weights file")
        _check_sha256(path, model)
        return path
    if "@" in urlsplit(source).netloc:  # urllib would take the password for a port, and quote it
        raise _error(
            model, "needs a user name or password; fetch that file elsewhere and set model.weights to its path"
        )
    # Two URLs may end in the same file name: the cache tells them apart.
    name = f"{hashlib.sha256(source.encode()).hexdigest()[:16]}-{Path(urlsplit(source).path).name}"
    path = _cache_dir() / name
    if not path.is_file():
        _log.info("downloading %s", without_credentials(source))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(source, str(path), _published_sha256(source, model), progress=False)
        except (OSError, RuntimeError, ValueError, HTTPException) as error:
            shown = without_credentials(source)
            reason = str(error).replace(source, shown)
            raise _error(
                model,
                f"needs {shown}, which cannot be fetched ({reason}); without network, fetch that file elsewhere and "
                "set model.weights to its path",
            ) from None
    _check_sha256(path, model)
    return path


def _published_sha256(url: str, model: ModelParams) -> str | None:
    """Find the first digits that a download's hash must have; torchvision's file names end in them."""
    if model.weights in ("coco", "imagenet_backbone"):
        return Path(urlsplit(url).path).stem.rpartition("-")[2]
    return model.weights_sha256


def _check_sha256(path: Path, model: ModelParams) -> None:
    if model.weights_sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.weights_sha256.lower():
        _forget_download(path)
        raise _error(model, f"has the SHA-256 {found}; model.weights_sha256 expects {model.weights_sha256}")


def _cache_dir() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _forget_download(path: Path) -> None:
    """Remove a bad file from the cache, so that the next run fetches it anew; the user's own files stay."""
    if path.parent == _cache_dir():
        path.unlink()


def _read_state_dict(path: Path, model: ModelParams) -> dict[str, Tensor]:
    """Read torchvision's layout, a plain state dict, or that of our own checkpoints, which have one inside."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the file makes it stumble over
        _forget_download(path)
        raise _error(model, f"is no weights file ({type(error).__name__} while reading {path})") from None
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(values, Tensor) for values in content.values()):
        raise _error(model, f"holds no state dict ({path})")
    return content


def _error(model: ModelParams, reason: str) -> ParamsError:
    return ParamsError(f"params: model.weights is {without_credentials(model.weights)!r}: {reason}")

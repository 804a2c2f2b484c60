"""Our checkpoint: one file that holds all that prediction needs, and no code."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.output_folder import replaced_file, write_errors
from defects_in_welds.params import ModelParams, UserError, without_credentials

FORMAT = "defects-in-welds checkpoint"
FORMAT_VERSION = 1
BEST_NAME = "best.ckpt"
"""Of the checkpoint in the folder of a model."""

_REMEDY = "give a best.ckpt that `dvc repro train` or `python -m defects_in_welds train` has written"


class CheckpointError(UserError):
    """A file is no checkpoint of ours; the message names it and says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        model: Architecture and settings.
        defect_classes: Names in order of their ids, from 1; the background is not among them.
        input_spec: Size and grey statistics of the tiles.
        state_dict: The detector's weights.
        extra: Where the weights come from, as plain values.
    """

    model: ModelParams
    defect_classes: tuple[str, ...]
    input_spec: InputSpec
    state_dict: dict[str, Tensor]
    extra: dict[str, Any]


def checkpoint_path(model: Path) -> Path:
    """Find the checkpoint where a user names it or the folder of its model, which may not be there yet."""
    return model / BEST_NAME if model.is_dir() or not model.suffix else model


def save_checkpoint(
    path: Path,
    detector: nn.Module,
    model_params: ModelParams,
    defect_classes: Sequence[str],
    input_spec: InputSpec,
    extra: Mapping[str, Any],
) -> None:
    """Write a checkpoint, which takes the place of an older one only when it is complete.

    Raises:
        UserError: If there is no space or no right to write there.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": {**asdict(model_params), "weights": without_credentials(model_params.weights)},
        "defect_classes": list(defect_classes),
        "input_spec": asdict(input_spec),
        "state_dict": dict(detector.state_dict()),
        "extra": dict(extra),
    }
    with write_errors(path), replaced_file(path) as partial:
        # By way of the memory: on a full disk, PyTorch's own writing ends in an error that does not say so.
        content_bytes = io.BytesIO()
        torch.save(content, content_bytes)
        partial.write_bytes(content_bytes.getbuffer())


def load_detector(path: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, Checkpoint]:
    """Read a checkpoint and rebuild its detector, ready to predict.

    Args:
        path: File that `save_checkpoint` has written.
        device: Where the detector is to run.

    Returns:
        The detector in evaluation mode on that device, and all that the file holds.

    Raises:
        CheckpointError: If the file is missing, broken, of another version or no checkpoint of ours.
    """
    checkpoint = _read_checkpoint(path)
    detector = build_detector(checkpoint.model, checkpoint.defect_classes, checkpoint.input_spec, load_weights=False)
    try:
        detector.load_state_dict(checkpoint.state_dict)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {str(error).splitlines()[-1].strip()[:200]}; {_REMEDY}") from None
    return detector.eval().to(device), checkpoint


def _read_checkpoint(path: Path) -> Checkpoint:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no checkpoint; {_REMEDY}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the file makes it stumble over
        raise CheckpointError(f"{path}: no checkpoint of ours ({type(error).__name__}); {_REMEDY}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: no checkpoint of ours; {_REMEDY}")
    version = content.get("format_version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        found = f"format {version!s:.40}, not {FORMAT_VERSION}"
        raise CheckpointError(f"{path}: written by another version ({found}); {_REMEDY}")
    try:
        return Checkpoint(
            model=ModelParams(**content["model"]),
            defect_classes=tuple(content["defect_classes"]),
            input_spec=InputSpec(**content["input_spec"]),
            state_dict=content["state_dict"],
            extra=content["extra"],
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: broken ({type(error).__name__}: {error!s:.200}); {_REMEDY}") from None

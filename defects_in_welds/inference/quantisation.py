"""Networks in 8-bit whole numbers, from graphs in the ONNX format and tiles that show how large their values are."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from defects_in_welds.inference.graph_runtimes import require_package

_TILES_AT_ONCE = 4


def quantise(graphs: Sequence[Path], detector: FasterRCNN, tiles: Sequence[Float32[np.ndarray, "tile tile"]]) -> None:
    """Let 8-bit graphs take the place of those of a detector's two stages.

    Args:
        graphs: Their files, in the ONNX format.
        detector: The same networks, in evaluation mode on the CPU.
        tiles: Some of those that it was trained with, on the scale from 0 to 1.

    Raises:
        UserError: If a package is not installed.
    """
    onnx = require_package("onnx")
    quantization = require_package("onnxruntime.quantization")
    for path, inputs in zip(graphs, _inputs_of_stages(detector, tiles), strict=True):
        quantised = path.with_suffix(".int8.onnx")
        with _quiet():
            quantization.quantize_static(
                str(path),
                str(quantised),
                _Examples(inputs),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_last_nodes(onnx.load(path).graph),
            )
        quantised.replace(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the advice to fold norms into convolutions first: the export has done so."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _last_nodes(graph: Any) -> list[str]:  # noqa: ANN401 - of a package without types
    """Name the layers that give scores and offsets: they cost next to nothing, and their errors are those of boxes."""
    maker_of = {output: node for node in graph.node for output in node.output}
    makers = [maker_of[output.name] for output in graph.output if not output.name.startswith("features")]
    return [(maker_of[node.input[0]] if node.op_type == "Cast" else node).name for node in makers]


class _Examples:
    """Hands out inputs one by one, as the quantiser asks for them."""

    def __init__(self, inputs: Iterator[Tensor]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, Any] | None:
        tensor = next(self._inputs, None)
        return None if tensor is None else {"input": tensor.numpy()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.get_next, None)


def _inputs_of_stages(
    detector: FasterRCNN, tiles: Sequence[Float32[np.ndarray, "tile tile"]]
) -> Iterator[Iterator[Tensor]]:
    """Give, stage by stage, what the networks get to see."""
    for networks in (detector.backbone, detector.roi_heads.box_head):
        yield _inputs_of(networks, detector, tiles)


@torch.inference_mode()
def _inputs_of(
    networks: nn.Module, detector: FasterRCNN, tiles: Sequence[Float32[np.ndarray, "tile tile"]]
) -> Iterator[Tensor]:
    seen: list[Tensor] = []
    hook = networks.register_forward_pre_hook(lambda _, given: seen.append(given[0].contiguous()))
    try:
        for start in range(0, len(tiles), _TILES_AT_ONCE):
            detector([torch.from_numpy(tile)[None] for tile in tiles[start : start + _TILES_AT_ONCE]])
            yield seen.pop()
    finally:
        hook.remove()

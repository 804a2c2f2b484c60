"""The command ``export_model``: a trained detector in the form that a faster runtime reads."""

import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.dataset_checks import file_sha256
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.inference.exported_model import (
    DESCRIPTION_NAME,
    FORMAT,
    GRAPH_NAMES,
    ExportedModel,
    graph_files,
)
from defects_in_welds.inference.graph_runtimes import PACKAGE_OF, PRECISIONS_OF, openvino_core, require_package
from defects_in_welds.inference.quantisation import quantise
from defects_in_welds.model.checkpoint import checkpoint_path, load_detector
from defects_in_welds.model.faster_rcnn import InputSpec
from defects_in_welds.output_folder import is_free, replaced_folder
from defects_in_welds.params import UserError

_RUN_NAME = "run.json"
_OPSET = 17
_CALIBRATION_TILES = 64

_log = logging.getLogger(__name__)


def export_model(model: Path, out_dir: Path, runtime: str, precision: str, prepared_dir: Path) -> None:
    """Write a checkpoint's detector as `load_exported_model` reads it.

    Args:
        model: A checkpoint, or the folder of a model; its ``run.json`` goes along, for the operating point.
        out_dir: Replaced as a whole. It must not exist yet, or hold nothing but an earlier export.
        runtime: A key of `PRECISIONS_OF`.
        precision: One of those of the runtime.
        prepared_dir: Prepared data that the model was trained with; read for int8 alone.

    Raises:
        CheckpointError: If there is no checkpoint, or it is broken.
        DataError: If there is no prepared data, or it does not suit the model.
        UserError: If the runtime or precision is unknown, a package is missing, or ``out_dir`` holds something else.
    """
    _require_known(runtime, precision)
    _require_free(out_dir)
    checkpoint = checkpoint_path(model)
    detector, content = load_detector(checkpoint)
    with replaced_folder(out_dir) as folder:
        levels = _write_onnx(detector, content.input_spec, folder)
        if precision == "int8":
            tiles = _training_tiles(prepared_dir, content.input_spec)
            quantise([folder / f"{name}.onnx" for name in GRAPH_NAMES], detector, tiles)
        if runtime == "openvino":
            _convert_to_openvino(folder)
        if (checkpoint.parent / _RUN_NAME).is_file():
            shutil.copyfile(checkpoint.parent / _RUN_NAME, folder / _RUN_NAME)
        described = ExportedModel(
            runtime,
            precision,
            content.model,
            content.defect_classes,
            content.input_spec,
            levels,
            source={"checkpoint_sha256": file_sha256(checkpoint), **content.extra},
            files={name: file_sha256(folder / name) for name in graph_files(runtime)},
        )
        described.write(folder)
    _log.info("%s, %s: %s", runtime, precision, out_dir)


class _FirstStageNetworks(nn.Module):
    """Backbone and head of the first stage, as one graph: feature maps, objectness and offsets of all levels."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self._backbone, self._head = detector.backbone, detector.rpn.head

    def forward(self, tiles: Tensor) -> tuple[Tensor, ...]:
        features = list(self._backbone(tiles).values())
        objectness, offsets = self._head(features)
        return (*features, *objectness, *offsets)


class _SecondStageNetworks(nn.Module):
    """Head and predictor of the second stage, as one graph."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self._head, self._predictor = detector.roi_heads.box_head, detector.roi_heads.box_predictor

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self._predictor(self._head(pooled))
        return found


def _write_onnx(detector: FasterRCNN, input_spec: InputSpec, folder: Path) -> tuple[str, ...]:
    """Write the graphs in the ONNX format; give the names of the feature levels."""
    detector = detector.to(memory_format=torch.contiguous_format)
    tile = torch.zeros(1, input_spec.img_size, input_spec.img_size)
    with torch.no_grad():
        tiles, _ = detector.transform([tile, tile])
        features = detector.backbone(tiles.tensors)
    levels = tuple(features)
    per_level = ("features", "objectness", "offsets")
    first_names = [f"{what}_{level}" for what in per_level for level in levels]
    pooled = torch.zeros(2, next(iter(features.values())).shape[1], *detector.roi_heads.box_roi_pool.output_size)
    first, second = (folder / f"{name}.onnx" for name in GRAPH_NAMES)
    _write_graph(_FirstStageNetworks(detector), tiles.tensors, first, "tiles", first_names)
    _write_graph(_SecondStageNetworks(detector), pooled, second, "boxes", ["scores", "offsets"])
    return levels


def _write_graph(networks: nn.Module, example: Tensor, path: Path, axis: str, output_names: Sequence[str]) -> None:
    """Trace networks; the first axis of all tensors stays free."""
    with warnings.catch_warnings():
        # The exporter that takes over from this one needs two more packages.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            networks.eval(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["input"],
            output_names=list(output_names),
            dynamic_axes={name: {0: axis} for name in ("input", *output_names)},
        )


def _training_tiles(prepared_dir: Path, input_spec: InputSpec) -> list[Float32[np.ndarray, "tile tile"]]:
    """Read some of the tiles that a model was trained with, from all over them."""
    store = TensorStore.open(prepared_dir)
    if store.manifest.img_size != input_spec.img_size:
        raise DataError(
            f"{prepared_dir}: tiles of {store.manifest.img_size} px, but the model takes {input_spec.img_size}; "
            "prepare the data that it was trained with"
        )
    indices = store.tile_indices(Split.TRAIN)
    if not indices:
        raise DataError(f"{prepared_dir}: no training tiles; prepare the data that the model was trained with")
    chosen = np.linspace(0, len(indices) - 1, min(len(indices), _CALIBRATION_TILES)).round().astype(int)
    return [store.unit_pixels(indices[place]) for place in chosen]


def _convert_to_openvino(folder: Path) -> None:
    """Put OpenVINO's files in place of those in the ONNX format."""
    openvino = require_package("openvino")
    for name in GRAPH_NAMES:
        path = folder / f"{name}.onnx"
        graph = openvino_core().read_model(path)
        try:
            openvino.save_model(graph, folder / f"{name}.xml", compress_to_fp16=False)
        except RuntimeError as error:  # it does not say whether for lack of space or of rights
            raise UserError(f"{folder}: OpenVINO cannot write there ({error}); free space, or see its rights") from None
        path.unlink()


def _require_known(runtime: str, precision: str) -> None:
    if not isinstance(runtime, str) or runtime not in PRECISIONS_OF:
        raise UserError(f"--runtime is {runtime!r}; allowed: {', '.join(PRECISIONS_OF)}")
    if precision not in PRECISIONS_OF[runtime]:
        allowed = ", ".join(PRECISIONS_OF[runtime])
        raise UserError(f"--precision is {precision!r}; allowed with --runtime {runtime}: {allowed}")
    for package in (PACKAGE_OF[runtime], "onnx", *(["onnxruntime"] if precision == "int8" else [])):
        require_package(package)


def _require_free(out_dir: Path) -> None:
    """Refuse to write over anything but an earlier export."""
    names = {DESCRIPTION_NAME, _RUN_NAME, *(name for runtime in PRECISIONS_OF for name in graph_files(runtime))}
    if not is_free(out_dir, names, DESCRIPTION_NAME, FORMAT):
        raise UserError(f"{out_dir} holds no earlier export; move it away or name another folder with --out")

"""A trained detector exported to another runtime: a folder with its networks as graphs, and no code.

Where networks end and boxes begin, the detector is cut: the first graph goes from tiles to feature maps and what the
first stage says of each anchor, the second from pooled features to class scores and box offsets. All else, from the
scaling of grey levels to the suppression of double boxes, is computed by the same code as in training.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from defects_in_welds.data.dataset_checks import file_sha256
from defects_in_welds.inference.graph_runtimes import PRECISIONS_OF, SUFFIXES_OF, Graph, open_graph
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.params import ModelParams, UserError

FORMAT = "defects-in-welds exported model"
FORMAT_VERSION = 1
DESCRIPTION_NAME = "exported_model.json"
GRAPH_NAMES = ("first_stage", "second_stage")
"""Of the graphs' files, less their suffix."""

_REMEDY = "export it anew with `python -m defects_in_welds export_model`"
_FOREIGN_GRAPH = f"{DESCRIPTION_NAME}: the graphs are of another model; {_REMEDY}"


class ExportedModelError(UserError):
    """A folder is no exported model of ours; the message names it and says what to do."""


@dataclass(frozen=True)
class ExportedModel:
    """What the description of an exported model says.

    Attributes:
        runtime: What runs its graphs.
        precision: What they compute in.
        model: Architecture and settings.
        defect_classes: Names in order of their ids, from 1; the background is not among them.
        input_spec: Size and grey statistics of the tiles.
        feature_levels: Names of the feature maps, finest first.
        source: SHA-256 of the checkpoint, and what that says of its weights.
        files: SHA-256 of the files of the graphs.
    """

    runtime: str
    precision: str
    model: ModelParams
    defect_classes: tuple[str, ...]
    input_spec: InputSpec
    feature_levels: tuple[str, ...]
    source: dict[str, Any]
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write the description into the folder."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / DESCRIPTION_NAME).write_text(text + "\n", encoding="utf-8")


def is_exported_model(path: Path) -> bool:
    """Tell an exported model from a checkpoint and its folder."""
    return (path / DESCRIPTION_NAME).is_file()


def load_exported_model(folder: Path, at_once: int = 1) -> tuple[nn.Module, ExportedModel]:
    """Open an exported model, ready to predict on the CPU.

    Args:
        folder: That `export_model` has written.
        at_once: How many threads are to predict at a time.

    Returns:
        A detector that is called as the one of the checkpoint is, with tiles of the model's size, and its description.

    Raises:
        ExportedModelError: If the folder is broken, of another version or no exported model of ours.
        UserError: If the runtime is not installed.
    """
    described = _read_description(folder)
    _require_unchanged(folder, described)
    graphs = []
    for name in GRAPH_NAMES:
        path = folder / f"{name}{SUFFIXES_OF[described.runtime][0]}"
        try:
            graphs.append(open_graph(path, described.runtime, described.precision, at_once))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]  # OpenVINO's first lines name its own sources
            raise ExportedModelError(f"{path}: {reason}; {_REMEDY}") from None
    # Other runtimes have layouts of their own.
    settings = replace(described.model, channels_last=False)
    detector: FasterRCNN = build_detector(settings, described.defect_classes, described.input_spec, load_weights=False)
    put_graphs_in(detector, described.feature_levels, *graphs)
    return detector.eval(), described


def graph_files(runtime: str) -> list[str]:
    """Name the files that hold the graphs."""
    return [f"{name}{suffix}" for name in GRAPH_NAMES for suffix in SUFFIXES_OF[runtime]]


def put_graphs_in(detector: FasterRCNN, feature_levels: Sequence[str], first: Graph, second: Graph) -> None:
    """Let graphs take the place of a detector's networks."""
    backbone = _FirstStage(feature_levels, first)
    predictor = _SecondStage(detector.roi_heads.box_predictor.cls_score.out_features, second)
    detector.backbone, detector.rpn.head = backbone, _FirstStageHead(backbone)
    detector.roi_heads.box_head, detector.roi_heads.box_predictor = nn.Identity(), predictor


class _FirstStage(nn.Module):
    """Stands for the backbone, and keeps what the first stage says of the anchors for its head.

    Attributes:
        of_thread: Its ``anchors`` are objectness and offsets by level, of the latest tiles of this thread.
    """

    def __init__(self, feature_levels: Sequence[str], graph: Graph) -> None:
        super().__init__()
        self._levels = feature_levels
        self._graph = graph
        self.of_thread = threading.local()

    def forward(self, tiles: Tensor) -> dict[str, Tensor]:
        found, count = self._graph(tiles), len(self._levels)
        if len(found) != 3 * count:
            raise ExportedModelError(_FOREIGN_GRAPH)
        self.of_thread.anchors = found[count : 2 * count], found[2 * count :]
        return OrderedDict(zip(self._levels, found[:count], strict=True))


class _FirstStageHead(nn.Module):
    """Stands for the head of the first stage, whose work is done with the backbone's."""

    def __init__(self, first_stage: _FirstStage) -> None:
        super().__init__()
        self._first_stage = first_stage

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        anchors: tuple[list[Tensor], list[Tensor]] = self._first_stage.of_thread.anchors
        return anchors


class _SecondStage(nn.Module):
    """Stands for the second stage's networks."""

    def __init__(self, num_classes: int, graph: Graph) -> None:
        super().__init__()
        self._num_classes = num_classes
        self._graph = graph

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        if not len(pooled):  # not every runtime takes empty tensors
            return pooled.new_zeros(0, self._num_classes), pooled.new_zeros(0, 4 * self._num_classes)
        scores, offsets = self._graph(pooled.contiguous())
        if scores.shape[1] != self._num_classes:
            raise ExportedModelError(_FOREIGN_GRAPH)
        return scores, offsets


def _require_unchanged(folder: Path, described: ExportedModel) -> None:
    for name in graph_files(described.runtime):
        path = folder / name
        if not path.is_file() or file_sha256(path) != described.files.get(name):
            raise ExportedModelError(f"{path}: missing or not as it was written; {_REMEDY}")


def _read_description(folder: Path) -> ExportedModel:
    path = folder / DESCRIPTION_NAME
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ExportedModelError(f"{path}: cannot be read ({type(error).__name__}); {_REMEDY}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ExportedModelError(f"{path}: no exported model of ours; {_REMEDY}")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ExportedModelError(
            f"{path}: written by another version (format {version}, not {FORMAT_VERSION}); {_REMEDY}"
        )
    try:
        described = ExportedModel(
            runtime=content["runtime"],
            precision=content["precision"],
            model=ModelParams(**content["model"]),
            defect_classes=_names(content["defect_classes"]),
            input_spec=_input_spec(content["input_spec"]),
            feature_levels=_names(content["feature_levels"]),
            source=dict(content["source"]),
            files=dict(content["files"]),
        )
        if described.precision not in PRECISIONS_OF[described.runtime]:
            raise KeyError(described.precision)
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise ExportedModelError(f"{path}: broken ({type(error).__name__}: {error}); {_REMEDY}") from None
    return described


def _names(values: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"not all of {values!s:.40} are names")
    return tuple(values)


def _input_spec(values: dict[str, Any]) -> InputSpec:
    spec = InputSpec(**values)
    numbers = [value for value in asdict(spec).values() if value is not None]
    if not isinstance(spec.img_size, int) or not all(type(number) in (int, float) for number in numbers):
        raise TypeError(f"input_spec is {values!s:.80}")
    return spec

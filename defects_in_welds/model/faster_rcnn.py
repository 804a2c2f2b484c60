"""The detector: torchvision's Faster R-CNN for tiles of one channel.

The only owner of image size and normalisation: the data pipeline does neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from defects_in_welds.model.anchors import ExactAnchors, anchor_sizes_of_levels
from defects_in_welds.model.roi_pooling import SparseRoIAlign
from defects_in_welds.model.weights import load_start_weights
from defects_in_welds.params import ModelParams

_RESNET_STAGE_CHANNELS = [256, 512, 1024, 2048]
_PYRAMID_CHANNELS = 256
_REPRESENTATION_SIZE = 1024
_STRIDE_PX = 32  # of the coarsest backbone stage: a tile is padded to a multiple of it


@dataclass(frozen=True)
class InputSpec:
    """What the detector expects of a tile, and what it does to it.

    Attributes:
        img_size: Tile side, in pixels.
        grey_mean: Mean grey level of the training tiles, on the scale from 0 to 1.
        grey_std: Their standard deviation, on that scale.
        resample_pitch_mm: Pixel pitch that their films were brought to, in mm; None: each kept its own.
        background_mm: Extent of the background that was subtracted from their films, in mm; None: none was.
    """

    img_size: int
    grey_mean: float
    grey_std: float
    # Checkpoints that do not name them come from films as they are.
    resample_pitch_mm: float | None = None
    background_mm: float | None = None


def build_detector(
    model: ModelParams, defect_classes: Sequence[str], input_spec: InputSpec, *, load_weights: bool = True
) -> nn.Module:
    """Build the detector; what no weights are loaded for is random, from torch's global generator.

    Args:
        model: Architecture and settings.
        defect_classes: Names in order of their ids, which start at 1; the background is not among them.
        input_spec: Size and grey statistics of the tiles.
        load_weights: Whether to load what ``model.weights`` names; not needed where a checkpoint follows.

    Returns:
        A module that takes a list of ``(1, height, width)`` float32 tiles on the scale from 0 to 1 and, in training
        mode, a list of targets; the interface is torchvision's.

    Raises:
        ParamsError: If the anchors do not suit the architecture, or the weights cannot be loaded.
    """
    num_classes = len(defect_classes) + 1
    backbone, levels = _build_backbone(model)
    anchors = ExactAnchors(anchor_sizes_of_levels(model.anchor_sizes_px, levels), model.anchor_aspect_ratios)
    is_v2 = model.architecture.endswith("_v2")
    detector = FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=_ExactRPNHead(_PYRAMID_CHANNELS, anchors.num_anchors_per_location()[0], conv_depth=2 if is_v2 else 1),
        rpn_pre_nms_top_n_train=2 * model.proposals,
        rpn_pre_nms_top_n_test=2 * model.proposals,
        rpn_post_nms_top_n_train=model.proposals,
        rpn_post_nms_top_n_test=model.proposals,
        box_roi_pool=SparseRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=_build_v2_box_head() if is_v2 else None,
        box_predictor=_ExactPredictor(_REPRESENTATION_SIZE, num_classes),
        box_batch_size_per_image=model.box_samples,
        box_score_thresh=model.score_threshold,
        box_nms_thresh=model.nms_iou,
        box_detections_per_img=model.detections_per_tile,
    )
    memory_format = torch.channels_last if model.channels_last else torch.contiguous_format
    detector.transform = TileTransform(input_spec, memory_format)
    if load_weights and model.weights != "none":
        load_start_weights(detector, model)
    return detector.to(memory_format=memory_format)


def _build_backbone(model: ModelParams) -> tuple[nn.Module, int]:
    """Build backbone and feature pyramid, and count the levels.

    Without weights to start from, every layer is trained, whatever ``trainable_backbone_layers`` says: frozen random
    layers learn nothing.
    """
    norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d
    if model.frozen_batch_norm:
        # torchvision's first COCO weights were trained without the epsilon.
        is_coco_v1 = model.architecture == "fasterrcnn_resnet50_fpn" and model.weights == "coco"
        norm_layer = partial(_FrozenBatchNorm, eps=0.0 if is_coco_v1 else 1e-5)
    is_random = model.weights == "none"
    if "mobilenet" in model.architecture:
        backbone = mobilenet_backbone(
            backbone_name="mobilenet_v3_large",
            weights=None,
            fpn=True,
            norm_layer=norm_layer,
            trainable_layers=6 if is_random else model.trainable_backbone_layers,
            returned_layers=[4, 5],
        )
        return backbone, 3
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=norm_layer,
        trainable_layers=5 if is_random else model.trainable_backbone_layers,
    )
    if model.architecture.endswith("_v2"):
        backbone.fpn = FeaturePyramidNetwork(
            _RESNET_STAGE_CHANNELS, _PYRAMID_CHANNELS, LastLevelMaxPool(), norm_layer=nn.BatchNorm2d
        )
    return backbone, len(_RESNET_STAGE_CHANNELS) + 1


def _build_v2_box_head() -> nn.Module:
    return FastRCNNConvFCHead(
        (_PYRAMID_CHANNELS, 7, 7), [256, 256, 256, 256], [_REPRESENTATION_SIZE], norm_layer=nn.BatchNorm2d
    )


class _FrozenBatchNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """torchvision's frozen norm in one pass that keeps the type; its own turns bfloat16 into float32."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class _ExactRPNHead(RPNHead):  # type: ignore[misc]
    """A first stage whose box offsets leave mixed precision, so that boxes are computed in float32."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, offsets = super().forward(features)
        return [level.float() for level in objectness], [level.float() for level in offsets]


class _ExactPredictor(FastRCNNPredictor):  # type: ignore[misc]
    """A second stage whose box offsets leave mixed precision, so that boxes are computed in float32."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        scores, offsets = super().forward(features)
        return scores.float(), offsets.float()


class TileTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalise tiles in their one channel, batch them, and expand them to the three that the backbone has.

    A tile of the right size passes unscaled; any other image is scaled to fit, and its boxes with it.
    """

    def __init__(self, input_spec: InputSpec, memory_format: torch.memory_format) -> None:
        """Take the size and grey statistics, and the memory layout of the batch."""
        size = input_spec.img_size
        super().__init__(size, size, [input_spec.grey_mean], [input_spec.grey_std], size_divisible=_STRIDE_PX)
        self._tile_hw = (size, size)
        self._grey_mean = input_spec.grey_mean
        self._grey_std = input_spec.grey_std
        self._memory_format = memory_format

    def normalize(self, image: Float[Tensor, "1 height width"]) -> Float[Tensor, "1 height width"]:
        """Shift and scale to zero mean and unit deviation.

        Raises:
            ValueError: If the image does not have one channel.
        """
        if image.shape[0] != 1:
            raise ValueError(f"expected an image of one channel, found the shape {tuple(image.shape)}")
        return (image - self._grey_mean) / self._grey_std

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Leave a tile as it is; scale another image to fit the tile size."""
        if tuple(image.shape[-2:]) == self._tile_hw:
            return image, target
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized

    def batch_images(self, images: list[Tensor], size_divisible: int = _STRIDE_PX) -> Float[Tensor, "batch 3 _ _"]:
        """Stack, padding only where sizes differ or are no multiple of the stride."""
        height, width = images[0].shape[-2:]
        is_stackable = height % size_divisible == width % size_divisible == 0
        if is_stackable and all(image.shape == images[0].shape for image in images):
            batch = torch.stack(images)
        else:
            batch = super().batch_images(images, size_divisible)
        return batch.expand(-1, 3, -1, -1).contiguous(memory_format=self._memory_format)

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Bring the boxes back to the pixels of images that were scaled."""
        if image_shapes == original_image_sizes:
            return result
        restored: list[dict[str, Tensor]] = super().postprocess(result, image_shapes, original_image_sizes)
        return restored

"""Anchors: the boxes that the first stage starts from, at every place of every feature level."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from defects_in_welds.params import ParamsError


def anchor_sizes_of_levels(sizes_px: Sequence[int], levels: int) -> tuple[tuple[int, ...], ...]:
    """Give each feature level its anchor sizes.

    A ResNet's levels halve in resolution from one to the next and take one size each. MobileNetV3-320 has three that
    lie close together (strides of 32, 32 and 64 pixels): as in torchvision, each of them takes all sizes.

    Args:
        sizes_px: Anchor sizes, in pixels, finest first.
        levels: Number of feature levels.

    Raises:
        ParamsError: If five levels do not get five sizes.
    """
    if levels == 3:
        return (tuple(sizes_px),) * levels
    if len(sizes_px) != levels:
        raise ParamsError(
            f"params: model.anchor_sizes_px is {list(sizes_px)!r}; allowed: {levels} sizes, one for each feature level"
        )
    return tuple((size,) for size in sizes_px)


class ExactAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors in float32 whatever the precision of the features.

    torchvision's own take the features' type: in bfloat16 the coordinates of a 640 px tile come in steps of 4 px, half
    the smallest anchor. Tiles are all of one size, so the anchors are made once and kept.
    """

    def __init__(self, sizes_px: tuple[tuple[int, ...], ...], aspect_ratios: Sequence[float]) -> None:
        """Make the anchors of one place.

        Args:
            sizes_px: Sizes of each level, in pixels.
            aspect_ratios: Height over width, the same for each level.
        """
        super().__init__(sizes_px, (tuple(aspect_ratios),) * len(sizes_px))
        self._made_for: tuple[object, ...] = ()
        self._made: Float[Tensor, "anchors 4"] = torch.empty(0, 4)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Float[Tensor, "anchors 4"]]:
        """Lay the anchors over the feature maps, once for every image of the batch."""
        height, width = image_list.tensors.shape[-2:]
        device = feature_maps[0].device
        grids = [tuple(features.shape[-2:]) for features in feature_maps]
        if self._made_for != (device, height, width, *grids):
            with torch.inference_mode(mode=False):  # anchors kept from a validation serve training too
                self.set_cell_anchors(torch.float32, device)
                strides = [[torch.tensor(height // rows), torch.tensor(width // columns)] for rows, columns in grids]
                self._made = torch.cat(self.grid_anchors(grids, strides))
            self._made_for = (device, height, width, *grids)
        return [self._made] * len(image_list.image_sizes)

"""Features of boxes: torchvision's `MultiScaleRoIAlign`, in a form that a CPU computes many times faster.

On a CPU torchvision's kernel works in float32 and channel after channel, and its gradient runs on one core: together
they took a third of a training step. RoIAlign is linear in the features. Each bin of a box is a weighted sum of a few
pixels, and torch has a fast kernel for such sums over the rows of a table, made for word embeddings: with all pixels of
all levels as rows, one call pools all boxes. The gradient is the same kernel, with the sums over bins for each pixel.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from jaxtyping import Float, Int32, Int64
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import _setup_scales


class SparseRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign over a feature pyramid; on a GPU, and for export, torchvision's own.

    The type of the features is kept, sums are taken in float32. Gradients flow to the features, not to the boxes.
    ``sampling_ratio`` is at least 1.
    """

    scales: list[float] | None
    map_levels: Any

    def forward(
        self,
        x: dict[str, Float[Tensor, "images channels _ _"]],
        boxes: list[Float[Tensor, "_ 4"]],
        image_shapes: list[tuple[int, int]],
    ) -> Float[Tensor, "boxes channels height width"]:
        """Pool the features of boxes.

        Args:
            x: Features by level, finest first; levels that are not among ``featmap_names`` are left out.
            boxes: Boxes of each image, as ``xyxy`` in image pixels.
            image_shapes: Height and width of each image, in pixels.

        Returns:
            Features of all boxes, in the order of images and boxes; channels are last in memory.
        """
        levels = [features for name, features in x.items() if name in self.featmap_names]
        if levels[0].device.type != "cpu" or _is_exported():
            return super().forward(x, boxes, image_shapes)
        if self.scales is None:
            self.scales, self.map_levels = _setup_scales(
                levels, image_shapes, self.canonical_scale, self.canonical_level
            )
        pixels, weights = self._sums_of_bins(levels, boxes)
        pooled: Tensor = _WeightedSums.apply(pixels, weights, *levels)  # type: ignore[no-untyped-call]
        return pooled.view(-1, *self.output_size, pooled.shape[1]).permute(0, 3, 1, 2)

    def _sums_of_bins(
        self, levels: list[Tensor], boxes: list[Tensor]
    ) -> tuple[Int32[Tensor, "bins terms"], Float[Tensor, "bins terms"]]:
        """Write each bin of each box as a sum over pixels, which are counted through levels, images, rows, columns."""
        level = self.map_levels(boxes)
        image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(of_image) for of_image in boxes]))
        height, width, before = _level_sizes(levels)[:, level]
        box = torch.cat(boxes) * torch.tensor(self.scales)[level, None]
        rows, row_weights = self._terms_of_axis(box[:, 1], box[:, 3], height, self.output_size[0])
        columns, column_weights = self._terms_of_axis(box[:, 0], box[:, 2], width, self.output_size[1])
        rows = (before + image * height * width)[:, None, None] + rows * width[:, None, None]
        pixels = rows.int()[:, :, None, :, None] + columns.int()[:, None, :, None, :]
        weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
        return pixels.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)

    def _terms_of_axis(
        self, start: Float[Tensor, " boxes"], stop: Float[Tensor, " boxes"], size: Int64[Tensor, " boxes"], bins: int
    ) -> tuple[Int64[Tensor, "boxes bins terms"], Float[Tensor, "boxes bins terms"]]:
        """Interpolate along one axis: each sample of a bin lies between two pixels.

        Args:
            start: Where boxes begin, in feature pixels.
            stop: Where they end; a box of less than a pixel is taken for a pixel long.
            size: Pixels of the features that a box is pooled from.
            bins: Bins of a box.

        Returns:
            Pixels and their weights. What lies more than a pixel outside has no weight.
        """
        start, size = start[:, None, None], size[:, None, None]
        bin_length = (stop[:, None, None] - start).clamp(min=1) / bins
        samples = torch.arange(self.sampling_ratio)
        place = start + torch.arange(bins)[:, None] * bin_length + (samples + 0.5) * bin_length / self.sampling_ratio
        share = ((place >= -1) & (place <= size)) / self.sampling_ratio
        place = torch.minimum(place.clamp(min=0), size - 1)
        before = place.long()
        after = torch.minimum(before + 1, size - 1)
        nearness = place - before
        pixels = torch.stack([before, after], dim=-1)
        weights = torch.stack([(1 - nearness) * share, nearness * share], dim=-1)
        return pixels.flatten(2), weights.flatten(2)


def _is_exported() -> bool:
    return torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined, no-untyped-call]


def _level_sizes(levels: list[Tensor]) -> Int64[Tensor, "3 levels"]:
    """List height and width of each level, and how many pixels of all images come before it."""
    sizes = torch.tensor([(*features.shape[2:], len(features)) for features in levels]).T
    pixels = sizes.prod(dim=0)
    return torch.stack([sizes[0], sizes[1], pixels.cumsum(0) - pixels])


class _WeightedSums(torch.autograd.Function):
    """Weighted sums of pixels, over all levels."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        pixels: Int32[Tensor, "sums terms"],
        weights: Float[Tensor, "sums terms"],
        *levels: Float[Tensor, "images channels _ _"],
    ) -> Float[Tensor, "sums channels"]:
        table = torch.cat([features.permute(0, 2, 3, 1).flatten(0, 2) for features in levels])
        weights = weights.to(table.dtype)
        ctx.save_for_backward(pixels, weights)
        ctx.shapes = [features.shape for features in levels]
        return F.embedding_bag(pixels, table, mode="sum", per_sample_weights=weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        pixels, weights = ctx.saved_tensors
        sizes = [images * height * width for images, _, height, width in ctx.shapes]
        # Sorted by pixel, the terms of a pixel are neighbours; stable, so that they are always added in one order.
        pixel, term = pixels.flatten().sort(stable=True)
        first = torch.searchsorted(pixel, torch.arange(sum(sizes), dtype=pixel.dtype))
        table: Tensor = F.embedding_bag(
            term // pixels.shape[1],
            gradients[0].contiguous(),
            first,
            mode="sum",
            per_sample_weights=weights.flatten()[term],
        )
        of_levels = [
            of_level.view(images, height, width, channels).permute(0, 3, 1, 2)
            for of_level, (images, channels, height, width) in zip(torch.split(table, sizes), ctx.shapes, strict=True)
        ]
        return None, None, *of_levels

"""Random changes of training tiles and their boxes. The only module that knows albumentations.

albumentations draws the changes and keeps track of the boxes. What changes the tile is one transform: six of its own in
a row took several times as long, most of it for copies of the tile and for checks of the boxes between them.
"""

import os
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8, UInt16

from defects_in_welds.boxes import LEAST_SIDE_PX
from defects_in_welds.data.grey_levels import to_unit_float32
from defects_in_welds.params import AugmentationParams

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version

import albumentations
import cv2
from albumentations.core.type_definitions import Targets

_NOISE_VALUES = 2**21


class Augmentation:
    """Flips, turns, scale, brightness, contrast and noise, the same for the same seed."""

    def __init__(self, augmentation: AugmentationParams, min_visible_share: float) -> None:
        """Build the pipeline.

        Args:
            augmentation: What is changed, and how far.
            min_visible_share: Share of a box that must stay in the tile when it is enlarged, for the box to stay.
        """
        self._pipeline = albumentations.Compose(
            [_TileChange(augmentation)],
            bbox_params=albumentations.BboxParams(
                format="pascal_voc",
                label_fields=["rows"],
                min_visibility=min_visible_share,
                min_width=LEAST_SIDE_PX,
                min_height=LEAST_SIDE_PX,
                check_each_transform=False,
            ),
        )

    def __call__(
        self,
        pixels: UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"],
        bit_depth: int,
        boxes_xyxy: Float32[np.ndarray, "boxes 4"],
        seed: Sequence[int],
    ) -> tuple[Float32[np.ndarray, "height width"], Float32[np.ndarray, "kept 4"], Int64[np.ndarray, " kept"]]:
        """Change a tile.

        Args:
            pixels: The tile in the grey levels of its film.
            bit_depth: Full scale of the grey levels is ``2**bit_depth - 1``.
            boxes_xyxy: Its boxes, in tile pixels.
            seed: Numbers that name this one change.

        Returns:
            The tile, black 0 and full scale 1; the boxes that stay; and their rows in ``boxes_xyxy``.
        """
        generator = np.random.default_rng(seed)
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        image = to_unit_float32(pixels, bit_depth)
        changed = self._pipeline(image=image, bboxes=boxes_xyxy, rows=np.arange(len(boxes_xyxy)))
        boxes = np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4)
        return changed["image"], boxes, np.asarray(changed["rows"], dtype=np.int64)


class _TileChange(albumentations.DualTransform):  # type: ignore[misc]
    """All changes of a tile in one pass: scale, then flips and quarter turns, then grey levels."""

    _targets = (Targets.IMAGE, Targets.BBOXES)

    def __init__(self, limits: AugmentationParams) -> None:
        super().__init__(p=1)
        self._limits = limits

    def get_params(self) -> dict[str, Any]:
        """Draw a change."""
        limits, draw = self._limits, self.py_random
        return {
            "scale": 1 + draw.uniform(-limits.scale_limit, limits.scale_limit),
            "flips_x": draw.random() < limits.horizontal_flip,
            "flips_y": draw.random() < limits.vertical_flip,
            "turns": draw.randrange(4) if draw.random() < limits.quarter_turns else 0,
            "contrast": 1 + draw.uniform(-limits.contrast_limit, limits.contrast_limit),
            "brightness": draw.uniform(-limits.brightness_limit, limits.brightness_limit),
            "noise_std": draw.uniform(0, limits.noise_std_max),
            "noise_start": draw.randrange(_NOISE_VALUES),
        }

    def apply(
        self,
        img: Float32[np.ndarray, "height width"],
        *,
        scale: float,
        flips_x: bool,
        flips_y: bool,
        turns: int,
        contrast: float,
        brightness: float,
        noise_std: float,
        noise_start: int,
        **_: object,
    ) -> Float32[np.ndarray, "height width"]:
        """Change the pixels."""
        image = _rescaled(img, scale)
        if flips_x or flips_y:
            image = cv2.flip(image, -1 if flips_x and flips_y else int(flips_x))
        image = np.ascontiguousarray(np.rot90(image, turns))
        noise = _noise(image.size)[noise_start : noise_start + image.size].reshape(image.shape)
        levels = cv2.addWeighted(image, contrast, noise, noise_std, brightness)
        return np.clip(levels, 0, 1, out=levels)

    def apply_to_bboxes(
        self,
        bboxes: Float64[np.ndarray, "boxes columns"],
        *,
        shape: tuple[int, int],
        scale: float,
        flips_x: bool,
        flips_y: bool,
        turns: int,
        **_: object,
    ) -> Float64[np.ndarray, "boxes columns"]:
        """Change the boxes, which are given in shares of the tile."""
        (start_y, shown_y), (start_x, shown_x) = (_shown(side, scale) for side in shape)
        height, width = shape
        x0, x1 = ((bboxes[:, column] * width - start_x) / shown_x for column in (0, 2))
        y0, y1 = ((bboxes[:, column] * height - start_y) / shown_y for column in (1, 3))
        if flips_x:
            x0, x1 = 1 - x1, 1 - x0
        if flips_y:
            y0, y1 = 1 - y1, 1 - y0
        for _turn in range(turns):
            x0, y0, x1, y1 = y0, 1 - x1, y1, 1 - x0
        return np.column_stack([x0, y0, x1, y1, bboxes[:, 4:]])


@cache
def _noise(pixels: int) -> Float32[np.ndarray, " values"]:
    """Draw normal numbers once: each tile takes a piece that begins anywhere, for new ones cost more than all else."""
    return np.random.default_rng(0).standard_normal(_NOISE_VALUES + pixels, dtype=np.float32)


def _shown(side_px: int, scale: float) -> tuple[int, int]:
    """Choose which part of a side is shown: its first pixel, below 0 where it is more than the side, and its length."""
    shown = max(1, round(side_px / scale))
    return (side_px - shown) // 2, shown


def _rescaled(image: Float32[np.ndarray, "height width"], scale: float) -> Float32[np.ndarray, "height width"]:
    """Enlarge or shrink about the centre, by a scale of which whole pixels are shown: `resize` takes a fifth of a warp.

    Beyond the tile its border pixels are repeated, as in the tiles of small films, and not mirrored: that would show
    flaws a second time.
    """
    height, width = image.shape
    (start_y, shown_y), (start_x, shown_x) = (_shown(side, scale) for side in image.shape)
    if (shown_y, shown_x) == image.shape:
        return image
    top, left = max(0, -start_y), max(0, -start_x)
    if top or left:
        bottom, right = max(0, shown_y - height - top), max(0, shown_x - width - left)
        image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE)
    part = image[start_y + top :, start_x + left :][:shown_y, :shown_x]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)

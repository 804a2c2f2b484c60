"""Random changes of training tiles and their boxes. The only module that knows albumentations."""

import os
import random
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16

from defects_in_welds.boxes import LEAST_SIDE_PX
from defects_in_welds.data.grey_levels import to_unit_float32
from defects_in_welds.params import AugmentationParams

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version

import albumentations
import cv2


class Augmentation:
    """Flips, turns, scale, brightness, contrast and noise, the same for the same seed."""

    def __init__(self, augmentation: AugmentationParams, min_visible_share: float) -> None:
        """Build the pipeline.

        Args:
            augmentation: What is changed, and how far.
            min_visible_share: Share of a box that must stay in the tile when it is enlarged, for the box to stay.
        """
        limit = augmentation.scale_limit
        self._pipeline = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=augmentation.horizontal_flip),
                albumentations.VerticalFlip(p=augmentation.vertical_flip),
                albumentations.RandomRotate90(p=augmentation.quarter_turns),
                # Repeated border pixels, as in the tiles of small films, and not mirrored ones: those would show flaws
                # a second time.
                albumentations.Affine(
                    scale=(1 - limit, 1 + limit),
                    keep_ratio=True,
                    border_mode=cv2.BORDER_REPLICATE,
                    p=float(limit > 0),
                ),
                albumentations.RandomBrightnessContrast(
                    brightness_limit=augmentation.brightness_limit, contrast_limit=augmentation.contrast_limit, p=1
                ),
                albumentations.GaussNoise(
                    std_range=(0, augmentation.noise_std_max), p=float(augmentation.noise_std_max > 0)
                ),
            ],
            bbox_params=albumentations.BboxParams(
                format="pascal_voc",
                label_fields=["rows"],
                min_visibility=min_visible_share,
                min_width=LEAST_SIDE_PX,
                min_height=LEAST_SIDE_PX,
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
        # One shared stream: the pipeline's own set_random_seed would seed every step alike, so that a tile is flipped
        # upside down whenever it is flipped sideways.
        self._pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        # 8-bit arithmetic is fastest, but would lose the grey levels of deeper films.
        is_full_8_bit = pixels.dtype == np.uint8 and bit_depth == 8
        image = pixels if is_full_8_bit else to_unit_float32(pixels, bit_depth)
        changed = self._pipeline(image=image, bboxes=boxes_xyxy, rows=np.arange(len(boxes_xyxy)))
        unit = to_unit_float32(changed["image"], bit_depth) if is_full_8_bit else changed["image"]
        boxes = np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4)
        return unit, boxes, np.asarray(changed["rows"], dtype=np.int64)

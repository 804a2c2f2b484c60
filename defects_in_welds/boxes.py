"""Boxes: half-open ``xyxy`` in pixels, so that the width is ``x1 - x0`` and the first pixel spans 0 to 1."""

import numpy as np
from jaxtyping import Float

LEAST_SIDE_PX = 0.5
"""A box with a shorter side, in pixels, shows nothing that could be found: it counts as empty."""


def xywh_to_xyxy(boxes_xywh: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes 4"]:
    """Convert from left, top, width, height, as COCO has it."""
    boxes = np.asarray(boxes_xywh)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes_xyxy: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes 4"]:
    """Convert to left, top, width, height, as COCO has it."""
    boxes = np.asarray(boxes_xyxy)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def cxcywh_to_xyxy(boxes_cxcywh: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, "boxes 4"]:
    """Convert from centre, width, height, as YOLO has it."""
    boxes = np.asarray(boxes_cxcywh)
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def areas(boxes_xyxy: Float[np.ndarray, "boxes 4"]) -> Float[np.ndarray, " boxes"]:
    """Compute areas, in square pixels; 0 for empty or inverted boxes."""
    sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    return sides[:, 0] * sides[:, 1]


def clip(
    boxes_xyxy: Float[np.ndarray, "boxes 4"], window_xyxy: tuple[float, float, float, float]
) -> Float[np.ndarray, "boxes 4"]:
    """Cut boxes to a window; one that lies outside becomes empty."""
    x0, y0, x1, y1 = window_xyxy
    return np.clip(boxes_xyxy, [x0, y0, x0, y0], [x1, y1, x1, y1])


def rescale(
    boxes_xyxy: Float[np.ndarray, "boxes 4"], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> Float[np.ndarray, "boxes 4"]:
    """Carry boxes to the same image in another size, edge to edge."""
    (from_height, from_width), (to_height, to_width) = from_hw, to_hw
    x, y = to_width / from_width, to_height / from_height
    return np.asarray(boxes_xyxy, dtype=np.float64) * [x, y, x, y]


def intersections(a_xyxy: Float[np.ndarray, "a 4"], b_xyxy: Float[np.ndarray, "b 4"]) -> Float[np.ndarray, "a b"]:
    """Compute the shared area of every pair, in square pixels."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    return sides[..., 0] * sides[..., 1]


def iou(a_xyxy: Float[np.ndarray, "a 4"], b_xyxy: Float[np.ndarray, "b 4"]) -> Float[np.ndarray, "a b"]:
    """Compute intersection over union of every pair; 0 where both boxes are empty."""
    shared = intersections(a_xyxy, b_xyxy)
    union = areas(a_xyxy)[:, None] + areas(b_xyxy)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

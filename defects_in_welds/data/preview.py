"""A contact sheet of training tiles as training sees them, with their boxes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.augmentation import Augmentation
from defects_in_welds.data.class_colours import class_colour
from defects_in_welds.data.detection_dataset import read_tile
from defects_in_welds.data.grey_levels import percentile_window, window_level
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.params import AugmentationParams

_COLUMNS, _ROWS = 4, 3
_TILE_INCHES = 3.0
_DPI = 130
_MOST_NAMES = 8


@rc_context({"text.parse_math": False})  # a pair of dollar signs in a name is no formula
def draw_preview(store: TensorStore, augmentation: AugmentationParams, seed: int, path: Path) -> None:
    """Draw some training tiles, changed at random if training will change them.

    Args:
        store: The prepared data.
        augmentation: How training changes tiles.
        seed: Of the choice of tiles.
        path: The picture to write.
    """
    manifest = store.manifest
    augment = Augmentation(augmentation, manifest.min_visible_share) if manifest.augmentations else None
    chosen = choose_tiles(store, _COLUMNS * _ROWS, seed)
    rows = -(-len(chosen) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _TILE_INCHES, rows * (_TILE_INCHES + 0.2) + 0.7), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, index in zip(axes, chosen, strict=False):
        image, boxes, labels, _ = read_tile(store, index, augment, seed=(seed, 0, index))
        axis.set_title(_caption(store, index), fontsize=7, color="0.3", pad=3)
        _draw_tile(axis, image, boxes, labels, manifest.defect_classes)
    change = "augmented as in training" if augment else "as in training, not augmented"
    figure.suptitle(f"Training tiles of {manifest.img_size} px, {change}", fontsize=12)
    keys = [Patch(color=class_colour(label), label=name) for label, name in enumerate(manifest.defect_classes, start=1)]
    figure.legend(handles=keys, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    # Without the date and version that matplotlib writes by itself, the same data gives the same bytes.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})


def choose_tiles(store: TensorStore, count: int, seed: int) -> list[int]:
    """Choose training tiles, class by class in turn, so that rare classes are seen; sorted."""
    train = store.tile_indices(Split.TRAIN)
    order = [train[i] for i in np.random.default_rng(seed).permutation(len(train))]
    tiles = store.manifest.tiles
    classes = range(1, len(store.manifest.defect_classes) + 1)
    queues = [[index for index in order if label in tiles[index].labels] for label in classes]
    in_turn = [queue[place] for place in range(len(order)) for queue in queues if place < len(queue)]
    return sorted(list(dict.fromkeys(in_turn + order))[:count])


def _caption(store: TensorStore, index: int) -> str:
    name = Path(store.film_of(index).name).name
    x0, y0, _, _ = store.manifest.tiles[index].xyxy
    return f"{name if len(name) <= 32 else name[:31] + '…'}  ({x0}, {y0})"


def _draw_tile(
    axis: Axes,
    image: Float32[np.ndarray, "height width"],
    boxes_xyxy: Float32[np.ndarray, "boxes 4"],
    labels: Int64[np.ndarray, " boxes"],
    defect_classes: Sequence[str],
) -> None:
    height, width = image.shape
    # More names than this hide the flaws; the colours tell the class as well.
    is_named = len(defect_classes) > 1 and len(labels) <= _MOST_NAMES
    shown = window_level(image, *percentile_window(image))
    axis.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="antialiased")
    for (x0, y0, x1, y1), label in zip(boxes_xyxy.tolist(), labels.tolist(), strict=True):
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, linewidth=1.2, edgecolor=class_colour(label)))
        if not is_named:
            continue
        is_at_top, is_at_right = y0 < 0.06 * height, x0 > 0.75 * width
        axis.annotate(
            defect_classes[label - 1],
            (x1 if is_at_right else x0, y1 if is_at_top else y0),
            xytext=(0, -2.5 if is_at_top else 2.5),
            textcoords="offset points",
            va="top" if is_at_top else "bottom",
            ha="right" if is_at_right else "left",
            color=class_colour(label),
            fontsize=6.5,
            bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.65, "pad": 0.8},
        )
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)

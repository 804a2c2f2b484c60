"""Cut radiographs into square tiles, and carry boxes from the film to its tiles.

A tile shows a flaw where the flaw's visible part is a fair share of what any tile could show of it: a flaw longer than
a tile is present in every tile that it crosses, one that reaches in by a corner is not. A flaw of which no tile shows a
fair share is present in the tile that shows the most of it.
"""

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped

from defects_in_welds import boxes


def plan_tiles(image_hw: tuple[int, int], tile_px: int, overlap_px: int) -> Int[np.ndarray, "tiles 4"]:
    """Place the fewest tiles that cover a radiograph with at least the asked overlap.

    Args:
        image_hw: Image height and width, in pixels.
        tile_px: Tile side, in pixels.
        overlap_px: Least border that neighbours share, in pixels. An indication no larger than this lies whole in at
            least one tile.

    Returns:
        Half-open ``xyxy`` boxes in image pixels, in reading order; cut to the image where that is smaller than a tile.

    Raises:
        ValueError: If the image has no pixels, or the overlap is not smaller than the tile.

    References:
        Akyon et al. 2022, arXiv:2202.06934, on inference over overlapping slices.
    """
    height, width = image_hw
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height}x{width} px has no pixels to tile")
    if not 0 <= overlap_px < tile_px:
        raise ValueError(f"an overlap of {overlap_px} px does not lie in 0 to below the tile side of {tile_px} px")
    return np.array(
        [
            (x0, y0, min(x0 + tile_px, width), min(y0 + tile_px, height))
            for y0 in _starts(height, tile_px, overlap_px)
            for x0 in _starts(width, tile_px, overlap_px)
        ],
        dtype=np.int64,
    )


def _starts(length_px: int, tile_px: int, overlap_px: int) -> list[int]:
    if length_px <= tile_px:
        return [0]
    gaps = -(-(length_px - tile_px) // (tile_px - overlap_px))
    return [i * (length_px - tile_px) // gaps for i in range(gaps + 1)]


def cut_tile(
    pixels: Shaped[np.ndarray, "height width"], tile_xyxy: Int[np.ndarray, "4"], tile_px: int
) -> Shaped[np.ndarray, "tile tile"]:
    """Cut a tile out of a film, grey levels untouched.

    Args:
        pixels: The film.
        tile_xyxy: One box of `plan_tiles`.
        tile_px: Tile side, in pixels; a film smaller than this is continued to the right and below by its last pixels.

    Returns:
        The tile; where the film is no smaller, a view of it.
    """
    x0, y0, x1, y1 = tile_xyxy
    tile = pixels[y0:y1, x0:x1]
    missing = (0, tile_px - tile.shape[0]), (0, tile_px - tile.shape[1])
    return np.pad(tile, missing, mode="edge") if np.any(missing) else tile


def boxes_in_tile(
    boxes_xyxy: Float[np.ndarray, "boxes 4"], tile_xyxy: Int[np.ndarray, "4"], min_visible_share: float
) -> tuple[Int[np.ndarray, " kept"], Float32[np.ndarray, "kept 4"]]:
    """Find the flaws that a tile shows.

    Args:
        boxes_xyxy: Boxes in film pixels, none of them empty.
        tile_xyxy: The tile in film pixels.
        min_visible_share: Least visible part of a box that counts, as a share of the most that a tile of this size
            could show of it.

    Returns:
        Indices of the boxes that count, ascending, and what is visible of them, in tile pixels.
    """
    film_boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    x0, y0, x1, y1 = (float(edge) for edge in tile_xyxy)
    visible = boxes.clip(film_boxes, (x0, y0, x1, y1))
    sides = visible[:, 2:] - visible[:, :2]
    largest_sides = np.minimum(film_boxes[:, 2:] - film_boxes[:, :2], [x1 - x0, y1 - y0])
    # Less than a pixel cannot be seen; a flaw that is smaller itself must still be whole.
    is_seen = (sides >= np.minimum(largest_sides, 1)).all(axis=1)
    is_large = sides.prod(axis=1) >= min_visible_share * largest_sides.prod(axis=1)
    (kept,) = np.nonzero(is_seen & is_large)
    return kept, (visible[kept] - [x0, y0, x0, y0]).astype(np.float32)


def share_out_boxes(
    boxes_xyxy: Float[np.ndarray, "boxes 4"], tiles_xyxy: Int[np.ndarray, "tiles 4"], min_visible_share: float
) -> list[tuple[Int[np.ndarray, " kept"], Float32[np.ndarray, "kept 4"]]]:
    """Find the flaws that each tile of a film shows, so that each flaw is in at least one.

    Args:
        boxes_xyxy: Boxes in film pixels, none of them empty.
        tiles_xyxy: The tiles, which cover the film.
        min_visible_share: As in `boxes_in_tile`.

    Returns:
        For each tile what `boxes_in_tile` gives, and beyond it the boxes that no tile shows enough of, in the first of
        the tiles that show the most.
    """
    film_boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    windows = [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in tiles_xyxy]
    visible = np.stack([boxes.clip(film_boxes, window) for window in windows])
    is_kept = np.zeros(visible.shape[:2], dtype=np.bool_)
    for index, tile in enumerate(tiles_xyxy):
        is_kept[index, boxes_in_tile(film_boxes, tile, min_visible_share)[0]] = True
    (lost,) = np.nonzero(~is_kept.any(axis=0))
    areas = np.stack([boxes.areas(parts) for parts in visible])
    is_kept[areas[:, lost].argmax(axis=0), lost] = True
    return [
        (np.flatnonzero(kept), (parts[kept] - [x0, y0, x0, y0]).astype(np.float32))
        for kept, parts, (x0, y0, _, _) in zip(is_kept, visible, windows, strict=True)
    ]

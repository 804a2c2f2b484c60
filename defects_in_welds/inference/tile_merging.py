"""Bring the detections of a film's overlapping tiles together into those of the film.

Two things go wrong at the seams of tiles. A flaw in the overlap is found in both tiles: non-maximum suppression drops
the weaker one. A flaw that reaches out of a tile is found in pieces, one in each tile: pieces that agree about what
both tiles see are joined, and a piece that agrees less but lies on a flaw that another tile shows better is dropped.
Tiles without overlap have nothing to agree about: pieces stay pieces.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torchvision.ops import batched_nms

from defects_in_welds import boxes
from defects_in_welds.inference.detections import Detections

BORDER_TOUCH_SHARE = 0.1
"""How near to the tile's border a box must end for its flaw to be taken as cut by the border, as a share of the box's
side across the border: detectors place the ends of long boxes less exactly than those of short ones."""

BORDER_TOUCH_PX = 2.0, 16.0
"""The least and the most that this share may come to, in pixels."""

MIN_PIECE_INSIDE = 0.8
"""Share of its area from which a cut piece belongs to the flaw of another tile that it lies on."""


def merge_tiles(
    boxes_xyxy: Float[np.ndarray, "boxes 4"],
    scores: Float[np.ndarray, " boxes"],
    labels: Int[np.ndarray, " boxes"],
    tile_of: Int[np.ndarray, " boxes"],
    tiles_xyxy: Int[np.ndarray, "tiles 4"],
    film_hw: tuple[int, int],
    merge_iou: float,
) -> Detections:
    """Merge the detections of all tiles of a film.

    The order of the tiles and of their detections has no influence on the result.

    Args:
        boxes_xyxy: Boxes in film pixels, each inside its tile.
        scores: From 0 to 1.
        labels: Class ids.
        tile_of: Row of ``tiles_xyxy`` that each detection comes from.
        tiles_xyxy: Places of the tiles in film pixels.
        film_hw: Film height and width, in pixels; boxes are cut to it.
        merge_iou: IoU from which two boxes of a class are one flaw, and from which two pieces agree inside the area
            that both tiles see.

    Returns:
        The film's detections, best first.
    """
    height, width = film_hw
    tile_boxes = np.asarray(tiles_xyxy, dtype=np.float64).reshape(-1, 4)[tile_of]
    film_boxes = boxes.clip(np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4), (0, 0, width, height))

    # Ties are broken by what the detections say, never by the order in which they come.
    order = np.lexsort((*tile_boxes.T, *film_boxes.T, labels, -scores))
    order = order[boxes.areas(film_boxes)[order] > 0]
    film_boxes, tile_boxes, scores, labels = film_boxes[order], tile_boxes[order], scores[order], labels[order]

    pairs = _overlapping_pairs(film_boxes, labels)
    first, second = _pieces_of_one_flaw(film_boxes, tile_boxes, pairs, merge_iou)
    # The best piece of a flaw comes first in it, and gives score and class.
    best, flaw_of = np.unique(_components(len(film_boxes), first, second), return_inverse=True)
    unions, scores, labels = film_boxes[best], scores[best], labels[best]
    np.minimum.at(unions[:, :2], flaw_of, film_boxes[:, :2])
    np.maximum.at(unions[:, 2:], flaw_of, film_boxes[:, 2:])

    piece, whole = _pieces_inside_flaws(film_boxes, tile_boxes, pairs, flaw_of, unions)
    np.maximum.at(scores, whole, scores[piece])
    is_flaw = np.ones(len(unions), dtype=np.bool_)
    is_flaw[piece] = False
    unions, scores, labels = unions[is_flaw], scores[is_flaw], labels[is_flaw]

    kept = batched_nms(torch.from_numpy(unions), torch.from_numpy(scores).double(), torch.from_numpy(labels), merge_iou)
    kept = kept.numpy()
    return Detections(unions[kept].astype(np.float32), scores[kept].astype(np.float32), labels[kept].astype(np.int64))


def _pieces_of_one_flaw(
    film_boxes: Float[np.ndarray, "boxes 4"],
    tile_boxes: Float[np.ndarray, "boxes 4"],
    pairs: tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]],
    min_agreement: float,
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Pair boxes that show parts of one flaw in two tiles.

    Two boxes make a pair if the border of one tile cuts one of them where the other tile goes on, if they agree inside
    the area that both tiles see, and if neither agrees better with another box of the other's tile. The last condition
    keeps a sloppy second detection from stretching a good one.
    """
    first, second = pairs
    a, b, tile_a, tile_b = film_boxes[first], film_boxes[second], tile_boxes[first], tile_boxes[second]
    is_cut = _is_cut(a, tile_a, tile_b) | _is_cut(b, tile_b, tile_a)
    first, second, a, b, tile_a, tile_b = (x[is_cut] for x in (first, second, a, b, tile_a, tile_b))

    shared = _paired_intersections(tile_a, tile_b)
    part_a, part_b = _paired_intersections(a, shared), _paired_intersections(b, shared)
    common = boxes.areas(_paired_intersections(part_a, part_b))
    union = boxes.areas(part_a) + boxes.areas(part_b) - common
    agreement = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    is_best = _is_mutually_best(agreement, first, second, tile_a, tile_b)
    is_one = is_best & (agreement > 0) & (agreement >= min_agreement)
    return first[is_one], second[is_one]


def _pieces_inside_flaws(
    film_boxes: Float[np.ndarray, "boxes 4"],
    tile_boxes: Float[np.ndarray, "boxes 4"],
    pairs: tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]],
    flaw_of: Int[np.ndarray, " boxes"],
    unions: Float[np.ndarray, "flaws 4"],
) -> tuple[Int[np.ndarray, " pieces"], Int[np.ndarray, " pieces"]]:
    """Find single boxes that are pieces of another flaw, and that flaw, both as rows of ``unions``.

    A piece is cut by its tile's border where another tile goes on, and lies mostly inside a flaw of that tile which is
    joined or has the better score.
    """
    box, other = (np.concatenate(sides) for sides in (pairs, pairs[::-1]))
    piece, whole = flaw_of[box], flaw_of[other]
    is_joined = np.bincount(flaw_of, minlength=len(unions)) > 1
    is_inside = boxes.areas(_paired_intersections(film_boxes[box], unions[whole])) >= MIN_PIECE_INSIDE * boxes.areas(
        film_boxes[box]
    )
    is_piece = (
        ~is_joined[piece]
        & (is_joined[whole] | (whole < piece))
        & is_inside
        & _is_cut(film_boxes[box], tile_boxes[box], tile_boxes[other])
    )
    return piece[is_piece], whole[is_piece]


def _overlapping_pairs(
    film_boxes: Float[np.ndarray, "boxes 4"], labels: Int[np.ndarray, " boxes"]
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """List the pairs of boxes of one class that overlap; films hold too many boxes to look at every pair."""
    # Sorted by left edge, the partners of a box are a run: those that begin before it ends. Classes are moved apart.
    apart = labels * (film_boxes.max(initial=0) + 1)
    left, right = film_boxes[:, 0] + apart, film_boxes[:, 2] + apart
    order = np.argsort(left, kind="stable")
    run_ends = np.searchsorted(left[order], right[order], side="left")
    place = np.arange(len(order))
    run_lengths = np.maximum(run_ends - place - 1, 0)
    first = np.repeat(place, run_lengths)
    second = first + 1 + np.arange(run_lengths.sum()) - np.repeat(np.cumsum(run_lengths) - run_lengths, run_lengths)
    first, second = order[first], order[second]
    overlap = boxes.areas(_paired_intersections(film_boxes[first], film_boxes[second])) > 0
    return first[overlap], second[overlap]


def _is_cut(
    film_boxes: Float[np.ndarray, "pairs 4"], own: Float[np.ndarray, "pairs 4"], other: Float[np.ndarray, "pairs 4"]
) -> Bool[np.ndarray, " pairs"]:
    """Tell which boxes end at a border of their own tile beyond which the other tile goes on."""
    reach = np.clip(BORDER_TOUCH_SHARE * (film_boxes[:, 2:] - film_boxes[:, :2]), *BORDER_TOUCH_PX)
    low = (film_boxes[:, :2] - own[:, :2] <= reach) & (other[:, :2] < own[:, :2])
    high = (own[:, 2:] - film_boxes[:, 2:] <= reach) & (other[:, 2:] > own[:, 2:])
    return (low | high).any(axis=1)


def _paired_intersections(
    a_xyxy: Float[np.ndarray, "pairs 4"], b_xyxy: Float[np.ndarray, "pairs 4"]
) -> Float[np.ndarray, "pairs 4"]:
    """Intersect boxes row by row; what does not overlap becomes inverted, which has no area."""
    return np.concatenate([np.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])], axis=1)


def _is_mutually_best(
    agreement: Float[np.ndarray, " pairs"],
    first: Int[np.ndarray, " pairs"],
    second: Int[np.ndarray, " pairs"],
    tile_first: Float[np.ndarray, "pairs 4"],
    tile_second: Float[np.ndarray, "pairs 4"],
) -> Bool[np.ndarray, " pairs"]:
    """Tell which pairs are the best that either of their boxes can make with the other's tile."""
    box = np.concatenate([first, second])
    partner_tile = np.concatenate([tile_second, tile_first])
    order = np.argsort(-np.concatenate([agreement, agreement]), kind="stable")
    _, first_at = np.unique(np.column_stack([box, partner_tile])[order], axis=0, return_index=True)
    is_best = np.zeros(len(box), dtype=np.bool_)
    is_best[order[first_at]] = True
    return is_best[: len(agreement)] & is_best[len(agreement) :]


def _components(
    count: int, first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
) -> Int[np.ndarray, " count"]:
    """Find connected components; each takes the lowest index among its members as its name."""
    component = np.arange(count)
    while True:
        lowest = component.copy()
        np.minimum.at(lowest, first, component[second])
        np.minimum.at(lowest, second, component[first])
        lowest = lowest[lowest]  # follow the names, so that long chains need few rounds
        if np.array_equal(lowest, component):
            return component
        component = lowest

"""Which boxes overlap, and who gets which flaw: what all matchings have in common, without a loop over boxes."""

import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

_PAIRS_AT_ONCE = 1 << 18  # keeps memory small where films hold thousands of boxes


def overlapping_pairs(
    a_group: Int[np.ndarray, " a"],
    a_xyxy: Float[np.ndarray, "a 4"],
    b_group: Int[np.ndarray, " b"],
    b_xyxy: Float[np.ndarray, "b 4"],
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    """Find the boxes of the same group that overlap, such as those of the same film.

    Args:
        a_group: In any order.
        a_xyxy: Half-open boxes, in pixels.
        b_group: In rising order.
        b_xyxy: Half-open boxes, in pixels.

    Returns:
        Places of the first boxes, in rising order; of the second ones; and the areas that they share, in square pixels.
    """
    first, end = np.searchsorted(b_group, a_group, "left"), np.searchsorted(b_group, a_group, "right")
    parts = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    for chunk in _chunks(end - first):
        counts = (end - first)[chunk]
        a = np.repeat(np.arange(chunk.start, chunk.stop), counts)
        b = np.arange(counts.sum()) + np.repeat(first[chunk] - np.cumsum(counts) + counts, counts)
        shared = np.ones(len(a))
        for low, high in ((0, 2), (1, 3)):
            side = np.minimum(a_xyxy[:, high][a], b_xyxy[:, high][b]) - np.maximum(a_xyxy[:, low][a], b_xyxy[:, low][b])
            overlap = side > 0
            a, b, shared = a[overlap], b[overlap], (shared * side)[overlap]
        parts.append((a, b, shared))
    a, b, shared = (np.concatenate(column) for column in zip(*parts, strict=True))
    return a, b, shared


def _chunks(counts: Int[np.ndarray, " items"]) -> Iterator[slice]:
    """Cut a sequence where its counts add up to `_PAIRS_AT_ONCE`, or to more where one item has more."""
    part = np.cumsum(counts) // _PAIRS_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(counts)]
    return (slice(start, stop) for start, stop in itertools.pairwise(edges))


def grant_wishes(
    person: Int[np.ndarray, " wishes"], seat: Int[np.ndarray, " wishes"], seat_count: int
) -> Int[np.ndarray, " granted"]:
    """Let each person in turn take the free seat that they like best.

    All ask at once for what they like best; each seat keeps the one who comes first, and the others ask for their next.
    Since all seats agree on who comes first, this ends where taking turns would.

    Args:
        person: Who wishes, in their order; each one's dearest wish first.
        seat: What they wish.
        seat_count: One more than the largest seat.

    Returns:
        Places of the wishes that come true.

    References:
        Gale and Shapley 1962, American Mathematical Monthly 69, 9: deferred acceptance.
    """
    _, turn, counts = np.unique(person, return_index=True, return_counts=True)
    end = turn + counts
    held_by = np.full(seat_count, len(turn))
    asking = np.arange(len(turn))
    while len(asking):
        np.minimum.at(held_by, seat[turn[asking]], asking)
        (hoping,) = np.nonzero(turn < end)
        asking = hoping[held_by[seat[turn[hoping]]] != hoping]
        turn[asking] += 1
        asking = asking[turn[asking] < end[asking]]
    return turn[turn < end]

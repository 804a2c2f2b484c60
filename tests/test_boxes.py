import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds import boxes

corners = st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=6)


def to_boxes(raw: list[tuple[int, int, int, int]]) -> np.ndarray:
    array = np.array(raw, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([np.minimum(array[:, :2], array[:, 2:]), np.maximum(array[:, :2], array[:, 2:])], axis=1)


def mask(box: np.ndarray) -> np.ndarray:
    canvas = np.zeros((12, 12), dtype=bool)
    x0, y0, x1, y1 = box.astype(int)
    canvas[y0:y1, x0:x1] = True
    return canvas


@given(corners, corners)
def test_iou_counts_pixels(a, b):
    a, b = to_boxes(a), to_boxes(b)
    expected = np.zeros((len(a), len(b)))
    for i, first in enumerate(map(mask, a)):
        for j, second in enumerate(map(mask, b)):
            union = (first | second).sum()
            expected[i, j] = (first & second).sum() / union if union else 0
    assert boxes.iou(a, b) == pytest.approx(expected)


@given(corners)
def test_conversions_come_back(raw):
    xyxy = to_boxes(raw)
    assert boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(xyxy)) == pytest.approx(xyxy)
    centred = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    assert boxes.cxcywh_to_xyxy(centred) == pytest.approx(xyxy)


@given(corners)
def test_clip_is_the_intersection_with_the_window(raw):
    xyxy = to_boxes(raw)
    window = (3, 2, 9, 11)
    clipped = boxes.clip(xyxy, window)
    assert boxes.areas(clipped) == pytest.approx(boxes.intersections(xyxy, np.array([window], dtype=float))[:, 0])


def test_inverted_boxes_have_no_area():
    assert boxes.areas(np.array([[5.0, 5.0, 2.0, 9.0]])) == [0]


@given(raw=corners, from_hw=st.tuples(*[st.integers(12, 500)] * 2), to_hw=st.tuples(*[st.integers(1, 500)] * 2))
def test_rescaled_boxes_cover_the_same_share_of_the_image_and_come_back(raw, from_hw, to_hw):
    before = to_boxes(raw)
    after = boxes.rescale(before, from_hw, to_hw)
    shares = (boxes.areas(of) / np.prod(size) for of, size in ((before, from_hw), (after, to_hw)))
    np.testing.assert_allclose(*shares, rtol=1e-12)
    np.testing.assert_array_equal(boxes.rescale(after, to_hw, from_hw).astype(np.float32), before.astype(np.float32))
    np.testing.assert_array_equal(boxes.rescale(before, from_hw, from_hw), before)

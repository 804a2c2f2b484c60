import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.ops import MultiScaleRoIAlign

from defects_in_welds.model.faster_rcnn import build_detector
from defects_in_welds.model.roi_pooling import SparseRoIAlign

SETTINGS = (["0", "1"], (3, 2), 2)
IMAGE_HW = (64, 96)
CHANNELS = 5

coordinates = st.floats(-20, 120, width=32) | st.sampled_from([0.0, 64.0, 96.0])
box_lists = st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=4)


def pyramid(images, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    height, width = IMAGE_HW
    return {
        name: torch.randn(images, CHANNELS, height // stride, width // stride, generator=generator)
        .to(dtype, memory_format=torch.channels_last)
        .requires_grad_()
        for name, stride in (("0", 16), ("1", 32), ("pool", 64))
    }


def corners(boxes):
    """Order the coordinates of boxes."""
    values = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return torch.cat([torch.minimum(values[:, :2], values[:, 2:]), torch.maximum(values[:, :2], values[:, 2:])], dim=1)


def pool(pooling, boxes, dtype=torch.float32):
    """Pool, and send a gradient back."""
    features = pyramid(len(boxes), dtype)
    pooled = pooling(features, boxes, [IMAGE_HW] * len(boxes))
    pooled.backward(torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1)).to(dtype))
    return pooled.detach(), features["0"].grad, features["1"].grad


@given(boxes=st.lists(box_lists, min_size=1, max_size=3))
@example(boxes=[[]])
@example(boxes=[[], [(0, 0, 96, 64)]])
@example(boxes=[[(96, 64, 96, 64), (0, 0, 0, 0), (5, 5, 5.5, 60), (-16, -16, 112, 80), (94, 62, 97, 66)]])
@settings(deadline=None)
def test_features_and_gradients_are_those_of_torchvision(boxes):
    boxes = [corners(of_image) for of_image in boxes]
    for found, expected in zip(
        pool(SparseRoIAlign(*SETTINGS), boxes), pool(MultiScaleRoIAlign(*SETTINGS), boxes), strict=True
    ):
        torch.testing.assert_close(found, expected)


def some_boxes(count):
    start = torch.rand(count, 2, generator=torch.Generator().manual_seed(2)) * 60
    return [torch.cat([start, start + torch.tensor([30.0, 8.0])], dim=1)] * 2


def test_bfloat16_is_kept_and_differs_by_its_rounding_alone():
    with torch.autocast("cpu", torch.bfloat16):
        found = pool(SparseRoIAlign(*SETTINGS), some_boxes(20), torch.bfloat16)
        expected = pool(MultiScaleRoIAlign(*SETTINGS), some_boxes(20), torch.bfloat16)
    for values, wanted in zip(found, expected, strict=True):
        assert values.dtype == wanted.dtype == torch.bfloat16
        torch.testing.assert_close(values, wanted, rtol=0.02, atol=0.02)


def test_two_runs_are_equal_to_the_last_bit():
    first, second = (pool(SparseRoIAlign(*SETTINGS), some_boxes(300)) for _ in range(2))
    for values, wanted in zip(first, second, strict=True):
        assert torch.equal(values, wanted)


def test_channels_are_last_in_memory():
    pooled = SparseRoIAlign(*SETTINGS)(pyramid(2), some_boxes(20), [IMAGE_HW] * 2)
    assert pooled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_same():
    boxes = some_boxes(20)
    features = {name: values.detach() for name, values in pyramid(2).items()}
    on_cpu = SparseRoIAlign(*SETTINGS)(features, boxes, [IMAGE_HW] * 2)
    features = {name: values.cuda() for name, values in features.items()}
    on_gpu = SparseRoIAlign(*SETTINGS)(features, [of_image.cuda() for of_image in boxes], [IMAGE_HW] * 2)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu)


def test_the_detector_pools_with_it_and_its_file_is_as_before(small_model, input_spec):
    detector = build_detector(small_model, ("crack",), input_spec)
    assert isinstance(detector.roi_heads.box_roi_pool, SparseRoIAlign)
    assert not any("box_roi_pool" in name for name in detector.state_dict())

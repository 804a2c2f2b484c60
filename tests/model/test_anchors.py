import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from defects_in_welds.model.anchors import ExactAnchors, anchor_sizes_of_levels
from defects_in_welds.params import ParamsError

SIZES = ((8,), (16,), (32,))
RATIOS = (0.2, 1.0, 5.0)


def images_and_features(side_px, dtype=torch.float32):
    images = ImageList(torch.zeros(2, 3, side_px, side_px), [(side_px, side_px)] * 2)
    return images, [torch.zeros(2, 1, side_px // stride, side_px // stride, dtype=dtype) for stride in (4, 8, 16)]


def test_anchors_equal_those_of_torchvision():
    anchors, expected = ExactAnchors(SIZES, RATIOS), AnchorGenerator(SIZES, (RATIOS,) * 3)
    for side_px in (64, 96, 64):
        for found, wanted in zip(
            anchors(*images_and_features(side_px)), expected(*images_and_features(side_px)), strict=True
        ):
            assert torch.equal(found, wanted)


def test_anchors_stay_exact_where_the_features_are_bfloat16():
    anchors = ExactAnchors(SIZES, RATIOS)
    exact = anchors(*images_and_features(640))[0].clone()
    images, features = images_and_features(640, torch.bfloat16)
    assert torch.equal(ExactAnchors(SIZES, RATIOS)(images, features)[0], exact)
    rounded = AnchorGenerator(SIZES, (RATIOS,) * 3)(images, features)[0]
    assert (rounded.float() - exact).abs().max() > 1


def test_anchors_that_prediction_has_made_serve_training():
    anchors = ExactAnchors(SIZES, RATIOS)
    with torch.inference_mode():
        anchors(*images_and_features(64))
    assert not anchors(*images_and_features(64))[0].is_inference()


def test_each_level_of_a_resnet_takes_one_size():
    assert anchor_sizes_of_levels([8, 16, 32, 64, 128], levels=5) == ((8,), (16,), (32,), (64,), (128,))


def test_each_level_of_a_mobilenet_takes_all_sizes():
    assert anchor_sizes_of_levels([8, 16], levels=3) == ((8, 16), (8, 16), (8, 16))


def test_a_resnet_refuses_another_number_of_sizes():
    with pytest.raises(ParamsError, match=r"model\.anchor_sizes_px is \[8, 16\]; allowed: 5 sizes"):
        anchor_sizes_of_levels([8, 16], levels=5)

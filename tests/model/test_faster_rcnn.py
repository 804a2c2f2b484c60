from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models.detection import transform as torchvision_transform
from torchvision.ops import FrozenBatchNorm2d

from defects_in_welds.model.faster_rcnn import InputSpec, TileTransform, build_detector

CLASSES = ("gas pore", "crack", "slag inclusion")
TARGET = {"boxes": torch.tensor([[8.0, 10, 30, 20]]), "labels": torch.tensor([2])}
EMPTY_TARGET = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def transform_of(img_size):
    return TileTransform(InputSpec(img_size, grey_mean=0.4, grey_std=0.2), torch.channels_last)


def test_a_tile_is_normalised_once_and_never_scaled(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("scaled")

    monkeypatch.setattr(torchvision_transform, "_resize_image_and_masks", fail)
    tiles = [torch.rand(1, 64, 64), torch.rand(1, 64, 64)]
    batch, targets = transform_of(64)(tiles, [TARGET, EMPTY_TARGET])
    assert batch.image_sizes == [(64, 64), (64, 64)]
    assert batch.tensors.shape == (2, 3, 64, 64)
    assert batch.tensors.is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        torch.testing.assert_close(batch.tensors[:, channel], (torch.cat(tiles) - 0.4) / 0.2)
    assert torch.equal(targets[0]["boxes"], TARGET["boxes"])


def test_a_tile_whose_size_is_no_multiple_of_the_stride_is_padded():
    batch, _ = transform_of(50)([torch.ones(1, 50, 50)])
    assert batch.tensors.shape == (1, 3, 64, 64)
    assert batch.image_sizes == [(50, 50)]
    assert batch.tensors[..., 50:].abs().sum() == 0


def test_an_image_of_another_size_is_scaled_and_its_boxes_come_back():
    transform = transform_of(64).eval()
    batch, _ = transform([torch.rand(1, 128, 128)])
    assert batch.image_sizes == [(64, 64)]
    (found,) = transform.postprocess([{"boxes": torch.tensor([[1.0, 2, 3, 4]])}], batch.image_sizes, [(128, 128)])
    torch.testing.assert_close(found["boxes"], torch.tensor([[2.0, 4, 6, 8]]))


def test_more_than_one_channel_is_refused():
    with pytest.raises(ValueError, match="one channel"):
        transform_of(64)([torch.rand(3, 64, 64)])


@pytest.mark.parametrize(
    "architecture",
    ["fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_320_fpn"],
)
def test_every_architecture_learns_in_all_layers_from_a_random_start(params, input_spec, architecture):
    model = replace(params.model, architecture=architecture, trainable_backbone_layers=0, proposals=20)
    detector = build_detector(model, CLASSES, input_spec)
    assert all(parameter.requires_grad for parameter in detector.parameters())
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in detector.modules())
    assert detector.roi_heads.box_predictor.cls_score.out_features == len(CLASSES) + 1
    losses = detector([torch.rand(1, 64, 64)] * 2, [TARGET, EMPTY_TARGET])
    sum(losses.values()).backward()
    without = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    assert without == []


def test_boxes_are_computed_in_float32_under_mixed_precision(small_model, input_spec):
    detector = build_detector(small_model, CLASSES, input_spec)
    seen = []
    detector.rpn.register_forward_hook(lambda module, inputs, outputs: seen.extend(outputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector([torch.rand(1, 64, 64)] * 2, [TARGET, TARGET])
    assert {proposals.dtype for proposals in seen} == {torch.float32}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_a_batch_without_boxes_gives_finite_losses(small_model, input_spec):
    detector = build_detector(small_model, CLASSES, input_spec)
    losses = detector([torch.rand(1, 64, 64)] * 2, [EMPTY_TARGET] * 2)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_settings_reach_the_network(small_model, input_spec):
    model = replace(small_model, proposals=30, box_samples=40, detections_per_tile=7, score_threshold=0.1, nms_iou=0.3)
    detector = build_detector(model, CLASSES, input_spec)
    heads = detector.roi_heads
    assert (heads.detections_per_img, heads.score_thresh, heads.nms_thresh) == (7, 0.1, 0.3)
    assert heads.fg_bg_sampler.batch_size_per_image == 40
    assert detector.rpn._post_nms_top_n == {"training": 30, "testing": 30}
    detector.eval()
    assert len(detector([torch.rand(1, 64, 64)])[0]["boxes"]) <= 7


def test_frozen_layers_and_statistics_are_frozen(small_model, input_spec):
    model = replace(small_model, weights="some.pth", trainable_backbone_layers=0, frozen_batch_norm=True)
    body = build_detector(model, CLASSES, input_spec, load_weights=False).backbone.body
    assert not any(parameter.requires_grad for parameter in body.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in body.modules())


def test_frozen_norms_are_those_of_torchvision_and_keep_the_type(small_model, input_spec):
    model = replace(small_model, weights="some.pth", frozen_batch_norm=True)
    body = build_detector(model, CLASSES, input_spec, load_weights=False).backbone.body
    norm = next(module for module in body.modules() if isinstance(module, FrozenBatchNorm2d))
    for values in norm.buffers():
        values.copy_(torch.rand_like(values) + 0.5)
    features = torch.randn(2, len(norm.weight), 8, 8)
    torch.testing.assert_close(norm(features), FrozenBatchNorm2d.forward(norm, features))
    assert norm(features.bfloat16()).dtype == torch.bfloat16


def test_channels_last_is_a_choice(small_model, input_spec):
    weight = build_detector(small_model, CLASSES, input_spec).backbone.body["0"][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    plain = build_detector(replace(small_model, channels_last=False), CLASSES, input_spec)
    assert plain.backbone.body["0"][0].weight.is_contiguous()

"""A small detector."""

from dataclasses import replace

import pytest

from defects_in_welds.model.faster_rcnn import InputSpec

TILE_PX = 64


@pytest.fixture
def small_model(params):
    return replace(params.model, architecture="fasterrcnn_mobilenet_v3_large_320_fpn", proposals=50)


@pytest.fixture
def input_spec():
    return InputSpec(img_size=TILE_PX, grey_mean=0.4, grey_std=0.2)

import subprocess
import sys
from dataclasses import asdict, replace

import albumentations
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.data.augmentation import Augmentation, _TileChange
from defects_in_welds.params import AugmentationParams

SIDE = 64
NOTHING = AugmentationParams(0, 0, 0, 0, 0, 0, 0)
GEOMETRY = AugmentationParams(0.5, 0.5, 1.0, 0.3, 0, 0, 0)
NO_CHANGE = {"scale": 1, "flips_x": False, "flips_y": False, "turns": 0} | {
    "contrast": 1,
    "brightness": 0,
    "noise_std": 0,
    "noise_start": 0,
}
CHANGE = _TileChange(NOTHING)
EVERYTHING = AugmentationParams(0.5, 0.5, 0.5, 0.2, 0.2, 0.2, 0.05)


def bright_rectangle(x0, y0, x1, y1, dtype=np.uint8, level=200):
    tile = np.zeros((SIDE, SIDE), dtype=dtype)
    tile[y0:y1, x0:x1] = level
    return tile, np.array([[x0, y0, x1, y1]], dtype=np.float32)


def extent(unit_tile, level):
    ys, xs = np.nonzero(unit_tile > level / 2)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


@given(st.integers(0, 2**32), st.integers(16, 20), st.integers(16, 28), st.integers(24, 46), st.integers(30, 40))
def test_boxes_follow_their_pixels(seed, x0, y0, x1, y1):
    tile, boxes = bright_rectangle(x0, y0, x1, y1)
    unit, moved, rows = Augmentation(GEOMETRY, 0.3)(tile, 8, boxes, [seed])
    assert rows.tolist() == [0]
    # The half-level contour tells an edge to half a pixel, and OpenCV rounds its places to 1/32.
    np.testing.assert_allclose(moved[0], extent(unit, 200 / 255), atol=0.55)


@given(st.integers(0, 2**32))
def test_flips_and_turns_are_exact(seed):
    tile, boxes = bright_rectangle(3, 7, 21, 12)
    unit, moved, _ = Augmentation(replace(GEOMETRY, scale_limit=0), 0.3)(tile, 8, boxes, [seed])
    np.testing.assert_allclose(moved[0], extent(unit, 200 / 255), atol=1e-4)


def test_flips_are_independent_of_one_another():
    augmentation = Augmentation(replace(NOTHING, horizontal_flip=0.5, vertical_flip=0.5), 0.3)
    tile, boxes = bright_rectangle(0, 0, 8, 8)
    corners = {tuple(np.round(augmentation(tile, 8, boxes, [seed])[1][0, :2])) for seed in range(40)}
    assert len(corners) == 4


def test_the_same_seed_gives_the_same_tile_and_another_seed_another():
    tile = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    boxes = np.array([[10, 10, 30, 20]], dtype=np.float32)
    augmentation = Augmentation(EVERYTHING, 0.3)
    first, first_boxes, _ = augmentation(tile, 8, boxes, [1, 2, 3])
    other, _, _ = augmentation(tile, 8, boxes, [1, 2, 4])
    again, again_boxes, _ = Augmentation(EVERYTHING, 0.3)(tile, 8, boxes, [1, 2, 3])
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_boxes, again_boxes)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("dtype", "bit_depth"), [(np.uint8, 8), (np.uint8, 7), (np.uint16, 12), (np.uint16, 16)])
def test_no_change_is_no_loss(dtype, bit_depth):
    tile = np.random.default_rng(0).integers(0, 2**bit_depth, (SIDE, SIDE)).astype(dtype)
    unit, _, _ = Augmentation(NOTHING, 0.3)(tile, bit_depth, np.zeros((0, 4), np.float32), [0])
    assert unit.dtype == np.float32
    np.testing.assert_array_equal(np.rint(unit.astype(np.float64) * (2**bit_depth - 1)), tile)


def test_deep_films_keep_their_levels_through_intensity_changes():
    ramp = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) + 30000
    changes = replace(NOTHING, brightness_limit=0.1, contrast_limit=0.1)
    unit, _, _ = Augmentation(changes, 0.3)(ramp, 16, np.zeros((0, 4), np.float32), [5])
    assert len(np.unique(unit)) == SIDE * SIDE


@pytest.mark.parametrize("key", [key for key in asdict(NOTHING) if key != "scale_limit"])
def test_each_parameter_changes_the_tile(key):
    tile = np.random.default_rng(0).integers(60, 190, (SIDE, SIDE), dtype=np.uint8)
    augmentation = Augmentation(replace(NOTHING, **{key: 1.0}), 0.3)
    changed = [augmentation(tile, 8, np.zeros((0, 4), np.float32), [seed])[0] for seed in range(5)]
    assert any(not np.array_equal(unit, tile.astype(np.float32) / np.float32(255)) for unit in changed)


def test_contrast_and_brightness_are_those_of_albumentations():
    tile = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    theirs = albumentations.RandomBrightnessContrast(brightness_limit=(0.1, 0.1), contrast_limit=(0.3, 0.3), p=1)
    ours = CHANGE.apply(tile, **(NO_CHANGE | {"brightness": 0.1, "contrast": 1.3}))
    np.testing.assert_allclose(ours, theirs(image=tile)["image"], atol=1e-6)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.28])  # 80, 64 and 50 pixels shown
def test_scaling_is_that_of_a_warp(scale):
    tile = cv2.GaussianBlur(np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32), (0, 0), 3)
    shift = (SIDE - SIDE * scale) / 2 + (scale - 1) / 2  # half a pixel: OpenCV's places are the pixels' centres
    matrix = np.array([[scale, 0, shift], [0, scale, shift]])
    warped = cv2.warpAffine(tile, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ours = CHANGE.apply(tile, **(NO_CHANGE | {"scale": scale}))
    np.testing.assert_allclose(ours, warped, atol=0.005)  # a warp rounds places to 1/32


def test_noise_is_normal_and_another_one_each_time():
    grey = np.full((SIDE, SIDE), 128, dtype=np.uint8)
    drawn = np.stack([noise_of(grey, seed) for seed in range(50)])
    spreads = drawn.std(axis=(1, 2))
    assert spreads.min() < 0.01
    assert 0.04 < spreads.max() < 0.051
    unit = ((drawn - drawn.mean(axis=(1, 2), keepdims=True)) / spreads[:, None, None]).reshape(50, -1)
    assert abs((unit**4).mean() - 3) < 0.1
    correlations = np.corrcoef(unit) - np.eye(50)
    assert np.abs(correlations).max() < 0.08


def noise_of(tile, seed):
    noisy, _, _ = Augmentation(replace(NOTHING, noise_std_max=0.05), 0.3)(tile, 8, np.zeros((0, 4), np.float32), [seed])
    return noisy - tile / np.float32(255)


def test_levels_stay_between_black_and_full_scale():
    tile = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE), dtype=np.uint16)
    wild = replace(NOTHING, brightness_limit=1.0, contrast_limit=1.0, noise_std_max=1.0)
    for seed in range(10):
        unit, _, _ = Augmentation(wild, 0.3)(tile, 16, np.zeros((0, 4), np.float32), [seed])
        assert unit.min() >= 0
        assert unit.max() <= 1


def test_boxes_that_leave_the_tile_are_left_out_and_the_others_keep_their_rows():
    boxes = np.array([[0, 0, 1, 1], [30, 30, 34, 34], [63, 63, 64, 64]], dtype=np.float32)
    tile = np.zeros((SIDE, SIDE), dtype=np.uint8)
    augmentation = Augmentation(replace(NOTHING, scale_limit=0.5), 0.3)
    kept = {tuple(augmentation(tile, 8, boxes, [seed])[2].tolist()) for seed in range(20)}
    assert kept == {(0, 1, 2), (1,)}


def test_the_import_asks_no_network():
    code = (
        "import socket; socket.getaddrinfo = socket.socket.connect = lambda *_, **__: print('asked');"
        "import defects_in_welds.data.augmentation"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ""

from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from defects_in_welds.data.augmentation import Augmentation
from defects_in_welds.data.detection_dataset import DetectionDataset, OrderedSampler, TileSampler, is_trained_on
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.params import load_params


@pytest.fixture
def store(tmp_path, write_films, monkeypatch):
    monkeypatch.setattr("defects_in_welds.data.preparation.draw_preview", lambda *_: None)
    params = load_params()
    tiny = replace(params, prepare=replace(params.prepare, img_size=64, overlap_px=16))
    return prepare_dataset(tiny, write_films(tmp_path / "data", 8), tmp_path / "store")


@pytest.fixture
def augmentation():
    return Augmentation(load_params().augmentation, 0.3)


def all_tiles(store):
    return list(range(len(store.manifest.tiles)))


def test_an_item_is_a_tile_and_its_target(store):
    dataset = DetectionDataset(store, all_tiles(store), None, 0, keep_difficult=True)
    assert len(dataset) == 48
    for index in all_tiles(store):
        image, target = dataset[index, 0]
        n = len(store.manifest.tiles[index].labels)
        assert (image.shape, image.dtype) == ((1, 64, 64), torch.float32)
        np.testing.assert_array_equal(image[0], store.unit_pixels(index))
        assert (target["boxes"].shape, target["boxes"].dtype) == ((n, 4), torch.float32)
        assert (target["labels"].shape, target["labels"].dtype) == ((n,), torch.int64)
        assert (target["difficult"].shape, target["difficult"].dtype) == ((n,), torch.bool)
        assert target["image_id"] == index


def test_positions_are_those_of_the_chosen_tiles(store):
    dataset = DetectionDataset(store, [7, 3], None, 0, keep_difficult=True)
    assert [int(dataset[position, 0][1]["image_id"]) for position in (0, 1)] == [7, 3]


def test_training_goes_without_difficult_flaws(store, augmentation):
    difficult = next(index for index, tile in enumerate(store.manifest.tiles) if tile.difficult.any())
    for change in (None, augmentation):
        kept = DetectionDataset(store, [difficult], change, 0, keep_difficult=True)[0, 0][1]
        left = DetectionDataset(store, [difficult], change, 0, keep_difficult=False)[0, 0][1]
        assert kept["difficult"].tolist() == [True]
        assert left["boxes"].shape == (0, 4)
        assert left["labels"].shape == (0,)


def test_the_same_seed_epoch_and_tile_give_the_same_item(store, augmentation):
    tiles = all_tiles(store)
    dataset = DetectionDataset(store, tiles, augmentation, 5, keep_difficult=False)
    subset = DetectionDataset(store, tiles[10:], Augmentation(load_params().augmentation, 0.3), 5, keep_difficult=False)
    assert torch.equal(dataset[12, 3][0], subset[2, 3][0])
    assert torch.equal(dataset[12, 3][1]["boxes"], subset[2, 3][1]["boxes"])
    assert not torch.equal(dataset[12, 3][0], dataset[12, 4][0])
    other = DetectionDataset(store, tiles, augmentation, 6, keep_difficult=False)
    assert not torch.equal(dataset[12, 3][0], other[12, 3][0])


def test_any_number_of_workers_loads_the_same(store, augmentation):
    dataset = DetectionDataset(store, all_tiles(store), augmentation, 5, keep_difficult=False)
    keys = [(position, 2) for position in range(6)]
    here, there = (
        [image for image, _ in DataLoader(dataset, batch_size=None, sampler=keys, num_workers=workers)]
        for workers in (0, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    assert {key[1] for key in keys} == {epoch}
    return [position for position, _ in keys]


IS_EMPTY = [False] * 8 + [True] * 30


def test_empty_tiles_are_no_more_than_their_share_and_drawn_anew():
    sampler = TileSampler(IS_EMPTY, 0.2, seed=1)
    epochs = [epoch_of(sampler, epoch) for epoch in range(3)]
    for positions in epochs:
        assert len(positions) == len(set(positions)) == 10
        assert set(range(8)) < set(positions)
    assert len({frozenset(positions) for positions in epochs}) == 3


@pytest.mark.parametrize(("share", "count"), [(0.0, 8), (0.5, 16), (0.99, 38)])
def test_the_share_of_empty_tiles_is_what_was_asked_or_what_there_is(share, count):
    assert len(epoch_of(TileSampler(IS_EMPTY, share, seed=1), 0)) == count


def test_the_order_follows_seed_and_epoch():
    sampler = TileSampler(IS_EMPTY, 0.2, seed=1)
    assert epoch_of(sampler, 4) == epoch_of(TileSampler(IS_EMPTY, 0.2, seed=1), 4)
    assert epoch_of(sampler, 4) != epoch_of(sampler, 5)
    assert epoch_of(sampler, 4) != epoch_of(TileSampler(IS_EMPTY, 0.2, seed=2), 4)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_tiles_of_an_epoch_evenly(world_size):
    samplers = [TileSampler(IS_EMPTY, 0.2, 1, rank=rank, world_size=world_size) for rank in range(world_size)]
    shares = [epoch_of(sampler, 2) for sampler in samplers]
    assert len({len(share) for share in shares}) == 1
    together = Counter(chain(*shares))
    assert set(together) == set(epoch_of(TileSampler(IS_EMPTY, 0.2, seed=1), 2))
    assert together.total() - len(together) < world_size


@pytest.mark.parametrize(("tiles", "world_size"), [(5, 1), (5, 2), (1, 2), (1, 3)])
def test_validation_tiles_come_in_order_and_evenly(tiles, world_size):
    shares = [list(OrderedSampler(tiles, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert shares[0] == [(position, 0) for position in range(0, tiles, world_size)]
    assert len({len(share) for share in shares}) == 1
    assert {key for share in shares for key in share} == {(position, 0) for position in range(tiles)}


def test_a_tile_is_trained_on_for_a_flaw_that_is_not_difficult(store):
    trained_on = {store.film_of(index).name[-7:-5] for index in all_tiles(store) if is_trained_on(store, index)}
    assert trained_on == {"00", "01", "02", "04", "05"}  # 03 and 07 show nothing, 06 is difficult

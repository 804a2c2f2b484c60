import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.regrouping import draw_folds, split_by_fold, tiles_as_films, write_regrouped
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.params import load_params
from defects_in_welds.simulation.dataset import simulate_dataset


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regrouping")
    sizes = ["simulate.films=6", "simulate.height_px=128", "simulate.width_px=192", "simulate.films_per_weld=2"]
    params = load_params([*sizes, "prepare.img_size=128", "prepare.test_share=0.3", "prepare.val_share=0.3"])
    simulate_dataset(params.simulate, folder / "data")
    prepare_dataset(params, folder / "data", folder / "prepared")
    return TensorStore.open(folder / "prepared")


@given(st.lists(st.text(max_size=3), min_size=4, max_size=30), st.integers(3, 4), st.integers(0, 5))
def test_each_group_is_in_one_fold_and_folds_are_even(groups, folds, seed):
    if len(set(groups)) < folds:
        with pytest.raises(DataError, match=r"cannot be dealt out.*evaluate\.folds"):
            draw_folds(groups, folds, seed)
        return
    fold_of = draw_folds(groups, folds, seed)
    assert set(fold_of) == set(groups)
    sizes = np.bincount(list(fold_of.values()), minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    assert draw_folds(list(reversed(groups)), folds, seed) == fold_of


def test_each_fold_is_tested_once_and_never_trained_on_then():
    fold_of = {"a": 0, "b": 1, "c": 2, "d": 3}
    rounds = [split_by_fold(fold_of, 4, tested) for tested in range(4)]
    for name, fold in fold_of.items():
        assert [splits[name] for splits in rounds].count(Split.TEST) == 1
        assert rounds[fold][name] is Split.TEST
    assert all(sorted(splits.values()) == ["test", "train", "train", "val"] for splits in rounds)


def test_the_tiles_stay_and_the_grey_statistics_are_those_of_the_new_training_films(store, tmp_path):
    films = store.manifest.films
    splits = [Split.TRAIN if film.weld == films[0].weld else Split.TEST for film in films]
    regrouped = write_regrouped(store, store.manifest, splits, tmp_path / "again")
    assert [film.split for film in regrouped.manifest.films] == splits
    trained = [store.unit_pixels(index) for index in regrouped.tile_indices(Split.TRAIN)]
    assert regrouped.manifest.grey_mean == pytest.approx(np.mean(trained), rel=1e-5)
    assert regrouped.manifest.grey_std == pytest.approx(np.std(trained), rel=1e-4)
    for index in range(len(store.manifest.tiles)):
        np.testing.assert_array_equal(regrouped.pixels(index), store.pixels(index))
    assert regrouped.manifest.data_sha256 != store.manifest.data_sha256


def test_the_same_split_gives_the_same_statistics_as_prepare(store, tmp_path):
    again = write_regrouped(store, store.manifest, [film.split for film in store.manifest.films], tmp_path / "again")
    assert again.manifest.grey_mean == pytest.approx(store.manifest.grey_mean, rel=1e-5)
    assert again.manifest.grey_std == pytest.approx(store.manifest.grey_std, rel=1e-4)


def test_every_tile_is_a_film_that_shows_what_the_tile_shows(store, tmp_path):
    manifest = tiles_as_films(store.manifest)
    assert len(manifest.films) == len(manifest.tiles) == len(store.manifest.tiles)
    names = [film.name for film in manifest.films]
    assert names == sorted(set(names))
    for film, tile, source in zip(manifest.films, manifest.tiles, store.manifest.tiles, strict=True):
        assert film.weld == store.manifest.films[source.film].weld
        assert tile.xyxy == (0, 0, film.width, film.height)
        assert [flaw.box_xyxy for flaw in film.annotations] == [tuple(box) for box in source.boxes_xyxy.tolist()]
    regrouped = write_regrouped(store, manifest, [Split.TRAIN] * len(names), tmp_path / "tiles")
    assert regrouped.film_tiles(3) == [3]
    np.testing.assert_array_equal(regrouped.pixels(3), store.pixels(3))


def test_nothing_to_train_on_is_an_error(store, tmp_path):
    with pytest.raises(DataError, match="no film is left to train on"):
        write_regrouped(store, store.manifest, [Split.TEST] * len(store.manifest.films), tmp_path / "none")
    assert not (tmp_path / "none").exists()

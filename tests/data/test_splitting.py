from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.data.annotation import AnnotatedRadiograph, DataError, Split
from defects_in_welds.data.image_reading import read_radiograph
from defects_in_welds.data.splitting import assign_splits, fingerprint, near_duplicates, weld_of
from defects_in_welds.params import ParamsError, PrepareParams, load_params
from defects_in_welds.simulation.dataset import simulate_dataset

TRAIN, VAL, TEST = Split.TRAIN, Split.VAL, Split.TEST
PREPARE: PrepareParams = load_params(["prepare.val_share=0.1", "prepare.test_share=0.15"]).prepare


def film(name, split=None, weld=None):
    return AnnotatedRadiograph(Path("data") / name, name, (), split, weld)


def welds_of(radiographs, split_of, pattern=None):
    splits = defaultdict(set)
    for radiograph in radiographs:
        splits[weld_of(radiograph, pattern)].add(split_of[radiograph.name])
    return splits


@given(
    welds=st.lists(st.integers(0, 12), min_size=3, max_size=40).filter(lambda welds: len(set(welds)) >= 3),
    seed=st.integers(0, 1000),
    shares=st.sampled_from([(0.1, 0.15), (0.49, 0.5), (0.001, 0.9), (0.3, 0.3)]),
)
def test_no_weld_is_shared_and_no_split_is_empty(welds, seed, shares):
    radiographs = [film(f"{i}.png", weld=f"w{weld}") for i, weld in enumerate(welds)]
    prepare = replace(PREPARE, seed=seed, val_share=shares[0], test_share=shares[1])
    split_of = assign_splits(radiographs, prepare)
    assert set(split_of) == {radiograph.name for radiograph in radiographs}
    assert all(len(splits) == 1 for splits in welds_of(radiographs, split_of).values())
    assert set(split_of.values()) == set(Split)


def test_the_shares_are_those_of_the_welds():
    split_of = assign_splits([film(f"{i}.png") for i in range(100)], PREPARE)
    assert [list(split_of.values()).count(split) for split in Split] == [75, 10, 15]


def test_the_order_of_the_films_does_not_matter_and_the_seed_does():
    radiographs = [film(f"{i}.png") for i in range(30)]
    split_of = assign_splits(radiographs, PREPARE)
    assert assign_splits(radiographs[::-1], PREPARE) == split_of
    assert assign_splits(radiographs, replace(PREPARE, seed=PREPARE.seed + 1)) != split_of


def test_the_file_name_tells_the_weld():
    assert weld_of(film("a/W07-2.png"), r"^(W\d+)-") == "W07"
    assert weld_of(film("a/W07-2.png", weld="seam 3"), r"^(W\d+)-") == "seam 3"
    assert weld_of(film("a/other.png"), r"^(W\d+)-") == "a/other.png"
    assert weld_of(film("a/W07-2.png"), None) == "a/W07-2.png"


def test_films_of_a_weld_by_its_file_name_stay_together():
    radiographs = [film(f"W{i // 3}-{i % 3}.png") for i in range(12)]
    pattern = r"(W\d+)"
    split_of = assign_splits(radiographs, replace(PREPARE, weld_pattern=pattern))
    assert all(len(splits) == 1 for splits in welds_of(radiographs, split_of, pattern).values())


def test_a_pattern_that_finds_no_weld_is_refused():
    prepare = replace(PREPARE, weld_pattern=r"(Weld\d+)")
    with pytest.raises(
        ParamsError, match=r"weld_pattern is '\(Weld.*finds no weld in the name of any film, such as 'W0'"
    ):
        assign_splits([film(f"W{i}.png") for i in range(12)], prepare)
    assert assign_splits([film(f"W{i}.png", weld=f"{i}") for i in range(12)], prepare)
    assert assign_splits([film(f"W{i}.png") for i in range(12)] + [film("Weld1.png")], prepare)


@pytest.mark.parametrize("splits", [(TRAIN, VAL, TEST), (TRAIN, VAL)])
def test_the_splits_of_the_data_set_are_kept(splits):
    radiographs = [film(f"{i}.png", splits[i % len(splits)]) for i in range(12)]
    assert assign_splits(radiographs, PREPARE) == {radiograph.name: radiograph.split for radiograph in radiographs}


def test_validation_and_test_are_carved_from_training_where_it_alone_is_named():
    radiographs = [film(f"{i}.png", TRAIN, weld=f"w{i // 2}") for i in range(20)]
    split_of = assign_splits(radiographs, PREPARE)
    assert set(split_of.values()) == set(Split)
    assert all(len(splits) == 1 for splits in welds_of(radiographs, split_of).values())


def test_only_validation_is_carved_where_training_and_test_are_named():
    radiographs = [film(f"{i}.png", TEST if i < 5 else TRAIN) for i in range(20)]
    split_of = assign_splits(radiographs, PREPARE)
    assert {name for name, split in split_of.items() if split is TEST} == {f"{i}.png" for i in range(5)}
    assert set(split_of.values()) == set(Split)


def test_a_film_without_a_split_goes_with_its_weld():
    named = [film("a.png", TRAIN, "w1"), film("b.png", VAL, "w2"), film("c.png", TEST, "w3")]
    split_of = assign_splits([*named, film("d.png", weld="w2"), film("e.png", weld="w3"), film("f.png")], PREPARE)
    assert (split_of["d.png"], split_of["e.png"], split_of["f.png"]) == (VAL, TEST, TRAIN)


def test_a_share_of_zero_asks_for_no_split():
    radiographs = [film("a.png"), film("b.png")]
    split_of = assign_splits(radiographs, replace(PREPARE, test_share=0))
    assert set(split_of.values()) == {TRAIN, VAL}


@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.png"]])
def test_too_few_welds_are_an_error_with_a_remedy(names):
    with pytest.raises(DataError, match=r"weld.*cannot be divided into train, val, test; add films") as caught:
        assign_splits([film(name) for name in names], PREPARE)
    assert "prepare.test_share" in str(caught.value)


def test_a_weld_that_the_pattern_finds_in_two_splits_is_an_error():
    radiographs = [film("train/W1-a.png", TRAIN), film("val/W1-b.png", VAL), film("val/W2-a.png", VAL)]
    with pytest.raises(DataError, match=r"'W1' is in two splits: train/W1-a.png in train, val/W1-b.png in val"):
        assign_splits(radiographs, replace(PREPARE, weld_pattern=r"(W\d)"))
    assert assign_splits(radiographs, PREPARE)["val/W1-b.png"] is VAL


def test_a_weld_that_the_data_set_names_in_two_splits_is_an_error():
    radiographs = [film("a.png", TRAIN, "w1"), film("b.png", VAL, "w2"), film("c.png", TEST, "w1"), film("d.png")]
    with pytest.raises(DataError, match=r"'w1' is in two splits: a\.png in train, c\.png in test; .* its name in the"):
        assign_splits(radiographs, PREPARE)


def weld_scene(seed, pores=0):
    """A weld as a lighter band with its own bead, plate gradient and noise, 12 bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:200, 0:400]
    band = np.exp(-(((y - rng.uniform(80, 120)) / rng.uniform(25, 40)) ** 2))
    scene = 1200 + 1000 * band + rng.uniform(-0.5, 0.5) * x + rng.uniform(-0.5, 0.5) * y
    scene += cv2.GaussianBlur(rng.normal(0, 200, scene.shape), (0, 0), 3) * (0.2 + band)
    for _ in range(pores):
        cx, cy = rng.uniform(20, 380), rng.uniform(70, 130)
        scene -= 400 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 30)
    return np.clip(scene + rng.normal(0, 30, scene.shape), 0, 4095).astype(np.uint16)


def jpeg(pixels):
    return cv2.imdecode(cv2.imencode(".jpg", (pixels >> 4).astype(np.uint8), [1, 90])[1], cv2.IMREAD_UNCHANGED)


COPIES = {
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "half turned": lambda pixels: pixels[::-1, ::-1],
    "turned left": lambda pixels: np.rot90(pixels),
    "turned right": lambda pixels: np.rot90(pixels, 3),
    "transposed": lambda pixels: pixels.T,
    "transposed the other way": lambda pixels: pixels[::-1, ::-1].T,
    "recompressed": jpeg,
    "rescaled": lambda pixels: cv2.resize(pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "brighter": lambda pixels: (pixels * 0.7 + 600).astype(np.uint16),
    "noisier": lambda pixels: (pixels + np.random.default_rng(9).integers(0, 60, pixels.shape)).astype(np.uint16),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("pores", [0, 6])
def test_a_changed_copy_is_a_near_duplicate(copy, pores):
    scene = weld_scene(1, pores)
    prints = {"a": fingerprint(scene), "b": fingerprint(copy(scene))}
    threshold = PREPARE.near_duplicate_correlation
    assert near_duplicates(prints, {"a": TRAIN, "b": TEST}, threshold) == (("a", "b"),)
    assert near_duplicates(prints, {"a": TRAIN, "b": TRAIN}, threshold) == ()


def test_films_of_different_welds_are_not_near_duplicates():
    prints = {f"{seed}": fingerprint(weld_scene(seed, pores=seed % 3)) for seed in range(40)}
    split_of = {name: list(Split)[int(name) % 3] for name in prints}
    assert near_duplicates(prints, split_of, 0.6) == ()


def test_simulated_films_are_not_near_duplicates(tmp_path):
    simulate_dataset(replace(load_params().simulate, films=12), tmp_path / "data")
    paths = sorted((tmp_path / "data").rglob("*.tif*"))
    assert len(paths) == 12
    prints = {path.name: fingerprint(read_radiograph(path).pixels) for path in paths}
    split_of = {name: list(Split)[index % 3] for index, name in enumerate(sorted(prints))}
    assert near_duplicates(prints, split_of, load_params().prepare.near_duplicate_correlation) == ()


def test_a_film_without_contrast_resembles_nothing():
    flat = fingerprint(np.full((50, 70), 40000, dtype=np.uint16))
    assert not flat.any()
    assert near_duplicates({"a": flat, "b": flat}, {"a": TRAIN, "b": VAL}, 0.95) == ()


def test_near_duplicates_are_found_beyond_one_block_of_films(monkeypatch):
    monkeypatch.setattr("defects_in_welds.data.splitting._BLOCK", 2)
    prints = {f"{seed}": fingerprint(weld_scene(seed)) for seed in range(5)} | {"5": fingerprint(weld_scene(0))}
    split_of = dict.fromkeys(prints, TRAIN) | {"5": VAL}
    assert near_duplicates(prints, split_of, 0.95) == (("0", "5"),)
    assert near_duplicates({}, {}, 0.95) == ()

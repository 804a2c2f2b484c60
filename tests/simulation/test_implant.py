import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.params import ParamsError, SimulateParams, load_params
from defects_in_welds.simulation.implant import implant_dataset

PITCH_MM = 0.1
TRUTH = "annotations.json"


@pytest.fixture
def simulate(params) -> SimulateParams:
    """Three classes of flaws, so many that each film gets some of them."""
    most = {"gas_pore": 12, "slag_inclusion": 8, "tungsten_inclusion": 8}
    flaws = params.simulate.flaws
    drawn = {name: replace(flaw, most_per_film=most.get(name, 0)) for name, flaw in vars(flaws).items()}
    return replace(params.simulate, seed=11, flaws=replace(flaws, **drawn))


def write_film(path: Path, seed: int = 1, weld: float = 70) -> None:
    """A weld of 14 mm on a plate of 30 mm by 120 mm."""
    rng = np.random.default_rng(seed)
    across = (np.arange(300) + 0.5 - 150) / 70
    levels = 60 + weld * np.clip(1 - across**2, 0, None)[:, None] + rng.normal(0, 2, (300, 1200))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.rint(levels).astype(np.uint8))


@pytest.fixture
def plain(tmp_path) -> Path:
    """Films without annotations."""
    for number in (1, 2):
        write_film(tmp_path / "films" / f"{number}.png", number)
    return tmp_path / "films"


@pytest.fixture
def marked(tmp_path) -> Path:
    """One film with two marked flaws, in COCO, with weld, split and pitch."""
    write_film(tmp_path / "marked" / "film.png")
    truth = {
        "images": [
            {
                "id": 1,
                "file_name": "film.png",
                "height": 300,
                "width": 1200,
                "weld": "seam 7",
                "split": "val",
                "pixel_pitch_mm": PITCH_MM,
            }
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [100.5, 90, 300, 120], "difficult": 1},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [700, 90, 100, 120]},
        ],
        "categories": [{"id": 3, "name": "gas pore"}, {"id": 5, "name": "ghost"}],
    }
    (tmp_path / "marked" / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return tmp_path / "marked"


def truth_of(folder: Path) -> dict:
    return json.loads((folder / TRUTH).read_text(encoding="utf-8"))


def test_the_truth_tells_where_the_films_have_changed(simulate, plain, tmp_path):
    implant_dataset(simulate, plain, tmp_path / "out", PITCH_MM, copies=2)
    truth = truth_of(tmp_path / "out")
    assert [(image["source"], image["weld"]) for image in truth["images"]] == [
        ("1.png", "1.png"),
        ("1.png", "1.png"),
        ("2.png", "2.png"),
        ("2.png", "2.png"),
    ]
    assert len(truth["annotations"]) > 10
    for image in truth["images"]:
        source = cv2.imread(str(plain / image["source"]), cv2.IMREAD_UNCHANGED)
        pixels = tifffile.imread(tmp_path / "out" / image["file_name"])
        assert pixels.dtype == np.uint8
        reach = int(np.ceil(3 * image["scene"]["blur_mm"] / PITCH_MM)) + 1
        changed = pixels != source
        for flaw in (flaw for flaw in truth["annotations"] if flaw["image_id"] == image["id"]):
            x, y, width, height = flaw["bbox"]
            assert flaw["virtual"] == 1
            assert changed[y : y + height, x : x + width].any()
            assert min(x, y) >= 0
            assert x + width <= 1200
            assert y + height <= 300
            assert np.sign(flaw["contrast"]) == (-1 if flaw["iso_6520_1"] == "3041" else 1)
            changed[max(y - reach, 0) : y + height + reach, max(x - reach, 0) : x + width + reach] = False
        assert not changed.any()


def test_marked_flaws_stay_and_are_not_covered(simulate, marked, tmp_path):
    implant_dataset(simulate, marked, tmp_path / "out", None, copies=3)
    truth = truth_of(tmp_path / "out")
    assert [category["name"] for category in truth["categories"][:2]] == ["gas pore", "ghost"]
    assert [category["name"] for category in truth["categories"][2:]] == ["slag inclusion", "tungsten inclusion"]
    boxes = []
    for image in truth["images"]:
        flaws = [flaw for flaw in truth["annotations"] if flaw["image_id"] == image["id"]]
        kept, virtual = flaws[:2], flaws[2:]
        assert [(flaw["bbox"], flaw["difficult"], flaw["category_id"]) for flaw in kept] == [
            ([100.5, 90, 300, 120], 1, 2),
            ([700, 90, 100, 120], 0, 1),
        ]
        assert all(flaw["virtual"] == 1 for flaw in virtual)
        for x, _, width, _ in (flaw["bbox"] for flaw in virtual):
            assert x >= 405 or x + width <= 95
            assert x >= 805 or x + width <= 695
        boxes.append([flaw["bbox"] for flaw in virtual])
    assert boxes[0] != boxes[1] != boxes[2]
    films = read_dataset(tmp_path / "out").radiographs
    assert {(film.weld, film.split, film.pixel_pitch_mm) for film in films} == {("seam 7", Split.VAL, PITCH_MM)}


def test_one_name_for_all_virtual_flaws(simulate, marked, tmp_path):
    implant_dataset(simulate, marked, tmp_path / "out", None, copies=4, single_class="defect")
    truth = truth_of(tmp_path / "out")
    assert [category["name"] for category in truth["categories"]] == ["gas pore", "ghost", "defect"]
    virtual = [flaw for flaw in truth["annotations"] if flaw["virtual"]]
    assert {flaw["category_id"] for flaw in virtual} == {3}
    assert len({flaw["iso_6520_1"] for flaw in virtual}) > 1


def test_the_weld_may_be_named_by_the_file(simulate, plain, tmp_path):
    implant_dataset(simulate, plain, tmp_path / "out", PITCH_MM, weld_pattern=r"^(\d)")
    assert [image["weld"] for image in truth_of(tmp_path / "out")["images"]] == ["1", "2"]


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(simulate, plain, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        implant_dataset(replace(simulate, seed=seed), plain, tmp_path / name, PITCH_MM)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*") if path.is_file())
    assert len(names) == 3
    for name in names:
        content = [(tmp_path / folder / name).read_bytes() for folder in "abc"]
        assert content[0] == content[1] != content[2]


def test_a_film_without_a_weld_is_left_out(simulate, plain, tmp_path, caplog):
    write_film(plain / "0.png", weld=0)
    with caplog.at_level(logging.INFO):
        implant_dataset(simulate, plain, tmp_path / "out", PITCH_MM)
    assert [image["source"] for image in truth_of(tmp_path / "out")["images"]] == ["1.png", "2.png"]
    assert [record.message for record in caplog.records] == [
        "0.png: left out: no weld found, a band that is lighter than the plate"
    ]


def test_films_without_any_weld_are_an_error(simulate, tmp_path):
    write_film(tmp_path / "films" / "0.png", weld=0)
    with pytest.raises(DataError, match="no weld found on any film"):
        implant_dataset(simulate, tmp_path / "films", tmp_path / "out", PITCH_MM)
    assert not (tmp_path / "out").exists()


def test_an_unknown_pitch_is_an_error_that_says_how_to_give_it(simulate, plain, tmp_path):
    with pytest.raises(DataError, match=r"1\.png: no pixel pitch .* give it with prepare.pixel_pitch_mm="):
        implant_dataset(simulate, plain, tmp_path / "out", None)


def test_a_broken_annotation_is_an_error(simulate, marked, tmp_path):
    truth = json.loads((marked / "truth.json").read_text(encoding="utf-8"))
    truth["annotations"][1]["bbox"] = [1, 2]
    (marked / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    with pytest.raises(DataError, match=r"truth\.json:2: bbox: .*correct it, for a flaw may be missing"):
        implant_dataset(simulate, marked, tmp_path / "out", None)


def test_other_data_and_useless_parameters_are_refused(simulate, plain, tmp_path):
    with pytest.raises(ParamsError, match="holds data that was not simulated here"):
        implant_dataset(simulate, plain, plain, PITCH_MM)
    with pytest.raises(ParamsError, match="copies is 0"):
        implant_dataset(simulate, plain, tmp_path / "out", PITCH_MM, copies=0)
    none = {name: replace(flaw, most_per_film=0) for name, flaw in vars(simulate.flaws).items()}
    with pytest.raises(ParamsError, match="draws no flaw"):
        implant_dataset(replace(simulate, flaws=replace(simulate.flaws, **none)), plain, tmp_path / "out", PITCH_MM)


def test_a_real_film(real_data, tmp_path):
    simulate = load_params(["experiment=gdxray"]).simulate
    name = "W0003_0003.png"
    (tmp_path / "films").mkdir()
    shutil.copy(real_data / "gdxray-welds" / "W0003" / name, tmp_path / "films" / name)
    implant_dataset(simulate, tmp_path / "films", tmp_path / "out", 0.0403, single_class="defect")
    truth = truth_of(tmp_path / "out")
    (image,) = truth["images"]
    assert truth["categories"] == [{"id": 1, "name": "defect", "iso_6520_1": None}]
    assert len(truth["annotations"]) > 5
    # The weld lies 25 mm below the film's upper edge, the letters within 10 mm.
    for flaw in truth["annotations"]:
        _, y, _, height = flaw["bbox"]
        assert 580 < y < y + height < 1130
    source = cv2.imread(str(tmp_path / "films" / name), cv2.IMREAD_UNCHANGED)
    pixels = tifffile.imread(tmp_path / "out" / image["file_name"])
    assert np.array_equal(pixels[:560], source[:560])
    assert 0.03 < image["scene"]["blur_mm"] < 0.08
    assert 2 < image["scene"]["noise_level"] < 4

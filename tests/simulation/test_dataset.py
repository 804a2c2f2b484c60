import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from defects_in_welds.params import ParamsError, SimulateParams
from defects_in_welds.simulation.dataset import simulate_dataset, simulate_film

TINY = SimulateParams(films=4, seed=3, height_px=160, width_px=400, pixel_pitch_mm=0.1, films_per_weld=2)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path):
    simulate_dataset(TINY, tmp_path / "a")
    simulate_dataset(TINY, tmp_path / "b")
    simulate_dataset(dataclasses.replace(TINY, seed=4), tmp_path / "c")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert set(hashes(tmp_path / "a").values()).isdisjoint(hashes(tmp_path / "c").values())


def test_a_film_does_not_depend_on_the_number_of_films(tmp_path):
    simulate_dataset(TINY, tmp_path / "few")
    simulate_dataset(dataclasses.replace(TINY, films=6), tmp_path / "more")
    few, more = hashes(tmp_path / "few"), hashes(tmp_path / "more")
    assert all(more[name] == digest for name, digest in few.items() if name.endswith(".tiff"))


def test_the_truth_names_classes_sizes_and_pitch(tmp_path):
    simulate_dataset(TINY, tmp_path / "data")
    truth = json.loads((tmp_path / "data" / "annotations.json").read_text())
    assert [(c["id"], c["name"], c["iso_6520_1"]) for c in truth["categories"]] == [
        (1, "gas pore", "2011"),
        (2, "crack", "100"),
        (3, "lack of penetration", "402"),
        (4, "slag inclusion", "301"),
    ]
    assert [image["weld"] for image in truth["images"]] == ["weld_001", "weld_001", "weld_002", "weld_002"]
    assert truth["annotations"]
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert x >= 0
        assert x + width <= TINY.width_px
        assert y >= 0
        assert y + height <= TINY.height_px
        assert min(width, height) > 0
    for image in truth["images"]:
        with tifffile.TiffFile(tmp_path / "data" / image["file_name"]) as tiff:
            page = tiff.pages[0]
            assert page.dtype == np.uint16
            assert page.compression == tifffile.COMPRESSION.NONE
            numerator, denominator = page.tags["XResolution"].value
            assert 10 * denominator / numerator == pytest.approx(image["pixel_pitch_mm"])


def test_flaws_are_seen_where_the_truth_says(tmp_path):
    """Inside its box a pore is darker than the weld beside it."""
    seen = 0
    for film in range(12):
        pixels, flaws = simulate_film(TINY, film)
        for flaw in flaws:
            if flaw.defect_class == "gas pore":
                x0, y0, x1, y1 = flaw.box_xyxy
                y, x = (y0 + y1) // 2, (x0 + x1) // 2
                beside = pixels[y, [max(0, x0 - 4), min(TINY.width_px - 1, x1 + 3)]].mean()
                seen += pixels[y - 1 : y + 2, x - 1 : x + 2].mean() < beside
                assert pixels[y - 1 : y + 2, x - 1 : x + 2].mean() < beside
    assert seen > 5


def test_data_that_was_not_simulated_is_not_overwritten(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "film.png").write_bytes(b"mine")
    with pytest.raises(ParamsError, match="--out"):
        simulate_dataset(TINY, folder)
    assert (folder / "film.png").read_bytes() == b"mine"


def test_an_earlier_simulation_is_replaced(tmp_path):
    simulate_dataset(dataclasses.replace(TINY, films=6), tmp_path / "data")
    simulate_dataset(TINY, tmp_path / "data")
    assert len(list((tmp_path / "data" / "images").iterdir())) == TINY.films
    assert [path.name for path in tmp_path.iterdir()] == ["data"]

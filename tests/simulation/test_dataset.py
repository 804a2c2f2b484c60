import dataclasses
import hashlib
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import tifffile
from faster_coco_eval.core import mask as coco_mask

from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.params import ParamsError, SimulateParams, load_params
from defects_in_welds.simulation.beam import draw_beam
from defects_in_welds.simulation.dataset import simulate_dataset
from defects_in_welds.simulation.scene import draw_detector, simulate_film
from defects_in_welds.simulation.truth import run_lengths, write_truth

TINY = ("simulate.films=4", "simulate.seed=3", "simulate.height_px=200", "simulate.width_px=400")


def tiny(*overrides: str) -> SimulateParams:
    return load_params([*TINY, *overrides]).simulate


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth_of(folder: Path) -> dict[str, list[dict]]:
    return json.loads((folder / "annotations.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate_dataset(tiny(), folder)
    return folder


def test_any_number_of_workers_writes_the_same_bytes_and_another_seed_others(simulated, tmp_path):
    simulate_dataset(tiny(), tmp_path / "b", workers=2)
    simulate_dataset(tiny("simulate.seed=4"), tmp_path / "c")
    assert hashes(simulated) == hashes(tmp_path / "b")
    assert set(hashes(simulated).values()).isdisjoint(hashes(tmp_path / "c").values())


def test_a_film_does_not_depend_on_the_number_of_films(simulated, tmp_path):
    simulate_dataset(tiny("simulate.films=6"), tmp_path / "more")
    few, more = hashes(simulated), hashes(tmp_path / "more")
    assert all(more[name] == digest for name, digest in few.items() if name.endswith(".tiff"))


def test_the_truth_names_classes_sizes_and_pitch(simulated):
    params, truth = tiny(), truth_of(simulated)
    assert [(c["id"], c["name"], c["iso_6520_1"]) for c in truth["categories"]] == [
        (1, "longitudinal crack in weld metal", "1011"),
        (2, "transverse crack in weld metal", "1021"),
        (3, "gas pore", "2011"),
        (4, "tungsten inclusion", "3041"),
        (5, "lack of penetration", "402"),
    ]
    assert [image["weld"] for image in truth["images"]] == ["weld_001", "weld_001", "weld_002", "weld_002"]
    assert len(truth["annotations"]) > 8
    sizes = {"gas pore": params.flaws.gas_pore, "tungsten inclusion": params.flaws.tungsten_inclusion}
    numbers = {category["id"]: (category["name"], category["iso_6520_1"]) for category in truth["categories"]}
    for annotation in truth["annotations"]:
        name, number = numbers[annotation["category_id"]]
        assert annotation["iso_6520_1"] == number
        x, y, width, height = annotation["bbox"]
        assert min(x, y, width - 1, height - 1) >= 0
        assert x + width <= params.width_px
        assert y + height <= params.height_px
        if name in sizes:
            low, high = sizes[name].length_mm
            assert 0.9 * low <= annotation["length_mm"] <= 1.1 * high
        assert 0 < annotation["depth_mm"] < 20
        assert annotation["difficult"] == (annotation["cnr"] < params.visible_cnr)
    for image in truth["images"]:
        assert image["seed"][0] == params.seed
        assert image["scene"]["detector"]["kind"] in ("film", "digital")
        with tifffile.TiffFile(simulated / image["file_name"]) as tiff:
            page = tiff.pages[0]
            assert page.dtype == np.uint16
            assert page.compression == tifffile.COMPRESSION.NONE
            numerator, denominator = page.tags["XResolution"].value
            assert 10 * denominator / numerator == pytest.approx(image["pixel_pitch_mm"])


def test_masks_are_what_others_decode_from_the_run_lengths(simulated):
    for annotation in truth_of(simulated)["annotations"]:
        encoded = annotation["segmentation"]
        mask = coco_mask.decode(coco_mask.frPyObjects(encoded, *encoded["size"])).astype(bool)
        assert mask.sum() == annotation["area"]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
        assert box == annotation["bbox"]


def test_the_truth_numbers_flaws_through_and_keeps_no_film(tmp_path):
    class Described(dict):
        """An entry that a weak reference can point to."""

    seen = []

    def films():
        for flaws in (2, 0, 1):
            assert not any(entry() for entry in seen[:-1])  # the loop still holds the last one
            image = Described(file_name="a.tiff")
            seen.append(weakref.ref(image))
            yield image, [{"category_id": 1}] * flaws

    write_truth(tmp_path / "annotations.json", {"seed": 1}, films(), {"gas pore": 1})
    truth = truth_of(tmp_path)
    assert [image["id"] for image in truth["images"]] == [1, 2, 3]
    assert [(flaw["id"], flaw["image_id"]) for flaw in truth["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["annotations.json"]


def test_run_lengths_begin_with_what_lies_outside():
    mask = np.array([[True, False], [True, True]])
    assert run_lengths(mask, 1, 0, (4, 3)) == [1, 2, 3, 1, 5]
    assert run_lengths(mask[:, :1], 0, 0, (2, 1)) == [0, 2, 0]


def test_prepare_reads_what_is_simulated_with_the_difficult_flaws_marked(simulated, tmp_path):
    half_are_above = np.median([annotation["cnr"] for annotation in truth_of(simulated)["annotations"]])
    params = tiny(f"simulate.visible_cnr={half_are_above}")
    simulate_dataset(params, tmp_path / "data")
    dataset = read_dataset(tmp_path / "data")
    difficult = [annotation.difficult for film in dataset.radiographs for annotation in film.annotations]
    assert difficult.count(True) > 0
    assert difficult.count(False) > 0
    assert not dataset.findings
    assert {film.pixel_pitch_mm for film in dataset.radiographs} == {params.pixel_pitch_mm}


def test_flaws_are_seen_where_the_truth_says():
    """A pore's middle is darker than the weld beside it."""
    seen = 0
    params = tiny("simulate.flaws.gas_pore.length_mm=[1.5,2.5]")
    for film in range(8):
        simulated = simulate_film(params, film)
        for flaw in simulated.flaws:
            x0, y0, x1, y1 = flaw.box_xyxy
            if flaw.defect_class == "gas pore" and x0 > 5 and x1 < params.width_px - 5:
                y, x = (y0 + y1) // 2, (x0 + x1) // 2
                beside = simulated.pixels[y - 2 : y + 3, [x0 - 5, x0 - 4, x1 + 3, x1 + 4]].mean()
                assert simulated.pixels[y - 2 : y + 3, x - 2 : x + 3].mean() < beside
                seen += 1
    assert seen > 5


@pytest.mark.parametrize("film_share", [0, 1])
def test_what_the_detector_blurs_is_smaller_in_a_magnified_object(film_share):
    params = tiny(f"simulate.film_share={film_share}", "simulate.pixel_pitch_mm=0.02")
    drawn = draw_beam(np.random.default_rng(0), params.beam, "steel", 10.0)
    contact = dataclasses.replace(drawn, source_to_object_mm=1e6, gap_mm=0.0)
    enlarged = dataclasses.replace(drawn, source_to_object_mm=295.0, gap_mm=295.0)
    near, far = (draw_detector(np.random.default_rng(1), params, beam, []) for beam in (contact, enlarged))
    assert far.unsharpness_mm == near.unsharpness_mm
    pixel_variance = 1 / 12
    assert near.blur_px**2 + pixel_variance == pytest.approx(4 * (far.blur_px**2 + pixel_variance), rel=1e-4)
    if not film_share:  # a pixel takes the quanta that have crossed its share of the object, however far it is
        assert far.open_quanta == pytest.approx(enlarged.quanta_per_mm2(far.milliampere_seconds) * 0.02**2)


def test_flaws_keep_their_distance():
    for film in range(4):
        boxes = [flaw.box_xyxy for flaw in simulate_film(tiny(), film).flaws]
        for i, (x0, y0, x1, y1) in enumerate(boxes):
            for a0, b0, a1, b1 in boxes[:i]:
                assert max(a0 - x1, x0 - a1, b0 - y1, y0 - b1) >= 0.8 / tiny().pixel_pitch_mm


def test_every_film_can_be_free_of_flaws():
    assert not simulate_film(tiny("simulate.defect_free_share=1"), 0).flaws


def test_letters_and_indicators_stand_in_the_scene_and_are_no_flaws():
    params = tiny(
        "simulate.height_px=900",
        "simulate.width_px=1200",
        "simulate.film_share=1",
        "simulate.objects={lead_letters: 1, wire_iqi: 1, duplex_wire: 1, film_edges: 1}",
    )
    film = simulate_film(params, 1)
    names = {lying["name"] for lying in film.scene["objects"]}
    assert {"lead letters", "IQI wire", "duplex wire pair"} <= names
    wires = [lying for lying in film.scene["objects"] if lying["name"] == "IQI wire"]
    assert len(wires) == 7
    assert len({wire["diameter_mm"] for wire in wires}) == 7
    assert film.scene["detector"]["kind"] == "film"
    assert not {flaw.defect_class for flaw in film.flaws} & names


def test_no_flaw_to_draw_is_an_error(tmp_path):
    zero = [f"simulate.flaws.{name}.most_per_film=0" for name in vars(tiny().flaws)]
    with pytest.raises(ParamsError, match="most_per_film"):
        simulate_dataset(tiny(*zero), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_data_that_was_not_simulated_is_not_overwritten(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "film.png").write_bytes(b"mine")
    with pytest.raises(ParamsError, match="--out"):
        simulate_dataset(tiny(), folder)
    assert (folder / "film.png").read_bytes() == b"mine"


def test_an_earlier_simulation_is_replaced(tmp_path):
    simulate_dataset(tiny("simulate.films=3"), tmp_path / "data")
    simulate_dataset(tiny("simulate.films=2"), tmp_path / "data")
    assert len(list((tmp_path / "data" / "images").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data"]

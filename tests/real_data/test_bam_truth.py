"""BAM's table of true flaws is read whole, and its sections begin at the left edge of the films."""

import itertools
import re

import numpy as np
import pytest

from defects_in_welds.data.annotation import MEASURES, DataError
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.image_reading import read_image_hw
from defects_in_welds.evaluation.bam_truth import (
    agreement_by_offset,
    cell_truth_from_bam,
    cohens_kappa,
    read_bam_truth,
)
from defects_in_welds.evaluation.cells import cell_auc, cell_rates, measure_cells
from defects_in_welds.evaluation.film_results import FilmResult, Truth
from defects_in_welds.evaluation.matching import match
from defects_in_welds.inference.detections import Detections

PITCH_MM = 0.0403
TABLE = "gdxray-welds/W0003/real-values.xls"
NUMBER_OF = {2: 12, 5: 39, 6: 40, 7: 13, 9: 106}  # BAM's number of the films of W0001 that its table has
BAM_NUMBERS = {f"W0001_{film:04d}.png": number for film, number in NUMBER_OF.items()}
COUNTS = ["both", "bam_only", "box_only", "neither"]


@pytest.fixture(scope="module")
def truth(real_data):
    return read_bam_truth(real_data / TABLE)


def films_of(real_data, least_mm=0.0, is_mirrored=False):
    """The films that BAM's table has, their boxes of at least that size as flaws and as detections of score 1."""
    results = []
    for film in read_dataset(real_data / "gdxray-welds/W0001").radiographs:
        if film.name in BAM_NUMBERS:
            height, width = read_image_hw(film.image_path)
            boxes = np.array([annotation.box_xyxy for annotation in film.annotations], dtype=np.float32)
            boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).max(axis=1) * PITCH_MM >= least_mm]
            if is_mirrored:
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            labels, unknown = np.ones(len(boxes), dtype=np.int64), np.full(len(boxes), np.nan)
            flaws = Truth(boxes, labels, np.zeros(len(boxes), dtype=np.bool_), dict.fromkeys(MEASURES, unknown))
            found = Detections(boxes, np.ones(len(boxes), dtype=np.float32), labels)
            results.append(FilmResult(film.name, film.name, (height, width), PITCH_MM, flaws, found))
    return match(results, ("defect",), "iou", 0.5)


def agreement(table, truth, numbers, offsets_mm=(0.0,)):
    """Sections of all films, by offset: flawed with a box, flawed without, sound with one, sound without."""
    films = [agreement_by_offset(table, film, truth, number, offsets_mm) for film, number in enumerate(numbers)]
    return np.sum([film[COUNTS].to_numpy() for film in films], axis=0)


def numbers_of(table):
    return [BAM_NUMBERS[name] for name in table.films["name"]]


def test_the_table_is_read_whole(truth):
    assert (len(truth.films), len(truth.flaws), truth.films["sections"].sum()) == (38, 201, 679)
    assert sorted(set(truth.films["film"]) - set(truth.flaws["film"])) == [202, 210]
    assert truth.flaws["is_starred"].sum() == 8
    assert truth.flaws["width_mm"].notna().sum() == 7
    odd = [int(number) for remark in truth.remarks for number in re.findall(r"row (\d+):", remark)]
    assert odd == [12, 13, 14, 15, 16, 51, 52, 134, 178, 179, 188, 205]


def test_a_damaged_table_is_told(real_data, tmp_path):
    content = (real_data / TABLE).read_bytes()
    for length in (600, 5000, len(content) // 2):
        (tmp_path / "real-values.xls").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"real-values.xls: no readable .xls file"):
            read_bam_truth(tmp_path / "real-values.xls")


@pytest.mark.parametrize(("least_mm", "counts", "kappa"), [(0.0, [64, 0, 13, 14], 0.60), (0.5, [64, 0, 7, 20], 0.80)])
def test_sections_run_from_the_left_edge_of_the_films(real_data, truth, least_mm, counts, kappa):
    table = films_of(real_data, least_mm)
    numbers = numbers_of(table)
    assert agreement(table, truth, numbers).tolist() == [counts]
    assert cohens_kappa(*counts) == pytest.approx(kappa, abs=0.01)

    offsets_mm = np.arange(-20, 20.5, 0.5)
    by_offset = [cohens_kappa(*row) for row in agreement(table, truth, numbers, offsets_mm).tolist()]
    assert -2 <= offsets_mm[np.argmax(by_offset)] <= 0
    (mirrored,) = agreement(films_of(real_data, least_mm, is_mirrored=True), truth, numbers).tolist()
    assert cohens_kappa(*mirrored) < 0.1

    pairs = {
        (film, number): agreement_by_offset(table, film, truth, number, (0.0,))[COUNTS].to_numpy()[0]
        for film in range(len(numbers))
        for number in numbers
    }
    others = [
        cohens_kappa(*np.sum([pairs[pair] for pair in enumerate(other)], axis=0).tolist())
        for other in itertools.permutations(numbers)
        if not any(own == one for own, one in zip(numbers, other, strict=True))
    ]
    assert len(others) == 44
    assert max(others) < 0.35


@pytest.mark.parametrize(
    ("name", "row", "begins_mm", "length_mm"),
    [
        ("W0001_0002.png", 5, 47.8, 76.7),  # linear porosity, from its first pore to its last
        ("W0001_0006.png", 68, 3.3, 88.9),  # a crack in several boxes
        ("W0001_0006.png", 70, 44.9, 1.8),  # a pore
        ("W0001_0007.png", 10, 96.2, 1.7),  # the one bright inclusion
    ],
)
def test_flaws_that_can_be_told_apart_begin_in_their_sections(real_data, truth, name, row, begins_mm, length_mm):
    """Places were found by eye; a box begins at each."""
    table = films_of(real_data)
    film = table.films["name"].tolist().index(name)
    starts_mm = table.flaws.loc[table.flaws["film"] == film, "x0"] * PITCH_MM
    assert (starts_mm - begins_mm).abs().min() < 0.06
    (flaw,) = truth.flaws[truth.flaws["row"] == row].itertuples()
    assert flaw.film == BAM_NUMBERS[name]
    assert flaw.section == int(begins_mm // 10) + 1
    assert flaw.length_mm == pytest.approx(length_mm, rel=0.02, abs=0.6)


def test_gdxrays_boxes_as_detections_are_scored_by_bam(real_data, truth):
    table = films_of(real_data)
    film = table.films["name"].tolist().index("W0001_0005.png")
    sections = cell_truth_from_bam(table, film, truth, 39, 0.0)
    assert cell_rates(sections, 0.5) == (1.0, pytest.approx(3 / 9))
    assert cell_auc(sections) == pytest.approx(5 / 6)


def test_boxes_rate_their_own_cells_without_fault(real_data):
    measures = measure_cells(films_of(real_data), min_score=0.5, rounds=100)
    assert (measures.films, measures.flawed_cells + measures.sound_cells) == (5, 97)
    assert (measures.hit_rate, measures.false_call_rate, measures.auc) == (1.0, 0.0, 1.0)

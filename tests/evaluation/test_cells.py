import math

import numpy as np
import pandas as pd
import pytest
from films import films, make_film
from hypothesis import given
from hypothesis import strategies as st

from defects_in_welds.evaluation.cells import (
    CellMeasures,
    cell_auc,
    cell_auc_interval,
    cell_rates,
    cell_roc,
    cell_table,
    measure_cells,
)
from defects_in_welds.evaluation.matching import match


def table_of(*results):
    return match(results, ("pore", "crack"), "iou", 0.5)


def cells_of(flaws, found, image_hw=(100, 400), cell_mm=10.0, **film):
    """Cells of a film of 0.1 mm a pixel: 40 mm, 4 cells."""
    return cell_table(table_of(make_film(flaws, found, image_hw=image_hw, **film)), cell_mm)


def make_cells(has_flaw, scores, film=0, ignored=False):
    return pd.DataFrame({"film": film, "has_flaw": has_flaw, "score": scores, "ignored": ignored})


def slow_auc(cells):
    """Mann and Whitney's count of all pairs."""
    flawed = [row.score for row in cells.itertuples() if row.has_flaw and not row.ignored]
    sound = [row.score for row in cells.itertuples() if not row.has_flaw and not row.ignored]
    if not flawed or not sound:
        return None
    return sum((a > b) + (a == b) / 2 for a in flawed for b in sound) / (len(flawed) * len(sound))


def slow_cells(results, cell_mm):
    """Go through cells and boxes one by one; edges are whole pixels, and so are cells."""
    rows = []
    for film, result in enumerate(results):
        height, width = result.image_hw
        axis, length_px, cell_px = (1, height, cell_mm * 10) if height > width else (0, width, cell_mm * 10)
        count = max(1, int(length_px / cell_px + 0.5))
        for cell in range(count):
            start, end = cell * cell_px, length_px if cell == count - 1 else (cell + 1) * cell_px
            inside = lambda box: box[axis] < end and box[axis + 2] > start  # noqa: E731, B023
            has_flaw = any(
                inside(box) and not hard
                for box, hard in zip(result.truth.boxes_xyxy, result.truth.is_difficult, strict=True)
            )
            scores = [
                score
                for box, score in zip(result.detections.boxes_xyxy, result.detections.scores, strict=True)
                if inside(box)
            ]
            rows.append((film, cell + 1, has_flaw, max(scores, default=-math.inf)))
    return rows


# --- the cells ----------------------------------------------------------------------------------------------------


def test_a_cell_is_flawed_where_any_part_of_a_flaw_lies_in_it():
    cells = cells_of([(50, 0, 201, 10, 1, False)], [])
    assert cells["cell"].tolist() == [1, 2, 3, 4]
    assert cells["start_mm"].tolist() == [0, 10, 20, 30]
    assert cells["end_mm"].tolist() == [10, 20, 30, 40]
    assert cells["has_flaw"].tolist() == [True, True, True, False]
    assert cells["score"].tolist() == [-math.inf] * 4
    assert not cells["ignored"].any()


@pytest.mark.parametrize("pixel_pitch_mm", [0.1, 0.04, 0.03, 0.07])
def test_a_box_that_ends_on_a_border_lies_in_the_first_cell_only(pixel_pitch_mm):
    edge = 300
    cells = cells_of(
        [(0, 0, edge, 10, 1, False), (2 * edge, 0, 3 * edge, 9, 1, False)],
        [],
        image_hw=(10, 4 * edge),
        pixel_pitch_mm=pixel_pitch_mm,
        cell_mm=edge * pixel_pitch_mm,
    )
    assert cells["has_flaw"].tolist() == [True, False, True, False]


def test_a_cell_is_rated_by_the_best_detection_in_it_whatever_its_class():
    cells = cells_of([], [(0, 0, 150, 10, 1, 0.9), (120, 0, 130, 10, 2, 0.95), (110, 0, 310, 10, 1, 0.2)])
    assert cells["score"].tolist() == pytest.approx([0.9, 0.95, 0.2, 0.2])


@pytest.mark.parametrize(
    ("width_px", "ends_mm"), [(449, [10, 20, 30, 44.9]), (450, [10, 20, 30, 40, 45]), (40, [4]), (149, [14.9])]
)
def test_less_than_half_a_cell_joins_its_neighbour(width_px, ends_mm):
    cells = cells_of([(width_px - 1, 0, width_px, 1, 1, False)], [], image_hw=(30, width_px))
    assert cells["end_mm"].tolist() == pytest.approx(ends_mm)
    assert cells["has_flaw"].tolist() == [False] * (len(ends_mm) - 1) + [True]


def test_the_weld_runs_along_the_longer_side():
    cells = cells_of([(0, 110, 90, 120, 1, False)], [], image_hw=(400, 100))
    assert cells["has_flaw"].tolist() == [False, True, False, False]


def test_difficult_flaws_and_what_is_found_of_them_count_nowhere():
    cells = cells_of(
        [(0, 0, 50, 10, 1, True), (110, 0, 150, 10, 1, True), (160, 0, 190, 10, 1, False)],
        [(0, 0, 50, 10, 1, 0.9)],
    )
    assert cells["has_flaw"].tolist() == [False, True, False, False]
    assert cells["ignored"].tolist() == [True, False, False, False]
    assert cells["score"].tolist() == [-math.inf] * 4
    assert cell_rates(cells, 0.5) == (0.0, 0.0)
    assert slow_auc(cells) == cell_auc(cells) == 0.5


def test_films_of_unknown_pitch_are_left_out_and_counted():
    flaw, found = [(0, 0, 50, 10, 1, False)], [(0, 0, 50, 10, 1, 0.75)]
    table = table_of(
        make_film(flaw, found, "a.png", pixel_pitch_mm=None),
        make_film(flaw, found, "b.png", image_hw=(10, 400)),
        make_film([], [], "c.png", image_hw=(10, 200)),
    )
    assert cell_table(table)["film"].tolist() == [1, 1, 1, 1, 2, 2]
    measures = measure_cells(table, min_score=0.5, rounds=50)
    assert measures == CellMeasures(10.0, 2, 1, 1, 5, 0, 0.5, 1.0, 0.0, 1.0, None)
    only_unknown = measure_cells(table_of(make_film(flaw, found, pixel_pitch_mm=None)), min_score=0.5)
    assert only_unknown == CellMeasures(10.0, 0, 1, 0, 0, 0, 0.5, None, None, None, None)


def test_no_film_has_no_cells():
    assert cell_table(table_of()).empty


@pytest.mark.parametrize("cell_mm", [0, -1, math.nan])
def test_a_cell_has_a_length(cell_mm):
    with pytest.raises(ValueError, match=r"cell_mm is .*; allowed: above 0"):
        cell_table(table_of(), cell_mm)


@given(results=st.lists(films(), max_size=3), cell_px=st.sampled_from([1, 2, 3, 5, 7, 40]))
def test_cells_are_those_of_going_through_them_one_by_one(results, cell_px):
    small = [type(film)(film.name, film.weld, (20, 30), 0.1, film.truth, film.detections) for film in results]
    table = table_of(*small)
    cells = cell_table(table, cell_px / 10)
    slow = slow_cells(small, cell_px / 10)
    assert cells[["film", "cell", "has_flaw"]].to_numpy().tolist() == [list(row[:3]) for row in slow]
    if not table.detections["ignored"].any():
        assert cells["score"].tolist() == [row[3] for row in slow]


# --- hits over false calls ----------------------------------------------------------------------------------------


def test_the_curve_goes_from_nothing_to_everything():
    curve = cell_roc(make_cells([True, True, False, False], [0.9, -math.inf, 0.5, 0.9]))
    assert curve["min_score"].tolist() == [math.inf, 0.9, 0.5, -math.inf]
    assert curve["false_call_rate"].tolist() == [0, 0.5, 1, 1]
    assert curve["hit_rate"].tolist() == [0, 0.5, 0.5, 1]


def test_the_rates_of_a_threshold_are_a_point_of_the_curve():
    cells = make_cells([True, True, False, False], [0.9, 0.3, 0.5, -math.inf])
    assert cell_rates(cells, 0.5) == (0.5, 0.5)
    assert cell_rates(cells, 0.0) == (1.0, 0.5)
    assert cell_rates(cells, 0.95) == (0.0, 0.0)


scored = st.lists(
    st.tuples(st.booleans(), st.sampled_from([-math.inf, 0.1, 0.2, 0.5, 0.9]), st.integers(0, 3), st.booleans()),
    max_size=30,
)


@given(rows=scored)
def test_the_area_is_the_chance_that_a_flawed_cell_is_rated_above_a_sound_one(rows):
    cells = pd.DataFrame(rows, columns=["has_flaw", "score", "film", "ignored"])
    assert cell_auc(cells) == (None if slow_auc(cells) is None else pytest.approx(slow_auc(cells)))


@pytest.mark.parametrize("has_flaw", [[True, True], [False, False], []])
def test_cells_of_one_kind_have_no_area(has_flaw):
    cells = make_cells(np.array(has_flaw, dtype=bool), [0.5] * len(has_flaw), film=np.arange(len(has_flaw)))
    assert cell_auc(cells) is None
    assert cell_auc_interval(cells, FILM_IS_WELD) is None
    hit_rate, false_call_rate = cell_rates(cells, 0.5)
    assert (hit_rate is None, false_call_rate is None) == (True not in has_flaw, False not in has_flaw)


# --- its interval -------------------------------------------------------------------------------------------------

FILM_IS_WELD = pd.Series([f"{film:04d}" for film in range(3000)])


def many_films(count, seed):
    """Films of 20 cells, of which flawed ones are rated a bit higher; on each film all are rated alike by its haze."""
    rng = np.random.default_rng(seed)
    film = np.repeat(np.arange(count), 20)
    has_flaw = rng.random(len(film)) < 0.3
    scores = np.round(has_flaw + rng.normal(0, 1, count)[film] + rng.normal(0, 0.5, len(film)), 1)
    return make_cells(has_flaw, scores, film)


def test_the_interval_is_that_of_writing_the_drawn_films_one_below_the_other():
    cells = many_films(6, seed=1)
    draws = np.random.default_rng(3).multinomial(6, [1 / 6] * 6, size=200)
    areas = [
        slow_auc(pd.concat([cells[cells["film"] == film] for film in range(6) for _ in range(drawn[film])]))
        for drawn in draws
    ]
    assert cell_auc_interval(cells, FILM_IS_WELD, rounds=200, seed=3) == pytest.approx(
        np.quantile(areas, [0.025, 0.975])
    )


def test_the_interval_holds_the_true_area_about_as_often_as_it_says():
    true_area = cell_auc(many_films(3000, seed=0))
    intervals = [cell_auc_interval(many_films(30, seed), FILM_IS_WELD, rounds=200) for seed in range(1, 101)]
    assert 85 <= sum(low <= true_area <= high for low, high in intervals) <= 100


def test_the_seed_alone_decides_and_one_film_has_no_interval():
    cells = many_films(5, seed=1)
    first, again, other = (cell_auc_interval(cells, FILM_IS_WELD, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert cell_auc_interval(cells[cells["film"] == 0], FILM_IS_WELD) is None


def test_rounds_with_cells_of_one_kind_are_left_out():
    cells = make_cells([True, False, False], [0.9, 0.1, 0.95], film=[0, 1, 2])
    assert cell_auc_interval(cells, FILM_IS_WELD, rounds=200) == (0.0, 1.0)


def test_where_all_draws_are_alike_there_is_no_interval():
    cells = make_cells([True, False], [0.9, 0.1], film=[0, 1])
    assert cell_auc(cells) == 1
    assert cell_auc_interval(cells, FILM_IS_WELD, rounds=20) is None


def test_films_of_one_weld_are_drawn_together():
    once = many_films(8, seed=1)
    twice = pd.concat([once, once.assign(film=once["film"] + 8)])
    weld = pd.Series([f"{film % 8}" for film in range(16)])
    expected = cell_auc_interval(once, FILM_IS_WELD, rounds=200, seed=3)
    assert cell_auc_interval(twice, weld, rounds=200, seed=3) == pytest.approx(expected)
    assert cell_auc_interval(twice, pd.Series(["the only one"] * 16)) is None

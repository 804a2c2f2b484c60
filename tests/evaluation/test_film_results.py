import json

import numpy as np
from films import films, make_film
from hypothesis import given, settings
from hypothesis import strategies as st

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.tensor_store import FilmAnnotation, FilmRecord
from defects_in_welds.evaluation.film_results import film_result, from_coco, to_coco


def assert_same(a, b):
    assert (a.name, a.weld, a.image_hw, a.pixel_pitch_mm) == (b.name, b.weld, b.image_hw, b.pixel_pitch_mm)
    for part in ("truth", "detections"):
        columns, others = (dict(vars(getattr(each, part))) for each in (a, b))
        for these in (columns, others):
            these |= these.pop("measures", {})
        assert columns.keys() == others.keys()
        for name, ours in columns.items():
            np.testing.assert_array_equal(ours, others[name], err_msg=name)
            assert ours.dtype == others[name].dtype


@settings(deadline=None, max_examples=50)
@given(st.lists(films(), max_size=3))
def test_results_come_back_from_their_files_as_they_were(results):
    files = json.loads(json.dumps(to_coco(results, ("crack", "pore"))))
    for ours, theirs in zip(from_coco(*files), results, strict=True):
        assert_same(ours, theirs)


def test_edges_between_pixels_come_back_to_the_last_bit():
    film = make_film([], [(0.1, 1000.3, 4981.7, 1091.2, 1, 0.3)])
    (read,) = from_coco(*to_coco([film], ("crack",)))
    assert_same(read, film)


def test_the_files_say_what_coco_readers_expect():
    ground_truth, predictions = to_coco(
        [make_film([(1, 2, 11, 22, 2, True)], [(5, 5, 7, 9, 1, 0.5)], name="a/b.png", weld="w", length_mm=[2.5])],
        ("crack", "mystery"),
    )
    assert ground_truth["images"] == [
        {"id": 1, "file_name": "a/b.png", "weld": "w", "height": 100, "width": 200, "pixel_pitch_mm": 0.1}
    ]
    (annotation,) = ground_truth["annotations"]
    assert annotation == {
        "id": 1,
        "image_id": 1,
        "category_id": 2,
        "bbox": [1, 2, 10, 20],
        "area": 200,
        "iscrowd": 1,
        "length_mm": 2.5,
    }
    assert ground_truth["categories"] == [
        {"id": 1, "name": "crack", "iso_6520_1": "100"},
        {"id": 2, "name": "mystery", "iso_6520_1": None},
    ]
    assert predictions == [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 2, 4], "score": 0.5}]


def test_a_prepared_film_brings_its_truth_along():
    flaws = (FilmAnnotation((1, 2, 3, 4), "pore", False), FilmAnnotation((5, 6, 7, 8), "crack", True))
    record = FilmRecord("f.png", "00", Split.TEST, "w", 50, 60, 8, None, flaws, 50, 60, None)
    result = film_result(record, ("crack", "pore"), make_film([], []).detections)
    assert (result.name, result.image_hw, result.pixel_pitch_mm) == ("f.png", (50, 60), None)
    assert result.truth.boxes_xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert result.truth.labels.tolist() == [2, 1]
    assert result.truth.is_difficult.tolist() == [False, True]


def test_truth_and_detections_are_in_pixels_of_the_file():
    flaws = (FilmAnnotation((1, 2.5, 3, 4), "pore", False),)
    record = FilmRecord("f.png", "00", Split.TEST, "w", 50, 60, 16, 0.08, flaws, 101, 120, 0.04)
    found = make_film([], [(10, 25, 60, 50, 1, 0.5)]).detections
    result = film_result(record, ("crack", "pore"), found)
    assert (result.image_hw, result.pixel_pitch_mm) == ((101, 120), 0.04)
    np.testing.assert_allclose(result.truth.boxes_xyxy, [[2, 5.05, 6, 8.08]], rtol=1e-6)
    np.testing.assert_allclose(result.detections.boxes_xyxy, [[20, 50.5, 120, 101]], rtol=1e-6)
    assert result.detections.scores.tolist() == [0.5]

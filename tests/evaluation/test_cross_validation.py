import json

import pytest
from known_project import FLAWS

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation import cross_validation
from defects_in_welds.evaluation.cross_validation import cross_validate, describe
from defects_in_welds.evaluation.matching import MatchTable

NAMES = tuple(f"{letter}.png" for letter in "abcdef")


@pytest.fixture
def trained(artifacts, params, monkeypatch, tmp_path):
    """The stores that models were trained on; the model is an oracle all the same."""
    stores = []

    def train(params, prepared, model, training, unsent):
        stores.append(TensorStore.open(prepared))
        assert unsent == tmp_path / "unsent"  # one for all folds, where the next training looks

    monkeypatch.setattr(cross_validation, "train", train)
    params.evaluate.false_calls_per_metre = 200
    # The films hold noise alone, that of one generator: no two look the same.
    artifacts.prepare(*((name, Split.TRAIN, FLAWS) for name in NAMES))
    return stores


def test_every_film_is_tested_once_by_a_model_that_has_not_seen_it(artifacts, params, trained, tmp_path):
    metrics = cross_validate(params, artifacts.prepared, tmp_path / "folds")
    by_weld, by_tile = trained[::2], trained[1::2]
    assert len(by_weld) == len(by_tile) == params.evaluate.folds
    tested = [film.name for store in by_weld for film in store.manifest.films if film.split is Split.TEST]
    assert sorted(tested) == list(NAMES)
    table = MatchTable.read(tmp_path / "folds" / "matches")
    assert table.films["name"].tolist() == list(NAMES)
    assert (metrics["by_weld"]["films"], metrics["by_weld"]["flaws"], metrics["by_weld"]["found"]) == (6, 12, 6)
    assert json.loads((tmp_path / "folds" / "metrics.json").read_text()) == metrics


def test_random_tiles_of_a_film_lie_on_both_sides(artifacts, params, trained, tmp_path):
    cross_validate(params, artifacts.prepared, tmp_path / "folds")
    for store in trained[1::2]:
        sides = {}
        for film in store.manifest.films:
            sides.setdefault(film.weld, set()).add(film.split)
        assert any(len(splits) > 1 for splits in sides.values())


def test_the_outcome_is_told_in_a_few_lines(artifacts, params, trained, tmp_path):
    text = describe(cross_validate(params, artifacts.prepared, tmp_path / "folds"))
    assert text.startswith(
        "3 folds, 6 films, 12 flaws\nfound at a score of 0.60: 6, 1.0 false calls per film\nmAP50 on"
    )
    assert "dealt out at random: 0." in text


def test_more_folds_than_welds_are_an_error(artifacts, params, trained, tmp_path):
    params.evaluate.folds = 7
    with pytest.raises(DataError, match=r"6 weld\(s\) cannot be dealt out to 7 folds; set evaluate.folds lower"):
        cross_validate(params, artifacts.prepared, tmp_path / "folds")
    assert not (tmp_path / "folds").exists()


def test_films_that_look_the_same_are_never_on_both_sides(artifacts, params, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(cross_validation, "near_duplicates", lambda prints, weld_of, least: (("a.png", "b.png"),))
    cross_validate(params, artifacts.prepared, tmp_path / "folds")
    for store in trained[::2]:
        split_of = {film.name: film.split for film in store.manifest.films}
        assert split_of["a.png"] is split_of["b.png"]


def test_a_fold_that_was_trained_before_is_not_trained_again(artifacts, params, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(cross_validation, "_is_trained", lambda params, folder: folder.name.startswith("weld"))
    cross_validate(params, artifacts.prepared, tmp_path / "folds")
    assert len(trained) == params.evaluate.folds

import json

import pytest

from defects_in_welds.data.preparation import prepare_dataset


@pytest.mark.parametrize("names", ["a class", "a film"])
def test_dollar_signs_in_a_name_are_no_formula(tmp_path, write_films, params, monkeypatch, names):
    monkeypatch.setattr("defects_in_welds.data.preview._DPI", 15)
    data = write_films(tmp_path / "data", 4, splits=("train", "val"))
    truth = json.loads((data / "annotations.json").read_text())
    if names == "a class":
        truth["categories"][0]["name"] = "$a_$"
    else:
        truth["images"][0]["file_name"] = "images/$a_$.tiff"
        (data / "images/film_00.tiff").rename(data / "images/$a_$.tiff")
    (data / "annotations.json").write_text(json.dumps(truth))
    prepare_dataset(params, data, tmp_path / "prepared")
    assert (tmp_path / "prepared/preview.png").is_file()

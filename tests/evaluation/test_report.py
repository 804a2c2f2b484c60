import json
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from known_project import FLAWS, RUN, write_store

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.evaluation.report import TEMPLATE_NAME, verdict, write_report
from defects_in_welds.evaluation.run_evaluation import evaluate

METRICS = {
    "films": 1,
    "flaws": 4,
    "found": 4,
    "missed": 0,
    "misnamed": 0,
    "false_calls": 1,
    "false_calls_per_film": 1.0,
    "settings": {"report_score_threshold": 0.5},
}


class Page(HTMLParser):
    """What a browser would load and show."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.urls, self.words = [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.urls += [value for name, value in attributes if name in ("src", "href", "srcset", "poster", "data")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def write(artifacts, params):
    def evaluate_and_write():
        evaluate(params, artifacts.prepared, artifacts.model, artifacts.evaluation)
        path = write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)
        return path.read_text(encoding="utf-8")

    return evaluate_and_write


def test_the_page_needs_nothing_else(artifacts, write):
    html = write()
    page = Page(html)
    assert [path.name for path in artifacts.report.iterdir()] == ["index.html"]
    assert len(page.urls) >= 3
    assert all(url.startswith("data:image/") for url in page.urls)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "@import" not in html
    assert "url(" not in html


def test_the_verdict_comes_first_in_plain_words(write):
    text = Page(write()).text
    first = "The detector found 2 of 4 known flaws (50 %) and missed 2, on 2 films that it had not been trained on."
    assert text.index(first) < text.index("By kind of flaw")
    assert "2 false calls, 1.0 per film" in text
    assert "weakest on gas pore: 0 of 1 found" in text
    assert "This page is advisory." in text


def test_numbers_data_and_run_are_stated(artifacts, write):
    text = Page(write()).text
    assert "crack 100 2 of 3 67 % 1 0 2 0.663 0.663" in text
    assert "gas pore 2011 0 of 1 0 % 1 0 0 0.000 0.000" in text
    assert "train 1 1 2 1 0" in text  # films, welds, tiles, cracks, pores
    assert "test 2 2 4 3 1" in text
    assert "ignored file not read 1" in text
    for fact in (RUN["run_id"], RUN["git_commit"], "bf16-mixed", "anchor_sizes_px [8, 16]", "weights_sha256 null"):
        assert fact in text
    manifest = json.loads((artifacts.prepared / "manifest.json").read_text())
    assert manifest["data_sha256"] in text
    assert "2.0 × 1.0 mm (20 × 10 px)" in text  # noqa: RUF001 - a multiplication sign


def test_names_from_outside_cannot_become_markup(params, write):
    params.report.title = "<script>alert(1)</script>"
    html = write()
    assert "test/<c>.png" in Page(html).text
    assert "<c>" not in html
    assert "<script" not in html


def test_the_worst_films_are_drawn_and_no_more_than_asked(params, write):
    params.report.worst_films = 1
    page = Page(write())
    assert "1 found, 1 missed, 1 false call" in page.text
    assert page.tags.count("img") == 1 + 1 + 2  # the curves, the film, a miss and a false call
    params.report.worst_films = 0
    assert Page(write()).tags.count("img") == 1


def test_the_same_results_give_the_same_page(write):
    assert write() == write()


def test_validation_films_in_place_of_test_films_are_announced(artifacts, write):
    artifacts.prepare(("b.png", Split.VAL, FLAWS))
    text = Page(write()).text
    assert "The data has no test films." in text
    assert "trained on other data" not in text


def test_data_prepared_anew_after_the_evaluation_is_announced(artifacts, params, write):
    write()
    write_store(artifacts.prepared, *((name, Split.TEST, FLAWS) for name in ("test/<c>.png", "test/d.png")))
    path = write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)
    assert "trained on other data" in Page(path.read_text(encoding="utf-8")).text


def test_films_without_flaws_give_a_page_without_numbers(artifacts, write):
    artifacts.prepare(("a.png", Split.TEST, ()))
    text = Page(write()).text
    assert "There is no known flaw on 1 film that it had not been trained on" in text
    assert "Precision and recall" not in text
    assert "nan" not in text.lower().split()


def test_a_page_without_misses_and_false_calls_shows_no_films(artifacts, params, write):
    params.evaluate.report_score_threshold = 0.8
    artifacts.prepare(("a.png", Split.TEST, ()))
    assert "most misses" not in Page(write()).text


@pytest.mark.parametrize(
    ("missing", "stage"),
    [("model/run.json", "train"), ("evaluation/metrics.json", "evaluate"), ("prepared/checks.csv", "prepare")],
)
def test_a_missing_file_names_the_stage_that_writes_it(artifacts, params, write, missing, stage):
    write()
    (artifacts.prepared.parent / missing).unlink()
    with pytest.raises(DataError, match=rf"{missing}: .*dvc repro {stage}"):
        write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)
    assert (artifacts.report / "index.html").is_file()


def test_a_broken_record_of_the_training_is_named(artifacts, params, write):
    write()
    (artifacts.model / "run.json").write_text(json.dumps({"run_id": RUN["run_id"]}))
    with pytest.raises(DataError, match=r"run\.json: .* lacks tracking_uri, .*dvc repro train"):
        write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)


def test_results_of_an_earlier_model_are_not_passed_off_as_those_of_the_new_one(artifacts, params, write):
    write()
    record = json.loads((artifacts.model / "run.json").read_text())
    (artifacts.model / "run.json").write_text(json.dumps({**record, "run_id": "another"}))
    with pytest.raises(DataError, match=r"evaluation: another model was measured than .*model holds; run `dvc rep"):
        write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)


def test_results_of_other_films_than_the_prepared_ones_are_refused(artifacts, params, write):
    write()
    write_store(artifacts.prepared, ("other.png", Split.TEST, FLAWS))
    with pytest.raises(DataError, match=r"film test/.* is not in the prepared data"):
        write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)


def test_the_verdict_names_no_weakest_class_where_nothing_was_missed():
    rows = {name: {"flaws": 2, "found": 2, "missed": 0} for name in ("crack", "pore")}
    assert verdict({**METRICS, "per_class": rows}) == [
        "The detector found 4 of 4 known flaws (100 %) and missed 0, on 1 film that it had not been trained on.",
        "It raised 1 false call, 1.0 per film. Counted is what it reports with a score of 0.5 or more.",
    ]


@pytest.mark.parametrize(
    ("misnamed", "sentence"),
    [
        (1, "1 of the missed flaws was reported under another class, and counted among the false calls too."),
        (2, "2 of the missed flaws were reported under another class, and counted among the false calls too."),
    ],
)
def test_the_verdict_tells_misnamed_flaws_from_unseen_ones(misnamed, sentence):
    rows = {"crack": {"flaws": 4, "found": 1, "missed": 3}}
    assert verdict({**METRICS, "found": 1, "missed": 3, "misnamed": misnamed, "per_class": rows})[2:] == [sentence]


def test_the_template_is_part_of_the_installed_package():
    assert files("defects_in_welds.evaluation").joinpath(TEMPLATE_NAME).is_file()

import json
from html.parser import HTMLParser
from importlib.resources import files

import pandas as pd
import pytest
from known_project import FLAWS, RUN, write_store

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.evaluation.report.report_page import PAGE_FOLDER, write_report
from defects_in_welds.evaluation.run_evaluation import evaluate


class Page(HTMLParser):
    """What a browser would load and show."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.urls, self.words, self.is_hidden = [], [], [], False
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.is_hidden = tag in ("script", "style")
        self.urls += [value for name, value in attributes if name in ("src", "href", "srcset", "poster", "data")]

    def handle_endtag(self, tag):
        self.is_hidden = False

    def handle_data(self, data):
        if not self.is_hidden:
            self.words.append(data)


@pytest.fixture
def write(artifacts, params):
    params.evaluate.false_calls_per_metre = 1000  # lets the false calls of the validation film pass
    params.evaluate.bootstrap_samples = 20

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
    assert all(url.startswith(("data:image/", "#")) for url in page.urls)
    assert not {"link", "iframe"} & set(page.tags)
    assert "@import" not in html


def test_the_verdict_comes_first_in_plain_words(write):
    text = Page(write()).text
    first = text.index(
        "The detector found 2 of 4 known flaws (50 %; 95 % interval 7 % to 93 %) and missed 2, on 2 films"
    )
    assert first < text.index("By kind of flaw") < text.index("Curves Point at")
    assert "score of 0.6 or more. That threshold was chosen on the validation films" in text
    assert "2 false calls, 1.0 per film" in text
    assert "weakest on gas pore: 0 of 1 found" in text
    assert "This page is advisory." in text


def test_numbers_data_and_run_are_stated(artifacts, write):
    text = Page(write()).text
    before, _, after = text.partition("crack 100 2 of 3 67 % 9 % to 100 % ")
    assert before
    assert "a POD curve takes at least 40 1 0 2 0.663 0.505 to 1.000 0.663" in after
    assert "gas pore 2011 0 of 1 0 % " in text
    assert "train 1 1 2 1 0" in text  # films, welds, tiles, cracks, pores
    assert "test 2 2 4 3 1" in text
    assert "ignored file not read 1" in text
    for fact in (RUN["run_id"], RUN["git_commit"], "bf16-mixed", "anchor_sizes_px [8, 16]", "weights_sha256 null"):
        assert fact in text
    manifest = json.loads((artifacts.prepared / "manifest.json").read_text())
    assert manifest["data_sha256"] in text
    assert "2.0 × 1.0 mm (20 × 10 px)" in text  # noqa: RUF001 - a multiplication sign


def test_names_from_outside_cannot_become_markup(artifacts, params, write):
    usual = Page(write()).tags.count("script")
    params.report.title = "</title><script>alert(1)</script>"
    html = write()
    page = Page(html)
    assert "test/<c>.png" in page.text
    assert "<c>" not in html
    assert "alert(1)" in page.text
    assert page.tags.count("script") == usual


def test_the_worst_films_are_drawn_and_no_more_than_asked(params, write):
    params.report.worst_films = 1
    params.report.gallery_items = 0
    page = Page(write())
    assert "1 found, 1 missed, 1 false call" in page.text
    assert page.tags.count("img") == 1
    params.report.worst_films = 0
    assert Page(write()).tags.count("img") == 0


def test_the_gallery_says_how_many_of_how_many_it_shows(params, write):
    params.report.worst_films = 0
    params.report.gallery_items = 4
    page = Page(write())
    assert page.tags.count("img") == 4
    outcomes = "missed 2 of 2, reported as another kind 0 of 0, false call 1 of 2, found 1 of 2"
    assert f"This page holds 4 of 6 pictures, the worst of each outcome first: {outcomes}." in page.text


def test_acceptance_levels_are_judged_where_the_user_gives_limits(params, write, tmp_path):
    assert "Acceptance levels" not in Page(write()).text
    params.report.acceptance = str(tmp_path / "limits.yaml")
    with pytest.raises(DataError, match=r"limits\.yaml: cannot be read"):
        write()
    (tmp_path / "limits.yaml").write_text("levels: {B: {crack: 0}, C: {crack: 1.5, gas pore: 0.5}}")
    text = Page(write()).text
    assert "test/<c>.png B, C B, C yes" in text
    assert "B 0 no limit C 1.5 0.5" in text
    assert "no standard's table comes with this program" in text


def test_what_the_page_was_written_with_is_told(write):
    text = Page(write()).text
    assert "torch 2." in text
    assert "defects-in-welds 0." in text


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


def test_a_page_without_misses_and_false_calls_shows_no_pictures(artifacts, params, write):
    params.evaluate.fallback_score_threshold = 0.8
    artifacts.prepare(("a.png", Split.TEST, ()))
    page = Page(write())
    assert "most misses" not in page.text
    assert "img" not in page.tags
    assert "Threshold: there are no validation films" in page.text


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        ("model/run.json", "train"),
        ("evaluation/metrics.json", "evaluate"),
        ("evaluation/matches/flaws.parquet", "evaluate"),
        ("evaluation/plots/froc.csv", "evaluate"),
        ("prepared/checks.csv", "prepare"),
    ],
)
def test_a_missing_file_names_the_stage_that_writes_it(artifacts, params, write, missing, stage):
    write()
    (artifacts.prepared.parent / missing).unlink()
    with pytest.raises(DataError, match=rf"{missing.removesuffix('/flaws.parquet')}: .*dvc repro {stage}"):
        write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)
    assert (artifacts.report / "index.html").is_file()


@pytest.mark.parametrize("content", ["[]", '{"run_id": "a", "mAP": 0.5}'])
def test_numbers_of_an_earlier_version_are_refused(artifacts, params, write, content):
    write()
    (artifacts.evaluation / "metrics.json").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.json: no numbers of this version, for it lacks .*dvc repro eval"):
        write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)


def test_matches_of_another_program_are_refused(artifacts, params, write):
    write()
    pd.DataFrame({"name": ["a.png"]}).to_parquet(artifacts.evaluation / "matches" / "films.parquet")
    with pytest.raises(DataError, match=r"matches: cannot be read \('defect_classes'\); run `dvc repro evaluate`"):
        write_report(params, artifacts.prepared, artifacts.model, artifacts.evaluation, artifacts.report)


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


@pytest.mark.parametrize("name", ["report.html.jinja", "report.css", "report.js"])
def test_the_templates_are_part_of_the_installed_package(name):
    assert files("defects_in_welds.evaluation.report").joinpath(PAGE_FOLDER, name).is_file()


# What MLflow's database library says of itself is not ours to mend.
@pytest.mark.filterwarnings("ignore:The ``noload``")
def test_the_page_joins_the_training_run(tracked_run, write):
    client, run_id = tracked_run
    write()
    assert [entry.path for entry in client.list_artifacts(run_id, "report")] == ["report/index.html"]

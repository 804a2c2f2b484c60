"""The page in a browser: what the other tests cannot see."""

import json
import shutil

import pytest
from films import make_film
from hand_made import write_evaluation
from known_project import CLASSES, RUN, write_store
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from defects_in_welds.data.annotation import Split
from defects_in_welds.evaluation.report.report_page import write_report
from defects_in_welds.params import load_params

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1200,900")
NAME = "<script>alert(1)</script>.png"

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed: the page is not opened in a browser"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with 14 missed flaws, of two kinds, two flaws found and two false calls, on two films."""
    folder = tmp_path_factory.mktemp("page")
    names = (NAME, "other.png")
    store = write_store(folder / "prepared", *((name, Split.TEST, ()) for name in names))
    missed = [(3 + 12 * i, 30, 10 + 12 * i, 38, 1 + i % 2, False) for i in range(7)]
    films = [
        make_film(
            [*missed, (10, 10, 30, 20, 1, False)],
            [(10, 10, 30, 20, 1, 0.9), (60, 50, 80, 60, 2, 0.6)],
            name=name,
            image_hw=(64, 100),
        )
        for name in names
    ]
    write_evaluation(folder / "evaluation", films, CLASSES, run_id=RUN["run_id"])
    (folder / "model").mkdir()
    (folder / "model" / "run.json").write_text(json.dumps({**RUN, "data_sha256": store.manifest.data_sha256}))
    limits = folder / "limits.yaml"
    limits.write_text("levels: {B: {crack: 0}}")
    params = load_params()
    params.report.acceptance = str(limits)
    return write_report(params, *(folder / name for name in ("prepared", "model", "evaluation", "report")))


@pytest.fixture(scope="module")
def browser(page):
    """The page, opened, its figures drawn."""
    options = Options()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(DRIVER)
    with webdriver.Chrome(options=options, service=service) as driver:
        driver.get(page.as_uri())
        figures = len(driver.find_elements(By.CLASS_NAME, "plotly-figure"))
        WebDriverWait(driver, 60).until(
            lambda driver: len(driver.find_elements(By.CSS_SELECTOR, ".plotly-figure .plot-container")) == figures
        )
        yield driver


def shown_cards(browser):
    return [card for card in browser.find_elements(By.CLASS_NAME, "card") if card.is_displayed()]


def set_value(browser, selector, value):
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    browser.execute_script(script, browser.find_element(By.CSS_SELECTOR, selector), value)


def click(browser, selector):
    browser.execute_script("arguments[0].click()", browser.find_element(By.CSS_SELECTOR, selector))


def test_no_script_fails(browser):
    assert browser.get_log("browser") == []


def test_nothing_is_asked_of_the_network(browser, page):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    }
    outside = {url for url in asked if not url.startswith(("data:", "blob:"))}
    assert outside <= {page.as_uri()}
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(url.startswith("data:") for url in loaded)


def test_every_figure_is_drawn(browser):
    figures = browser.find_elements(By.CLASS_NAME, "plotly-figure")
    assert len(figures) == 8
    for figure in figures:
        assert figure.find_elements(By.CSS_SELECTOR, "svg.main-svg")
        assert figure.find_elements(By.CSS_SELECTOR, ".trace, .hm, .bars"), figure.get_attribute("id")


def test_a_legend_lies_below_its_plot_and_inside_its_figure(browser):
    script = """
      const box = (element) => element.getBoundingClientRect();
      const figures = [...document.querySelectorAll(".plotly-figure")].filter((each) => each.querySelector(".legend"));
      return figures.map((figure) => [
        box(figure.querySelector(".xaxislayer-above")).bottom, box(figure.querySelector(".legend .bg")).top,
        box(figure.querySelector(".legend .bg")).bottom, box(figure).bottom,
        box(figure.querySelector(".plot .gridlayer, .gridlayer")).height]);
    """
    rows = browser.execute_script(script)
    assert len(rows) >= 4
    for axis_bottom, legend_top, legend_bottom, figure_bottom, plot_height in rows:
        assert axis_bottom <= legend_top + 1
        assert legend_bottom <= figure_bottom + 1
        assert plot_height > 150


def test_the_page_is_no_wider_than_a_phone(browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        widths = "return [...document.querySelectorAll('.main-svg')].map((drawing) => drawing.clientWidth)"
        WebDriverWait(browser, 30).until(lambda browser: max(browser.execute_script(widths)) <= 360)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_gallery_filters(browser):
    assert len(shown_cards(browser)) == 12
    click(browser, "#more")
    assert len(shown_cards(browser)) == 18
    assert not browser.find_element(By.ID, "more").is_displayed()
    click(browser, "#filters input[value=missed]")
    assert {card.get_attribute("data-outcome") for card in shown_cards(browser)} == {"false_call", "hit"}
    assert "4 of 4 shown" in browser.execute_script("return document.querySelector('#filters output').value")
    set_value(browser, "#filters [name=score]", "0.7")
    assert [card.get_attribute("data-outcome") for card in shown_cards(browser)] == ["hit", "hit"]
    set_value(browser, "#filters [name=film]", NAME)
    (card,) = shown_cards(browser)
    assert NAME in card.text
    set_value(browser, "#filters [name=film]", "")
    set_value(browser, "#filters [name=defect_class]", "gas pore")
    assert shown_cards(browser) == []
    click(browser, "#filters input[value=missed]")
    assert len(shown_cards(browser)) == 6
    set_value(browser, "#filters [name=defect_class]", "")
    set_value(browser, "#filters [name=score]", "0")
    set_value(browser, "#filters [name=order]", "score")
    assert shown_cards(browser)[0].get_attribute("data-outcome") == "hit"
    set_value(browser, "#filters [name=order]", "worst")


def test_window_and_level_act_on_every_picture(browser):
    look = """
      const styles = [...document.querySelectorAll(".frame img")].map((image) => getComputedStyle(image).filter);
      const change = document.querySelector("filter feFuncR");
      return [[...new Set(styles)], Number(change.getAttribute("slope")), Number(change.getAttribute("intercept"))];
    """
    assert browser.execute_script(look)[0] == ["none"]
    set_value(browser, "#grey [name=window]", "50")
    set_value(browser, "#grey [name=level]", "30")
    filters, slope, intercept = browser.execute_script(look)
    assert len(filters) == 1
    assert "grey-" in filters[0]
    assert slope * 0.3 + intercept == pytest.approx(0.5)
    assert slope == pytest.approx(2)
    click(browser, "#grey [name=inverted]")
    assert browser.execute_script(look)[1] == pytest.approx(-2)
    click(browser, "#grey [type=reset]")
    WebDriverWait(browser, 10).until(lambda browser: browser.execute_script(look)[0] == ["none"])


def test_boxes_can_be_hidden(browser):
    def shown(kind):
        boxes = browser.find_elements(By.CSS_SELECTOR, f"#films ~ .film .{kind}")
        return {box.is_displayed() for box in boxes}

    assert shown("known") == shown("report") == {True}
    click(browser, "#grey [name=known]")
    assert (shown("known"), shown("report")) == ({False}, {True})
    click(browser, "#grey [name=known]")


def test_a_picture_can_be_looked_at_large(browser):
    click(browser, ".card:not([hidden]) .enlarge")
    dialog = browser.find_element(By.ID, "large")
    assert dialog.find_element(By.TAG_NAME, "img").is_displayed()
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()


def test_it_prints(browser):
    result = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(result["data"]) > 50_000

"""report.html in a real browser, opened from disk: it draws, it can be worked with, and it asks nothing of anyone."""

import pytest
from runs import corpus, settings, trained
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import WebDriverWait

from seq2seq.report import write_report

DRAWN = """
const plot = document.querySelectorAll('.plot')[arguments[0]];
return plot.data.filter(t => t.showlegend !== false && t.visible === true).map(t => [t.name, t.y]);
"""
PLACES = """
return [...document.querySelectorAll('.plot')].map(plot => plot.calcdata.filter(points => points[0].trace.mode)
    .map(points => [points.map(point => point.x), [...points[0].trace.x]]));
"""
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    data = corpus(out / "corpus")
    folders = [str(trained(out / norm, settings(data, norm, 60))) for norm in ("none", "batch", "layer")]
    write_report(folders, out, "python scripts/compare.py RUNS")
    return out / "report.html"


@pytest.fixture
def page(browser, report):
    browser.set_window_size(1200, 1000)
    browser.get(report.as_uri())
    return browser


def test_the_three_norms_are_drawn_by_name_and_one_is_toggled(page, tmp_path):
    first = dict(page.execute_script(DRAWN, 0))
    assert list(first) == ["none", "batch", "layer"]
    assert all(len(y) > 3 for y in first.values())
    plot = page.find_element("css selector", ".plot")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    names = [text.text for text in plot.find_elements("css selector", ".legendtext")]
    assert names == list(first)
    toggle = plot.find_elements("css selector", ".legendtoggle")[1]
    ActionChains(page).move_to_element(toggle).click().perform()
    wait(page, lambda: [name for name, _ in page.execute_script(DRAWN, 0)] == ["none", "layer"])
    page.save_screenshot(str(tmp_path / "toggled.png"))


def test_every_point_of_a_curve_is_drawn_at_its_own_place(page):
    plots = page.execute_script(PLACES)
    assert plots
    for traces in plots:
        assert len(traces) >= 3
        for drawn, given in traces:
            assert drawn == given


def wait(page, condition):
    """A click on a legend waits for a second one before it counts."""
    WebDriverWait(page, 60).until(lambda _: condition())


def test_smoothing_smooths_and_ends_where_it_began(page):
    before = dict(page.execute_script(DRAWN, 0))["layer"]
    slider = "const s = document.querySelector('[data-smooths]'); s.value = arguments[0];" \
             "s.dispatchEvent(new Event('input'))"

    def roughness(values):
        return sum(abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False))

    page.execute_script(slider, 0.8)
    assert roughness(dict(page.execute_script(DRAWN, 0))["layer"]) < 0.7 * roughness(before)
    page.execute_script(slider, 0)
    assert dict(page.execute_script(DRAWN, 0))["layer"] == pytest.approx(before)


def test_buttons_change_the_axis(page):
    plot = page.find_element("css selector", ".plot")
    buttons = {button.text: button for button in plot.find_elements("css selector", ".updatemenu-button")}
    assert {"by update", "by seconds", "by tokens", "linear", "log"} <= buttons.keys()
    title = "return document.querySelector('.plot').layout.xaxis.title.text"
    assert page.execute_script(title) == "update"
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(page).move_to_element(buttons["by seconds"]).click().perform()
    wait(page, lambda: page.execute_script(title) == "seconds of training")
    assert [name for name, _ in page.execute_script(DRAWN, 0)] == ["none", "batch", "layer"]


@pytest.mark.parametrize("width", [360, 1200])
def test_no_width_needs_scrolling_sideways(page, width):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                         {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500})
    page.refresh()
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script(OVERFLOW) <= 0
    for plot in page.find_elements("css selector", ".plot"):
        assert plot.size["width"] <= width


def test_dark_mode_is_dark_and_legible(page):
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [dark]})
    assert "invert" in page.execute_script("return getComputedStyle(document.querySelector('.plot')).filter")
    assert page.execute_script("return getComputedStyle(document.body).color") == "rgb(255, 255, 255)"


def test_on_paper_the_pictures_stand_in_for_the_plots(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not page.find_element("css selector", ".plot").is_displayed()
    assert all(image.is_displayed() for image in page.find_elements("css selector", ".picture"))


def test_without_javascript_the_pictures_are_shown(page, report, tmp_path):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get(report.as_uri())
    pictures = page.find_elements("css selector", ".picture")
    assert len(pictures) == 3
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert all(image.is_displayed() and image.size["width"] > 500 for image in pictures)

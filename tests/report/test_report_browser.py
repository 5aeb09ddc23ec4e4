"""report.html in a real browser, opened from disk: it draws, it reacts to input, and it needs no network."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browser import wait_until
from experiment_runs import BUILDERS
from runs import corpus, settings, trained
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement

from seq2seq.figures import shade
from seq2seq.report.page import write_report

READY = """
return [...document.querySelectorAll('.plot')].every(plot => plot.view && plot.querySelector('svg'));
"""
POINTS = """
const symbols = item => item.marktype === 'symbol' ? item.items : (item.items ?? []).flatMap(symbols);
const points = view => symbols(view.scenegraph().root).filter(item => item.datum?.x !== undefined);
"""
DRAWN = f"""
{POINTS}
const lines = {{}};
for (const {{datum}} of points(document.querySelectorAll('.plot')[arguments[0]].view)) (lines[datum.label] ??= []).push(datum.y);
return Object.entries(lines);
"""
PLACES = f"""
{POINTS}
return [...document.querySelectorAll('.plot')].map(({{view}}) => points(view).map(
    item => [item.datum.label, item.x, item.y, view.scale('x')(item.datum.x), view.scale('y')(item.datum.y)]));
"""
LEGEND = "return [...arguments[0].querySelectorAll('.role-legend-label text')].map(text => text.textContent)"
OUTSIDE = """
const {left, right, top, bottom} = arguments[0].querySelector('svg').getBoundingClientRect();
return [...arguments[0].querySelectorAll('svg text')].filter(text => {
  const box = text.getBoundingClientRect();
  return box.left < left - 1 || box.right > right + 1 || box.top < top - 1 || box.bottom > bottom + 1;
}).map(text => text.textContent);
"""
CELLS = """
const cells = [...arguments[0].querySelectorAll('td')];
return [cells.map(cell => getComputedStyle(cell, '::before').content),
        cells.map(cell => parseFloat(getComputedStyle(cell).fontSize))];
"""
AXES = """
const plot = document.querySelector('.plot'), title = plot.querySelector('.role-axis-title text').textContent;
return [title, plot.view.scale('x').type, plot.view.scale('y').type];
"""
MAPS = """
return [...document.querySelectorAll('.map')].map(map => [
  map.offsetWidth, ...[...map.querySelectorAll('td')].flatMap(cell => [cell.offsetWidth, cell.offsetHeight])]);
"""
SCROLLS = """
return [...document.querySelectorAll('.maps figure')].some(figure => figure.scrollWidth > figure.clientWidth);
"""
SHADED = """
return [...document.querySelectorAll('.map td[title]')].map(cell => [cell.title, getComputedStyle(cell).backgroundColor]);
"""
TOO_WIDE = "return arguments[0].scrollWidth > arguments[0].clientWidth"
SEEN = (
    "return [...document.querySelectorAll(arguments[0])].map(e => e.checkVisibility() &&"
    " e.offsetHeight > 0)"
)
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    data = corpus(out / "corpus")
    folders = [
        str(trained(out / norm, settings(data, norm, 60))) for norm in ("none", "batch", "layer")
    ]
    write_report(folders, out, "python scripts/compare.py RUNS")
    return out / "report.html"


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of runs of every experiment."""
    out = tmp_path_factory.mktemp("experiments")
    with pytest.MonkeyPatch.context() as patch:
        runs = [run for build in BUILDERS.values() for run in build(1)]
        patch.setattr("seq2seq.report.page.read_runs", lambda _: (runs, []))
        write_report(["RUNS"], out, "python scripts/compare.py RUNS")
    return out / "report.html"


@pytest.fixture
def page(browser: Chrome, report: Path) -> Chrome:
    browser.set_window_size(1200, 1000)
    return opened(browser, report)


def opened(browser: Chrome, report: Path) -> Chrome:
    """Open the page and wait until all its charts are drawn."""
    browser.get(report.as_uri())
    wait_until(browser, lambda: browser.execute_script(READY), "every chart is drawn")
    return browser


@pytest.fixture
def phone(browser: Chrome, experiments: Path) -> Chrome:
    """Open the experiments' page at the width of a phone."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    return opened(browser, experiments)


def test_a_phone_shows_attention_maps_in_their_own_size(browser: Chrome, report: Path) -> None:
    """Labels of smaller maps could not be read; wide maps scroll horizontally."""
    sizes = []
    for width in (1600, 280):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True},
        )
        sizes.append(opened(browser, report).execute_script(MAPS))
        assert browser.execute_script(OVERFLOW) <= 0
    assert sizes[0] == sizes[1]
    assert sizes[1]
    assert browser.execute_script(SCROLLS)
    assert {size for _, *cells in sizes[1] for size in cells} == {24}  # every cell is a square


def test_a_cell_of_an_attention_map_has_the_colour_of_its_weight(
    browser: Chrome, report: Path
) -> None:
    cells = opened(browser, report).execute_script(SHADED)
    assert cells
    for title, colour in cells:
        weight = float(title.rpartition(": ")[2])
        near = [shade(w) for w in (weight - 0.005, weight + 0.005)]
        low, high = (np.array(list(bytes.fromhex(each[1:]))) for each in near)
        red_green_blue = [int(part) for part in re.findall(r"\d+", colour)]
        assert (np.minimum(low, high) <= red_green_blue).all()
        assert (red_green_blue <= np.maximum(low, high)).all()


def control(place: WebElement, label: str) -> WebElement:
    """Return the label of a control of a chart."""
    (found,) = [
        e for e in place.find_elements("css selector", ".controls label") if e.text == label
    ]
    return found


def test_three_norms_are_drawn_and_one_can_be_hidden_and_shown(
    page: Chrome, tmp_path: Path
) -> None:
    first = dict(page.execute_script(DRAWN, 0))
    assert list(first) == ["none", "batch", "layer"]
    assert all(len(y) > 3 for y in first.values())
    plot = page.find_element("css selector", ".plot")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    assert page.execute_script(LEGEND, plot) == list(first)
    for shown in (["none", "layer"], ["none", "batch", "layer"]):  # hidden, and shown again
        entry = plot.find_elements("css selector", ".role-legend-label text")[1]
        ActionChains(page).move_to_element(entry).click().perform()
        wait_until(page, partial(shows, page, shown), f"{shown} are drawn")
        page.save_screenshot(str(tmp_path / f"{len(shown)}_norms.png"))


def shows(page: Chrome, expected: list[str]) -> bool:
    """Return whether the first chart shows these lines, in any order."""
    return set(names(page)) == set(expected)


def has_axes(page: Chrome, expected: list[str]) -> bool:
    """Return whether the first chart has this title of x and these kinds of axes."""
    return bool(page.execute_script(AXES) == expected)


def names(page: Chrome) -> list[str]:
    """Return the names of the lines that the first chart shows."""
    return [name for name, _ in page.execute_script(DRAWN, 0)]


def test_a_hidden_line_stays_hidden_on_other_axes(page: Chrome) -> None:
    plot = page.find_element("css selector", ".plot")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    entry = plot.find_elements("css selector", ".role-legend-label text")[0]
    ActionChains(page).move_to_element(entry).click().perform()
    wait_until(page, lambda: names(page) == ["batch", "layer"], "none is off")
    figure = page.find_element("css selector", "figure")
    control(figure, "by seconds").click()
    wait_until(page, lambda: page.execute_script(AXES)[0].startswith("seconds"), "it is redrawn")
    assert names(page) == ["batch", "layer"]


def test_a_point_shows_its_values(page: Chrome) -> None:
    plot = page.find_elements("css selector", ".plot")[1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    points = plot.find_elements("css selector", "path[aria-roledescription=point]")
    ActionChains(page).move_to_element(points[-1]).perform()
    shown = "const tip = document.querySelector('#vg-tooltip-element.visible'); return tip && tip.textContent"
    text = wait_until(page, lambda: page.execute_script(shown), "the tooltip is shown")
    assert "layer" in text
    assert "validation loss (nats/token)" in text


def test_every_point_of_a_curve_is_at_its_place(page: Chrome) -> None:
    plots = page.execute_script(PLACES)
    assert plots
    for points in plots:
        assert len({label for label, *_ in points}) >= 3
        for _, *drawn, x, y in points:
            assert drawn == pytest.approx([x, y])


def test_smoothing_can_be_turned_on_and_off(page: Chrome) -> None:
    before = dict(page.execute_script(DRAWN, 0))["layer"]
    slider = (
        "const s = document.querySelector('[name=smoothing]'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )

    def roughness(values: list[float]) -> float:
        return sum(
            abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)
        )

    def layer() -> list[float]:
        found: list[float] = dict(page.execute_script(DRAWN, 0))["layer"]
        return found

    page.execute_script(slider, 0.8)
    wait_until(page, lambda: roughness(layer()) < 0.7 * roughness(before), "it is smooth")
    page.execute_script(slider, 0)
    wait_until(page, lambda: layer() == pytest.approx(before), "it is as before")


def test_controls_choose_the_panel_and_its_axes(page: Chrome) -> None:
    figure = page.find_element("css selector", "figure")
    assert page.execute_script(AXES) == ["update", "linear", "log"]
    for label, expected in (
        ("by seconds", ["seconds of training", "linear", "log"]),
        ("log x", ["seconds of training", "log", "log"]),
        ("log y", ["seconds of training", "log", "linear"]),
        ("by tokens", ["target tokens trained on", "linear", "log"]),
    ):
        control(figure, label).click()
        wait_until(page, partial(has_axes, page, expected), str(expected))
    assert [
        control(figure, f"log {axis}").find_element("tag name", "input").is_selected()
        for axis in "xy"
    ] == [False, True]
    assert names(page) == ["none", "batch", "layer"]


def test_an_axis_of_names_offers_no_logarithm(phone: Chrome) -> None:
    figures = {
        figure.find_element("css selector", "figcaption").text: figure
        for figure in phone.find_elements("css selector", "figure:has(.plot)")
    }
    offered = {
        title: [
            label.text
            for label in figure.find_elements("css selector", ".controls label")
            if label.is_displayed() and label.text.startswith("log")
        ]
        for title, figure in figures.items()
    }
    assert offered["Quality by length of the source"] == ["log x", "log y"]
    assert offered["Change of the output"] == ["log y"]  # its x axis has names


@pytest.mark.parametrize("width", [360, 1200])
def test_no_width_needs_horizontal_scrolling(page: Chrome, width: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    page.refresh()
    wait_until(page, lambda: page.execute_script(READY), "every chart is drawn")
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script(OVERFLOW) <= 0
    for plot in page.find_elements("css selector", ".plot svg"):
        assert 0.7 * width < plot.size["width"] <= width


def test_a_phone_shows_verdicts_as_cards(phone: Chrome) -> None:
    assert phone.execute_script("return innerWidth") == 375
    assert phone.execute_script(OVERFLOW) <= 0
    tables = phone.find_elements("css selector", ".cards")
    assert len(tables) > len(BUILDERS)
    assert not any(phone.execute_script(TOO_WIDE, table) for table in tables)
    short = tables[0]
    verdicts = phone.find_element("css selector", "[aria-label=Verdicts]")
    names, _ = phone.execute_script(CELLS, short)
    assert [name.replace('" "', "") for name in names[:3]] == [
        '"compared with none: "',
        '"test BLEU difference (95%): "',
        '"significant?: "',
    ]
    assert "Convergence: With layer norm a recurrent network" in verdicts.text
    names, sizes = phone.execute_script(CELLS, verdicts)
    assert {
        name.replace('" "', "") for name in names
    } == {  # some versions of Chromium give the parts of a content separately
        "none",
        '"mean and 95% interval: "',
        '"seeds: "',
        '"detectable effect (80% power): "',
    }
    assert min(sizes) >= 14


def test_a_phone_shows_every_text_of_a_chart(phone: Chrome, tmp_path: Path) -> None:
    plots = phone.find_elements("css selector", ".plot")
    assert len(plots) > len(BUILDERS)
    outside = {
        plot.get_attribute("data-chart"): phone.execute_script(OUTSIDE, plot) for plot in plots
    }
    assert {chart: texts for chart, texts in outside.items() if texts} == {}
    alone, *others = sorted(len(phone.execute_script(LEGEND, plot)) for plot in plots)
    assert alone == 1  # how far batch norm is from no norm is one line
    assert others[0] >= 3
    marks = [text.text for text in phone.find_elements("css selector", ".role-mark text")]
    assert [mark for mark in marks if not mark.startswith("×")] == ["longest in training"]
    phone.save_screenshot(str(tmp_path / "phone.png"))


def test_dark_mode_is_dark_and_legible(page: Chrome) -> None:
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [dark]})
    assert "invert" in page.execute_script(
        "return getComputedStyle(document.querySelector('.plot')).filter"
    )
    assert (
        page.execute_script("return getComputedStyle(document.body).color") == "rgb(255, 255, 255)"
    )


def test_a_printed_page_has_pictures_instead_of_plots(page: Chrome) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not any(page.execute_script(SEEN, ".plot, .controls"))
    assert all(page.execute_script(SEEN, ".picture"))


def test_a_printed_page_has_everything_unfolded(page: Chrome) -> None:
    assert not any(page.execute_script(SEEN, "details:not([open]) td"))
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    cells = page.execute_script(SEEN, "details:not([open]) td")
    assert len(cells) > 3 * 10
    assert all(cells)


def test_without_javascript_the_page_shows_pictures(page: Chrome, report: Path) -> None:
    assert all(page.execute_script(SEEN, ".plot, .controls"))
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get(report.as_uri())
    assert len(page.find_elements("css selector", ".picture")) == 4
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    pictures = page.find_elements("css selector", ".picture")
    assert all(image.is_displayed() and image.size["width"] > 500 for image in pictures)
    dead = page.execute_script(SEEN, ".plot, .controls")
    assert len(dead) == 2 * 4
    assert not any(dead)

"""TensorBoard in a real browser, on three short runs.

Screenshots are in pytest's temporary folder, screenshots0.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from browser import errors, find, foreign_requests, open_tab, wait_for, wait_until
from selenium.webdriver import Chrome
from selenium.webdriver.remote.webelement import WebElement
from typed import present

pytest_plugins = ["run_fixtures"]

RUNS = [f"{norm}-lstm-tiny-seed1" for norm in ("batch", "layer", "none")]


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def board(three_runs: dict[str, Path]) -> Iterator[str]:
    """Start a TensorBoard of the runs on a free port; yield its address."""
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(three_runs["none"].parent),
        "--port",
        "0",
        "--host",
        "127.0.0.1",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            lines = []
            for line in present(server.stderr):
                lines.append(line)
                if " at http" in line:
                    break
            else:
                pytest.fail(f"TensorBoard ended: {''.join(lines)}")
            yield line.split(" at ")[1].split()[0]
        finally:
            server.terminate()


def checkbox(browser: Chrome, run: str) -> WebElement:
    """Return the checkbox of a run in the list on the left."""
    (row,) = find(browser, "tb-data-table-content-row", run)
    return row.find_element("css selector", "input[type=checkbox]")


def is_checked(browser: Chrome, run: str) -> bool:
    """Return whether a run is shown."""
    return checkbox(browser, run).is_selected()


def test_each_run_can_be_seen_and_hidden(browser: Chrome, board: str, screenshots: Path) -> None:
    browser.get(f"{board}#timeseries")
    for run in RUNS:
        wait_for(browser, "card-view", f"attention\n{run}")
        wait_until(browser, partial(is_checked, browser, run), f"{run} is shown")
    browser.save_screenshot(screenshots / "timeseries.png")
    checkbox(browser, RUNS[0]).click()
    wait_until(browser, lambda: not find(browser, "card-view", RUNS[0]), "the run's cards are gone")
    wait_until(
        browser,
        lambda: [is_checked(browser, run) for run in RUNS] == [False, True, True],
        "the run is off, the others are on",
    )
    wait_for(browser, "card-view", f"attention\n{RUNS[1]}")
    browser.save_screenshot(screenshots / "timeseries_without_batch.png")


def charts(browser: Chrome, start: str, end: str) -> list[WebElement]:
    """Return the charts whose text starts and ends like this."""
    return [
        chart
        for chart in find(browser, "tf-custom-scalar-multi-line-chart-card", start)
        if chart.text.startswith(start) and chart.text.endswith(end)
    ]


def test_the_norms_are_overlaid(browser: Chrome, board: str, screenshots: Path) -> None:
    browser.get(f"{board}#custom_scalars")
    for title, lines in (
        ("training and validation loss (nats/token)", 6),
        ("validation BLEU", 3),
        ("gradient norm", 3),
        ("target tokens/s", 3),
        ("encoder", 3),
        ("decoder", 3),
    ):
        wait_until(
            browser,
            partial(charts, browser, f"{title}\n", f"Matches ({lines})"),
            f"{title}: {lines} lines",
        )
    browser.save_screenshot(screenshots / "custom_scalars.png")


def test_the_hidden_states_are_shown_by_layer_and_step(
    browser: Chrome, board: str, screenshots: Path
) -> None:
    browser.get(f"{board}#histograms")
    for run in RUNS:
        assert wait_for(browser, "tf-histogram-loader", f"gate_f/decoder0/step0\n{run}")
    assert wait_for(browser, "tf-category-paginated-view", "hidden")
    browser.save_screenshot(screenshots / "histograms.png")


def test_the_statistics_of_batch_norm_are_shown_by_step(
    browser: Chrome, board: str, screenshots: Path
) -> None:
    browser.get(f"{board}#images")
    (image,) = wait_for(browser, "tf-image-loader", "batch_norm/by_step")
    assert RUNS[0] in image.text
    browser.execute_script("arguments[0].scrollIntoView()", image)
    browser.save_screenshot(screenshots / "images.png")


def test_settings_and_final_bleu_are_in_one_table(
    browser: Chrome, board: str, screenshots: Path, three_runs: dict[str, Path]
) -> None:
    browser.get(f"{board}#hparams")
    for norm, folder in three_runs.items():
        bleu = json.loads((folder / "results.json").read_text())["test"]["bleu"]
        shown = wait_for(browser, "tr", folder.name)[0].text.split("\n")
        assert shown[:2] == [folder.name, norm]
        assert any(
            abs(float(cell) - bleu) < 1e-3 * max(bleu, 1)
            for cell in shown[2:]
            if cell[:1].isdigit()
        )
    browser.save_screenshot(screenshots / "hparams.png")


def test_errors_and_foreign_requests_of_a_page_are_detected(
    browser: Chrome, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(
        """<title>wrong</title><script>console.error("this is wrong")</script>
        <img src="https://example.org/picture.png"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">"""
    )
    browser.get((tmp_path / "page.html").as_uri())
    assert foreign_requests(browser) == ["https://example.org/picture.png"]
    found = errors(browser)
    assert any("this is wrong" in message for message in found)
    assert any("ERR_NAME_NOT_RESOLVED" in message for message in found)


def test_a_tab_of_a_test_remembers_nothing_of_the_last_one(
    browser: Chrome, board: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(
        """<title>wrong</title><script>console.error("this is wrong")</script>
        <img src="https://example.org/picture.png">"""
    )
    marks = "return [localStorage.mark, document.cookie, matchMedia('print').matches]"
    for address in (f"{board}data/plugins_listing", (tmp_path / "page.html").as_uri()):
        browser.get(address)
        browser.execute_script("document.cookie = localStorage.mark = 'mark'")
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        mark, _, printing = browser.execute_script(marks)
        assert (mark, printing) == ("mark", True)
        open_tab(browser)
        assert len(browser.window_handles) == 1
        assert (errors(browser), foreign_requests(browser)) == ([], [])
        browser.get(address)
        assert browser.execute_script(marks) == [None, "", False]
    open_tab(browser)  # the errors of this page are meant

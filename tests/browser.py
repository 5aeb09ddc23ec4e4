"""A headless Chromium driven by selenium, which reports errors and requests to other machines.

It needs the programs chromium and chromedriver (Debian: chromium, chromium-driver). Nothing is
downloaded.
"""

import json
import os
import shutil
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

Found = TypeVar("Found")

HERE = "127.0.0.1"
PROGRAMS = ("chromium", "chromedriver")
SIZE = 1600, 1200
LOGS = "browser", "performance"
SECONDS = 60
"""Longest wait for something to appear; the machine may be busy."""
FIND = """
const found = [];
const search = root => {
  found.push(...root.querySelectorAll(arguments[0]));
  root.querySelectorAll('*').forEach(element => element.shadowRoot && search(element.shadowRoot));
};
search(document);
return found;
"""


def missing() -> list[str]:
    """Return the programs that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def start() -> webdriver.Chrome:
    """Start a browser that reaches no other machine."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    arguments = [
        "headless=new",
        "window-size={},{}".format(*SIZE),
        "no-first-run",
        "no-proxy-server",
        "disable-dev-shm-usage",
        f"host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {HERE}",
    ]
    if os.geteuid() == 0:
        arguments.append("no-sandbox")  # the sandbox does not work for the superuser
    for argument in arguments:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", dict.fromkeys(LOGS, "ALL"))
    return webdriver.Chrome(options, Service(shutil.which("chromedriver")))


def open_tab(driver: webdriver.Chrome) -> None:
    """Open a tab in place of all others, without what pages stored, logged or requested before.

    Emulated devices and media belong to a tab, and end with it.
    """
    before = driver.window_handles
    driver.switch_to.new_window("tab")
    new = driver.current_window_handle
    for handle in before:
        driver.switch_to.window(handle)
        page = urlsplit(driver.current_url)
        stored = {"origin": f"{page.scheme}://{page.netloc}", "storageTypes": "all"}
        driver.execute_cdp_cmd("Storage.clearDataForOrigin", stored)
        driver.close()
    driver.switch_to.window(new)
    driver.set_window_size(*SIZE)
    for kind in LOGS:
        driver.get_log(kind)  # which empties it


def errors(driver: webdriver.Chrome) -> list[str]:
    """Return the errors logged since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def foreign_requests(driver: webdriver.Chrome) -> list[str]:
    """Return the addresses on other machines that pages requested since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if urlsplit(url).hostname not in (None, HERE)]


def find(driver: webdriver.Chrome, selector: str, text: str = "") -> list[WebElement]:
    """Return the displayed elements with a text, by CSS selector, in shadow trees too."""
    return [
        element
        for element in driver.execute_script(FIND, selector)
        if element.is_displayed() and text in element.text
    ]


def wait_until(driver: webdriver.Chrome, true: Callable[[], Found | None], what: str) -> Found:
    """Return what a function returns, as soon as it is true.

    A page that is redrawn meanwhile is read again.
    """
    wait = WebDriverWait(driver, SECONDS, ignored_exceptions=[StaleElementReferenceException])
    return wait.until(lambda _: true() or False, f"waited {SECONDS} s: {what}")


def wait_for(
    driver: webdriver.Chrome, selector: str, text: str = "", count: int = 1
) -> list[WebElement]:
    """Return what `find` finds, as soon as there are so many."""

    def enough() -> list[WebElement] | None:
        found = find(driver, selector, text)
        return found if len(found) >= count else None

    return wait_until(driver, enough, f"{count} x {selector!r} with {text!r}")

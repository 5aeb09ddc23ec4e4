"""A headless Chromium driven by selenium, and what no page in it may do: log errors, ask other
machines for anything.

Needs the programs chromium and chromedriver (Debian: chromium, chromium-driver). Nothing is
downloaded.
"""

import json
import os
import shutil
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

HERE = "127.0.0.1"
PROGRAMS = ("chromium", "chromedriver")
SECONDS = 60
"""That something may take to appear: the machine may be busy."""
FIND = """
const found = [];
const search = root => {
  found.push(...root.querySelectorAll(arguments[0]));
  root.querySelectorAll('*').forEach(element => element.shadowRoot && search(element.shadowRoot));
};
search(document);
return found;
"""


def missing():
    """Those of the programs that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def start():
    """A browser that reaches no other machine."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    arguments = [
        "headless=new",
        "window-size=1600,1200",
        "no-first-run",
        "no-proxy-server",
        "disable-dev-shm-usage",
        f"host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {HERE}",
    ]
    if os.geteuid() == 0:
        arguments.append("no-sandbox")  # which the superuser can't use
    for argument in arguments:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, Service(shutil.which("chromedriver")))


def errors(driver):
    """What was logged as an error since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def foreign_requests(driver):
    """The addresses on other machines that pages asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if urlsplit(url).hostname not in (None, HERE)]


def find(driver, selector, text=""):
    """The elements that are displayed and hold a text, by CSS selector, in shadow trees too."""
    return [
        element
        for element in driver.execute_script(FIND, selector)
        if element.is_displayed() and text in element.text
    ]


def wait_until(driver, true, what):
    """What a function returns, as soon as it is true; a page that is drawn anew meanwhile is looked
    at again.
    """
    wait = WebDriverWait(driver, SECONDS, ignored_exceptions=[StaleElementReferenceException])
    return wait.until(lambda _: true(), f"waited {SECONDS} s: {what}")


def wait_for(driver, selector, text="", count=1):
    """What `find` finds, as soon as there are so many."""

    def enough():
        found = find(driver, selector, text)
        return found if len(found) >= count else None

    return wait_until(driver, enough, f"{count} x {selector!r} with {text!r}")

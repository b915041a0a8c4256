"""A small simulated result, `panimbus view` on it in another process, and a real Chromium.

``browser`` fails a test whose pages wrote an error to the console or asked another host.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("nicegui")
WAIT = 20


@pytest.fixture(scope="session")
def made_result(tmp_path_factory):
    """A result of two small simulated FOVs with types; never changed (see ``result_folder``)."""
    folder = tmp_path_factory.mktemp("viewer")
    for words in (
        ["simulate", "--out", "data", "--fovs", "2", "--side", "256", "--seed", "1", "--platform", "codex"],
        ["predict", "data/images", "--labels", "data/labels", "--out", "result", "--tta", "none"],
        ["phenotype", "run", "result/cells.h5ad", "--out", "result/types", "--no-report"],
    ):  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-m", "panimbus", *words], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
    return folder / "result"


@pytest.fixture
def result_folder(made_result, tmp_path):
    """A copy of the result, which a test may change; images and labels stay where they are."""
    return Path(shutil.copytree(made_result, tmp_path / "result"))


@dataclass(frozen=True)
class Served:
    """A running viewer: its address with and without the token, and its process."""

    url: str
    process: subprocess.Popen

    @property
    def base(self):
        return self.url.partition("/?")[0]

    @property
    def token(self):
        return self.url.partition("token=")[2]

    def page(self, path):
        """Address of a page or picture, with the token."""
        return f"{self.base}{path}{'&' if '?' in path else '?'}token={self.token}"


@contextmanager
def serving(folder, *options, port="0"):
    """``panimbus view FOLDER`` in another process, until the block ends."""
    command = [sys.executable, "-m", "panimbus", "view", str(folder), "--no-open", "--port", port]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment(), cwd=Path(folder).parent
    )  # fmt: skip
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if match := re.search(r"http://\S+", line):
                break
        else:
            raise AssertionError("".join(lines))
        yield Served(match[0], process)
    finally:
        process.terminate()
        try:
            process.wait(WAIT)
        finally:
            process.kill()
            process.stdout.close()


@pytest.fixture(scope="session")
def shared_server(made_result):
    """A read-only viewer for all tests that change nothing."""
    with serving(made_result, "--read-only") as served:
        yield served


@pytest.fixture
def server(result_folder):
    """A viewer of a copy of the result."""
    with serving(result_folder) as served:
        yield served


@pytest.fixture(scope="session")
def serve():
    """``with serve(folder, *options) as served``."""
    return serving


def _environment():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return {**environment, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


# -- the browser
# ------------------------------------------------------------------------------


class Browser:
    """Chromium with a few shorthands; ``driver`` is selenium's."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, served, path="/"):
        """Open a page and wait until its websocket is there."""
        self.driver.get(served.page(path))
        self.until("return window.socket && window.socket.connected")
        return self

    def leave(self):
        """Leave the server, before it ends."""
        self.driver.get("about:blank")

    def css(self, selector):
        """The first element of a selector, once it is there and shown."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support import expected_conditions
        from selenium.webdriver.support.ui import WebDriverWait

        shown = expected_conditions.visibility_of_element_located((By.CSS_SELECTOR, selector))
        return WebDriverWait(self.driver, WAIT).until(shown, selector)

    def test(self, name):
        """The element with ``data-test=name``."""
        return self.css(f'[data-test="{name}"]')

    def click(self, selector):
        """Click an element by selector, or by the name of its ``data-test``."""
        (self.css(selector) if re.search(r"[.#\[ ]", selector) else self.test(selector)).click()

    def until(self, script, *arguments, seconds=WAIT):
        """Wait for a script to return something true, and return it."""
        end = time.monotonic() + seconds
        while not (value := self.driver.execute_script(script, *arguments)):
            assert time.monotonic() < end, f"still not: {script}"
            time.sleep(0.05)
        return value

    def until_text(self, selector, pattern):
        """Wait until an element's text matches a regular expression."""
        script = "const e = document.querySelector(arguments[0]); return e ? e.innerText : '';"
        end = time.monotonic() + WAIT
        while not re.search(pattern, text := self.driver.execute_script(script, selector) or ""):
            assert time.monotonic() < end, f"{selector} is {text!r}, not {pattern!r}"
            time.sleep(0.05)
        return text

    def size(self, width, height):
        """Size of the page."""
        self.driver.set_window_size(width, height)

    def problems(self):
        """Errors in the console and requests to other hosts since the last call."""
        errors = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        asked = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                about = message["params"]
                asked.add(urlsplit(about.get("url") or about["request"]["url"])[:2])
        strange = [
            f"{scheme}://{host}"
            for scheme, host in asked
            if scheme in ("http", "https", "ws", "wss")
            and host.rpartition(":")[0] not in ("127.0.0.1", "localhost")
        ]
        return errors + strange


@pytest.fixture(scope="session")
def driver():
    """Chromium without a screen."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no Chromium here")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,800", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver):
    """A `Browser` at 1280 x 800; fails the test on console errors and foreign requests."""
    one = Browser(driver)
    one.size(1280, 800)
    one.problems()
    yield one
    one.leave()
    assert one.problems() == []
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})  # of every page, not of this one

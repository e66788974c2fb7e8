"""The shipped weights behind a server on a free port, pictures to send to it, and a browser."""

import csv
import os
import re
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.png"))
PAGES = Path(os.environ.get("KUZUSHIJI_PAGES") or ROOT.parent / "shared" / "data" / "pages")


@pytest.fixture(scope="session")
def model(model):
    from transfer.web.listen import warm

    warm(model)  # here, so that no test's patience is spent on compiling
    return model


@pytest.fixture(scope="session")
def address(model):
    """(host, port) of a real server."""
    with Serving(model) as found:
        yield found


@pytest.fixture(scope="session")
def serving():
    return Serving


@pytest.fixture(scope="session")
def examples() -> list[bytes]:
    """The eight example files."""
    return [path.read_bytes() for path in EXAMPLES]


class Serving:
    """`with Serving(model, **options) as (host, port)`: uvicorn in a thread."""

    def __init__(self, model, **options):
        import uvicorn

        from transfer.web import app

        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(
            uvicorn.Config(
                app(model, **options), log_level="warning", lifespan="off", access_log=False
            )
        )
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}, daemon=True
        )

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        return self.listener.getsockname()

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)
        self.listener.close()


@pytest.fixture(scope="session")
def letter():
    """The labelled letter of 1882: its file, (width, height), and the boxes of its characters."""
    path = PAGES / "9973821_0004.jpg"
    if not path.is_file():
        pytest.skip("no sample pages here: name their folder in $KUZUSHIJI_PAGES")
    with open(PAGES / "letter_1882" / "labels.csv", encoding="utf-8", newline="") as file:
        sides = ("left", "top", "right", "bottom")
        boxes = [tuple(int(row[side]) for side in sides) for row in csv.DictReader(file)]
    return path.read_bytes(), (2048, 1499), boxes


@pytest.fixture(scope="session")
def labels(letter) -> list[str]:
    """The letter's characters, in the order of its boxes."""
    with open(PAGES / "letter_1882" / "labels.csv", encoding="utf-8", newline="") as file:
        return [row["character"] for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip("no Chromium here: install it, or name it in $CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, address):
    """open_page(path, **context options): the page, ready. Errors in its console, and requests to
    elsewhere, fail the test; `elsewhere` is a pattern of addresses that may be asked, whose
    failures the browser logs."""
    contexts, problems = [], []

    def opened(path="/", elsewhere=None, **options):
        options = {
            "locale": "en-GB",
            "viewport": {"width": 1280, "height": 900},
            "reduced_motion": "reduce",
        } | options
        contexts.append(
            browser.new_context(base_url=f"http://{address[0]}:{address[1]}", **options)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        # A refused picture is logged by the browser as a failed request; that is no error of the
        # page.
        page.on(
            "console",
            lambda line: (
                problems.append(line.text)
                if line.type == "error"
                and not re.search("status of (4|503)", line.text)
                and not (elsewhere and re.search(elsewhere, line.text + line.location["url"]))
                else None
            ),
        )
        ours = re.compile(f"http://{address[0]}:{address[1]}/|blob:|data:|{elsewhere or 'data:'}")
        page.on(
            "request",
            lambda request: None if ours.match(request.url) else problems.append(request.url),
        )
        page.goto(path)
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems, problems


@pytest.fixture(scope="session")
def until():
    """until(page, expression) waits until it is true. Not by wait_for_function: that needs eval,
    which the page's CSP forbids."""

    def waited(page, expression, seconds=60):
        end = time.monotonic() + seconds
        while not page.evaluate(expression):
            assert time.monotonic() < end, expression
            page.wait_for_timeout(30)

    return waited

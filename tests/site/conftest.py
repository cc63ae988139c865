"""The built book in a real browser: `python -m pytest tests/site`, after `make book`.

This suite is asked for by name, so it fails where there is no browser or no book. Other runs of
pytest pass it by.
"""

import shutil

import pytest
from playwright.sync_api import expect, sync_playwright
from visits import HTML, PATIENCE, QUIET, Visit, context, served

from browser import CHROMIUM

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def chromium():
    """One browser for all tests; names of other machines mean nothing to it."""
    if not CHROMIUM:
        pytest.fail(
            "There is no Chromium on this machine, and these tests need one: apt install chromium."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A copy of the built book, so that a build which goes on meanwhile disturbs nothing."""
    if not (HTML / "index.html").exists():
        pytest.fail(
            f"There is no built book in {HTML}: run make book first, or wait for it to end."
        )
    return shutil.copytree(HTML, tmp_path_factory.mktemp("book") / "html")


@pytest.fixture(scope="session")
def book(folder):
    """The address of the book on a server of our own."""
    with served(folder) as address:
        yield address


@pytest.fixture
def visit(chromium):
    """visit(address, width, theme, …) opens a page in a window of its own, which knows nothing of
    earlier visits."""
    windows = []

    def open_page(address, width=1440, theme="light", scripts=True, slowed=1, **options):
        windows.append(context(chromium, width, theme, java_script_enabled=scripts, **options))
        return Visit(windows[-1], address, scripts, slowed)

    yield open_page
    for each in windows:
        each.close()

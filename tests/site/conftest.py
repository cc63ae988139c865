"""The built book in a real browser: `python -m pytest tests/site`, after `make book`.

This suite is asked for by name, so it fails where there is no browser or no book. Other runs of pytest pass it by.
"""

import shutil
from pathlib import Path

import pytest
from visits import CHROMIUM, HTML, QUIET, THEMES, WIDTHS, Visit, context, served

HERE = Path(__file__).parent


def pytest_ignore_collect(config):
    """Collect this folder only where it, or something in it, was named."""
    named = [(config.invocation_params.dir / arg.split("::")[0]).resolve() for arg in config.args]
    return None if any(path.is_relative_to(HERE) for path in named) else True


@pytest.fixture(scope="session")
def chromium():
    """One browser for all tests; names of other machines mean nothing to it."""
    if not CHROMIUM:
        pytest.fail("There is no Chromium on this machine, and these tests need one: apt install chromium.")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("Playwright is not installed: pip install -e '.[site]'.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A copy of the built book, so that a build which goes on meanwhile disturbs nothing."""
    if not (HTML / "index.html").exists():
        pytest.fail(f"There is no built book in {HTML}: run make book first.")
    return shutil.copytree(HTML, tmp_path_factory.mktemp("book") / "html")


@pytest.fixture(scope="session")
def book(folder):
    """The address of the book on a server of our own."""
    with served(folder) as address:
        yield address


@pytest.fixture(scope="session")
def contexts(chromium):
    """A window for each width and theme."""
    found = {(width, theme): context(chromium, width, theme) for width in WIDTHS for theme in THEMES}
    yield found
    for each in found.values():
        each.close()


@pytest.fixture
def visit(contexts):
    """visit(address, width, theme, …) opens a page, and closes it after the test."""
    opened = []

    def open_page(address, width=1440, theme="light", **options):
        opened.append(Visit(contexts[width, theme], address, **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.page.close()


@pytest.fixture
def unscripted(chromium):
    """A window in which no script of a page runs."""
    window = context(chromium, java_script_enabled=False)
    yield window
    window.close()

"""The widgets where people run the chapters: in JupyterLab and in Notebook 7, in the light and in
the dark."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from urllib.request import urlopen

import checks
import nbformat
import pytest
from nbformat import v4
from playwright.sync_api import expect
from visits import THEMES, nothing

TOKEN = "trial"
IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
CODE = """
import whatwhere as ww
from whatwhere.book.phases import Phases
maps = ww.lens.token_maps(ww.load("toy-llava"), ww.world.scene(seed=1).image)
display(maps.show(), Phases(), maps.show(widget=True), maps.to_pandas().head())
"""


@contextmanager
def jupyter(program, folder, theme):
    """The address of a Jupyter server that shows one notebook, to a user who has chosen this
    theme."""
    chosen = (
        folder
        / "JUPYTER_CONFIG_DIR"
        / "lab"
        / "user-settings"
        / "@jupyterlab"
        / "apputils-extension"
    )
    chosen.mkdir(parents=True)
    (chosen / "themes.jupyterlab-settings").write_text(
        json.dumps({"theme": f"JupyterLab {theme.title()}"}), encoding="utf-8"
    )
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(
        v4.new_notebook(cells=[v4.new_code_cell(CODE)], metadata=kernel), folder / "trial.ipynb"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {
        name: str(folder / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    options = [
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.port={port}",
        "--ServerApp.open_browser=False",
    ]
    options += [
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--allow-root",
    ]
    command = [sys.executable, "-m", "jupyter", program, *options]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | home, stdout=log, stderr=log
        )
        try:
            for _ in range(240):
                try:
                    urlopen(f"http://127.0.0.1:{port}/api", timeout=2)
                    break
                except OSError:
                    time.sleep(0.5)
            else:
                pytest.fail(
                    f"jupyter {program} did not start: {(folder / 'log').read_text()[-2000:]}"
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("program", "path"), [("lab", "lab/tree"), ("notebook", "notebooks")])
def test_widgets_work_in_jupyter(program, path, theme, tmp_path, chromium):
    other = THEMES[theme == THEMES[0]]  # what the system likes
    sight = {"viewport": {"width": 1300, "height": 1400}, "color_scheme": other}
    with (
        jupyter(program, tmp_path, theme) as address,
        closing(chromium.new_context(**sight)) as window,
    ):
        page = window.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/{path}/trial.ipynb?token={TOKEN}")
        # JupyterLab drops what it is told to run before its kernel is there (jupyterlab issue 8490)
        page.wait_for_function(IDLE)
        page.locator(".jp-Cell .cm-content").first.click()
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        words, told = page.locator("figure.ww-map .ww-grid"), page.locator("figure.ww-map .ww-told")
        expect(words.first).to_be_visible(timeout=90_000)
        deepest, said = words.first.inner_text(), told.first.inner_text()
        slider = page.locator("figure.ww-map input[type=range]").first
        for _ in range(3):
            slider.press("ArrowLeft")
        assert words.first.inner_text() != deepest and told.first.inner_text() != said, (
            "the token map does not move"
        )
        phases = page.locator("figure.ww-phases")
        before = phases.locator("figcaption").inner_text()
        phases.locator("input[name=distance]").press("ArrowRight")
        assert phases.locator("figcaption").inner_text() != before, "the rotary phases do not move"
        widget = page.locator(".widget-hslider .noUi-handle").first
        picture = page.locator(".jupyter-widgets.widget-html").first
        expect(picture).to_be_visible()
        drawn = picture.inner_text()
        widget.focus()
        widget.press("ArrowLeft")
        expect(picture).not_to_have_text(drawn)
        assert (
            page.locator("body").get_attribute("data-jp-theme-light")
            == str(theme == "light").lower()
        )
        page.locator("table.dataframe").wait_for()
        found, looked = checks.contrasts(page, ".jp-OutputArea")
        assert looked > 300, "the words of two maps are among what was looked at"
        nothing(found, f"jupyter {program}, {theme}, and the system likes {other}")

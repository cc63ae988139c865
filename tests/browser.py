"""A page in a real browser, where there is one."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no browser on this machine")
QUIET = (
    "headless no-sandbox disable-gpu no-first-run disable-sync "
    "disable-background-networking disable-component-update"
)


def run(folder, body, script):
    """What `script` leaves in its object `out`, after it ran on a page with this body."""
    page = folder / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><body>{body}<pre></pre><script>const out = "
        f"{{}};{script};document.querySelector('pre').textContent = JSON.stringify(out)</script>",
        encoding="utf-8",
    )
    options = [f"--{each}" for each in QUIET.split()] + [
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
    ]
    done = subprocess.run(
        [CHROMIUM, *options, page.as_uri()], capture_output=True, text=True, timeout=60
    )
    return json.loads(unescape(re.search(r"<pre>(.*?)</pre>", done.stdout, re.S)[1]))

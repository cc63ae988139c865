"""Opening pages: a server on this machine, a browser that is cut off from all others, and what goes
wrong on the way."""

import os
import re
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# another folder than the usual one, for a book that was built elsewhere
HTML = Path(os.environ.get("WHATWHERE_HTML") or ROOT / "_build" / "html")
WIDTHS = {390: 844, 820: 1180, 1440: 900}  # of a phone, a tablet and a desktop, with their heights
THEMES = ("light", "dark")
# milliseconds to wait for what should happen at once, for machines that have other work
PATIENCE = 30_000
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # sockets too lead nowhere
]
FOREIGN = re.compile(r"^(?!http://127\.0\.0\.1:|file:|data:|blob:|about:)")

# kept from the first moment on: each shift of the layout that nobody's click has caused, and each
# theme that is drawn
WATCH = """
    window.shifts = [];
    new PerformanceObserver(list => window.shifts.push(...list.getEntries().filter(each => !each.hadRecentInput)))
        .observe({ type: 'layout-shift', buffered: true });
    window.drawn = new Set();
    (function frame() {
        if (document.body) window.drawn.add(document.documentElement.dataset.theme);
        if (document.readyState !== 'complete') requestAnimationFrame(frame);
    })();
"""
# pictures and fonts have come, scripts that wait for an idle moment have had one, and two frames
# have been drawn
SETTLED = """async () => {
    await Promise.all([...document.images].map(image => {
        image.loading = 'eager';
        return image.decode().catch(() => {});
    }));
    await document.fonts.ready;
    await new Promise(done => requestIdleCallback(done, { timeout: 1000 }));
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


def pages(pattern="*.html", holding=""):
    """Names of built pages, those of the theme's own static files and the page that only leads on
    to the first left out."""
    paths = [
        path
        for path in sorted(HTML.rglob(pattern))
        if path.relative_to(HTML).parts[0] not in ("_static", "index.html")
    ]
    if holding:
        paths = [path for path in paths if re.search(holding, path.read_text(encoding="utf-8"))]
    # a name that no page has: the test fails with the sentence of the fixture `folder`, or for want
    # of such a page
    return [path.relative_to(HTML).as_posix() for path in paths] or [
        f"no page with {holding}" if holding else "no page"
    ]


def chapters(holding=""):
    return pages("notebooks/*.html", holding)


def nothing(found, where):
    """Fail with all that was found, one line each."""
    if found:
        pytest.fail("\n  ".join([f"{where}:", *found]), pytrace=False)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A browser that leaves a page hangs up, which is no error of ours."""


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """Serve a folder to this machine alone; gives its address."""
    server = Server(("127.0.0.1", 0), partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def context(chromium, width=1440, theme="light", **options):
    window = chromium.new_context(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme, **options
    )
    window.set_default_timeout(PATIENCE)
    window.add_init_script(WATCH)
    window.route(FOREIGN, lambda route: route.abort())
    return window


class Visit:
    """An open page, `page`, and what went wrong with it so far, `wrong`: one sentence each.

    scripts: whether the window runs them. slowed: as if the processor were slower by this factor.
    """

    def __init__(self, window, address, scripts=True, slowed=1):
        self.wrong, self.scripts = [], scripts
        self.origin = re.match(r"http://127\.0\.0\.1:\d+/|file://|", address)[0]
        self.page = page = window.new_page()
        page.on("console", self.heard)
        page.on("pageerror", lambda error: self.wrong.append(f"a script failed: {error}"))
        page.on("request", self.asked)
        page.on("requestfailed", self.lost)
        page.on("response", self.answered)
        page.on(
            "websocket", lambda socket: self.wrong.append(f"a socket was opened to {socket.url}")
        )
        if slowed > 1:
            window.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slowed})
        page.goto(address, wait_until="load")
        if scripts:  # where there are none, nothing happens after a page has loaded
            page.evaluate(SETTLED)

    def heard(self, message):
        if message.type == "error":
            self.wrong.append(f"the console shows an error: {message.text}")

    def asked(self, request):
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.wrong.append(f"{request.url} was asked for, which is elsewhere")

    def lost(self, request):
        given_up = request.failure == "net::ERR_ABORTED"  # the page was left meanwhile
        if not given_up and (self.scripts or request.resource_type != "script"):
            self.wrong.append(f"{request.url} could not be had: {request.failure}")

    def answered(self, response):
        if response.status >= 400:
            self.wrong.append(f"{response.url} was answered with {response.status}")

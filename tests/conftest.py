"""The tests run offline: nothing outside this machine is asked for anything."""

import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# a downloader that is not written in Python, so that the hook below would not see it
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ.setdefault(
    "HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "whatwhere-hypothesis")
)
# for the processes that tests start, which the hook does not reach: a proxy that is not there,
# except for this machine
for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ[name] = os.environ[name.upper()] = "http://127.0.0.1:9"
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"

# {event of the interpreter: which of its arguments is the address, or the name that is to become
# one}
ASKED = {
    "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1,
    "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0,
}  # fmt: skip
HERE = {"", "localhost", socket.gethostname()}


def stay_here(event, arguments):
    """Nothing in this process reaches another machine, whichever call it is by; what tries gets a
    sentence that says why."""
    if event in ASKED:
        address = arguments[ASKED[event]]
        # else a file, or none
        host = address[0] if isinstance(address, tuple) else address if ASKED[event] == 0 else None
        if not is_here(host.decode() if isinstance(host, bytes) else host):
            raise OSError(f"the tests run offline, and one tried to reach {host}")


def is_here(host):
    try:
        return not isinstance(host, str) or host in HERE or ipaddress.ip_address(host).is_loopback
    except ValueError:  # the name of another machine
        return False


# for good: unlike a patch, it cannot be undone, or gone round by another name
sys.addaudithook(stay_here)


if os.environ.get("WHATWHERE_LAST_BITS"):  # as on another processor
    from tools.trials import last_bits

    last_bits.begin()

SITE, ELSEWHERE = Path(__file__).parent / "site", pytest.StashKey()


def pytest_ignore_collect(collection_path, config):
    """The built book in a browser is looked at only where it is asked for: make test-site."""
    if collection_path == SITE:
        named = [
            (config.invocation_params.dir / name.split("::")[0]).resolve() for name in config.args
        ]
        if any(path.is_relative_to(SITE) for path in named):
            return None
        config.stash[ELSEWHERE] = any(SITE.is_relative_to(path) for path in named)
        return True


# around all other summaries: the last lines before the closing one
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter, config):
    result = yield
    places = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[-1]).removeprefix("Skipped: ").splitlines()[0]
        places.setdefault(reason, []).append(Path(report.location[0]).name)
    lines = [
        f"{len(files)} {'test' if len(files) == 1 else 'tests'} in "
        f"{', '.join(sorted(set(files)))}: {reason}"
        for reason, files in places.items()
    ]
    if config.stash.get(ELSEWHERE, False):
        lines.append(
            "the built book in a browser, tests/site: it has a command of its own, make test-site"
        )
    if lines:
        terminalreporter.section("not run, and why")
        terminalreporter.write("\n".join(lines) + "\n")
    return result


def pytest_collection_modifyitems(items):
    """What waits for the chapters comes last: they are executed meanwhile."""
    items.sort(key=lambda item: "chapters_executed" in getattr(item, "fixturenames", ()))


def pytest_collection_finish(session):
    if not session.config.option.collectonly and any(
        "chapters_executed" in item.fixturenames for item in session.items
    ):
        command = [sys.executable, "-m", "tools.course.execute"]
        # what fails is tried again, and then heard
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        session.config.chapters = subprocess.Popen(
            command, cwd=Path(__file__).parents[1], env=dict(os.environ), **quiet
        )


def pytest_unconfigure(config):
    if hasattr(config, "chapters"):
        config.chapters.terminate()


@pytest.fixture(scope="session")
def chapters_executed(pytestconfig):
    """All chapters are executed, two at a time and in a process of their own, or were since they
    last changed."""
    pytestconfig.chapters.wait()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Checkpoints of two families as transformers saves them, and of all families as the hub has
    them, in hub/."""
    from whatwhere.book import rehearsal  # after the environment is set, above
    from whatwhere.book.rehearsal.checkpoints import llava, qwen2vl

    root = tmp_path_factory.mktemp("families")
    llava(root / "llava")
    qwen2vl(root / "qwen2vl")
    for family in rehearsal.FAMILIES:
        rehearsal.tiny_random(root / "hub" / family, family)
    return root


@pytest.fixture(scope="session")
def checkpoint(folders, tmp_path_factory):
    """The folder of one of `shapes.PARITY`, by its name; it is made when it is first asked for."""
    from shapes import SHAPES

    made = {name: folders / name for name in ("llava", "qwen2vl")}

    def find(name):
        if name in SHAPES and name not in made:
            make, options = SHAPES[name]
            make(folder := tmp_path_factory.mktemp("shape"), **options)
            made[name] = folder
        return made.get(name, folders / name)

    return find


@pytest.fixture
def registered(monkeypatch):
    """What a test registers as a family is forgotten afterwards."""
    from whatwhere.families import registry

    monkeypatch.setattr(registry, "_known", dict(registry._known))


@pytest.fixture
def the_same_every_time(monkeypatch):
    """Hypothesis likes the constants of all loaded modules: without them, a test alone draws what
    it draws among others."""
    from hypothesis.internal.conjecture import providers

    monkeypatch.setattr(
        providers.HypothesisProvider, "_maybe_draw_constant", lambda *_, **__: None, raising=False
    )


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors gain nothing from a second thread, and lose much where it has to wait for other
    work."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)

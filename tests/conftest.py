"""The tests run offline: nothing outside this machine is asked for anything."""

import os
import socket
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


SITE = Path(__file__).parent / "site"


def pytest_ignore_collect(collection_path, config):
    """The built book in a browser is looked at only where it is asked for: make test-site."""
    if collection_path == SITE:
        named = [(config.invocation_params.dir / name.split("::")[0]).resolve() for name in config.args]
        return None if any(path.is_relative_to(SITE) for path in named) else True


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """A connection to another machine fails with a sentence that says why."""
    connect = socket.socket.connect

    def only_here(self, address):
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("local", "localhost", "::1") and not str(host).startswith("127."):
            raise OSError(f"the tests run offline, and one tried to reach {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """One checkpoint of each family."""
    from whatwhere.rehearsal.checkpoints import llava, qwen2vl  # after the environment is set, above

    root = tmp_path_factory.mktemp("families")
    llava(root / "llava")
    qwen2vl(root / "qwen2vl")
    return root


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors gain nothing from a second thread, and lose much where it has to wait for other work."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)

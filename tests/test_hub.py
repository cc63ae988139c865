"""The hub's data sets: pinned, checked and kept; and everything that can go wrong on the way, in a
sentence.

A small hub on this machine answers the true client, so that the errors are those that a reader
would meet.
"""

import errno
import hashlib
import importlib
import json
import multiprocessing
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants, errors, file_download

from whatwhere import benchmarks, hub

FIRST, SECOND = "1" * 40, "2" * 40
NAME = "someone/things"
# what this release of the client is built on
http = importlib.import_module(errors.HTTPError.__module__.split(".")[0])


class Hub:
    """What the little hub holds: {revision: {path: bytes}}, the branch `main`, and an error that it
    answers with instead."""

    def __init__(self):
        self.files = {
            FIRST: {
                "data/a-0.parquet": b"first a",
                "data/b-0.parquet": b"first b",
                "README.md": b"read me",
            }
        }
        self.main, self.failing, self.asked = FIRST, None, []
        # of a file's bytes, what is sent, and how
        self.cut, self.slow, self.half = None, False, threading.Event()

    def revision(self, name):
        return self.main if name == "main" else name

    def answer(self, method, path):
        """(status, headers, bytes)"""
        self.asked.append(f"{method} {path}")
        if self.failing:
            status, code = self.failing
            return status, {"X-Error-Code": code, "X-Error-Message": "so it is"}, b"{}"
        own = f"/api/datasets/{NAME}"
        if path.startswith(own):
            what, _, revision = path.removeprefix(own).strip("/").partition("/")
            files = self.files.get(self.revision(revision or "main"))
            if files is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            if what in ("", "revision"):
                return (
                    200,
                    {},
                    json.dumps({"id": NAME, "sha": self.revision(revision or "main")}).encode(),
                )
            tree = [
                {"type": "directory", "path": "data", "oid": "0" * 40},
                *(self.info(*each) for each in files.items()),
            ]
            return 200, {}, json.dumps(tree).encode()
        if path.startswith(f"/datasets/{NAME}/resolve/"):
            revision, _, file = path.removeprefix(f"/datasets/{NAME}/resolve/").partition("/")
            content = self.files[self.revision(revision)].get(unquote(file))
            if content is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            return (
                200,
                {"ETag": f'"{git(content)}"', "X-Repo-Commit": self.revision(revision)},
                content,
            )
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def info(self, path, content):
        found = {"type": "file", "path": path, "size": len(content), "oid": git(content)}
        if path.startswith("data/b"):  # a large file, as the hub keeps it
            found["lfs"] = {
                "size": len(content),
                "oid": hashlib.sha256(content).hexdigest(),
                "pointerSize": 130,
            }
        return found


def git(content):
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@pytest.fixture
def little(tmp_path, monkeypatch):
    """The little hub, with which the true client speaks, and an empty cache."""
    held = Hub()

    class Handler(BaseHTTPRequestHandler):
        def serve(self):
            status, headers, content = held.answer(self.command, urlsplit(self.path).path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": len(content)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "HEAD":
                return
            if held.slow and len(content) > 2**16:
                self.wfile.write(content[: len(content) // 2])
                held.half.set()
                time.sleep(1)
                return self.connection.close()
            self.wfile.write(content[: held.cut if len(content) > 2**16 else None])

        do_GET = do_HEAD = serve

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("WHATWHERE_PINS", str(tmp_path / "pins.json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    # it asks again, after a while
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    yield held
    server.shutdown()
    server.server_close()


@pytest.fixture
def pins(tmp_path):
    return tmp_path / "pins.json"


def a_and_b(revision=None, patterns=("data/*.parquet",)):
    return hub.dataset(NAME, patterns, revision)


def told(kind, *words, call=a_and_b, **more):
    """The error is of this very kind, and a sentence that holds these words."""
    with pytest.raises(kind) as caught:
        call(**more)
    said = str(caught.value)
    assert type(caught.value) is kind and said.endswith((".", ")")) and "\n" not in said, said
    for word in words:
        assert word in said, said
    return said


# -- what is had
# --------------------------------------------------------------------------------------------------


def test_only_what_is_needed_is_downloaded_once(little, pins):
    folder, revision = a_and_b(patterns=("data/a*",))
    assert revision == FIRST and (folder / "data/a-0.parquet").read_bytes() == b"first a"
    assert not (folder / "data/b-0.parquet").exists() and not (folder / "README.md").exists()
    again, _ = a_and_b()
    assert again == folder and (folder / "data/b-0.parquet").read_bytes() == b"first b"
    asked = len(little.asked)
    assert a_and_b() == (folder, FIRST) and len(little.asked) == asked, (
        "nothing is asked for what is there"
    )
    noted = json.loads(pins.read_text())[NAME]
    assert (
        noted["files"][FIRST]["data/b-0.parquet"]
        == f"sha256:{hashlib.sha256(b'first b').hexdigest()}"
    )
    assert noted["files"][FIRST]["data/a-0.parquet"] == f"git:{git(b'first a')}"


def test_what_is_not_pinned_keeps_to_the_revision_of_its_first_download(little, pins):
    a_and_b()
    assert json.loads(pins.read_text())[NAME]["revision"] == FIRST
    little.files[SECOND], little.main = {"data/a-0.parquet": b"second a"}, SECOND
    folder, revision = a_and_b()
    assert revision == FIRST and (folder / "data/a-0.parquet").read_bytes() == b"first a"


def test_asking_for_another_revision_once_does_not_pin_it(little):
    a_and_b()
    little.files[SECOND], little.main = {"data/a-0.parquet": b"second a"}, SECOND
    folder, revision = a_and_b(SECOND)
    assert revision == SECOND and (folder / "data/a-0.parquet").read_bytes() == b"second a"
    assert a_and_b()[1] == FIRST
    assert a_and_b(SECOND)[1] == SECOND, "what was noted of either is kept"


def test_a_branch_is_read_as_the_revision_that_it_is_today(little):
    assert a_and_b("main")[1] == FIRST
    little.files[SECOND], little.main = {"data/a-0.parquet": b"second a"}, SECOND
    assert a_and_b("main")[1] == SECOND and a_and_b()[1] == FIRST


def test_what_a_record_pins_is_what_is_asked_for(monkeypatch):
    """Before what this machine had first; and what the caller asks for comes before that."""
    asked = []

    def dataset(name, patterns, revision):
        asked.append((name, revision))
        raise ConnectionError("enough")

    monkeypatch.setattr(hub, "dataset", dataset)
    pinned = benchmarks.BENCHMARKS["pope"].revision
    for revision in (None, FIRST):
        with pytest.raises(ConnectionError, match="enough"):
            benchmarks.items("pope", revision=revision)
    assert asked == [("lmms-lab/POPE", pinned), ("lmms-lab/POPE", FIRST)]


def test_pins_are_whole_revisions():
    pinned = [known.revision for known in benchmarks.BENCHMARKS.values() if known.revision]
    assert len(pinned) == 3 and all(re.fullmatch("[0-9a-f]{40}", revision) for revision in pinned)


def test_two_data_sets_are_noted_side_by_side(little, pins):
    pins.write_text(
        json.dumps({"other/set": {"revision": SECOND, "files": {SECOND: {"x": "git:0"}}}})
    )
    a_and_b()
    assert set(json.loads(pins.read_text())) == {"other/set", NAME}


def test_what_was_downloaded_is_there_without_a_network(little, monkeypatch):
    first = a_and_b()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(little.asked)
    assert a_and_b() == first and len(little.asked) == asked


# -- what goes wrong
# --------------------------------------------------------------------------------------------------


def test_a_file_that_was_changed_after_its_download_is_refused(little):
    folder, _ = a_and_b()
    for name in ("a", "b"):
        path = (folder / f"data/{name}-0.parquet").resolve()
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"first", b"worst"))
        told(ValueError, f"data/{name}-0.parquet", NAME, FIRST[:12], f"Delete '{path}'")
        path.unlink()
        assert a_and_b()[0] == folder and path.read_bytes() == whole, "deleted, it is fetched again"


def test_a_file_that_is_not_what_the_hub_lists_is_refused_at_once(little, monkeypatch, pins):
    monkeypatch.setattr(
        Hub,
        "info",
        lambda self, path, content: {"type": "file", "path": path, "size": 7, "oid": git(b"other")},
    )
    told(ValueError, "is not the one that revision", "Delete")
    assert not pins.exists()


@pytest.mark.parametrize("failing, words", [
    ((403, "GatedRepo"), ["is gated: accept its terms", "hf auth login"]),
    ((404, "RevisionNotFound"), ["no longer has that revision"]),
    ((404, "RepoNotFound"), [f"The hub has no '{NAME}'", "hf auth login"]),
    ((500, ""), ["answered with an error", "500", "Try later."]),
    ((503, ""), ["answered with an error", "503"]),
    ((429, ""), ["answered with an error", "429"]),
    ((403, ""), ["answered with an error", "403"]),
])  # fmt: skip
def test_what_the_hub_answers_is_said(little, pins, failing, words):
    little.failing = failing
    told(ConnectionError, NAME, *words)
    told(ConnectionError, NAME, *words, revision=FIRST)
    assert not pins.exists(), "nothing is pinned by a failure"


@pytest.mark.parametrize("failing, words", [
    ((403, "GatedRepo"), "is gated"), ((404, "RepoNotFound"), "The hub has no"),
    ((404, "RevisionNotFound"), "that revision"),
    ((503, ""), "503"),
])  # fmt: skip
def test_what_the_hub_answers_half_way_is_said(little, failing, words):
    """The list is had, then the door closes: the client wraps what it was told in an error of its
    own."""
    a_and_b(patterns=("data/a*",))
    little.failing = failing
    told(ConnectionError, NAME, words)
    little.failing = None
    assert (a_and_b()[0] / "data/b-0.parquet").read_bytes() == b"first b"


def test_a_revision_that_never_was(little):
    told(ConnectionError, "no longer has that revision", revision="3" * 40)
    told(ConnectionError, "no longer has that revision", revision="a-branch")


def test_no_file_of_that_name(little):
    told(ValueError, NAME, "has no files like *.tsv", FIRST, patterns=("*.tsv",))


@pytest.mark.parametrize("revision", [None, FIRST, "main"])
def test_offline_and_nobody_listening(little, monkeypatch, revision):
    told_so = [NAME, "is not on this machine", "could not be reached"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    told(ConnectionError, *told_so, revision=revision)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    told(ConnectionError, *told_so, revision=revision)


def test_the_tests_own_barrier_is_told_as_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WHATWHERE_PINS", str(tmp_path / "pins.json"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for benchmark in ("pope", "whatsup-a"):
        told(ConnectionError, "could not be reached", call=benchmarks.items, benchmark=benchmark)


def test_a_disk_that_is_full(little, monkeypatch, tmp_path, pins):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(file_download, "http_get", full)
        told(ConnectionError, "The disk is full", NAME, str(tmp_path / "cache"), "HF_HOME")
    with monkeypatch.context() as patched:
        patched.setattr(hub, "write", full)  # at the very last, where the pins are noted
        told(ConnectionError, "The disk is full")
    assert not pins.exists()
    assert a_and_b()[1] == FIRST


LARGE = b"x" * 2**20


def test_a_connection_that_is_cut_half_way_leaves_nothing_that_is_taken_for_the_file(
    little, monkeypatch, pins
):
    little.files[FIRST]["data/a-0.parquet"] = LARGE
    little.cut = len(LARGE) // 2
    told(ConnectionError, NAME)
    assert not pins.exists()
    little.cut = None
    assert (a_and_b()[0] / "data/a-0.parquet").read_bytes() == LARGE


def test_a_download_that_is_killed_is_made_good(little, tmp_path, pins):
    little.files[FIRST]["data/a-0.parquet"] = LARGE
    little.slow = True
    process = multiprocessing.get_context("fork").Process(target=a_and_b)
    process.start()
    assert little.half.wait(60)
    process.kill()
    process.join()
    little.slow = False
    assert not pins.exists() and not list(
        (tmp_path / "cache").rglob("snapshots/*/data/a-0.parquet")
    )
    assert (a_and_b()[0] / "data/a-0.parquet").read_bytes() == LARGE


def test_two_processes_that_note_at_once_lose_nothing_of_each_other(little, pins):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=note_many, args=(n,)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert set(json.loads(pins.read_text())) == {
        f"set/{n}-{i}" for n in range(4) for i in range(20)
    }


def note_many(n):
    for i in range(20):
        hub._note(f"set/{n}-{i}", FIRST, {"a": "git:0"})


def response(status):
    return http.Response(status, request=http.Request("GET", "https://huggingface.co/api"))


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return caught


CHAINS = [
    (errors.GatedRepoError("403", response=response(403)), None, "gated"),
    (errors.RepositoryNotFoundError("404", response=response(404)), None, "The hub has no"),
    (errors.RevisionNotFoundError("404", response=response(404)), None, "revision"),
    (errors.OfflineModeIsEnabled("offline"), None, "could not be reached"),
    (
        errors.LocalEntryNotFoundError("nothing"),
        http.ConnectError("no route"),
        "could not be reached",
    ),
    (errors.LocalEntryNotFoundError("nothing"), OSError(errno.ENOSPC, "full"), "The disk is full"),
    (
        errors.LocalEntryNotFoundError("nothing"),
        errors.HfHubHTTPError("503 it is", response=response(503)),
        "503 it is. Try later",
    ),
    (
        OSError("transformers says so"),
        errors.GatedRepoError("403", response=response(403)),
        "gated",
    ),
    (
        OSError("transformers says so"),
        errors.LocalEntryNotFoundError("nothing"),
        "could not be reached",
    ),
    (http.ConnectError("refused"), None, "could not be reached"),
    (http.ReadTimeout("slow"), None, "could not be reached"),
    (
        RuntimeError("Data processing error: I/O error: No space left on device (os error 28)"),
        None,
        "The disk is full",
    ),
    (OSError(errno.EDQUOT, "quota"), None, "The disk is full"),
    (
        OSError("no such file\nand more"),
        errors.RemoteEntryNotFoundError("404", response=response(404)),
        "^no such file[.]$",
    ),
    (ValueError(), None, "^ValueError[.]$"),
]


@pytest.mark.parametrize("error, cause, words", CHAINS, ids=range(len(CHAINS)))
def test_every_error_of_the_client_has_its_sentence(error, cause, words):
    assert re.search(words, hub.reason(raised(error, cause), NAME))


@pytest.mark.parametrize("error, cause, words", CHAINS[:-1], ids=range(len(CHAINS) - 1))
def test_every_error_of_a_download_becomes_one_of_a_connection(
    tmp_path, monkeypatch, error, cause, words
):
    def failing(*_, **__):
        raise error from cause

    info = SimpleNamespace(path="a", lfs=None, blob_id="0")
    api = SimpleNamespace(dataset_info=failing, list_repo_tree=lambda *_, **__: [info])
    monkeypatch.setenv("WHATWHERE_PINS", str(tmp_path / "pins.json"))
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    monkeypatch.setattr(hub, "hf_hub_download", failing)
    for revision in (None, FIRST):
        with pytest.raises(ConnectionError, match=words):
            hub.dataset(NAME, ("a",), revision)


@pytest.mark.parametrize("text", [
    "", "{", "null", "[]", "7", b"\xff\x00", '{"someone/things": 5}', '{"someone/things": {}}',
    '{"someone/things": {"revision": 5, "files": {}}}',
    '{"someone/things": {"revision": "1", "files": {"a": "git:0"}}}',
    '{"someone/things": {"revision": "1", "files": []}}',
])  # fmt: skip
def test_a_damaged_note_of_what_was_pinned_is_refused_by_name(little, pins, text):
    pins.write_bytes(text if isinstance(text, bytes) else text.encode())
    told(ValueError, str(pins), "is damaged: delete it")


def test_the_client_is_the_one_that_is_meant():
    assert (
        hub.HfApi is huggingface_hub.HfApi
        and hub.hf_hub_download is huggingface_hub.hf_hub_download
    )

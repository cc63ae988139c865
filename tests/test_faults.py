"""A full disk, a folder that may not be written to, a kill at any moment, two at once: nothing is
lost, nothing half-written.

Proven elsewhere: rows of a benchmark that are killed, split, short of disk, or written by two
(test_bench_runs); stages of training, small organisms, studies and decoders that are killed and go
on (test_training, test_small, test_decoder); downloads that are cut, killed, short of disk, or
noted by two (test_hub). Sliders, doses and figures write no file at all.
"""

import ctypes
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import whatwhere as ww
from whatwhere import compress, hub
from whatwhere.benchmarks import running
from whatwhere.book import ledger
from whatwhere.book.training import Stage, build, checkpoints, scaling_study, small
from whatwhere.files import write

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
NOTEBOOK, CLAIM = "02_reading_patches_as_words", "what.lens.on_topic"
SETTINGS = {"benchmark": "pope", "model": "m", "questions": 1, "scale": None, "compress": None}
fork = multiprocessing.get_context("fork")


def record(model="toy-llava", value=0.5):
    measured = {"value": value, "ci95": None, "n": 10, "unit": "share", "model": model}
    control = {"what": "shuffled maps", "value": 0.1, "ci95": None}
    return ledger.record(
        NOTEBOOK, id=CLAIM, measured=measured, control=control, verdict="partly", tolerance=0.1
    )


@pytest.fixture
def claims(tmp_path, monkeypatch):
    monkeypatch.setenv("WHATWHERE_CLAIMS", str(tmp_path / "claims"))
    return tmp_path / "claims"


# -- a disk that is full
# ----------------------------------------------------------------------------------------------


@contextmanager
def no_file_above(size):
    """The system itself refuses to let a file grow beyond so many bytes, in the middle of a
    write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Parts:
    """As much of a small organism as is kept."""

    seed = 0

    def parts(self):
        return torch.nn.Linear(40, 40)


def notes(folder):
    scaling_study.Notes(folder / "task.json").once(
        f"a step {len(list(folder.glob('*')))}", lambda: {"found": "x" * 3000}
    )


def stage(folder):
    own = {"weight": torch.nn.Parameter(torch.ones(40, 40))}
    checkpoints.keep(folder, Stage("align", 4, 2), own, [], {"step": 2, "seconds": 1.0, "log": []})


def organism(folder):
    build.save(build.model("toy-llava", layers=1, blocks=1), "toy-llava", folder)


def decoder(folder):
    compress.Decoder(torch.ones(40, 40), ["x"] * 40, {"model": "m" * 3000}).save(folder)


def model(folder):
    ww.load("toy-llava", device="cpu").save(folder)


WRITERS = {
    "text": lambda folder: write(folder / "file.txt", "x" * 5000),
    "claim rows": lambda folder: [record(f"model {n}") for n in range(9)],
    "pins": lambda folder: hub._note("a/b", "1" * 40, {"x" * 3000: "git:0"}),
    "settings of a run": lambda folder: running.begin(
        folder / "run", SETTINGS | {"model": "m" * 3000}
    ),
    "a stage of training": stage,
    "a small organism": lambda folder: small.keep(Parts(), folder / "small.safetensors"),
    "a study": notes,
    "an organism": organism,
    "a decoder": decoder,
    "a model": model,
}


@pytest.mark.parametrize("what", WRITERS)
def test_what_was_there_stays_whole_where_the_disk_is_full(what, tmp_path, claims, monkeypatch):
    monkeypatch.setenv("WHATWHERE_PINS", str(tmp_path / "pins.json"))
    WRITERS[what](tmp_path)
    if what == "settings of a run":
        shutil.rmtree(tmp_path / "run")
    before = contents(tmp_path)
    with (
        no_file_above(2000),
        pytest.raises(OSError, match="could not be (written|kept)|cannot be a folder") as caught,
    ):
        WRITERS[what](tmp_path)
    assert "File too large" in str(caught.value) and str(caught.value).startswith(("'", "The ")), (
        caught.value
    )
    assert contents(tmp_path) == before, "and nothing is left lying about"
    WRITERS[what](tmp_path)


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- a checkout that may not be written to
# ----------------------------------------------------------------------------

VISIT = """
import os, whatwhere as ww
from pathlib import Path
assert Path(ww.__file__).is_relative_to(Path.cwd()), ww.__file__
assert len(ww.book.ledger.rows()) > 30 and "reproduced" in ww.book.ledger.table("what")
vlm = ww.load("toy-llava", device="cpu")
scene = ww.world.scene(7)
assert isinstance(vlm.answer(scene.image, "how many objects are there ?"), str)
assert ww.lens.token_maps(vlm, scene.image).show().html()
assert ww.book.figures.html(ww.book.figures.scene(scene.image, (12, 12)), "A scene of the world, with its grid of patches.")
assert ww.benchmarks.run(vlm, "tabletop-b", limit=4, progress=False).complete
value = {"value": 0.5, "ci95": None, "n": 10, "unit": "share", "model": "m"}
row = dict(id="what.lens.on_topic", measured=value, control={"what": "none", "value": 0.1, "ci95": None}, verdict="partly",
           tolerance=0.1)
for refused in (lambda: ww.book.ledger.record("02_reading_patches_as_words", **row),
                lambda: ww.benchmarks.run(vlm, "tabletop-b", limit=4, progress=False, out="results")):
    try:
        refused()
    except OSError as error:
        print(error)
os.environ["WHATWHERE_CLAIMS"] = os.environ["ELSEWHERE"]
ww.book.ledger.record("02_reading_patches_as_words", **row)
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the package needs of the book, in which nothing may be changed."""
    book = tmp_path / "book"
    for part in ("lib/whatwhere", "data/claims", "data/models/toy-llava"):
        shutil.copytree(ROOT / part, book / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "_config.yml", book)
    everything = [book, *book.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield book
    for path in everything:
        path.chmod(0o755)


def without_privilege():
    """Root too is bound by permissions, once it has given up the capability to override them."""
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


def test_a_checkout_that_may_not_be_written_to_can_be_read_and_run(checkout, tmp_path):
    before = contents(checkout)
    environment = os.environ | {
        "PYTHONPATH": str(checkout / "lib"),
        "ELSEWHERE": str(tmp_path / "rows"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", VISIT],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=without_privilege,
    )
    assert done.returncode == 0, done.stderr
    claim, run = done.stdout.splitlines()
    assert f"The claim row '{CLAIM}' could not be kept" in claim and "Permission denied" in claim
    assert "WHATWHERE_CLAIMS can name another folder" in claim
    assert run == "'results' cannot be a folder for answers (Permission denied); name another."
    assert contents(checkout) == before and len(list((tmp_path / "rows").iterdir())) == 1


# -- killed, and two at once
# ------------------------------------------------------------------------------------------


def record_many(first, number):
    for n in range(first, first + number):
        record(f"model {n:04d}")


def test_two_notebooks_that_record_at_once_lose_no_row(claims):
    processes = [fork.Process(target=record_many, args=(first, 25)) for first in (0, 25, 50, 75)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [row["measured"]["model"] for row in ledger.rows()] == [
        f"model {n:04d}" for n in range(100)
    ]
    assert len(list(claims.iterdir())) == 1


def test_a_notebook_that_is_killed_at_any_moment_leaves_whole_rows(claims):
    rnd, ends = random.Random(3), []
    record("model 0000")
    for turn in range(12):
        process = fork.Process(target=record_many, args=(100 * turn, 100))
        process.start()
        time.sleep(rnd.uniform(0, 0.05))
        process.kill()
        process.join()
        ends.append(process.exitcode)
        models = [row["measured"]["model"] for row in ledger.rows()]
        last = [name for name in models if name >= f"model {100 * turn:04d}"]
        assert models == sorted(set(models)) and last == [
            f"model {100 * turn + n:04d}" for n in range(len(last))
        ]
        assert record("another", value=turn / 100)["measured"]["value"] == turn / 100, (
            "and the lock has gone with it"
        )
    assert -signal.SIGKILL in ends and json.loads((claims / f"{NOTEBOOK}.json").read_text())

"""The trials of steadiness find what they are to find, on a chapter of two cells."""

import json

import nbformat
import pytest
from nbformat import v4

from tools.trials import steady
from whatwhere.book import ledger

ROW = {
    "notebook": "02_trial", "id": "what.lens.on_topic", "verdict": "partly", "tolerance": 0.1,
    "measured": {"value": 0.5, "ci95": [0.0, 1.0], "n": 10, "unit": "share", "model": "none"},
    "control": {"what": "nothing", "value": 0.1, "ci95": [0.0, 0.2]},
}  # fmt: skip


def record(value):
    return (
        f"import whatwhere as ww\nrow = {ROW}\nrow['measured']['value'] = "
        f"{value}\nww.book.ledger.record(**row);"
    )


@pytest.fixture
def book(tmp_path, monkeypatch):
    """trial(name, cells) of a chapter with these cells, whose committed row says 0.5 with a
    tolerance of 0.1."""
    monkeypatch.setattr(steady, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "02_trial.ipynb"
    monkeypatch.setenv("WHATWHERE_CLAIMS", str(tmp_path / "data" / "claims"))
    ledger.record(**ROW)

    def trial(name, *cells):
        nbformat.write(
            v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in ("import time", *cells)]),
            path,
        )
        return steady.trial(name, [path], tmp_path / name, "0")["02_trial"]

    return trial


def test_a_row_that_stays_and_one_that_moves_within_its_tolerance(book):
    assert book("again", record("0.5")) | {"seconds": 0} == {
        "seconds": 0,
        "rows": 1,
        "moved": 0,
        "differences": [],
    }
    found = book("two threads", record("0.53"))
    assert found["moved"] == pytest.approx(0.3) and not found["differences"]


def test_a_row_that_moves_farther_is_found(book):
    found = book("two threads", record("0.7"))
    assert found["moved"] == pytest.approx(2) and "measured value is 0.7" in found["differences"][0]


def test_a_trial_changes_what_it_says(book, tmp_path, monkeypatch):
    threads = "import torch", record("torch.get_num_threads() / 4")
    assert not book("two threads", *threads)["differences"]
    assert "measured value is 0.25" in book("again", *threads)["differences"][0]
    (tmp_path / "transformers.py").write_text("half = 0.5")
    monkeypatch.setattr(steady, "other_transformers", lambda *_: {"PYTHONPATH": str(tmp_path)})
    assert not book("transformers", "import transformers", record("transformers.half"))[
        "differences"
    ]


@pytest.mark.parametrize("setting", [name for name in steady.SETTINGS if name != "usual"])
def test_a_trial_of_a_processors_setting_gives_it_to_the_chapter(book, setting, monkeypatch):
    given = []
    monkeypatch.setattr(
        steady.execute,
        "run",
        lambda path, folder, threads, variables, patience: given.append(variables),
    )
    book(setting)
    assert given == [steady.SETTINGS[setting][1]] and given[0], (
        "the kernel's environment, as the test above has one reach it"
    )


def test_the_last_bits_of_a_chapter_are_moved(book):
    """Nine times the same number are no longer nine times the same."""
    moved = (
        "import torch\nthirds = (torch.ones(9) / 3).exp()",
        record("0.5 * bool(len(thirds.unique()) > 1)"),
    )
    assert not book("last bits", *moved)["differences"]


def test_files_of_tests_in_a_setting(monkeypatch, tmp_path, capsys):
    """What passes, what fails, and a setting that reaches the tests."""
    monkeypatch.setattr(steady, "ROOT", tmp_path)
    monkeypatch.setattr(steady, "RESULTS", tmp_path / "steadiness.json")
    monkeypatch.setattr(steady, "FILES", ["one", "two"])
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").write_text(
        "import os\n\ndef test_setting():\n    assert 'ATEN_CPU_CAPABILITY' not in "
        "os.environ\n\ndef test_fine(): ...\n"
    )
    (tmp_path / "tests/test_two.py").write_text("1 / 0")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    assert steady.main(["--trials", "tests", "--files", "one", "--settings", "usual"]) is False
    assert steady.main(["--trials", "tests", "--settings", "no vectors"]) is True
    assert "ATEN_CPU_CAPABILITY" in capsys.readouterr().out
    found = json.loads(steady.RESULTS.read_text())["tests"]
    counts = {
        (file, name): (row["passed"], row["failed"])
        for file, rows in found["files"].items()
        for name, row in rows.items()
    }
    assert counts == {
        ("one", "usual"): (2, 0),
        ("one", "no vectors"): (1, 1),
        ("two", "no vectors"): (0, 1),
    }


def test_a_chapter_that_fails_is_a_difference(book):
    found = book("two threads", "1 / 0")
    assert found["rows"] == 0 and "ZeroDivisionError" in found["differences"][0]


def test_a_chapter_that_depends_on_what_its_kernel_holds_is_found(book):
    """The second time counts: after a whole run, an interrupted cell and a failed one."""
    counted = "count = globals().get('count', 0) + 1\nfor n in range(5):\n    time.sleep(0.3)\n"
    assert not book("twice", counted, record("0.5"))["differences"]
    found = book("twice", counted, record("count / 4"))  # the interrupted cell counts too
    assert "measured value is 0.75" in found["differences"][0]


def test_what_is_written_down(book, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(steady, "RESULTS", tmp_path / "steadiness.json")
    book("again", record("0.5"))
    monkeypatch.setattr(steady, "NOTEBOOKS", [tmp_path / "notebooks" / "02_trial.ipynb"])
    assert (
        steady.main(["--trials", "two threads", "--chapters", "02"]) is False
        and not steady.RESULTS.exists()
    )
    assert steady.main(["--trials", "two threads"]) is False
    (kept,) = json.loads(steady.RESULTS.read_text()).values()
    assert kept["what"].startswith("two threads") and kept["chapters"]["02_trial"]["rows"] == 1
    assert ledger.rows()[0]["measured"]["value"] == 0.5, "the committed rows stay as they are"

"""An edit re-executes exactly the chapters that it can touch: shown on two chapters and a copy of
the package."""

import ast
import os
import shutil
import time
from contextlib import contextmanager

import nbformat
import pytest
from nbformat import v4

import whatwhere
from tools.course import dependencies, execute

HERE = execute.ROOT
CHAPTERS = {
    "01_numbers": (
        "import json\nimport numpy as np\nimport whatwhere as ww\n"
        "print(ww.stats.interval(lambda x: x.mean(), np.arange(9.0)), "
        "json.load(open('../data/results/one.json')))"
    ),
    "02_scenes": "import whatwhere as ww\nprint(ww.world.scene(3).image.getpixel((5, 5)), "
    "len(ww.book.ledger.catalogue()))",
}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A small book with its own copy of the package, both of its chapters executed: a function that
    says which ones are due."""
    root = tmp_path_factory.mktemp("book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "ROOT", root)
        patch.setenv("PYTHONPATH", str(root / "lib"))
        shutil.copytree(
            HERE / "lib" / "whatwhere",
            root / "lib" / "whatwhere",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (root / "data" / "results").mkdir(parents=True)
        (root / "notebooks").mkdir()
        for name in ("one", "two"):
            (root / "data" / "results" / f"{name}.json").write_text("1")
        paths = [root / "notebooks" / f"{name}.ipynb" for name in CHAPTERS]
        for path in paths:
            nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(CHAPTERS[path.stem])]), path)
        store = root / "store"
        assert not execute.ensure(paths, store)
        yield (
            lambda: [path.stem for path in paths if execute.kept(path, store) is None],
            root,
            paths,
            store,
        )


@contextmanager
def edited(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} no longer has {old!r}: edit this test"
    path.write_text(text.replace(old, new), encoding="utf-8")
    yield
    path.write_text(text, encoding="utf-8")


NUMBERS, SCENES = CHAPTERS
STATS, SCENE, RESULTS = (
    "lib/whatwhere/stats.py",
    "lib/whatwhere/world/rendering.py",
    "data/results/",
)
EDITS = {  # what: (file, old, new, chapters that are then due)
    "nothing": (STATS, "import", "import", []),
    "a comment": (STATS, "def interval", "# a comment\ndef interval", []),
    "the arguments of what one calls": (
        STATS,
        "resamples: int = 1000",
        "resamples: int = 1001",
        [NUMBERS],
    ),
    "the body of what one calls": (STATS, "draws = (rng", "1 + 1\n    draws = (rng", [NUMBERS]),
    "the body of what nobody calls": (STATS, "half = t.ppf(0.975", "half = t.ppf(0.9", []),
    "the arguments of what nobody calls": (
        STATS,
        "def over_models(values:",
        "def over_models(more, values:",
        [NUMBERS],
    ),
    "a method that the other calls": (
        SCENE,
        "def image(self) ->",
        "def picture(self) ->",
        [SCENES],
    ),
    "data of the package": ("lib/whatwhere/book/catalogue.json", "[", "[ ", [SCENES]),
    "a module that neither imports": (
        "lib/whatwhere/hub.py",
        "import json",
        "import json as _\nimport json",
        [],
    ),
    "a module that both import": (
        "lib/whatwhere/__init__.py",
        '__version__ = "',
        '__version__ = "1',
        [NUMBERS, SCENES],
    ),
    "a result that one reads": (f"{RESULTS}one.json", "1", "2", [NUMBERS]),
    "a result that nobody reads": (f"{RESULTS}two.json", "1", "2", []),
    "a chapter": ("notebooks/02_scenes.ipynb", "(5, 5)", "(6, 5)", [SCENES]),
    "a syntax error": (STATS, "def interval", "def", [NUMBERS]),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_makes_due_what_it_can_touch(book, what):
    due, root, *_ = book
    name, old, new, expected = EDITS[what]
    with edited(root / name, old, new):
        assert due() == expected
    assert due() == []


def test_what_is_left_out_may_be_broken(book):
    """Every function that the record does not name is made to raise: the chapters do not notice."""
    due, root, paths, store = book
    before = {path: execute.kept(path, store) for path in paths}
    for path in paths:
        ran = execute.known(store / path.stem)["ran"]
        whole, broken = {name: (root / "lib" / name).read_text(encoding="utf-8") for name in ran}, 0
        for name, text in whole.items():
            tree = ast.parse(text)
            for function, node in list(dependencies.functions(tree)):
                if function not in ran[name]:
                    node.body, broken = (
                        [ast.Raise(ast.Call(ast.Name("RuntimeError"), [], []))],
                        broken + 1,
                    )
            (root / "lib" / name).write_text(
                ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8"
            )
        assert broken
        execute.run(path, root / "broken")
        for name, text in whole.items():
            (root / "lib" / name).write_text(text, encoding="utf-8")
        now = execute.opened(root / "broken").notebook.cells[0].outputs
        assert now and now == before[path].notebook.cells[0].outputs
    assert due() == []


def test_an_edit_while_a_chapter_runs_is_not_taken_for_its_cause(book):
    due, root, paths, store = book
    found = execute.known(store / paths[0].stem)
    used, other = root / "lib/whatwhere/stats.py", root / "lib/whatwhere/hub.py"
    since = time.time() + 60
    assert not dependencies.edited(paths[0], found, since, root)
    for path, expected in ((other, []), (used, [used])):
        os.utime(path, (since + 1, since + 1))
        assert dependencies.edited(paths[0], found, since, root) == expected


def test_a_chapter_is_kept_off_the_network_and_what_it_writes_is_noted(book, tmp_path):
    _, root, *_ = book
    path = root / "notebooks" / "03_trial.ipynb"
    code = (
        "import socket, tempfile\n"
        "try:\n    socket.create_connection(('example.org', 80))\nexcept OSError as error:\n    "
        "print(error)\n"
        "try:\n    socket.socket().connect(('192.0.2.1', 80))\nexcept OSError as error:\n    "
        "print(error)\n"
        "socket.getaddrinfo('localhost', 80)\nopen('left_behind.txt', 'w').close()"
    )
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(code)]), path)
    execute.run(path, tmp_path / "done")
    done = execute.opened(tmp_path / "done")
    said = done.notebook.cells[0].outputs[0].text
    assert "the address of example.org" in said and "tried to reach 192.0.2.1" in said
    assert str(root / "notebooks" / "left_behind.txt") in done.wrote


def test_a_checkpoint_counts_as_a_whole(tmp_path):
    folder = tmp_path / "data" / "models" / "toy"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"1")
    before = dependencies._contents(folder)
    (folder / "model.safetensors").write_bytes(b"22")
    assert dependencies._contents(folder) != before


def test_packages_that_were_imported_count(book):
    _, root, paths, store = book
    found = execute.known(store / paths[0].stem)
    assert (
        "numpy" in found["packages"]
        and "torch" not in found["packages"]
        and "whatwhere" not in found["packages"]
    )
    older = found | {"packages": found["packages"] | {"numpy": "1.0"}}
    assert dependencies.changed(paths[0], older, root) == ["numpy"]
    assert whatwhere.__file__.startswith(str(HERE)), "the copy is the kernels' alone"

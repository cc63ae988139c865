"""The frame: packages, the address, the setup cell, the checks of the built pages, the build's own
rules."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.course import colab, execute
from tools.site import book_extension, check_site, setup_cell, sync

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PINS = {}
for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
    if line and not line.startswith("#"):
        pin = Requirement(line)
        PINS[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")


# --- packages ---


def declared(*extras):
    lines = [
        *PROJECT["dependencies"],
        *(x for e in extras for x in PROJECT["optional-dependencies"][e]),
    ]
    return [Requirement(line) for line in lines]


def test_every_declared_package_is_pinned_inside_its_range():
    for requirement in declared("book", "test", "site", "alternatives"):
        pinned = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{requirement} is pinned at {pinned}"


def test_pins_are_exact_and_torch_has_no_local_suffix():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_the_package_imports_only_what_it_declares():
    plain, plugin = (
        {canonicalize_name(r.name) for r in declared(*e)} | {"whatwhere"}
        for e in ((), ("lmms", "bench", "tuning"))
    )
    # where a package is not imported by its own name
    packages = {"PIL": "pillow", "sklearn": "scikit-learn"}
    for path in sorted((ROOT / "lib").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        late = {
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            # the plug-in is imported by lmms-eval alone, and what few need when it is needed
            known, names = plugin if "lmms" in path.parts or node in late else plain, []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                fine = (
                    top in sys.stdlib_module_names
                    or canonicalize_name(packages.get(top, top)) in known
                )
                assert fine, (
                    f"{path.relative_to(ROOT)} imports {top}, which pyproject.toml does not declare"
                )


def test_importing_the_package_is_instant():
    code = (
        "import sys, whatwhere, whatwhere.book.ledger, whatwhere.book.exercises; assert "
        "'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_file_names_a_package_host_or_a_path_of_some_machine():
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    for name in tracked.stdout.decode().split("\n"):
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".yml", ".toml", ".txt", ".cff", ".ipynb", ""}
            and path.is_file()
        ):
            text = path.read_text(encoding="utf-8", errors="ignore")
            hosts = [
                "find" + "-links",
                "index" + "-url",
                "/opt/" + "wheels",
                "files." + "pythonhosted",
                "/wo" + "rk/",
            ]
            for host in hosts:
                assert host not in text, f"{name} names {host}"


# --- the address ---


def test_the_address_is_the_same_everywhere():
    url, _ = sync.address()
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url)
    for name, pattern in sync.QUOTES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        found = re.findall(pattern, text, flags=re.MULTILINE)
        assert found and set(found) == {url}, f"{name} quotes {found}; run make sync"
    for name, pattern in sync.PAGES.items():
        found = re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert found == [sync.pages(url)], f"{name} quotes {found}; run make sync"
    assert sync.main(check=True) == 0


def test_sync_carries_a_new_address_everywhere(tmp_path, capsys):
    quoting = sync.QUOTES.keys() | sync.PAGES.keys()
    for name in quoting:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    old, _ = sync.address(tmp_path)
    config = tmp_path / "_config.yml"
    config.write_text(
        config.read_text(encoding="utf-8").replace(old, "https://github.com/a/b"), encoding="utf-8"
    )
    (tmp_path / "notebooks").mkdir()
    notebook = {
        "cells": [
            {
                "cell_type": "markdown",
                "metadata": {},
                "source": ["# T\n", "[![Open in Colab](x)](y)\n", "text"],
            },
            {
                "cell_type": "code",
                "metadata": {"tags": ["setup"]},
                "source": "old",
                "outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}],
                "execution_count": 3,
            },
        ],
        "metadata": {"kernelspec": {"name": "mine"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    path = tmp_path / "notebooks" / "01_a.ipynb"
    path.write_text(json.dumps(notebook))
    assert sync.main(tmp_path, check=True) == len(quoting) + 1
    assert sync.main(tmp_path) == 0 and sync.main(tmp_path, check=True) == 0
    for name in sync.QUOTES:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "https://github.com/a/b" in text and old not in text
    for name in sync.PAGES:
        assert "https://a.github.io/b/" in (tmp_path / name).read_text(encoding="utf-8")
    title, setup = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert (
        "https://colab.research.google.com/github/a/b/blob/main/notebooks/01_a.ipynb"
        in title["source"][1]
    )
    assert title["source"][2] == "text"
    assert "".join(setup["source"]) == setup_cell.cell("https://github.com/a/b", "main")
    assert setup["outputs"] == [] and setup["execution_count"] is None


# --- the setup cell ---


def test_the_setup_cell_does_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        subprocess, "run", lambda *a, **k: pytest.fail("the setup cell ran a command")
    )
    before = list(sys.path)
    exec(setup_cell.cell(*sync.address()), {})
    assert sys.path == before and Path.cwd() == tmp_path
    assert len(setup_cell.cell(*sync.address()).splitlines()) <= 20


@pytest.mark.parametrize("sign", ["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"])
def test_the_setup_cell_on_colab_and_kaggle(sign, monkeypatch, tmp_path):
    ran, went = [], []
    monkeypatch.setenv(sign, "something")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    monkeypatch.setattr("os.chdir", went.append)
    monkeypatch.setattr(sys, "path", list(sys.path))
    url, branch = sync.address()
    exec(setup_cell.cell(url, branch), {})
    assert (
        ran[0][:2] == ["git", "clone"]
        and "--depth" in ran[0]
        and url in ran[0]
        and branch in ran[0]
    )
    assert ran[1][-1].endswith("tools/course/colab.py") and sys.path[0].endswith("/lib")
    assert went == [str(tmp_path / "what-and-where" / "notebooks")]


def test_the_setup_cell_does_nothing_a_second_time(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: pytest.fail("it fetched the book again")
    )
    monkeypatch.chdir(ROOT / "notebooks")  # where the first time leaves it
    exec(setup_cell.cell(*sync.address()), {})


def test_colab_installs_only_what_is_missing():
    versions = {"torch": "2.5.0", "numpy": "1.0", "pandas": "2.2.2", "transformers": "4.57.0"}

    def installed(name):
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    wanted = [
        Requirement(x)
        for x in ("torch>=2.6", "numpy>=2", "pandas>=2.2", "transformers>=5.4,<6", "pillow")
    ]
    assert colab.missing(wanted, installed) == ["transformers<6,>=5.4", "pillow"]
    first, *more = colab.commands(ROOT, installed)
    assert "--no-deps" in first and str(ROOT) in first
    assert len(more) == 1 and {"torch==2.5.0", "numpy==1.0"} <= set(more[0])
    assert not any(part.startswith(("torch>", "numpy>")) for part in more[0])


def test_colab_leaves_a_complete_machine_alone():
    assert colab.missing(colab.wanted()) == []
    assert len(list(colab.commands())) == 1


# --- the built pages ---


PAGE = "<html><body><p>fine</p>{}</body></html>"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("<img src='a.png'>", "no alt text"),
        ("<img src='a.png' alt=' '>", "no alt text"),
        ("<img src='x/a.png' alt='x/a.png'>", "no alt text"),
        ("<img src='data:image/png;base64,AAAA'>", "no alt text"),
        ("<div class='output traceback highlight-ipythontb'></div>", "a notebook cell failed"),
        ("<div class='output stderr cell_output'></div>", "wrote to stderr"),
        ("<pre>Traceback (most recent call last):</pre>", "shows a traceback"),
        ("<script src='https://cdn.example.org/x.js'></script>", "would fetch"),
        ("<script src='//cdn.example.org/x.js'></script>", "would fetch"),
        ("<link rel='stylesheet' href='https://example.org/x.css'>", "would fetch"),
        ("<a href='nowhere.html#x'>there</a>", "leads nowhere"),
        ("<script src='_static/gone.js?v=1'></script>", "a script is missing"),
    ],
)
def test_a_bad_page_is_found_out(body, sentence, tmp_path):
    (tmp_path / "page.html").write_text(PAGE.format(body), encoding="utf-8")
    complaints, pages, _ = check_site.check_site(tmp_path)
    assert pages == 1 and len(complaints) == 1 and sentence in complaints[0]


def test_a_good_page_passes(tmp_path):
    body = (
        "<img src='a.png' alt='a map of words'><a href='page.html#top'>here</a><a "
        "href='#top'>up</a><a href='https://example.org'>a link</a><script "
        "src='_static/x.js'></script>"
    )
    (tmp_path / "page.html").write_text(PAGE.format(body), encoding="utf-8")
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "x.js").touch()
    assert check_site.check_site(tmp_path) == ([], 1, 1)


def test_a_built_book_holds_the_scripts_of_live_figures(tmp_path, monkeypatch):
    from whatwhere.book.live import tabletop

    written = []
    monkeypatch.setattr(tabletop, "assets", written.append)
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html"))
    book_extension._live_figures(app, None)
    assert written == [tmp_path / "_static" / "live"]
    book_extension._live_figures(app, ValueError())  # a build that failed
    app.builder.format = "latex"
    book_extension._live_figures(app, None)
    assert len(written) == 1


def test_an_unbuilt_book_is_a_complaint(tmp_path):
    assert "run make book first" in check_site.check_site(tmp_path)[0][0]


def test_stored_outputs_are_a_complaint(tmp_path):
    (tmp_path / "notebooks").mkdir()
    cells = [
        {"cell_type": "code", "metadata": {}, "outputs": [{"x": 1}], "execution_count": 1},
        {"cell_type": "code", "metadata": {"tags": ["skip-execution"]}, "outputs": [{"x": 1}]},
    ]
    (tmp_path / "notebooks" / "01_a.ipynb").write_text(json.dumps({"cells": cells}))
    assert check_site.check_sources(tmp_path) == [
        "01_a.ipynb, cell 1: stored outputs; make sync removes them"
    ]


# --- the build ---


def test_every_page_is_in_the_table_of_contents():
    entries = [entry for part in TOC["parts"] for entry in part["chapters"]]
    within = [page for entry in entries for page in entry.get("sections", ())]
    listed = {TOC["root"]} | {entry["file"] for entry in [*entries, *within]}
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    chapters = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert listed == pages | chapters, f"differs: {sorted(listed ^ (pages | chapters))}"


def test_a_page_is_computed_again_when_the_package_or_the_data_change(tmp_path):
    for name in ("lib/whatwhere/a.py", "data/models/toy/README.md", "data/claims/01_a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    key = book_extension.key(tmp_path)
    (tmp_path / "data/claims/01_a.json").write_text("2")
    (tmp_path / "lib/whatwhere/__pycache__").mkdir()
    (tmp_path / "lib/whatwhere/__pycache__/a.pyc").write_text("2")
    assert book_extension.key(tmp_path) == key, "claim rows and byte code are results, not inputs"
    (tmp_path / "data/models/toy/README.md").write_text("2")
    assert book_extension.key(tmp_path) != key
    key = book_extension.key(tmp_path)
    (tmp_path / "lib/whatwhere/a.py").write_text("2")
    assert book_extension.key(tmp_path) != key


def test_sphinx_is_given_what_was_executed(monkeypatch, tmp_path):
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("stream", text="2")])
    done = nbformat.v4.new_notebook(cells=[cell])
    kept = {"01_a.ipynb": SimpleNamespace(notebook=done)}
    monkeypatch.setattr(execute, "kept", lambda path: kept.get(path.name))

    def read(name):
        source = ["as it lies there"]
        book_extension._executed(SimpleNamespace(srcdir=tmp_path), name, source)
        return source[0]

    assert nbformat.reads(read("notebooks/01_a"), 4).cells[0].outputs[0].text == "2"
    assert read("notebooks/02_b") == read("book/01_a") == "as it lies there"


def test_pages_about_the_chapters_are_read_last():
    names = ["book/claims", "notebooks/01_a", "book/status", "book/intro"]
    book_extension._read_last(None, None, names)
    assert names == ["book/intro", "notebooks/01_a", "book/claims", "book/status"]


def test_make_knows_every_target_that_a_reader_is_told_of():
    known = re.findall(
        r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "book").glob("*.md"),
        *(ROOT / "notebooks").glob("*.ipynb"),
    ]
    for path in pages:
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"(?:`|^ *)make ([a-z][a-z-]+)", text, flags=re.MULTILINE):
            assert target in known, (
                f"{path.name} speaks of make {target}, which the Makefile does not list"
            )


def test_what_the_status_page_calls_a_check_is_there():
    text = (ROOT / "book" / "status.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|tools|\.ci)/[\w./-]+)(?:::(\w+))?`", text)
    assert len(named) > 15
    for path, name in named:
        assert (ROOT / path).is_file(), f"book/status.md names {path}"
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8") or not name, (
            f"{path} has no {name}"
        )

"""What Colab brings is enough, and the trial of the notebooks there finds what it is made to
find."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from nbformat import v4
from packaging.utils import canonicalize_name

from tools.course import colab
from tools.site import sync
from tools.trials import colab_trial

LISTED = {
    canonicalize_name(name): v
    for name, v in colab_trial.listed(colab_trial.LIST.read_text(encoding="utf-8")).items()
}


def on_colab(name):
    """importlib.metadata.version, as on Colab."""
    if canonicalize_name(name) not in LISTED:
        raise PackageNotFoundError(name)
    return LISTED[canonicalize_name(name)]


# --- what Colab brings ---


def test_colab_installs_nothing_beside_our_own_package():
    assert colab.missing(colab.wanted(), on_colab) == []
    assert len(list(colab.commands(installed=on_colab))) == 1


def test_colab_has_the_torch_and_numpy_that_we_ask_for():
    # colab.py never exchanges these two, so that nothing else says so
    for requirement in colab.wanted():
        brought = on_colab(requirement.name)
        assert requirement.specifier.contains(brought), f"Colab has {requirement.name} {brought}"


def test_the_list_is_exact_and_says_where_it_is_from():
    text = colab_trial.LIST.read_text(encoding="utf-8")
    assert "googlecolab/backend-info" in text and re.search(r"\b20\d\d\b", text.splitlines()[1])
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line
    assert set(colab_trial.KEPT) <= set(LISTED)


# --- the pieces of the trial ---


def test_what_an_environment_is_made_of():
    first, second = colab_trial.installing("python", "2.13.0")
    assert (
        "--no-deps" in first
        and f"numpy=={LISTED['numpy']}" in first
        and not any(part.startswith("torch==") for part in first)
    )
    assert second[-1] == "torch==2.13.0" and "--no-deps" not in second


def test_an_environment_is_made_once(tmp_path, monkeypatch):
    ran = []

    def run(command, check):
        ran.append(command)
        (tmp_path / "made").mkdir(exist_ok=True)

    monkeypatch.setattr(subprocess, "run", run)
    for torch in ("2.11.0", "2.11.0", "2.13.0"):
        assert (
            colab_trial.environment(tmp_path / "made", "python3", torch)
            == tmp_path / "made" / "bin" / "python"
        )
    assert len(ran) == 6, "a venv and two pip commands, again for another torch"


def test_complaints_are_sentences(tmp_path):
    versions, ours = (
        {"torch": "2.11.0", "ipython": "7.34.0"},
        str(tmp_path / "what-and-where/lib/whatwhere/__init__.py"),
    )
    assert colab_trial.complaints(versions, dict(versions), ours, tmp_path, 12.0) == []
    after = versions | {"ipython": "9.18.1"}
    found = colab_trial.complaints(
        versions, after, "/elsewhere/whatwhere/__init__.py", tmp_path, 61.0
    )
    assert found[0] == "The setup cell exchanged ipython 7.34.0 for 9.18.1."
    assert "/elsewhere" in found[1] and "61 s" in found[2]
    assert len(colab_trial.complaints(versions, versions, None, tmp_path, 1.0)) == 1


def test_the_clone_is_redirected(tmp_path):
    origin, work = tmp_path / "a repository", tmp_path / "work"
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", origin], check=True)
    (origin / "_config.yml").write_text(
        "repository: {url: 'https://example.org/a/b', branch: main}"
    )
    mine = ["git", "-C", origin, "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*mine, "add", "."], check=True)
    subprocess.run([*mine, "commit", "--quiet", "--message", "x"], check=True)
    variables = colab_trial.settings(work, "/somewhere/bin/python", "kaggle", origin)
    command = [
        "git",
        "clone",
        "--quiet",
        "--depth",
        "1",
        "--branch",
        "main",
        "https://example.org/a/b",
        tmp_path / "clone",
    ]
    subprocess.run(command, check=True, env=variables)
    assert (tmp_path / "clone" / "_config.yml").is_file()
    assert variables["KAGGLE_KERNEL_RUN_TYPE"] and "COLAB_RELEASE_TAG" not in variables
    assert variables["PATH"].split(os.pathsep)[0] == "/somewhere/bin"
    assert Path(variables["WHATWHERE_CLAIMS"]).is_relative_to(work), (
        "no committed claim row is written over"
    )
    assert (
        json.loads((work / "kernels/trial/kernel.json").read_text())["argv"][0]
        == "/somewhere/bin/python"
    )


def notebook(*sources):
    """A notebook's text whose setup cell makes a whatwhere in the working folder."""
    setup = (
        "import pathlib, sys\npathlib.Path('lib/whatwhere').mkdir(parents=True)\n"
        "pathlib.Path('lib/whatwhere/__init__.py').touch()\nsys.path.insert(0, "
        "str(pathlib.Path('lib').resolve()))"
    )
    cells = [
        v4.new_markdown_cell("# T"),
        v4.new_code_cell(setup, metadata={"tags": ["setup"]}),
        *map(v4.new_code_cell, sources),
    ]
    return json.dumps(v4.new_notebook(cells=cells))


def test_a_notebook_is_tried(tmp_path, monkeypatch):
    variables = colab_trial.settings(tmp_path / "work", sys.executable, "colab")
    monkeypatch.setenv("JUPYTER_PATH", variables["JUPYTER_PATH"])
    alone = (
        "import os; assert os.environ['COLAB_RELEASE_TAG'] and sorted(os.listdir()) == "
        "['chapter.ipynb', 'lib']"
    )
    row = colab_trial.trial(notebook(alone), tmp_path / "good" / "content", variables)
    assert row["failures"] == [] and row["setup, s"] < 60 and row["all, s"] >= row["setup, s"]
    assert set(row["versions"]) == {*colab_trial.KEPT, "python"}
    row = colab_trial.trial(
        notebook("1 / 0", "print('never')"), tmp_path / "bad" / "content", variables
    )
    assert (
        len(row["failures"]) == 1
        and "ZeroDivisionError" in row["failures"][0]
        and "\x1b" not in row["failures"][0]
    )


def test_what_is_written_down():
    versions = {name: LISTED[name] for name in colab_trial.KEPT} | {
        "torch": "2.13.0+cpu",
        "python": "3.11.7",
    }
    rows = {
        "01_a": {"setup, s": 3.0, "all, s": 9.0, "versions": versions, "failures": ["It failed."]}
    }
    told = json.loads(json.dumps(colab_trial.record(rows, "colab", "abc", False)))
    assert (
        told["not as listed"] == {"torch": LISTED["torch"]}
        and told["versions"]["torch"] == "2.13.0+cpu"
    )
    assert told["notebooks"]["01_a"] == {"setup, s": 3.0, "all, s": 9.0, "failures": ["It failed."]}
    assert (
        told["versions"]["python"] == "3.11.7"
        and told["machine"]
        and told["date"]
        and told["commit"] == "abc"
    )
    assert colab_trial.record(rows, "colab", "abc", True)["not as listed"] == {}


def test_here_never_exchanges_an_installed_package(capsys):
    if not colab_trial.git("branch", "--list", sync.address()[1]).strip():
        pytest.skip("this clone has no branch of the name that the setup cell clones")
    with pytest.raises(SystemExit):
        colab_trial.main(["--here"])
    assert "has a whatwhere already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        colab_trial.main(["--notebooks", "99"])
    assert "No notebook begins with 99" in capsys.readouterr().err

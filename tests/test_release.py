"""What is published: whole, the same whenever it is packed, and told as CITATION.cff tells it."""

import hashlib
import json
import os
import zipfile

import pytest

from tools.site import release

VERSION = release.project()["version"]
TOP = f"what-and-where-{VERSION}"


@pytest.fixture
def root(tmp_path):
    """A repository with a built book of two pages, and a student's edition."""
    for name in ("pyproject.toml", "CITATION.cff"):
        (tmp_path / name).write_text(
            (release.ROOT / name).read_text(encoding="utf-8"), encoding="utf-8"
        )
    for name in (
        "index.html",
        "book/a page.html",
        "_static/x.js",
        ".buildinfo",
        ".doctrees/index.doctree",
    ):
        (tmp_path / "_build/html" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "_build/html" / name).write_text(name)
    (tmp_path / "student").mkdir()
    (tmp_path / "student/01_a.ipynb").write_text("{}")
    return tmp_path


def test_the_offline_book_is_whole(root):
    file = release.offline(root)
    assert file == root / f"_build/release/{TOP}-offline.zip"
    with zipfile.ZipFile(file) as packed:
        pages = ["READ-ME.txt", "_static/x.js", "book/a page.html", "index.html"]
        assert packed.namelist() == [f"{TOP}/{page}" for page in pages]
        told = packed.read(f"{TOP}/READ-ME.txt").decode()
        packed.extractall(root / "there")
    assert (
        "Open index.html" in told
        and VERSION in told
        and release.citation()["repository-code"] in told
    )
    assert (root / "there" / TOP / "book/a page.html").read_text() == "book/a page.html"


def test_the_same_book_makes_the_same_zip(root):
    before = release.offline(root).read_bytes()
    for path in (root / "_build/html").rglob("*.html"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    (root / "_build/html/.buildinfo").write_text("another build")
    assert release.offline(root).read_bytes() == before
    (root / "_build/html/index.html").write_text("another book")
    assert release.offline(root).read_bytes() != before


def test_an_unbuilt_book_is_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="run make book first"):
        release.offline(tmp_path)


def test_two_versions_are_a_sentence(root):
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    (root / "CITATION.cff").write_text(
        text.replace(f"\nversion: {VERSION}", "\nversion: 9.9.9"), encoding="utf-8"
    )
    with pytest.raises(SystemExit, match="CITATION.cff says 9.9.9"):
        release.offline(root)


def test_a_release_has_everything_and_its_checksums(root, capsys):
    (root / "_build/release").mkdir()
    (root / "_build/release/what-and-where-0.0.1-offline.zip").touch()
    release.main("release", root)
    names = {path.name for path in (root / "_build/release").iterdir()}
    assert names == {
        f"{TOP}-offline.zip",
        f"{TOP}-student.zip",
        "codemeta.json",
        "zenodo.json",
        "SHA256SUMS",
    }
    assert "make instructor writes it" in capsys.readouterr().out
    sums = dict(
        reversed(line.split("  "))
        for line in (root / "_build/release/SHA256SUMS").read_text().splitlines()
    )
    assert set(sums) == names - {"SHA256SUMS"}
    for name, told in sums.items():
        assert hashlib.sha256((root / "_build/release" / name).read_bytes()).hexdigest() == told
    with zipfile.ZipFile(root / f"_build/release/{TOP}-student.zip") as packed:
        assert packed.namelist() == [f"{TOP}-student/01_a.ipynb"]


def test_the_metadata_say_what_the_citation_says():
    cited = release.citation()
    for told in (release.codemeta(), release.zenodo()):
        told = json.loads(json.dumps(told))
        assert told["version"] == VERSION and cited["title"] in (
            told.get("name"),
            told.get("title"),
        )
        assert told["keywords"] == cited.get("keywords", [])
    codemeta = release.codemeta()
    assert codemeta["license"] == [f"https://spdx.org/licenses/{name}" for name in cited["license"]]
    assert codemeta["author"] == [{"@type": "Organization", "name": "The What and Where authors"}]
    paper = codemeta["referencePublication"][0]
    assert paper["author"][0] == {"@type": "Person", "familyName": "Li", "givenName": "Yueyan"}
    zenodo = release.zenodo()
    assert zenodo["license"] == "MIT" and "CC BY 4.0" in zenodo["notes"]
    assert zenodo["creators"] == [{"name": "The What and Where authors"}]
    related = {each["identifier"]: each["relation"] for each in zenodo["related_identifiers"]}
    assert related == {cited["repository-code"]: "isSupplementTo", "arXiv:2509.19191": "references"}


def test_an_unknown_wish_is_a_sentence():
    with pytest.raises(SystemExit, match="offline or release"):
        release.main("everything")

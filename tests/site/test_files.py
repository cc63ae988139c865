"""What the built pages link to, weigh and offer. No browser looks at them here."""

import json
import re
from urllib.request import urlopen

import pytest
from bs4 import BeautifulSoup
from files import HEAVIEST, Parsed, all_pages, dead_links, weight
from visits import chapters, nothing

PARSED = Parsed()
MEANINGS = ("glossary.html", "notation.html")


def parts(folder, name):
    return PARSED[(folder / name).resolve()]


@pytest.fixture(scope="module")
def meanings(folder):
    """meanings(page, id): what the glossary or the page of symbols says there, or "" where it says
    nothing."""
    pages = {
        name: BeautifulSoup((folder / "book" / name).read_text(encoding="utf-8"), "html.parser")
        for name in MEANINGS
    }

    def say(page, place):
        found = pages[page].find(id=place)
        if page == "glossary.html":
            return found.find_next("dd").get_text().strip()
        # a row has one id, further symbols of it have spans
        row = found if found.name == "tr" else found.find_parent("tr")
        return row.find_all("td")[-1].get_text().strip()

    return say


def test_every_link_leads_somewhere(folder):
    nothing(dead_links(folder, PARSED), "links")


def test_the_front_door_leads_to_a_page(folder):
    (link,) = parts(folder, "index.html").links
    assert parts(folder, "index.html").file(link["href"]).is_file()


@pytest.mark.parametrize("name", ["api_core", "api_benchmarks", "api_book"])
def test_types_in_the_reference_are_read_by_sphinx(name, folder):
    """Where it cannot read a signature, its types stand there with their whole path and a tilde."""
    page = BeautifulSoup((folder / "book" / f"{name}.html").read_text("utf-8"), "html.parser")
    signatures = [each.text for each in page.select("dt.sig")]
    assert len(signatures) > 20
    assert not [each for each in signatures if "~" in each or "<factory>" in each]


def test_no_page_is_heavy(folder):
    weights = {path.name: weight(path, PARSED) for path in all_pages(folder)}
    heavy = [
        f"{name} weighs {size / 1e6:.2f} MB with its images"
        for name, size in weights.items()
        if size > HEAVIEST
    ]
    nothing(heavy, f"more than {HEAVIEST / 1e6:.0f} MB")


@pytest.mark.parametrize("name", chapters())
def test_a_chapter_opens_in_colab(name, folder):
    links = [
        link for link in parts(folder, name).links if "colab.research.google.com" in link["href"]
    ]
    notebook = re.escape(name.replace(".html", ".ipynb"))
    assert len(links) >= 2, (
        f"{name} has a badge and a button for Colab, and {len(links)} such links"
    )
    for link in links:
        assert re.fullmatch(
            rf"https://colab\.research\.google\.com/github/[\w.-]+/[\w.-]+/blob/[\w.-]+/{notebook}",
            link["href"],
        )


@pytest.mark.parametrize("name", chapters())
def test_a_chapter_is_offered_as_a_notebook(name, folder, book):
    (link,) = parts(folder, name).called("btn-download-source-button")
    file = parts(folder, name).file(link["href"])
    assert file.name == name.split("/")[-1].replace(".html", ".ipynb")
    with urlopen(book + file.relative_to(folder.resolve()).as_posix()) as answer:
        assert answer.status == 200
        notebook = json.load(answer)
    assert notebook["nbformat"] == 4 and notebook["cells"]


@pytest.mark.parametrize("name", chapters())
def test_first_uses_are_linked_to_their_meanings(name, folder, meanings):
    page = parts(folder, name)
    links, found = page.called("ww-first-use"), []
    for link in links:
        target, _, place = link["href"].partition("#")
        file = page.file(target)
        if file.name not in MEANINGS or place not in PARSED[file].ids:
            found.append(f"{link['href']} is no place in the glossary or among the symbols")
        elif meanings(file.name, place) and not link.get("title"):
            found.append(f"{link['href']} has a meaning, and hovering shows none")
    assert links, f"{name} links no first use of a term or a symbol"
    nothing(found, name)

"""The live tabletop without a browser: its HTML, its still figure, and the files to which it refers.
`tests/site/test_tabletop.py` plays with it."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import whatwhere as ww
from whatwhere.book.live import notes, tabletop, world_data
from whatwhere.book.live.tabletop import Tabletop

pytestmark = pytest.mark.usefixtures("one_thread")
VOID = {"link", "input", "img", "br", "meta"}


@pytest.fixture(scope="module")
def scene():
    return ww.world.scene(seed=4)


@pytest.fixture(scope="module")
def html(scene):
    return Tabletop(scene, base="some where&/live", name="mug")._repr_html_()


class Tree(HTMLParser):
    """Elements as (tag, attributes), and what is left open or closed twice."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open, self.wrong = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_its_html_is_whole_and_says_what_the_script_needs(html, scene):
    tree = Tree(html)
    assert not tree.open and not tree.wrong
    (root,) = [about for tag, about in tree.found if about.get("class") == "ww-live"]
    live = json.loads(root["data-live"])
    assert root["id"] == "mug" and root["data-base"] == "some where&/live"
    assert live["scene"] == json.loads(json.dumps(world_data.fields(scene)))
    assert (live["model"], live["depth"], live["layer"]) == ("toy-qwen2vl", 6, 0)
    sources = [about["src"] for tag, about in tree.found if tag == "script" and "src" in about]
    assert sources == ["some where&/live/tabletop.js"], "no model is loaded with the page"
    assert not re.search(r"https?://", html) and len(html) < 60_000


def test_without_scripts_there_is_a_figure_with_words(html):
    figure = html.split("<script")[0]
    assert 'role="table"' in figure and "8 rows and 8 columns of words on the picture" in figure
    assert figure.count('role="cell"') == 64 and ">grass</span>" in figure
    assert "yellow checked stool" in html and "on a ground of grass" in html


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "toy-flamingo"}, "toy-qwen2vl, toy-llava; got 'toy-flamingo'"),
        ({"depth": 7}, "no 7"),
        ({"layer": 9}, "layer"),
        ({"scene": ww.world.scene(4, size=216)}, "144 × 144"),
        ({"experiment": "levitation"}, "runs, knockout, .*'all'; got 'levitation'"),
        ({"experiment": "gain", "settings": {"heads": "4.2"}}, "alpha, p; got 'heads'"),
        ({"settings": {"heads": "4.2"}}, "settings none"),
        ({"experiment": "gain", "settings": {"satellite": "unicorn"}}, "one of sign, .*'unicorn'"),
    ],
)
def test_what_a_page_cannot_show_is_refused(scene, given, says):
    with pytest.raises(ValueError, match=says):
        Tabletop(**{"scene": scene} | given)


@pytest.mark.parametrize(
    ("given", "asks"),
    [
        ({}, "is there a mug ?"),
        ({"experiment": "runs"}, "how many objects are there ?"),
        ({"experiment": "gain"}, "where is the sign relative to the stool ?"),
        ({"experiment": "gain", "question": "is there a lamp ?"}, "is there a lamp ?"),
    ],
)
def test_an_experiment_comes_with_its_question(scene, given, asks):
    figure = Tabletop(scene, **given)
    live = json.loads(dict(Tree(figure._repr_html_()).found[0][1])["data-live"])
    assert live["question"] == asks and live["experiment"] == given.get("experiment")


def test_notes_tell_new_pairs_and_a_page_has_them_in_six_digits():
    name = "toy-qwen2vl"
    vlm = ww.load(name, device="cpu", dtype="float32")
    fresh = ww.geometry.pairs(vlm, ww.world.controlled("B", 100, start=500_000), 10)
    vectors = ww.relations.states(vlm, fresh)["LM 0"]
    vectors = vectors[:, :, 0] - vectors[:, :, 1]
    told = [[notes.told(name, "LM 0", v) for v in four] for four in vectors]
    best = [[max(each, key=lambda word: each[word]) for each in four] for four in told]
    right = np.mean(np.array(best) == np.array(ww.world.RELATIONS_B))
    assert right > 0.8, "chance is a quarter"
    # by hand: each thing's own step leads from the one relation's mean to the other's
    step = notes.step(name, "LM 0", "left", "right")
    assert np.allclose(step, -notes.step(name, "LM 0", "right", "left")) and np.abs(step).max() > 0
    page = json.loads(notes.script(name).split(" = ")[-1].strip().rstrip(";"))["places"]["LM 0"]
    ours = np.array([page["satellite"], page["nucleus"]])
    assert np.allclose(ours[:, 3] - ours[:, 2], step, rtol=1e-4, atol=1e-5)
    assert np.allclose(page["middle"], notes.middles(name)["LM 0"], rtol=1e-5)


def test_assets_are_the_same_bytes_each_time_and_ask_for_nothing_elsewhere(tmp_path):
    written = tabletop.assets(tmp_path / "one")
    again = tabletop.assets(tmp_path / "two")
    assert [path.name for path in written] == [path.name for path in again]
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    sizes = {path.name: path.stat().st_size for path in written}
    assert sum(sizes.values()) < 8e6, "all files of the live figures"
    assert sizes["tabletop.js"] + sizes["tabletop.css"] < 20_000, "what a page loads at first"
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?:|\bfetch\(|XMLHttpRequest|importScripts", text), path.name
        assert "$" not in text or path.suffix == ".js", f"{path.name} has a colour without a value"

"""Words of a model, names of files, labels and captions come out as text on a page, whatever they
hold; nothing of them runs."""

import json
import os
from functools import cache

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import browser
from whatwhere.attention import Attention
from whatwhere.benchmarks.item import Item
from whatwhere.benchmarks.results import Result
from whatwhere.book import figures, ledger
from whatwhere.book.doses import Doses
from whatwhere.book.training import card
from whatwhere.lens import TokenMaps
from whatwhere.tokens import columns
from whatwhere.views import slider

pytestmark = pytest.mark.usefixtures("the_same_every_time")
STEADY = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
RUN = "window.ran=(window.ran||0)+1"
EVIL = (
    f"<script>{RUN}</script>", f"</script><script>{RUN}</script>", f'"><img src=x onerror="{RUN}">',
    f"'><svg onload='{RUN}'>", f"<!--<script>{RUN}", "-->", "</figure>", "</td></tr></table>",
    "<style>*{display:none}</style>", "</style>", "</title>",
    "<plaintext>", "&lt;b&gt;", "&amp;", "&#60;b&#62;", "javascript:alert(1)", "{{7*7}}", "${7*7}",
    "\\u003cscript\\u003e", "\\", "$x$", "$$", "%s", '"', "'", "`", "<", ">", "&", "=", "a b",
    "\u202eabc", "\u2028", "<iframe srcdoc='<script>1</script>'>",
)  # fmt: skip
# each of them once, and what hypothesis draws besides
EVERY = [list(EVIL[n : n + 5]) for n in range(0, len(EVIL), 5)]
EVERY[-1] = list(EVIL[-5:])
# of what it draws: a few by default, all of it each night
PART = float(os.environ.get("WHATWHERE_FUZZ", 0.1))
GREY = Image.new("RGB", (12, 12), "grey")
# no carriage returns and control characters, which a parser of HTML may change: none of them is
# markup
words = st.sampled_from(EVIL) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
)


def shape(page):
    """The tags of a page in their order, and which attributes they have."""
    return [(tag.name, sorted(tag.attrs)) for tag in page.find_all(True)]


def parsed(html):
    return BeautifulSoup(html, "html.parser")


def texts(page, selector):
    return [tag.get_text() for tag in page.select(selector)]


# -- each maker of HTML, given five pieces of text
# -------------------------------------------------------------------------


def token_map(a, b, c, d, e):
    ids = np.arange(16).reshape(2, 2, 2, 2) % 3
    maps = TokenMaps(
        ids, np.full(ids.shape, 0.5), [d, e], "4", GREY, np.array([a, b, c], dtype=object)
    )
    return maps.show({a: b, c: d})


def words_and_kinds(html, a, b, c, d, e):
    page = parsed(html)
    data = json.loads(page.figure["data-map"])
    at = np.arange(16).reshape(2, 2, 2, 2)[-1, ..., 0].ravel() % 3
    assert texts(page, "[role=cell]") == [(a, b, c)[n] for n in at] and set(data["words"]) == {
        a,
        b,
        c,
    }
    assert (
        texts(page, "output") == [e]
        and page.input["aria-valuetext"] == e
        and data["names"][0] == [d, e]
    )
    assert texts(page, ".ww-key") == list(dict.fromkeys([b, d] if a != c else [d]))
    assert (
        "".join(data["told"][-1]) == texts(page, ".ww-told")[0]
        and f"ViT depth {e}," in data["told"][-1][0]
    )


def doses(a, b, c, d, e):
    return Doses(GREY, a, [b, c], [0, 1], {d: np.full((2, 2), 0.5), e + "!": np.full((2, 2), 0.5)})


def answers(html, a, b, c, d, e):
    page = parsed(html)
    assert (
        texts(page, "p") == [a]
        and texts(page, ".ww-answer span") == [b, c]
        and texts(page, "option") == [d, e + "!"]
    )
    assert page.img["alt"] == f"The picture that is asked about: {a}"
    assert json.loads(page.figure["data-doses"])["options"] == [b, c]


def attended(a, b, c, d, e):
    rows = torch.full((1, 2, 6, 6), 1 / 6)
    return Attention(
        rows, [1], "LM", [a, b, "row 0, column 0", c, d, e], torch.tensor([2]), (1, 1), GREY
    ).show(of=5)


def attended_words(html, a, b, c, d, e):
    page = parsed(html)
    assert texts(page, "button") == [a, b, c, d, e] and texts(page, "[aria-pressed=true]") == [e]
    assert json.loads(page.figure["data-map"])["words"] == [a, b, "row 0, column 0", c, d, e]
    assert texts(page, ".ww-told")[0].startswith(
        f"LM block 1, mean of 2 heads: {e} collects 17% from the picture, most of"
    )


class Figure:
    """Drawn with the words in all places, and shown with them as its alternative text."""

    def __init__(self, *own):
        self.own = own

    def _repr_html_(self):
        a, b, c, d, e = self.own
        fig = figures.word_map(np.array([[a, b]], dtype=object), GREY, {a: c}, d)
        fig.axes[0].set_xlabel(e)
        return figures.html(fig, f"A map of words, said in words: {a}", width=b)


def alternative(html, a, b, c, d, e):
    said = f"A map of words, said in words: {a} 1 by 2 words, row by row: {a} {b}."
    assert parsed(html).img["alt"] == " ".join(said.split())


class Claims:
    """The ledger's table with one row, whose model, unit and control are the words."""

    def __init__(self, a, b, c, d, e):
        claim = next(claim for claim in ledger.catalogue() if claim["id"] == "what.lens.on_topic")
        measured = {"value": 0.5, "ci95": [0.4, 0.6], "n": 10, "unit": a, "model": b}
        control = {"what": c, "value": 0.1, "ci95": None}
        self.row = {field: claim[field] for field in ("id", "statement", "paper")} | {
            "measured": measured, "control": control, "verdict": "partly", "tolerance": 0.1,
            "notebook": "02_reading_patches_as_words",
        }  # fmt: skip

    def _repr_html_(self):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ledger, "rows", lambda: [self.row])
            return ledger.table("what")


def cells(html, a, b, c, d, e):
    row = next(
        row
        for row in parsed(html).select("tbody tr")
        if row.code.get_text() == "what.lens.on_topic"
    )
    ours, control = (cell.div for cell in row.select("td")[2:4])
    assert ours.get_text() == f"50% [40%, 60%] {a}{b}, n = 10" and control.small.get_text() == c


def frame(a, b, c, d, e):
    ids = np.arange(3).reshape(1, 1, 1, 3)
    return TokenMaps(
        ids, np.full(ids.shape, 0.5), [0], 4, GREY, np.array([a, b, c], dtype=object)
    ).to_pandas()


def scores(a, b, c, d, e):
    about = {"benchmark": "coco-spatial", "model": a, "scale": None, "compress": None}
    rows = [
        Item(f"{n}", None, b, "word", "x", group=f"{n}", about={"part": part}).row(d)
        for n, part in enumerate((c, e))
    ]
    return Result(about, rows).table()


def said(html, *own, n=3):
    text = parsed(html).get_text()
    assert all(each.strip()[:40] in text for each in own[:n]), "of long ones, pandas shows no more"


MAKERS = {
    "a token map": (token_map, words_and_kinds),
    "attention": (attended, attended_words),
    "doses": (doses, answers),
    "a figure": (Figure, alternative),
    "claims": (Claims, cells),
    "a table of words": (frame, said),
    "a table of scores": (scores, lambda html, a, b, c, d, e: said(html, c, e, n=2)),
}


@cache
def plain(what, *lengths):
    """What the page looks like with harmless words as wide as these."""
    make, _ = MAKERS[what]
    return shape(
        parsed(make(*(chr(97 + n) * length for n, length in enumerate(lengths)))._repr_html_())
    )


@pytest.mark.filterwarnings("ignore:No installed font")
@pytest.mark.parametrize("what", MAKERS)
def test_any_words_come_out_as_text(what):
    make, check = MAKERS[what]
    # elsewhere, no tag depends on how wide a word is
    by_width = what in ("a token map", "a table of words")

    @settings(STEADY, max_examples=max(1, round(PART * (15 if what == "a figure" else 60))))
    @example(["$$", "$x$", "<b>", "&lt;", '"'])
    @given(st.lists(words, min_size=5, max_size=5, unique_by=lambda word: word.lower().strip()))
    def each(own):
        html = make(*own)._repr_html_()
        lengths = [max(columns(word), 1) if by_width else 1 for word in own]
        assert shape(parsed(html)) == plain(what, *lengths), "no tag and no attribute is new"
        check(html, *own)

    for own in EVERY:
        each = example(own)(each)
    each()


def test_the_name_of_an_organism_is_no_markup_on_its_card():
    numbers = {
        "name": EVIL[0],
        "organism": "toy-llava",
        "seed": 0,
        "parameters": 1,
        "machine": {"device": "a CPU", "torch": "2"},
        "stages": [],
        "test": {},
        "unseen": {},
        "controlled": {},
        "lens_layer": 3,
    }
    assert "<script" not in card.render(numbers) and "# &lt;script&gt;" in card.render(numbers)


def test_a_widget_shows_its_words_as_text():
    shown = token_map(*EVIL[:5])
    box = slider.widget(
        shown.image, shown.words, shown.scores, shown.depths, shown.layers, shown.kinds
    )
    assert texts(parsed(box.children[-1].value), "[role=cell]") == texts(
        parsed(shown.html()), "[role=cell]"
    )


# -- in a browser
# --------------------------------------------------------------------------------------------------

LOOK = """
    const all = what => [...document.querySelectorAll(what)].map(each => each.textContent);
    for (const range of document.querySelectorAll('input[type=range]'))
        for (const value of [0, 1]) { range.value = value; range.dispatchEvent(new Event('input')) }
    for (const choice of document.querySelectorAll('select'))
        for (const value of [0, 1]) { choice.value = value; choice.dispatchEvent(new Event('input')) }
    for (const grid of document.querySelectorAll('.ww-grid')) for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight'])
        grid.dispatchEvent(new KeyboardEvent('keydown', { key }));
    for (const word of document.querySelectorAll('.ww-words button')) word.click();
    out.cells = all('[role=cell]'); out.words = all('.ww-words button');
    out.options = all('.ww-answer span'); out.kinds = all('option');
    out.model = all('.ww-claims td:nth-child(3) small'); out.alt = document.querySelector('.ww-figure').alt;
    out.ran = window.ran || 0; out.scripts = document.scripts.length; out.images = document.images.length;
"""


@browser.needs_browser
def test_nothing_runs_in_a_browser(tmp_path):
    many = [EVIL[n : n + 5] for n in (0, 3, 6, 9)]
    page = "".join(
        make(*own)._repr_html_()
        for own in many
        for make in (token_map, attended, doses, Figure, Claims)
    )
    out = browser.run(tmp_path, page, LOOK)
    assert (
        out["ran"] == 0 and out["scripts"] == 3 * len(many) + 1 and out["images"] == 2 * len(many)
    )
    at = np.arange(16).reshape(2, 2, 2, 2)[-1, ..., 0].ravel() % 3
    assert out["cells"] == [text for own in many for text in [*(own[n] for n in at), "17"]]
    assert out["words"] == [word for own in many for word in own]
    assert out["options"] == [word for own in many for word in own[1:3]]
    assert out["kinds"] == [word for own in many for word in (own[3], own[4] + "!")]
    assert [each for each in out["model"] if "n = 10" in each] == [
        f"{own[1]}, n = 10" for own in many
    ]
    assert f"in words: {EVIL[0]} " in out["alt"]

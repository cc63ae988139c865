"""Figures carry alt text; the slider over depth is small, safe, and works without us."""

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, get_data_path
from matplotlib.text import Text
from PIL import Image

import browser
from whatwhere.book import figures
from whatwhere.book.figures import fonts
from whatwhere.views import slider

ALT = "Hits rise from 6% at depth 0 to 63% at depth 6."
WORDS = np.array(
    "red blue green cup bear bowl table grass striped yellow book wood".split(), dtype=object
)
KINDS = {"red": "colour", "Blue": "colour", "cup": "category"}


def example(depths=7, rows=12, columns=12, seed=0):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((144, 144))
    words = WORDS[rng.integers(0, len(WORDS), (depths, rows, columns, 5))]
    return image, words, rng.random((depths, rows, columns, 5)).astype(np.float32)


class Page(HTMLParser):
    """Elements and texts of a piece of HTML, and whether every tag was closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.cells, self.in_cell = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("img", "input"):
            self.open.append(tag)
            self.in_cell = dict(attributes).get("role") == "cell"
        if dict(attributes).get("role") == "cell":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.in_cell = False

    def handle_data(self, data):
        if self.in_cell:
            self.cells[-1] += data

    def find(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


IMAGE, TOP, _ = example()
MEAN = np.linspace(0.1, 0.6, 7)
FIGURES = {
    "lines": lambda: figures.lines_with_intervals(
        range(7),
        {"a": (MEAN, MEAN - 0.1, MEAN + 0.1), "b": MEAN},
        "depth",
        "hits",
        percent=True,
        ylim=(0, 1),
    ),
    "signed": lambda: figures.heatmap(
        np.eye(3) - 0.5, "to", "from", "cosines", ["left", "right", "behind"], list("abc")
    ),
    "matrix": lambda: figures.heatmap(np.full((20, 20), 0.3)),
    "maps of maps": lambda: figures.heatmap(np.full((30, 30), 0.3), numbers=False, ticks=False),
    "shaded clouds": lambda: figures.scatters(
        {n: (np.outer(MEAN, [1, 2]), MEAN) for n in "abcd"}, label="row"
    ),
    "clouds": lambda: figures.clouds(
        {n: {"left": np.outer(MEAN, [1, 2]), "right": np.outer(MEAN, [2, 1])} for n in "abcd"}
    ),
    "scene": lambda: figures.scene(IMAGE, (12, 12), {"cup <red>": (10, 10, 60, 90)}, "scene"),
    "pictures": lambda: figures.image_grid([IMAGE] * 5, list("abcde")),
    "words": lambda: figures.word_map(TOP[0, ..., 0], IMAGE, KINDS),
    "words side by side": lambda: figures.word_maps(dict.fromkeys("ab", TOP[0, ..., 0]), IMAGE),
    "lines beside a control": lambda: figures.grid_beside_control(
        {"hits": {"one": {"a": (range(7), MEAN), "b": ([0], [0.5])}}},
        {"hits": {"one": (range(7), MEAN - 0.1, MEAN)}},
        "depth",
        "chance",
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_become_images(name):
    (image,) = Page(figures.html(FIGURES[name](), ALT)).find("img")
    assert (
        image["alt"] == f"{ALT} {figures.told(FIGURES[name]())}".strip()
        and "dark-light" in image["class"]
        and "max-width:100%" in image["style"]
        and "min-width:calc(0.7 * " in image["style"]
    )
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    drawn = Image.open(BytesIO(data))
    assert drawn.width > 300 and len(data) < 300_000
    assert drawn.convert("RGBA").getextrema()[3] == (255, 255), "opaque: no theme shines through"


def test_the_same_bytes_every_time():
    assert figures.html(FIGURES["lines"](), ALT) == figures.html(FIGURES["lines"](), ALT)


def test_figures_tell_their_numbers():
    told = {name: figures.told(draw()) for name, draw in FIGURES.items()}
    assert all(told.values()), told
    fig = figures.heatmap([[1, np.nan], [0.25, 0]], xticks="ab", yticks=["up", "down"])
    assert figures.told(fig) == "Columns a, b. Rows up: 1.00, empty; down: 0.25, 0.00."
    large = np.zeros((10, 10))
    large[2, 3] = 5
    assert "highest 5.00 at row 2, column 3" in figures.told(figures.heatmap(large))
    fig = figures.dots_with_intervals(["x", "y"], {"one": {"a": (MEAN[:2],) * 3}}, "share")
    assert figures.told(fig) == f"one, a: x {MEAN[0]:.2f}, y {MEAN[1]:.2f}."
    fig = figures.lines_with_intervals([0, 2], {"a": [0.1, 0.32]}, "depth", "hits", percent=True)
    assert figures.told(fig) == "depth: 0 to 2. a: 10%, 32%."
    fig = figures.trade_offs({"m": {"way": ([0.5, 0.2], [0.9, 0.8], [0, 0], [1, 1])}}, "kept", "y")
    assert figures.told(fig) == "y at kept. m, way: 80% at 20%, 90% at 50%."
    fig = figures.label_maps([[[0, 1], [-1, 1]]], ["cup", "lamp"], ["depth 3"])
    assert figures.told(fig) == "Patches of each label. depth 3: cup 1, lamp 2."


def test_word_maps_stand_beside_their_picture():
    words = np.array([["mug", "red"], ["mug", "."]])
    fig = figures.word_maps({"one": words, "other": words.T}, IMAGE, {"mug": "thing"}, columns=2)
    assert [ax.get_title() for ax in fig.axes] == ["the picture", "one", "other", ""]
    assert [text.get_text() for text in fig.axes[1].texts] == ["mug", "red", "mug", "."]
    assert [text.get_text() for text in fig.axes[2].texts] == ["mug", "mug", "red", "."]
    assert figures.told(fig) == "one: mug 2, red 1, . 1. other: mug 2, red 1, . 1."
    # words fit into their cells: 2 columns of a map of 2.8 inches
    assert all(text.get_fontsize() <= 0.3 * 2.8 * 72 / 2 for text in fig.axes[1].texts)
    with pytest.raises(ValueError, match="one token map at least"):
        figures.word_maps({}, IMAGE)
    with pytest.raises(ValueError, match="words in rows and columns"):
        figures.word_maps({"one": ["mug"]}, IMAGE)


def test_lines_stand_beside_the_band_of_their_control():
    rows = {"hits": {"m": {"a": ([0, 1], [0.2, 0.4]), "b": ([1], [0.9])}}}
    controls = {"hits": {"m": ([0, 1], [0.0, 0.1], [0.1, 0.2])}}
    fig = figures.grid_beside_control(rows, controls, "depth", "chance", percent=True)
    assert [list(line.get_xdata()) for line in fig.axes[0].lines] == [[0, 1], [1]]
    assert fig.axes[0].collections[0].get_label() == "chance"
    assert figures.told(fig) == (
        "From the first depth to the last. hits, m: a 20% to 40%, b 90%; chance up to 20%."
    )
    rows["hits"]["m"]["a"] = ([0, 1], [0.2, np.nan])
    with pytest.raises(ValueError, match="finite numbers; 'a' has nan at 1"):
        figures.grid_beside_control(rows, controls, "depth", "chance")


def test_a_forest_of_rows():
    row = {
        "id": "what.lens.on_topic",
        "measured": {"value": 0.5, "ci95": [0.4, 0.6], "model": "a"},
        "control": {"value": 0.1, "ci95": None},
        "verdict": "partly",
    }
    fig = figures.forest([row, row | {"verdict": "reproduced"}], "share", percent=True)
    assert figures.told(fig) == (
        "what.lens.on_topic, a: 50.0%, partly; what.lens.on_topic, a: 50.0%, reproduced."
    )
    bars = [list(map(float, c.get_segments()[0][:, 0])) for c in fig.axes[0].collections]
    assert [0.4, 0.6] in bars
    with pytest.raises(ValueError, match="it was given none"):
        figures.forest([], "share")


def test_a_photograph_does_not_weigh_down_its_page():
    noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), dtype=np.uint8)
    (image,) = Page(figures.html(figures.image_grid([noise], size=6), ALT)).find("img")
    data = base64.b64decode(image["src"].removeprefix("data:image/webp;base64,"))
    drawn = Image.open(BytesIO(data))
    assert drawn.format == "WEBP" and drawn.width > 900 and len(data) < 1_000_000


def test_alt_is_escaped_and_needed():
    fig = figures.tell(figures.heatmap(np.eye(2)), "")
    (image,) = Page(figures.html(fig, 'cosines "left" < 0.1 & <b>others</b>\n  more')).find("img")
    assert image["alt"] == 'cosines "left" < 0.1 & <b>others</b> more'
    for alt in ("", "   ", "a plot", None, 3):
        with pytest.raises(ValueError, match="needs alt text: a sentence"):
            figures.html(fig, alt)


def test_show_displays_once(monkeypatch):
    import IPython.display
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    fig, ax = pyplot.subplots()
    ax.plot([1, 2])
    assert figures.show(fig, ALT, width=300) is None
    assert len(shown) == 1 and "width:300px" in shown[0].data
    assert not pyplot.get_fignums(), (
        "a pyplot figure is closed, or the notebook would show it again without alt text"
    )


def test_dollars_and_long_words_are_drawn():
    words = np.array([["$x$", "$", "_^{"], ["a" * 40, "\\frac", "<s>"]], dtype=object)
    fig = figures.word_map(words, example()[0], title="$y$")
    fig.axes[0].set_axis_on()
    fig.axes[0].set_xticks([0, 1], ["$z$", "10^2"])
    assert figures.html(fig, ALT)
    shown = [text.get_text() for text in fig.axes[0].texts]
    assert shown == ["$x$", "$", "_^{", "a" * 13 + "…", "\\frac", "<s>"]
    dollars = [text for text in fig.findobj(Text) if "$" in text.get_text()]
    assert {text.get_text() for text in dollars} == {"$x$", "$", "$y$", "$z$"}
    assert not any(text.get_parse_math() for text in dollars), "a word is no formula"


def font_of(folder, name, characters):
    """The file of a font that draws these characters as bars, and nothing else."""
    glyphs = {f"g{ord(char):X}": char for char in characters}
    pen = TTGlyphPen(None)
    for move, point in (("moveTo", (0, 0)), ("lineTo", (0, 700)), ("lineTo", (500, 0))):
        getattr(pen, move)(point)
    pen.closePath()
    bar, made = pen.glyph(), FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder([".notdef", *glyphs])
    made.setupCharacterMap({ord(char): glyph for glyph, char in glyphs.items()})
    made.setupGlyf({glyph: bar for glyph in (".notdef", *glyphs)})
    made.setupHorizontalMetrics({glyph: (600, 0) for glyph in (".notdef", *glyphs)})
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": name, "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(folder / f"{name}.ttf")
    return str(folder / f"{name}.ttf")


@pytest.fixture
def installed(monkeypatch):
    """A machine that has matplotlib's own fonts; others are installed by appending their files to
    this list."""
    files = []
    own = [
        each for each in font_manager.fontManager.ttflist if each.fname.startswith(get_data_path())
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(files))
    monkeypatch.setattr(fonts, "_seen", set())
    fonts._draws.cache_clear()
    yield files
    fonts._draws.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


CHINESE = np.array([["中", "中文字"], ["a中b", "🍎"]], dtype=object)


@pytest.mark.filterwarnings("error")
def test_words_are_drawn_in_a_font_that_has_them(installed, tmp_path):
    installed += [font_of(tmp_path, "Testing Sans", "中文字"), font_of(tmp_path, "Fruit", "🍎")]
    fig = figures.word_map(CHINESE, IMAGE, {"中": "kind"}, title="字")
    fig.axes[0].set_axis_on()
    fig.axes[0].set_yticks([0, 1], ["文", "b"])
    assert figures.html(fig, ALT), "and matplotlib says nothing of missing glyphs"
    assert [text.get_text() for text in fig.axes[0].texts] == CHINESE.ravel().tolist()
    used = {text.get_text(): text.get_fontfamily()[1:] for text in fig.findobj(Text)}
    assert used["中"] == used["a中b"] == used["文"] == used["字"] == ["Testing Sans"] and used[
        "🍎"
    ] == ["Fruit"]
    assert used["b"] == []


def test_words_that_no_font_has_are_numbered_and_one_sentence_names_a_font(installed, tmp_path):
    with pytest.warns(UserWarning) as told:
        fig = figures.word_map(CHINESE, IMAGE)
        figures.html(fig, ALT)
    (told,) = told
    assert re.search(r"No installed font .* has 中 \(U\+4E2D\), .* and 1 more", str(told.message))
    assert "fonts-noto-cjk" in str(told.message) and "fonts-symbola" in str(told.message)
    assert told.filename == __file__, "the warning points at who called"
    shown = [text.get_text() for text in fig.axes[0].texts]
    assert shown == ["‹U+4E2D›", "‹U+4E2D…›", "a‹U+4E2D›b", "‹U+1F34E›"]
    with pytest.warns(UserWarning, match="U\\+4E2D") as told:
        ticks = figures.heatmap(np.eye(2), title="中", xticks=["中", "a"])
        figures.html(ticks, ALT)
    assert [label.get_text() for label in ticks.axes[0].get_xticklabels()] == ["‹U+4E2D›", "a"]
    installed.append(font_of(tmp_path, "Late Sans", "中文字🍎"))  # while the kernel runs
    fig = figures.word_map(CHINESE, IMAGE)
    assert [text.get_text() for text in fig.axes[0].texts] == CHINESE.ravel().tolist()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.lines_with_intervals(range(2), {"a line": [NAN, 1]}, "x", "y"),
        lambda: figures.lines_with_intervals(
            range(2), {"a line": ([1, INF], [0, 0], [2, 2])}, "x", "y"
        ),
        lambda: figures.panels_with_intervals(range(2), {"panel": {"a line": [1, NAN]}}, "x", "y"),
        lambda: figures.trade_offs(
            {"panel": {"a line": ([0, 1], [0, NAN], [0, 0], [1, 1])}}, "x", "y"
        ),
        lambda: figures.scatters({"a line": (np.ones((2, 2)), [1, NAN])}),
        lambda: figures.clouds({"panel": {"a line": [[1, INF], [0, 0]]}}),
    ],
)
def test_figures_refuse_numbers_that_are_not(draw):
    with pytest.raises(
        ValueError, match=r"finite numbers; 'a line' has (nan|inf) at .*1 of \d are not finite"
    ):
        draw()


def test_a_matrix_may_have_gaps_and_nothing_worse():
    figures.heatmap([[NAN, 1]])
    figures.lines_with_intervals(
        range(2), {"one scene": ([1, 1], [NAN, NAN], [NAN, NAN])}, "x", "y"
    )
    for values in ([[NAN, NAN]], [[INF, 1]], np.zeros((0, 2)), [1, 2]):
        with pytest.raises(ValueError, match="heatmap takes a matrix"):
            figures.heatmap(values)


@pytest.mark.parametrize("words", [[], [[]], ["a"], np.full((0, 3), "a"), np.full((1, 1, 1), "a")])
def test_a_map_without_words_is_refused(words):
    with pytest.raises(ValueError, match="words in rows and columns"):
        figures.word_map(words, IMAGE)
    words = np.asarray(words)
    with pytest.raises(ValueError, match=r"an array \(depth, row, column, rank\)"):
        slider.Slider(IMAGE, words, np.zeros(words.shape), [0], [3])


@pytest.mark.parametrize("wrong", [NAN, INF, -0.5, 1.5])
def test_a_map_refuses_what_is_no_probability(wrong):
    image, words, probabilities = example(depths=4, rows=2, columns=3)
    probabilities[3, 1, 2, 4] = wrong
    for make in (slider.Slider, slider.widget):
        with pytest.raises(
            ValueError,
            match=f"ViT depth 6, LM layer 2, row 1, column 2 it is {wrong:g}, and 1 of 120",
        ):
            make(image, words, probabilities, [0, 6], [1, 2])
    with pytest.raises(ValueError, match="do not fit together"):
        slider.Slider(image, words, probabilities[..., :3], [0, 6], [1, 2])
    with pytest.raises(ValueError, match="do not fit together"):
        slider.Slider(image, words, example(4, 2, 3)[2], [0, 6, 7], [1, 2])


def luminance(colour):
    values = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_words_can_be_read_on_any_picture(grey):
    """WCAG's contrast of every colour of words with the dimmed picture, as the still figure has
    it."""
    fig = figures.word_map(TOP[0, ..., 0], Image.new("RGB", (12, 12), (grey,) * 3))
    dimmed = "#" + bytes(fig.axes[0].images[0].get_array()[0, 0]).hex()
    for colour in (*slider.KIND_COLOURS, "#e4e6ea"):
        assert (luminance(colour) + 0.05) / (luminance(dimmed) + 0.05) >= 4.5, colour


def test_panels_are_said_in_words():
    panels = {
        "a": {"up": np.array([[0.1, 0.5], [0, 0.4], [0.2, 0.6]]), "flat": [0.25, 0.25]},
        "b": {"up": ([1, 0.5],) * 3},
    }
    fig = figures.panels_with_intervals(range(2), panels, "depth", "share", percent=True)
    said = "a, up: 10%, 50%. a, flat: 25%, 25%. b, up: 100%, 50%."
    assert figures.told(fig) == f"depth: 0 to 1. {said}"
    left, right = fig.axes
    assert (
        [ax.get_title(loc="left") for ax in (left, right)] == ["a", "b"]
        and len(left.lines) == 2
        and len(right.lines) == 1
    )
    assert left.get_ylim() == right.get_ylim() and len(fig.legends) == 1


def test_label_maps_colour_each_label_alike():
    maps = [np.array([[0, 1], [-1, -2]]), np.array([[1, 1], [0, 0]])]
    fig = figures.label_maps(maps, ["cup", "bear"], ["one", "two"], image=example()[0])
    picture, one, two = (ax.images[0].get_array() for ax in fig.axes)
    assert [ax.get_title() for ax in fig.axes] == ["the picture", "one", "two"]
    assert (
        (one[0, 1] == two[0, 0]).all()
        and (one[0, 0] == two[1, 1]).all()
        and (one[1, 0] == one[1, 1]).all()
    )
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["cup", "bear"]
    with pytest.raises(ValueError, match="8 labels are too many"):
        figures.label_maps(maps, list("abcdefgh"), ["one", "two"])


def test_trade_offs_have_points_of_their_own():
    points = np.array([[0.9, 0.3], [0.5, 0.8], [0.4, 0.7], [0.6, 0.9]])
    fig = figures.trade_offs(
        {"a": {"words": points}, "b": {"words": points[:, :1], "random": points}},
        "removed",
        "accuracy",
    )
    left, right = fig.axes
    assert left.containers[0].lines[0].get_xydata().tolist() == [[0.3, 0.8], [0.9, 0.5]], (
        "from left to right"
    )
    assert len(right.containers) == 2 and left.get_ylim() == right.get_ylim()
    assert figures.html(fig, ALT)


def test_a_mosaic_has_the_mean_colours():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, :2], image[:, 2:4], image[:, 4:] = 100, 200, 60
    found = figures.mosaic(image, np.array([7, 7, -1, 3, -1, -1]), (2, 3))
    assert (found[:2, :4] == 150).all() and (found[:2, 4:] == 9).all()
    assert (found[2:, :2] == 100).all() and (found[2:, 2:4] == 30).all()


def test_slider_is_small_closed_and_says_what_it_shows():
    made = slider.Slider(*example(), range(7), [3], KINDS)
    page = Page(made.html())
    assert not page.open
    assert len(made.html()) <= 150_000
    assert made._repr_html_() == made.html(), "the same each time: no random name"
    (span,) = (a for a in page.find("input") if a["type"] == "range")
    assert (span["min"], span["max"], span["value"], span["aria-valuetext"]) == (
        "0",
        "6",
        "6",
        "6 of 6",
    )
    assert len(page.cells) == 144 and page.cells == made.words[-1, ..., 0].reshape(-1).tolist()
    assert (
        "12 rows and 12 columns"
        in next(a for a in page.find("div") if a.get("role") == "table")["aria-label"]
    )
    assert re.search(
        r"ViT depth 6 of 6, LM layer 3. Most common: <bdi>\w+</bdi> \(\d+\)", made.html()
    )
    assert not re.search(r"https?://|<link|src=", made.html()), "nothing is fetched"
    kinds = {
        cell: kind
        for cell, kind in zip(
            page.cells, [a.get("class") for a in page.find("span") if a.get("role")]
        )
    }
    assert (
        kinds["red"] == kinds["blue"] == "ww-k0"
        and kinds["cup"] == "ww-k1"
        and kinds["table"] is None
    )
    assert page.find("figure")[0]["class"].startswith("ww-map ") and "colour" in made.html()


def test_slider_carries_every_depth():
    image, words, probabilities = example(depths=3, rows=2, columns=4)
    made = slider.Slider(image, words, probabilities, [0, 2, 5], [3])
    data = json.loads(Page(made.html()).find("figure")[0]["data-map"])
    for depth in range(3):
        told = [data["words"][word] for word in data["ids"][depth]]
        assert told == words[depth, ..., :3].reshape(-1).tolist()
        assert np.allclose(
            data["percent"][depth], 100 * probabilities[depth, ..., :3].reshape(-1), atol=0.5
        )
    assert [told[0].split(".")[0] for told in data["told"]] == [
        f"ViT depth {n}, LM layer 3" for n in (0, 2, 5)
    ]
    assert Page(made.html(at=0)).cells == words[0, ..., 0].reshape(-1).tolist()


EVIL = [
    "<script>document.title='bad'</script>",
    '"><img src=x onerror="document.title=1">',
    "&lt;",
    "'",
    "</figure>",
    "$x$",
]


def test_widget():
    box = slider.widget(*example(depths=3), [0, 1, 4], [3])
    choice, shown = box.children
    assert [label for label, _ in choice.options] == ["0", "1", "4"] and choice.value == 2
    before = shown.value
    choice.value = 0
    assert "ViT depth 0, LM layer 3." in shown.value and shown.value != before
    assert 'class="ww-bar" hidden' in shown.value
    depth, layer, shown = slider.widget(*example(depths=4), [0, 6], [1, 2]).children
    depth.value, layer.value = 0, 1
    assert "ViT depth 0, LM layer 2." in shown.value


@browser.needs_browser
def test_in_a_browser(tmp_path):
    """Two maps on a page: moving one slider, picking a patch by keyboard, touches that map alone;
    nothing evil runs."""
    image, words, probabilities = example(depths=3, rows=2, columns=3)
    words[0, ..., 0] = np.array(EVIL, dtype=object).reshape(2, 3)
    one, two = (
        slider.Slider(image, w, probabilities, [0, 1, 2], [3], KINDS).html()
        for w in (words, words[::-1])
    )
    many = example(depths=6, rows=2, columns=3)
    both = slider.Slider(*many, [0, 1, 2], [0, 4]).html()
    out = browser.run(
        tmp_path,
        one + two + both,
        """
        const [a, b, c] = document.querySelectorAll('.ww-map');
        const read = map => [...map.querySelectorAll('[role=cell]')].map(c => c.textContent);
        out.untouched = read(b); const range = a.querySelector('input'), grid = a.querySelector('.ww-grid');
        range.value = 0; range.dispatchEvent(new Event('input'));
        for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', 'ArrowUp', 'a', 'ArrowDown'])
            grid.dispatchEvent(new KeyboardEvent('keydown', {key}));
        out.patch = a.querySelector('.ww-patch').textContent; out.cells = read(a); out.after = read(b);
        out.spoken = range.getAttribute('aria-valuetext'); out.told = a.querySelector('.ww-told').textContent;
        const [depth, layer] = c.querySelectorAll('input[type=range]');
        for (const [slider, value] of [[layer, 0], [depth, 1]]) {
            slider.value = value; slider.dispatchEvent(new Event('input')) }
        out.both = read(c); out.names = [...c.querySelectorAll('output')].map(o => o.textContent).join('; ');
        out.bad = document.title""",
    )
    assert out["cells"] == EVIL and out["untouched"] == out["after"] and not out["bad"]
    assert out["spoken"] == "0 of 2" and out["told"].startswith("ViT depth 0 of 2")
    assert out["patch"].startswith("Row 1, column 1: </figure> ")
    assert out["both"] == many[1][1, ..., 0].reshape(-1).tolist() and out["names"] == "1 of 2; 0"

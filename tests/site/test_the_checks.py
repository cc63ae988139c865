"""Each check finds what it is for, on a page made to have that fault, and finds nothing on a page
that has none."""

import re

import checks
import files
import pytest
from visits import pages, served

BEYOND = "http://203.0.113.7/"  # an address that belongs to nobody
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
PAGE = """<!doctype html><html lang="en" data-theme="light">
<head><meta charset="utf-8"><title>A page</title>{head}</head>
<body style="background: #fff; color: #222">
<main><article><h1>A page</h1><p>Some words.</p>{body}</article></main></body></html>"""
SOUND = f"""<img src="{PIXEL}" alt="one dot">
<div style="overflow: auto; width: 9em" tabindex="0"><pre style="width: 900em">$$</pre></div>
<p>Costs <code>\\(</code> and <a href="other.html#there">more</a>.</p>"""


@pytest.fixture
def show(tmp_path, visit):
    """show(body, head) opens a page with this in it."""
    with served(tmp_path) as address:

        def open_page(body="", head="", **options):
            (tmp_path / "page.html").write_text(
                PAGE.replace("{head}", head).replace("{body}", body), encoding="utf-8"
            )
            return visit(address + "page.html", **options)

        yield open_page


def complaints(visit, theme="light"):
    page = visit.page
    return [
        *visit.wrong,
        *checks.overflow(page),
        *checks.images(page),
        *checks.maths(page),
        *checks.shifts(page),
        *checks.theme(page, theme),
        *checks.flash(page),
        *checks.not_to_copy(page),
        *checks.barriers(page),
        *checks.contrasts(page)[0],
    ]


def test_a_sound_page_is_left_alone(show):
    assert complaints(show(SOUND)) == []


FAULTS = [
    ("<script>console.error('oh dear')</script>", "the console shows an error: oh dear"),
    ("<script>undefinedName()</script>", "a script failed: undefinedName is not defined"),
    ("<script src='missing.js'></script>", r"missing\.js was answered with 404"),
    (f"<img src='{BEYOND}a.png' alt='a picture'>", r"a\.png was asked for, which is elsewhere"),
    (f"<img src='{BEYOND}a.png' alt='a picture'>", r"a\.png could not be had"),
    (f"<script>new WebSocket('ws{BEYOND[4:]}')</script>", "a socket was opened to ws://203"),
    (f"<script>fetch('{BEYOND}').catch(() => 0)</script>", "was asked for, which is elsewhere"),
    ("<div id='broad' style='width: 3000px'>a line</div>",
     r"3\d+ pixels wide .* too wide: .*div#broad \(\d+ too many, .a line"),
    ("<img src='missing.png' alt='a picture'>", r"an image has not loaded: missing\.png"),
    (f"<img src='{PIXEL}'>", r"an image has no alt text that tells anything \(\"\"\)"),
    ("<img src='a/dot.png' alt='dot.png'>",
     r"an image has no alt text that tells anything \(\"dot\.png\"\)"),
    ("<img src='a/dot.png' alt='dot'>", "an image has no alt text that tells anything"),
    ("<p>so $$x^2$$ is typed</p>", r"a formula was left as it is typed: so \$\$x"),
    ("<p>so \\(x\\) is typed</p>", "a formula was left as it is typed"),
    ("<span class='math'>x^2</span>", r"a formula is not set: x\^2"),
    ("<span class='math'><span class='katex katex-error'>\\frc</span></span>",
     "a formula is wrong"),
    ("<span class='math'><span class='katex'>x</span></span>",
     "the fonts for mathematics are not loaded"),
    ("<p style='color: #ccc'>faint words</p>", "the text \"faint words\" has contrast 1.6"),
    ("<p>a <span style='color: #ccc'>faint</span> word</p>", r"\"faint\" \(span\) has contrast 1\.6"),
    ("<div class='cell_input'><div class='highlight'>x = 1</div></div>",
     "a code cell has no button to copy it: x = 1"),
    ("<button></button>", r"button-name \(critical"),
    ("<div style='overflow: auto; height: 3em'><pre>" + "one\n" * 99 + "</pre></div>",
     r"scrollable-region-focusable \(serious"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "found"), FAULTS)
def test_a_fault_is_found(body, found, show):
    said = complaints(show(body))
    assert any(re.search(found, each) for each in said), said


LATER = "<script>requestAnimationFrame(() => requestAnimationFrame(() => { document.%s }))</script>"


def test_a_shift_of_the_layout_is_found(show):
    pushed = "<div id='late'></div><p style='height: 20em'>words that are pushed down</p>"
    here = show(pushed + LATER % "querySelector('#late').style.height = '30em'")
    here.page.wait_for_function("window.shifts.length > 0")
    (said,) = checks.shifts(here.page)
    assert re.match(r"the layout shifts by 0\.\d+, first of all at p", said)


def test_a_theme_that_comes_late_or_not_at_all_is_found(show):
    assert checks.theme(show().page, "dark") == [
        'the page is in the theme "light", not in "dark"',
        "the ground of the page has luminance 1.00 in the dark theme",
    ]
    (said,) = checks.flash(show(LATER % "documentElement.dataset.theme = 'dark'").page)
    assert said == "the page is drawn in the theme 'light' first, then in 'dark'"


ASKED = "<p><strong>{}. Is it?</strong></p>"
ANSWER = "<details><summary>a word</summary><p>{}. That is so.</p></details>"


@pytest.mark.parametrize(
    ("quiz", "found"),
    [
        ("", "the quiz has no question"),
        (ASKED.format(1) + ANSWER.format("Yes"), "1 options are too few"),
        (ASKED.format(1) + ANSWER.format("No") * 2, "0 options are right"),
        (ASKED.format(1) + ANSWER.format("Yes") * 2, "2 options are right"),
        (
            ASKED.format(1) + ANSWER.format("Yes") + ANSWER.format("Perhaps"),
            "an answer says neither Yes nor No",
        ),
        (
            ASKED.format(2) + ANSWER.format("Yes") + ANSWER.format("No"),
            "question 1 has another number",
        ),
        (ANSWER.format("Yes"), "an option comes before the first question"),
    ],
)
def test_a_faulty_quiz_is_found(quiz, found, show):
    said = checks.quiz(show(f"<section id='quiz'>{quiz}</section>").page)
    assert any(found in each for each in said), said
    assert checks.quiz(show().page) == ["there is no quiz"]


def test_what_paper_should_not_show_or_hide_is_found(show):
    page = show(
        "<nav class='bar'>go on</nav><details><summary>more</summary><p>folded words</p></details>"
    ).page
    page.emulate_media(media="print")
    assert checks.printed(page, ".bar") == [
        "this belongs to the screen and is printed: nav.bar",
        "what is folded is not printed: morefolded words",
    ]


def test_dead_links_and_heavy_pages_are_found(tmp_path):
    (tmp_path / "other.html").write_text(
        "<p id='there'>here</p><a href='https://example.org/#x'>afar</a>", encoding="utf-8"
    )
    (tmp_path / "dot.png").write_bytes(b"0" * 1000)
    sound = (
        "<p id=top><a href='#top'>up</a> <a href='other.html#there'>other</a> <a "
        "href='#'>here</a> <img src='dot.png'>"
    )
    (tmp_path / "page.html").write_text(sound, encoding="utf-8")
    assert files.dead_links(tmp_path) == []
    assert files.weight(tmp_path / "page.html") == 1000 + len(sound)
    dead = (
        "<a href='#nowhere'>a</a> <a href='other.html#nowhere'>b</a> <a "
        "href='none.html'>c</a> <img src='none.png'>"
    )
    (tmp_path / "page.html").write_text(dead + "<p id=one><p id=one>", encoding="utf-8")
    assert files.dead_links(tmp_path) == [
        "page.html links to #nowhere, and that page has no such place",
        "page.html links to other.html#nowhere, and that page has no such place",
        "page.html links to none.html, and there is no such file",
        "page.html has the id one 2 times",
        "page.html needs none.png, and there is no such file",
    ]


PICTURE = f"<div style='background: url({PIXEL})'>"
FAINT = {  # HTML: the contrast of its text, or None where it can be read
    "<p style='color: #ccc'>words</p>": "1.6",
    # over white, #333
    "<div style='background: #000c'><p style='color: #333'>words</p></div>": "1.0",
    "<div style='background: #000c'><p style='color: #fff'>words</p></div>": None,
    "<p style='color: rgb(0 0 0 / .3)'>words</p>": "2.1",
    f"{PICTURE}<p style='color: #fff'>words</p></div>": "1.0",  # which may be a white one
    f"{PICTURE}<p style='color: #fff; background: #000c'>words</p></div>": None,
    "<svg><text y='20' fill='#ddd'>words</text></svg>": "1.4",
    "<p hidden style='color: #fff'>words</p>": None,
    "<p style='color: #fff; text-shadow: 0 0 2px #000'>words</p>": None,
    "<p style='color: #fff; text-shadow: 0 0 2px #bbb, 0 0 3px #000'>words</p>": "1.9",
}


@pytest.mark.parametrize("html", FAINT)
def test_contrast_is_that_of_what_is_seen(html, show):
    found, looked = checks.contrasts(show(html).page)
    assert looked == 2 + ("hidden" not in html), "the heading, the words of every page, and these"
    assert [re.search(r"has contrast (\d+\.\d)", each)[1] for each in found] == [FAINT[html]] * (
        FAINT[html] is not None
    )


def test_there_are_pages_to_look_at(folder):
    names = pages()
    assert {"search.html", "genindex.html", "book/intro.html"} <= set(names) and not any(
        "_static" in name for name in names
    )

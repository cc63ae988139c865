"""The page on which the dose of an intervention is dragged: it shows what it was given."""

import re

import numpy as np
import pytest
from PIL import Image

import browser
from whatwhere.book.doses import Doses

DOSES, OPTIONS = [-1, 0, 0.5, 1], ["left", "<right>"]
CURVES = {
    "steered": np.array([[0.9, 0.05], [0.8, 0.1], [0.5, 0.5], [0.123, 0.877]]),
    "a & b": np.full((4, 2), 0.25),
}


def page(**given):
    named = {
        "question": "where is <b> ?",
        "options": OPTIONS,
        "doses": DOSES,
        "curves": CURVES,
    } | given
    return Doses(Image.new("RGB", (24, 24), "teal"), **named)


def test_it_needs_nothing_from_elsewhere_and_says_so_without_scripts():
    html = page()._repr_html_()
    assert not re.search(r"https?://|<link|@import", html) and re.findall(
        r'src="([^,]*)', html
    ) == ["data:image/jpeg;base64"]
    # nothing is done at first
    assert "drawn by a script, which does not run here" in html and 'value="1"' in html
    assert (
        "<b> ?" not in html
        and "&lt;b&gt; ?" in html
        and "a &amp; b" in html
        and "<right>" not in html
    )
    assert repr(page()) == "Doses(steered, a & b; 4 doses from -1 to 1)"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"doses": [0, 1]}, "2 doses × 2 options"),
        ({"curves": {"steered": np.full((4, 2), np.nan)}}, "all finite"),
        ({"curves": {}}, "one curve or more"),
        ({"doses": [0, 0, 1, 2]}, "in rising order"),
        ({"doses": [1], "curves": {"steered": [[0.5, 0.5]]}}, "two doses or more"),
    ],
)
def test_what_does_not_fit_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        page(**given)


DRAG = """
    const [one, two] = document.querySelectorAll('.ww-doses'), say = root => root.querySelector('figcaption').textContent;
    const set = (what, value) => { const input = one.querySelector(what); input.value = value;
        input.dispatchEvent(new Event('input')) };
    out.first = say(one); set('input', 3); out.dragged = say(one);
    out.wide = [...one.querySelectorAll('b')].map(bar => bar.style.width);
    out.numbers = [...one.querySelectorAll('output')].map(each => each.textContent);
    set('select', 1); out.other = say(one); out.untouched = say(two);
"""


@browser.needs_browser
def test_it_shows_what_it_was_given(tmp_path):
    out = browser.run(tmp_path, page()._repr_html_() * 2, DRAG)
    assert out["first"] == out["untouched"] == "steered, dose 0.00: left 80%, <right> 10%."
    assert out["dragged"] == "steered, dose 1.00: left 12%, <right> 88%."
    assert out["wide"] == ["12.3%", "87.7%"] and out["numbers"] == ["12%", "88%", "1.00"]
    assert out["other"] == "a & b, dose 1.00: left 25%, <right> 25%."

"""The page of rotary phases: its numbers are the book's, in a browser."""

import re

import pytest
import torch

import browser
from whatwhere import rope
from whatwhere.book.phases import PANELS, SLIDERS, Phases


def test_it_needs_nothing_from_elsewhere_and_says_so_without_scripts():
    html = Phases()._repr_html_()
    assert not re.search(r"https?://|<link|@import|src=", html)
    assert (
        html.count('type="range"')
        == html.count("<label>")
        == html.count("<output>")
        == len(SLIDERS)
    )
    assert "drawn by a script, which does not run here" in html
    assert (
        len(Phases(24).theta) == 6
        and 'name="frequency" min="0" step="1" value="3" max="5"' in Phases(24)._repr_html_()
    )
    assert "80 dimensions, 20 frequencies" in repr(Phases())
    with pytest.raises(ValueError, match="multiple of four"):
        Phases(head_size=30)


SET = """
    const [one, two] = document.querySelectorAll('.ww-phases'), say = root => root.querySelector('figcaption').textContent;
    out.first = say(one);
    for (const [name, value] of Object.entries(SETTINGS)) {
        const input = one.querySelector(`[name=${name}]`);
        input.value = value; input.dispatchEvent(new Event('input'));
    }
    out.said = say(one); out.other = say(two);
    out.pictures = one.querySelectorAll('svg[role=img][aria-label]').length;
    out.drawn = one.innerHTML; out.error = document.title
"""


@browser.needs_browser
@pytest.mark.parametrize(
    "settings",
    [
        {"distance": 7, "frequency": 5, "phase": -40, "alpha": 0, "p": 8},
        {"distance": 3, "frequency": 19, "phase": 90, "alpha": 99, "p": 8},
        {"distance": 12, "frequency": 0, "phase": 0, "alpha": 20, "p": 1},
    ],
)
def test_its_numbers_are_the_algebras(tmp_path, settings):
    out = browser.run(tmp_path, Phases()._repr_html_() * 2, SET.replace("SETTINGS", str(settings)))
    assert (
        out["first"] == out["other"] != out["said"]
        and out["pictures"] == len(PANELS)
        and "NaN" not in out["drawn"]
    )
    theta = rope.frequencies(80) * rope.gains(20, settings["alpha"], settings["p"])
    rotary, phase = (
        rope.Rotary(theta, torch.ones(20)),
        torch.tensor(settings["phase"] * torch.pi / 180).double(),
    )
    q = torch.cat([phase.cos().expand(20), phase.sin().expand(20)])
    k = torch.cat([torch.ones(20), torch.zeros(20)]).double()
    terms = {
        side: rotary.terms(q, k, rope.place(side, settings["distance"]))
        for side in ("left", "right")
    }
    shared, telling = (each[settings["frequency"]].item() for each in terms["left"])
    logits = [6 * sum(each).mean() for each in terms.values()]
    weights = [100 * (s.exp() / (s.exp() + 15)).item() for s in logits]
    said = [float(each.replace("−", "-")) for each in re.findall(r"[−\d.]*\d", out["said"])]
    pair, turn, _, left, right, both, told, w_left, w_right, past, n = said
    assert (pair, past, n) == (
        settings["frequency"],
        (settings["distance"] * theta > torch.pi).sum(),
        20,
    )
    assert turn == pytest.approx(theta[settings["frequency"]].item(), rel=0.06)
    for ours, theirs in (
        (left, shared + telling),
        (right, shared - telling),
        (both, shared),
        (told, abs(telling)),
    ):
        assert ours == pytest.approx(theirs, abs=0.006)
    assert [w_left, w_right] == pytest.approx(weights, abs=0.06)

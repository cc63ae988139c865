"""What moves in the chapters: token maps, phases, doses. A reader with a keyboard moves them, and
so do these tests."""

import pytest
from visits import chapters, nothing

MAPS = chapters('<figure class="ww-map')
PHASES = chapters('<figure class="ww-phases')
DOSES = chapters('<figure class="ww-doses')

# the words that a map shows, and those that its data say it has to show at the place of its sliders
SHOWN = "map => [...map.querySelectorAll('[role=cell]')].map(cell => cell.textContent)"
DUE = """map => {
    const data = JSON.parse(map.dataset.map), [depth, layer] = [...map.querySelectorAll('input[type=range]')].map(n => +n.value);
    const ids = data.ids[(layer || 0) * data.names[0].length + depth];
    return ids.filter((_, n) => n % data.ranks === 0).map(id => data.words[id]);
}"""


def each(page, selector):
    found = page.locator(selector).all()
    assert found, f"there is no {selector} on this page"
    return found


@pytest.mark.parametrize("name", MAPS)
def test_a_slider_of_a_token_map_changes_its_words(name, book, visit):
    here = visit(book + name)
    for figure in each(here.page, "figure.ww-map"):
        told = figure.locator(".ww-told")
        for slider in each(figure, "input[type=range]"):
            before, words, value = told.inner_text(), figure.evaluate(SHOWN), slider.input_value()
            slider.focus()
            slider.press("ArrowLeft")
            assert int(slider.input_value()) == int(value) - 1, (
                "an arrow key moves the slider by one"
            )
            assert told.inner_text() != before, "the sentence below the map tells of the new place"
            assert figure.evaluate(SHOWN) == figure.evaluate(DUE), (
                "the words are those of the new place"
            )
            slider.press("Home")
            assert figure.evaluate(SHOWN) == figure.evaluate(DUE) != words, (
                "at the other end other words are read"
            )
            assert slider.get_attribute("aria-valuetext"), (
                "a screen reader says where the slider is"
            )
            slider.press("End")
            assert (told.inner_text(), figure.evaluate(SHOWN)) == (before, words), "and back again"
    assert here.page.url == book + name, "no arrow key has led to another page"
    nothing(here.wrong, name)


@pytest.mark.parametrize("name", MAPS)
def test_arrow_keys_walk_over_a_token_map(name, book, visit):
    here = visit(book + name)
    for figure in each(here.page, "figure.ww-map"):
        grid, patch = figure.locator(".ww-grid"), figure.locator(".ww-patch")
        grid.focus()
        for key, row, column in (
            ("ArrowRight", 0, 0),
            ("ArrowRight", 0, 1),
            ("ArrowDown", 1, 1),
            ("ArrowLeft", 1, 0),
        ):
            grid.press(key)
            assert here.page.url == book + name, f"{key} on the map led away from the page"
            assert patch.inner_text().startswith(f"Row {row}, column {column}: ")
            assert figure.locator(".ww-on").count() == 1, "the patch is marked"
        figure.locator("[role=cell]").nth(3).click()
        assert patch.inner_text().startswith("Row 0, column 3: ")
        # or it points at a patch of the next map, once that has come into view
        here.page.mouse.move(0, 0)
    nothing(here.wrong, name)


@pytest.mark.parametrize("name", MAPS)
def test_a_token_map_without_scripts_is_a_figure(name, book, visit):
    here = visit(book + name, scripts=False)
    for figure in each(here.page, "figure.ww-map"):
        assert figure.evaluate(SHOWN) == figure.evaluate(DUE), "the words are there"
        assert figure.locator(".ww-grid").is_visible() and figure.locator(".ww-told").is_visible()
        assert not figure.locator(".ww-bar").is_visible(), (
            "a slider that moves nothing is not shown"
        )
    nothing(here.wrong, name)


def moves(figure, slider, key):
    """Press a key on a slider: what it says changes, and so does the sentence."""
    caption, said = figure.locator("figcaption"), slider.locator("xpath=following-sibling::output")
    before = caption.inner_text(), said.inner_text()
    slider.focus()
    slider.press(key)
    name = slider.get_attribute("name") or "dose"
    assert said.inner_text() != before[1], f"{name}: the number beside the slider is the new one"
    assert caption.inner_text() != before[0], f"{name}: the sentence below tells what has changed"


@pytest.mark.parametrize("name", PHASES)
def test_the_sliders_of_the_phases_change_what_is_said(name, book, visit):
    here = visit(book + name)
    for figure in each(here.page, "figure.ww-phases"):
        assert figure.locator("svg[role=img][aria-label]").count() == 3
        for slider in each(figure, "input[type=range]"):
            # p is an exponent of what α scales, which is nothing at first
            moves(
                figure,
                slider,
                {"alpha": "End", "p": "Home"}.get(slider.get_attribute("name"), "ArrowRight"),
            )
    nothing(here.wrong, name)


@pytest.mark.parametrize("name", DOSES)
def test_the_dose_changes_what_is_said(name, book, visit):
    here = visit(book + name)
    for figure in each(here.page, "figure.ww-doses"):
        slider, caption, kinds = (
            figure.locator("input[type=range]"),
            figure.locator("figcaption"),
            figure.locator("select"),
        )
        widths = "figure => [...figure.querySelectorAll('b')].map(bar => bar.style.width)"
        seen = set()
        # what is turned too far may say again what it said before: look on the way, too
        for key in ("End", "Home", *["ArrowRight"] * 20):
            moves(figure, slider, key)
            seen.add(tuple(figure.evaluate(widths)))
        assert len(seen) > 2, "the bars follow"
        for kind in kinds.locator("option").all_inner_texts():
            kinds.select_option(label=kind)
            assert caption.inner_text().startswith(f"{kind}, dose ")
    nothing(here.wrong, name)


@pytest.mark.parametrize(
    ("name", "figure"), [(n, "ww-phases") for n in PHASES] + [(n, "ww-doses") for n in DOSES]
)
def test_what_a_script_draws_says_so_without_scripts(name, figure, book, visit):
    here = visit(book + name, scripts=False)
    for each_figure in each(here.page, f"figure.{figure}"):
        assert "does not run here" in each_figure.locator("figcaption").inner_text()
    nothing(here.wrong, name)

"""What a reader does with the book: search, open, switch, copy, print, carry it away."""

import contextlib
import re

import checks
import pytest
from playwright.sync_api import Error, expect
from visits import HTML, THEMES, chapters, nothing, pages

CHAPTERS = chapters()


def formulas(name):
    path = HTML / name
    return path.read_text(encoding="utf-8").count('class="katex"') if path.exists() else 0


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", [max(CHAPTERS, key=formulas)])
def test_a_place_far_down_stays_where_it_is(name, width, book, visit):
    far = visit(book + name, width).page.eval_on_selector_all(
        "article section[id]", "all => all.at(-1).id"
    )
    # so that the page is drawn before its scripts have run
    here = visit(f"{book}{name}#{far}", width, slowed=4)
    nothing(here.wrong + checks.shifts(here.page), f"{name}#{far}")
    expect(here.page.locator(f"[id='{far}']")).to_be_in_viewport()


def test_a_symbol_has_its_place_in_its_row(book, visit):
    here = visit(book + "book/notation.html")
    places = "all => all.map(each => [each.id, Boolean(each.closest('tr'))])"
    astray = [
        name
        for name, in_a_row in here.page.eval_on_selector_all("[id^='symbol-']", places)
        if not in_a_row
    ]
    nothing(here.wrong + astray, "places of symbols that a browser takes out of their rows")


@pytest.mark.parametrize("name", [max(CHAPTERS, key=formulas)])
def test_arrow_keys_scroll_a_wide_formula(name, book, visit):
    here = visit(book + name, 390)
    wide = "each => [each, ...each.children].some(part => part.scrollWidth > part.clientWidth + 9)"
    found = [
        each for each in here.page.locator("div.math[tabindex='0']").all() if each.evaluate(wide)
    ]
    assert found, f"{name} has no formula that is too wide for a phone"
    for each in found:
        each.press("ArrowRight")
        # scrolling is smooth, and a jump to another page takes its time as well
        with contextlib.suppress(Error):
            here.page.wait_for_function("each => each.scrollLeft > 0", arg=each.element_handle())
        assert here.page.url == book + name, "an arrow key on a formula led away from the page"
        assert each.evaluate("each => each.scrollLeft"), (
            "an arrow key does not scroll the formula: is it what scrolls?"
        )
    nothing(here.wrong, name)


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_code_and_no_output_is_cut_off(name, book, visit):
    here = visit(book + name)
    here.page.set_viewport_size({"width": 1280, "height": 900})
    here.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    cut = here.page.evaluate("""
        [...document.querySelectorAll('div.highlight pre, .cell_output pre')]
            .filter(each => each.scrollWidth > each.clientWidth + 1)
            .map(each => each.textContent.trim().slice(0, 80))""")
    assert here.page.locator("div.highlight pre").count() > 5, f"{name} shows hardly any code"
    nothing(here.wrong + cut, name)


@pytest.mark.parametrize("name", CHAPTERS)
def test_exercises_open_and_close(name, book, visit):
    here = visit(book + name)
    # a live figure that wakes as it is scrolled past brings some of its own
    others = "section#quiz details, .ww-live details"
    folded = here.page.locator(f"article details:not({others})").all()
    assert len(folded) >= 3, (
        f"{name} has exercises with hints and solutions, and {len(folded)} parts to open"
    )
    for part in folded:
        summary, text = (
            part.locator(":scope > summary"),
            part.locator(":scope > :not(summary)").first,
        )
        expect(text, "closed at first").not_to_be_visible()
        summary.click()
        expect(text, "opened by a click").to_be_visible()
        summary.click()
        expect(text, "closed by a click").not_to_be_visible()
        summary.press("Enter")
        expect(text, "opened by the Enter key").to_be_visible()
        summary.press("Space")
        expect(text, "closed by the space bar").not_to_be_visible()
    nothing(here.wrong, name)


def test_the_search_page_finds_a_word(book, visit):
    here = visit(book + "search.html?q=lens")
    results = here.page.locator("#search-results ul.search > li > a")
    expect(results.first).to_be_visible()
    expect(
        here.page.locator("#search-results a[href*='02_reading_patches_as_words']").first
    ).to_be_visible()
    field = here.page.locator(".bd-search-container input[name=q]")
    field.fill("xylophonist")
    field.press("Enter")
    expect(here.page.locator("#search-results")).to_contain_text("did not match any documents")
    field.fill("glossary")
    field.press("Enter")
    expect(here.page.locator("#search-results a[href*='book/glossary']").first).to_be_visible()
    nothing(here.wrong, "search.html")


@pytest.mark.parametrize("width", [390, 1440])
def test_the_field_of_a_page_leads_to_the_search_page(width, book, visit):
    here = visit(book + CHAPTERS[0], width)
    here.page.keyboard.press("Control+k")
    field = here.page.locator("#pst-search-dialog input[name=q]")
    expect(field).to_be_focused()
    field.fill("rotary")
    field.press("Enter")
    expect(here.page.locator("#search-results ul.search > li > a").first).to_be_visible()
    nothing(here.wrong, CHAPTERS[0])


@pytest.mark.parametrize("width", [390, 1440])
def test_the_theme_can_be_switched_and_stays(width, book, visit):
    here = visit(book + CHAPTERS[0], width)
    switch = here.page.locator("button.theme-switch-button:visible").first
    seen = [here.page.evaluate("document.documentElement.dataset.theme")]
    for _ in range(3):
        switch.click()
        seen.append(here.page.evaluate("document.documentElement.dataset.theme"))
        nothing(checks.theme(here.page, seen[-1]), f"after {len(seen) - 1} clicks")
        if seen[-1] == "dark":
            break
    assert (seen[0], seen[-1]) == ("light", "dark")
    here.page.goto(book + CHAPTERS[-1])
    nothing(here.wrong + checks.theme(here.page, "dark"), CHAPTERS[-1])


def test_copying_puts_the_code_on_the_clipboard(book, visit):
    here = visit(book + CHAPTERS[0], permissions=["clipboard-read", "clipboard-write"])
    cell = here.page.locator("article div.cell_input div.highlight:visible").first
    cell.hover()
    cell.locator("button.copybtn").click()
    expect(cell.locator("button.copybtn")).to_have_class(re.compile("success"))
    copied = here.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == cell.locator("pre").inner_text().strip() != ""
    nothing(here.wrong, CHAPTERS[0])


@pytest.mark.parametrize("name", CHAPTERS[:1])
def test_the_notebook_is_behind_the_download_button(name, book, visit):
    here = visit(book + name, 390)
    here.page.locator(".dropdown-download-buttons > button").click()
    expect(here.page.locator("a.btn-download-source-button")).to_be_visible()
    nothing(here.wrong, name)


NOT_PRINTED = (
    ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header, .bd-header-article, "
    ".prev-next-footer, .copybtn, .ww-bar"
)


@pytest.mark.parametrize("name", CHAPTERS)
def test_on_paper_there_is_the_text_and_all_of_it(name, book, visit):
    here = visit(book + name)
    here.page.emulate_media(media="print")
    nothing(checks.printed(here.page, NOT_PRINTED), name)
    if name == CHAPTERS[0]:
        sheets = re.findall(rb"/Type\s*/Page\b", here.page.pdf(format="A4"))
        assert len(sheets) > 3, f"{name} fills {len(sheets)} sheets"
    nothing(here.wrong, name)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    "name", [CHAPTERS[0], max(CHAPTERS, key=formulas), pages("book/*.html")[0]]
)
def test_a_page_opens_from_a_file(name, theme, folder, visit):
    here = visit((folder / name).as_uri(), theme=theme)
    found = (
        here.wrong + checks.overflow(here.page) + checks.images(here.page) + checks.maths(here.page)
    )
    nothing(found + checks.theme(here.page, theme) + checks.flash(here.page), name)

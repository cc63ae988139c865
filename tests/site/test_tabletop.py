"""The live tabletop in a browser, on a page from a disk: no server, no network, no kernel."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect
from visits import nothing

import whatwhere as ww
from whatwhere.book.live import tabletop

WORDS = "[...document.querySelectorAll('.ww-words [role=cell]')].map(cell => cell.textContent)"
FRESH = "document.querySelector('.ww-words [role=cell]') && !document.querySelector('.ww-words.ww-stale')"
SEED = 4  # a sign, a stool, a lamp and a mug on grass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    tabletop.assets(folder / "live")
    figure = tabletop.Tabletop(ww.world.scene(SEED), base="live")
    (folder / "page.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title><h1>A page</h1>'
        f"{figure._repr_html_()}",
        encoding="utf-8",
    )
    return (folder / "page.html").as_uri()


def woken(here):
    here.page.get_by_role("button", name="Wake the model").click()
    here.page.wait_for_function(FRESH)
    return here.page


def menu(page, name):
    return page.get_by_role("combobox", name=name, exact=True)


def words(page):
    page.wait_for_function(FRESH)
    return page.evaluate(WORDS)


def python(**changes):
    """What Python reads in the scene whose mug is changed."""
    scene = ww.world.scene(SEED)
    things = [replace(t, **changes) if t.category == "mug" else t for t in scene.things]
    vlm = ww.load("toy-qwen2vl", device="cpu", dtype="float32")
    image = replace(scene, things=tuple(things)).image
    return ww.lens.token_maps(vlm, image, depths=[vlm.last_depth]).words[0].reshape(-1).tolist()


def alike(one, other):
    """Half precision may turn a word where two are as likely."""
    return sum(a == b for a, b in zip(one, other, strict=True)) >= len(one) - 1


def test_a_page_loads_the_model_only_when_it_is_woken(address, visit):
    here, asked = visit(address), []
    assert here.page.locator("figure.ww-map").is_visible()
    assert not here.page.evaluate(
        "Boolean(globalThis.whatwhereModels || globalThis.whatwhereWorld)"
    )
    here.page.on("request", lambda request: asked.append(request.url.rsplit("/")[-1]))
    page = woken(here)
    assert {"world.js", "worker.js", "toy-qwen2vl.js"} <= set(asked) and "toy-llava.js" not in asked
    assert alike(words(page), python())
    nothing(here.wrong, address)


def test_a_mug_is_moved_by_keys_and_read_again(address, visit):
    here = visit(address)
    page = woken(here)
    before, mug = words(page), page.get_by_role("button", name=re.compile("^red mug"))
    mug.focus()
    for _ in range(4):
        mug.press("Shift+ArrowLeft")
    mug.press("ArrowUp")
    after = words(page)
    assert after != before and alike(after, python(x=82, y=127, order=127))
    expect(mug).to_be_focused()
    expect(page.get_by_role("img", name="red mug in the middle")).to_be_visible()
    mug.press("+")
    expect(page.get_by_role("slider", name=re.compile("^size"))).to_have_value("49")
    mug.press("Delete")
    expect(mug).to_have_count(0)
    assert "mug" not in words(page)
    nothing(here.wrong, address)


def test_its_code_does_the_same_in_python(address, visit, capsys):
    here = visit(address)
    page = woken(here)
    menu(page, "ground").select_option("wood")
    menu(page, "stands").select_option("on the stool")  # the lamp
    page.get_by_role("slider", name="LM layer").press("End")
    seen = words(page)
    code = page.locator("textarea[aria-label='The same in Python']")
    page.wait_for_function("location.hash.includes('layer=4')")
    made = {}
    exec(code.input_value(), made)
    assert alike(seen, made["maps"].words[6].reshape(-1).tolist())
    assert capsys.readouterr().out.endswith("yes\n")
    nothing(here.wrong, address)


def test_a_question_is_answered_and_an_unknown_word_gets_a_sentence(address, visit):
    here = visit(address)
    page = woken(here)
    said = page.locator(".ww-answer-said")
    expect(said).to_have_text("yes")  # is there a mug ?
    question = page.get_by_label("Question")
    for asks, says in (("is there a boot ?", "no"), ("What color is the mug?", "red")):
        question.fill(asks)
        question.press("Enter")
        expect(said).to_have_text(says)
        expect(page.locator(".ww-bars div").first).to_contain_text(says)
    question.fill("is there a unicorn ?")
    question.press("Enter")
    expect(said).to_contain_text("does not know “unicorn”")
    nothing(here.wrong, address)


def test_a_link_opens_the_same_scene(address, visit):
    here = visit(address)
    page = woken(here)
    menu(page, "colour").select_option("blue")  # of the first thing that is no sign and no stand
    menu(page, "ground").select_option("snow")
    page.get_by_role("slider", name="ViT depth").press("Home")
    page.wait_for_function("location.hash.includes('depth=0')")
    seen, link = words(page), page.url
    assert "thing=lamp,blue" in link and "ground=snow" in link
    there = visit(link)  # such a link wakes the model by itself
    assert words(there.page) == seen
    expect(menu(there.page, "ground")).to_have_value("snow")
    broken = visit(link.replace("blue", "blau"))
    expect(broken.page.get_by_role("alert")).to_contain_text('No colour "blau" for the lamp')
    assert len(words(broken.page)) == 64, "the figure is there all the same"
    nothing(here.wrong + there.wrong + broken.wrong, address)


def test_a_thing_is_dragged_by_mouse_and_the_page_stays_awake(address, visit):
    here = visit(address)
    page = woken(here)
    before, box = (
        words(page),
        page.get_by_role("button", name=re.compile("^red mug")).bounding_box(),
    )
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    page.evaluate("""() => { window.longest = 0; let last = performance.now();
        (function frame(now) { window.longest = Math.max(window.longest, now - last || 0); last = now;
            requestAnimationFrame(frame) })() }""")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 150, y - 60, steps=40)
    page.mouse.up()
    expect(page.locator(".ww-table .ww-patch")).to_have_text(
        re.compile(r"Row \d, column \d: .+%.+%.+%")
    )
    assert words(page) != before
    expect(page.get_by_role("img", name="red mug in the middle")).to_be_visible()
    assert page.evaluate("window.longest") < 500, "milliseconds between two frames"
    nothing(here.wrong, address)


def test_any_scene_is_shown_with_any_control(tmp_path, visit):
    tabletop.assets(tmp_path / "live")
    for seed in (6, 11):  # something under a stool; five things, which are all that a scene holds
        scene = ww.world.scene(seed)
        html = tabletop.Tabletop(scene, "toy-llava", depth=3, layer=2, base="live")._repr_html_()
        page = tmp_path / f"{seed}.html"
        page.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8">{html}', "utf-8")
        here = visit(page.as_uri())
        page = woken(here)
        assert page.locator(".ww-handles button").count() == len(scene.things)
        assert page.get_by_role("slider", name="ViT depth").input_value() == "3"
        for name in ("category", "colour", "texture", "ground", "stands"):
            menu(page, name).select_option(index=1)
            words(page)
        expect(page.get_by_label("Add a thing")).to_have_value("")
        page.get_by_role("button", name="Start again").click()
        expect(page.get_by_role("alert")).to_have_count(0)  # it is hidden
        words(page)
        nothing(here.wrong, str(seed))


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_nothing_is_wider_than_the_page(width, address, visit):
    here = visit(address, width=width)
    page = woken(here)
    menu(page, "model").select_option("toy-llava")
    page.wait_for_function("document.querySelectorAll('.ww-words [role=cell]').length === 144")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    nothing(here.wrong, address)


def test_without_scripts_the_still_figure_stays(address, visit):
    here = visit(address, scripts=False)
    assert here.page.locator("figure.ww-map").is_visible()
    assert here.page.get_by_role("button", name="Wake the model").count() == 0
    nothing(here.wrong, address)

"""The live tabletop in a browser, on a page from a disk: no server, no network, no kernel.

The browser is Chromium. Another engine was tried once by hand, in November 2026: Debian's
firefox-esr 153.8, headless, driven by WebDriver BiDi (--remote-debugging-port) without a driver.
Eight scenes for each model, at all depths in turn: 512 of 512 and 1152 of 1152 words and 16 of 16
answers as in Python, woken by the button and by scrolling, no message in the console. Playwright's
own Firefox comes from a server of its own, not from PyPI, so it is no part of these tests.
"""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.request import url2pathname

import checks
import numpy as np
import pytest
import torch
from playwright.sync_api import expect
from visits import nothing, served

import whatwhere as ww
from whatwhere.book.live import tabletop, world_data

WORDS = "[...document.querySelectorAll('.ww-words [role=cell]')].map(cell => cell.textContent)"
FRESH = "document.querySelector('.ww-words [role=cell]') && !document.querySelector('.ww-words.ww-stale')"
SEED = 4  # a sign, a stool, a lamp and a mug on grass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    tabletop.assets(folder / "live")
    figure = tabletop.Tabletop(ww.world.scene(SEED), base="live", experiment="all")
    return written(folder, "page", figure)


def written(folder, name, figure):
    """The address of a page that holds nothing but a figure."""
    path = folder / f"{name}.html"
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title><main><h1>A page'
        f"</h1>{figure._repr_html_()}</main>",
        encoding="utf-8",
    )
    return path.as_uri()


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
    assert {"world.js", "figure.js", "worker.js", "toy-qwen2vl.js"} <= set(
        asked
    ) and "toy-llava.js" not in asked
    assert alike(words(page), python())
    nothing(here.wrong, address)


def test_a_figure_wakes_when_it_is_scrolled_to_and_looked_at(address, visit):
    path = Path(url2pathname(address.removeprefix("file://")))
    far = path.with_name("far.html")
    far.write_text(
        path.read_text("utf-8").replace("<h1>", '<h1 style="margin-bottom: 3000px">'), "utf-8"
    )
    model = "Boolean(globalThis.whatwhereModels)"
    here = visit(far.as_uri())
    page = here.page
    for y in (0, 300, 3000, 300):  # at the top, and past the figure without staying there
        page.evaluate("y => scrollTo(0, y)", y)
        page.wait_for_timeout(100)
    page.wait_for_timeout(900)
    assert not page.evaluate(model), "it was hardly seen"
    page.evaluate("scrollTo(0, 3000)")
    assert alike(words(page), python())
    expect(page.get_by_role("button", name="Wake the model")).to_have_count(0)
    nothing(here.wrong, "far")

    here = visit(address)
    # as a theme does to its sidebar when a page opens
    here.page.evaluate("document.querySelector('h1').dispatchEvent(new Event('scroll'))")
    here.page.wait_for_timeout(900)
    assert not here.page.evaluate(model), "it is in view at first, and nobody has scrolled"


@pytest.mark.parametrize(
    "network",
    [
        {"saveData": True, "effectiveType": "4g"},
        {"effectiveType": "3g"},
        {"type": "cellular", "effectiveType": "4g"},
        None,  # a phone, of whose network nothing is known
    ],
)
def test_where_a_model_costs_something_it_waits_to_be_asked_for(network, address, visit):
    path = Path(url2pathname(address.removeprefix("file://")))
    text = path.read_text("utf-8").replace("<h1>", '<h1 style="margin-bottom: 3000px">')
    said = json.dumps(network) if network else "undefined"
    script = f"Object.defineProperty(navigator, 'connection', {{ value: {said} }})"
    path.with_name("metered.html").write_text(
        text.replace("<main>", f"<script>{script}</script><main>"), "utf-8"
    )
    phone = {} if network else {"has_touch": True, "is_mobile": True}
    with served(path.parent) as site:
        here = visit(site + "metered.html", width=1440 if network else 390, **phone)
        here.page.evaluate("scrollTo(0, 3000)")
        here.page.wait_for_timeout(1200)
        assert not here.page.evaluate("Boolean(globalThis.whatwhereModels)")
        assert len(words(woken(here))) == 64
    nothing(here.wrong, said)


def test_who_uses_the_still_figure_keeps_it(address, visit):
    here = visit(address)
    here.page.locator("figure.ww-map input[type=range]").first.press("ArrowLeft")
    here.page.mouse.wheel(0, 200)
    here.page.wait_for_timeout(1200)
    assert here.page.locator("figure.ww-map").is_visible()
    assert not here.page.evaluate("Boolean(globalThis.whatwhereModels)")


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
    menu(page, "stands").select_option("on the stool")  # the mug
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


def test_in_two_minutes_a_thing_is_misnamed_and_the_depth_found(address, visit):
    """What the page's first lines ask of a reader who has never seen it: three actions."""
    here = visit(address)
    page = woken(here)
    row = page.get_by_role("group", name=re.compile("^What the .* is named at each ViT depth"))
    red = named()
    assert row.locator("bdi").all_inner_texts() == red and red[-1] == "mug"
    menu(page, "colour").select_option("white")
    expect(page.locator(".ww-answer-said")).to_have_text("no")
    page.get_by_role("slider", name=re.compile("^size")).fill("36")
    words(page)
    white = named(colour="white", extent=36)
    expect(row.locator("bdi")).to_have_text(white)
    assert white[4:] == ["boot", "bowl", "hat"] and "mug" not in white
    expect(row.locator(".ww-wrong")).to_have_count(sum(name != "–" for name in white))
    row.get_by_role("button", name="depth 4: boot").press("Enter")
    expect(page.get_by_role("slider", name="ViT depth")).to_have_value("4")
    expect(row.get_by_role("button", pressed=True)).to_have_text(re.compile("boot"))
    assert "boot" in words(page)
    menu(page, "which").select_option("white lamp")
    expect(row).to_have_attribute("aria-label", re.compile("white lamp"))
    nothing(here.wrong, address)


def named(**changes):
    """The commonest category that the mug's patches say at each depth, the first of equals."""
    scene = ww.world.scene(SEED)
    things = [replace(t, **changes) if t.category == "mug" else t for t in scene.things]
    scene, n = replace(scene, things=tuple(things)), len(things) - 1
    maps = ww.lens.token_maps(ww.load("toy-qwen2vl", dtype="float32"), scene.image)
    own = ww.geometry.masks(scene, maps.words[0].shape)[n]
    said = [[w for w in m[own] if w in ww.world.words_of("category")] for m in maps.words]
    return [Counter(each).most_common(1)[0][0] if each else "–" for each in said]


def test_a_link_opens_the_same_scene(address, visit):
    here = visit(address)
    page = woken(here)
    menu(page, "colour").select_option("blue")  # of the mug, about which the question is
    menu(page, "ground").select_option("snow")
    page.get_by_role("slider", name="ViT depth").press("Home")
    page.wait_for_function("location.hash.includes('depth=0')")
    seen, link = words(page), page.url
    assert "thing=mug,blue" in link and "ground=snow" in link
    there = visit(link)  # such a link wakes the model by itself
    assert words(there.page) == seen
    expect(menu(there.page, "ground")).to_have_value("snow")
    broken = visit(link.replace("blue", "blau"))
    expect(broken.page.get_by_role("alert").first).to_contain_text('No colour "blau" for the mug')
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
    # its words can be read, where need be in a picture that is wider than its window; the mug, which is picked, is in sight
    sizes = page.evaluate("""[...document.querySelectorAll('.ww-words span')].filter(each => each.textContent.length < 8)
        .map(each => parseFloat(getComputedStyle(each).fontSize))""")
    assert min(sizes) >= 9
    window, mug = (
        page.locator(".ww-window").bounding_box(),
        page.get_by_role("button", name=re.compile("mug")).first.bounding_box(),
    )
    assert window["x"] <= mug["x"] and mug["x"] + mug["width"] <= window["x"] + window["width"]
    nothing(here.wrong, address)


def test_without_scripts_the_still_figure_stays(address, visit):
    here = visit(address, scripts=False)
    assert here.page.locator("figure.ww-map").is_visible()
    assert here.page.get_by_role("button", name="Wake the model").count() == 0
    nothing(here.wrong, address)


# -- the same as Python ------------------------------------------------------------------------------

SCENES, NEAR = 200, 0.005
QUESTIONS = [
    "is there a mug ?", "what colour is the lamp ?", "how many objects are there ?",
    "what is the background ?", "describe the scene .",
]  # fmt: skip
# draws each scene, reads it at all depths, and asks one question about it
ALL = """async ([base, name, scenes, questions]) => {
    const load = file => new Promise((resolve, reject) => document.head.append(
        Object.assign(document.createElement('script'), { src: base + '/' + file, onload: resolve, onerror: reject })));
    for (const file of ['world_data.js', 'world.js', 'worker.js', name + '.js']) await load(file);
    // the engine, which a page gives to its Worker as text: all but the Worker's own part
    (0, eval)(whatwhereWorker.slice(0, whatwhereWorker.indexOf('/* The models at work beside the page')));
    const organism = whatwhereLive.open(name), { vision, language } = organism;
    return scenes.map((scene, n) => {
        const { rgb } = whatwhereTabletop.render(scene), states = organism.states(rgb), question = questions[n % questions.length];
        const maps = states.map(state => organism.lens(organism.sight(vision.connect(state)), language.lensLayer, 1));
        const sight = organism.see(rgb), { probabilities } = organism.asked(sight, organism.questionIds(question), 0);
        let sum = 0;
        rgb.forEach((value, at) => { sum = (sum * 31 + value) % 2147483647 });
        return { ids: maps.flatMap(map => [...map.ids]), chances: maps.flatMap(map => [...map.probabilities]), sum,
                 answer: organism.answer(sight, question), probabilities: [...probabilities] };
    });
}"""


def checksum(image):
    total = 0
    for value in np.asarray(image.convert("RGB")).ravel().tolist():
        total = (total * 31 + value) % 2147483647
    return total


@pytest.mark.parametrize("name", ["toy-llava", "toy-qwen2vl"])
def test_two_hundred_scenes_are_drawn_read_and_answered_as_in_python(name, address, visit):
    vlm = ww.load(name, device="cpu", dtype="float32")
    with torch.no_grad():
        for parameter in vlm.model.parameters():  # as a page has them
            parameter.copy_(parameter.half())
    scenes = [ww.world.scene(seed) for seed in range(1000, 1000 + SCENES)]
    images = [scene.image for scene in scenes]
    fields = [json.loads(json.dumps(world_data.fields(scene))) for scene in scenes]
    here = visit(address)
    ours = here.page.evaluate(ALL, ["live", name, fields, QUESTIONS])

    assert [checksum(image) for image in images] == [each["sum"] for each in ours], "pixels"
    for maps, each in zip(ww.lens.token_maps(vlm, images, top_k=1), ours, strict=True):
        assert np.concatenate([ids.ravel() for ids in maps.ids]).tolist() == each["ids"]
        due = np.concatenate([p.ravel() for p in maps.probabilities])
        assert np.abs(due - each["chances"]).max() <= NEAR
    for n, question in enumerate(QUESTIONS):
        asked, said = images[n :: len(QUESTIONS)], ours[n :: len(QUESTIONS)]
        assert vlm.answer(asked, question, batch_size=20) == [each["answer"] for each in said]
        inputs = vlm.prepare(asked, [question] * len(asked))
        with torch.no_grad():
            last = vlm.model(**inputs).logits[:, -1].softmax(-1).numpy()
        assert np.abs(last - [each["probabilities"] for each in said]).max() <= NEAR
    nothing(here.wrong, name)


# -- the experiments ---------------------------------------------------------------------------------

LEFT = ww.world.controlled("B", 4)[3].scenes["left"]  # an apple left of a fish
# what is set, and in what the answer ends, as it is and changed: of the apple and the fish
TRIED = {
    "runs": {"lengths": "kept"},
    "knockout": {"heads": "4.2,6.0"},
    "relation": {"place": "LM 0"},
    "steering": {"toward": "right", "dose": "1"},
    "rotation": {"columns": "10"},
    "gain": {"alpha": "29"},
    "attention": {"place": "LM 2", "token": "patch"},
}
NO_CHANGE = ("relation", "attention")


@pytest.fixture(scope="module")
def experiments(address, tmp_path_factory):
    """{experiment: the address of a page about it}"""
    folder = Path(url2pathname(address.removeprefix("file://"))).parent
    return {
        name: written(
            folder, name, tabletop.Tabletop(LEFT, base="live", experiment=name, settings=settings)
        )
        for name, settings in TRIED.items()
    }


def answered(page):
    """[the answer as it is, and changed], once the experiment has been done."""
    said = page.locator(".ww-answer-said")
    expect(said).to_contain_text(re.compile("changed: .+"))
    return re.findall(r": (.+?)(?= *changed|$)", said.inner_text().replace("\n", " "))


def the_code(page):
    """The figure's program, once it is that of what is seen."""
    code = page.locator("textarea[aria-label='The same in Python']")
    page.wait_for_function(FRESH)
    expect(code).to_have_value(re.compile("scene = Scene"))
    page.wait_for_timeout(1500)  # it is written when nothing has changed for a while
    return code.input_value()


def test_experiments_are_those_that_the_page_has(address, visit):
    here = visit(address)
    page = woken(here)
    found = page.evaluate("""() => Object.fromEntries(Object.entries(whatwhereExperiments.all).map(
        ([name, one]) => [name, one.fields(whatwhereModels['toy-qwen2vl']).map(field => field.key)]))""")
    # toy-qwen2vl's model has been given to its Worker, but its sizes are still here
    assert found == {name: list(keys) for name, keys in tabletop.EXPERIMENTS.items()}
    nothing(here.wrong, address)


@pytest.mark.parametrize("name", list(TRIED))
def test_an_experiment_begins_with_its_settings_and_its_code_does_the_same(
    name, experiments, visit, capsys
):
    here = visit(experiments[name])
    page = woken(here)
    usual, changed = (None, None) if name in NO_CHANGE else answered(page)
    code = the_code(page)
    exec(code, {})
    printed = capsys.readouterr().out.strip().split("\n")
    if name in NO_CHANGE:
        assert page.locator(".ww-result p").count() == 1
    elif name == "gain":
        row = page.locator(".ww-strip tr").nth(2).locator("td")
        expect(row.last).not_to_have_text("·")
        due = [line.split()[1] for line in printed if re.match(r"\d+ \w+$", line)]
        assert [("left" if t == "✓" else t) for t in row.all_inner_texts()] == due
        assert "right" in due and due.count("left") > 3, "near ones are told, far ones are not"
    else:
        assert printed[-1] == changed and usual in printed
        assert (changed != usual) == (name != "runs")
    for at in page.locator(".ww-problem").all():
        expect(at).to_be_hidden()
    nothing(here.wrong, name)


def test_a_relation_vector_follows_the_thing(experiments, visit):
    from whatwhere.book.live import notes

    here = visit(experiments["relation"])
    page = woken(here)
    said = page.locator(".ww-result p")
    expect(said).to_contain_text("most like left")
    apple = page.locator(".ww-handles").get_by_role("button", name=re.compile("apple"))
    apple.focus()
    for _ in range(10):
        apple.press("Shift+ArrowRight")
    expect(said).to_contain_text("most like right")
    expect(page.get_by_role("img", name=re.compile("^Cosines .*right 0"))).to_be_visible()
    x = int(re.search(r"thing=apple,\w+,\w+,(\d+)", the_link(page))[1])
    value = float(re.search(r"cosine (-?[\d.]+)", said.inner_text())[1])
    scene = replace(LEFT, things=(replace(LEFT.things[0], x=x), LEFT.things[1]))
    vlm = ww.load("toy-qwen2vl", device="cpu", dtype="float32")
    both = ww.geometry.thing_vectors(vlm, [scene], (0, 1))["LM 0"][0]
    assert abs(notes.told("toy-qwen2vl", "LM 0", both[0] - both[1])["right"] - value) < 0.01
    nothing(here.wrong, "relation")


def the_link(page):
    page.wait_for_timeout(1500)
    return page.locator("textarea[aria-label='A link to this scene']").input_value()


def test_an_experiment_is_worked_by_keyboard_and_a_link_opens_it(experiments, visit):
    here = visit(experiments["knockout"])
    page = woken(here)
    answered(page)
    page.get_by_role("button", name="none").press("Enter")
    expect(page.get_by_role("button", name="block 4, head 2")).to_have_attribute(
        "aria-pressed", "false"
    )
    for name in ("block 4, head 2", "block 6, head 0"):
        page.get_by_role("button", name=name).press("Space")
    page.wait_for_function("location.hash.includes('heads=4.2%2C6.0')")
    expect(page.locator(".ww-answer-said")).to_contain_text("changed: front")
    there = visit(page.url)
    there.page.wait_for_function(FRESH)
    expect(there.page.locator(".ww-answer-said")).to_contain_text("changed: front")
    nothing(here.wrong + there.wrong, "knockout")


def test_the_menu_leads_through_all_experiments_and_back(address, visit):
    here = visit(address)
    page = woken(here)
    for name in (*TRIED, ""):
        menu(page, "try").select_option(name)
        words(page)
        page.wait_for_timeout(300)
        expect(page.locator("p.ww-problem").first).to_be_hidden()
    expect(page.locator(".ww-result > *")).to_have_count(0)
    expect(page.locator(".ww-veil")).to_be_hidden()
    assert page.locator(".ww-run").count() == 0
    nothing(here.wrong, address)


# -- what goes wrong ---------------------------------------------------------------------------------


# what is changed in a link, what is said of it, and what is shown instead
EDITED = [
    ("try=levitation", "“try” is one of runs, knockout", "none"),
    ("lens=magnifying", "“lens” is one of logit, embedding", "logit"),
    ("model=toy-flamingo", "“model” is one of toy-qwen2vl, toy-llava", "toy-qwen2vl"),
    ("depth=7", '“depth” is a number from 0 to 6 in steps of 1; got "7"', "6"),
    ("depth=2.5", "“depth” is a number from 0 to 6", "6"),
    ("layer=-1", "“layer” is a number from 0 to 4", "0"),
    ("layer=", "“layer” is a number from 0 to 4", "0"),
    ("depth=3&depth=4", "two of depth: the first is shown", None),
    ("dept=3", "The link has “dept”, but here it can have only ground", None),
    ("try=knockout&alpha=3", "The link has “alpha”", None),
    ("try=knockout&heads=9.9", 'blocks 1 to 6 and heads 0 to 3; got "9.9"', "none"),
    ("try=knockout&heads=all", "a list of block.head", "none"),
    ("try=gain&alpha=loud", "“alpha” is a number from 0 to 99", "9"),
    ("try=gain&alpha=100", "“alpha” is a number from 0 to 99", "9"),
    ("try=gain&p=3", "“p” is one of 1, 2, 4, 8", "2"),
    ("try=gain&model=toy-llava", "has a table of places and no frequencies", None),
    ("try=relation&satellite=unicorn", "a thing in the picture (stool, mug)", "stool"),
    ("try=relation&nucleus=", "“nucleus” is a thing in the picture (stool, mug)", "mug"),
    ("try=relation&satellite=mug&nucleus=mug", 'another than the other; got "mug"', "stool"),
    ("try=relation&place=ViT 9", "“place” is one of ViT 0, ViT 1", "LM 0"),
    ("try=relation&ask=is it ?", "a question of its own", "where is the stool"),
    ("try=rotation&columns=5&model=toy-llava", "stay in the picture", None),
    ("try=rotation&columns=13", "“columns” is a number from -12 to 12", "0"),
    ("try=rotation&rows=1e1", "“rows” is a number from -8 to 8", "0"),
    ("try=rotation&blocks=0", "“blocks” is a list of blocks from 1 to 6", "none"),
    ("try=rotation&blocks=4&model=toy-llava", "The link has “blocks”", None),
    ("try=steering", "clearly behind, in front, left or right", None),
    ("try=steering&toward=up", "“toward” is one of behind, front, left, right", "right"),
    ("try=steering&dose=0.3", "“dose” is a number from 0 to 2 in steps of 0.25", "1"),
    ("try=steering&who=nobody", "“who” is one of both, satellite, nucleus", "both"),
    ("try=runs&method=4", "“method” is one of 1, 2, 3", "1"),
    ("try=runs&method=2&same=9", "“same” is one of 1, 2, 3", "1"),
    ("try=runs&lengths=long", "“lengths” is one of kept, dropped", "dropped"),
    ("try=runs&positions=", "“positions” is one of renumbered, kept", "kept"),
    ("try=attention&place=LM 9", "“place” is one of LM 1", "LM 2"),
    ("try=attention&head=9", "“head” is one of mean, 0, 1, 2, 3", "mean"),
    (
        "try=attention&ask=is there a mug ?&token=77",
        "the number of a word of the question, from 0 to 4",
        "last",
    ),
    ("try=attention&token=patch&row=8", "“row” is a number from 0 to 7", "4"),
    ("try=attention&token=patch&column=x", "“column” is a number from 0 to 7", "4"),
    ("ask=is there a unicorn ?", None, None),
    ("thing=mug,red,plain,900,900,40", "outside of the picture", "the scene that was here"),
    ("thing=mug,red,plain,70,90,40&" * 20, "holds up to 5 things", "the scene that was here"),
    ("thing=mug,red,plain,30,90,40&thing=mug,blue,plain,90,90,40", "two of the mug", "the scene"),
    ("thing=unicorn,red,plain,30,90,40", "No category", "the scene that was here"),
    ("ask=is there a mug ?", "", None),
]


def test_an_edited_address_gets_a_sentence_and_the_figure_is_there(address, visit):
    usual = "thing=stool,red,plain,60,130,60&thing=mug,red,plain,60,90,30,on,stool&"
    whole = (
        f"ground=wood&window=1,2&light=1&{usual}model=toy-qwen2vl&depth=6&layer=0&lens=logit&try="
    )
    here = visit(f"{address}#tabletop?{whole}")
    alert = here.page.locator(".ww-problem:visible")
    words(here.page)
    for changed, says, instead in EDITED:
        given = {key for key, _ in re.findall(r"(\w+)=([^&]*)", changed)}
        left = [part for part in whole.split("&") if part.split("=")[0] not in given]
        link = "&".join([*left, changed])
        here.page.evaluate(
            "hash => { location.hash = '#start'; location.hash = hash }", f"tabletop?{link}"
        )
        if says is None:
            expect(here.page.locator(".ww-answer-said")).to_contain_text("does not know “unicorn”")
        elif says:
            expect(alert.first).to_contain_text(says)
            if instead:
                expect(alert.first).to_contain_text(re.compile("Shown instead.*: " + instead))
        else:
            expect(alert).to_have_count(0)
        assert len(words(here.page)) in (64, 144), changed
    nothing(here.wrong, address)


def test_an_address_edited_just_before_the_figure_writes_its_own_is_followed(address, visit):
    here = visit(address)
    page = woken(here)
    menu(page, "try").select_option("runs")
    page.wait_for_function("location.hash.includes('try=runs')")
    page.evaluate(
        "location.hash = location.hash.replace('try=runs', 'try=levitation');"
        "document.querySelector('.ww-live').sleeper.figure.settle()"
    )
    expect(page.locator(".ww-problem:visible").first).to_contain_text("“try” is one of")
    nothing(here.wrong, address)


def test_every_setting_of_every_experiment_is_edited_above():
    edited = {
        name: set(re.findall(r"(\w+)=", rest))
        for name in tabletop.EXPERIMENTS
        for rest in ["&".join(each[0] for each in EDITED if f"try={name}" in each[0])]
    }
    pairs = {"relation", "steering", "rotation", "gain"}  # whose two things are read alike
    for name, keys in tabletop.EXPERIMENTS.items():
        due = set(keys) - (set(tabletop.PAIR) if name in pairs - {"relation"} else set())
        assert due <= edited[name], name


def test_no_thing_at_all_is_a_picture_like_others(address, visit):
    here = visit(address)
    page = woken(here)
    for _ in range(4):
        page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Remove")).to_be_disabled()
    assert "mug" not in words(page)
    for name in ("relation", "steering", "rotation", "gain"):
        menu(page, "try").select_option(name)
        expect(page.locator(".ww-trial .ww-problem")).to_contain_text("needs two things")
    expect(page.get_by_role("img", name="nothing stands on it")).to_be_visible()
    nothing(here.wrong, address)


@pytest.mark.parametrize(
    ("missing", "says"), [("Worker", "This browser has no Workers"), ("WebAssembly", None)]
)
def test_a_browser_without_what_the_engine_likes(missing, says, address, visit):
    here = visit(address)
    page = here.page
    page.evaluate(f"delete globalThis.{missing}")
    page.get_by_role("button", name="Wake the model").click()
    if says:
        expect(page.locator(".ww-problem").first).to_contain_text(says)
        expect(page.locator(".ww-stage canvas").first).to_be_visible()
    else:
        assert len(words(page)) == 64  # a Worker has its own; Node's test goes without it


def test_a_tab_that_was_asleep_asks_again(address, visit):
    here = visit(address)
    page = woken(here)
    before = words(page)
    # the Worker's answers are lost while the tab sleeps
    page.evaluate("""() => {
        window.post = Worker.prototype.postMessage;
        Worker.prototype.postMessage = () => {};
    }""")
    menu(page, "ground").select_option("snow")
    page.wait_for_selector(".ww-words.ww-stale")
    page.wait_for_timeout(300)
    page.evaluate("""() => {
        Worker.prototype.postMessage = window.post;
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    assert words(page) != before
    nothing(here.wrong, address)


def test_without_its_files_the_still_figure_stays_and_a_sentence_says_why(visit, tmp_path):
    figure = tabletop.Tabletop(ww.world.scene(SEED), base="live")
    here = visit(written(tmp_path, "alone", figure))
    assert here.page.locator("figure.ww-map").is_visible()
    tabletop.assets(tmp_path / "live")
    (tmp_path / "live" / "world.js").unlink()
    here = visit(written(tmp_path, "alone", figure))
    here.page.get_by_role("button", name="Wake the model").click()
    expect(here.page.locator(".ww-asleep")).to_contain_text("world.js could not be loaded")
    assert here.page.locator("figure.ww-map").is_visible()
    expect(here.page.get_by_role("button", name="Wake the model")).to_be_enabled()


# -- how it moves and looks --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["page", "relation", "rotation"])
def test_dragging_keeps_thirty_frames_a_second_while_the_model_runs(
    name, address, experiments, visit
):
    here = visit(experiments.get(name, address))
    page = woken(here)
    box = page.get_by_role("button", name=re.compile("mug|apple")).first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.evaluate("""() => { window.times = []; (function frame(now) { window.times.push(now);
        requestAnimationFrame(frame) })(performance.now()) }""")
    page.mouse.move(x, y)
    page.mouse.down()
    before = words(page)
    for n in range(60):
        page.mouse.move(x - 60 + 60 * np.cos(n / 5), y - 20 + 20 * np.sin(n / 5))
        page.wait_for_timeout(10)
    page.mouse.up()
    frames = np.diff(page.evaluate("window.times"))
    print(
        f"{name}: {np.median(frames):.1f} ms from frame to frame, 95% under {np.quantile(frames, 0.95):.1f}"
    )
    assert np.median(frames) < 34, "milliseconds from one frame to the next"
    assert words(page) and before
    nothing(here.wrong, name)


# axe-core's rules: all of them once, elsewhere those whose answer may differ
@pytest.mark.parametrize(
    "width, theme, rules",
    [
        (390, "light", checks.OF_WIDTH),
        (820, "light", ()),
        (1440, "light", None),
        (1440, "dark", checks.OF_COLOUR),
    ],
)
def test_experiments_fit_and_have_no_barriers(width, theme, rules, address, visit):
    here, found = visit(address, width=width, theme=theme), []
    page = woken(here)
    for name in TRIED:
        menu(page, "try").select_option(name)
        words(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        if rules != ():
            found += [f"{name}: {each}" for each in checks.barriers(page, rules)]
        if width == 1440:
            found += [f"{name}: {each}" for each in checks.contrasts(page)[0]]
    nothing(found + here.wrong, f"{width}, {theme}")

"""Pictures of ideas draw what they are given: shapes, words, angles and lengths, and tell it."""

import re
from itertools import combinations, groupby

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Annotation, Text

import whatwhere as ww
from whatwhere import compress, geometry, relations, rope, world
from whatwhere.book import figures
from whatwhere.book.figures import pathway, sheet
from whatwhere.compress import groups

QUESTION = "what is the yellow object ?"
SCENE = world.scene(1, "dev")
ORGANISMS = ("toy-llava", "toy-qwen2vl")
# with visual tokens added later in the LM; a block that is not read; merging and an unseen strip
OTHERS = ("qwen3vl", "hub/llava", "smolvlm, merging 3 x 3, a last strip of pixels unseen, tied")


@pytest.fixture(scope="module")
def model(checkpoint):
    made = {}

    def find(name):
        if name not in made:
            made[name] = ww.load(name if name in ORGANISMS else checkpoint(name))
        return made[name]

    return find


def texts(fig):
    return [text.get_text() for text in fig.findobj(Text) if text.get_text()]


def tips(ax):
    """(arrows, 2) where the arrows of axes end."""
    return np.array([each.xy for each in ax.texts if isinstance(each, Annotation)], float)


def hands(fig):
    """(hands, 2) centre's x and y, and (hands,) angle of each hand of a dial, counterclockwise."""
    lines = [
        line
        for line in fig.findobj(Line2D)
        if line.get_solid_capstyle() == "round" and len(line.get_xdata()) == 2
    ]
    x, y = (np.array([getattr(line, f"get_{a}data")() for line in lines], float) for a in "xy")
    return np.stack([x[:, 0], y[:, 0]], 1), np.arctan2(y[:, 0] - y[:, 1], x[:, 1] - x[:, 0])


def alike(angles, expected):
    """Are angles equal, but for whole turns?"""
    return np.allclose(
        np.exp(1j * np.asarray(angles)), np.exp(1j * np.asarray(expected)), atol=1e-6
    )


# -- the model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ORGANISMS, *OTHERS])
def test_the_pipeline_has_the_shapes_of_the_model(model, name):
    vlm = model(name)
    inputs = vlm.prepare(SCENE.image, QUESTION)
    widths = []
    hook = vlm.vision_blocks[0].register_forward_hook(
        lambda block, given, made: widths.append(
            (made[0] if isinstance(made, tuple) else made).shape[-1]
        )
    )
    with torch.no_grad():
        logits = vlm.model(**inputs).logits[0, -1]  # transformers' own pass
    hook.remove()
    patches, width = len(vlm.positions(SCENE.image).vit), widths[0]
    length, n_tokens = inputs["input_ids"].shape[1], vlm.positions(SCENE.image).index.numel()
    lm_width = vlm.model.get_input_embeddings().weight.shape[1]

    fig = figures.pipeline(vlm, SCENE.image, QUESTION)
    found = texts(fig)
    assert f"patches' states ({patches}, {width})" in found
    assert f"visual tokens ({n_tokens}, {lm_width})" in found
    visual = n_tokens + vlm.adapter.leading
    assert f"({length}, {lm_width}), of which {visual} are visual tokens" in found
    assert any(text.startswith(f"probabilities ({len(logits):,})") for text in found)
    assert f"{vlm.last_depth} blocks" in found
    chance, best = logits.float().softmax(-1).max(-1)
    assert f"{chance:.2f}" in found and sheet.short(vlm.words[best], 13) in found
    for fact in (f"({patches}, {width})", f"({n_tokens}, {lm_width})", QUESTION):
        assert fact in figures.told(fig)


def test_patches_of_the_pipeline_are_as_large_as_the_model_has_them(model):
    vlm = model("smolvlm, merging 3 x 3, a last strip of pixels unseen, tied")
    size = vlm.model.config.vision_config.patch_size
    assert f"patches of {size} × {size} pixels" in figures.told(
        figures.pipeline(vlm, SCENE.image, "what ?")
    )


@pytest.mark.parametrize("name", [*ORGANISMS, *OTHERS])
def test_taps_have_the_names_of_the_book_from_top_to_bottom(model, name):
    vlm = model(name)
    fig = figures.taps(vlm, SCENE.image)
    named = {
        t.get_text(): t.get_position()[1]
        for t in fig.findobj(Text)
        if re.match(r"(ViT|LM) \d", t.get_text())
    }
    assert sorted(named, key=named.get) == geometry.hook_points(vlm)
    blocks = [text for text in texts(fig) if text.startswith("block ")]
    assert len(blocks) == vlm.last_depth + vlm.n_layers
    assert sum(text == "+" for text in texts(fig)) == len(blocks)
    unread = len(vlm.vision_blocks) - vlm.last_depth
    assert (
        any("does not read" in text for text in texts(fig))
        == bool(unread)
        == ("not read" in figures.told(fig))
    )
    assert len([each for each in tips(fig.axes[0]) if np.isclose(each[0], 1.25 + 0.06)]) == len(
        vlm.adapter.extra_depths
    )


def test_of_many_blocks_the_first_two_and_the_last_are_drawn(model, monkeypatch):
    monkeypatch.setattr(pathway, "FEW", 3)
    found = texts(figures.taps(model("toy-llava"), SCENE.image))
    assert "blocks 3 to 5" in found and not {"ViT 3", "ViT 4", "block 5"} & set(found)
    assert {"ViT 0", "ViT 1", "ViT 2", "ViT 5", "ViT 6", "block 6"} <= set(found)
    assert "block 3" in found  # of the LM's four, as one alone is not left out
    out = texts(figures.early_exit(model("toy-llava"), SCENE.image, (0, 0), 0))
    assert [text for text in out if text.startswith("LM")] == [f"LM {n}" for n in range(5)]


@pytest.mark.parametrize("name", [*ORGANISMS, "hub/llava"])
def test_an_early_exit_reads_what_transformers_states_hold(model, name):
    vlm, layer, patch = model(name), 1, (2, 1)
    inputs = vlm.prepare(SCENE.image, "")
    with torch.no_grad():
        made = vlm.model(**inputs, output_hidden_states=True)
        place = vlm.image_places(inputs)[0].nonzero()[2 * vlm.patch_grid(SCENE.image)[1] + 1]
        early = vlm.unembedding(vlm.final_norm(made.hidden_states[layer][0, place]))[0].softmax(-1)
    fig = figures.early_exit(vlm, SCENE.image, patch, layer)
    for chances in (early, made.logits[0, place][0].softmax(-1)):
        for value, n in zip(*chances.topk(3)):
            assert f"{vlm.words[n]} {value:.2f}" in figures.told(fig)
            assert sheet.short(str(vlm.words[n]), 10) in texts(fig) and f"{value:.2f}" in texts(fig)
    assert f"exit at layer {layer}" in texts(fig) and "row 2, column 1" in texts(fig)


# -- words ----------------------------------------------------------------------------------------

WORDS = np.array([["red", "red", "mug", "mug", "mug", "."], [".", ".", ".", ".", "red", "."]])


def test_there_is_a_token_for_each_run_in_its_middle_with_its_length():
    fig = figures.runs(SCENE.image, WORDS, [0, 1])
    found = texts(fig)
    cells = sum(text in ("red", "mug", ".") for text in found)
    n_runs = sum(len(list(groupby(row))) for row in WORDS)
    assert n_runs == 6 and cells == WORDS.size + n_runs
    assert [text for text in found if text.startswith("×")] == ["×2", "×3", "×1", "×4", "×1", "×1"]
    assert "Row 0: 2 × red at 0, 3 × mug at 3, 1 × . at 5." in figures.told(fig)
    assert "Row 1: 4 × . at 1, 1 × red at 4, 1 × . at 5." in figures.told(fig)
    assert f"{WORDS.size} patches in 2 rows of a token map become {n_runs} tokens" in figures.told(
        fig
    )


def test_tokens_stand_where_compression_puts_them(model):
    vlm = model("toy-llava")
    rows, columns = vlm.patch_grid(SCENE.image)
    lengths = [2, 3, 1, 4, 2]  # of the runs of every row
    line = np.repeat([f"w{n}" for n in range(len(lengths))], lengths)
    seen = []

    def look(module, args, named):
        seen.append(named["position_ids"][0])

    with compress.compressed(
        vlm, lambda sight: groups.rows(np.tile(line, (rows, 1))), positions="kept"
    ):
        hook = vlm.lm.register_forward_pre_hook(look, with_kwargs=True)
        vlm.answer(SCENE.image, QUESTION, max_new_tokens=1)
        hook.remove()
    first = int(vlm.positions(SCENE.image).lm[0])
    places = [int(p) - first for p in seen[0] if first <= p < first + columns]
    told = figures.told(figures.runs(SCENE.image, np.tile(line, (rows, 1)), [0]))
    assert [int(n) for n in re.findall(r"at (\d+)", told)] == places


# -- positions ------------------------------------------------------------------------------------


def test_the_angle_between_query_and_key_hangs_on_the_difference_alone():
    q, k, theta = np.array([1.0, 2.0]), np.array([-0.5, 1.5]), 0.7
    places = [(0, 0), (3, 1), (9, 7), (1, 3)]
    fig = figures.turning(q, k, theta, places)

    def turned(vector, angle):  # by a matrix, where the picture has complex numbers
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s], [s, c]]) @ vector

    drawn = []
    for ax, (m, n) in zip(fig.axes, places):
        query, key = tips(ax)
        assert np.allclose(query * np.linalg.norm(q), turned(q, m * theta))  # q is the longer one
        assert np.allclose(key * np.linalg.norm(q), turned(k, n * theta))
        dot = turned(q, m * theta) @ turned(k, n * theta)
        assert any(f"q · k = {dot:.2f}".replace("-", "−") in t.get_text() for t in ax.texts)
        drawn.append(np.subtract(*(np.arctan2(y, x) for x, y in (query, key))))
    start = np.arctan2(2, 1) - np.arctan2(1.5, -0.5)
    assert alike(drawn, [start, start + 2 * theta, start + 2 * theta, start - 2 * theta])
    assert not alike(drawn[1], drawn[3])


@pytest.mark.parametrize("name", ["toy-qwen2vl", "qwen3vl"])
def test_hands_of_dials_stand_at_the_angles_of_the_lm(model, name):
    rotary, place = rope.language(model(name)), np.array([2.0, 3.0, 5.0])
    one = torch.zeros(1, rotary.head_size, dtype=torch.float64)
    one[:, : rotary.head_size // 2] = 1  # each pair is (1, 0)
    expected = rotary.turned(one, torch.tensor(place)[None])[0].angle().numpy()
    fig = figures.dials(rotary, {"a token": place})
    _, angles = hands(fig)
    order = [int(text[5:]) for text in texts(fig) if text.startswith("pair ")]
    assert sorted(order) == list(range(rotary.head_size // 2))
    assert rotary.axis[order].tolist() == sorted(rotary.axis.tolist())  # bank by bank
    assert alike(angles, expected[order])
    assert [t for t in texts(fig) if t.startswith("turned")] == [
        f"turned by the {a}" for a in ("time", "row", "column")
    ]


def test_things_in_one_row_differ_in_the_bank_of_columns_only(model):
    rotary = rope.vision(model("toy-qwen2vl"))
    fig = figures.dials(rotary, {"mug": (4, 3), "lamp": (4, 9)}, SCENE.image, (16, 16))
    _, angles = hands(fig)
    mug, lamp = angles.reshape(-1, 2).T  # dial by dial, a hand for each
    half = len(rotary.theta) // 2
    assert alike(mug[:half], lamp[:half])
    assert alike(lamp[half:] - mug[half:], 6 * rotary.theta[half:].numpy())
    assert "mug at row 4, column 3; lamp at row 4, column 9" in figures.told(fig)


def test_both_parts_of_a_logit_add_up_and_the_softmax_is_of_their_sum():
    parts = np.random.default_rng(0).normal(size=(2, 3, 4))
    mask = np.zeros((3, 4), bool)
    mask[1:, 2] = True
    fig = figures.split_logit(SCENE.image, parts, (0, 1), {"mug": mask})
    drawn = [np.asarray(image.get_array()) for image in fig.axes[0].images]
    _, weights, rows, columns, logit = drawn
    assert np.allclose([rows, columns], parts) and np.allclose(rows + columns, logit)
    softmax = torch.tensor(parts.sum(0)).flatten().softmax(0)
    assert np.allclose(weights.flatten(), softmax)
    best = np.unravel_index(parts.sum(0).argmax(), (3, 4))
    assert f"looks at row {best[0]}, column {best[1]} most" in figures.told(fig)
    means = f"{parts[0, 1:, 2].mean():.2f} and {parts[1, 1:, 2].mean():.2f}".replace("-", "−")
    assert f"On mug (2 patches) they are {means}" in figures.told(fig)
    edges = [line for line in fig.findobj(Line2D) if line.get_linewidth() == 1.6]
    assert len(edges) == 5 * 6, "the outline of two cells, one below the other"


def test_a_fast_ruler_repeats_itself_and_a_slow_one_does_not():
    rulers = {"fast": np.pi / 2, "slow": np.pi / 40}
    fig = figures.rulers(SCENE.image, 12, rulers, ("lamp", 4), ("mug", 5))
    centres, angles = hands(fig)
    order = np.lexsort((centres[:, 0], centres[:, 1].round(3)))
    expected = np.concatenate([(np.arange(12) - 4) * theta for theta in rulers.values()])
    assert alike(angles[order], expected)
    framed = [c for c in fig.findobj(Circle) if c.get_linewidth() > 2][:-1]  # the last is the key's
    middles = sorted((round(float(c.center[1]), 3), c.center[0]) for c in framed)
    cell = 5.1 / 12
    assert np.allclose([x for _, x in middles], [0.15 + cell * (c + 0.5) for c in (1, 5, 9, 5)])
    assert "at columns 1, 5, 9" in figures.told(fig) and "at column 5." in figures.told(fig)
    bands = [p for p in fig.findobj(Rectangle) if p.get_alpha() == 0.35][:2]
    assert np.allclose([bands[0].get_x(), bands[0].get_width()], [0.15 + 2.5 * cell, 4 * cell])
    assert np.allclose([bands[1].get_x(), bands[1].get_width()], [0.15, 12 * cell])


# -- vectors --------------------------------------------------------------------------------------

SET = world.controlled("B", 1)[0]


def test_centred_vectors_sum_to_zero_and_keep_their_lengths_in_the_plane():
    vectors = np.array([[5.0, 1], [5, -1.0], [3, 0.5], [9, -0.5]])  # in a plane already
    fig = figures.centring([s.image for s in SET.scenes.values()], vectors, list(SET.scenes))
    _, before, after = fig.axes
    less = vectors - vectors.mean(0)
    for ax, expected in ((before, vectors), (after, less)):
        assert np.allclose(np.linalg.norm(tips(ax), axis=1), np.linalg.norm(expected, axis=1))
        assert np.allclose(tips(ax) @ tips(ax).T, expected @ expected.T)  # angles, too
    assert np.allclose(tips(after).sum(0), 0)
    assert tips(before).mean(0)[0] > 0 and np.isclose(tips(before).mean(0)[1], 0)
    relation = list(SET.scenes)
    assert tips(after)[relation.index("right"), 0] > tips(after)[relation.index("left"), 0]
    cosine = less[2] @ less[3] / np.linalg.norm(less[2]) / np.linalg.norm(less[3])
    assert f"left, right: cosine {cosine:.2f}".replace("-", "−") in texts(fig)
    assert texts(fig).count("100% lies in this plane") == 2


def test_the_plane_holds_as_much_as_it_says(model):
    made = relations.states(model("toy-qwen2vl"), [SET])["LM 0"][0]
    vectors = (made[:, 0] - made[:, 1]).astype(float)
    fig = figures.centring([s.image for s in SET.scenes.values()], vectors, list(SET.scenes))
    for ax, of in zip(fig.axes[1:], (vectors, vectors - vectors.mean(0))):
        share = (tips(ax) ** 2).sum() / (of**2).sum()
        assert f"{share:.0%} lies in this plane" in texts(fig)
        by_eigenvalues = np.sort(np.linalg.eigvalsh(of @ of.T))[-2:].sum() / (of**2).sum()
        assert np.isclose(share, by_eigenvalues)


# -- trainings ------------------------------------------------------------------------------------


def test_a_stretch_is_as_long_as_it_has_steps_and_changes_colour():
    arms = {"after": [("learn", 60), "scale", ("more", 20)], "before": ["scale", ("learn", 60)]}
    fig = figures.timelines(arms, "scale")
    bars = fig.findobj(lambda artist: isinstance(artist, Rectangle) and artist.get_alpha() is None)
    bars = [bar for bar in bars if bar is not fig.patch and bar is not fig.axes[0].patch]
    widths = np.array([bar.get_width() for bar in bars])
    np.testing.assert_allclose(widths / widths[0], [1, 1 / 3, 1])
    first, more, again = [bar.get_edgecolor() for bar in bars]
    assert more == again != first
    assert "after: learn (60 steps), then scale, then more (20 steps)" in figures.told(fig)


# -- the world ------------------------------------------------------------------------------------


def test_scenes_are_titled_with_what_is_on_them():
    scenes = [world.scene(n) for n in (12, 20)]
    fig = figures.worlds(scenes)
    found = [" ".join(text.split()) for text in texts(fig)]
    for scene, title in zip(scenes, found):
        for thing in scene.things:
            assert set(thing.words) <= set(re.findall(r"\w+", title))
    assert "orange striped table" in found[0]
    assert texts(figures.worlds(scenes, ["one", "two"])) == ["one", "two"]
    assert "one: orange striped table" in figures.told(figures.worlds(scenes, ["one", "two"]))


# -- all of them ----------------------------------------------------------------------------------


DRAWN = {
    "pipeline": lambda vlm: figures.pipeline(vlm, SCENE.image, QUESTION),
    "taps": lambda vlm: figures.taps(vlm, SCENE.image),
    "early exit": lambda vlm: figures.early_exit(vlm, SCENE.image, (1, 1), 1),
    "dials of the LM": lambda vlm: figures.dials(
        rope.language(vlm), {"the first visual token": vlm.positions(SCENE.image).lm.reshape(-1, vlm.positions(SCENE.image).index.numel())[:, 0]}
    ),
    "runs": lambda vlm: figures.runs(SCENE.image, ww.lens.token_maps(vlm, SCENE.image).words[-1], [0, 1]),
    "a set's vectors": lambda vlm: figures.centring(
        [s.image for s in SET.scenes.values()], np.random.default_rng(0).normal(size=(4, 9)), list(SET.scenes)
    ),
    "turning": lambda vlm: figures.turning([1, 0.2], [0.3, 1], 0.4),
    "rulers": lambda vlm: figures.rulers(SCENE.image, 16, {"1st": 1.0, "2nd": 0.2}, ("lamp", 7), ("mug", 8.5)),
    "timelines": lambda vlm: figures.timelines({"an arm": [("learn", 60), "scale", ("more", 12), "test"]}, "scale"),
    "split logit": lambda vlm: figures.split_logit(
        SCENE.image, np.arange(32).reshape(2, 4, 4) - 9, (1, 2), {"nucleus": np.eye(4), "satellite": 1 - np.eye(4)}
    ),
    "worlds": lambda vlm: figures.worlds([world.scene(n) for n in range(5)], columns=3),
}  # fmt: skip


OF_NO_MODEL = ("a set's vectors", "turning", "rulers", "split logit", "timelines", "worlds")


@pytest.mark.parametrize(
    "name, what",
    [
        (n, w)
        for n in (*ORGANISMS, *OTHERS)
        for w in DRAWN
        if n == "toy-llava" or w not in OF_NO_MODEL
    ],
)
def test_texts_are_large_enough_and_do_not_lie_on_each_other(model, name, what):
    fig = DRAWN[what](model(name))
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    shown = [
        t
        for t in fig.findobj(Text)
        if t.get_text().strip() and t.get_visible() and not isinstance(t, Annotation)
    ]
    assert min(text.get_fontsize() for text in shown) >= 8
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0, f"{text!r} leaves the sheet"
        assert box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1, f"{text!r} leaves the sheet"
    for (one, a), (other, b) in combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, f"{one!r} lies on {other!r}"
    assert len(figures.told(fig)) > 40 and "\n" not in figures.told(fig)
    assert "nan" not in figures.told(fig) and 'alt="A picture of an idea' in figures.html(
        fig, "A picture of an idea."
    )


NAMES = list(SET.scenes)
PICTURES = [scene.image for scene in SET.scenes.values()]
AXIAL = rope.axial(rope.frequencies(24))


@pytest.mark.parametrize(
    "draw, sentence",
    [
        (lambda vlm: figures.early_exit(vlm, SCENE.image, (0, 0), vlm.n_layers), "leaves blocks out"),
        (lambda vlm: figures.early_exit(vlm, SCENE.image, (0, 99), 1), r"got \(0.0, 99.0\)"),
        (lambda vlm: figures.early_exit(vlm, SCENE.image, (0, 0), -1), "layer"),
        (lambda vlm: figures.runs(SCENE.image, ["red", "red"], [0]), r"shape \(2,\)"),
        (lambda vlm: figures.runs(SCENE.image, WORDS, [2]), "row"),
        (lambda vlm: figures.runs(SCENE.image, WORDS, []), "one row"),
        (lambda vlm: figures.turning([1, 2, 3], [1, 2], 0.1), "of a query is two"),
        (lambda vlm: figures.turning([1, 2], [0, 0], 0.1), "of a key is two"),
        (lambda vlm: figures.turning([1, 2], [1, np.nan], 0.1), "finite"),
        (lambda vlm: figures.turning([1, 2], [1, 2], np.inf), "frequency"),
        (lambda vlm: figures.turning([1, 2], [1, 2], 0.1, [1, 2]), "pairs"),
        (lambda vlm: figures.turning([1, 2], [1, 2], 0.1, []), "pairs"),
        (lambda vlm: figures.dials(AXIAL, {"mug": (1, 2, 3)}), "2 finite numbers"),
        (lambda vlm: figures.dials(AXIAL, {}), "one to"),
        (lambda vlm: figures.dials(AXIAL, {"mug": (1, 2)}, SCENE.image), "together"),
        (lambda vlm: figures.dials(AXIAL, {"mug": (1, 16)}, SCENE.image, (16, 16)), "on this grid"),
        (lambda vlm: figures.dials(rope.Rotary([1.0], [0]), {"a": [1]}, SCENE.image, (4, 4)), "row and a column"),
        (lambda vlm: figures.split_logit(SCENE.image, np.ones((3, 4, 4)), (1, 1)), r"shape \(3, 4, 4\)"),
        (lambda vlm: figures.split_logit(SCENE.image, np.full((2, 4, 4), np.nan), (1, 1)), "finite"),
        (lambda vlm: figures.split_logit(SCENE.image, np.ones((2, 4, 4)), (1, 4)), "on this grid"),
        (lambda vlm: figures.split_logit(SCENE.image, np.ones((2, 4, 4)), (1, 1), {"a": np.ones((4, 5))}), "4 × 4"),
        (lambda vlm: figures.split_logit(SCENE.image, np.ones((2, 4, 4)), (1, 1), {"a": np.zeros((4, 4))}), "one at least"),
        (lambda vlm: figures.split_logit(SCENE.image, np.ones((2, 4, 4)), (1, 1), dict.fromkeys("abc", np.eye(4))), "got 3"),
        (lambda vlm: figures.rulers(SCENE.image, 16, {"a": 0.0}, ("b", 1), ("c", 2)), "above zero"),
        (lambda vlm: figures.rulers(SCENE.image, 16, {"a": np.nan}, ("b", 1), ("c", 2)), "above zero"),
        (lambda vlm: figures.rulers(SCENE.image, 16, {}, ("b", 1), ("c", 2)), "no ruler"),
        (lambda vlm: figures.rulers(SCENE.image, 16, {"a": 1}, ("b", 1), ("c", 16)), "columns 0 to 15"),
        (lambda vlm: figures.rulers(SCENE.image, 1, {"a": 1}, ("b", 0), ("c", 0)), "two columns"),
        (lambda vlm: figures.timelines({}, "scale"), "no line"),
        (lambda vlm: figures.timelines({"a": ["scale", "test"]}, "scale"), "one step"),
        (lambda vlm: figures.timelines({"a": [("learn", 0)]}, "scale"), "one step"),
        (lambda vlm: figures.centring(PICTURES[:3], np.eye(4), NAMES), "got 3 pictures"),
        (lambda vlm: figures.centring(PICTURES, np.full((4, 9), np.nan), NAMES), "not finite"),
        (lambda vlm: figures.centring(PICTURES, np.ones((4, 9)), NAMES), "without length"),
        (lambda vlm: figures.centring([*PICTURES] * 2, np.ones((8, 9)), NAMES * 2), "at most"),
        (lambda vlm: figures.worlds([]), "no scenes"),
        (lambda vlm: figures.worlds([SCENE], ["a", "b"]), "1 scene takes"),
        (lambda vlm: figures.worlds([SCENE], columns=0), "one picture"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_a_sentence(model, draw, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw(model("toy-llava"))

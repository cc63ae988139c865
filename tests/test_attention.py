"""Attention is the model's own, per head and in raster order; what is cut is cut, and nothing else
is; all is undone."""

import sys
import warnings
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

import browser
import whatwhere as ww
from closeness import OTHER, SAME, apart
from whatwhere import compress, intervene, taps
from whatwhere.attention import Attention
from whatwhere.book import rehearsal
from whatwhere.book.rehearsal.checkpoints import llava, qwen2vl

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ["is there a red cup ?", "what colour ?"]
EXACT = 1e-5  # of a row, which sums to one
SHAPES = {
    "llava, class token kept, one key-value head": (
        llava,
        dict(strategy="full", kv_heads=1, image=30),
    ),
    "qwen2.5vl, windows of 2 x 2, no merging": (qwen2vl, dict(window=2, merge=1)),
}
FAMILIES = [
    *(f"hub/{family}" for family in rehearsal.FAMILIES),
    *SHAPES,
    "toy-llava",
    "toy-qwen2vl",
]


@pytest.fixture(scope="module")
def load(folders, tmp_path_factory):
    made = {}

    def loaded(name):
        if name not in made:
            folder = folders / name if name.startswith("hub/") else name
            if name in SHAPES:
                make, options = SHAPES[name]
                make(folder := tmp_path_factory.mktemp("checkpoint"), **options)
            made[name] = ww.load(folder, device="cpu", dtype="float32")
        return made[name]

    return loaded


@pytest.fixture(params=FAMILIES)
def vlm(request, load):
    return load(request.param)


@pytest.fixture
def organism(load):
    return load("toy-llava")


def picture(width=72, height=56, seed=0):
    numbers = np.random.default_rng(seed).integers(
        0, 255, (height // 8, width // 8, 3), dtype=np.uint8
    )
    return Image.fromarray(numbers).resize((width, height), Image.Resampling.NEAREST)


PICTURES = [picture(), picture(56, 96, 1)]


@pytest.fixture(autouse=True)
def quiet():
    """An organism is shown noise, and says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def eager(vlm):
    """The model with transformers' own attention that tells its weights."""
    vlm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        vlm.model.set_attn_implementation("sdpa")


@contextmanager
def spied(vlm, change=None):
    """In eager mode, a list of (ViT block, weights) as its calls come; change(block, scores) may
    alter the scores first."""
    heard, patch = [], pytest.MonkeyPatch()
    number = {}
    for n, block in enumerate(vlm.vision_blocks, start=1):
        number |= {module: n for module in block.modules()}
    module = taps.attention_of(vlm.vision_blocks[0])
    file = sys.modules[type(module).__module__]

    def forward(module, query, key, value, attention_mask, scaling, **named):
        if module not in number:
            return own(module, query, key, value, attention_mask, scaling, **named)
        scores = query @ key.transpose(2, 3) * scaling
        if change:
            scores = change(number[module], scores)
        weights = scores.softmax(-1)
        heard.append((number[module], weights))
        return (weights @ value).transpose(1, 2).contiguous(), weights

    own = file.eager_attention_forward
    patch.setattr(file, "eager_attention_forward", forward)
    with eager(vlm):
        try:
            yield heard
        finally:
            patch.undo()


def off(ours, due):
    """The largest difference of two arrays of weights."""
    return (ours.double() - due).abs().max().item()


def in_vit(vlm, image):
    """For each token of the ViT, in its order, which token of `Attention` it is: by the positions
    that the adapter gives."""
    at = vlm.positions(image, QUESTIONS[0]).vit
    rows, columns = at.amax(0) + 1
    raster = at[:, 0] * columns + at[:, 1]
    extra = int(vlm.family in ("llava", "internvl"))  # the class token
    return torch.cat([torch.arange(extra), raster + extra]), (int(rows), int(columns))


@torch.no_grad()
def native(vlm, images, questions):
    return vlm.model(**vlm.prepare(images, questions)).logits


# -- reading
# --------------------------------------------------------------------------------------------------


def test_the_lm_s_attention_is_that_of_the_eager_model(vlm):
    answers = ["red", "a cup on the left"]
    ours = vlm.attention(PICTURES, QUESTIONS, answers)
    with eager(vlm), torch.no_grad():
        inputs = vlm.prepare(PICTURES, QUESTIONS, answers)
        theirs = vlm.model(**inputs, output_attentions=True, use_cache=False).attentions
        in_eager = vlm.attention(PICTURES[1], QUESTIONS[1], answers[1]).weights
    for n, (own, real) in enumerate(zip(ours, inputs["attention_mask"].bool())):
        due = torch.stack([layer[n][:, real][:, :, real] for layer in theirs])
        assert own.weights.shape == due.shape and off(own.weights, due) < EXACT
        assert n == 0 or off(in_eager, due) < EXACT
        assert off(own.weights.sum(-1), 1.0) < EXACT
        assert own.blocks == list(range(1, vlm.n_layers + 1)) and len(own.words) == real.sum()
        places = vlm.positions(PICTURES[n], QUESTIONS[n]).index
        assert torch.equal(own.places, places) and own.grid == tuple(vlm.patch_grid(PICTURES[n]))
        assert torch.equal(
            own.on_image()[0, 0, -1, -1, 0], own.weights[0, 0, -1, places[-own.grid[1]]]
        )
        assert own.words[int(places[own.grid[1]])] == "row 1, column 0" and own.words[-1] not in (
            "",
            own.words[0],
        )


def test_the_vit_s_attention_is_that_of_the_eager_model_in_raster_order(vlm):
    depths = range(1, vlm.last_depth + 1)
    ours = vlm.attention(PICTURES, depths=depths)
    with spied(vlm) as heard:
        assert off(vlm.attention(PICTURES[1], depths=1).weights[0], ours[1].weights[0]) < EXACT
        for image, own in zip(PICTURES, ours):
            heard.clear()
            with torch.no_grad():
                vlm.visual_tokens(image)
            order, grid = in_vit(vlm, image)
            assert own.grid == grid and own.words[-1] == f"row {grid[0] - 1}, column {grid[1] - 1}"
            for n, depth in enumerate(depths):
                parts = [part for block, weights in heard if block == depth for part in weights]
                due = torch.stack([torch.block_diag(*head) for head in zip(*parts)])
                raster = torch.zeros_like(due)
                raster[:, order[:, None], order] = due
                assert off(own.weights[n], raster) < EXACT
            assert off(own.weights.sum(-1), 1.0) < EXACT
            assert torch.equal(
                own.on_image().flatten(-2), own.weights[..., len(order) - grid[0] * grid[1] :]
            )


def test_a_model_is_read_without_a_bit_of_change_and_restored(vlm):
    before, configs = (
        native(vlm, PICTURES, QUESTIONS),
        [module.__dict__.get("config") for module in vlm.model.modules()],
    )
    kept = []
    blocks = [(block, taps.Tap(take=kept.append)) for block in (*vlm.vision_blocks, *vlm.lm_layers)]
    with taps.tapped(blocks):
        assert torch.equal(native(vlm, PICTURES, QUESTIONS), before) and kept
    with pytest.raises(ZeroDivisionError):
        vlm.attention(PICTURES[0], QUESTIONS[0], take=lambda weights: 1 / 0)
    after = [module.__dict__.get("config") for module in vlm.model.modules()]
    assert all(one is other for one, other in zip(configs, after)) and not taps._TAPPED
    assert {config._attn_implementation for config in configs if config is not None} == {"sdpa"}
    assert torch.equal(native(vlm, PICTURES, QUESTIONS), before)


def test_one_answer_goes_with_all_prompts(organism):
    both = organism.attention(PICTURES, QUESTIONS, "red", layers=1)
    assert [seen.words[-1] for seen in both] == ["red"] * 2
    with pytest.raises(ValueError, match="There are 3 answers for 2 prompts"):
        organism.attention(PICTURES, QUESTIONS, ["red"] * 3)


def test_only_what_is_asked_for_is_worked_out_and_nothing_is_kept(organism, monkeypatch):
    alive, worked_out = [], []
    real = taps._weights
    monkeypatch.setattr(taps, "_weights", lambda *given: worked_out.append(1) or real(*given))

    def last_row(weights):
        assert not any(ref() is not None for ref in alive), (
            "a block's weights are gone before the next one's come"
        )
        alive.append(weakref.ref(weights))
        return weights[:, -1]

    rows = organism.attention(PICTURES[0], QUESTIONS[0], layers=[2, 3, 4], take=last_row)
    assert len(worked_out) == 3 and len(alive) == 3
    whole = organism.attention(PICTURES[0], QUESTIONS[0], layers=(4, 2, 3))
    assert whole.blocks == [2, 3, 4] and torch.equal(torch.stack(rows), whole.weights[:, :, -1])
    assert organism.attention(PICTURES, depths=2, take=len) == [[4], [4]], (
        "anything may be kept of its four heads"
    )


def test_half_precision_is_read_in_float32(load, tmp_path):
    llava(tmp_path, dtype=torch.bfloat16)
    half = ww.load(tmp_path, device="cpu", dtype="bfloat16")
    for seen in (half.attention(PICTURES[0], QUESTIONS[0]), half.attention(PICTURES[0], depths=1)):
        assert seen.weights.dtype == torch.float32 and off(seen.weights.sum(-1), 1.0) < EXACT


@pytest.mark.parametrize(
    "asked, sentence",
    [
        (dict(layers=0), "LM's blocks are counted from 1 to 4 here; got 0"),
        (dict(layers=[1, 5]), "counted from 1 to 4 here; got 5"),
        (dict(layers=True), "got True"),
        (dict(depths=[7]), "ViT's blocks are counted from 1 to 6 here; got 7"),
        (dict(depths=1.0), "counted from 1|not iterable"),
        (dict(layers=[]), "Name one block of the LM"),
        (dict(layers=1, depths=1), "one of the two"),
        (dict(answer=""), "An answer is a text, not ''"),
        (dict(answer=["red", "blue"]), "2 answers for 1 prompts"),
        (dict(answer="<image>"), "not the image's own token"),
    ],
)
def test_what_cannot_be_read_is_said(organism, asked, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        organism.attention(PICTURES[0], QUESTIONS[0], **asked)


def test_another_attention_than_sdpa_or_eager_is_said(organism):
    config = organism.lm.config
    config._attn_implementation = "flash_attention_2"
    try:
        with pytest.raises(ValueError, match="'sdpa'.*this model's is 'flash_attention_2'"):
            organism.attention(PICTURES[0], QUESTIONS[0])
    finally:
        config._attn_implementation = "sdpa"
    assert not taps._TAPPED


# -- sinks
# --------------------------------------------------------------------------------------------------


def made_up(weights, tower="LM"):
    """Of a picture of 2 × 3 patches, at places 1 to 6."""
    weights = torch.as_tensor(weights, dtype=torch.float32)
    words = [
        "<s>",
        *(f"row {n // 3}, column {n % 3}" for n in range(6)),
        *(f"w{n}" for n in range(weights.shape[-1] - 7)),
    ]
    return Attention(
        weights,
        list(range(1, len(weights) + 1)),
        tower,
        words,
        torch.arange(1, 7),
        (2, 3),
        PICTURES[0],
    )


def even(n):
    return torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]


def test_a_sink_is_what_all_others_look_at():
    sinky = even(20)
    sinky[3:] *= 0.2
    sinky[3:, 3] += 0.8  # of which an equal share would be a tenth or so
    lone = even(20)
    lone[19] *= 0.01
    lone[19, 4] += 0.99  # the last one alone looks there
    seen = made_up(torch.stack([torch.stack([each] * 2) for each in (even(20), sinky, lone)]))
    assert off(seen.received()[0, :, :15], 1.0) < EXACT, "equal shares"
    assert seen.received()[:, :, 16:].isnan().all(), "which fewer than a quarter see"
    assert seen.sinks().nonzero().tolist() == [[1, 3]] and not seen.sinks(above=20).any()
    assert seen.received()[2, 0, 4] > 2, "more than its share, and yet no sink"


def test_a_window_s_share_is_that_of_its_window():
    weights = torch.block_diag(torch.full((2, 2), 0.5), torch.full((5, 5), 0.2))[None, None]
    received = made_up(weights, "ViT").received()[0, 0]
    assert received[:2].isnan().all() and off(received[2:], 1.0) < EXACT, "two of seven are too few"


# -- knockout
# --------------------------------------------------------------------------------------------------


def test_a_head_that_is_knocked_out_gives_zeros(vlm):
    """Held to a hook that puts zeros in front of the projection that follows."""
    for place, blocks in (("layers", vlm.lm_layers), ("depths", vlm.vision_blocks)):
        module = taps.attention_of(blocks[0])
        names = ("o_proj", "proj", "out_proj", "projection_layer")
        projection = next(getattr(module, name) for name in names if hasattr(module, name))
        heads = taps.n_heads(blocks[0])

        def zeros(_, args, heads=heads):
            given = args[0].clone().unflatten(-1, (heads, -1))
            given[..., 1, :] = 0
            return (given.flatten(-2), *args[1:])

        hook = projection.register_forward_pre_hook(zeros)
        due = native(vlm, PICTURES, QUESTIONS)
        hook.remove()
        with intervene.knockout(vlm, **{place: 1}, heads=1):
            assert apart(native(vlm, PICTURES, QUESTIONS), due) < SAME
        assert apart(native(vlm, PICTURES, QUESTIONS), due) > OTHER


def test_to_cut_all_of_a_row_is_to_cut_the_head(vlm):
    for place, tower in (("layers", vlm.lm_layers), ("depths", vlm.vision_blocks)):
        seen = vlm.attention(PICTURES[0], QUESTIONS[0], **{place: 2})
        with intervene.knockout(vlm, **{place: 2}, heads=range(taps.n_heads(tower[0]))):
            due = native(vlm, PICTURES[0], QUESTIONS[0])
        with intervene.knockout(vlm, **{place: 2}, queries=range(len(seen.words))):
            assert apart(native(vlm, PICTURES[0], QUESTIONS[0]), due) < SAME
            assert not vlm.attention(PICTURES[0], QUESTIONS[0], **{place: 2}).weights.any()


@torch.no_grad()
def masked(vlm, inputs, pairs):
    """Logits of the eager model under a 4-D mask of our own, in all layers: true in pairs (batch,
    queries, keys) is hidden."""
    embeddings, n = vlm.embed(inputs), pairs.shape[1]
    hidden = (
        torch.ones(n, n, dtype=torch.bool).triu(1)
        | (inputs["attention_mask"] == 0)[:, None]
        | pairs
    )
    mask = torch.zeros(len(pairs), 1, n, n).masked_fill(
        hidden[:, None], torch.finfo(torch.float32).min
    )
    named = vlm.lm_inputs(embeddings, mask, vlm.position_ids(inputs))
    with eager(vlm):
        return vlm.unembedding(vlm.lm(**named, use_cache=False).last_hidden_state)


def choices(vlm, images, inputs):
    """{name: (what `knockout` is given, (batch, length) what it means)}, worked out from the
    prompts."""
    real, visual = inputs["attention_mask"].bool(), vlm.image_places(inputs)
    place, length = real.cumsum(1) - 1, torch.arange(real.shape[1])
    rng, painted = np.random.default_rng(0), torch.zeros_like(real)
    masks = [rng.random(vlm.patch_grid(image)) < 0.5 for image in images]
    for mask, own, of_prompt in zip(masks, visual, painted):
        mask.flat[0], mask.flat[-1] = True, False
        of_prompt[own.nonzero()[:, 0][vlm.adapter.leading :]] = torch.from_numpy(mask.flatten())
    return {
        "image": ("image", visual),
        "after": ("after", torch.stack([length > int(own.nonzero()[-1]) for own in visual])),
        "last": ("last", (length == len(length) - 1).expand_as(real)),
        "masks": (masks, painted),
        "places": ([1, -2], ((place == 1) | (length == len(length) - 2)) & real),
        "all": (None, real),
    }


@pytest.mark.parametrize(
    "queries, keys",
    [("after", "image"), ("last", "masks"), ("masks", "places"), ("all", "masks")],
)
def test_from_some_tokens_to_others_in_all_layers(vlm, queries, keys):
    """In a batch with padding, held to the eager model under a mask of our own."""
    inputs, before = vlm.prepare(PICTURES, QUESTIONS), native(vlm, PICTURES, QUESTIONS)
    known, real = choices(vlm, PICTURES, inputs), inputs["attention_mask"].bool()
    (looking, rows), (looked_at, columns) = known[queries], known[keys]
    due = masked(vlm, inputs, rows[:, :, None] & columns[:, None])
    layers = range(1, vlm.n_layers + 1)
    with intervene.knockout(vlm, layers=layers, queries=looking, keys=looked_at):
        ours = native(vlm, PICTURES, QUESTIONS)
    assert apart(ours[real], due[real]) < SAME and apart(ours[real], before[real]) > OTHER
    with intervene.knockout(vlm, layers=layers[::2], queries=looking, keys=looked_at):
        with intervene.knockout(vlm, layers=layers[1::2], queries=looking, keys=looked_at):
            assert apart(native(vlm, PICTURES, QUESTIONS)[real], due[real]) < SAME, (
                "some layers, and the others"
            )
    assert torch.equal(native(vlm, PICTURES, QUESTIONS), before)


def test_from_some_patches_to_others_in_the_vit(vlm):
    """Held to the eager ViT with scores of minus infinity, patch by patch, where the adapter's
    positions say that they are."""
    blocks, masks = (1, vlm.last_depth), []
    for n, image in enumerate(PICTURES):
        queries, other = np.random.default_rng(n).random((2, *in_vit(vlm, image)[1])) < 0.5
        queries[0, 0] = True
        # each sees itself, so that something is left of every row
        masks.append((queries, other & ~queries))

    def due(image, queries, keys):
        order, (rows, columns) = in_vit(vlm, image)
        extra, done = len(order) - rows * columns, {}
        flat = [torch.from_numpy(mask).flatten() for mask in (queries, keys)]
        looking, looked_at = (torch.nn.functional.pad(mask, (extra, 0))[order] for mask in flat)

        def change(block, scores):
            if block not in blocks:
                return scores
            own = slice(done.get(block, 0), done.get(block, 0) + scores.shape[-1])
            done[block] = own.stop
            return scores.masked_fill(looking[own, None] & looked_at[None, own], -torch.inf)

        with spied(vlm, change):
            return vlm.vit_states(image, [vlm.last_depth])[0]

    before = vlm.vit_states(PICTURES, [vlm.last_depth])
    reference = [due(image, *pair) for image, pair in zip(PICTURES, masks)]
    queries, keys = zip(*masks)
    with intervene.knockout(vlm, depths=blocks, queries=list(queries), keys=list(keys)):
        ours = vlm.vit_states(PICTURES, [vlm.last_depth])
    for own, reference_states, untouched in zip(ours, reference, before):
        assert apart(own[0], reference_states) < SAME and apart(own[0], untouched[0]) > OTHER
    assert all(map(torch.equal, vlm.vit_states(PICTURES, [vlm.last_depth]), before))


def test_what_nobody_looks_at_can_be_cut_without_a_bit_of_change(vlm):
    """Later tokens, in the LM."""
    before = native(vlm, PICTURES, QUESTIONS)
    with intervene.knockout(vlm, layers=[1, 2], queries=[0, 1], keys=[4, -1]):
        assert torch.equal(native(vlm, PICTURES, QUESTIONS), before)
    text = {"input_ids": torch.tensor(vlm.token_ids(["is there a red cup"]))}
    with torch.no_grad():
        alone = vlm.model(**text).logits
        with intervene.knockout(vlm, layers=1, queries=[2], keys=[0]):
            assert torch.equal(vlm.model(**text).logits, alone), "nor a text without an image"


@torch.no_grad()
def written(vlm, image, question, pairs_of, words):
    """Greedy ids, each prefix run anew by the eager model under a mask of our own: pairs_of(length)
    (length, length)."""
    inputs = vlm.prepare(image, question)
    ids, embeddings, positions = [], vlm.embed(inputs), vlm.position_ids(inputs)
    for _ in range(words):
        n = embeddings.shape[1]
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1) | pairs_of(n)
        mask = torch.zeros(1, 1, n, n).masked_fill(hidden, torch.finfo(torch.float32).min)
        with eager(vlm):
            state = vlm.lm(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
            )
        ids.append(vlm.unembedding(state.last_hidden_state[:, -1]).argmax(-1))
        embeddings = torch.cat([embeddings, vlm.model.get_input_embeddings()(ids[-1])[None]], 1)
        positions = torch.cat([positions, positions[..., -1:] + 1], -1)
    return torch.cat(ids).tolist()


@pytest.mark.parametrize("queries", ["last", "all"])
def test_an_answer_is_written_under_a_knockout(load, queries):
    """With a cache and without one, held to a mask of our own; a description is some twenty words
    long."""
    for name in ("toy-llava", "toy-qwen2vl"):
        vlm, scene, question = (
            load(name),
            ww.world.scene(seed=1, split="dev"),
            "describe the scene .",
        )
        inputs = vlm.prepare(scene.image, question)
        visual = vlm.image_places(inputs)[0].nonzero()[:, 0]
        half = np.zeros(vlm.patch_grid(scene.image), bool)
        half[:, : half.shape[1] // 2] = True
        begin = {"last": inputs["input_ids"].shape[1] - 1, "all": 0}[queries]

        columns = visual[torch.from_numpy(half).flatten()]

        def pairs_of(n, begin=begin, columns=columns):
            pairs = torch.zeros(n, n, dtype=torch.bool)
            pairs[begin:, columns] = True
            return pairs

        due = written(vlm, scene.image, question, pairs_of, 8)
        greedy = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
        chosen = {"queries": None if queries == "all" else queries, "keys": half}
        with intervene.knockout(vlm, layers=range(1, vlm.n_layers + 1), **chosen):
            for cache in (True, False):
                ids = vlm.model.generate(**inputs, **greedy, use_cache=cache)[
                    0, inputs["input_ids"].shape[1] :
                ]
                assert ids.tolist() == due
            said = vlm.tokenizer.decode(due)
            rows = vlm.attention(scene.image, question, said, layers=2)
            again = vlm.attention(scene.image, question, layers=2)
        seen = rows.on_image()[0].sum(0)[begin:, torch.from_numpy(half)]
        assert not seen.any() and rows.weights[0, :, begin - 1, rows.places[:3]].any() == (
            begin > 0
        )
        assert off(rows.weights[..., : len(again.words), : len(again.words)], again.weights) < EXACT


def test_a_question_must_look_at_the_picture_and_its_last_token_need_not(load):
    """In both organisms it is the colour's word that fetches the thing, in the first block."""
    scene, question = ww.world.scene(seed=1, split="dev"), "what is the yellow object ?"
    for name in ("toy-llava", "toy-qwen2vl"):
        vlm = load(name)
        layers = range(1, vlm.n_layers + 1)
        assert vlm.answer(scene.image, question) == "lamp"
        with intervene.knockout(vlm, layers=layers, queries="last", keys="image"):
            assert vlm.answer(scene.image, question) == "lamp"
        with intervene.knockout(vlm, layers=1, queries="after", keys="image"):
            assert vlm.answer(scene.image, question) != "lamp"
        colour = vlm.attention(scene.image, question, layers=1).words.index("yellow")
        with intervene.knockout(vlm, layers=1, queries=colour, keys="image"):
            assert vlm.answer(scene.image, question) != "lamp"


def test_heads_alone_and_heads_between_tokens(vlm):
    seen = vlm.attention(PICTURES[0], QUESTIONS[0], layers=1)
    with intervene.knockout(vlm, layers=1, heads=[0], queries="after", keys="image"):
        cut = vlm.attention(PICTURES[0], QUESTIONS[0], layers=1)
    after = int(seen.places[-1]) + 1 + len(vlm.adapter.around) // 2
    assert (
        torch.equal(cut.weights[0, 1:], seen.weights[0, 1:])
        and not cut.on_image()[0, 0, after:].any()
    )
    assert off(cut.weights.sum(-1), 1.0) < EXACT
    rest = seen.weights[0, 0, after:].index_fill(-1, cut.weights[0, 0, -1].eq(0).nonzero()[:, 0], 0)
    assert off(cut.weights[0, 0, after:], rest / rest.sum(-1, keepdim=True)) < EXACT, (
        "what is left grows in proportion"
    )


def test_what_the_vit_gave_before_is_refused_while_its_heads_are_cut(organism):
    """Heads alone need no hook in the ViT, and `answers.chances` looks for one."""
    inputs = organism.prepare(PICTURES[0], QUESTIONS[0])
    visual = [tokens[-1] for tokens in organism.visual(inputs)]
    with (
        intervene.knockout(organism, depths=1, heads=0),
        pytest.raises(ValueError, match="The ViT is being changed"),
    ):
        ww.answers.chances(organism, inputs, ["yes", "no"], visual)


def test_contexts_nest(load):
    vlm, images = load("toy-qwen2vl"), PICTURES[0]
    inside = np.ones(vlm.patch_grid(images), bool)
    inside[0] = False
    vector = torch.randn(vlm.lm.config.hidden_size, generator=torch.Generator().manual_seed(0))

    @contextmanager
    def several():
        with ww.rope.scaled(vlm, alpha=9, p=4), intervene.added(vlm, inside, vector, layer=1):
            with intervene.knockout(vlm, layers=[2, 3], queries="after", keys=inside):
                with intervene.knockout(vlm, layers=[3, 4], queries="last", keys=~inside):
                    yield

    before = vlm.logits(images, QUESTIONS[0])
    with several():
        weights = vlm.attention(images, QUESTIONS[0]).weights
        depths = vlm.attention(images, QUESTIONS[0], depths=[1]).weights
        with eager(vlm):
            assert off(vlm.attention(images, QUESTIONS[0]).weights, weights) < EXACT
            assert off(vlm.attention(images, QUESTIONS[0], depths=[1]).weights, depths) < EXACT
    flat, last = (
        torch.from_numpy(inside.flatten()),
        weights[:, :, -1, vlm.positions(images, QUESTIONS[0]).index],
    )
    assert [bool(of_block[:, flat].any()) for of_block in last] == [True, False, False, True]
    assert [bool(of_block[:, ~flat].any()) for of_block in last] == [True, True, False, False]
    assert off(depths, vlm.attention(images, depths=[1]).weights) > 10 * EXACT, "scaled"
    assert torch.equal(vlm.logits(images, QUESTIONS[0]), before) and not taps._TAPPED


def test_compression_goes_with_heads_and_not_with_places(organism):
    with (
        compress.compressed(organism, "attended", keep=30),
        intervene.knockout(organism, layers=[1, 2], heads=0),
    ):
        answer = organism.answer(PICTURES[0], QUESTIONS[0])
    with (
        intervene.knockout(organism, layers=[1, 2], heads=0),
        compress.compressed(organism, "attended", keep=30),
    ):
        assert organism.answer(PICTURES[0], QUESTIONS[0]) == answer
    with compress.compressed(organism, "random", keep=0.5):
        with pytest.raises(ValueError, match="leave `with compress.compressed"):
            organism.attention(PICTURES[0], QUESTIONS[0])
        with (
            intervene.knockout(organism, layers=1, queries="after"),
            pytest.raises(ValueError, match="leave `with compress"),
        ):
            organism.answer(PICTURES[0], QUESTIONS[0])
        assert organism.attention(PICTURES[0], depths=1).weights.any(), (
            "the ViT sees the whole picture"
        )


def test_an_exam_is_sat_under_a_knockout(organism):
    """Where the questions are fed after the image, no prompt has a last token; an answer's words
    count as later ones."""
    scenes = list(ww.world.scenes("dev", 4))
    singly, shared = (
        ww.answers.Exam.on(organism, scenes, {"category": ["category"]}, shared)
        for shared in (False, True)
    )
    assert singly.right().all()
    with intervene.knockout(organism, layers=1, queries="after", keys="image"):
        assert singly.right().mean() < 0.5 and (singly.right() == shared.right()).all()
    with intervene.knockout(organism, layers=range(1, 5), queries="last", keys="image"):
        assert singly.right().all()
        with pytest.raises(ValueError, match="end with the image"):
            shared.right()


@pytest.mark.parametrize(
    "cut, sentence",
    [
        (dict(layers=1), "Say what is cut"),
        (dict(heads=0), "Say where"),
        (dict(layers=1, depths=1, heads=0), "one of the two"),
        (dict(layers=5, heads=0), "LM's blocks are counted from 1 to 4"),
        (dict(layers=1, heads=2), "Heads are counted from 0 to 1 in this model; got 2"),
        (dict(layers=1, heads=-1), "got -1"),
        (dict(layers=1, heads=[]), "Name one head"),
        (dict(layers=1, heads=[True]), "got True"),
        (dict(layers=1, keys=[]), "Keys are a mask .* one whole number at least.*got \\[\\]"),
        (dict(layers=1, keys="picture"), "or 'image', or 'after', or 'last'; got 'picture'"),
        (dict(depths=1, keys="image"), "Keys are a mask of patches .* at least; got 'image'"),
        (dict(layers=1, queries=[1.5]), "Queries are a mask"),
        (dict(layers=1, queries=[True]), "Queries are a mask"),
        (dict(layers=1, queries=np.zeros((12, 12), bool)), "Mask 0 is true nowhere"),
        (dict(layers=1, queries=np.ones((12, 12))), "A mask is booleans"),
        (dict(layers=1, queries=500), "There are 155 tokens, .*; got 500"),
        (dict(layers=1, keys=[0, -156]), "got -156"),
        (dict(depths=1, keys=145), "There are 145 tokens"),
        (
            dict(layers=1, keys=np.ones((3, 4), bool)),
            "3 × 4 patches, and the grid here has 12 × 12",
        ),
        (dict(depths=1, queries=[np.ones((12, 12), bool)] * 2), "There are 2 masks for 1 images"),
    ],
)
def test_what_cannot_be_cut_is_said(organism, cut, sentence):
    before = organism.logits(PICTURES[0], QUESTIONS[0])
    with pytest.raises(ValueError, match=sentence):
        with intervene.knockout(organism, **cut):
            organism.model(**organism.prepare(PICTURES[0], QUESTIONS[0]))
    assert torch.equal(organism.logits(PICTURES[0], QUESTIONS[0]), before) and not taps._TAPPED


def test_a_cache_of_fixed_length_is_refused_where_tokens_are_meant(organism):
    inputs = organism.prepare(PICTURES[0], QUESTIONS[0])
    fixed = {
        "do_sample": False,
        "max_new_tokens": 3,
        "cache_implementation": "static",
        "disable_compile": True,
    }
    with intervene.knockout(organism, layers=1, queries="after", keys="image"):
        with pytest.raises(ValueError, match='without cache_implementation="static"'):
            organism.model.generate(**inputs, **fixed)
    with intervene.knockout(organism, layers=1, heads=0):
        due = organism.model.generate(**inputs, do_sample=False, max_new_tokens=3)
        assert torch.equal(organism.model.generate(**inputs, **fixed), due)


# -- shown
# --------------------------------------------------------------------------------------------------


def test_who_looks_is_a_word_a_place_or_a_patch():
    seen = made_up(torch.stack([torch.stack([even(12)] * 2)] * 3))
    at = {None: 11, "w2": 9, -2: 10, 0: 0, (1, 2): 6}
    assert {of: seen.show(of=of).at for of in at} == at
    assert made_up(even(7)[None, None], "ViT").show().at == 5, "the patch in the middle"
    shown = seen.show(block=2, head=1, queries=["w0", (0, 0)])
    assert shown.rows == [1, 7, 11] and (shown.block, shown.head) == (1, 2)


@pytest.mark.parametrize(
    "view, sentence",
    [
        (dict(of="cat"), "No token here is 'cat'"),
        (dict(of=12), "a place from 0 to 11"),
        (dict(of=(2, 0)), "of 2 × 3; got"),
        (dict(block=4), r"has the blocks \[1, 2, 3\]; got 4"),
        (dict(head=2), r"has the heads \[0, 1\]; got 2"),
        (dict(head=0, heads=False), r"has the heads \[\]; got 0"),
        (dict(queries=[12]), "a place from 0 to 11"),
    ],
)
def test_what_cannot_be_shown_is_said(view, sentence):
    with pytest.raises(ValueError, match=sentence):
        made_up(torch.stack([torch.stack([even(12)] * 2)] * 3)).show(**view)


def test_a_figure_too_large_for_a_page_is_refused():
    large = made_up(even(1200).expand(1, 3, -1, -1))
    with pytest.raises(ValueError, match=r"would carry 5 MiB.*heads=False"):
        large.show()
    assert large.show(heads=False) and large.show(queries=[-1])


@browser.needs_browser
def test_the_script_says_and_shows_what_the_page_does(tmp_path):
    """Before anything is moved, and after each slider, word and patch."""
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.dirichlet(np.full(12, 0.3), (2, 2, 12))).float()
    weights[1, :, :, 2] += 5
    seen = made_up(weights / weights.sum(-1, keepdim=True))
    views = [
        dict(),
        dict(of="w1", block=2),
        dict(of=(1, 1), block=1, head=1),
        dict(of=0, block=2, head=0),
    ]
    script = """
        const look = figure => [figure.querySelector('.ww-told').textContent,
            [...figure.querySelectorAll('[role=cell], button')].map(part => [
                part.textContent, part.classList.contains('ww-sink'), part.classList.contains('ww-of'),
                (+part.style.getPropertyValue('--v')).toFixed(2), part.getAttribute('aria-pressed')])];
        const figures = [...document.querySelectorAll('.ww-attention')], views = VIEWS, first = figures[0];
        out.due = figures.map(look);
        out.got = views.map(([block, head, n]) => {
            const ranges = first.querySelectorAll('input[type=range]');
            [block, head].forEach((value, i) => { ranges[i].value = value; ranges[i].dispatchEvent(new Event('input')) });
            const button = first.querySelector(`button[data-n="${n}"]`), cell = first.querySelectorAll('[role=cell]')[n - 1];
            (button || cell).dispatchEvent(new Event('click', { bubbles: true }));
            return look(first);
        });
        const grid = first.querySelector('.ww-grid');
        for (const key of ['ArrowDown', 'Enter']) grid.dispatchEvent(new KeyboardEvent('keydown', { key }));
        out.patch = first.querySelector('.ww-patch').textContent;
        out.told = first.querySelector('.ww-told').textContent;
    """
    shown = [seen.show(**view) for view in views]
    script = script.replace("VIEWS", str([[each.block, each.head, each.at] for each in shown]))
    out = browser.run(tmp_path, "".join(each.html() for each in shown), script)
    assert out["got"] == out["due"]
    assert out["told"].startswith("LM block 2, head 0: ") and out["patch"].startswith("Row ")
    assert any(sink for _, sink, *_ in out["due"][1][1]), "a sink is marked"

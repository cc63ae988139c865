"""Counts of token maps, by hand where it is small, and against the lens where it is a model."""

from dataclasses import replace

import numpy as np
import pytest

import whatwhere as ww
from closeness import SAME, apart
from whatwhere import lens, stages, world
from whatwhere.book.rehearsal.checkpoints import llava, qwen2vl
from whatwhere.world import Scene, Thing, gestalt

VOCABULARY = np.array(
    [
        "<s>",
        *world.CATEGORIES,
        *world.COLOURS,
        *world.TEXTURES,
        *world.BACKGROUNDS,
        *stages.FUNCTION,
    ],
    object,
)


def pair():
    """Two things far apart: a red plain mug on the left, a red striped lamp on the right."""
    things = (
        Thing("mug", "red", "plain", 36, 90, 46, order=90),
        Thing("lamp", "red", "striped", 108, 90, 46, order=90),
    )
    return Scene(0, "test", "wood", things)


def told(scene, grid=(12, 12), on_mug="mug", on_lamp="lamp", ground="."):
    """Readings of one map in which each patch says what it is told to."""
    whose = stages.owners(scene, grid)
    words = np.full(grid, ground, object)
    words[whose == 0], words[whose == 1] = on_mug, on_lamp
    return readings([[words]])


def readings(words, asked=(), scores=None):
    """words: nested lists of maps, (images, depths, rows, columns)."""
    at = {word: n for n, word in enumerate(VOCABULARY)}
    ids = np.vectorize(at.__getitem__)(np.array(words, object))
    scores = np.zeros((*ids.shape[:2], 0)) if scores is None else scores
    return stages.Readings(ids, scores, tuple(asked), VOCABULARY, tuple(range(ids.shape[1])), 1)


# -- truth
# --------------------------------------------------------------------------------------------------


def test_owners():
    scene = pair()
    whose, cover = stages.owners(scene, (12, 12)), scene.cover(12, 12)
    assert {-1, 0, 1} <= set(np.unique(whose)) <= {-2, -1, 0, 1}
    for i, index in enumerate((0, 1, -1)):
        assert (whose[cover[i] > 0.5] == index).all() and (cover[i][whose == index] >= 0.5).all()
    assert (cover[:, whose == -2] < 0.5).all()
    # which do not divide the picture: Qwen2-VL makes 5 × 5 tokens of it
    for grid in ((5, 5), (10, 7)):
        whose, cover = stages.owners(scene, grid), scene.cover(*grid)
        assert whose.shape == grid and {-1, 0} <= set(np.unique(whose))
        for i, index in enumerate((0, 1, -1)):
            assert (whose[cover[i] > 0.5] == index).all()


def test_counts_by_hand():
    scene = pair()
    whose = stages.owners(scene, (12, 12))
    mug, lamp, rest = (whose == 0).sum(), (whose == 1).sum(), (whose < 0).sum()
    (row,) = stages.counts(told(scene, on_mug="red", on_lamp="mug"), [scene]).to_dict("records")
    assert row["patches"] == 144 and row["object patches"] == mug + lamp
    assert (row["attribute"], row["object"], row["function"], row["background"], row["other"]) == (
        mug,
        lamp,
        rest,
        0,
        0,
    )
    assert (row["attribute, own"], row["attribute, other's"], row["own word"]) == (mug, 0, mug)
    assert (row["object, own"], row["object, other's"]) == (0, lamp), (
        "the lamp's patches say the mug's word"
    )
    (row,) = stages.counts(
        told(scene, on_mug="striped", on_lamp="<s>", ground="wood"), [scene]
    ).to_dict("records")
    assert (row["attribute, own"], row["attribute, other's"], row["other"], row["background"]) == (
        0,
        mug,
        lamp,
        rest,
    )


def test_what_the_controls_keep_and_what_they_destroy():
    scenes, maps = list(world.scenes("dev", 30)), []
    for scene in scenes:
        names = [t.category for t in scene.things] + [".", "."]
        maps.append([np.array(names, object)[stages.owners(scene, (12, 12))]])
    truth = readings(maps)
    tables = {"own": truth, "other": truth.of_other_scenes(), "shuffled": truth.shuffled()}
    tables = {name: stages.counts(read, scenes) for name, read in tables.items()}
    # which words are said, and how often, is the same: such a count says nothing of seeing
    for table in tables.values():
        assert table["object"].sum() == tables["own"]["object"].sum()
    share = {
        name: table["object, own"].sum() / table["object patches"].sum()
        for name, table in tables.items()
    }
    assert share["own"] == 1 and share["other"] < 0.2 and share["shuffled"] < 0.4


def test_shuffling_moves_a_patch_to_the_same_place_at_all_depths():
    ids = np.arange(9).reshape(1, 1, 3, 3).repeat(2, 1)
    shuffled = stages.Readings(ids, np.zeros((1, 2, 0)), (), VOCABULARY, (0, 1), 1).shuffled()
    assert (shuffled.ids[0, 0] == shuffled.ids[0, 1]).all() and sorted(
        shuffled.ids[0, 0].ravel()
    ) == list(range(9))


def test_kinds_of_words():
    kinds = stages.kinds_of(VOCABULARY, stages.by_kind(world.vocabulary()))
    kind = {word: kinds[n] for n, word in enumerate(VOCABULARY)}
    assert (kind["red"], kind["striped"], kind["mug"], kind["wood"], kind["."], kind["<s>"]) == (
        0,
        0,
        1,
        2,
        3,
        -1,
    )
    kinds = stages.kinds_of(np.array(["Red", "redder", "red"]), {"attribute": ["RED"]})
    assert kinds.tolist() == [0, -1, 0], "whole words, any case"
    for words, said in (
        ({"attribute": ["crimson", "red"]}, "'crimson': no word of this model"),
        (
            {"adjective": ["red"]},
            "No kind of word .'adjective'.; there are attribute, object, background, function",
        ),
        ({"attribute": ["red"], "object": ["red"]}, "'red' is listed twice"),
    ):
        with pytest.raises(ValueError, match=said):
            stages.kinds_of(VOCABULARY, words)


class Splitting:
    """Of a tokenizer all that `forms` asks for: it knows the words of a list, and splits others as
    it is told."""

    def __init__(self, split):
        self.split, self.pieces = (
            split,
            sorted({piece for pieces in split.values() for piece in pieces}),
        )

    def __call__(self, texts, add_special_tokens):
        return {
            "input_ids": [
                [self.pieces.index(piece) for piece in self.split.get(text.strip(), [])]
                for text in texts
            ]
        }

    def decode(self, ids):
        return self.pieces[ids[0]]


LIKE_LLAMA = {
    "candle": ["cand", "le"],
    "mug": ["m", "ug"],
    "striped": ["stri", "ped"],
    "purple": ["pur", "ple"],
    "stool": ["sto", "ol"],
    "checked": ["checked"],
}


def in_pieces(read, **more):
    """The same maps in a vocabulary that has pieces in place of some words, and the tokenizer that
    makes them."""
    split = LIKE_LLAMA | more
    first = [split[word][0] if word in split else word for word in VOCABULARY]
    return replace(read, vocabulary=np.array(first, object), tokenizer=Splitting(split))


def test_words_of_several_tokens_are_said_by_their_first_piece():
    things = (
        Thing("candle", "red", "striped", 36, 90, 46, order=90),
        Thing("lamp", "purple", "plain", 108, 90, 46, order=90),
    )
    scene = Scene(0, "test", "wood", things)
    for said in (("candle", "lamp"), ("striped", "purple"), ("purple", "candle"), ("red", "plain")):
        whole = told(scene, on_mug=said[0], on_lamp=said[1])
        with pytest.warns(UserWarning, match="This lens can say nothing for 'mug'"):
            in_tokens = stages.counts(in_pieces(whole), [scene])
        assert in_tokens.equals(stages.counts(whole, [scene]))
        assert (stages.segments(in_pieces(whole), [scene]) == stages.segments(whole, [scene])).all()


def test_a_piece_of_several_words_is_a_word_of_none():
    """Where "striped" and "strict" both begin with "stri", a patch that says "stri" has said
    neither."""
    scene = replace(pair(), things=(replace(pair().things[0], texture="striped"), pair().things[1]))
    read = in_pieces(told(scene, on_mug="striped"), striped=["stri", "ped"], strict=["stri", "ct"])
    words = {"attribute": ["red", "striped"], "function": ["strict"]}
    with pytest.raises(
        ValueError,
        match="'striped', 'strict': no word of this model, nor a first piece that is long enough",
    ):
        stages.counts(read, [scene], words)
    (row,) = stages.counts(read, [scene], {"attribute": ["red", "striped"]}).to_dict("records")
    assert row["attribute, own"] == row["attribute"] == (read.words == "stri").sum() > 0


def test_questions_about_words_that_cannot_show_are_left_out_and_said_to_be():
    scenes = [
        replace(scene, things=(replace(pair().things[0]),)) for scene in world.scenes("test", 12)
    ]
    read = in_pieces(readings([[np.full((12, 12), "lamp", object)]] * 12))
    asked = tuple(read.forms(world.CATEGORIES).ids)
    assert "mug" not in asked and {"candle", "stool", "lamp"} <= set(asked)
    read = replace(read, asked=asked, scores=np.zeros((12, 1, len(asked))))
    with pytest.warns(
        UserWarning, match="nothing for 'mug' .see lens.forms.: the questions about it are left out"
    ):
        table = stages.existence(read, scenes)
    absent = [world.existence(scene, "random")[1].text.split()[-2] for scene in scenes]
    assert table["word"].tolist() == absent and table["hit"].tolist() == [
        word == "lamp" for word in absent
    ]


def test_segments_and_overlap():
    scene = pair()
    whose = stages.owners(scene, (12, 12))
    for words, expected in (
        (("mug", "lamp"), (1, 1)),
        (("plain", "striped"), (1, 1)),
        (("red", "lamp"), (0, 1)),  # both things are red: the word names neither
        (("lamp", "mug"), (0, 0)),
    ):
        read = told(scene, on_mug=words[0], on_lamp=words[1])
        sums, things = stages.overlap(stages.segments(read, [scene]), [scene], read)
        assert things.tolist() == [2] and sums.tolist() == [[sum(expected)]]
    everywhere = np.zeros((1, 1, 12, 12), int)
    sums, _ = stages.overlap(everywhere, [scene], read)
    assert sums[0, 0] == pytest.approx((whose == 0).sum() / 144)


def test_a_scene_with_one_thing_and_one_with_none():
    alone = replace(pair(), things=pair().things[:1])
    (row,) = stages.counts(told(alone), [alone]).to_dict("records")
    assert row["object, own"] == row["object patches"] > 0
    empty = replace(pair(), things=())
    (row,) = stages.counts(readings([[np.full((12, 12), "wood", object)]]), [empty]).to_dict(
        "records"
    )
    assert row["object patches"] == 0 and row["background"] == 144
    with pytest.raises(ValueError, match="no masks to compare with"):
        stages.overlap(np.zeros((1, 1, 12, 12), int), [empty], told(pair()))
    # beside another, a scene without things does not count
    sums, things = stages.overlap(np.full((2, 1, 12, 12), -1), [empty, alone], told(pair()))
    assert things.tolist() == [0, 1] and sums.sum() == 0


def test_maps_and_scenes_must_belong_together():
    scene = pair()
    for count in (stages.counts, stages.segments, stages.existence):
        with pytest.raises(ValueError, match="1 maps do not belong to 2 scenes"):
            count(told(scene), [scene, scene])


def test_existence_by_hand():
    scene = pair()
    yes, no = world.existence(scene, "random")
    there, absent = (q.text.split()[-2] for q in (yes, no))
    asked = (there, absent)
    read = replace(
        told(scene, on_mug=there, on_lamp="red"), asked=asked, scores=np.array([[[-0.1, -3.0]]])
    )
    table = stages.existence(read, [scene])
    assert table[["word", "there", "hit", "score"]].values.tolist() == [
        [there, True, True, -0.1],
        [absent, False, False, -3.0],
    ]
    with pytest.raises(ValueError, match=f"without asking for '{there}'"):
        stages.existence(told(scene), [scene])


def test_shares_and_changes_by_depth():
    scenes = [pair()] * 3
    right, wrong = (told(scenes[0], on_mug=word, on_lamp=".").ids[0, 0] for word in ("mug", "lamp"))
    ids = np.stack([np.stack([wrong, wrong]), np.stack([wrong, right]), np.stack([wrong, right])])
    table = stages.counts(replace(told(scenes[0]), ids=ids, depths=(0, 6)), scenes)
    whose = stages.owners(scenes[0], (12, 12))
    mugs = (whose == 0).sum() / (whose >= 0).sum()
    value, low, high = stages.by_depth(table, "object, own")
    assert np.allclose(value, [0, mugs * 2 / 3]) and low[1] < value[1] < high[1]
    gained, low, high = stages.rise(table, "object, own", 0)
    assert gained == pytest.approx(mugs * 2 / 3) and low < gained <= high
    assert stages.rise(table, "object, own", 6) == (0, 0, 0)
    with pytest.raises(ValueError, match="no depth 3; it has 0, 6"):
        stages.rise(table, "object, own", 3)
    # beside itself nothing is gained, whichever scenes are drawn; beside nothing said, all is
    assert stages.rise(table, "object, own", 0, table) == (0, 0, 0)
    silent = table.assign(**{"object, own": 0})
    assert stages.rise(table, "object, own", 0, silent)[0] == pytest.approx(gained)
    with pytest.raises(ValueError, match="two of the same scenes"):
        stages.rise(table, "object, own", 0, table[table.scene < 2])


def test_rates_rises_and_falls_are_those_of_the_arrays():
    scenes = [pair()] * 3
    right, wrong = (told(scenes[0], on_mug=word, on_lamp=".").ids[0, 0] for word in ("mug", "lamp"))
    ids = np.stack([np.stack([wrong, wrong]), np.stack([wrong, right]), np.stack([wrong, right])])
    table = stages.counts(replace(told(scenes[0]), ids=ids, depths=(0, 6)), scenes)
    at_last = stages.rate(table, "object, own", 6)
    assert tuple(at_last) == tuple(stages.by_depth(table, "object, own")[:, -1])
    rise, fall = (each(table, "object, own", 0) for each in (stages.rise, stages.fall))
    assert (fall.value, fall.low, fall.high) == (-rise.value, -rise.high, -rise.low)
    assert fall.low <= fall.value <= fall.high < rise.value
    net = stages.fall(table, "object, own", 0, beside=table)
    assert net.value == net.low == net.high == 0
    with pytest.raises(ValueError, match="no depth 3; it has 0, 6"):
        stages.rate(table, "object, own", 3)


def test_right_answers_by_hand():
    """One scene, whose map says the thing of the first question and nothing else: both right."""
    scene = pair()
    first = stages.existence(silent(scene), [scene])
    there = first[first.there].word.iloc[0]
    absent = first[~first.there].word.iloc[0]
    asked = (there, absent)
    for said, share in ((there, 1.0), (".", 0.5), (absent, 0.0)):
        words = np.full((1, 1, 12, 12), said, object)
        read = readings(words, asked, np.zeros((1, 1, 2)))
        assert stages.right_answers(read, [scene]).tolist() == [[share]]


def silent(scene):
    asked = tuple(world.CATEGORIES)
    return readings(np.full((1, 1, 12, 12), ".", object), asked, np.zeros((1, 1, len(asked))))


def test_mean_iou_is_the_mean_over_things():
    scene = pair()
    whose = np.maximum(stages.owners(scene, (12, 12)), -1)
    half = np.where(whose == 0, 0, -1)
    predicted = np.stack([np.stack([whose, half])] * 2)
    value, low, high = stages.mean_iou(predicted, [scene] * 2, told(scene))
    assert value.tolist() == low.tolist() == high.tolist() == [1, 0.5]


def test_a_probe_reads_what_is_linearly_there_at_each_depth():
    rng = np.random.default_rng(0)
    truth = rng.choice(["mug", "lamp", ""], size=(20, 30))
    codes = {"mug": (1.0, 0, 0), "lamp": (0, 1.0, 0), "": (0, 0, 1.0)}
    plain = np.array([[codes[word] for word in row] for row in truth])
    plain = plain + 0.05 * rng.normal(size=plain.shape)
    noise = rng.normal(size=plain.shape)
    states = np.stack([noise, plain])
    read = stages.probed(states[:, :10], truth[:10], states[:, 10:])
    on = truth[10:] != ""
    assert read.shape == (2, 10, 30) and set(np.unique(read)) == {"lamp", "mug"}
    hits = (read == truth[10:])[:, on].mean(axis=1)
    assert hits[1] == 1 and 0.3 < hits[0] < 0.7
    with_ground = stages.probed(states[:, :10], truth[:10], states[:, 10:], ground=True)
    assert (with_ground[1] == truth[10:]).all()
    with pytest.raises(ValueError, match="two at least, not mug"):
        stages.probed(states, np.full(truth.shape, "mug"), states)
    with pytest.raises(ValueError, match="as many depths"):
        stages.probed(states, truth, states[:1])
    with pytest.raises(ValueError, match="truth"):
        stages.probed(states, truth[:10], states)


def test_categories_name_things():
    scene = pair()
    words = np.array([[["mug", "lamp", "", "key"]], [["lamp", "lamp", "mug", ""]]])
    found = stages.segments_of_categories(words, [scene], (2, 2))
    assert found.tolist() == [[[[0, 1], [-1, -1]], [[1, 1], [0, -1]]]]
    with pytest.raises(ValueError, match="give one for each"):
        stages.segments_of_categories(words, [scene, scene], (2, 2))


def test_k_means_finds_what_is_plainly_there():
    scene = pair()
    whose = np.maximum(stages.owners(scene, (12, 12)), -1)
    states = np.eye(3)[whose.ravel() + 1]
    assert (stages.clustered(states, scene, (12, 12)) == whose).all()


# -- models
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["llava", "qwen2vl"])
def small(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    {
        "llava": lambda: llava(folder, image=144, patch=12),
        "qwen2vl": lambda: qwen2vl(folder, patch=9),
    }[request.param]()
    return ww.load(folder)


def test_reading_is_what_the_lens_reads(small):
    scenes, asked = list(world.scenes("dev", 3)), ("red", "bowl")
    read = stages.read(small, scenes, layer=2, depths=[0, 3], asked=asked, batch_size=2)
    vocabulary = len(small.words)
    for n, scene in enumerate(scenes):
        maps = lens.token_maps(small, scene.image, layer=2, depths=[0, 3], top_k=vocabulary)
        assert (read.ids[n] == maps.ids).all()
        for k, word in enumerate(asked):
            best = np.where(maps.top_words == word, maps.probabilities, 0).max((1, 2, 3))
            assert apart(np.exp(read.scores[n, :, k]), best) < SAME
    assert read.asked == asked and read.layer == 2 and "3 images, 2 ViT depths" in repr(read)
    assert not (
        stages.read(small, scenes[:1], lens=lens.LogitLens(small, norm=False)).ids
        == stages.read(small, scenes[:1]).ids
    ).all()


def test_reading_refuses(small):
    scene = world.scene(7)
    with pytest.raises(ValueError, match="'zebra': no word of"):
        stages.read(small, [scene], asked=["red", "zebra"])
    with pytest.raises(ValueError, match="no image among them"):
        stages.read(small, [])
    if small.family == "qwen2_vl":
        with pytest.raises(ValueError, match="images of one patch grid"):
            stages.read(small, [scene, scene.image.resize((72, 144))])


def test_what_a_probe_learns_from(small):
    scenes = list(world.scenes("dev", 3))
    states, truth = stages.labelled(small, scenes, batch_size=2)
    grid = small.patch_grid(scenes[0].image)
    assert states.shape[:3] == (small.last_depth + 1, 3, grid[0] * grid[1]) and set(truth) == {
        "colour",
        "texture",
        "category",
    }
    assert apart(states[:, 2], small.vit_states(scenes[2].image)) < SAME
    whose = stages.owners(scenes[1], grid).ravel()
    named = [scenes[1].things[i].category if i >= 0 else "" for i in whose]
    assert truth["category"][1].tolist() == named


def test_clusters_are_those_of_each_depth(small):
    (scene,) = world.scenes("dev", 1)
    grid = small.patch_grid(scene.image)
    found = stages.clusters(small, [scene])
    assert found.shape == (1, small.last_depth + 1, *grid)
    states = small.vit_states(scene.image).numpy()
    assert (found[0, 2] == stages.clustered(states[2], scene, grid)).all()


def test_turned_states_keep_lengths_and_angles_and_come_back(small):
    image = world.scene(3).image
    before = small.visual_tokens(image)
    seen = []
    hook = small.connector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    small.visual_tokens(image)
    hook.remove()
    with stages.turned(small, seed=1):
        hook = small.connector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        after = small.visual_tokens(image)
        hook.remove()
    plain, turned = (state.flatten(0, -2).double() for state in seen)
    assert apart(plain @ plain.T, turned @ turned.T) < SAME
    assert apart(plain, turned) > 0.1 and apart(before, after) > 1e-3
    assert (small.visual_tokens(image) == before).all()
    assert not small.connector._forward_pre_hooks


# -- things that are not whole
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_gestalt_probes(seed):
    scene = gestalt.lone(seed)
    assert len(scene.things) == 1 and scene.visible == [1.0]
    assert (gestalt.apart(scene, 0).pixels == scene.pixels).all(), (
        "quarters put together are the thing"
    )
    near, far, alone = (
        gestalt.apart(scene, 4),
        gestalt.apart(scene, 18),
        gestalt.apart(scene, 18, alone=True),
    )
    assert near.shown.sum() == far.shown.sum() == scene.masks[0].sum(), (
        "nothing is lost or doubled on the way"
    )
    assert 0.25 <= alone.shown.sum() / far.shown.sum() < 1 and not (alone.shown & ~far.shown).any()
    assert (alone.pixels == far.pixels)[alone.shown].all(), (
        "alone, the quarter stands where it stood with the others"
    )
    alike, unlike = gestalt.patched(scene), gestalt.patched(scene, alike=False)
    assert (alike.shown == unlike.shown).all() and (
        alike.pixels == gestalt.apart(scene, 3).pixels
    ).all()
    assert (alike.pixels != unlike.pixels).any() and (alike.pixels == unlike.pixels)[
        ~alike.shown
    ].all()
    for grid in ((12, 12), (8, 8), (5, 7)):
        board, empty = gestalt.occluded(scene, grid), gestalt.occluded(scene, grid, present=False)
        gap, ground = (
            gestalt.occluded(scene, grid, board=False),
            gestalt.occluded(scene, grid, present=False, board=False),
        )
        hidden = board.cells("hidden", grid)
        assert (
            (hidden.any() or scene.things[0].category == "key")
            and board.shown.any()
            and not empty.shown.any()
        )
        cell = hidden[np.ix_(*(np.arange(144) * n // 144 for n in grid))]
        assert (board.pixels == gestalt.BOARD)[cell].all(), (
            "a hidden patch holds not one pixel of the thing"
        )
        assert (board.hidden == empty.hidden).all() and (board.pixels == empty.pixels)[cell].all()
        assert (gap.pixels == ground.pixels)[cell].all()
        assert (board.pixels == empty.pixels)[~board.shown].all() and (
            board.pixels == scene.pixels
        )[board.shown].all()
        assert ((board.shown | board.hidden) == scene.masks[0]).all() and not (
            board.shown & board.hidden
        ).any()


def test_unlike_quarters_are_all_unlike(monkeypatch):
    scene = gestalt.lone(5)
    own, a, b, c = (
        (scene.things[0].colour, scene.things[0].texture),
        ("red", "plain"),
        ("red", "striped"),
        ("blue", "plain"),
    )
    assert own not in (a, b, c)
    drawn = iter([own, a, a, b, own, c, "not drawn"])
    monkeypatch.setattr(gestalt, "dress", lambda *args: next(drawn))
    gestalt.patched(scene, alike=False)
    assert list(drawn) == ["not drawn"], "three more looks were taken, and none of them twice"


def test_gestalt_probes_are_the_same_each_time_and_refuse_bad_seeds():
    assert (
        gestalt.patched(gestalt.lone(5), alike=False).pixels
        == gestalt.patched(gestalt.lone(5), alike=False).pixels
    ).all()
    assert gestalt.lone(5).things != gestalt.lone(5, "train").things
    with pytest.raises(TypeError, match="whole number"):
        gestalt.lone("5")


def test_what_probes_say(small):
    grid = small.patch_grid(world.scene(7).image)
    probes = [gestalt.occluded(gestalt.lone(seed), grid) for seed in range(4)]
    read = stages.read(small, probes, depths=[1, 3])
    for which in ("shown", "hidden"):
        cells = np.array([probe.cells(which, grid) for probe in probes])
        word = read.words[0, 1][cells[0]][0]  # a word that is surely said somewhere
        value, low, high = stages.says(
            small, probes, which, lambda thing, word=word: [word], [1, 3]
        )
        expected = ((read.words == word) & cells[:, None]).sum((0, 2, 3)) / cells.sum()
        assert (
            np.allclose(value, expected)
            and value[1] > 0
            and (low <= value).all()
            and (value <= high).all()
        )

"""What training is shown: words that all exist, labels and told scenes that are true, batches that
are a function of the step."""

import random

import numpy as np
import pytest
import torch

from closeness import SAME, apart
from whatwhere import world
from whatwhere.book.training import ORGANISMS, build, data, stages
from whatwhere.book.training.towers import Tower

SIDES = {"toy-llava": 12, "toy-qwen2vl": 8}  # visual tokens a side


@pytest.mark.parametrize("name", ORGANISMS)
def test_the_vocabulary_has_every_word_that_can_be_said(name):
    pages, known = data.Pages(name), build.tokenizer(name)
    said = {
        word
        for kind in ("category", "attribute", "background", "character")
        for word in world.words_of(kind)
    }
    said |= {data.PREFIX[name], "color", "What COLOUR is the mug?"}
    for scene in (s for split in world.SPLITS for s in world.scenes(split, 150)):
        kinds = [world.existence(scene, kind) for kind in ("random", "popular", "adversarial")]
        relations = [world.relation_question(scene, 0, i) for i in range(1, len(scene.things))]
        for question in [*world.questions(scene), *sum(kinds, []), *filter(None, relations)]:
            said |= {" ".join(data.segment(name, question.text, question.answer))}
    ids = known(sorted(said), add_special_tokens=False)["input_ids"]
    assert known.unk_token_id not in {i for text in ids for i in text}
    # what the world lacks has no word
    assert pages.ids("is there a cat ?").count(known.unk_token_id) == 1
    answer = world.description(world.scene(7))
    assert known.decode(pages.ids(answer)) == answer
    words = build.vocabulary(name)
    assert (
        len(words)
        == len(set(words))
        == len(known)
        == build.model(name, layers=1, blocks=1).lm_head.weight.shape[0]
    )
    text = known.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"},
            {"type": "text", "text": "how many objects are there ?"}]}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    trained_on = data.PREFIX[name] + known.convert_ids_to_tokens(
        build.model(name, layers=1, blocks=1).config.image_token_id
    )
    assert pages.ids(text) == pages.ids(
        trained_on + data.segment(name, "how many objects are there ?", "")[0]
    )


def test_labels_say_what_a_window_shows():
    names, rnd = data.label_names(), random.Random(0)
    assert len(names) == len(set(names))
    for scene in world.scenes("dev", 60):
        top, left, height, width = rnd.choice(
            [(0, 0, 144, 144), (24, 36, 60, 60), (60, 72, 72, 54)]
        )
        found = dict(zip(names, data.labels(scene, top, left, height, width), strict=True))
        window = np.s_[top : top + height, left : left + width]
        shares = [
            mask[window].sum() / t.silhouette.sum() for mask, t in zip(scene.masks, scene.things)
        ]
        for name, value in found.items():
            if name in world.BACKGROUNDS:
                assert value == (name == scene.background)
                continue
            word, _, place = name.partition("@")
            said = [
                t.text[int(place) - 1] == word
                if place and t.text
                else word in (t.category, t.colour, t.texture)
                for t in scene.things
            ]
            most = max([share for share, so in zip(shares, said) if so], default=0)
            assert value == (1 if most >= 0.5 else 0 if most < 0.1 else -1), (scene.seed, name)


@pytest.mark.parametrize("side", [12, 8])
def test_told_scenes_are_true(side):
    rnd, kinds = random.Random(0), set()
    for scene in world.scenes("train", 60):
        cells, cover = (
            data.grid_words(scene, side, side, rnd),
            scene.cover(side, side).reshape(-1, side * side),
        )
        letters = {((y0 + y1) // 2 * side // 144, (x0 + x1) // 2 * side // 144): c
                   for t in scene.things for c, (x0, y0, x1, y1) in t.letters}  # fmt: skip
        assert len(cells) == side**2 and len(letters) == len(scene.sign or "")
        for i, words in enumerate(cells):
            owner = cover[:-1, i].argmax()
            if divmod(i, side) in letters:
                assert words == [letters[divmod(i, side)]]
            elif cover[owner, i] < data.CELL:
                assert words in ([scene.background], ["."])
            else:
                thing = scene.things[owner]
                own = [w for w in (thing.category, thing.colour, thing.texture) if w]
                assert sorted(words) == sorted(own)
                kinds.add(words.index(own[0]))
    assert kinds == {0, 1, 2}  # the category comes first, second and third


@pytest.mark.parametrize("name", ORGANISMS)
def test_a_batch_is_a_function_of_stage_and_step(name):
    for stage, start in (("text", 1), ("close-ups", 2), ("vision", 3), ("align", 4), ("tune", 5)):
        once, again = (data.Batches(name, stage, 9, 3)[4] for _ in range(2))
        assert all(torch.equal(*map(torch.as_tensor, (once[k], again[k]))) for k in once)
        scenes = list(world.scenes("train", 3, start * 10_000_000 + 4 * 3))
        if stage in ("vision", "align", "tune"):
            assert torch.equal(once["pixels"], data.stack(scenes))
        if stage == "vision":
            for at, first, second, relation in once["pairs"].tolist():
                a, b = (scenes[at].find(world.CATEGORIES[i]) for i in (first, second))
                assert world.relation(a, b) == data.RELATIONS[relation]
            related = [
                world.relation_question(s, i, j)
                for s in scenes
                for i in range(len(s.things))
                for j in range(len(s.things))
                if i != j and not {s.things[i].text, s.things[j].text} - {None}
            ]
            assert len(once["pairs"]) == sum(q is not None for q in related) > 0
        if stage == "close-ups":
            patch, side = build.PATCH[name], data.CLOSE_UP[name] * build.PATCH[name]
            for k, (window, (row, column), thing) in enumerate(
                zip(once["pixels"], once["corner"] * patch, once["thing"])
            ):
                scene = scenes[k // 4]
                assert torch.equal(
                    window, data.stack([scene])[0, :, row : row + side, column : column + side]
                )
                index = next(
                    i for i, t in enumerate(scene.things) if t.category == data.label_names()[thing]
                )
                assert (
                    scene.masks[index][row : row + side, column : column + side].sum()
                    > 0.3 * scene.masks[index].sum()
                )
        if stage == "text":
            # earlier ones may be told more coarsely
            last = data.Batches(name, stage, 9, 3)[8]["grid"]
            assert last.shape == (3, SIDES[name] ** 2, 3) and (last[..., 0] >= 0).all()
            blurs = [data.Batches(name, stage, 10, 1)[step]["blur"] for step in range(10)]
            assert blurs == sorted(blurs) and blurs[:3] == [0, 0, 0] and 0 < blurs[3] < blurs[5] < 1
            assert blurs[7:] == [1, 1, 1]
    mixed = data.Batches(name, "tune", 9, 3, text_every=4)
    assert ["grid" in mixed[step] for step in range(9)] == [step % 4 == 0 for step in range(9)]
    assert mixed[4]["grid"].shape == (3, SIDES[name] ** 2, 3) and mixed[4]["blur"] == 1
    assert torch.equal(mixed[5]["pixels"], data.Batches(name, "tune", 9, 3)[5]["pixels"])


def test_a_scene_is_told_clearly_or_indistinctly():
    tower = Tower(build.model("toy-llava", layers=1, blocks=1), "toy-llava")
    table = tower.lm.get_input_embeddings().weight
    grid = torch.tensor([[[5, 6, -1], [7, -1, -1]] * 600])
    clear = stages.told(tower, grid)
    assert apart(clear[0, ::2], table[5:7].mean(0).expand(600, -1)) < SAME
    assert apart(clear[0, 1::2], table[7].expand(600, -1)) < SAME
    one, again, other = (stages.told(tower, grid, 1, seed) for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.allclose(one, other)
    offset = (one - clear)[0, 1::2].mean(0)  # of the scene, in every cell
    heard = torch.cdist(
        one[0] - offset, torch.stack([0 * table[5], table[5], table[5:7].mean(0), table[7]])
    ).argmin(1)
    silent, first, both = ((heard[::2] == i).float().mean() for i in range(3))
    # some cells say nothing, some lose a word
    assert 0.05 < silent < 0.2 and 0.3 < first < 0.6 and 0.3 < both < 0.6
    # an only word is never left out, though its cell may be silent
    assert set(heard[1::2].tolist()) == {0, 3}


@pytest.mark.parametrize("name", ORGANISMS)
def test_rows_ask_for_the_answers_and_nothing_else(name):
    pages = data.Pages(name)
    asked = data.draw_questions(world.scene(7), random.Random(0))
    assert len(asked) == len(set(asked)) == data.QUESTIONS
    rows = pages.rows([asked, asked[:1]])
    for i, questions in enumerate((asked, asked[:1])):
        for k, question in enumerate(questions, 1):
            own = rows["segment"][i] == k
            target, ids = rows["target"][i][own], rows["ids"][i][own]
            text, answer = data.segment(name, question.text, question.answer)
            assert pages.tokenizer.decode(target[target >= 0]) == answer
            assert ids.tolist() == pages.ids(f"{text} {answer}")[:-1] and rows["offset"][i][
                own
            ].tolist() == list(range(len(ids)))
            # each answer token is fed in next
            assert torch.equal(ids[1:][target[:-1] >= 0], target[:-1][target[:-1] >= 0])
    padding = rows["segment"] == -1
    assert (rows["target"][padding] == -100).all() and padding[1].any()

"""The batched forward that training uses is the families' own arithmetic."""

import copy

import pytest
import torch
from PIL import Image

from closeness import SAME, apart
from whatwhere import world
from whatwhere.book.training import ORGANISMS, build, data, stages
from whatwhere.book.training.towers import Tower
from whatwhere.models import VLM

SIDES = {"toy-llava": (12, 12), "toy-qwen2vl": (16, 8)}  # patches and visual tokens a side


@pytest.fixture(scope="module", params=ORGANISMS)
def tower(request):
    made = Tower(build.model(request.param, seed=1, layers=2, blocks=2).eval(), request.param)
    made.start()
    with torch.no_grad():
        # it starts silent, and silence would pass every comparison
        for p in made.connector.parameters():
            p.normal_(0, 0.1)
    return made


@pytest.fixture(scope="module")
def vlm(tower):
    return VLM(
        tower.model, build.tokenizer(tower.name), build.image_processor(tower.name), tower.name
    )


def raster(rows, columns):
    """Raster places of Qwen2-VL's patches, which come in blocks of two by two."""
    return (
        torch.arange(rows * columns)
        .reshape(rows // 2, 2, columns // 2, 2)
        .transpose(1, 2)
        .flatten()
    )


def test_words_look_at_words_like_themselves_at_first(tower):
    for layer in tower.lm.layers:
        assert torch.equal(layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight)
        # and may part
        assert layer.self_attn.q_proj.weight.data_ptr() != layer.self_attn.k_proj.weight.data_ptr()


@torch.no_grad()
def theirs(vlm, images, window=None):
    """(patch states, visual tokens) of whole pictures by the untouched vision model, in raster
    order."""
    pixels = vlm.adapter.pixels(images)
    if vlm.family == "llava":
        states = vlm.model.model.vision_tower(
            pixels["pixel_values"], output_hidden_states=True
        ).hidden_states[-1][:, 1:]
        return states, vlm.model.model.multi_modal_projector(states)
    grid = pixels["image_grid_thw"]
    rows, columns = grid[0, 1:].tolist()
    out = vlm.model.model.visual(pixels["pixel_values"], grid)
    states = out.last_hidden_state.reshape(len(images), rows * columns, -1)[
        :, raster(rows, columns).argsort()
    ]
    return states, out.pooler_output.reshape(len(images), rows * columns // 4, -1)


@torch.no_grad()
def test_the_tower_is_the_families_own_vision(tower, vlm):
    scenes = list(world.scenes("test", 3))
    states, tokens = theirs(vlm, [s.image for s in scenes])
    side, visual = SIDES[tower.name]
    ours = tower.patches(data.normalise(data.stack(scenes)))
    assert (
        ours.shape == (3, side**2, build.VISION_WIDTH) and apart(ours, states) < SAME < ours.std()
    )
    ours = tower.tokens(ours, side, side)
    assert ours.shape == (3, visual**2, 96) and apart(ours, tokens) < SAME < ours.std()


@torch.no_grad()
def test_packed_questions_get_the_logits_they_get_alone(tower, vlm):
    scenes, pages = list(world.scenes("test", 2, 4)), data.Pages(tower.name)
    asked = [world.questions(scenes[0]), world.questions(scenes[1])[:3]]
    states = tower.patches(data.normalise(data.stack(scenes)))
    tokens = tower.tokens(states, *2 * SIDES[tower.name][:1])
    rows = pages.rows(asked)
    packed, _, before = stages.language_logits(tower, pages, rows, tokens)
    for i, (scene, questions) in enumerate(zip(scenes, asked)):
        for k, question in enumerate(questions, 1):
            mine = packed[i, before:][rows["segment"][i] == k]
            alone, target, _ = stages.language_logits(
                tower, pages, pages.rows([[question]]), tokens[i : i + 1]
            )
            assert apart(mine, alone[0, before:]) < SAME
            # the question's own tokens; the last of them starts the answer
            n = (target[0] == -100).sum() + 1
            whole = vlm.model(**vlm.prepare(scene.image, question.text)).logits[0]
            assert apart(mine[:n], whole[-n:]) < SAME < mine.std()
            assert apart(mine[:n], vlm.logits(scene.image, question.text)[-n:]) < SAME


@torch.no_grad()
def test_windows_know_where_they_are(tower, vlm):
    """A window is a smaller picture whose patches have the positions of their places in the
    whole."""
    batch = data.Batches(tower.name, "close-ups", 4, 2)[1]
    windows, corner = batch["pixels"], batch["corner"]
    n, patch = data.CLOSE_UP[tower.name], tower.patch
    assert (
        windows.shape == (8, 3, n * patch, n * patch)
        and corner.min() >= 0
        and corner.max() <= SIDES[tower.name][0] - n
    )
    ours = tower.patches(data.normalise(windows), corner)
    whole = data.normalise(data.stack([world.scene(7)]))
    assert torch.equal(tower.patches(whole, torch.zeros(1, 2, dtype=int)), tower.patches(whole))
    # rotations know differences only: where the window lies makes none
    if tower.name == "toy-qwen2vl":
        pictures = [Image.fromarray(window.permute(1, 2, 0).numpy()) for window in windows]
        assert apart(ours, theirs(vlm, pictures)[0]) < SAME
        return
    for window, (row, column), found in zip(windows, corner.tolist(), ours):
        config = copy.deepcopy(tower.vision.config)
        config.image_size = n * patch
        small, weights = type(tower.vision)(config).eval(), tower.vision.state_dict()
        table = next(k for k in weights if k.endswith("position_embedding.weight"))
        places = [0] + [1 + 12 * (row + i) + column + j for i in range(n) for j in range(n)]
        small.load_state_dict({**weights, table: weights[table][places]})
        states = small(data.normalise(window[None]), output_hidden_states=True).hidden_states[-1][
            0, 1:
        ]
        assert apart(found, states) < SAME

"""Small organisms: a Qwen2-VL that learns *where* from scratch in three minutes, so that there can
be many of them.

What they share with `toy-qwen2vl` is the class, the world and the language model, which they start
from. Their vision tower starts at random and is small: three blocks, four heads of 16 dimensions,
so four frequencies an axis. To be quick about *what*, every patch is told what it shows (colour,
texture, category, ground); nothing is told about *where* but the words of captions, "the red thing
is left of the blue one". Things go by their colour, which a patch knows at once.
"""

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from tqdm.auto import tqdm

from ... import world
from ...files import first_line
from ...loading import load
from ...world.question_bank import NUMBERS, Question, article
from . import build
from .checkpoints import save_whole
from .data import RELATIONS, Pages, normalise, stack
from .stages import Stage, advance, language_loss, optimizers, trainable
from .towers import Tower

NAME, SIDE = "toy-qwen2vl", world.SIZE // build.PATCH["toy-qwen2vl"]
BLOCKS, WIDTH = 3, 64
WORDS = (*world.COLOURS, *world.TEXTURES, *world.CATEGORIES, *world.BACKGROUNDS)
COLOURS = tuple(world.COLOURS)
PRETRAINING = (
    Stage("vision", 400, 16, rate=2e-3, muon=5e-3, warm=20),
    Stage("tune", 200, 12, rate=1e-3, muon=1e-3, warm=20),
)
FINE_TUNING = Stage("fine-tune", 120, 12, rate=5e-4, muon=5e-4, warm=10)


@dataclass
class Small:
    """A small organism: its towers, the head that reads its patches during `vision`, its seed, what
    it is asked in training and what in an exam: functions of (scene, rnd)."""

    tower: Tower
    reader: nn.Module
    seed: int
    ask: Callable
    examine: Callable

    @property
    def frequencies(self) -> torch.Tensor:
        """The vision tower's `inv_freq`: (4,), or (2, 4) where rows and columns turn at different
        rates."""
        return self.tower.vision.rotary_pos_emb.inv_freq

    @frequencies.setter
    def frequencies(self, values: torch.Tensor) -> None:
        self.tower.vision.rotary_pos_emb.inv_freq = torch.as_tensor(values, dtype=torch.float32)

    @property
    def pairs(self) -> int:
        """How many frequencies each axis has."""
        return self.frequencies.shape[-1]

    def parts(self) -> nn.ModuleDict:
        return nn.ModuleDict({"model": self.tower.model, "reader": self.reader})


class Reader(nn.Module):
    """Reads words off each patch, and a relation off the patches that speak for two colours. Only
    `vision` uses it."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, len(WORDS))
        nn.init.constant_(self.score.bias, -2.5)  # most words are not true of most patches
        self.relation = nn.Linear(2 * width, len(RELATIONS))
        nn.init.zeros_(self.relation.weight)
        nn.init.zeros_(self.relation.bias)

    def forward(
        self, states: torch.Tensor, pairs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (batch, patches, words), and (pairs, relations) of `pairs` (pairs, 3 or more):
        picture, colour, colour."""
        states = self.norm(states)
        scores = self.score(states)
        speaks = (3 * scores[..., : len(COLOURS)]).softmax(1)
        things = torch.einsum("bnc,bnd->bcd", speaks, states)
        return scores, self.relation(
            torch.cat([things[pairs[:, 0], pairs[:, 1]], things[pairs[:, 0], pairs[:, 2]]], 1)
        )


def sprout(seed: int = 0) -> Small:
    """A `Small` before it has learnt anything, but for its language model, which is toy-qwen2vl's.

    Queries and keys get large random biases: heads that look in some direction whatever they see.
    Without them *where* is learnt ten times later, whatever the frequencies are.
    """
    made = build.model(NAME, seed, blocks=BLOCKS, vision_width=WIDTH)
    # all time: the LM sees no rows and columns, and no places but the order of the tokens
    made.model.language_model.rotary_emb.mrope_section = made.config.text_config.rope_parameters[
        "mrope_section"
    ] = [24, 0, 0]
    tower = Tower(made, NAME)
    tower.start()
    tower.lm.load_state_dict(load(NAME, "cpu", "float32").model.model.language_model.state_dict())
    for block in tower.blocks:
        nn.init.normal_(block.attn.qkv.bias[: 2 * WIDTH], std=1.5)
    return Small(tower, Reader(WIDTH), seed, questions, questions)


def unique(scene: world.Scene) -> list[int]:
    """Indices of the things whose colour no other thing of the scene has."""
    worn = [thing.colour for thing in scene.things]
    return [n for n, colour in enumerate(worn) if colour and worn.count(colour) == 1]


def relation_question(scene: world.Scene, a: int, b: int) -> Question | None:
    """Where is thing `a` relative to thing `b` (indices), each called by its colour? None where no
    single word is right."""
    word, one, two = (
        world.relation(scene.things[a], scene.things[b]),
        scene.things[a].colour,
        scene.things[b].colour,
    )
    text = f"where is the {one} object relative to the {two} object ?"
    return Question("relation", text, word, (a, b)) if word else None


def questions(scene: world.Scene, rnd: random.Random) -> list[Question]:
    """Questions about a scene whose things go by their colour: one or two of every family that the
    scene gives ground for."""
    own, worn = unique(scene), [thing.colour for thing in scene.things if thing.colour]
    free, here = [c for c in COLOURS if c not in worn], rnd.choice(worn)
    found = [Question("existence", f"is there {article(colour)} object ?", answer)
             for colour, answer in ((here, "yes"), (rnd.choice(free), "no"))]  # fmt: skip
    if own:
        thing = scene.things[rnd.choice(own)]
        found.append(
            Question("texture", f"what texture is the {thing.colour} object ?", str(thing.texture))
        )
        found.append(Question("category", f"what is the {thing.colour} object ?", thing.category))
    found.append(Question("background", "what is the background ?", scene.background))
    counted = rnd.choice(COLOURS) if rnd.random() < 0.3 else here
    found.append(
        Question(
            "counting", f"how many {counted} objects are there ?", NUMBERS[worn.count(counted)]
        )
    )
    asked = [relation_question(scene, a, b) for a, b in itertools.permutations(own, 2)]
    asked = [question for question in asked if question]
    return found + rnd.sample(asked, min(3, len(asked)))


def captions(scene: world.Scene) -> list[tuple[int, int, int]]:
    """What captions say of where: (colour, colour, relation) as indices, of all pairs that go by
    their colours."""
    said = [
        (a, b, relation_question(scene, a, b)) for a, b in itertools.permutations(unique(scene), 2)
    ]
    return [
        (
            COLOURS.index(scene.things[a].colour),
            COLOURS.index(scene.things[b].colour),
            RELATIONS.index(q.answer),
        )
        for a, b, q in said
        if q
    ]


def shown(scene: world.Scene, side: int = SIDE) -> torch.Tensor:
    """(side², words) float: what each cell of a grid shows, in raster order; the ground where no
    thing covers 30% of it."""
    cover = scene.cover(side, side)[:-1].reshape(len(scene.things), -1)
    owner = np.where(cover.max(0) >= 0.3, cover.argmax(0), -1)
    told = [(thing.colour, thing.texture, thing.category) for thing in scene.things] + [
        (scene.background,)
    ]
    truth = np.array([[word in words for word in WORDS] for words in told], np.float32)
    return torch.from_numpy(truth[owner])


def losses(
    small: Small, stage: Stage, step: int, pages: Pages
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of one step, and the share of relations (`vision`) or of answers' words that are
    right."""
    first = (
        200_000_000
        + small.seed * 1_000_000
        + {"vision": 0, "tune": 300_000, "fine-tune": 600_000}[stage.name]
    )
    scenes = list(world.scenes("train", stage.batch, first + step * stage.batch))
    states = small.tower.patches(normalise(stack(scenes)))
    if stage.name == "vision":
        pairs = torch.tensor(
            [(n, *said) for n, scene in enumerate(scenes) for said in captions(scene)]
        ).reshape(-1, 4)
        scores, related = small.reader(states, pairs)
        loss = 10 * F.binary_cross_entropy_with_logits(
            scores, torch.stack([shown(scene) for scene in scenes])
        )
        right = (related.argmax(1) == pairs[:, 3]).float().mean()
        told = torch.stack([shown(scene, SIDE // 2) for scene in scenes])
        table = small.tower.lm.get_input_embeddings().weight.detach()[pages.ids(" ".join(WORDS))]
        said = small.tower.tokens(states.detach(), SIDE, SIDE)
        loss = (
            loss
            + F.mse_loss(said, (told / told.sum(-1, keepdim=True)) @ table) / table.pow(2).mean()
        )
        return loss + 0.5 * F.cross_entropy(related, pairs[:, 3]), right
    rnd = random.Random(f"small/{small.seed}/{stage.name}/{step}")
    batch = pages.rows([small.ask(scene, rnd) for scene in scenes])
    return language_loss(small.tower, pages, batch, small.tower.tokens(states, SIDE, SIDE))


def learn(
    small: Small,
    stage: Stage,
    watch: Callable[[Small], dict[str, Any]] | None = None,
    every: int = 40,
) -> list[dict[str, Any]]:
    """Train one stage. Returns a list of {"step", "loss", "right"}, means over `every` steps, and
    what watch(small) says then."""
    both = trainable(small.tower, small.reader, stage.name.replace("fine-", ""))
    for p in small.parts().parameters():
        p.requires_grad_(False)
    for p in itertools.chain(*both):
        p.requires_grad_(True)
    tools, pages, log, seen = optimizers(*both, stage), Pages(NAME), [], []
    for step in tqdm(
        range(stage.steps),
        desc=f"small organism {small.seed}, {stage.name}",
        leave=False,
        mininterval=5,
    ):
        small.tower.model.train()
        loss, right = losses(small, stage, step, pages)
        advance(tools, both[1], loss, stage, step)
        small.tower.model.eval()
        seen.append((loss.item(), right.item()))
        if (step + 1) % every == 0 or step + 1 == stage.steps:
            mean_loss, mean_right = np.mean(seen, 0).tolist()
            entry = {"step": step + 1, "loss": round(mean_loss, 4), "right": round(mean_right, 4)}
            log.append(entry | (watch(small) if watch else {}))
            seen = []
    return log


def controlled(
    which: str, spacing: str, split: str, n: int, size: int = world.SIZE, start: int = 0
) -> list[tuple[world.Scene, list[Question]]]:
    """`n` controlled sets whose two things differ in colour, for `evaluate.exact`: four scenes a
    set, a question each."""
    items, seeds = [], itertools.count(start)
    while len(items) < 4 * n:
        scenes = world.controlled(which, 1, spacing, split, next(seeds), size)[0].scenes
        if len({thing.colour for thing in scenes["left"].things}) == 2:
            asked = [(scene, relation_question(scene, 0, 1)) for scene in scenes.values()]
            items += [(scene, [question]) for scene, question in asked if question]
    return items


def keep(small: Small, file: str | Path) -> None:
    """Write all weights, whole or not at all."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: each.detach().contiguous() for name, each in small.parts().state_dict().items()
    }
    tensors.pop("model.lm_head.weight", None)  # tied to the embedding
    save_whole(tensors, file, {"seed": json.dumps(small.seed)})


def reopen(file: str | Path, seed: int) -> Small:
    """The `Small` that was kept in a file. Raises ValueError where that is damaged."""
    small = sprout(seed)
    try:
        tensors = load_file(file)
        # one and the same
        tensors["model.lm_head.weight"] = tensors["model.model.language_model.embed_tokens.weight"]
        small.parts().load_state_dict(tensors)
    except Exception as error:  # safetensors and torch each raise their own for a broken file
        raise ValueError(
            f"'{file}' is damaged ({first_line(error)}); delete it, and it is trained again."
        ) from None
    return small

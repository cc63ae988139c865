"""Batches of the world: a function of (stage, step), so that a resumed run sees what an unbroken
one would have seen."""

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ... import world
from .build import MERGE, PATCH, tokenizer

STAGES = ("text", "close-ups", "vision", "align", "tune")
QUESTIONS = 8  # a picture; they share its visual tokens and do not see each other
CLOSE_UP = {"toy-llava": 5, "toy-qwen2vl": 6}  # patches a side of a window around one thing
COARSE = 6  # cells a side of the first rasters of words
CELL = 0.3  # share of a grid cell a thing must cover for the cell to speak of it
WEIGHTS = {
    "existence": 2,
    "colour": 2,
    "texture": 2,
    "category": 2,
    "background": 0.5,
    "reading": 1.5,
    "counting": 1,
    "relation": 3,
    "description": 0.6,
}


def label_names() -> list[str]:
    """What the image-level labels say, in order: things, colours, textures, ground, and a sign's
    first and second letter."""
    letters = [f"{c}@{i}" for i in (1, 2) for c in world.CHARACTERS]
    return [*world.CATEGORIES, *world.COLOURS, *world.TEXTURES, *world.BACKGROUNDS, *letters]


_AT = {n: i for i, n in enumerate(label_names())}
RELATIONS = tuple(dict.fromkeys((*world.RELATIONS_A, *world.RELATIONS_B)))


def relations(scene: world.Scene) -> list[tuple[int, int, int]]:
    """What captions of a scene say of two things, as in "a mug left of a box": a list of (category,
    category, relation).

    Indices into `world.CATEGORIES` and `RELATIONS`; a pair of which no single word is right is left
    out.
    """
    return [
        (
            world.CATEGORIES.index(a.category),
            world.CATEGORIES.index(b.category),
            RELATIONS.index(word),
        )
        for a, b in itertools.permutations(scene.things, 2)
        if "sign" not in (a.category, b.category) and (word := world.relation(a, b))
    ]


def labels(
    scene: world.Scene,
    top: int = 0,
    left: int = 0,
    height: int | None = None,
    width: int | None = None,
) -> np.ndarray:
    """`(labels,)` float of a window of a scene: 1 for what it shows, 0 for what it does not, -1 for
    what it shows in part.

    A thing counts as shown with at least half, as not shown with less than a tenth of its
    silhouette in the window.
    """
    height, width = height or scene.height, width or scene.width
    seen = scene.owner[top : top + height, left : left + width]
    counts = np.bincount(seen.ravel() + 1, minlength=len(scene.things) + 1)[1:]
    truth = np.zeros(len(_AT), np.float32)
    truth[_AT[scene.background]] = 1
    for thing, count in sorted(zip(scene.things, counts, strict=True), key=lambda pair: pair[1]):
        share = count / thing.silhouette.sum()
        if share < 0.1:
            continue
        words = [w for w in (thing.category, thing.colour, thing.texture) if w]
        words += [f"{c}@{i}" for i, c in enumerate(thing.text or "", 1)]
        for word in words:
            truth[_AT[word]] = 1 if share >= 0.5 else max(truth[_AT[word]], 0) or -1
    return truth


def grid_words(scene: world.Scene, rows: int, columns: int, rnd: random.Random) -> list[list[str]]:
    """The scene told as a raster of words: `rows * columns` lists of words, each the words of what
    its cell shows.

    An object's cell says its category, its colour and its texture, in random order; a sign's cell
    says the letter in it, or "sign"; an empty cell says the ground or, as often, just a full stop.
    """
    cover = scene.cover(rows, columns)
    best = cover[:-1].reshape(len(scene.things), -1)
    owner, share = best.argmax(0), best.max(0)
    cells = []
    for i, s in zip(owner.tolist(), share.tolist(), strict=True):
        if s < CELL:
            cells.append([scene.background if rnd.random() < 0.5 else "."])
        else:
            thing = scene.things[i]
            words = [w for w in (thing.category, thing.colour, thing.texture) if w]
            cells.append(rnd.sample(words, len(words)))
    for thing in scene.things:
        for letter, (x0, y0, x1, y1) in thing.letters:
            row, column = (
                (y0 + y1) * rows // (2 * scene.height),
                (x0 + x1) * columns // (2 * scene.width),
            )
            if 0 <= row < rows and 0 <= column < columns:
                at = row * columns + column  # a coarse cell may hold both letters
                cells[at] = [w for w in cells[at] if w in world.CHARACTERS] + [letter]
    return cells


def draw_questions(
    scene: world.Scene, rnd: random.Random, n: int = QUESTIONS
) -> list[world.Question]:
    """`n` questions drawn by family weight, with repetition of families but not of questions."""
    pool = []
    for family in rnd.choices(list(WEIGHTS), list(WEIGHTS.values()), k=3 * n):
        found = world.questions(scene, (family,), seed=rnd.random())
        if found:
            question = rnd.choice(found)
            if question not in pool:
                pool.append(question)
        if len(pool) == n:
            break
    return pool


def segment(name: str, question: str, answer: str) -> tuple[str, str]:
    """The words after the visual tokens: rest of the turn, the question, the assistant's turn.
    Returns (asked, answered)."""
    if name == "toy-llava":
        return f"{question} assistant :", f"{answer} </s>"
    return f"<|vision_end|> {question} <|im_end|> <|im_start|> assistant", f"{answer} <|im_end|>"


PREFIX = {"toy-llava": "<s> user :", "toy-qwen2vl": "<|im_start|> user <|vision_start|>"}


class Pages:
    """Turns questions into padded rows of ids, segment numbers, offsets and targets."""

    def __init__(self, name: str):
        self.name, self.tokenizer = name, tokenizer(name)
        self.prefix = self.ids(PREFIX[name])
        self.cache = {}

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _segment(self, question):
        key = (question.text, question.answer)
        if key not in self.cache:
            asked, answered = segment(self.name, *key)
            self.cache[key] = self.ids(asked), self.ids(answered)
        return self.cache[key]

    def grid(self, told: Iterable[Iterable[Sequence[str]]]) -> torch.Tensor:
        """Ids `(batch, cells, 3)` of scenes told by `grid_words`, each cell's words in order, -1
        after the last."""
        table = self.tokenizer.get_vocab()
        return torch.tensor(
            [[([table[w] for w in cell] + [-1, -1])[:3] for cell in cells] for cells in told]
        )

    def rows(self, scenes_questions: Iterable[Sequence[world.Question]]) -> dict[str, torch.Tensor]:
        """`ids`, `segment`, `offset`, `target`, each `(batch, text)`; target -100 where no answer
        is due next."""
        made = []
        for questions in scenes_questions:
            ids, seg, off, target = [], [], [], []
            for k, question in enumerate(questions, 1):
                asked, answered = self._segment(question)
                both = asked + answered
                ids += both[:-1]
                seg += [k] * (len(both) - 1)
                off += range(len(both) - 1)
                target += [-100] * (len(asked) - 1) + answered
            made.append((ids, seg, off, target))
        length = max(len(ids) for ids, *_ in made)
        fill = (0, -1, 0, -100)
        stacked = [[list(part) + [f] * (length - len(part)) for part in column]
                   for column, f in zip(zip(*made, strict=True), fill, strict=True)]  # fmt: skip
        return dict(
            zip(("ids", "segment", "offset", "target"), map(torch.tensor, stacked), strict=True)
        )


class Batches(torch.utils.data.Dataset):
    """Item `step` is one batch of a stage: 'text', 'close-ups', 'vision', 'align' or 'tune'; see
    `stages.Stage`. Another `seed` draws other scenes and other questions."""

    def __init__(
        self, name: str, stage: str, steps: int, size: int, text_every: int = 0, seed: int = 0
    ):
        self.name, self.stage, self.seed = name, stage, seed
        self.steps, self.size, self.text_every = steps, size, text_every
        self.pages = Pages(name)

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        # Stages and seeds draw different scenes; 10 million a stage is more than any can use.
        stage = 1 + STAGES.index(self.stage) + 10 * self.seed
        first = stage * 10_000_000 + step * self.size
        of_seed = f"/{self.seed}" if self.seed else ""
        rnd = random.Random(f"batch/{self.name}/{self.stage}/{step}{of_seed}")
        scenes = list(world.scenes("train", self.size, first))
        batch: dict[str, Any]
        if self.stage == "close-ups":
            return self._close_ups(scenes, rnd)
        if self.stage == "vision":
            truth = torch.from_numpy(np.stack([labels(s) for s in scenes]))
            pairs = [(i, *pair) for i, s in enumerate(scenes) for pair in relations(s)]
            return {
                "pixels": stack(scenes),
                "labels": truth,
                "pairs": torch.tensor(pairs).reshape(-1, 4),
            }
        batch = self.pages.rows([draw_questions(s, rnd) for s in scenes])
        if self.stage == "text" or (self.text_every and step % self.text_every == 0):
            # First told coarsely, in few words, then in as many words as a picture has visual
            # tokens.
            coarse = self.stage == "text" and step < 0.6 * self.steps
            side = COARSE if coarse else world.SIZE // PATCH[self.name] // MERGE[self.name]
            batch["grid"] = self.pages.grid([grid_words(s, side, side, rnd) for s in scenes])
            # Clearly at first: words are looked up only by an LM that can tell them.
            batch["blur"] = (
                min(1, max(0, step / self.steps - 0.25) / 0.4) if self.stage == "text" else 1
            )
            batch["seed"] = rnd.getrandbits(32)
        else:
            batch["pixels"] = stack(scenes)
        return batch

    def _close_ups(self, scenes, rnd):
        """Four windows a scene, each around one thing: things are shown one by one before they are
        shown together."""
        patch, whole = PATCH[self.name], world.SIZE // PATCH[self.name]
        side = CLOSE_UP[self.name]
        crops, truth, corners, things = [], [], [], []
        for scene in scenes:
            picture = scene.pixels
            order = rnd.sample(scene.things, len(scene.things))
            for thing in (order * 2)[:4]:
                x0, y0, x1, y1 = thing.box
                row, column = (
                    min(
                        max(round((middle + rnd.uniform(-9, 9)) / patch - side / 2), 0),
                        whole - side,
                    )
                    for middle in ((y0 + y1) / 2, (x0 + x1) / 2)
                )
                top, left, span = row * patch, column * patch, side * patch
                crops.append(picture[top : top + span, left : left + span])
                truth.append(labels(scene, top, left, span, span))
                corners.append((row, column))
                things.append(_AT[thing.category])
        return {
            "pixels": torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2),
            "labels": torch.from_numpy(np.stack(truth)),
            "corner": torch.tensor(corners),
            "thing": torch.tensor(things),
        }


def stack(scenes: Iterable[world.Scene]) -> torch.Tensor:
    """`(batch, 3, height, width)` uint8."""
    return torch.from_numpy(np.stack([s.pixels for s in scenes])).permute(0, 3, 1, 2)


def normalise(pixels: torch.Tensor, device: str | torch.device = "cpu") -> torch.Tensor:
    """uint8 to the float range the organisms' image processors give: (x / 255 - 0.5) / 0.5."""
    return pixels.to(device).float() / 127.5 - 1


def whitening(name: str, width: int, scenes: int = 300) -> torch.Tensor:
    """A first patch embedding `(width, 3, patch, patch)`: the leading principal components of
    patches, at equal strength.

    Colour carries nearly all the variance of a patch and its edges nearly none; a random projection
    would pass on colour alone, and the towers would need most of their training to find the edges
    that tell things apart.
    """
    patch = PATCH[name]
    pixels = normalise(stack(list(world.scenes("train", scenes))))
    patches = torch.nn.functional.unfold(
        pixels[:, :, 3:-patch, 3:-patch], patch, stride=patch
    ).transpose(1, 2)
    flat = patches.flatten(0, 1)
    values, vectors = torch.linalg.eigh((flat.T @ flat / len(flat)).double())
    chosen = vectors[:, -width:] / (values[-width:] + 0.02).sqrt()
    return chosen.T.float().reshape(width, 3, patch, patch)

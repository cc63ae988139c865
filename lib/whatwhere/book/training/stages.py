"""The five stages of the recipe, and the loop they share.

    text       the LM learns the world's language: scenes as rasters of words, then questions
    close-ups  the ViT learns words of windows that mostly hold one thing
    vision     the ViT learns words of whole scenes, and how two things in them stand to each other
    align      the connector alone, on questions; LM and ViT frozen
    tune       everything, on questions

In the ViT's two stages labels are of the whole image.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from ... import world
from .checkpoints import keep, resume
from .data import RELATIONS, Batches, Pages, label_names, normalise
from .muon import Muon

if TYPE_CHECKING:
    from .towers import Tower


@dataclass(frozen=True)
class Stage:
    """One stage: `steps` of `batch` scenes, peak rate of AdamW (`rate`) and of Muon (`muon`), share
    of steps that cool.

    Where `text_every` is n, one batch in n tells its scenes in words instead of showing them.
    """

    name: str
    steps: int
    batch: int
    rate: float = 1e-3
    muon: float = 5e-3
    cool: float = 0.4
    warm: int = 50
    text_every: int = 0


class Reader(nn.Module):
    """The throwaway head of the vision stages: words of a picture from its patches, and relations
    between its things.

    Each patch scores each word; the picture's score is the log-mean-exp over patches, near a mean
    at first (every patch learns) and near a maximum later (one patch that is sure is enough). A
    relation is read off the patches that speak for its two things. No patch is told where anything
    is.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, len(label_names()))
        nn.init.constant_(self.score.bias, -2.5)  # most words are absent from most pictures
        self.relation: Any = nn.utils.skip_init(nn.Linear, 2 * width, len(RELATIONS))
        nn.init.zeros_(self.relation.weight)
        nn.init.zeros_(self.relation.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.logsumexp(self.score(self.norm(states)), 1) - math.log(states.shape[1])

    def relate(self, states: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """Scores `(pairs, relations)` of `pairs` `(pairs, 3 or more)`: picture, category, category
        it is related to."""
        states = self.norm(states)
        speaks = self.score(states)[..., : len(world.CATEGORIES)].softmax(1)
        things = torch.einsum("bnc,bnd->bcd", speaks, states)
        return self.relation(
            torch.cat([things[pairs[:, 0], pairs[:, 1]], things[pairs[:, 0], pairs[:, 2]]], 1)
        )


def mask(segment: torch.Tensor, before: int) -> torch.Tensor:
    """`(batch, 1, length, length)` booleans, True where a token may look.

    Causal; a question sees the prefix and the picture (the first `before` tokens) and itself, never
    another question.
    """
    batch, text = segment.shape
    seg = torch.cat(
        [torch.zeros(batch, before, dtype=segment.dtype, device=segment.device), segment], 1
    )
    causal = torch.ones(
        before + text, before + text, dtype=torch.bool, device=segment.device
    ).tril()
    same = (seg[:, None, :] == 0) | (seg[:, None, :] == seg[:, :, None])
    return (causal & same)[:, None]


def told(tower: Tower, grid: torch.Tensor, blur: float = 0, seed: int = 0) -> torch.Tensor:
    """Input embeddings `(batch, cells, hidden)` of a raster of words `(batch, cells, 3)`: a cell is
    the mean of its words.

    With `blur` (0 … 1) a scene is told indistinctly: up to half of the words after a cell's first
    are left out, a tenth of the cells say nothing, and each scene has an offset and a noise of its
    own strength, up to twice and once as long as a word. What a ViT and a connector will say is
    never exactly a word, nor all at one place, and an LM that has met only clear words takes what
    is near one for something else entirely.
    """
    table = tower.lm.get_input_embeddings()
    generator = torch.Generator().manual_seed(seed)
    batch, n, words = grid.shape
    said = torch.rand(batch, n, words, generator=generator) >= 0.5 * blur
    said[..., 0] = True
    said = (said.to(grid.device) & (grid >= 0))[..., None]
    cells = (table(grid.clamp(min=0)) * said).sum(2) / said.sum(2)
    if not blur:
        return cells
    speaks = torch.rand(batch, n, 1, generator=generator) > 0.1 * blur
    strength = (
        blur
        * torch.rand(2, batch, 1, 1, generator=generator)
        * table.weight.detach().pow(2).mean().sqrt().cpu()
    )
    offset = 2 * strength[0] * torch.randn(batch, 1, cells.shape[2], generator=generator)
    grain = strength[1] * torch.randn(cells.shape, generator=generator)
    return cells * speaks.to(cells.device) + (offset + grain).to(cells.device)


def language_states(
    tower: Tower, pages: Pages, batch: dict[str, torch.Tensor], visual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Run the LM over prefix, visual tokens `(batch, tokens, hidden)` and questions.

    Returns (last states after the final norm, targets, number of tokens before the questions).
    """
    device = visual.device
    prefix = torch.tensor(pages.prefix, device=device)
    embed = tower.lm.get_input_embeddings()
    ids = batch["ids"].to(device)
    side = math.isqrt(visual.shape[1])
    before = len(prefix) + visual.shape[1]
    out = tower.lm(
        inputs_embeds=torch.cat([embed(prefix).expand(len(ids), -1, -1), visual, embed(ids)], 1),
        attention_mask=mask(batch["segment"].to(device), before), use_cache=False,
        position_ids=tower.positions(len(prefix), side, side, batch["offset"]).to(device),
    )  # fmt: skip
    return out.last_hidden_state, batch["target"].to(device), before


def language_logits(
    tower: Tower, pages: Pages, batch: dict[str, torch.Tensor], visual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Logits over the whole sequence, targets, and the number of tokens before the questions."""
    states, target, before = language_states(tower, pages, batch, visual)
    return tower.head(states), target, before


def language_loss(
    tower: Tower,
    pages: Pages,
    batch: dict[str, torch.Tensor],
    visual: torch.Tensor,
    grid: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the answers' tokens; where `grid` is given, of each next word of raster
    and questions too.

    Returns (loss, share of answer tokens right).
    """
    states, target, before = language_states(tower, pages, batch, visual)
    due = target >= 0
    logits = tower.head(states[:, before:][due])
    loss = F.cross_entropy(logits, target[due])
    right = (logits.argmax(-1) == target[due]).float().mean()
    if grid is not None:
        words = tower.head(states[:, len(pages.prefix) - 1 : before - 1])
        loss = loss + 0.3 * F.cross_entropy(words.flatten(0, 1), grid.flatten())
        ids, segment = batch["ids"].to(target.device), batch["segment"].to(target.device)
        inside = (segment[:, 1:] == segment[:, :-1]) & (segment[:, 1:] > 0)
        loss = loss + 0.1 * F.cross_entropy(
            tower.head(states[:, before:-1][inside]), ids[:, 1:][inside]
        )
    return loss, right


def vision_loss(
    tower: Tower, reader: Reader, batch: dict[str, torch.Tensor], device: str | torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary cross-entropy of the labels that are known; of a close-up, also which of all
    categories it shows; of a whole scene, also how its things are related.

    Returns (loss, share of the things shown that are named).
    """
    corner = batch["corner"].to(device) if "corner" in batch else None
    states = tower.patches(normalise(batch["pixels"], device), corner)
    scores = reader(states)
    truth = batch["labels"].to(device)
    known = truth >= 0
    loss = F.binary_cross_entropy_with_logits(scores[known], truth[known])
    categories = scores[:, : len(world.CATEGORIES)]
    if "thing" in batch:
        loss = loss + 0.2 * F.cross_entropy(categories, batch["thing"].to(device))
    if len(batch.get("pairs", ())):
        pairs = batch["pairs"].to(device)
        loss = loss + 0.3 * F.cross_entropy(reader.relate(states, pairs), pairs[:, 3])
    letters = (truth[:, -2 * len(world.CHARACTERS) :] == 1).unflatten(1, (2, -1))
    shown = letters.any(-1)
    if shown.any():  # letters are rare among labels: of a sign, also which letter of all
        guess = scores[:, -2 * len(world.CHARACTERS) :].unflatten(1, (2, -1))[shown]
        loss = loss + 0.2 * F.cross_entropy(guess, letters[shown].int().argmax(-1))
    hit = (categories > 0)[truth[:, : len(world.CATEGORIES)] == 1].float().mean()
    return loss, hit


def trainable(
    tower: Tower, reader: nn.Module, stage: str
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters a stage changes: (matrices inside transformer blocks, everything else)."""
    blocks = {"text": [tower.lm.layers], "align": [], "tune": [tower.lm.layers, tower.blocks]}.get(
        stage, [tower.blocks]
    )
    modules = {"text": [tower.lm, tower.head], "align": [tower.connector], "tune": [tower.model]}
    chosen = modules.get(stage, [tower.vision, reader])
    matrices = {id(p): p for b in blocks for p in b.parameters() if p.ndim == 2}
    rest = {id(p): p for m in chosen for p in m.parameters() if id(p) not in matrices}
    return list(matrices.values()), list(rest.values())


def optimizers(
    matrices: list[nn.Parameter], rest: list[nn.Parameter], stage: Stage
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks, AdamW for all else: fewer steps to the same loss than
    AdamW alone."""
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    ]
    if matrices:
        made.append(Muon(matrices, lr=stage.muon))
    return made


def rate_at(stage: Stage, step: int) -> float:
    """Warm up, hold, cool linearly: the ViTs sit on a plateau until they break through, and cooling
    too early freezes it."""
    left = (stage.steps - step) / max(1, round(stage.steps * stage.cool))
    return min(1.0, (step + 1) / stage.warm, left)


def named(
    tower: Tower, reader: nn.Module, parameters: Iterable[nn.Parameter]
) -> dict[str, nn.Parameter]:
    """{name: parameter} of the given parameters, a shared one by its first name."""
    chosen = {id(p) for p in parameters}
    both = nn.ModuleDict({"model": tower.model, "reader": reader})
    return {k: p for k, p in both.named_parameters() if id(p) in chosen}


def run(
    tower: Tower,
    reader: Reader,
    stage: Stage,
    folder: str | Path,
    device: str = "cpu",
    workers: int = 1,
    every: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Run one stage, or what is left of it; returns its progress: step, seconds, seed and log, a
    list of means over `every` steps. `seed` decides which scenes and questions it draws.

    A checkpoint is written to `folder` every `every` steps and at the end, whole or not at all. A
    run that was killed goes on from the last one and ends with the same weights as one that was
    not.
    """
    pages = Pages(tower.name)
    matrices, rest = trainable(tower, reader, stage.name)
    for p in [*tower.model.parameters(), *reader.parameters()]:
        p.requires_grad_(False)
    for p in matrices + rest:
        p.requires_grad_(True)
    tools = optimizers(matrices, rest, stage)
    own = named(tower, reader, matrices + rest)
    state = resume(folder, stage, own, tools, seed)
    data = Batches(tower.name, stage.name, stage.steps, stage.batch, stage.text_every, seed)
    todo = torch.utils.data.DataLoader(
        torch.utils.data.Subset(data, range(state["step"], stage.steps)), batch_size=None,
        num_workers=workers, prefetch_factor=4 if workers else None,
    )  # fmt: skip
    bar = tqdm(
        todo,
        desc=f"{tower.name} {stage.name}",
        initial=state["step"],
        total=stage.steps,
        mininterval=5,
    )
    clock, sums = time.monotonic() - state["seconds"], [0.0, 0.0, 0]
    for batch in bar:
        loss, right = losses(tower, reader, pages, batch, stage.name, device)
        advance(tools, rest, loss, stage, state["step"])
        state["step"] += 1
        sums = [sums[0] + loss.item(), sums[1] + right.item(), sums[2] + 1]
        if state["step"] % every == 0 or state["step"] == stage.steps:
            state["seconds"] = time.monotonic() - clock
            entry = {"step": state["step"], "loss": sums[0] / sums[2], "right": sums[1] / sums[2]}
            state["log"].append(
                {**{k: round(v, 4) for k, v in entry.items()}, "seconds": round(state["seconds"])}
            )
            sums = [0.0, 0.0, 0]
            bar.set_postfix(loss=f"{entry['loss']:.3f}", right=f"{entry['right']:.1%}")
            keep(folder, stage, own, tools, state)
    return state


def advance(
    tools: Sequence[torch.optim.Optimizer],
    rest: list[nn.Parameter],
    loss: torch.Tensor,
    stage: Stage,
    step: int,
) -> None:
    """One step of all optimizers at the rates of this step; the gradients of what is not a matrix
    are clipped."""
    for tool in tools:
        tool.zero_grad(set_to_none=True)
        for group in tool.param_groups:
            group["lr"] = rate_at(stage, step) * (
                stage.muon if isinstance(tool, Muon) else stage.rate
            )
    loss.backward()
    nn.utils.clip_grad_norm_(rest, 1.0)
    for tool in tools:
        tool.step()


def losses(
    tower: Tower, reader: Reader, pages: Pages, batch: dict[str, Any], stage: str, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a stage on a batch, and the share of it that is right."""
    if stage in ("close-ups", "vision"):
        return vision_loss(tower, reader, batch, device)
    if "grid" in batch:
        grid = batch["grid"].to(device)
        return language_loss(
            tower, pages, batch, told(tower, grid, batch["blur"], batch["seed"]), grid[..., 0]
        )
    side = world.SIZE // tower.patch
    with torch.set_grad_enabled(stage == "tune"):
        states = tower.patches(normalise(batch["pixels"], device))
    return language_loss(tower, pages, batch, tower.tokens(states, side, side))

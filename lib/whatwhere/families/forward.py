"""One forward pass of the model itself, listened to, beside what the package says of it."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import lens
from .adapter import Modules

if TYPE_CHECKING:
    from ..models import VLM

Found = tuple[str, str]  # "yes" or a sentence, and what was measured
ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}


def listen(stack: ExitStack, blocks: Modules, states: list[Tensor]) -> None:
    """While the stack lasts, states before the first block and after each are added to `states`."""

    def before(_, args, named):
        states.append(args[0] if args else named["hidden_states"])

    def after(_, __, output):
        states.append(output[0] if isinstance(output, tuple) else output)

    stack.callback(blocks[0].register_forward_pre_hook(before, with_kwargs=True).remove)
    for block in blocks:
        stack.callback(block.register_forward_hook(after).remove)


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two vectors (the last axis), as a share of their length.

    Infinite where shapes differ. Vector by vector, since the first token's states are often a
    hundred times as large as all others.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-12)).max().item()


def along(vlm: "VLM", ours: list[Tensor], theirs: list[Tensor]) -> tuple[float, int | None]:
    """The largest of the differences of two lists of states, and where one is first too large."""
    apart = [distance(a, b) for a, b in zip(ours, theirs)]
    beyond = (n for n, difference in enumerate(apart) if not difference <= ALLOWED[vlm.dtype])
    return float(np.max(apart)), next(beyond, None)


def verdict(vlm: "VLM", apart: float, sentence: str, roundings: int = 1) -> Found:
    """roundings: how many of the two that are compared round in a way of their own."""
    return "yes" if apart <= roundings * ALLOWED[vlm.dtype] else sentence, f"{apart:.1g}"


class Run:
    """One forward pass of the model itself, listened to, beside what the package says of it."""

    def __init__(self, vlm: "VLM", image: Any, question: str):
        self.vlm, self.image, self.question, self._heard = vlm, image, question, None

    @property
    def heard(self) -> dict[str, Any]:
        """`logits`, what the LM was `given`, the states `vit` and `lm` from 0 to the last."""
        if self._heard is None:
            vlm, heard = self.vlm, {"vit": [], "lm": [], "given": {}}
            self.inputs = vlm.prepare(self.image, self.question)
            with ExitStack() as stack:
                listen(stack, vlm.vision_blocks, heard["vit"])
                listen(stack, vlm.lm_layers, heard["lm"])
                hook = vlm.lm.register_forward_pre_hook(
                    lambda _, __, named: heard["given"].update(named), with_kwargs=True
                )
                stack.callback(hook.remove)
                heard["logits"] = vlm.model(**self.inputs).logits
            self._heard = heard
        return self._heard

    @property
    def places(self) -> Tensor:
        """Where the visual tokens stand, a leading one included."""
        return self.vlm.image_places(self.inputs)[0]

    def vit(self) -> Found:
        theirs = self.heard["vit"]
        vlm, ours = self.vlm, []
        with ExitStack() as stack:
            listen(stack, vlm.vision_blocks, ours)
            vlm.visual(self.inputs, [vlm.last_depth])
        apart, first = along(vlm, ours, theirs)
        who = "what it is given is not what the model gives it: `adapter.vision_arguments`"
        if first:
            who = f"its states differ from block {first} on: `adapter.vision_arguments` or "
            who += "`vision_blocks`"
        return verdict(vlm, apart, f"The ViT is run otherwise; {who}.")

    def tokens(self) -> Found:
        vlm, near = self.vlm, ALLOWED[self.vlm.dtype]
        theirs = vlm.adapter.pack(self.heard["given"])[0, self.places]  # (tokens, width)
        ours = vlm.visual(self.inputs, [vlm.last_depth])[0][0].to(theirs)
        apart = distance(ours, theirs)
        sentence = "The visual tokens are others than the model gives its LM: `adapter.connect`."
        if near < apart < np.inf:
            width = vlm.unembedding.weight.shape[1]
            sentence = self._other(ours[:, :width], theirs[:, :width]) or sentence
        return verdict(vlm, apart, sentence)

    def _other(self, ours: Tensor, theirs: Tensor) -> str | None:
        """What is wrong with the connector's output, if it is one of the usual mistakes."""
        adapter, near = self.vlm.adapter, ALLOWED[self.vlm.dtype]
        if distance(ours, theirs) <= near:
            who = "`adapter.connect_extra` or `extra_depths`"
            return f"What is added in the LM's first layers is not the model's: {who}."
        for depth, state in enumerate(self.heard["vit"]):
            connected = torch.cat(list(adapter.connect(state, self.inputs)))
            if depth != adapter.depth and distance(connected.to(theirs), theirs) <= near:
                wrong = f"The model's connector reads ViT depth {depth}"
                return f"{wrong}, and `adapter.depth` says {adapter.depth}."
        order = torch.cdist(ours.double(), theirs.double()).argmin(1)
        if len(order.unique()) == len(order) and distance(ours, theirs[order]) <= near:
            backwards = order.tolist() == list(range(len(order)))[::-1]
            how = "reversed" if backwards else "in another order"
            wrong = f"The visual tokens are the model's, but {how}"
            return f"{wrong}: `adapter.connect` (or what it sorts by)."
        return None

    def layers(self) -> Found:
        lm_inputs, vlm = self.heard["given"], self.vlm
        positions, theirs = vlm.position_ids(self.inputs), lm_inputs.get("position_ids")
        if theirs is not None:
            theirs = theirs[-3:] if theirs.ndim == 3 and positions.ndim == 3 else theirs
            fits = theirs.shape[-1] == positions.shape[-1]
            if not fits or not torch.equal(theirs.expand_as(positions).to(positions), positions):
                return "The model gives its LM other positions: `adapter.position_ids`.", ""
        ours = vlm.lm_hidden(
            vlm.adapter.pack(lm_inputs), self.inputs["attention_mask"], positions, all_layers(vlm)
        )
        apart, first = along(vlm, ours, self.heard["lm"])
        wrong = f"The LM's states differ from layer {first} on"
        members = "`adapter.position_ids`, `lm`, `unpack` or its mask"
        return verdict(vlm, apart, f"{wrong}: {members}.")

    def logits(self) -> Found:
        ours = self.vlm.logits(self.image, self.question)
        wrong = "The logits, computed part by part, are not the model's: see the rows above."
        return verdict(self.vlm, distance(ours, self.heard["logits"][0].cpu()), wrong)

    def lens(self) -> Found:
        vlm = self.vlm
        logits = self.heard["logits"][0, self.places][vlm.adapter.leading :]
        expected = logits.float().softmax(-1).cpu()
        maps = lens.token_maps(
            vlm, self.image, self.question, vlm.n_layers, [vlm.last_depth], top_k=1
        )
        ids = torch.from_numpy(maps.top_ids).reshape(-1, 1)
        probabilities = torch.from_numpy(maps.probabilities).flatten()
        if len(probabilities) != len(expected):
            wrong = "There are more or fewer patches on the map than visual tokens in the prompt"
            return f"{wrong}: `adapter.grids`.", ""
        by_word = distance(probabilities, expected.gather(-1, ids)[:, 0])
        apart = np.maximum(by_word, distance(probabilities, expected.amax(-1)))
        wrong = "The lens gives other words than the model's own logits: see the rows above."
        return verdict(vlm, apart, wrong)


def all_layers(vlm: "VLM") -> list[int]:
    return list(range(vlm.n_layers + 1))

"""Attention: what each token collects from which others, in the ViT and the LM of every family.

    seen = vlm.attention("photo.jpg", "what is on the table?", answer="a lamp")
    seen.weights[0, 3]      # LM block 1, head 3: (tokens, tokens); row i is what token i collects
    seen.on_image()         # (blocks, heads, tokens, rows, columns): the same, on the patches alone
    seen.show()             # on the picture, from any word or patch
    vlm.attention("photo.jpg", depths=[1, 2])               # the ViT, from patch to patch

That a token looks somewhere does not say that it uses what is there: `intervene.knockout` tests it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from . import places
from .finite import check_finite
from .hooks import off_device, residual_stream
from .taps import numbered, takes, tapped, vit_tapped

if TYPE_CHECKING:
    from .models import VLM
    from .views.attention_map import AttentionMap

SEEN_BY = 0.25  # and is seen by this share of all tokens: what two or three do is no habit


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of some blocks to one image and its prompt.

    Attributes:
        weights: (blocks, heads, tokens, tokens), float32, on the CPU: in row i what token i
            collects, from itself too. A row sums to one (or is zero, where all of it is knocked
            out). A word's row goes into the choice of the *next* word.
        blocks: their numbers, from 1.
        tower: "LM" or "ViT".
        words: (tokens,) what each token is. In the LM they are all the prompt's; in the ViT those
            without a place (CLIP's class token) come first, then the patches in raster order.
        places: (rows × columns,) which tokens are the patches of `grid`, in raster order.
        image: as the model sees it.
    """

    weights: Tensor
    blocks: list[int]
    tower: str
    words: list[str]
    places: Tensor
    grid: tuple[int, int]
    image: Image.Image
    SINK: ClassVar[float] = 5.0  # a sink receives so many times an equal share

    def on_image(self) -> Tensor:
        """(blocks, heads, tokens, rows, columns): what each token collects from each patch."""
        return self.weights[..., self.places].unflatten(-1, self.grid)

    def received(self) -> Tensor:
        """(blocks, heads, tokens): what a token receives, on average over all others that see it.

        In units of an equal share of all that they see. Tokens that too few see (`SEEN_BY`), such
        as the last ones of a prompt, get nan.
        """
        received = []
        for weights in self.weights:  # (heads, tokens, tokens)
            sees = (weights > 0).any(0)  # what came before, or a window: the same for all heads
            times = weights * sees.sum(-1, keepdim=True)
            times.diagonal(dim1=-2, dim2=-1).zero_()
            seen_by = sees.fill_diagonal_(False).sum(0)
            too_few = seen_by < SEEN_BY * len(self.words)
            received.append((times.sum(-2) / seen_by).masked_fill(too_few, torch.nan))
        return torch.stack(received)

    def sinks(self, above: float = SINK) -> Tensor:
        """(blocks, tokens) booleans: what receives over `above` equal shares, in the mean of heads.

        Attention sinks draw attention from whatever looks, not for what they show: a text's first
        token (Xiao et al., ICLR 2024), patches of the ground in a ViT (Darcet et al., ICLR 2024),
        visual tokens of no use to the question (Kang et al., ICLR 2025). Those works go by their
        share or by the size of their states; here it is the share.
        """
        return self.received().mean(1) > above

    def show(self, **view: Any) -> AttentionMap:
        """A figure for a notebook or a page; options as for `views.attention_map.AttentionMap`."""
        from .views.attention_map import AttentionMap

        return AttentionMap(self, **view)

    def __repr__(self) -> str:
        _, heads, tokens, _ = self.weights.shape
        return f"Attention({self.tower} blocks {self.blocks}, {heads} heads, {tokens} tokens)"


@torch.no_grad()
def read(
    vlm: VLM,
    images: list,
    questions: list[str],
    answers: list[str] | None,
    layers: int | Iterable[int] | None,
    depths: int | Iterable[int] | None,
    take: Callable[[Tensor], Any] | None,
) -> list:
    """For each image an `Attention`, or a list of what `take` makes of it: see `VLM.attention`."""
    if layers is not None and depths is not None:
        raise ValueError(
            "Ask for blocks of the ViT (depths) or of the LM (layers), one of the two."
        )
    if layers is None and depths is None:
        layers = range(1, vlm.n_layers + 1)
    blocks = numbered(vlm, layers, depths)
    if answers is not None and len(images) == len(answers) > 1:  # no padding before an answer
        return [
            read(vlm, [image], [question], [answer], layers, depths, take)[0]
            for image, question, answer in zip(images, questions, answers)
        ]
    inputs = vlm.prepare(images, questions, answers)
    if answers is not None:  # who listens (`intervene.knockout`) hears where the prompt ends
        vlm.model.get_input_embeddings()(vlm.prepare(images, questions)["input_ids"])
    kept = {number: [] for number in blocks}  # of each block, what is kept for each image

    def keep(number, weights):
        part = take(weights) if take else weights
        if isinstance(part, Tensor):  # a slice would keep all weights in memory
            whole = part.untyped_storage().nbytes() == part.nbytes
            part = off_device(part if whole else part.clone())
        kept[number].append(part)

    about = (_in_vit if layers is None else _in_lm)(vlm, inputs, blocks, keep)
    by_image = list(zip(*kept.values()))
    if take:
        return [list(of_image) for of_image in by_image]
    tower = "ViT" if layers is None else "LM"
    return [
        Attention(torch.stack(of_image), list(blocks), tower, words, places, grid, vlm.seen(image))
        for of_image, (words, places, grid), image in zip(by_image, about, images)
    ]


def _in_lm(vlm, inputs, blocks, keep):
    """Runs the model up to the last of these blocks; gives each image's words, places and grid."""
    from .compress.within import at_work  # here: loading a model needs nothing of compression

    if at_work(vlm):
        raise ValueError(
            "Attention is read of a whole prompt: leave `with compress.compressed(…)` first."
        )
    places.check_order(vlm, "Attention is read")
    real = inputs["attention_mask"].bool()

    def take(number, weights):
        check_finite(weights, f"the attention in LM block {number}")
        for tokens, of_prompt in zip(real, weights):
            keep(number, of_prompt[:, tokens][:, :, tokens])

    with tapped(takes(blocks, take)):
        # the whole model, and not its parts: some families give the LM more than embeddings
        named = {**inputs, "use_cache": False, "what": "LM layer", "real": inputs["attention_mask"]}
        residual_stream(vlm.model, vlm.lm_layers, [max(blocks)], **named)
    about, patches = [], places.find(vlm, inputs["input_ids"]).patches
    for ids, tokens, visual, grid in zip(
        inputs["input_ids"], real, patches, vlm.adapter.grids(inputs)
    ):
        index = visual[tokens].nonzero()[:, 0].cpu()
        words = vlm.words[ids[tokens].cpu().numpy()].tolist()
        for place, name in zip(index.tolist(), _patches(*grid)):
            words[place] = name
        about.append((words, index, tuple(grid)))
    return about


def _in_vit(vlm, inputs, blocks, keep):
    """Runs the ViT up to the last of these blocks; gives each image's words, places and grid."""
    from .compress.within import at_work

    if at_work(vlm, in_vit=True):
        raise ValueError(
            "The ViT's attention is read of a whole picture: leave `with compress.compressed(…)` "
            "first."
        )
    args, named = vlm.adapter.vision_arguments(inputs)
    grids = vlm.adapter.vit_grids(args, named)
    with vit_tapped(vlm, args, named, blocks, keep) as extra:
        named = {**named, "what": "ViT depth"}
        residual_stream(vlm.adapter.vision, vlm.vision_blocks, [max(blocks)], *args, **named)
    names = ["class token" if extra == 1 else f"token {n}" for n in range(extra)]
    return [
        (names + _patches(*grid), torch.arange(extra, extra + rows * columns), grid)
        for grid in grids
        for rows, columns in [grid]
    ]


def _patches(rows: int, columns: int) -> list[str]:
    return [f"row {row}, column {column}" for row in range(rows) for column in range(columns)]

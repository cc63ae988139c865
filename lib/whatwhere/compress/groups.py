"""Which visual tokens go on as one, and which go: every way to make them fewer.

A method is a function of a `Sight` that gives (tokens,) whole numbers: the tokens of one number go
on as a single token, those below zero are dropped. `compressed` puts such groups to work inside a
model. Where a method has a name, a place of its own or needs more than the visual tokens, a
`Method` says so: FastV, say, would be

    def fastv(sight):
        return most(sight.attention(2), keep)

    Method("fastv", fastv, place="LM 2", needs=("attention", "question"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .decoder import punctuation

if TYPE_CHECKING:
    from .decoder import Decoder

NEEDS = {
    "decoder": "a visual decoder, which is trained",
    "question": "a question after the image",
    "attention": "the LM's attention weights: of the block at the method's place, as it runs, or "
    "by a pass of its own through the first blocks",
    "states": "the ViT's states, by a second pass",
    "vision_attention": "the ViT's attention weights: of the block at the method's place, as it "
    "runs, or by a second pass",
    "vision_keys": "the keys of the ViT's block at the method's place, as it runs",
    "class_token": "a class token in the ViT, which has seen the whole picture",
}
# what a method in the ViT, which sees the picture alone, has
IN_VIT = ("states", "vision_attention", "vision_keys", "class_token")
# needs for which attention weights are computed, which FlashAttention never writes down
WEIGHTS = ("attention", "vision_attention")

NO_PROMPT = (
    "This Sight has no prompt: it was made by hand, or its method's place is in the ViT, which "
    "runs before the question is read."
)


# how many tokens a baseline keeps: a number, a share, or as many as another way leaves
Keep: TypeAlias = "int | float | Callable[[Sight], Any]"


@dataclass(frozen=True, eq=False, repr=False)
class Sight:
    """What a method may look at: one image in its prompt, at the method's place.

    All tensors are on the model's device. A sight that is made by hand, to try a method, needs
    tokens and grid only.

    Attributes:
        tokens: (tokens, hidden) visual tokens in raster order, without CLIP's class token; at "LM
            0" the connector's output, at a place in the ViT its states, as `states` has them.
        grid: their (rows, columns).
        attention: attention(layer) is a numpy array (tokens,), what the prompt's last token pays to
            each in the LM block `layer` (from 1), mean over heads; attention(layer, asking) what
            the tokens at `asking`, indices into `ids`, pay on average. Computed when it is asked
            for, once for a whole batch, in float32 (Method.needs: "attention").
        rng: a numpy generator, for those who draw.
        ids: (length,) the token ids of the prompt, without padding.
        index: (tokens,) where the visual tokens stand in them.
        hidden: (length, hidden) the states of all these at the method's place: `hidden[index]` are
            the `tokens`.
        decode: a list of ids → the text that they spell.
        states: states(depth) is (tokens, features), the ViT's residual stream after `depth` blocks,
            as `vlm.vit_states` has it. Computed when it is asked for, by a second pass
            (Method.needs: "states").
        vision_attention: vision_attention(block) is a numpy array (tokens,), how much each is
            attended to in the ViT block `block` (from 1), mean over heads: by CLIP's or
            InternVL's class token; in a ViT without one by a patch of this image, on average. Where
            a token is m × m patches, their mean. Computed like `states` (Method.needs:
            "vision_attention").
        vision_keys: vision_keys(block) is (tokens, m² × head size), the keys of the ViT block
            `block`, which is that of the method's place, mean over heads, before any rotation
            (Method.needs: "vision_keys").
        embeddings: (length, hidden) what the LM was given for each of `ids`.
        block: the number of the block after which this is, counted from 1; 0 at "LM 0".
        step, steps: which of the method's places this is, from 0, and how many there are.
        cells: (tokens,) numpy, which cell of the grid each token stands in; at the first place all
            of them, in raster order.
        sizes: (tokens,) numpy, how many of the picture's tokens each stands for.

    At a place in the ViT no question has been read: `attention`, `ids`, `index`, `hidden`,
    `embeddings` and `decode` are None there.
    """

    tokens: torch.Tensor
    grid: tuple[int, int]
    attention: Callable[..., np.ndarray] | None = None
    rng: np.random.Generator | None = None
    ids: torch.Tensor | None = None
    index: torch.Tensor | None = None
    hidden: torch.Tensor | None = None
    decode: Callable[[list[int]], str] | None = None
    states: Callable[[int], torch.Tensor] | None = None
    vision_attention: Callable[[int], np.ndarray] | None = None
    vision_keys: Callable[[int], torch.Tensor] | None = None
    embeddings: torch.Tensor | None = None
    block: int = 0
    step: int = 0
    steps: int = 1
    cells: Any = None
    sizes: Any = None

    def __post_init__(self):
        for name, usual in (("cells", np.arange), ("sizes", lambda n: np.ones(n, int))):
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual(len(self.tokens)))

    @cached_property
    def asked(self) -> torch.Tensor:
        """(asked,) indices into `ids` of what comes after the image: the question, and what calls
        for an answer.

        Raises:
            ValueError: without a prompt, as for `text`.
        """
        if self.ids is None or self.index is None:
            raise ValueError(NO_PROMPT)
        return torch.arange(int(self.index[-1]) + 1, len(self.ids), device=self.ids.device)

    @cached_property
    def text(self) -> str:
        """What comes after the image, as text, without special tokens (Method.needs: "question").

        Raises:
            ValueError: where there is no prompt: in the ViT, and in a sight that is made by hand.
        """
        if self.ids is None or self.decode is None:
            raise ValueError(NO_PROMPT)
        return self.decode(self.ids[self.asked].tolist())


@dataclass(frozen=True, eq=False)
class Merge:
    """Groups, and what else a method may say of them.

    Attributes:
        groups: (tokens,) whole numbers, as a method gives them.
        weights: (tokens,) how much each counts in the mean of its group; None for all alike.
        centres: (tokens,) booleans, true for the one token of each group in whose place it goes on;
            None for the one nearest the group's middle.
    """

    groups: Any
    weights: Any = None
    centres: Any = None


@dataclass(frozen=True)
class Method:
    """A way to make visual tokens fewer, with its name, its place and its needs; it is itself a
    function of a `Sight`.

    Attributes:
        name: as `compressed` takes it and a run's settings record it.
        groups: groups(sight) is (tokens,) whole numbers; tokens of one number go on as one, those
            below zero are dropped. Or a `Merge` of these.
        place: where in the model: "LM 0", what the connector gives the LM; "LM n", after n LM
            blocks, whose cache keeps all tokens, as FastV does it; or "ViT n", after n ViT blocks,
            before the next (as Token Merging) or before the connector (as VisionZip). Several
            places of one tower, ("LM 2", "LM 4"), are a method that chooses again among what is
            left (as PyramidDrop). Of a model of any depth: "LM 1/2", after so many of its LM's
            blocks, rounded; "ViT last", what the connector reads; "ViT all", after each. The rest
            of the ViT, and the LM, then run on one token a group. Where the connector makes a token
            of m × m patches, the first of them is merged with the first ones of the group, and so
            on.
            A group has the place of the token nearest its middle (`compressed`'s pool): its angles
            in a ViT with 2-D RoPE, its window in Qwen2.5-VL.
        needs: what it looks at besides tokens and grid, of NEEDS.

    Raises:
        ValueError: for a need that is none.
    """

    name: str
    groups: Callable[[Sight], Any]
    place: str | tuple[str, ...] = "LM 0"
    needs: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Its place, or places, in words."""
        return self.place if isinstance(self.place, str) else ", ".join(self.place)

    def __post_init__(self):
        if not callable(self.groups):
            raise ValueError(f"A method's groups are a function of a Sight, not {self.groups!r}.")
        for need in self.needs:
            check(need, NEEDS, "need of a method")

    def __call__(self, sight: Sight) -> Any:
        return self.groups(sight)


def rows(labels: np.ndarray) -> np.ndarray:
    """(rows, columns) labels → groups: runs of equal neighbours, each within its row."""
    return _runs(labels, np.arange(labels.size) % labels.shape[1] == 0)


def raster(labels: np.ndarray) -> np.ndarray:
    """(rows, columns) labels → groups: runs of equal neighbours that go on from a row's end to the
    next, as the public code's."""
    return _runs(labels, np.arange(labels.size) == 0)


def _runs(labels, start):
    flat = labels.ravel()
    return (start | (flat != np.roll(flat, 1))).cumsum() - 1


def regions(labels: np.ndarray) -> np.ndarray:
    """(rows, columns) labels → groups: regions of equal labels, connected over edges; a run-length
    code in two dimensions."""
    at = np.arange(labels.size).reshape(labels.shape)
    ends = [
        (at[:, :-1], at[:, 1:], labels[:, :-1] == labels[:, 1:]),
        (at[:-1], at[1:], labels[:-1] == labels[1:]),
    ]
    one, other = (np.concatenate([pair[i][pair[2]] for pair in ends]) for i in (0, 1))
    joined = coo_array((np.ones(len(one)), (one, other)), shape=(labels.size, labels.size))
    return connected_components(joined, directed=False)[1]


SHAPES = {"rows": rows, "raster": raster, "regions": regions}


def by_words(
    decoder: Decoder, which: int | str, shape: str = "rows", same: int = 1, marks: str = "paper"
) -> Method:
    """The paper's methods 1, 2 and 3: equal neighbours go on as one, patches of punctuation are
    dropped.

    Words are the same if they are spelt the same, as in the paper's code: a tokenizer's "cat" and
    its "cat" at a word's start ("▁cat", "Ġcat") are one word, and so are "." and the byte that
    spells it.

    Args:
        decoder: a `Decoder`, which says each token's best words.
        which: "rle" (or 1) drops nothing, "rle-drop" (2) drops tokens whose first word is
            punctuation, "rle-drop-both" (3) those whose first and second are.
        shape: what counts as neighbours, one of SHAPES.
        same: how many of two tokens' best words must be the same, in order, for them to be equal.
        marks: what `punctuation` is.
    """
    check(which, (*WORDS, *WORDS.values()), "method by words", WORDS)
    check(shape, SHAPES, "shape")
    if (
        isinstance(same, bool)
        or not isinstance(same, Integral)
        or not 1 <= same <= len(decoder.words)
    ):
        raise ValueError(
            f"same is a whole number of words from 1 to {len(decoder.words)}, not {same!r}."
        )

    name = str(ALIASES.get(which, which))
    blanks, first = punctuation(decoder.texts, marks), {}
    words = np.array(
        [first.setdefault(text.removeprefix(" "), n) for n, text in enumerate(decoder.texts)]
    )

    def choose(sight):
        best = decoder.top(sight.tokens, max(2, same))
        blank = blanks[best]
        dropped = {1: np.zeros(len(best), bool), 2: blank[:, 0], 3: blank[:, :2].all(1)}[
            WORDS[name]
        ]
        said = words[best[:, :same]]
        labels = said[:, 0] if same == 1 else np.unique(said, axis=0, return_inverse=True)[1]
        groups = SHAPES[shape](np.where(dropped, -1, labels).reshape(sight.grid))
        return np.where(dropped, -1, groups)

    return Method(name, choose, needs=("decoder",))


def drawn(keep: Keep) -> Method:
    """Baseline: `keep` tokens drawn at random, the others dropped."""

    def choose(sight):
        n = len(sight.tokens)
        return only(sight.rng.permutation(n)[: number(keep, sight)], n)

    return Method("random", choose)


def pooled_grid(keep: Keep) -> Method:
    """Baseline: a uniform grid of `keep` rectangles, as square as can be; each goes on as one
    token."""

    def choose(sight):
        (high, wide), n = sight.grid, number(keep, sight)
        # n rectangles in so many bands
        bands = min(high, n, max(-(-n // wide), round((n * high / wide) ** 0.5)))
        band, column = np.arange(high) * bands // high, np.arange(wide)
        # rectangles of each band
        share = [n * (b + 1) // bands - n * b // bands for b in range(bands)]
        first = np.cumsum([0, *share])
        return np.stack([first[b] + column * share[b] // wide for b in band]).ravel()

    return Method("grid", choose)


def matched(metric: torch.Tensor, sizes: Any, n: int, step: int) -> np.ndarray:
    """(tokens,) groups: the `n` that are left when the most alike are merged, by the bipartite
    matching of Token Merging (Bolya et al., ICLR 2023, section 3).

    In each round tokens are dealt to two sides in turn, each of one side finds its most similar
    (cosine) on the other, and the closest pairs merge.

    Args:
        metric: (tokens, features) by which they are compared.
        sizes: (tokens,) how much each counts in a mean.
        step: how many merge in a round at most; never more than one side has.
    """
    sizes = torch.as_tensor(sizes, dtype=torch.float32, device=metric.device)
    sums, owner = metric.float() * sizes[:, None], np.arange(len(metric))
    while len(sums) > n:
        unit = torch.nn.functional.normalize(sums, dim=-1)
        best, partner = (unit[::2] @ unit[1::2].T).max(-1)
        merging = best.argsort(descending=True, stable=True)[: min(step, len(sums) - n)].cpu()
        target = torch.arange(len(sums))
        target[2 * merging] = 2 * partner.cpu()[merging] + 1
        left, renamed = torch.unique(target, return_inverse=True)
        sums = sums.new_zeros(len(left), sums.shape[1]).index_add_(0, renamed.to(sums.device), sums)
        owner = renamed.numpy()[owner]
    return owner


def tome_like(keep: Keep, rounds: int = 4) -> Method:
    """Baseline: tokens that are most alike are merged until `keep` are left, by the bipartite
    matching of Token Merging.

    After Bolya et al. (ICLR 2023), on the connector's output, in so many rounds; `tome` is the
    method itself, inside the ViT.
    """

    def choose(sight):
        n = number(keep, sight)
        sizes = torch.ones(len(sight.tokens))
        return matched(sight.tokens, sizes, n, -(-(len(sizes) - n) // rounds))

    return Method("tome-like", choose)


def fastv_rank(keep: Keep, layer: int = 2) -> Method:
    """Baseline: the `keep` tokens that the prompt's last token attends to most in LM block `layer`,
    the others dropped.

    The ranking of FastV (Chen et al., ECCV 2024). FastV itself drops them after that block, so that
    earlier blocks see all; here they never reach the LM, so that all ways feed it equally many.
    """

    def choose(sight):
        order = np.argsort(-sight.attention(layer), kind="stable")
        return only(order[: number(keep, sight)], len(order))

    return Method("fastv-rank", choose, needs=("attention", "question"))


WORDS = {"rle": 1, "rle-drop": 2, "rle-drop-both": 3}  # the paper's numbers
BASELINES = {"random": drawn, "grid": pooled_grid, "tome-like": tome_like, "fastv-rank": fastv_rank}
# {what else they are called: name}: the paper's numbers, and what runs of earlier versions have
# written down
ALIASES: dict[int | str, str] = {
    **{number: name for name, number in WORDS.items()}, "similar": "tome-like",
    "attended": "fastv-rank",
}  # fmt: skip


def only(kept: np.ndarray, n: int) -> np.ndarray:
    """(n,) groups that keep these tokens, each for itself, and drop the others."""
    groups = np.full(n, -1)
    groups[np.sort(kept)] = np.arange(len(kept))
    return groups


def count(groups: Any) -> int:
    """How many tokens such groups leave."""
    return len(np.unique(groups[groups >= 0]))


def number(keep: Any, sight: Sight) -> int:
    """How many of this image's tokens to keep in the end: a number, a share, or as many as another
    way would leave."""
    n = sight.grid[0] * sight.grid[1] if sight.step else len(sight.tokens)
    if callable(keep):
        return max(1, count(keep(sight)))
    return max(1, round(keep * n)) if isinstance(keep, float) else min(keep, n)


def check_keep(keep: Any) -> None:
    """Refuse what is no number of tokens."""
    whole = isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1
    if not (callable(keep) or whole or isinstance(keep, float) and 0 < keep <= 1):
        raise ValueError(
            "keep is a whole number of tokens from 1 up, a share such as 0.5, or another way "
            f"to be equalled, not {keep!r}."
        )


def check(value: Any, known: Iterable[Any], what: str, listed: Iterable[Any] | None = None) -> None:
    """Refuse what is not among the `known`.

    Args:
        listed: those of them that the sentence names, all by default.
    """
    if isinstance(value, bool) or not isinstance(value, (str, Integral)) or value not in known:
        raise ValueError(f"No {what} {value!r}; there are {', '.join(map(str, listed or known))}.")

"""The logit lens on visual tokens, for every depth of the ViT.

    maps = token_maps(vlm, "photo.jpg")
    maps.words[-1]          # (rows, columns): the word each patch decodes to, with the whole ViT
    maps.show()             # a slider over depth

Method of *Reading Images Like Texts* (arXiv 2509.19191, section 3), with the final norm applied
before the unembedding: without it the last layer would not give the model's own logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from . import places
from .finite import not_finite
from .hooks import check_count, check_range
from .tokens import Forms
from .tokens import forms as _forms
from .types import ImageLike, Several
from .views import slider
from .views.slider import Slider

if TYPE_CHECKING:
    import pandas
    from ipywidgets import VBox
    from transformers import PreTrainedTokenizerBase

    from .compress import Decoder
    from .models import VLM


MOST = 16  # sequences in the LM at once, unless asked for more


class Reading(NamedTuple):
    """The top words of hidden states, best first: three arrays of shape (…, top_k)."""

    ids: np.ndarray
    words: np.ndarray
    probabilities: np.ndarray


def forms(vlm: VLM, words: str | Iterable[str]) -> Forms:
    """The tokens by which words can show in a token map of this model: `forms(vlm,
    "candle")["candle"]` are their ids.

    A word shows as a token that spells it, in any case, with or without the blank before it; as its
    regular plural; and, where the tokenizer has no token that spells it, as the first piece that it
    is split into, of three letters at least and half of the word's ("cand" for "candle"). A piece
    is weaker evidence than a word: others may begin alike. So compare with chance, on shuffled maps
    or those of other pictures (`stages.Readings`), and give all words at once, so that `collisions`
    between them are found. A word that has no such token is `missing`, and so are phrases ("traffic
    light").
    """
    return _forms(vlm.words, words, vlm.tokenizer)


@torch.no_grad()
def logit_lens(
    vlm: VLM,
    hidden: torch.Tensor,
    top_k: int = 5,
    norm: bool = True,
    decoder: Decoder | None = None,
) -> Reading:
    """What the model would say if it had to speak at once from `hidden`.

    Args:
        hidden: (…, hidden) states of the LM's residual stream, at any layer, on any device.
        top_k: how many words to keep.
        norm: False skips the final norm, to show why it is needed.
        decoder: a `compress.Decoder` that reads visual tokens before the LM, in place of the
            model's own norm and unembedding.

    Returns:
        A `Reading`: softmax(W_U · norm(hidden)), its `top_k` best ids, words and probabilities.

    Raises:
        NotFinite: where a state or a logit is nan or infinite.
    """
    words = (decoder or vlm).words
    if isinstance(top_k, bool) or not isinstance(top_k, Integral) or not 1 <= top_k <= len(words):
        raise ValueError(
            f"top_k is a whole number from 1 to {len(words)}, the size of the vocabulary, not "
            f"{top_k!r}."
        )
    readings = [
        (ids.cpu(), best.exp().cpu())
        for ids, best, _ in log_probabilities(vlm, hidden, top_k, (), norm, decoder)
    ]
    ids, probabilities = (
        torch.cat(parts).reshape(*hidden.shape[:-1], top_k).numpy() for parts in zip(*readings)
    )
    return Reading(ids, words[ids], probabilities)


def log_probabilities(
    vlm: VLM,
    hidden: torch.Tensor,
    top_k: int,
    asked: Sequence[int] | np.ndarray,
    norm: bool = True,
    decoder: Decoder | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields, for some rows of hidden (…, hidden) at a time, their `top_k` best ids (rows, top_k),
    the log-probabilities of these, and those of the ids `asked` (rows, asked); other arguments as
    for `logit_lens`.

    All logits are computed, but not kept: some thousand words are unembedded at a time, their best
    and their sum noted, and the next take their place. So memory grows neither with depths nor with
    the vocabulary, and a CPU works within its caches.
    """
    reader: Any = decoder or vlm.unembedding
    weight, bias = reader.weight, getattr(reader, "bias", None)
    n_rows, n_words = _tile(weight)
    asked_ids = torch.as_tensor(asked, dtype=torch.long, device=weight.device)
    for rows in hidden.reshape(-1, hidden.shape[-1]).split(n_rows):
        rows = rows.to(weight)
        rows = vlm.final_norm(rows) if norm and not decoder else rows
        best = rows.new_full((len(rows), top_k), -torch.inf, dtype=torch.float32)
        ids = torch.zeros_like(best, dtype=torch.long)
        total = best[:, :1].clone()
        for start in range(0, len(weight), n_words):
            part = slice(start, start + n_words)
            logits = F.linear(rows, weight[part], None if bias is None else bias[part]).float()
            most = logits.amax(-1, keepdim=True)
            # the further on, the fewer rows have a better word to sort in
            better = (most > best[:, -1:]).nonzero()[:, 0]
            top = logits[better].topk(min(top_k, logits.shape[-1]))
            best[better], order = torch.cat((best[better], top.values), -1).topk(top_k)
            ids[better] = torch.cat((ids[better], top.indices + start), -1).gather(-1, order)
            total = total.logaddexp(logits.sub_(most).exp_().sum(-1, keepdim=True).log() + most)
            del logits  # before the next take their place
        if not total.isfinite().all():  # one such number in a state, and all its logits are none
            raise not_finite(
                "the logits" if hidden.isfinite().all() else "the states given to the lens",
                rows.dtype,
            )
        logits = F.linear(rows, weight[asked_ids], None if bias is None else bias[asked_ids])
        yield ids, best - total, logits.float() - total


def _tile(weight):
    """(rows, words) of the logits made at once: 4 MiB of float32 on a CPU, whose caches hold
    little, and 128 MiB elsewhere."""
    on_cpu = weight.device.type == "cpu"
    words = min(len(weight), 1024) if on_cpu else len(weight)
    return max(1, (2**20 if on_cpu else 2**25) // words), words


@overload
def token_maps(
    vlm: VLM,
    image: ImageLike,
    prompt: str = "",
    layer: int | None = None,
    depths: int | Iterable[int] | None = None,
    top_k: int = 5,
    norm: bool = True,
    batch_size: int | None = None,
    decoder: Decoder | None = None,
) -> TokenMaps: ...
@overload
def token_maps(
    vlm: VLM,
    image: Several,
    prompt: str = "",
    layer: int | None = None,
    depths: int | Iterable[int] | None = None,
    top_k: int = 5,
    norm: bool = True,
    batch_size: int | None = None,
    decoder: Decoder | None = None,
) -> list[TokenMaps]: ...
@torch.no_grad()
def token_maps(
    vlm: VLM,
    image: ImageLike | Several,
    prompt: str = "",
    layer: int | None = None,
    depths: int | Iterable[int] | None = None,
    top_k: int = 5,
    norm: bool = True,
    batch_size: int | None = None,
    decoder: Decoder | None = None,
) -> TokenMaps | list[TokenMaps]:
    """The words that the patches of `image` decode to, for every depth of the ViT: a `TokenMaps`.

    The ViT runs once, the connector reads its residual stream at each depth, the LM runs up to
    `layer` only, and only visual positions are unembedded, in pieces.

    Args:
        image: anything `images.read` takes; a list gives a list of maps.
        prompt: the question after the image. It cannot change the map, since attention in the LM
            looks only back, and nothing after the last visual token is run; it is there to let you
            check that.
        layer: the LM layer to read, 0 (the connector's output) … `vlm.n_layers`; `vlm.lens_layer`
            by default.
        depths: the ViT depths, 0 … `vlm.last_depth`; all of them by default.
        batch_size: sequences in the LM at once, one sequence being one image at one depth; by
            default as many as a wide LM keeps small in memory.
        decoder: a `compress.Decoder` to read with; it reads layer 0, so that no LM block is run.
    """
    options = prompt, layer, depths, top_k, norm, batch_size, decoder
    if not isinstance(image, (list, tuple)):
        return _token_maps(vlm, [image], *options)[0]
    if len({vlm.patch_grid(picture) for picture in image}) > 1:  # unequal lengths: one at a time
        return [_token_maps(vlm, [picture], *options)[0] for picture in image]
    return _token_maps(vlm, list(image), *options)


def _token_maps(vlm, images, prompt, layer, depths: Any, top_k, norm, batch_size, decoder):
    layer = read_at(vlm, layer, decoder)
    if depths is None:
        depths = range(vlm.last_depth + 1)
    depths = [depths] if isinstance(depths, Integral) else list(depths)
    maps = []
    for batch, grid, hidden in visual_states(vlm, images, prompt, layer, depths, batch_size):
        ids, _, probabilities = logit_lens(vlm, hidden, top_k, norm, decoder)
        shape = (len(batch), len(depths), *grid, top_k)
        maps += [
            TokenMaps(
                i, p, list(depths), layer, vlm.seen(picture), (decoder or vlm).words, vlm.tokenizer
            )
            for i, p, picture in zip(ids.reshape(shape), probabilities.reshape(shape), batch)
        ]
    return maps


def read_at(vlm: VLM, layer: int | None, decoder: Decoder | None) -> int:
    """The LM layer that is read: `layer`, else the model's own, else 0 where a decoder reads."""
    if decoder and layer not in (None, 0):
        raise ValueError(
            "A decoder reads visual tokens before the LM, at layer 0; it cannot read layer "
            f"{layer!r}."
        )
    if decoder:
        decoder.check_fits(vlm)
        return 0
    return vlm.lens_layer if layer is None else layer


@torch.no_grad()
def visual_states(
    vlm: VLM,
    images: Several,
    prompt: str,
    layer: int,
    depths: Sequence[int],
    batch_size: int | None = None,
) -> Iterator[tuple[Several, tuple[int, int], torch.Tensor]]:
    """The states that a lens at LM layer `layer` reads, some images at a time; arguments as for
    `token_maps`.

    Yields (images, (rows, columns), hidden), where hidden is (images, depths, rows × columns,
    hidden). Images of one grid only.
    """
    places.check_order(vlm, "A token map is")
    check_range("layer", layer, vlm.n_layers)
    if not images or not depths:
        raise ValueError("A token map needs at least one image and one depth.")
    batch_size = _at_once(vlm, images[0]) if batch_size is None else batch_size
    check_count("batch_size", batch_size)
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        inputs = vlm.prepare(batch, [prompt] * len(batch))
        image_places = places.find(vlm, inputs["input_ids"])
        # the same in all: images of one grid, one prompt
        index, end = image_places.whole[0], image_places.end[0]
        # (images × depths, tokens, hidden)
        visual = torch.stack(vlm.visual(inputs, depths)).flatten(0, 1)
        ids = inputs["input_ids"][:, :end].repeat_interleave(len(depths), 0)
        mask = inputs["attention_mask"][:, :end].repeat_interleave(len(depths), 0)
        positions = vlm.position_ids(inputs)[..., :end].repeat_interleave(len(depths), -2)
        width = vlm.unembedding.weight.shape[1]
        for rows in torch.arange(len(visual)).split(batch_size):
            embeddings = vlm.embed({"input_ids": ids[rows]}, visual[rows])
            hidden = vlm.lm_hidden(embeddings, mask[rows], positions[..., rows, :], layer)
            if hidden.shape[1] != end:
                raise ValueError(
                    "A token map needs every visual token: make it outside of `with "
                    "compress.compressed(…)`."
                )
            # what is read takes the place of what was given, to save memory
            visual[rows, :, :width] = hidden[:, index]
        states = visual[:, vlm.adapter.leading :, :width]
        yield batch, vlm.adapter.grids(inputs)[0], states.unflatten(0, (len(batch), len(depths)))


def _at_once(vlm, image):
    """How many such images the LM is given at once: few where it is wide, and one keeps the
    processor busy and takes memory."""
    rows, columns = vlm.patch_grid(image)
    enough = 2**27 if vlm.device.type == "cpu" else 2**35
    return min(max(1, enough // (rows * columns * vlm.unembedding.weight.shape[1] ** 2)), MOST)


@dataclass(repr=False)
class TokenMaps:
    """The words of one image's patches, by ViT depth.

    Attributes:
        top_ids, probabilities: (depth, row, column, rank) token ids and their probabilities, best
            first.
        depths: the ViT depth of each map.
        layer: the LM layer read.
        image: the picture as the ViT saw it.
        vocabulary: (vocabulary,) what each id looks like.
        tokenizer: the model's, for words that are several tokens.
    """

    top_ids: np.ndarray
    probabilities: np.ndarray
    depths: list
    layer: int
    image: Image.Image
    vocabulary: np.ndarray = field(repr=False)
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False)

    def __repr__(self):
        depths, rows, columns, ranks = self.top_ids.shape
        return (
            f"TokenMaps({depths} ViT depths, {rows} × {columns} patches, top {ranks}, LM "
            f"layer {self.layer})"
        )

    @property
    def ids(self) -> np.ndarray:
        """(depth, row, column) the best id."""
        return self.top_ids[..., 0]

    @property
    def words(self) -> np.ndarray:
        """(depth, row, column) the best word."""
        return self.vocabulary[self.ids]

    @property
    def top_words(self) -> np.ndarray:
        """(depth, row, column, rank) the best words."""
        return self.vocabulary[self.top_ids]

    def word_at(self, row: int, column: int) -> np.ndarray:
        """(depth,) what one patch decodes to as the ViT grows deeper."""
        check_range("row", row, self.ids.shape[1] - 1)
        check_range("column", column, self.ids.shape[2] - 1)
        return self.words[:, row, column]

    def hits(self, words: str | Iterable[str], k: int = 1) -> np.ndarray:
        """(depth, row, column) true where one of the patch's `k` best tokens is one by which one of
        `words` can show.

        Whole words, in any case: "b" does not hit "bear". A word that the tokenizer splits is hit
        by its first piece, if that is long enough; `forms(vlm, words)` tells by which tokens each
        word can show, and which words have none. Tokens are compared as strings, so that a piece
        inside a longer word is a hit if it is spelled like the word.
        """
        ids = _forms(self.vocabulary, words, self.tokenizer).ids
        hit = np.isin(self.top_ids[..., :k], np.concatenate([[], *ids.values()]))
        return np.asarray(hit.any(-1))

    def to_pandas(self) -> pandas.DataFrame:
        """A long table: depth, row, column, rank (1 is best), word, probability."""
        import pandas

        depth, row, column, rank = np.indices(self.top_ids.shape).reshape(4, -1)
        return pandas.DataFrame(
            {
                "depth": np.array(self.depths)[depth],
                "row": row,
                "column": column,
                "rank": rank + 1,
                "word": self.top_words.reshape(-1),
                "probability": self.probabilities.reshape(-1),
            }
        )

    def show(self, kinds: Mapping[str, str] | None = None, widget: bool = False) -> Slider | VBox:
        """A slider over depth: words on the dimmed picture.

        Args:
            kinds: {word: kind}, such as {"red": "colour", "cup": "category"}; words are coloured by
                kind.
            widget: True gives an ipywidgets slider (it needs a running kernel) in place of the
                self-contained HTML one, which works in Jupyter, in Colab and in the built book.
        """
        make = slider.widget if widget else Slider
        return make(
            self.image, self.top_words, self.probabilities, self.depths, [self.layer], kinds
        )


def explore(
    vlm: VLM,
    image: ImageLike,
    layers: Iterable[int] | None = None,
    depths: Iterable[int] | None = None,
    kinds: Mapping[str, str] | None = None,
    widget: bool = False,
) -> Slider | VBox:
    """One picture, two sliders: over the depths of the ViT and over the layers of the LM; all of
    either by default.

    Args:
        kinds, widget: as for `TokenMaps.show`.
    """
    layers = list(range(vlm.n_layers + 1)) if layers is None else list(layers)
    if not layers:
        raise ValueError("A token map needs at least one LM layer.")
    maps = [
        token_maps(vlm, image, layer=layer, depths=depths, top_k=slider.SHOWN) for layer in layers
    ]
    words, probabilities = (
        np.concatenate([getattr(m, what) for m in maps]) for what in ("top_words", "probabilities")
    )
    return (slider.widget if widget else Slider)(
        maps[0].image, words, probabilities, maps[0].depths, layers, kinds
    )

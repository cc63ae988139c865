"""Token maps: a lens on the visual tokens of a picture, for every depth of the ViT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from PIL import Image

from .. import places
from ..hooks import check_count, check_range
from ..tokens import Forms
from ..tokens import forms as _forms
from ..types import ImageLike, Several
from ..views import slider
from ..views.slider import Slider
from .readers import PROBABILITY, Lens, LogitLens

if TYPE_CHECKING:
    import pandas
    from ipywidgets import VBox
    from transformers import PreTrainedTokenizerBase

    from ..models import VLM


MOST = 16  # sequences in the LM at once, unless asked for more


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


@overload
def token_maps(
    vlm: VLM,
    image: ImageLike,
    prompt: str = "",
    layer: int | None = None,
    depths: int | Iterable[int] | None = None,
    top_k: int = 5,
    batch_size: int | None = None,
    lens: Lens | None = None,
) -> TokenMaps: ...
@overload
def token_maps(
    vlm: VLM,
    image: Several,
    prompt: str = "",
    layer: int | None = None,
    depths: int | Iterable[int] | None = None,
    top_k: int = 5,
    batch_size: int | None = None,
    lens: Lens | None = None,
) -> list[TokenMaps]: ...
@torch.no_grad()
def token_maps(
    vlm: VLM,
    image: ImageLike | Several,
    prompt: str = "",
    layer: int | None = None,
    depths: int | Iterable[int] | None = None,
    top_k: int = 5,
    batch_size: int | None = None,
    lens: Lens | None = None,
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
        lens: what reads the states, of this model; the logit lens by default.
    """
    options = prompt, layer, depths, top_k, batch_size, chosen_lens(vlm, lens)
    if not isinstance(image, (list, tuple)):
        return _token_maps(vlm, [image], *options)[0]
    if len({vlm.patch_grid(picture) for picture in image}) > 1:  # unequal lengths: one at a time
        return [_token_maps(vlm, [picture], *options)[0] for picture in image]
    return _token_maps(vlm, list(image), *options)


def _token_maps(vlm, images, prompt, layer, depths: Any, top_k, batch_size, lens):
    layer = lens.at(layer)
    if depths is None:
        depths = range(vlm.last_depth + 1)
    depths = [depths] if isinstance(depths, Integral) else list(depths)
    maps = []
    for batch, grid, hidden in visual_states(vlm, images, prompt, layer, depths, batch_size):
        ids, _, scores = lens.read(hidden, layer, top_k)
        shape = (len(batch), len(depths), *grid, top_k)
        maps += [
            TokenMaps(
                i, of_scores, list(depths), layer, vlm.seen(picture), lens.words,
                lens.tokenizer, lens.name, lens.measure,
            )
            for i, of_scores, picture in zip(ids.reshape(shape), scores.reshape(shape), batch)
        ]  # fmt: skip
    return maps


def chosen_lens(vlm: VLM, lens: Lens | None) -> Lens:
    """The lens to read a model with: the logit lens, unless another is given that fits it.

    Raises:
        TypeError: for what is no lens.
        ValueError: for the lens of another model.
    """
    if lens is None:
        return LogitLens(vlm)
    if not isinstance(lens, Lens):
        raise TypeError(
            f"A lens is one of whatwhere.lens, such as LogitLens(vlm), not {lens!r}; a decoder "
            "becomes one by DecoderLens(vlm, decoder)."
        )
    lens.check_fits(vlm)
    return lens


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
    enough = 5 * 2**25 if vlm.device.type == "cpu" else 2**35
    return min(max(1, enough // (rows * columns * vlm.unembedding.weight.shape[1] ** 2)), MOST)


@dataclass(repr=False)
class TokenMaps:
    """The words of one image's patches, by ViT depth.

    Attributes:
        top_ids, scores: (depth, row, column, rank) word ids and their scores, best first.
        depths: the ViT depth of each map.
        layer: the LM layer read.
        image: the picture as the ViT saw it.
        vocabulary: (vocabulary,) what each id looks like.
        tokenizer: the model's, for words that are several tokens; None where all words are whole.
        lens: what they were read with.
        measure: what the scores are, "probability" or "cosine".
    """

    top_ids: np.ndarray
    scores: np.ndarray
    depths: list
    layer: int
    image: Image.Image
    vocabulary: np.ndarray = field(repr=False)
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False)
    lens: str = LogitLens.name
    measure: str = PROBABILITY

    def __repr__(self):
        depths, rows, columns, ranks = self.top_ids.shape
        return (
            f"TokenMaps({depths} ViT depths, {rows} × {columns} patches, top {ranks}, LM "
            f"layer {self.layer}, {self.lens})"
        )

    @property
    def probabilities(self) -> np.ndarray:
        """(depth, row, column, rank) the scores, where they are probabilities."""
        if self.measure != PROBABILITY:
            raise ValueError(f"The {self.lens} gives a {self.measure} for each word: see `scores`.")
        return self.scores

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
        """A long table: depth, row, column, rank (1 is best), word, and its score under the name
        of the measure, "probability" or "cosine"."""
        import pandas

        depth, row, column, rank = np.indices(self.top_ids.shape).reshape(4, -1)
        return pandas.DataFrame(
            {
                "depth": np.array(self.depths)[depth],
                "row": row,
                "column": column,
                "rank": rank + 1,
                "word": self.top_words.reshape(-1),
                self.measure: self.scores.reshape(-1),
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
            self.image, self.top_words, self.scores, self.depths, [self.layer], kinds, self.measure
        )


def explore(
    vlm: VLM,
    image: ImageLike,
    layers: Iterable[int] | None = None,
    depths: Iterable[int] | None = None,
    kinds: Mapping[str, str] | None = None,
    widget: bool = False,
    lens: Lens | None = None,
) -> Slider | VBox:
    """One picture, two sliders: over the depths of the ViT and over the layers of the LM; all that
    the lens can read of either by default.

    Args:
        kinds, widget: as for `TokenMaps.show`.
        lens: as for `token_maps`.
    """
    lens = chosen_lens(vlm, lens)
    layers = list(lens.layers if layers is None else layers)
    if not layers:
        raise ValueError("A token map needs at least one LM layer.")
    top_k = min(slider.SHOWN, len(lens.words))
    maps = [
        token_maps(vlm, image, layer=layer, depths=depths, top_k=top_k, lens=lens)
        for layer in layers
    ]
    words, scores = (
        np.concatenate([getattr(m, of) for m in maps]) for of in ("top_words", "scores")
    )
    return (slider.widget if widget else Slider)(
        maps[0].image, words, scores, maps[0].depths, layers, kinds, lens.measure
    )

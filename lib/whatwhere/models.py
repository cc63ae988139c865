"""One set of names for every vision-language model in the book.

    vlm = load("toy-llava")  # or a folder, or "llava-hf/llava-1.5-7b-hf"
    vlm.answer("photo.jpg", "what is on the table?")
    vlm.visual_tokens("photo.jpg", depth=3)  # connector outputs; the ViT is cut after three blocks

A `VLM` holds an untouched Hugging Face model (`vlm.model`) and runs its own modules; `families`
says where they are. *Depth* counts ViT blocks (0 is the patch embedding), *layer* counts
language-model blocks (0 is the connector's output). Nothing here changes a weight or leaves a hook
behind.

What is to be read (logits, visual tokens, states, positions) is handed out on the CPU, and in
float32 where the model computes in half precision: numpy takes it, whatever the model runs on. What
runs the model (`prepare`, `visual`, `embed`, `lm_hidden`) stays on `vlm.device`, in `vlm.dtype`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import torch
from PIL import Image
from transformers import GenerationConfig

from . import attention as _attention
from . import images as _images
from . import places
from .families import adapter_class
from .families.adapter import Model, Module, Modules, check_members
from .files import together
from .finite import Watch, check_finite, extremes, first_bad, not_finite
from .hooks import check_count, check_range, off_device, residual_stream
from .scenes import Scene, cover
from .tokens import readable, spelt
from .types import ImageLike, Several

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


AT_ONCE = 16  # images of one size whose states are read together


class Positions(NamedTuple):
    """Where an image's tokens are.

    All three are on the CPU.

    Attributes:
        index: (tokens,) places of the visual tokens in the sequence, in raster order.
        lm: (tokens,) positions given to the LM's rotary embedding; (3, tokens) time, row, column
            with M-RoPE.
        vit: (patches, 2) row and column of every ViT patch, in the ViT's own order.
    """

    index: torch.Tensor
    lm: torch.Tensor
    vit: torch.Tensor


class VLM:
    """A vision-language model whose parts have the same names in every family.

    Attributes:
        model, tokenizer, image_processor: the Hugging Face objects.
        name, family, device, dtype: what it is called, and where and how it computes.
        vision_blocks, connector, lm_layers, final_norm, unembedding: its modules, in the order they
            run.
        depths: the ViT depth that feeds the connector (LLaVA-1.5 skips its last block: 23 of 24).
        n_layers: LM blocks.
        lens_layer: the LM layer that the lens reads unless told otherwise.
        words: what each id of the vocabulary looks like to a reader.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Any,
        name: str = "model",
    ):
        _check_is_here(model, name)
        self.model: Model = model
        self.tokenizer: Any = tokenizer
        self.image_processor, self.name = image_processor, name
        self.family: str = self.model.config.model_type
        self.adapter = adapter_class(self.family)(self.model, image_processor)
        check_members(self.adapter)
        self.vision_blocks, self.connector = self.adapter.vision_blocks, self.adapter.connector
        self.lm = self.adapter.lm
        self.lm_layers: Modules = self.lm.layers
        self.final_norm: Module = self.lm.norm
        self.unembedding: Module = self.model.lm_head
        self.last_depth, self.n_layers = self.adapter.depth, len(self.lm_layers)
        self.about: dict[str, Any] = getattr(self.model.config, "whatwhere", None) or {}
        # the paper reads layer 25 of LLaVA's 32
        self.lens_layer: int = self.about.get("lens_layer", round(25 / 32 * self.n_layers))
        self._warned, self._reduced, self._checkpoint_pixels = False, False, None
        self._grids, self._views = {}, {}

    def __repr__(self):
        return (
            f"VLM({self.name}: {self.family}, ViT depth {self.last_depth}, {self.n_layers} LM "
            f"layers, {self.dtype}, {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.unembedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """In which type of number the model computes."""
        return self.unembedding.weight.dtype

    @cached_property
    def words(self) -> np.ndarray:
        """(vocabulary,) array of strings: each token as a reader reads it."""
        return readable(self._pieces())

    @cached_property
    def texts(self) -> np.ndarray:
        """(vocabulary,) array of strings: what each token adds to a text, where `words` makes its
        blanks visible."""
        return spelt(self._pieces())

    def _pieces(self):
        n = self.unembedding.weight.shape[0]
        # either may have ids that the other lacks
        n_known = min(n, 1 + max(self.tokenizer.get_vocab().values()))
        return self.tokenizer.convert_ids_to_tokens(list(range(n_known))) + [None] * (n - n_known)

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint folder that `load` opens: weights as safetensors, tokenizer, image
        processor. Returns its path."""
        with together(folder) as new:
            for part in (self.model, self.tokenizer):
                part.save_pretrained(new)
            bound = (
                _images.bounded(self, max_pixels=self._checkpoint_pixels)
                if self._bounded_by_default
                else nullcontext()
            )
            with bound:  # the bound that `load` sets by default is no part of the checkpoint
                self.image_processor.save_pretrained(new)
        return Path(folder)

    # -- images and prompts in
    # --------------------------------------------------------------------------------

    def patch_grid(self, image: ImageLike) -> tuple[int, int]:
        """(rows, columns) of the visual tokens of `image`; where patches are merged, after
        merging."""
        image = self._read(image)
        key = image.size, str(vars(self.image_processor))  # all that it depends on
        if key not in self._grids:
            self._grids[key] = self.adapter.grids(self._pixels([image]))[0]
        return self._grids[key]

    def viewed(self, image: ImageLike) -> _images.View:
        """What of `image` reaches the patches, where the model resizes, crops or pads: an
        `images.View`."""
        size = self._read(image).size
        key = size, str(vars(self.image_processor))
        if key not in self._views:
            self._views[key] = self.adapter.viewed(size)
        return self._views[key]

    def cover(self, scene: Scene, grid: tuple[int, int] | None = None) -> np.ndarray:
        """(things + 1, rows, columns) what each thing of a scene covers of each visual token's
        field, and last the ground.

        It is taken of what the model really sees, after its resizing and cropping; see
        `scenes.cover`.

        Args:
            grid: (rows, columns) of another grid over the same, such as the ViT's patches
                (`geometry.grids`).
        """
        return cover(scene, grid or self.patch_grid(scene.image), self.viewed(scene.image))

    @property
    def max_pixels(self) -> int | None:
        """The most pixels of a picture that reaches the ViT; larger ones are reduced. None where
        all are shown at one size."""
        bounds = self.adapter.bounds()
        return bounds and bounds[1]

    @max_pixels.setter
    def max_pixels(self, most: int | None) -> None:
        _images.bound(self, max_pixels=most)

    def seen(self, image: ImageLike) -> Image.Image:
        """The picture that reaches the ViT, resized (and for CLIP cropped), as a PIL image."""
        return self.adapter.seen(self._read(image))

    def positions(self, image: ImageLike, prompt: str = "") -> Positions:
        """Where the visual tokens of `image` stand in the sequence and in the ViT: a
        `Positions`."""
        inputs = self.prepare(image, prompt)
        index = places.find(self, inputs["input_ids"]).index[0]
        lm, vit = self.position_ids(inputs)[..., 0, index], self.adapter.patch_positions(inputs)
        return Positions(index.cpu(), lm.cpu(), vit.cpu())

    def image_places(self, inputs: dict[str, Any]) -> torch.Tensor:
        """(batch, length) true where a token stands for a piece of the image; `places.find` has
        more of it."""
        return places.find(self, inputs["input_ids"]).mask

    def position_ids(self, inputs: dict[str, Any]) -> torch.Tensor:
        """What the LM's rotary embedding is given: (batch, length), or (3, batch, length) with
        M-RoPE."""
        return self.adapter.position_ids(inputs)

    def prepare(
        self,
        images: ImageLike | Several,
        prompts: str | Sequence[str],
        answers: str | Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """What `vlm.model(**inputs)` takes, for one question or many.

        Args:
            images: an image (anything `images.read` takes) or a list.
            prompts: the user's question or a list. One of a kind goes with all of the other.
            answers: a text that follows each prompt, such as what the model said. The chat template
                is applied, the image placeholder expanded to one token per visual token, and the
                sequences padded on the left: `input_ids` is (batch, length).
        """
        pictures, questions, _ = _pair(images, prompts)
        pixels = self._pixels(pictures)
        ids = [
            self._encode(question, rows * columns + self.adapter.leading)
            for question, (rows, columns) in zip(questions, self.adapter.grids(pixels))
        ]
        if answers is not None:
            ids = [prompt + answer for prompt, answer in zip(ids, self._answers(answers, len(ids)))]
        length = max(map(len, ids))
        padded = [[self._pad] * (length - len(row)) + row for row in ids]
        mask = [[0] * (length - len(row)) + [1] * len(row) for row in ids]
        return self.adapter.model_inputs(
            torch.tensor(padded, device=self.device), torch.tensor(mask, device=self.device), pixels
        )

    # -- running
    # ----------------------------------------------------------------------------------------------

    @overload
    def answer(
        self,
        image: ImageLike,
        question: str,
        max_new_tokens: int = 40,
        batch_size: int = 16,
        plain: bool = True,
    ) -> str: ...
    @overload
    def answer(
        self,
        image: Any,
        question: Any,
        max_new_tokens: int = 40,
        batch_size: int = 16,
        plain: bool = True,
    ) -> list[str]: ...
    @torch.no_grad()
    def answer(
        self,
        image: ImageLike | Several,
        question: str | Sequence[str],
        max_new_tokens: int = 40,
        batch_size: int = 16,
        plain: bool = True,
    ) -> str | list[str]:
        """The model's own answer, decoded greedily: a string, or a list where a list was given.

        Each token is the likeliest one, up to the first that ends an answer. What else the
        checkpoint's generation_config asks for (a penalty on repetition in Qwen2.5-VL, words that
        are forced or forbidden, a least length) is left aside; plain=False does as it asks, but for
        sampling and beams.
        """
        images, questions, many = _pair(image, question)
        _check_prompts(questions)
        check_count("max_new_tokens", max_new_tokens)
        check_count("batch_size", batch_size)
        answers = []
        for start in range(0, len(images), batch_size):
            inputs = self.prepare(
                images[start : start + batch_size], questions[start : start + batch_size]
            )
            watch = Watch()
            greedy = {
                "do_sample": False,
                "num_beams": 1,
                "max_new_tokens": max_new_tokens,
                "pad_token_id": self._pad,
            }
            with _by_likelihood_alone(self.model) if plain else nullcontext():
                ids = self.model.generate(
                    **inputs,
                    **greedy,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    logits_processor=[watch],
                )
            watch.check()
            new = ids[:, inputs["input_ids"].shape[1] :].tolist()
            answer_ids = [list(takewhile(lambda token: token not in self.ends, row)) for row in new]
            answers += [
                text.strip()
                for text in self.tokenizer.batch_decode(answer_ids, skip_special_tokens=True)
            ]
        return answers if many else answers[0]

    @torch.no_grad()
    def logits(self, image: ImageLike | Several, prompt: str | Sequence[str]) -> torch.Tensor:
        """(length, vocabulary) logits at every position of the prompt; (batch, length, vocabulary)
        for lists.

        Computed part by part, by the names above; the tests hold it to the model's own forward
        pass.
        """
        images, prompts, many = _pair(image, prompt)
        _check_prompts(prompts)
        inputs = self.prepare(images, prompts)
        hidden = self.lm_hidden(
            self.embed(inputs), inputs["attention_mask"], self.position_ids(inputs)
        )
        logits = off_device(check_finite(self.unembedding(self.final_norm(hidden)), "the logits"))
        return logits if many else logits[0]

    @overload
    def visual_tokens(self, image: ImageLike, depth: int | None = None) -> torch.Tensor: ...
    @overload
    def visual_tokens(self, image: Several, depth: int | None = None) -> list[torch.Tensor]: ...
    @torch.no_grad()
    def visual_tokens(
        self, image: ImageLike | Several, depth: int | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """(rows × columns, hidden) visual tokens of `image` in raster order, after the connector.

        A list of images gives a list.

        Args:
            depth: run only so many ViT blocks, 0 … `vlm.last_depth`, which is the default; 0 is
                the patch embedding alone.
        """
        depth = self.last_depth if depth is None else depth
        if isinstance(image, (list, tuple)):
            return [tokens[0] for tokens in self.visual_tokens_by_depth(image, [depth])]
        return self.visual_tokens_by_depth(image, [depth])[0]

    @overload
    def visual_tokens_by_depth(
        self, image: ImageLike, depths: Iterable[int] | None = None
    ) -> torch.Tensor: ...
    @overload
    def visual_tokens_by_depth(
        self, image: Several, depths: Iterable[int] | None = None
    ) -> list[torch.Tensor]: ...
    @torch.no_grad()
    def visual_tokens_by_depth(
        self, image: ImageLike | Several, depths: Iterable[int] | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """(depths, rows × columns, hidden) visual tokens from one pass through the ViT; a list
        gives a list.

        This is the paper's truncated-ViT family: the connector reads the residual stream after each
        depth.
        """
        images = list(image) if isinstance(image, (list, tuple)) else [image]
        leading, width = self.adapter.leading, self.unembedding.weight.shape[1]
        visual = self.visual(self._pixels(images), depths)
        tokens = [off_device(state[:, leading:, :width]) for state in visual]
        return tokens if isinstance(image, (list, tuple)) else tokens[0]

    def visual(
        self, inputs: dict[str, Any], depths: Iterable[int] | None = None
    ) -> list[torch.Tensor]:
        """What the LM is given to see, for prepared inputs: per image (depths, leading + rows ×
        columns, width).

        The width is that of the LM; where the LM is given several ViT depths
        (`vlm.adapter.extra_depths`, in Qwen3-VL), it is a multiple of that: what is added later
        lies beside the connector's output, zeros where it comes of a depth beyond the one asked
        for. A LLaVA that keeps CLIP's class token has one leading token before the patches
        (`vlm.adapter.leading`).
        """
        depths = self._checked(depths)
        read = {*depths, *(depth for depth in self.adapter.extra_depths if depth <= max(depths))}
        connected = self._vit(
            inputs, sorted(read), lambda state, depth: self._connected(state, inputs, depth)
        )
        by_depth = self._joined(dict(zip(sorted(read), connected)), depths)
        bad = first_bad([torch.stack(list(map(extremes, tokens))) for tokens in by_depth])
        if bad is not None:
            what = f"the connector, which was fine at its entrance, at ViT depth {depths[bad]}"
            raise not_finite(what, by_depth[bad][0].dtype)
        return [torch.stack(tokens) for tokens in zip(*by_depth)]

    def _connected(self, state, inputs, depth):
        """What the connector makes of a ViT state, and what is added later because it is one of the
        `extra_depths`; or None."""
        tokens = self.adapter.connect(state, inputs)
        if depth not in self.adapter.extra_depths:
            return tokens, None
        return tokens, self.adapter.connect_extra(state, inputs, depth)

    def _joined(self, connected, depths):
        """For each depth a list of (tokens, width) for each image; connected: {depth: what
        `_connected` gave}."""
        extra, by_depth = self.adapter.extra_depths, []
        for depth in depths:
            tokens, _ = connected[depth]
            added = [
                connected[extra_depth][1] if extra_depth <= depth else map(torch.zeros_like, tokens)
                for extra_depth in extra
            ]
            by_depth.append(
                [torch.cat(parts, -1) for parts in zip(tokens, *added)] if extra else tokens
            )
        return by_depth

    @overload
    def vit_states(self, image: ImageLike, depths: Iterable[int] | None = None) -> torch.Tensor: ...
    @overload
    def vit_states(
        self, image: Several, depths: Iterable[int] | None = None
    ) -> list[torch.Tensor]: ...
    @torch.no_grad()
    def vit_states(
        self, image: ImageLike | Several, depths: Iterable[int] | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """(depths, rows × columns, features) the ViT's residual stream as the connector finds it; a
        list gives a list.

        One row for each visual token, in raster order: the state of its patch, or of its patches
        one after the other where the connector merges them. Depth 0 is the patch embedding; all
        depths by default.
        """
        images = list(image) if isinstance(image, (list, tuple)) else [image]
        inputs = self._pixels(images)
        by_depth = self._vit(
            inputs, depths, lambda state, depth: self.adapter.patches(state, inputs)
        )
        states = [off_device(torch.stack(tokens)) for tokens in zip(*by_depth)]
        return states if isinstance(image, (list, tuple)) else states[0]

    def _vit(self, inputs, depths, take):
        """For each depth, what `take(state, depth)` makes of the ViT's state there."""
        depths = self._checked(depths)
        arguments, named = self.adapter.vision_arguments(inputs)
        return residual_stream(
            self.adapter.vision,
            self.vision_blocks,
            depths,
            *arguments,
            **named,
            take=take,
            what="ViT depth",
        )

    def _checked(self, depths):
        """A list of ViT depths, all by default."""
        depths = list(range(self.last_depth + 1)) if depths is None else list(depths)
        if not depths:
            raise ValueError("Ask for one ViT depth at least.")
        for depth in depths:
            check_range("depth", depth, self.last_depth)
        return depths

    def embed(
        self, inputs: dict[str, Any], visual: Sequence[torch.Tensor] | torch.Tensor | None = None
    ) -> torch.Tensor:
        """(batch, length, width) input embeddings of the LM, visual tokens in their places; width
        as for `visual`.

        Args:
            visual: one (leading + rows × columns, width) tensor per image, on any device; by
                default the model's own.
        """
        if visual is None:
            visual = [tokens[0] for tokens in self.visual(inputs, [self.last_depth])]
        embeddings = self.model.get_input_embeddings()(inputs["input_ids"])
        embeddings = self.adapter.pack({"inputs_embeds": embeddings})  # text has nothing else
        width = embeddings.shape[-1]
        if any(tokens.shape[-1] != width for tokens in visual):
            raise ValueError(
                f"{self.name} is given visual tokens of width {width}, as `vlm.visual` makes them "
                "(`visual_tokens` leaves out what is added later in the LM); not "
                f"{', '.join(str(tokens.shape[-1]) for tokens in visual)}."
            )
        mask = self.image_places(inputs)[..., None]
        return embeddings.masked_scatter(
            mask, torch.cat([tokens.to(embeddings) for tokens in visual])
        )

    @torch.no_grad()
    def embed_with_states(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(embeddings, states): what `embed` gives, and for each image what `vit_states` gives at
        all depths, from one pass."""
        needed = {self.last_depth, *self.adapter.extra_depths}

        def take(state, depth):
            connected = self._connected(state, inputs, depth) if depth in needed else None
            return self.adapter.patches(state, inputs), connected

        patches, connected = zip(*self._vit(inputs, None, take))
        (visual,) = self._joined(dict(enumerate(connected)), [self.last_depth])
        return self.embed(inputs, visual), [torch.stack(of_image) for of_image in zip(*patches)]

    def lm_inputs(
        self,
        embeddings: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        """What `vlm.lm(**inputs)` takes: a dictionary. Arguments as for `lm_hidden`.

        Raises:
            ValueError: for embeddings of another width than those of `embed`.
        """
        width = self.unembedding.weight.shape[1] * (1 + len(self.adapter.extra_depths))
        if embeddings.shape[-1] != width:
            raise ValueError(
                f"The language model of {self.name} takes embeddings as `vlm.embed` makes them, of "
                f"width {width}, not {embeddings.shape[-1]}."
            )
        return {
            **self.adapter.unpack(embeddings),
            "attention_mask": attention_mask,
            "position_ids": position_ids,
        }

    @overload
    def lm_hidden(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        layer: int | None = None,
    ) -> torch.Tensor: ...
    @overload
    def lm_hidden(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        layer: Several,
    ) -> list[torch.Tensor]: ...
    def lm_hidden(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        layer: int | Several | None = None,
    ) -> torch.Tensor | list[torch.Tensor]:
        """(batch, length, hidden) residual stream of the LM after `layer` blocks, and no block more
        is run.

        Args:
            inputs_embeds: (batch, length, width), as `embed` makes them. Where something is added
                after a block (`extra_depths`), its state is the one before that, as in
                transformers' `hidden_states`.
            layer: 0 … `vlm.n_layers`, the last by default (before the final norm); a list of layers
                gives a list.
            position_ids: as `vlm.position_ids(inputs)` makes them.

        Raises:
            NotFinite: where a state is nan or infinite.
        """
        chosen: Any = self.n_layers if layer is None else layer
        layers: list[int] = list(chosen) if isinstance(chosen, Iterable) else [chosen]
        for number in layers:
            check_range("layer", number, self.n_layers)
        states = residual_stream(
            self.lm, self.lm_layers, layers,
            **self.lm_inputs(inputs_embeds, attention_mask, position_ids), use_cache=False,
            what="LM layer", real=attention_mask,
        )  # fmt: skip
        return states if isinstance(layer, (list, tuple)) else states[0]

    @overload
    def states(
        self,
        image: ImageLike,
        layer: int | Several | None = None,
        prompt: str = "",
        depth: int | None = None,
    ) -> torch.Tensor: ...
    @overload
    def states(
        self,
        image: Several,
        layer: int | Several | None = None,
        prompt: str = "",
        depth: int | None = None,
    ) -> list[torch.Tensor]: ...
    @torch.no_grad()
    def states(
        self,
        image: ImageLike | Several,
        layer: int | Several | None = None,
        prompt: str = "",
        depth: int | None = None,
    ) -> torch.Tensor | list[torch.Tensor]:
        """(rows × columns, hidden) residual stream of the LM at the visual tokens of `image`, in
        raster order. A list of images gives a list, of images of one size some at a time.

        Followed by the final norm and the unembedding, this is what the logit lens reads.

        Args:
            layer: after how many blocks: 0, the connector's output, to `vlm.n_layers`, the default;
                a list of layers gives (layers, rows × columns, hidden).
            depth: the ViT depth that the connector reads, the last by default.
        """
        depths = [self.last_depth if depth is None else depth]
        images = image if isinstance(image, (list, tuple)) else [image]
        at_once = AT_ONCE if len({self.patch_grid(one) for one in images}) == 1 else 1
        found: list[torch.Tensor] = []
        for start in range(0, len(images), at_once):
            batch = list(images[start : start + at_once])
            inputs = self.prepare(batch, [prompt] * len(batch))
            embeddings = self.embed(inputs, [tokens[0] for tokens in self.visual(inputs, depths)])
            hidden = self.lm_hidden(
                embeddings, inputs["attention_mask"], self.position_ids(inputs), layer
            )
            indices = places.find(self, inputs["input_ids"]).index
            for n, index in enumerate(indices):
                if isinstance(hidden, list):
                    found.append(off_device(torch.stack([each[n, index] for each in hidden])))
                else:
                    found.append(off_device(hidden[n, index]))
        return found if isinstance(image, (list, tuple)) else found[0]

    @overload
    def attention(
        self,
        image: ImageLike,
        question: str = "",
        answer: str | None = None,
        *,
        layers: int | Iterable[int] | None = None,
        depths: int | Iterable[int] | None = None,
        take: None = None,
    ) -> _attention.Attention: ...
    @overload
    def attention(
        self,
        image: ImageLike | Several,
        question: str | list[str] = "",
        answer: str | list[str] | None = None,
        *,
        layers: int | Iterable[int] | None = None,
        depths: int | Iterable[int] | None = None,
        take: Callable[[torch.Tensor], Any] | None = None,
    ) -> list[Any]: ...
    def attention(
        self,
        image: ImageLike | Several,
        question: str | list[str] = "",
        answer: str | list[str] | None = None,
        *,
        layers: int | Iterable[int] | None = None,
        depths: int | Iterable[int] | None = None,
        take: Callable[[torch.Tensor], Any] | None = None,
    ) -> _attention.Attention | list[Any]:
        """What each token collects from which others, in some blocks of the LM or of the ViT.

        Args:
            image: anything `images.read` takes, or a list of images.
            question: what is asked about it; a list goes with a list of images, or with one.
            answer: a text that follows, such as what `vlm.answer` said: its words look, too. A list
                holds one for each question.
            layers: blocks of the LM, counted from 1; all by default. Of each, (heads, tokens,
                tokens) numbers of four bytes are kept: in LLaVA-1.5-7B 46 MB for 600 tokens.
            depths: instead, blocks of the ViT, counted from 1, whose tokens are patches.
            take: what is kept of a block, a function of its weights (heads, tokens, tokens): no
                more of it stays in memory.

        Returns:
            An `attention.Attention`, or with `take` a list of what it gave for each block; for
            lists, a list with one for each image.

        Raises:
            ValueError: for blocks that there are not, and where attention is neither "sdpa" nor
                "eager".
        """
        images, questions, many = _pair(image, question)
        answers = [answer] * len(images) if isinstance(answer, str) else answer
        by_image = _attention.read(self, images, questions, answers, layers, depths, take)
        return by_image if many else by_image[0]

    # -- inside
    # ----------------------------------------------------------------------------------------------

    def _read(self, image):
        original, image = image, _images.read(image)
        self._say_what_it_knows(original, image)
        self._say_that_it_is_reduced(image)
        if max(image.size) > 200 * min(image.size):
            raise ValueError(
                f"The image is {image.width} × {image.height} pixels: longer than 200 times its "
                "other side, more a line than a picture. Crop it first."
            )
        return image

    def _pixels(self, images):
        once = {id(image): image for image in images}  # many questions are asked about one
        pixels = self.adapter.pixels([self._read(image) for image in once.values()])
        if len(once) < len(images):
            order = list(once)
            pixels = self.adapter.pick(pixels, [order.index(id(image)) for image in images])
        return {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in pixels.items()
        }

    def _encode(self, prompt, n):
        """Token ids of `prompt` in the chat template, its one image placeholder repeated `n`
        times."""
        if not isinstance(prompt, str) or any("\ud800" <= c <= "\udfff" for c in prompt):
            raise ValueError(
                f"A prompt is a question in words, and of whole characters, not {prompt!r}."
            )
        image = self.model.config.image_token_id
        text = self.as_chat(prompt)
        # some templates write it, others leave it to the tokenizer
        start = self.tokenizer.bos_token
        ids = self._with_rows(
            self.tokenizer(text, add_special_tokens=not (start and text.startswith(start)))[
                "input_ids"
            ]
        )
        if image not in ids:
            raise ValueError(
                f"The chat template writes no {self.tokenizer.decode([image])!r}, the visual token "
                "by the model's config, so that an image has no place in it."
            )
        if ids.count(image) > 1:
            raise ValueError(
                "A prompt holds words only; the image's own token "
                f"{self.tokenizer.decode([image])!r} is put in by the chat template, and after it "
                f"this prompt has {ids.count(image)} of them."
            )
        place = ids.index(image)
        before, after = self.token_ids(self.adapter.around) or ([], [])
        return [*ids[:place], *before, *[image] * n, *after, *ids[place + 1 :]]

    def _answers(self, answers, n):
        """Token ids of the texts that follow `n` prompts."""
        answers = [answers] if isinstance(answers, str) else list(answers)
        if len(answers) != n:
            raise ValueError(f"There are {len(answers)} answers for {n} prompts: give one each.")
        _check_prompts(answers, "An answer is a text")
        ids = self.token_ids(answers)
        if any(self.model.config.image_token_id in answer for answer in ids):
            raise ValueError("An answer holds words only, and not the image's own token.")
        return ids

    def as_chat(self, prompt: str) -> str:
        """The text of a question about one image, as the chat template writes it; the image is one
        placeholder there."""
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        return self.tokenizer.apply_chat_template(
            [message], tokenize=False, add_generation_prompt=True
        )

    def token_ids(self, texts: Iterable[str]) -> list[list[int]]:
        """Token ids of each text as it is, without the chat template: a list of lists."""
        return [
            self._with_rows(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in texts
        ]

    def _with_rows(self, ids):
        """The ids, if the model has an embedding for all of them: a tokenizer may know tokens that
        were added after training."""
        rows = len(self.model.get_input_embeddings().weight)
        strange = next((token for token in ids if token >= rows), None)
        if strange is not None:
            raise ValueError(
                "A prompt holds only what the model has an embedding for; its tokenizer knows "
                f"{self.tokenizer.decode([strange])!r} (id {strange}), and its embeddings end at "
                f"id {rows - 1}. Leave that token out."
            )
        return ids

    def after_image(self, prompt: str) -> list[int]:
        """Token ids of what comes after the image in a prompt: the question, and what calls for an
        answer."""
        ids, image = self._encode(prompt, 1), self.model.config.image_token_id
        return ids[ids.index(image) + 1 :]

    @property
    def ends(self) -> set[int]:
        """The ids of the tokens that end an answer, by the checkpoint's generation_config: a
        set."""
        named = self.model.generation_config.eos_token_id
        return set(named if isinstance(named, (list, tuple)) else () if named is None else [named])

    @property
    def _pad(self):
        """What rows are filled up with, and masked: of the tokens made for it, the first that has
        an embedding."""
        rows = len(self.model.get_input_embeddings().weight)
        named = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((token for token in named if token is not None and token < rows), 0)

    def _say_what_it_knows(self, original, image):
        """An organism has seen one small world; say so, once, when it is shown something else."""
        size = self.about.get("image_size", image.width)
        foreign = isinstance(original, (str, Path)) or image.size != (size, size)
        if foreign and self.about.get("organism") and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.name} has only ever seen the {self.about.get('world', 'small')} world it "
                "was trained on. It will answer about any picture, in that world's words, "
                "whether they fit or not.",
                stacklevel=2,
            )

    def _bound_by_default(self):
        """Reduce pictures to what fits into a small GPU, where the checkpoint itself would take
        larger ones."""
        pixels = self.max_pixels
        if pixels is not None and pixels > _images.MOST_PIXELS:
            self.max_pixels, self._checkpoint_pixels = _images.MOST_PIXELS, pixels

    @property
    def _bounded_by_default(self):
        return self._checkpoint_pixels is not None and self.max_pixels == _images.MOST_PIXELS

    def _say_that_it_is_reduced(self, image):
        """What `load` does to large pictures by default is said once, with what it comes to."""
        if (
            self._reduced
            or image.width * image.height <= _images.MOST_PIXELS
            or not self._bounded_by_default
        ):
            return
        self._reduced = True
        rows, columns = self.patch_grid(image)
        warnings.warn(
            f"A picture of {image.width} × {image.height} pixels is reduced for {self.name}: to "
            f"{rows} × {columns} visual tokens, since more take memory that a free GPU lacks. So "
            "are other large ones, unless you set vlm.max_pixels, or load(…, max_pixels=…); the "
            f"checkpoint itself allows {self._checkpoint_pixels} pixels.",
            stacklevel=2,
        )


def _check_is_here(model, name):
    """Refuse a model some of whose weights are offloaded, or whose unembedding holds no plain
    numbers."""
    offloaded = next((part for part, weight in model.named_parameters() if weight.is_meta), None)
    if offloaded is not None:
        raise ValueError(
            f"'{offloaded}' of '{name}' is offloaded, to the disk or another memory, and whatwhere "
            "reads all weights: load it without device_map. Where it is too large, take "
            "dtype='float16' or '4-bit'."
        )
    weight = getattr(model.get_output_embeddings(), "weight", None)
    if weight is None or not weight.is_floating_point():
        raise ValueError(
            f"The unembedding of '{name}' (lm_head) is quantised, and words are read through it: "
            "take a checkpoint that leaves it whole, as dtype='4-bit' does."
        )


@contextmanager
def _by_likelihood_alone(model):
    """Within this context nothing of the model's generation_config counts but the tokens that end
    an answer.

    `generate` fills in from it whatever its caller leaves open, so that a config that is given as
    well would not do.
    """
    config = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=config.eos_token_id)
    try:
        yield
    finally:
        model.generation_config = config


def _check_prompts(prompts, what="A prompt is a question in words"):
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"{what}, not {prompt!r}.")


def _pair(images: Any, prompts: Any) -> tuple[list[Any], list[str], bool]:
    """Lists of equal length from one or many of each, and whether many were given."""
    many = isinstance(images, (list, tuple)) or isinstance(prompts, (list, tuple))
    images = list(images) if isinstance(images, (list, tuple)) else [images]
    prompts = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
    n = max(len(images), len(prompts))
    if not images or not prompts or {len(images), len(prompts)} - {1, n}:
        raise ValueError(
            f"{len(images)} images do not pair with {len(prompts)} prompts: give as many of "
            "each, or one of either."
        )
    return images * (n // len(images)), prompts * (n // len(prompts)), many

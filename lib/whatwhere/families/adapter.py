"""What every family's adapter has: its members, with their shapes, and what most families share.

An adapter computes nothing of its own and holds no weights. It says where the parts of an
untouched Hugging Face model are, and sorts what goes in and what comes out.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from difflib import get_close_matches
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..images import View

if TYPE_CHECKING:  # to torch, whatever a module holds is "Tensor | Module"
    Model: TypeAlias = Any
    Module: TypeAlias = Any
    Modules: TypeAlias = Any
else:  # `check_members` looks when a model is loaded
    Model, Module, Modules = PreTrainedModel, nn.Module, nn.ModuleList

Grid = tuple[int, int]  # (rows, columns)
Pixels = dict[str, Tensor]
Projection = tuple[Module, Callable[[Tensor], Tensor]]  # a module, and what is made of its output


class Adapter(ABC):
    """The members of an adapter. A family is a subclass, made for one model when it is loaded.

    *Tokens* are the visual tokens of an image: rows × columns of its grid, after merging. m is
    `merge`. A *ViT state* is the residual stream between two blocks, in the ViT's own shape and
    order: (images, patches, ViT width), or (patches of all images, ViT width).
    """

    model_class: Annotated[
        ClassVar[type[PreTrainedModel]], "The class of transformers that opens the checkpoint."
    ]
    image_processor_class: Annotated[
        ClassVar[type], "Its image processor's class: one that works without torchvision."
    ]
    processor_options: Annotated[
        ClassVar[dict[str, Any]],
        "What the family's own processor is told, so that it shows pictures as this adapter does.",
    ] = {}
    model: Annotated[Model, "The untouched model."]
    image_processor: Annotated[Any, "What makes pixels of pictures."]
    vision: Annotated[Module, "The ViT: the module that is called with the pixels."]
    vision_blocks: Annotated[Modules, "The ViT's blocks, in the order they run."]
    connector: Annotated[Module, "The module with the connector's weights."]
    lm: Annotated[Module, "The language model, with its blocks `layers` and its last `norm`."]
    depth: Annotated[int, "After how many ViT blocks the connector reads."]
    merge: Annotated[int, "Patches along a side of a visual token."]
    leading: Annotated[int, "Visual tokens before the first patch: a class token that is kept."] = 0
    around: Annotated[tuple, "Two texts, written before and after the visual tokens; or ()."] = ()
    side: Annotated[
        int | None, "Patches along a side of the picture, where all are shown at one square size."
    ] = None
    token_area: Annotated[
        int | None, "Pixels of a visual token, where pictures keep their own size."
    ] = None
    position_table: Annotated[
        nn.Embedding | None, "The embedding with the table of the ViT's places, if there is one."
    ] = None
    position_tensor: Annotated[
        Tensor | None, "The table of the ViT's places, where it is a tensor and no embedding."
    ] = None
    rotary: Annotated[
        Module | None, "The module whose `inv_freq` are the frequencies of a ViT's 2-D RoPE."
    ] = None
    extra_depths: Annotated[
        tuple, "ViT depths that are added later in the LM: the n-th of them after its n-th block."
    ] = ()
    extra_connectors: Annotated[
        tuple, "The modules with the weights of `connect_extra`, one for each of `extra_depths`."
    ] = ()

    def __init__(self, model: Model, image_processor: Any):
        """Sets `model`, `image_processor`, and `lm` where it goes by its usual name."""
        self.model, self.image_processor = model, image_processor
        if hasattr(model.model, "language_model"):
            self.lm = model.model.language_model

    # -- image → patches --------------------------------------------------------------------------

    @abstractmethod
    def pixels(self, images: list[Image.Image]) -> Pixels:
        """What the model takes of pictures of any size: a dictionary of tensors."""

    def pick(self, pixels: Pixels, index: list[int]) -> Pixels:
        """What `pixels` would give for some of its images, by their numbers."""
        return {name: values[index] for name, values in pixels.items()}

    @abstractmethod
    def grids(self, pixels: Pixels) -> list[Grid]:
        """(rows, columns) of the visual tokens, for each image."""

    @abstractmethod
    def patch_positions(self, pixels: Pixels) -> Tensor:
        """(patches, 2): row and column of each patch of the first image, in the ViT's order."""

    @abstractmethod
    def seen(self, image: Image.Image) -> Image.Image:
        """The picture that is left after resizing and cropping."""

    def viewed(self, size: tuple[int, int]) -> View:
        """What of a picture of (width, height) reaches the patches, an `images.View`: the size to
        which it is resized, and the box of that which is kept. Left out, all of it is."""
        return View(size, (0, 0, *size))

    def bounds(self) -> tuple[int, int] | None:
        """(least, most) pixels that reach the ViT; None where all pictures are of one size."""
        return None

    def set_bounds(self, least: int, most: int) -> None:
        """Sets `bounds`, where pictures keep their own size."""
        raise NotImplementedError(f"A {type(self).__name__} shows every picture at one size.")

    # -- patches → ViT ----------------------------------------------------------------------------

    @abstractmethod
    def vision_arguments(self, pixels: Pixels) -> tuple[tuple, dict[str, Any]]:
        """A tuple and a dictionary: the arguments that `vision` is called with."""

    @abstractmethod
    def vit_grids(self, args: tuple, named: dict[str, Any]) -> list[Grid]:
        """(rows, columns) of the patches, for each image, from the arguments of `vision`."""

    @abstractmethod
    def in_vit(self, maps: list[Tensor]) -> Tensor:
        """Whole numbers (rows, columns) of patches for each image, laid out as a ViT state without
        its last axis; −1 for what is no patch."""

    def vision_heads(self, block: Module) -> tuple[Projection, Projection, Projection]:
        """Queries, keys and values of a ViT block, before rotation: for each the module that makes
        them, and a function that gives (…, heads, head size) of its output."""
        return separate_heads(getattr(block, "self_attn", None) or block.attention)

    # -- ViT → connector --------------------------------------------------------------------------

    @abstractmethod
    def patches(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        """(tokens, m² × ViT width) for each image, in raster order, from a ViT state: the patches
        of each visual token, one after the other."""

    @abstractmethod
    def connect(self, hidden: Tensor, pixels: Pixels) -> list[Tensor]:
        """(leading + tokens, LM width) for each image, in raster order: what the model makes of a
        ViT state before its LM."""

    def connect_extra(self, hidden: Tensor, pixels: Pixels, depth: int) -> list[Tensor]:
        """(tokens, LM width) for each image: what is added in the LM, from the ViT state at one of
        `extra_depths`."""
        raise NotImplementedError(f"The LM of a {type(self).__name__} is given one ViT depth.")

    # -- connector → LM ---------------------------------------------------------------------------

    def model_inputs(
        self, input_ids: Tensor, attention_mask: Tensor, pixels: Pixels
    ) -> dict[str, Tensor]:
        """The arguments of the model, a dictionary."""
        return {"input_ids": input_ids, "attention_mask": attention_mask, **pixels}

    def position_ids(self, inputs: dict[str, Tensor]) -> Tensor:
        """(batch, length) positions in the LM; (3, batch, length) with M-RoPE: time, row, column.
        Left out, they count from the first token that is not padding."""
        return (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)

    @abstractmethod
    def grid_at(self, positions: Tensor) -> Grid:
        """(rows, columns) of one image's tokens, from their positions in the LM."""

    def pack(self, named: dict[str, Any]) -> Tensor:
        """(batch, length, (1 + extra depths) × LM width): all that the LM is given for each token,
        from its arguments."""
        return named["inputs_embeds"]

    def unpack(self, embeddings: Tensor) -> dict[str, Any]:
        """The reverse of `pack`: `inputs_embeds` and what else the LM is to be called with."""
        return {"inputs_embeds": embeddings}

    def lm_heads(self, block: Module) -> tuple[Projection, Projection, Projection]:
        """As `vision_heads`, of an LM block; keys and values may be of fewer heads, that share."""
        return separate_heads(block.self_attn)

    def lm_axes(self) -> Tensor:
        """(frequencies,): the axis of the LM's positions by which each of its frequencies turns."""
        return torch.zeros(len(self.lm.rotary_emb.inv_freq), dtype=torch.long)


def separate_heads(attention: Module) -> tuple[Projection, Projection, Projection]:
    """The projections of an attention with `q_proj`, `k_proj`, `v_proj`, and maybe `q_norm`,
    `k_norm`."""

    def heads(output: Tensor) -> Tensor:
        split = output.ndim == 4  # as a norm of each head for itself leaves it
        return output if split else output.unflatten(-1, (-1, attention.head_dim))

    q, k = (
        getattr(attention, f"{name}_norm", None) or getattr(attention, f"{name}_proj")
        for name in "qk"
    )
    return (q, heads), (k, heads), (attention.v_proj, heads)


# -- what is wrong with one -----------------------------------------------------------------------


def members() -> dict[str, str]:
    """{name: what it is} of all that an adapter has: attributes first, then methods."""
    annotated = inspect.get_annotations(Adapter)
    attributes = {name: get_args(kind)[1] for name, kind in annotated.items()}
    methods = {name: method for name, method in vars(Adapter).items() if inspect.isfunction(method)}
    return attributes | {
        name: " ".join((inspect.getdoc(method) or "").split())
        for name, method in methods.items()
        if not name.startswith("_")
    }


def check_class(adapter_class: Any) -> None:
    """Refuse what is no adapter's class, and one with a member that is missing or misnamed.

    Raises TypeError.
    """
    if not (inspect.isclass(adapter_class) and issubclass(adapter_class, Adapter)):
        raise TypeError(
            f"A family's adapter is a subclass of whatwhere.families.Adapter, not {adapter_class!r}"
        )
    needed = [*sorted(adapter_class.__abstractmethods__), "model_class", "image_processor_class"]
    ours = [kind for kind in adapter_class.__mro__ if issubclass(kind, Adapter)]
    strange = _strange({name for kind in ours for name in vars(kind)})
    for member in needed:
        if member in adapter_class.__abstractmethods__ or not hasattr(adapter_class, member):
            raise TypeError(_lacks(adapter_class, member, strange))
    if strange:
        raise TypeError(_no_member(adapter_class, strange[0]))


def check_members(adapter: Adapter) -> None:
    """Refuse an adapter with an attribute that is missing, misnamed, or not of its kind.

    Raises ValueError.
    """
    kind, strange = type(adapter), _strange(vars(adapter))
    for member, wanted in get_type_hints(Adapter).items():
        if get_origin(wanted) is ClassVar:
            continue
        if not hasattr(adapter, member):
            raise ValueError(_lacks(kind, member, strange))
        value = getattr(adapter, member)
        if wanted is not Any and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise ValueError(
                f"The adapter {_name(kind)} has a {type(value).__name__} as `{member}`, which "
                f"takes {getattr(wanted, '__name__', wanted)}. {members()[member]}"
            )
    if strange:
        raise ValueError(_no_member(kind, strange[0]))
    blocks = len(adapter.vision_blocks)
    for depth in (adapter.depth, *adapter.extra_depths):
        if not 0 <= depth <= blocks:
            raise ValueError(
                f"The adapter {_name(kind)} reads ViT depth {depth}, and there are {blocks} blocks."
            )
    added, layers = len(adapter.extra_depths), len(adapter.lm.layers)
    if added and added >= layers:
        raise ValueError(
            f"The adapter {_name(kind)} adds {added} ViT depths in an LM of {layers} blocks; "
            "whatwhere knows models in which the last block reads all that is added."
        )
    if len(adapter.extra_connectors) != added:
        raise ValueError(
            f"The adapter {_name(kind)} adds {added} ViT depths and names "
            f"{len(adapter.extra_connectors)} `extra_connectors`. {members()['extra_connectors']}"
        )


def _strange(names):
    """Public names that no member of an adapter has."""
    return sorted(name for name in names if not name.startswith("_") and name not in members())


def _lacks(kind, member, strange):
    close = get_close_matches(member, strange, 1)
    hint = f" (Its `{close[0]}` is no member: is that the one?)" if close else ""
    return f"The adapter {_name(kind)} lacks `{member}`.{hint} {members()[member]}"


def _no_member(kind, name):
    close = get_close_matches(name, members(), 1)
    hint = f" (Is it `{close[0]}`?)" if close else ""
    return (
        f"The adapter {_name(kind)} has `{name}`, which no adapter has.{hint} "
        "Names of your own begin with '_'."
    )


def _name(kind):
    return f"{kind.__module__}.{kind.__qualname__}"

"""RoPE scaling: some frequencies of a ViT's 2-D RoPE turn faster (paper, section 5).

    with rope.scaled(vlm, alpha=99, p=8):
        vlm.answer(image, question)
        vlm.save("scaled")                       # load("scaled") is scaled for good

It changes one small table, the frequencies, in place, so that a scaled model runs exactly as fast
as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from .projections import vision
from .rotary import gains, sigmoid_gains

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..models import VLM


@contextmanager
def scaled(
    vlm: VLM | PreTrainedModel,
    alpha: float,
    p: float | None = None,
    *,
    k: float | None = None,
    c: float | None = None,
) -> Iterator[None]:
    """Within this context frequency i of the vision tower is θ_i g(i); afterwards it is what it
    was, bit for bit.

    With p, g(i) = 1 + α (2i/d)^p, as in the paper; with k and c, g(i) = 1 + α σ(k (2i/d − c)): see
    `gains`, `sigmoid_gains`.

    Its config says how it is scaled meanwhile, so that a checkpoint saved within the context is
    loaded as a scaled model. (By this package: `transformers` alone passes over the note, and what
    it loads is not scaled.)

    Args:
        vlm: a loaded model, or the bare `transformers` model of any family that keeps
            `visual.rotary_pos_emb`, as Qwen2.5-VL does.

    Raises:
        ValueError: for numbers that `gains` does not take, for a ViT without 2-D RoPE, and for a
            model that is scaled already.
    """
    frequencies, config = _frequencies(vlm), _config(vlm)
    if settings(vlm) is not None:
        raise ValueError(
            f"This model is scaled already, by {settings(vlm)}: leave that context first, or "
            "load it unscaled."
        )
    if (p is None) == (k is None and c is None) or (k is None) != (c is None):
        raise ValueError(
            "Scaling takes alpha and either p, the paper's power, or both k and c, for the sigmoid."
        )
    chosen = {"alpha": alpha, "p": p} if k is None else {"alpha": alpha, "k": k, "c": c}
    _gains(len(frequencies), chosen)
    notes, before = getattr(config, "whatwhere", None), frequencies.clone()
    config.whatwhere = {
        **(notes or {}),
        "rope_scaling": {name: float(value) for name, value in chosen.items()},
    }
    try:
        apply(vlm)
        yield
    finally:
        # asked anew: a model that was moved meanwhile keeps them elsewhere
        _frequencies(vlm).copy_(before)
        if notes is None:
            del config.whatwhere
        else:
            config.whatwhere = notes


def settings(vlm: VLM | PreTrainedModel) -> dict[str, float] | None:
    """What the model is scaled by, {"alpha", "p"} or {"alpha", "k", "c"}; None if it is not."""
    return (getattr(_config(vlm), "whatwhere", None) or {}).get("rope_scaling")


def apply(vlm: VLM | PreTrainedModel) -> None:
    """Multiply the frequencies by what the config says. `load` does this, once, to a model that was
    saved while scaled.

    Raises:
        ValueError: for a config that does not say it as `scaled` does.
    """
    frequencies, chosen = _frequencies(vlm), settings(vlm)
    try:
        gains = _gains(len(frequencies), chosen)
    except (TypeError, ValueError):
        raise ValueError(
            f"The config's note on RoPE scaling is damaged: {chosen!r} does not say alpha and "
            "p, or alpha, k and c, as numbers."
        ) from None
    # on the CPU: some devices have no double precision
    frequencies.copy_(frequencies.cpu().double() * gains)


def _gains(n, chosen):
    return (gains if "p" in chosen else sigmoid_gains)(n, **chosen)


def _config(vlm) -> Any:
    return vlm.config if hasattr(vlm, "config") else vlm.model.config


def _frequencies(vlm) -> torch.Tensor:
    """The buffer that holds them, of a `VLM` or of a `transformers` model."""
    if hasattr(vlm, "adapter"):
        vision(vlm)
        return vlm.adapter.rotary.inv_freq
    rotary = getattr(getattr(vlm.model, "visual", None), "rotary_pos_emb", None)
    if rotary is None:
        raise ValueError(
            f"A {type(vlm).__name__} has no 2-D RoPE: take a model of the Qwen2-VL or "
            "Qwen2.5-VL family."
        )
    return rotary.inv_freq

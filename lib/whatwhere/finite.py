"""Numbers that are none (nan, inf) stop here, in a sentence that says where they arose and what
helps.

A state that is not finite still has a best word: id 0. So whoever reads states, answers or
statistics off a model asks here first. What overflows is nearly always float16 under weights that
were trained in bfloat16.
"""

import torch


class NotFinite(ValueError):
    """Raised where a number should be and is none."""


def extremes(values: torch.Tensor) -> torch.Tensor:
    """(2,) the least and the greatest of `values`, nan where one of them is: one pass over memory,
    and no wait for a GPU."""
    values = values.detach()
    return torch.stack(torch.aminmax(values)) if values.numel() else values.new_zeros(2)


def first_bad(ends: list[torch.Tensor]) -> int | None:
    """Which is the first of several `extremes` that is not finite, if any: a GPU is waited for
    once."""
    finite = torch.stack(ends).flatten(1).isfinite().all(1).tolist() if ends else []
    return None if all(finite) else finite.index(False)


def check_finite(values: torch.Tensor, where: str) -> torch.Tensor:
    """`values`, unchanged; raises NotFinite, "… of `where` are not finite …", if one of them is nan
    or infinite."""
    if not extremes(values).isfinite().all():
        raise not_finite(where, values.dtype)
    return values


def not_finite(where: str, dtype: torch.dtype) -> NotFinite:
    """The error for numbers in `dtype` that arose at `where`, such as "ViT depth 3"."""
    name = str(dtype).removeprefix("torch.")
    helps = {
        torch.float16: 'Load the model with dtype="bfloat16" where the GPU has it, else '
        '"float32": float16 ends at 65504',
        torch.bfloat16: 'Load the model with dtype="float32", or with another attention '
        "(`vlm.model.set_attn_implementation`)",
    }.get(
        dtype,
        "Look for it in what was given or added to the model; if nothing was, its files are "
        "damaged",
    )
    return NotFinite(
        f"The numbers of {where} are not finite (nan or inf) in {name}, so nothing can be read "
        f"from them. {helps}."
    )


class Watch:
    """A logits processor that changes nothing, for `generate`: `check()` refuses an answer whose
    best logits were not finite."""

    def __init__(self) -> None:
        self.best: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        self.best.append(logits.amax(-1))
        return logits

    def check(self) -> None:
        """Refuse an answer whose best logits were not finite; raises `NotFinite`."""
        bad = first_bad(self.best)
        if bad is not None:
            raise not_finite(f"the logits of the answer's token {bad + 1}", self.best[bad].dtype)

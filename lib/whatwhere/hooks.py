"""States on their way through a stack of blocks, taken with hooks that are gone afterwards."""

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from numbers import Integral
from typing import Any

import torch

from .finite import extremes, first_bad, not_finite


class _Enough(Exception):
    """Raised by a hook once the last wanted state has been seen; never leaves `residual_stream`."""


# the run that reads: a hook of somebody's may run the same blocks once more, within another's run
_READER: ContextVar[Any] = ContextVar("reader", default=None)


def residual_stream(
    module: torch.nn.Module,
    blocks: Sequence[torch.nn.Module],
    wanted: Iterable[int],
    *args: Any,
    what: str = "state",
    real: torch.Tensor | None = None,
    take: Callable[[torch.Tensor, int], Any] = lambda state, n: state,
    **kwargs: Any,
) -> list[Any]:
    """States between `blocks` while `module(*args, **kwargs)` runs: 0 is before the first, n after
    the n-th.

    Args:
        take: a function of a state and its number that gives what is kept of it, at once, so that
            not all of them need to be in memory. Stops as soon as the last wanted one is there.
            Hooks of others (steering, say) are seen at work.
        what: the name of such a place, "ViT depth".
        real: (batch, length) booleans or numbers, zero where a token is padding.

    Raises:
        NotFinite: which names the first such place, where a state (of a token that is no padding)
            is nan or infinite.
    """
    kept, ends, last, reader = {}, {}, max(wanted), object()

    def keep(n, state):
        if _READER.get() is not reader:
            return
        if n in wanted:
            ends[n] = extremes(state)
            kept[n] = take(state, n)
        if n == last:
            raise _Enough

    def before(_, args, kwargs):
        keep(0, args[0] if args else kwargs["hidden_states"])

    def after(n):
        return lambda _, args, output: keep(n, output[0] if isinstance(output, tuple) else output)

    handles = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [
        block.register_forward_hook(after(n)) for n, block in enumerate(blocks[:last], start=1)
    ]
    token = _READER.set(reader)
    try:
        module(*args, **kwargs)
    except _Enough:
        pass
    finally:
        _READER.reset(token)
        for handle in handles:
            handle.remove()
    bad = first_bad(list(ends.values()))
    if bad is not None:
        for n in list(ends)[bad:]:
            if not _without_padding(kept[n], real, ends[n]).isfinite().all():
                raise not_finite(f"{what} {n}", ends[n].dtype)
    return [kept[n] for n in wanted]


def _without_padding(state, real, ends):
    """What counts of a state when it is asked whether it is finite: of padding, which nobody reads,
    nothing."""
    return state[real.bool()] if real is not None and real.shape == state.shape[:-1] else ends


def off_device(tensor: torch.Tensor) -> torch.Tensor:
    """What a reader is handed: on the CPU, and in float32 where the model computes in half
    precision, which numpy lacks."""
    tensor = tensor.cpu()
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def check_range(what: str, value: int, highest: int) -> None:
    """Refuse a depth or layer that the model does not have."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value <= highest:
        raise ValueError(
            f"The {what} is a whole number from 0 to {highest} in this model, not {value!r}."
        )


def check_count(what: str, value: int, least: int = 1) -> None:
    """Refuse what is no number of things, such as a batch of 0 or of 2.0 images."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{what} is a whole number from {least} up, not {value!r}.")

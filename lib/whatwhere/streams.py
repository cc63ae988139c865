"""States on their way through a stack of blocks, taken with hooks that are gone afterwards."""

from numbers import Integral


class _Enough(Exception):
    """Raised by a hook once the last wanted state has been seen; never leaves `residual_stream`."""


def residual_stream(module, blocks, wanted, *args, take=lambda state: state, **kwargs):
    """States between `blocks` while `module(*args, **kwargs)` runs: 0 is before the first, n after the n-th.

    take: what is kept of a state, at once, so that not all of them need to be in memory. Stops as soon as the last wanted one
    is there. Hooks of others (steering, say) are seen at work.
    """
    seen, last = {}, max(wanted)

    def keep(at, state):
        if at in wanted:
            seen[at] = take(state)
        if at == last:
            raise _Enough

    def before(_, args, kwargs):
        keep(0, args[0] if args else kwargs["hidden_states"])

    def after(at):
        return lambda _, args, output: keep(at, output[0] if isinstance(output, tuple) else output)

    handles = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [block.register_forward_hook(after(at)) for at, block in enumerate(blocks[:last], start=1)]
    try:
        module(*args, **kwargs)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [seen[at] for at in wanted]


def check_range(what, value, highest):
    """Refuse a depth or layer that the model does not have."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value <= highest:
        raise ValueError(f"The {what} is a whole number from 0 to {highest} in this model, not {value!r}.")

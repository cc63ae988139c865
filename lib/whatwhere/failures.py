"""What fails while a checkpoint is opened: each cause in its own sentence, chained to its error."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isfunction

import torch

from . import hub
from .files import cause, first_line
from .finite import NotFinite


@contextmanager
def told(
    name: str,
    family: type,
    device: torch.device,
    damage: str | Callable[[Exception], str],
    absent: str | None = None,
    own: type[Exception] | tuple[()] = (),
) -> Iterator[None]:
    """An error within becomes a sentence, and is chained to it.

    Args:
        damage: what it most likely was where it is none of the known causes: a sentence, or a
            function of the error that makes one.
        absent: what the checkpoint lacks where a file could not be had.
        own: errors that are sentences already.

    Raises:
        MemoryError, FileNotFoundError or ValueError: with a sentence.
    """
    try:
        yield
    except own:
        raise
    except NotFinite as error:
        raise ValueError(f"'{name}' was asked a first question, in vain. {error}") from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise MemoryError(
            f"'{name}' does not fit into the memory of {device}: take dtype='float16' or '4-bit', "
            "or a smaller model."
        ) from cause(error)
    except ImportError as error:
        raise ValueError(
            f"'{name}' needs something that is not installed here, or too old. "
            f"({first_line(error)})"
        ) from cause(error)
    except Exception as error:  # safetensors, tokenizers, templates and torch raise their own
        if absent and (isinstance(error, OSError) or hub.refusal(error, name)):
            raise FileNotFoundError(f"'{name}' {absent}. {hub.reason(error, name)}") from cause(
                error
            )
        sentence = _of_the_adapter(error, family, name) or (
            damage if isinstance(damage, str) else damage(error)
        )
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{sentence} ({kind}{first_line(error)})") from cause(error)


def _of_the_adapter(error, family, name):
    """What to say of an error out of an adapter's code; None where it is the files' more likely.

    An adapter from outside this package is named for every error in it; one of ours, which is
    tested, for those that only a mistake in its code can raise.
    """
    members = {
        method.__code__: member
        for kind in family.__mro__
        for member, method in vars(kind).items()
        if isfunction(method)
    }
    files = {code.co_filename for code in members}
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    within = [members[code] for code in frames if code in members]
    lacking = isinstance(error, AttributeError) and isinstance(error.obj, family)
    mistaken = isinstance(error, (AttributeError, NameError)) and frames[-1].co_filename in files
    if not lacking and not mistaken and (not within or family.__module__.startswith("whatwhere.")):
        return None
    where = f" in its `{within[-1]}`" if within else ""
    return (
        f"The adapter {family.__module__}.{family.__qualname__} failed{where} on '{name}': by a "
        "mistake in its code, or for want of something that other checkpoints have."
    )

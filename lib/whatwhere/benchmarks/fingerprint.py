"""What a function is called and a checksum of all that it does, so that answers of two functions never share a folder.

A name would not do: `alike(0.9)` and `alike(0.5)` of one closure have one name and one source. So the checksum is of its byte
code and constants, of its defaults and what it closes over, and of the globals that it reads: numbers, texts, arrays, tensors,
decoders, models, and other functions, each in the same way. Modules that were installed count by name, others by their file.
What cannot be told apart, such as a generator of random numbers, is refused.
"""

import hashlib
import sys
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from ..models import VLM
from . import identity

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


def of(function: Any) -> str:
    """ "alike.<locals>.way 0f3a…": its name and a checksum. Raises ValueError where it holds on to what has none."""
    return f"{label(function)} {identity.short(_told(function, getattr(function, '__module__', None), ()))}"


def label(function: Any) -> str:
    """What a function is called: its own `name`, if it has one, or that of its definition."""
    return getattr(function, "name", None) or getattr(
        function, "__qualname__", type(function).__qualname__
    )


def _told(value, home, within):
    """A value of JSON that is another one for every other value. home: the module that the function is from."""
    if isinstance(value, PLAIN):
        return [type(value).__name__, repr(value)]
    if isinstance(value, VLM):
        return identity.of(value)
    if id(value) in within:
        return ["again", within.index(id(value))]
    within = (*within, id(value))
    also = partial(_told, home=home, within=within)
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(also, value)]
    if isinstance(value, dict):
        return ["dict", *([also(name), also(each)] for name, each in value.items())]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(map(identity.short, map(also, value)))]
    if isinstance(value, (np.ndarray, np.generic)):
        numbers = (
            value.tolist()
            if value.dtype == object
            else hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        )
        return ["array", str(value.dtype), value.shape, also(numbers)]
    if isinstance(value, torch.Tensor):
        return ["tensor", identity.checksum({"": value})]
    if isinstance(value, CodeType):
        names = [
            value.co_names,
            value.co_freevars,
            value.co_cellvars,
            value.co_argcount,
            value.co_flags,
        ]
        return [
            "code",
            value.co_code.hex(),
            value.co_exceptiontable.hex(),
            *map(also, names),
            *map(also, value.co_consts),
        ]
    if isinstance(value, MethodType):
        return ["method", also(value.__func__), also(value.__self__)]
    if isinstance(value, partial):
        return ["partial", also(value.func), also(value.args), also(value.keywords)]
    if isinstance(value, ModuleType):
        return ["module", *_module(value.__name__)]
    where = getattr(value, "__module__", None)
    if isinstance(value, FunctionType):
        if where != home:
            return ["function", value.__qualname__, *_module(where)] if _held(value) is None else [
                "function", value.__qualname__, *_module(where), also(_held(value))]  # fmt: skip
        read = {
            name: value.__globals__[name]
            for name in sorted(_names(value.__code__))
            if name in value.__globals__
        }
        return ["function", also(value.__code__), also(_held(value)), also(read)]
    if (
        isinstance(value, (type, BuiltinFunctionType, np.ufunc))
        or where is None
        and callable(value)
    ):
        name = getattr(value, "__qualname__", repr(value))
        own = (
            {n: each for n, each in vars(value).items() if n != "__dict__"}
            if isinstance(value, type) and where == home
            else {}
        )
        functions = {
            n: each
            for n, each in own.items()
            if isinstance(each, (FunctionType, *PLAIN)) and n != "__module__"
        }
        return ["named", name, *_module(where), also(functions)]
    if isinstance(value, torch.nn.Module):
        rest = {
            n: each for n, each in vars(value).items() if not n.startswith("_") and n != "history"
        }
        return ["module", also(type(value)), identity.checksum(value.state_dict()), also(rest)]
    if hasattr(value, "__dict__"):
        return ["object", also(type(value)), also(vars(value))]
    raise ValueError(
        f"A run's folder says by which function tokens were chosen, and this one holds on to a {type(value).__qualname__}, which "
        "no checksum can tell from another: let it hold numbers, texts, arrays and functions only, or keep nothing (out=None)."
    )


def _held(function):
    """Defaults and what a function closes over; None if there are none."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    held = [function.__defaults__, function.__kwdefaults__, cells]
    return held if any(held) else None


def _names(code):
    """All names that a function's code, and the functions within it, look up."""
    return set(code.co_names).union(
        *(_names(each) for each in code.co_consts if isinstance(each, CodeType))
    )


def _module(name):
    """What tells a module: its name if it was installed, with a checksum of its file if it was not."""
    path = getattr(sys.modules.get(name or "builtins"), "__file__", None)
    top = (name or "builtins").partition(".")[0]
    installed = (
        top in sys.stdlib_module_names or top == __package__.partition(".")[0] or path is None
    )
    if installed or {"site-packages", "dist-packages"} & {*Path(path).parts}:
        return [name]
    return [name, hashlib.sha256(Path(path).read_bytes()).hexdigest()]

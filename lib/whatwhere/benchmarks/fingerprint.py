"""What a function is called and a checksum of all that it does, so that answers of two functions
never share a folder.

A name would not do: `alike(0.9)` and `alike(0.5)` of one closure have one name and one source. So
the checksum is of its byte code and constants, of its defaults and what it closes over, and of the
globals that it reads: numbers, texts, arrays, tensors, decoders, models, objects of plain classes,
and other functions, each in the same way. What was installed counts by its name, and another module
of one's own by its file. What may hide something, such as a generator of random numbers, is
refused.
"""

import hashlib
import sys
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from ..models import VLM
from . import identity

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
# of a class what says nothing of what its objects do
ASIDE = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__",
    "__match_args__", "__dataclass_params__", "__dataclass_fields__", "__static_attributes__",
    "__firstlineno__",
}  # fmt: skip


def of(function: Any) -> str:
    """ "alike.<locals>.way 0f3a…": a name and a checksum.

    Raises:
        ValueError: for a function that holds on to what has none.
    """
    where = getattr(function, "__module__", None)
    return f"{label(function)} {identity.short(_told(function, where, ()))}"


def label(function: Any) -> str:
    """What a function is called: its own `name`, if it has one, or that of its definition."""
    return getattr(function, "name", None) or getattr(
        function, "__qualname__", type(function).__qualname__
    )


def _told(value, home, within):
    """A value of JSON that is another one for every other value. home: the module that the function
    is from."""
    kind = type(value)
    if kind in PLAIN:
        return [kind.__name__, repr(value)]
    if isinstance(value, VLM):
        return ["model", identity.of(value)]
    if id(value) in within:
        return ["again", within.index(id(value))]
    also = partial(_told, home=home, within=(*within, id(value)))
    if kind in (list, tuple):
        return [kind.__name__, *map(also, value)]
    if kind is dict:
        return ["dict", *([also(name), also(each)] for name, each in value.items())]
    if kind in (set, frozenset):
        return ["set", sorted(map(identity.short, map(also, value)))]
    if kind is np.ndarray or isinstance(value, np.generic):
        plain = value.tolist() if value.dtype == object else np.ascontiguousarray(value).tobytes()
        return ["array", str(value.dtype), value.shape, also(plain)]
    if isinstance(value, torch.Tensor):
        return ["tensor", identity.checksum({"": value})]
    if kind is CodeType:
        names = (
            value.co_names,
            value.co_freevars,
            value.co_cellvars,
            value.co_argcount,
            value.co_flags,
        )
        code = (value.co_code, value.co_exceptiontable, value.co_consts)
        return ["code", also(names), also(code)]
    if kind is MethodType:
        return ["method", also(value.__func__), also(value.__self__)]
    if kind is partial:
        return ["partial", also(value.func), also(value.args), also(value.keywords)]
    if kind in (staticmethod, classmethod):
        return [kind.__name__, also(value.__func__)]
    if kind is property:
        return ["property", *map(also, (value.fget, value.fset, value.fdel))]
    if kind is ModuleType:
        return ["module", *_module(value.__name__)]
    where = getattr(value, "__module__", None)
    own = where == home and where is not None
    if kind is FunctionType and own:
        known = value.__globals__
        read = {name: known[name] for name in sorted(_names(value.__code__)) if name in known}
        return ["function", also(value.__code__), also(_held(value)), also(vars(value)), also(read)]
    if kind is FunctionType:
        return ["function", value.__qualname__, *_module(where), also(_held(value))]
    if isinstance(value, type) and own:
        members = {name: each for name, each in vars(value).items() if name not in ASIDE}
        return ["class", value.__qualname__, also(value.__bases__), also(members)]
    if isinstance(value, type):
        return ["class", value.__qualname__, *_module(where)]
    if _by_name(value, where):
        return ["named", value.__name__, *_module(where)]
    if isinstance(value, torch.nn.Module):
        rest = {name: each for name, each in vars(value).items() if name[0] != "_"}
        rest.pop("history", None)  # a decoder's losses
        return ["layers", also(kind), identity.checksum(value.state_dict()), also(rest)]
    state = _state(value)
    if state is not None:
        return ["object", also(kind), also(state)]
    raise ValueError(
        "A run's folder says by which function tokens were chosen, and this one holds on to a "
        f"{kind.__qualname__}, which no checksum can tell from another: let it hold numbers, "
        "texts, arrays and functions only, or keep nothing (out=None)."
    )


def _held(function):
    """Defaults and what a function closes over; a cell that was never filled is none."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append([cell.cell_contents])
        except ValueError:
            cells.append([])
    return [function.__defaults__, function.__kwdefaults__, cells]


def _state(value):
    """[arguments, attributes] that make an object of a class written in Python alone; None of one
    that may hide something."""
    kind = type(value)
    own = (kind.__reduce_ex__, kind.__reduce__, kind.__getstate__)
    if own != (object.__reduce_ex__, object.__reduce__, object.__getstate__):
        return None
    try:
        _, made, attributes, *parts = value.__reduce_ex__(2)
    except TypeError:  # it has more than Python sees of it
        return None
    return [made, attributes, *(None if each is None else list(each) for each in parts)]


def _by_name(value, where):
    """Is it a function in C that belongs to a module, so that its name says all?"""
    name = getattr(value, "__name__", None)
    if not callable(value) or not isinstance(name, str):
        return False
    return any(
        getattr(sys.modules.get(module), name, None) is value
        for module in (where, "builtins", "numpy", "torch")
    )


def _names(code):
    """All names that a function's code, and the functions within it, look up."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _module(name):
    """What tells a module: its name if it was installed, with a checksum of its file if it was
    not."""
    name = name or "builtins"
    path, top = getattr(sys.modules.get(name), "__file__", None), name.partition(".")[0]
    ours = top in sys.stdlib_module_names or top == __name__.partition(".")[0]
    if ours or path is None or {"site-packages", "dist-packages"} & {*Path(path).parts}:
        return [name]
    return [name, hashlib.sha256(Path(path).read_bytes()).hexdigest()]

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
    return f"{label(function)} {identity.short(_described(function, where, ()))}"


def label(function: Any) -> str:
    """What a function is called: its own `name`, if it has one, or that of its definition."""
    return getattr(function, "name", None) or getattr(
        function, "__qualname__", type(function).__qualname__
    )


def _described(value, home, ancestors):
    """A value of JSON that is another one for every other value. home: the module that the function
    is from."""
    kind = type(value)
    if kind in PLAIN:
        return [kind.__name__, repr(value)]
    if isinstance(value, VLM):
        return ["model", identity.of(value)]
    if id(value) in ancestors:
        return ["again", ancestors.index(id(value))]
    describe = partial(_described, home=home, ancestors=(*ancestors, id(value)))
    if kind in (list, tuple):
        return [kind.__name__, *map(describe, value)]
    if kind is dict:
        return ["dict", *([describe(name), describe(member)] for name, member in value.items())]
    if kind in (set, frozenset):
        return ["set", sorted(map(identity.short, map(describe, value)))]
    if kind is np.ndarray or isinstance(value, np.generic):
        plain = value.tolist() if value.dtype == object else np.ascontiguousarray(value).tobytes()
        return ["array", str(value.dtype), value.shape, describe(plain)]
    if isinstance(value, torch.Tensor):
        return ["tensor", identity.checksum({"": value})]
    if kind is CodeType:
        names = (value.co_names, value.co_freevars, value.co_cellvars)
        code = (value.co_code, value.co_exceptiontable, value.co_consts)
        arguments = (value.co_argcount, value.co_flags)
        return ["code", describe((*names, *arguments)), describe(code)]
    if kind is MethodType:
        return ["method", describe(value.__func__), describe(value.__self__)]
    if kind is partial:
        return ["partial", describe(value.func), describe(value.args), describe(value.keywords)]
    if kind in (staticmethod, classmethod):
        return [kind.__name__, describe(value.__func__)]
    if kind is property:
        return ["property", *map(describe, (value.fget, value.fset, value.fdel))]
    if kind is ModuleType:
        return ["module", *_module(value.__name__)]
    where = getattr(value, "__module__", None)
    is_local = where == home and where is not None
    if kind is FunctionType and is_local:
        globals_ = value.__globals__
        used = {name: globals_[name] for name in sorted(_names(value.__code__)) if name in globals_}
        return [
            "function",
            describe(value.__code__),
            describe(_held(value)),
            describe(vars(value)),
            describe(used),
        ]
    if kind is FunctionType:
        return ["function", value.__qualname__, *_module(where), describe(_held(value))]
    if isinstance(value, type) and is_local:
        members = {name: member for name, member in vars(value).items() if name not in ASIDE}
        return ["class", value.__qualname__, describe(value.__bases__), describe(members)]
    if isinstance(value, type):
        return ["class", value.__qualname__, *_module(where)]
    if _by_name(value, where):
        return ["named", value.__name__, *_module(where)]
    if isinstance(value, torch.nn.Module):
        attributes = {name: member for name, member in vars(value).items() if name[0] != "_"}
        attributes.pop("history", None)  # a decoder's losses
        return [
            "layers",
            describe(kind),
            identity.checksum(value.state_dict()),
            describe(attributes),
        ]
    state = _state(value)
    if state is not None:
        return ["object", describe(kind), describe(state)]
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
    reduce = (kind.__reduce_ex__, kind.__reduce__, kind.__getstate__)
    if reduce != (object.__reduce_ex__, object.__reduce__, object.__getstate__):
        return None
    try:
        _, arguments, attributes, *parts = value.__reduce_ex__(2)
    except TypeError:  # it has more than Python sees of it
        return None
    return [arguments, attributes, *(None if part is None else list(part) for part in parts)]


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
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
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

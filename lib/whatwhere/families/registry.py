"""Which adapter a checkpoint's architecture has: ours, those registered, those of other packages.

    families.register("my_vlm", MyAdapter)     # from a notebook or a script

A package offers one without being imported, by an entry point in its pyproject.toml:

    [project.entry-points."whatwhere.families"]
    my_vlm = "my_package.adapters:MyAdapter"
"""

from importlib.metadata import EntryPoint, entry_points

from ..files import cause, first_line
from .adapter import Adapter, check_class
from .idefics import Idefics3, SmolVLM
from .internvl import InternVL
from .llava import Llava
from .qwen import Qwen2VL, Qwen25VL
from .qwen3 import Qwen3VL

GROUP = "whatwhere.families"
_known: dict[str, type[Adapter]] = {}


def register(model_type: str, adapter_class: type[Adapter], replace: bool = False) -> None:
    """Make a family known: `load` opens checkpoints whose config.json has this `model_type`.

    Args:
        replace: True puts the adapter in the place of one that is known already.

    Raises:
        TypeError: for what is no adapter, or one that lacks a member or misnames it.
        ValueError: for a name that is known already, or is none.
    """
    if not isinstance(model_type, str) or not model_type:
        raise ValueError(f"A family goes by its config's `model_type`, not by {model_type!r}.")
    check_class(adapter_class)
    if model_type in _known and not replace:
        usual = _known[model_type]
        raise ValueError(
            f"The family '{model_type}' has an adapter, {usual.__module__}.{usual.__qualname__}: "
            "register yours with replace=True to put it in its place."
        )
    _known[model_type] = adapter_class


def names() -> list[str]:
    """The `model_type` of every family that is known, those of other packages included."""
    return list(dict.fromkeys([*_known, *(point.name for point in _offered())]))


def adapter_class(model_type: str) -> type[Adapter]:
    """The adapter's class of a family.

    Raises:
        ValueError: for a family that is not known, and where the package that offers it fails to be
            imported, offers something else, or is not the only one.
    """
    if model_type not in _known:
        points = [point for point in _offered() if point.name == model_type]
        if not points:
            *others, last = names()
            raise ValueError(
                f"No family '{model_type}'; whatwhere knows {', '.join(others)} and {last}."
            )
        _load(model_type, points)
    return _known[model_type]


def _offered() -> list[EntryPoint]:
    return [point for point in entry_points(group=GROUP) if point.name not in _known]


def _load(model_type, points):
    packages = [point.dist.name if point.dist else point.value for point in points]
    if len(points) > 1:
        raise ValueError(
            f"The family '{model_type}' is offered by {' and by '.join(packages)}: uninstall all "
            "but one of them."
        )
    try:
        register(model_type, points[0].load())
    except Exception as error:  # whatever another package's import may raise
        raise ValueError(
            f"The package '{packages[0]}' offers an adapter for '{model_type}', "
            f"{points[0].value}, that cannot be used: update or uninstall it. "
            f"({type(error).__name__}: {first_line(error)})"
        ) from cause(error)


for _model_type, _class in {
    "llava": Llava, "qwen2_vl": Qwen2VL, "qwen2_5_vl": Qwen25VL, "qwen3_vl": Qwen3VL,
    "internvl": InternVL, "idefics3": Idefics3, "smolvlm": SmolVLM,
}.items():  # fmt: skip
    register(_model_type, _class)

"""Types: everything public is annotated, and an editor that runs no code completes it."""

import ast
from pathlib import Path

import jedi
import pytest

import whatwhere as ww

PACKAGE = Path(ww.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def public(body, prefix=""):
    """Yields (name, function) of all that can be called from outside; a class by its `__init__`."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_") or prefix and node.name == "__init__":
                yield prefix + node.name, node


def unannotated(source):
    """The names of public functions with a parameter, or a result, that says not what it is."""
    lacking = []
    for name, function in public(ast.parse(source).body):
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        known = [p.annotation for p in parameters if p and p.arg not in ("self", "cls")]
        if not name.endswith("__init__"):
            known.append(function.returns)
        if None in known:
            lacking.append(name)
    return lacking


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_everything_public_is_annotated(file):
    assert not unannotated(file.read_text(encoding="utf-8"))


def test_what_is_not_annotated_is_found():
    source = """
def fine(a: int, *more: int, b: str = "") -> None: ...
def no_result(a: int): ...
def _own(a): ...
class Some:
    def __init__(self, a: int): ...
    def method(self, *, b=1) -> int: ...
    def also(self, **options) -> int: ...
class Other:
    def __init__(self, a, b: int): ...
"""
    assert unannotated(source) == ["no_result", "Some.method", "Some.also", "Other.__init__"]


def test_types_are_announced_to_checkers():
    assert (PACKAGE / "py.typed").is_file()


def completions(code):
    """The names that an editor offers at the end of some code, from the package's source alone.

    An editor knows torch besides, whose reading takes it a minute the first time.
    """
    project = jedi.Project(PACKAGE.parent, sys_path=[str(PACKAGE.parent)], smart_sys_path=False)
    script = jedi.Script(f"import whatwhere as ww\n{code}", project=project)
    lines = code.splitlines()
    return {each.name for each in script.complete(len(lines) + 1, len(lines[-1]))}


def test_completion_of_the_package_lists_its_modules():
    assert set(ww.__all__) <= completions("ww.")
    assert set(ww.book.__all__) <= completions("ww.book.")
    assert {"token_maps", "logit_lens", "explore"} <= completions("ww.lens.")
    assert {"Adapter", "check", "register"} <= completions("ww.families.")


def test_completion_of_a_model_lists_its_methods():
    names = completions('vlm = ww.load("toy-llava")\nvlm.')
    assert {name for name in vars(ww.models.VLM) if not name.startswith("_")} <= names
    assert {"adapter", "lm_layers", "tokenizer", "unembedding", "vision_blocks"} <= names


@pytest.mark.parametrize(
    "code, expected",
    [
        ("ww.lens.token_maps(vlm, 'photo.jpg').", {"words", "show", "to_pandas"}),
        ("vlm.attention('photo.jpg', 'what is it ?').", {"on_image", "received", "sinks"}),
        ("vlm.answer('photo.jpg', 'what is it ?').", {"upper", "split"}),
        ("ww.world.scene(7).", {"image", "things", "masks", "cover"}),
    ],
)
def test_completion_knows_what_calls_return(code, expected):
    assert expected <= completions(f'vlm = ww.load("toy-llava")\n{code}')

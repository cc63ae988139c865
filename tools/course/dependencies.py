"""What an execution of a chapter depended on, and whether it is still so: an edit re-executes the
chapters that it can touch.

`tools/course/watch.py` hears, in the kernel, of all that a chapter uses. Kept of that are
- of each module of the package that ran: its text without comments and without the bodies of
  functions that were never called, so that such a body may change, and any new or renamed function
  counts;
- every file and folder of the book that was opened or listed, a checkpoint as a whole;
- the versions of Python and of the packages that were imported;
- the chapter itself, and the tools that execute it.
What a chapter only asks the existence of is not heard of.
"""

import ast
import hashlib
import json
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

TOOLS = [
    Path(__file__).with_name(name)
    for name in ("execute.py", "chapters.py", "dependencies.py", "watch.py")
]
# the environment; what was built; what is known in other ways
OTHERS = (".venv", ".git", "_build", "lib", "tools", "notebooks")


def found(path, watched, root):
    """The dependencies of a chapter's execution that has just ended, ready for JSON. watched: what
    `watch.py` wrote."""
    ran = {
        Path(each).relative_to(root / "lib").as_posix(): names
        for each, names in watched["ran"].items()
    }
    inside = [
        Path(each).relative_to(root)
        for each in watched["opened"] + watched["listed"]
        if Path(each).is_relative_to(root)
    ]
    files = {
        _whole(each).as_posix() for each in inside if each.parts and each.parts[0] not in OTHERS
    } - {f"data/claims/{path.stem}.json"}  # its own rows are what it makes, whoever reads them
    files |= {
        each.as_posix()
        for each in inside
        if each.parts[:1] == ("lib",) and each.suffix not in (".py", ".pyc", "")
    }
    packages = packages_distributions()
    used = {each for name in watched["imported"] for each in packages.get(name, [])} - {"whatwhere"}
    return now(path, {"ran": ran, "files": sorted(files), "packages": sorted(used)}, root)


def now(path, known, root):
    """The same names as in `known`, with what they stand for at this moment: equal to `known` while
    nothing has changed."""
    return {
        "python": sys.version,
        "chapter": _digest(path.read_bytes()),
        "tools": {each.name: _digest(each.read_bytes()) for each in TOOLS},
        "packages": {name: _version(name) for name in known["packages"]},
        "files": {name: _contents(root / name) for name in known["files"]},
        "ran": known["ran"],
        "code": {
            name: _code(root / "lib" / name, tuple(ran)) for name, ran in known["ran"].items()
        },
    }


def changed(path, known, root):
    """What differs from `known`, in words: an empty list while an execution still counts."""
    fresh = now(path, known, root)
    said = [what for what in ("python", "chapter") if fresh[what] != known[what]]
    for what in ("tools", "packages", "files", "code"):
        said += [
            name
            for name in fresh[what].keys() | known[what].keys()
            if fresh[what].get(name) != known[what].get(name)
        ]
    return sorted(said)


def edited(path, known, since, root):
    """What was changed after the moment `since`, such as the start of an execution, of all that it
    depended on."""
    files = [path, *TOOLS, *(root / "lib" / name for name in known["ran"])]
    for name in known["files"]:
        files += [root / name, *(root / name).glob("*")]
    return [each for each in files if each.exists() and each.stat().st_mtime > since]


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _whole(path):
    """A checkpoint is one thing: its weights are opened by a library that is not heard of."""
    return Path(*path.parts[:3]) if path.parts[:2] == ("data", "models") else path


def _contents(path):
    """A digest of a file, of a folder's list of names, or of all that a checkpoint holds; None
    where there is nothing."""
    if path.is_file():
        return _of_file(path, path.stat().st_mtime_ns)
    if not path.is_dir():
        return None
    names = sorted(each.name for each in path.iterdir() if each.name[0] not in "._")
    inside = [_contents(path / name) for name in names] if path.parent.name == "models" else []
    return _digest(json.dumps([names, inside]).encode())


@cache
def _of_file(path, changed):
    return _digest(path.read_bytes())


def functions(tree, prefix=""):
    """(name, node) of every function in a tree; of several with one name, as a property's getter
    and setter, each is numbered."""
    counts = {}
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = f"{prefix}{node.name}"
            counts[inner] = counts.get(inner, 0) + 1
            inner += f"#{counts[inner]}" * (counts[inner] > 1)
            if not isinstance(node, ast.ClassDef):
                yield inner, node
            inner += "."
        yield from functions(node, inner)


@cache
def _reduced(path, changed, ran):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, node in list(functions(tree)):
        if name not in ran:
            node.body = [ast.Pass()]
    return _digest(ast.dump(tree).encode())


def _code(path, ran):
    """A digest of a module without comments and the bodies of all functions but these; None where
    it is gone or broken."""
    try:
        return _reduced(path, path.stat().st_mtime_ns, ran)
    except (OSError, SyntaxError):
        return None

"""The first thing that a chapter's kernel runs: notes what the chapter uses, for `dependencies.py`,
and keeps it off the network.

At the kernel's end a JSON file (WHATWHERE_WATCHED) says which functions of the package ran, which
files were opened, which folders listed, what was written, and which packages were imported. What is
opened from outside Python is not heard of: a checkpoint's weights are known by the config.json
beside them.
"""

import ast
import atexit
import builtins
import json
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
from tools.course.dependencies import functions  # noqa: E402

OUT = os.environ["WHATWHERE_WATCHED"]
PACKAGE = "whatwhere"
HERE = ("localhost", "127.0.0.1", "::1", None, "")
noted = {"ran": {}, "opened": set(), "listed": set(), "written": set()}


class Loader(SourceFileLoader):
    """Compiles a module of the package with one statement more at the start of each function: that
    it has run."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        for name, node in list(functions(tree)):
            statement = ast.parse(f"__ran__({path!r}, {name!r})").body
            node.body[ast.get_docstring(node) is not None : 0] = statement
        noted["ran"][path] = set()
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class Finder(PathFinder):
    """Finds modules as usual, and the package's own for the loader above."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = (
            super().find_spec(fullname, path, target)
            if fullname.partition(".")[0] == PACKAGE
            else None
        )
        if spec is not None and spec.origin:
            spec.loader = Loader(fullname, spec.origin)
        return spec


def note(event, args):
    """An audit hook: it hears of every file that Python opens, and of every address that it would
    reach."""
    if event == "open" and isinstance(args[0], (str, os.PathLike)):
        writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        noted["written" if writes else "opened"].add(os.path.abspath(args[0]))
    elif event in ("os.listdir", "os.scandir") and isinstance(
        args[0], (str, os.PathLike, type(None))
    ):
        noted["listed"].add(os.path.abspath(args[0] or "."))
    # else in a folder opened before
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir") and args[-1] == -1:
        noted["written"].add(os.path.abspath(args[1] if event == "os.rename" else args[0]))
    elif event == "socket.getaddrinfo" and args[0] not in HERE:
        raise OSError(
            f"a chapter runs offline here, and this one asked for the address of {args[0]}"
        )
    elif event == "socket.connect" and isinstance(args[1], tuple) and args[1][0] not in HERE:
        raise OSError(f"a chapter runs offline here, and this one tried to reach {args[1][0]}")


def write():
    """At the kernel's end, when the last cell is long done."""
    facts = {name: sorted(paths) for name, paths in noted.items() if name != "ran"}
    facts["ran"] = {path: sorted(names) for path, names in noted["ran"].items()}
    facts["imported"] = sorted({name.partition(".")[0] for name in sys.modules})
    Path(f"{OUT}.part").write_text(json.dumps(facts), encoding="utf-8")
    os.replace(f"{OUT}.part", OUT)


builtins.__ran__ = lambda path, name: noted["ran"][path].add(name)
sys.meta_path.insert(0, Finder)
sys.addaudithook(note)
atexit.register(write)

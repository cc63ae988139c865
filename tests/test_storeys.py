"""Three storeys, arrows point down only: the core; benchmarks and the world of the organisms; the
book's own."""

import ast
from pathlib import Path

LIB = Path(__file__).parents[1] / "lib"
# all other rooms are the core, 1
STOREYS = {
    "benchmarks": 2, "lmms": 2, "photographs": 2, "tuning": 2, "world": 2, "book": 3,
    "replication": 4, "__main__": 5,
}  # fmt: skip
LATE = ("sympy", "sklearn", "matplotlib", "ipywidgets", "IPython")  # imported when they are used
# a result that can show itself, when it is asked to
SHOWS = {("whatwhere.attention", "whatwhere.views.attention_map")}


def modules():
    """{name: path}"""
    found = {}
    for path in LIB.rglob("*.py"):
        name = ".".join(path.relative_to(LIB).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(name, known):
    """The package's modules that a module imports, anywhere in it but for types alone."""
    path = known[name]
    parents = (name if path.name == "__init__.py" else name.rpartition(".")[0]).split(".")
    found, left = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            near = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*near, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found |= {each if each in known else base for each in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        left += ast.iter_child_nodes(node)
    return found & known.keys() - {name}


def storey(name):
    # the package itself knows nobody
    return STOREYS.get(name.split(".")[1], 1) if "." in name else 0


def test_arrows_point_down_only():
    known = modules()
    arrows = [(name, each) for name in known for each in imports(name, known)]
    assert len(arrows) > 100
    assert not [arrow for arrow in arrows if storey(arrow[1]) > storey(arrow[0])]


def test_there_is_no_circle():
    known = modules()
    arrows = {
        name: {each for each in imports(name, known) if (name, each) not in SHOWS} for name in known
    }
    done = set()
    while left := {name: each - done for name, each in arrows.items() if name not in done}:
        free = {name for name, each in left.items() if not each}
        assert free, f"a circle among {sorted(left)}"
        done |= free


def test_the_core_brings_what_it_needs_when_it_is_needed():
    core = {name: path for name, path in modules().items() if storey(name) == 1}
    for name, path in core.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        brought = {alias.name for node in at_once for alias in node.names} | {
            getattr(node, "module", None) for node in at_once
        }
        late = {each for each in brought if each and each.split(".")[0] in LATE}
        assert not late or name == "whatwhere.rope.symbolic", (
            f"{name} imports {late} before they are used"
        )

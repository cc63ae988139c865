"""A Sphinx extension for the reference pages (book/api*.md): our docstrings and annotations, as
autodoc needs them.

Docstrings are plain text for a reader of the code, with the sections Args, Attributes, Returns,
Yields and Raises. Here they become reStructuredText: what is between single backticks is code
(`default_role` in _config.yml), indented examples and tables stand as they are, and no star or
underscore means anything. Types that are imported for checkers alone are imported here too.
References into the package must resolve; to other packages there are none, since a book is also
read without a network.
"""

import ast
import importlib
import inspect
import pkgutil
import re

from sphinx.ext.napoleon import Config, GoogleDocstring

import whatwhere

# names stand in bold, as they are: one field may speak of several
SECTIONS = Config(
    napoleon_use_param=False, napoleon_custom_sections=[("Attributes", "params_style")]
)
NAMES = "Args|Attributes|Returns|Yields|Raises"
ALIASES = {name: f"whatwhere.types.{name}" for name in ("ImageLike", "Several")}
# cannot be imported, or run something
NOT_HERE = ("whatwhere.lmms", "whatwhere.__main__", "whatwhere.book.training.__main__")


def restructured(lines):
    """A docstring's lines, as reStructuredText but for its sections."""
    made, section, code = [], False, False
    for n, line in enumerate(lines):
        after_blank = n == 0 or not lines[n - 1].strip()
        if re.fullmatch(rf"({NAMES}):", line):
            section, code = True, False
        elif line and not line[0].isspace() and after_blank:
            section = False
        table = line.startswith("|")
        verbatim = (table or line.startswith("    ")) and not section
        if verbatim and not code and after_blank:
            made += ["::", ""]
        code = verbatim or code and not line.strip()
        if code:
            made.append("    " + line if table else line)
        else:
            made.append(_escaped(line))
    return made


def _escaped(line):
    """Stars, bars and underscores mean something in reStructuredText; within backticks they do
    not."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _sections(app, what, name, obj, options, lines):
    # to napoleon, the docstring of a property says its type before a colon; ours does not
    kind = "function" if what in ("property", "attribute", "data") else what
    if what == "module":  # of a sentence and an example, autodoc takes the example's indentation
        lines[:] = inspect.getsource(obj).partition('"""')[2].partition('"""')[0].split("\n")
    lines[:] = GoogleDocstring(restructured(lines), SECTIONS, app, kind, name, obj, options).lines()


def _skipped(app, what, name, obj, skip, options):
    """Fields of a named tuple stand in its signature, and in its docstring."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def _parsable(app, what, name, obj, options, signature, returned):
    """A field's default may be shown as what is no Python: a class, or what is made anew for each
    object. Sphinx then sets all types of the signature as bare text."""
    plain = (signature or "").replace("<factory>", "...")
    return re.sub(r"<class '(\w+)'>", r"\1", plain) or signature, returned


def import_types(module):
    """Import what a module imports under `if TYPE_CHECKING`, so that its annotations have a
    meaning."""
    package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                for each in getattr(line, "names", []):
                    if isinstance(line, ast.ImportFrom):
                        source = "." * line.level + (line.module or "")
                        value = getattr(importlib.import_module(source, package), each.name)
                    else:
                        value = importlib.import_module(each.name)
                    setattr(module, each.asname or each.name, value)


def _import_all(app):
    for found in pkgutil.walk_packages(whatwhere.__path__, "whatwhere."):
        if not found.name.startswith(NOT_HERE):
            import_types(importlib.import_module(found.name))


def _elsewhere(app, env, node, contnode):
    """A type of another package stands as code, without a link."""
    target = node.get("reftarget", "")
    if node.get("refdomain") == "py" and not target.startswith("whatwhere"):
        return contnode
    # to Sphinx a name for a type is data, and an annotation asks for a class
    if target in ALIASES.values():
        return env.get_domain("py").resolve_xref(
            env, node["refdoc"], env.app.builder, "data", target, node, contnode
        )
    return None


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.config.autodoc_type_aliases = ALIASES
    app.config.autodoc_member_order = "bysource"
    # as they are written: a function that is a default has no other form that can be read
    app.config.autodoc_preserve_defaults = True
    app.config.python_use_unqualified_type_names = True
    app.connect("builder-inited", _import_all)
    app.connect("autodoc-process-signature", _parsable)
    app.connect("autodoc-process-docstring", _sections)
    app.connect("autodoc-skip-member", _skipped)
    app.connect("missing-reference", _elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

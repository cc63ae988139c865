"""A small Sphinx extension that keeps the built book true to what it was computed from.

Sphinx reads a page again when the page itself changes. Our pages also depend on the package, on the
organisms and on these tools, so those are hashed into a configuration value: when it changes,
Sphinx reads, and so executes, every page again. The ledger and the status page depend on what the
notebooks write, and the page for teachers on the notebooks' text: they are read last, and always.

Chapters that `tools/course/execute.py` has executed are not executed again: Sphinx is given what
came of it.
"""

import hashlib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
CITE = "book/cite"
LAST = ("book/claims", "book/status", "book/teaching")


def key(root=ROOT, folders=("lib", "data", "tools")):
    """One hash over every file that an executed page may read, except the claim rows it may
    write."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            hidden = any(
                part.startswith(".") or part == "__pycache__"
                for part in path.parts[len(root.parts) :]
            )
            if (
                path.is_file()
                and not hidden
                and not name.startswith("data/claims/")
                and "egg-info" not in name
            ):
                digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _set_key(app, config):
    config.whatwhere_key = key()


def _outdated(app, env, added, changed, removed):
    return [name for name in LAST if name in env.found_docs]


def _read_last(app, env, docnames):
    docnames.sort(key=lambda name: (name in LAST, name))


def _executed(app, docname, source):
    """A chapter's outputs, where they are at hand; else MyST-NB executes it here and now."""
    if docname.startswith("notebooks/"):
        from tools.course import execute  # it imports this module

        done = execute.kept(Path(app.srcdir) / f"{docname}.ipynb")
        if done is not None:
            source[0] = nbformat.writes(done.notebook)


def _buttons(app, pagename, templatename, context, doctree):
    """Colab opens notebooks: no such button on the executed pages that are Markdown. And every page
    says how to cite."""
    buttons = context.get("header_buttons", [])
    if not pagename.startswith("notebooks/"):
        buttons = [b for b in buttons if b.get("label") != "launch-buttons"]
    address = context["pathto"](CITE)
    cite = {
        "type": "link",
        "url": address,
        "icon": "fas fa-quote-right",
        "tooltip": "How to cite",
        "label": "cite-button",
    }
    context["header_buttons"] = [cite, *buttons]


# Before the first stroke is drawn: light or dark, as the theme's own script would set it after
# that, and the fonts of formulas, which otherwise come late and push lines about. (A preload link
# would do for the fonts, but not in a book opened as a file.)
FIRST = (
    '{const d=document.documentElement.dataset;if(d.theme!=="light"&&d.theme!=="dark")'
    'd.theme=matchMedia("(prefers-color-scheme: dark)").matches?"dark":"light";'
    'for(const font of ["1em KaTeX_Main","italic 1em KaTeX_Math"])document.fonts.load(font)}'
)


def _mended(app, pagename, templatename, context, doctree):
    """What the theme and docutils leave to mend: a script written twice, that nothing here uses; a
    list without list items."""
    context["script_files"] = [
        each for each in context.get("script_files", [])
        if "thebe" not in (each.filename or "") and "THEBE" not in each.attributes.get("body", "")
    ]  # fmt: skip
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def _live_figures(app, exception):
    """The files to which live figures refer, once for the whole book. They are built, not
    committed: the models in them are those of `data/organisms`."""
    if exception is None and app.builder.format == "html":
        from whatwhere.book.live import tabletop

        tabletop.assets(Path(app.outdir) / "_static" / "live")


def setup(app):
    app.add_config_value("whatwhere_key", "", "env", [str])
    app.connect("config-inited", _set_key)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-before-read-docs", _read_last)
    app.connect("source-read", _executed)
    app.connect("html-page-context", _buttons, priority=900)  # after the theme's own
    app.connect("html-page-context", _mended, priority=900)
    app.connect("build-finished", _live_figures)
    app.add_js_file(None, body=FIRST)
    return {"parallel_read_safe": False, "parallel_write_safe": True}

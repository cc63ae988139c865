"""A Sphinx extension that sets mathematics while the book is built, so that a page is read without
a script.

Formulas that a browser sets after it has drawn a page push the text about, and need two megabytes
of script. KaTeX, the same one everywhere (`tools/site/katex`, MIT licence), is run here instead;
the page gets its HTML, and MathML for screen readers. Its style sheet and fonts lie in
`book/_static/katex`.
"""

from pathlib import Path

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

SCRIPT = Path(__file__).with_name("katex") / "katex.min.js"
# strict: what LaTeX would not take is an error here too
OPTIONS = {"throwOnError": True, "strict": "error", "trust": False}
logger = logging.getLogger(__name__)


class Setter:
    """A JavaScript engine that holds KaTeX; it has to be closed, or Python waits for it at its
    end."""

    def __init__(self):
        self.engine = MiniRacer()
        self.engine.eval(SCRIPT.read_text(encoding="utf-8"))

    def html(self, latex, display=False):
        """The formula as HTML. Raises JSEvalException where it is no formula."""
        return self.engine.call("katex.renderToString", latex, OPTIONS | {"displayMode": display})

    def close(self):
        self.engine.close()


def set_formula(translator, node, display):
    latex = node.astext().strip()
    if display and r"\\" in latex and r"\begin" not in latex:
        # bare line breaks, as sphinx.ext.mathjax takes them
        latex = rf"\begin{{gathered}}{latex}\end{{gathered}}"
    try:
        return translator.builder.app.maths.html(latex, display)
    except Exception as error:
        logger.warning(
            "a formula cannot be set: %s", str(error).split("ParseError: ")[-1], location=node
        )
        return f"<code>{translator.encode(latex)}</code>"


def inline(translator, node):
    translator.body.append(
        f'<span class="math notranslate">{set_formula(translator, node, display=False)}</span>'
    )
    raise nodes.SkipNode


def block(translator, node):
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate", TABINDEX="0"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(set_formula(translator, node, display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("katex", (inline, None), (block, None))
    app.add_css_file("katex/katex.min.css")
    app.connect("builder-inited", lambda app: setattr(app, "maths", Setter()))
    app.connect("build-finished", lambda app, error: app.maths.close())
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""A Sphinx extension that links each term and each symbol to its meaning, where a page uses it
first.

Terms are the entries of `book/glossary.md`, symbols the first column of the tables in
`book/notation.md`. Nothing is written in the chapters for it: on Colab such links would lead
nowhere. Hovering shows the meaning.
"""

import re

from docutils import nodes

GLOSSARY, NOTATION = "book/glossary", "book/notation"
# where a link would be in the way, or is none of the page's own prose
NOT_IN = (
    nodes.title,
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.term,
)
LONGEST = 220  # characters of a meaning that hovering shows


def symbol(latex):
    """What a formula introduces, without blanks: `N_V = h\\,w` gives `N_V`; None for a place such
    as `(-m, 0)`."""
    latex = re.sub(r"\\[,;:! ]|\s", "", latex.split("=")[0])
    return None if latex.startswith("(") or not latex else latex


def row_id(latex):
    for sign, name in (("'", "prime"), ("+", "plus"), ("-", "minus")):
        latex = latex.replace(sign, name)
    return "symbol-" + (re.sub(r"[^A-Za-z0-9]+", "-", latex).strip("-") or "it")


def read_notation(app, doctree):
    """Give the rows of the notation's tables an id for each symbol, and keep {(symbol, chapter or
    None): (id, meaning)}.

    A table whose second column is called "chapters" holds letters that mean something else there.
    """
    if app.env.docname != NOTATION:
        return
    found = {}
    for row in doctree.findall(nodes.row):
        cells = list(row.findall(nodes.entry))
        first, second, last = cells[0], cells[1], cells[-1]
        if isinstance(row.parent, nodes.thead):
            lent = second.astext() == "chapters"
            continue
        for formula in first.findall(nodes.math):
            name = symbol(formula.astext())
            for chapter in second.astext().split(", ") if lent else [None]:
                if name and (name, chapter) not in found:
                    ident = row_id(name) + (f"-in-{chapter}" if lent else "")
                    found[name, chapter] = (ident, shortened(last.astext()))
                    # of the cell: browsers move further ids of a row out of the table
                    first["ids"].append(ident)
    app.env.whatwhere_symbols = found


def symbols_of(env, page):
    """{symbol: (id, meaning)} for one page, letters that are lent out to its chapter included."""
    number = re.match(r"notebooks/0*(\d+)", page)[1]
    known = env.whatwhere_symbols.items()
    usual = {name: found for (name, chapter), found in known if chapter is None}
    return usual | {name: found for (name, chapter), found in known if chapter == number}


def shortened(text):
    """What hovering shows: not too long, and no LaTeX."""
    text = "its meaning, among the symbols" if "\\" in text else " ".join(text.split())
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


def meanings(env):
    """{term: (id, meaning)} of the glossary. "step (of steering)" is used as "step of steering": a
    step alone is any step."""
    found = {}
    for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        meaning = shortened(next(item.findall(nodes.definition)).astext())
        for term in item.findall(nodes.term):
            found[term.astext().replace("(", "").replace(")", "")] = (term["ids"][0], meaning)
    return found


def pattern(terms):
    """Matches any of the terms, the longest first, in the singular or the plural."""
    names = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])({names})(?:s|es)?(?![\w-])", re.IGNORECASE)


def link(builder, page, target, child, said):
    uri = builder.get_relative_uri(page, target[0]) + "#" + target[1]
    return nodes.reference(
        "", "", child, refuri=uri, internal=True, reftitle=said, classes=["ww-first-use"]
    )


def link_first_uses(app, doctree, page):
    if not page.startswith("notebooks/"):
        return
    terms, symbols = meanings(app.env), symbols_of(app.env, page)
    lower = {term.lower(): term for term in terms}
    for node in list(doctree.findall(lambda node: isinstance(node, nodes.Text | nodes.math))):
        if any(isinstance(above, NOT_IN) for above in ancestors(node)):
            continue
        if isinstance(node, nodes.math):
            name = symbol(node.astext())
            if name in symbols:
                target, said = symbols.pop(name)
                node.parent.replace(
                    node, link(app.builder, page, (NOTATION, target), node.deepcopy(), said)
                )
        elif lower:
            node.parent.replace(node, list(linked(node.astext(), terms, lower, app.builder, page)))


def linked(text, terms, lower, builder, page):
    """The text as nodes, each term in it that is still in `lower` linked and taken out of
    `lower`."""
    at = 0
    while lower and (match := pattern(lower).search(text, at)):
        target, said = terms[lower.pop(match[1].lower())]
        yield nodes.Text(text[at : match.start()])
        yield link(builder, page, (GLOSSARY, target), nodes.inline("", match[0]), said)
        at = match.end()
    yield nodes.Text(text[at:])


def ancestors(node):
    while node.parent is not None:
        node = node.parent
        yield node


def setup(app):
    app.connect("doctree-read", read_notation)
    app.connect("doctree-resolved", link_first_uses)
    return {"parallel_read_safe": False, "parallel_write_safe": False}

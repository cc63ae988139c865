"""Check the built pages: no failed cell, no image without alt text, no dead link, nothing fetched
from afar.

    python -m tools.site.check_site [folder]        # the folder defaults to _build/html

Also checks what the book is built from: committed notebooks hold no outputs, claim rows are well
formed.
"""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from whatwhere.book import ledger

ROOT = Path(__file__).resolve().parents[2]
# A page may link anywhere; it may not need anything from elsewhere in order to be read.
FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
FETCHED_LINKS = {"stylesheet", "preload", "modulepreload", "icon", "shortcut icon"}
# Sphinx's own pages, made of no source of ours.
OWN_PAGES = {"genindex.html", "search.html"}


class Page(HTMLParser):
    """Collects complaints about one page, each a sentence."""

    def __init__(self, path, folder):
        super().__init__(convert_charrefs=True)
        self.path, self.name = path, path.relative_to(folder).as_posix()
        self.complaints, self.images = [], 0

    def handle_starttag(self, tag, pairs):
        attributes = dict(pairs)
        classes = (attributes.get("class") or "").split()
        where = f"{self.name}, line {self.getpos()[0]}"
        if tag == "img":
            self.images += 1
            alt = (attributes.get("alt") or "").strip()
            source = attributes.get("src") or ""
            # Sphinx fills a missing alt text with the file's name, which tells a reader nothing.
            if attributes.get("aria-hidden") != "true" and (
                not alt or alt == source or Path(source).name == alt
            ):
                self.complaints.append(f"{where}: an image has no alt text ({source[:80]})")
        if tag == "a":
            href = attributes.get("href") or ""
            link = urlsplit(href)
            inside = link.path and not link.scheme and not link.netloc
            if inside and not self._beside(href).exists():
                self.complaints.append(f"{where}: a link leads nowhere ({link.path})")
        if tag == "div" and "traceback" in classes:
            self.complaints.append(f"{where}: a notebook cell failed")
        if tag == "div" and {"cell_output", "stderr"} <= set(classes):
            self.complaints.append(f"{where}: a notebook cell wrote to stderr")
        address = attributes.get(FETCHED.get(tag, ""), "") or ""
        if tag == "link" and (attributes.get("rel") or "").lower() in FETCHED_LINKS:
            address = attributes.get("href") or ""
        if re.match(r"(https?:)?//", address):
            self.complaints.append(f"{where}: reading the page would fetch {address}")
        elif tag == "script" and address and not self._beside(address).exists():
            self.complaints.append(f"{where}: a script is missing ({address})")

    def _beside(self, address):
        """The file that an address of this page means."""
        return self.path.parent / unquote(urlsplit(address).path)


def check_page(path, folder):
    page = Page(path, folder)
    text = path.read_text(encoding="utf-8")
    page.feed(text)
    if re.search(r"Traceback \(most recent call last\)", text):
        page.complaints.append(f"{page.name}: shows a traceback")
    return page


def check_site(folder):
    """Complaints about every page under folder, and how many pages and images were looked at."""
    folder = Path(folder)
    paths = [
        p
        for p in sorted(folder.rglob("*.html"))
        if "_static" not in p.parts and p.name not in OWN_PAGES
    ]
    if not paths:
        return [f"{folder} holds no built page: run make book first"], 0, 0
    pages = [check_page(path, folder) for path in paths]
    return (
        [c for page in pages for c in page.complaints],
        len(pages),
        sum(page.images for page in pages),
    )


def check_sources(root=ROOT):
    """Complaints about what the book is built from."""
    complaints = []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(
            json.loads(path.read_text(encoding="utf-8"))["cells"], start=1
        ):
            if cell["cell_type"] == "code" and (cell.get("outputs") or cell.get("execution_count")):
                if "skip-execution" not in cell["metadata"].get("tags", []):
                    complaints.append(
                        f"{path.name}, cell {number}: stored outputs; make sync removes them"
                    )
    try:
        ledger.rows()
    except ValueError as error:
        complaints.append(str(error))
    return complaints


def main(folder=ROOT / "_build" / "html"):
    complaints, pages, images = check_site(folder)
    complaints += check_sources()
    for complaint in complaints:
        print("✗", complaint)
    print(f"Checked {pages} pages and {images} images; complaints: {len(complaints) or 'none'}.")
    return len(complaints)


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:2])))

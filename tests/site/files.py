"""What can be said of built pages without a browser: where their links lead, what they weigh, what
they offer."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HEAVIEST = 3_000_000  # bytes of a page and the images it shows


class Parts(HTMLParser):
    """The ids of a page, and the attributes of its links, images and whatever else names a file."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.path, self.ids, self.links, self.sources = path, Counter(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, pairs):
        given = {name: value or "" for name, value in pairs}
        self.ids.update(
            given[name] for name in ("id", "name") if name in given and (name == "id" or tag == "a")
        )
        if tag == "a" and "href" in given:
            self.links.append(given)
        if tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            self.links.append({"href": given["content"].partition("url=")[2]})
        if "src" in given or (
            tag == "link" and given.get("rel") not in ("canonical", "next", "prev")
        ):
            self.sources.append((tag, given.get("src") or given.get("href") or ""))

    def file(self, address):
        """The file that an address on this page names, or None where it names no file of the
        book."""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return None
        return (self.path.parent / unquote(parts.path)).resolve() if parts.path else self.path

    def called(self, name):
        """The links with this class."""
        return [link for link in self.links if name in link.get("class", "").split()]


class Parsed(dict):
    """{path: Parts}, each page parsed once."""

    def __missing__(self, path):
        self[path] = Parts(path)
        return self[path]


def all_pages(folder):
    """The paths of the pages below a folder, resolved, without the theme's static files."""
    folder = Path(folder).resolve()
    return [
        path
        for path in sorted(folder.rglob("*.html"))
        if path.relative_to(folder).parts[0] != "_static"
    ]


def dead_links(folder, parsed=None):
    """Each link, image, script or style sheet of a page that leads to no file, or to a place not on
    the page, or to two."""
    parsed, found = Parsed() if parsed is None else parsed, []
    for path in all_pages(folder):
        page, name = parsed[path], path.relative_to(Path(folder).resolve()).as_posix()
        for link in page.links:
            target, place = page.file(link["href"]), unquote(urlsplit(link["href"]).fragment)
            if target is None:
                continue
            if not target.is_file():
                found.append(f"{name} links to {link['href']}, and there is no such file")
            elif place and target.suffix == ".html" and place not in parsed[target].ids:
                found.append(f"{name} links to {link['href']}, and that page has no such place")
        found += [
            f"{name} has the id {each} {times} times"
            for each, times in page.ids.items()
            if times > 1
        ]
        for _, address in page.sources:
            target = page.file(address)
            if target is not None and not target.is_file():
                found.append(f"{name} needs {address}, and there is no such file")
    return found


def weight(path, parsed=None):
    """Bytes of a page and of the images it shows."""
    page = (Parsed() if parsed is None else parsed)[path]
    shown = {page.file(address) for tag, address in page.sources if tag == "img"} - {None}
    return path.stat().st_size + sum(file.stat().st_size for file in shown if file.is_file())

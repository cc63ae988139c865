"""Pack what is published: the book as a folder to read without a network, the editions for a
course, and who made it all.

    python -m tools.site.release offline  # make offline: the built book as one zip
    python -m tools.site.release release  # make release: that, editions, metadata, checksums

Everything goes into `_build/release`. The same contents make the same zip, whenever and wherever it
is made, so that its checksum means something. `codemeta.json` and `zenodo.json` say of the book
what CITATION.cff says, in the words of CodeMeta and Zenodo.
"""

import hashlib
import json
import re
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
OUT = Path("_build") / "release"
NAME = "what-and-where"
# the earliest that a zip can hold: a file's own date would differ from build to build
DATE = (1980, 1, 1, 0, 0, 0)
READ_ME = """\
What and Where, version {version}

Open index.html in a browser. Nothing needs to be installed, and no network is needed.
The notebooks behind these pages, and how to run them: {url}
Prose and figures: CC BY 4.0. Code: MIT.
"""


def project(root=ROOT):
    """The table `project` of pyproject.toml. Its version and that of CITATION.cff have to be
    one."""
    with open(root / "pyproject.toml", "rb") as file:
        found = tomllib.load(file)["project"]
    cited = str(citation(root)["version"])
    if cited != found["version"]:
        sys.exit(f"pyproject.toml says version {found['version']}, and CITATION.cff says {cited}.")
    return found


def citation(root=ROOT):
    """CITATION.cff."""
    return yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))


def pack(folder, file, top, more=()):
    """Zip the files of a folder under the name `top`, without hidden ones. `more`: {name: text} of
    files to add."""
    contents = {name: text.encode() for name, text in dict(more).items()}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        # .buildinfo, .doctrees, checkpoints
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            contents[name.as_posix()] = path.read_bytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as out:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(f"{top}/{name}", DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            # Unix, readable by all: on Windows as well
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            out.writestr(entry, contents[name], compresslevel=9)
    return file


def offline(root=ROOT):
    """The built book as a zip, opened again to see that it is whole."""
    html = root / "_build" / "html"
    if not (html / "index.html").is_file():
        sys.exit("There is no built book to pack: run make book first.")
    version, url = project(root)["version"], citation(root)["repository-code"]
    top = f"{NAME}-{version}"
    file = pack(
        html,
        root / OUT / f"{top}-offline.zip",
        top,
        {"READ-ME.txt": READ_ME.format(version=version, url=url)},
    )
    with zipfile.ZipFile(file) as packed:
        if packed.testzip() or f"{top}/index.html" not in packed.namelist():
            sys.exit(f"{file.name} was written, and does not open as it should.")
    return file


def editions(root=ROOT):
    """The zips of the editions for a course, of those that have been written."""
    version, out = project(root)["version"], []
    for edition in ("student", "instructor"):
        if any((root / edition).glob("*.ipynb")):
            top = f"{NAME}-{version}-{edition}"
            out.append(pack(root / edition, root / OUT / f"{top}.zip", top))
        else:
            print(f"There is no {edition}'s edition to pack: make {edition} writes it.")
    return out


def person(author):
    """(family name, given name) of an author of CITATION.cff; the given name is empty where a group
    is named."""
    return author.get("family-names", author.get("name")), author.get("given-names", "")


def codemeta(root=ROOT):
    """The book in the words of CodeMeta 3."""
    cited, described = citation(root), project(root)

    def people(authors):
        return [
            {"@type": "Person", "familyName": last, "givenName": first}
            if first
            else {"@type": "Organization", "name": last}
            for last, first in map(person, authors)
        ]

    papers = [
        {
            "@type": "ScholarlyArticle",
            "name": paper["title"],
            "author": people(paper["authors"]),
            "url": paper["url"],
        }
        for paper in cited.get("references", [])
    ]
    out = {
        "@context": "https://w3id.org/codemeta/3.0",
        "@type": "SoftwareSourceCode",
        "name": cited["title"],
        "description": cited.get("abstract", described["description"]),
        "version": described["version"],
        "author": people(cited["authors"]),
        "license": [f"https://spdx.org/licenses/{name}" for name in cited["license"]],
        "codeRepository": cited["repository-code"],
        "keywords": cited.get("keywords", []),
        "programmingLanguage": "Python",
        "runtimePlatform": f"Python {described['requires-python']}",
        "softwareRequirements": described["dependencies"],
        "referencePublication": papers,
    }
    return out | (
        {"datePublished": str(cited["date-released"])} if "date-released" in cited else {}
    )


def zenodo(root=ROOT):
    """The book in the words of Zenodo. A deposit has one licence there, the code's; the notes name
    that of the prose."""
    cited, described = citation(root), project(root)
    related = [
        {"identifier": cited["repository-code"], "relation": "isSupplementTo", "scheme": "url"}
    ]
    # the book uses the paper; neither documents nor derives from the other
    for paper in cited.get("references", []):
        arxiv = re.search(r"arxiv\.org/abs/([\d.]+\d)", paper["url"])
        identifier, scheme = (f"arXiv:{arxiv[1]}", "arxiv") if arxiv else (paper["url"], "url")
        related.append({"identifier": identifier, "relation": "references", "scheme": scheme})
    out = {
        "title": cited["title"],
        "upload_type": "software",
        "description": cited.get("abstract", described["description"]),
        "version": described["version"],
        "creators": [
            {"name": ", ".join(filter(None, person(author)))} for author in cited["authors"]
        ],
        "license": cited["license"][0],
        "notes": f"Licences: {', '.join(cited['license'])}. Code, data and organisms: MIT. "
        "Prose and figures: CC BY 4.0.",
        "keywords": cited.get("keywords", []),
        "related_identifiers": related,
    }
    return out | (
        {"publication_date": str(cited["date-released"])} if "date-released" in cited else {}
    )


def release(root=ROOT):
    """All there is to publish, and the checksums of it."""
    shutil.rmtree(root / OUT, ignore_errors=True)  # an earlier version's files
    offline(root)
    editions(root)
    for name, told in (("codemeta.json", codemeta(root)), ("zenodo.json", zenodo(root))):
        (root / OUT / name).write_text(
            json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    files = sorted(path for path in (root / OUT).iterdir() if path.is_file())
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files
    )
    (root / OUT / "SHA256SUMS").write_text(sums, encoding="utf-8")
    return root / OUT


def main(what, root=ROOT):
    if what not in ("offline", "release"):
        sys.exit(f"There is nothing called '{what}' to pack: it is offline or release.")
    made = offline(root) if what == "offline" else release(root)
    for path in [made] if made.is_file() else sorted(made.iterdir()):
        print(f"{path.relative_to(root)}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*(sys.argv[1:2] or ["which?"]))

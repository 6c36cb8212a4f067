"""Hooks of MkDocs, in addition to mkdocs.yml: pages from files outside docs/, and links to them.

Documents link to files of the repository by path, so that they can be read without a site. The hooks add each of these
files to the site: cards under ``models/``, other pages under ``source/``, tables and code unchanged. Links are changed
to match, and MkDocs checks them all.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!\\)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
CARDS = "lithepose/weights/cards/"
MINI = ROOT / "research" / "results" / "mini"
_of: dict[str, str] = {}  # page of the site -> file of the repository


def uri_of(path: str) -> str:
    """Return the path of a repository file in the site; both are posix paths."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith(CARDS):
        return "models/" + path.removeprefix(CARDS)
    if path == "CHANGELOG.md":
        return "changelog.md"
    # A README would be the same page of its folder as an index.
    return f"source/{path}".replace("README.md", "about.md")


def targets(path: str) -> list[str]:
    """Return files of the repository that one of its pages links to."""
    found = []
    for link, _ in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        if (ROOT / target).is_file() and not target.startswith("../"):
            found.append(target)
    return found


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that documents link to, directly or through other pages, and generated pages."""
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    pages += ["CHANGELOG.md", *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / CARDS).glob("*.md")))]
    seen = set[str]()
    while pages:
        path = pages.pop()
        if path in seen:
            continue
        seen.add(path)
        _of[uri_of(path)] = path
        if not path.startswith("docs/"):
            files.append(File.generated(config, uri_of(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            pages += [target for target in targets(path) if not target.startswith("docs/") or target.endswith(".md")]
    made = {"models/index.md": models(), "reproduced.md": reproduced(), "skeletons.md": skeletons()}
    for image in sorted(MINI.glob("*/*.png")):
        uri = uri_of(image.relative_to(ROOT).as_posix())
        files.append(File.generated(config, uri, abs_src_path=str(image)))
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change links to files of the repository to links of the site; links to folders become plain text."""
    uri = page.file.src_uri
    path = _of.get(uri)
    if path is None:
        return markdown

    def turned(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
        if not (ROOT / target).exists() or (ROOT / target).is_dir():
            return match[0]
        return f"]({posixpath.relpath(uri_of(target), posixpath.dirname(uri))}{match[2] or ''})"

    markdown = re.sub(r"(?<!!)\[([^\]]*)\]\(([^)#\s:]+/?)\)", lambda m: _plain(m, path), markdown)
    return LINK.sub(turned, markdown)


def _plain(match: re.Match[str], path: str) -> str:
    """Return the text of a link to a folder without the link."""
    target = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2]))
    return match[1] if target.is_dir() else match[0]


def models() -> str:
    """Return the list of cards."""
    lines = ["# Models", "", "The models in the package, with their training data, scores and typical failures.", ""]
    for path in sorted((ROOT / CARDS).glob("*.md")):
        title, _, rest = path.read_text(encoding="utf-8").partition("\n")
        first = rest.strip().split("\n\n")[0].replace("\n", " ")
        first = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", first.split(". ")[0].rstrip("."))
        lines.append(f"- [{title.lstrip('# ')}]({path.name}): {first}.")
    return "\n".join([*lines, ""])


def reproduced() -> str:
    """Return all committed tables of mini runs."""
    lines = [
        "# Reproduced tables",
        "",
        "Mini runs on two CPU cores, by `lithepose reproduce ITEM --mini`: they show that each pipeline works."
        " **Their accuracies and losses mean little**, and times were measured while other programs used the cores."
        " [Reproduce](reproduce.md) lists the commands.",
        "",
    ]
    for path in sorted(MINI.glob("*/*.md")):
        folder = uri_of(path.parent.relative_to(ROOT).as_posix())
        text = path.read_text(encoding="utf-8").replace("# ", "## ", 1).replace("](", f"]({folder}/")
        lines += [text, ""]
    return "\n".join(lines)


def skeletons() -> str:
    """Return the joint order of every skeleton with its drawing."""
    from lithepose.skeleton import SKELETONS

    lines = [
        "# Orders of joints",
        "",
        "The numbers are the indices along the joint axis of every array; `poses.joints` has the names.",
        "",
    ]
    for name, skeleton in SKELETONS.items():
        lines += [f"## {name}", "", f"![{len(skeleton)} joints with their numbers](images/skeletons/{name}.svg)", ""]
    return "\n".join(lines)

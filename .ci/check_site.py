"""Checks a built site: it loads nothing from elsewhere, and every link inside it leads somewhere.

Usage: python .ci/check_site.py FOLDER
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches without a click. A plain link (<a href>) may point anywhere.
LOADING = {
    ("audio", "src"), ("embed", "src"), ("iframe", "src"), ("img", "src"), ("img", "srcset"), ("input", "src"),
    ("link", "href"), ("object", "data"), ("script", "src"), ("source", "src"), ("source", "srcset"), ("use", "href"),
    ("track", "src"), ("video", "src"), ("video", "poster"),
}  # fmt: skip
FOREIGN = re.compile(r"^\s*(?:[a-z]+:)?//", re.IGNORECASE)
# Comments that name a licence are fine; a URL that CSS or a script would load is not.
LOADED_BY_CSS = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")
LOADED_BY_SCRIPT = re.compile(
    r"""(?:fetch|import|open|importScripts)\(\s*["'`]((?:https?:)?//[^"'`]+)|\.src\s*=\s*["'`]((?:https?:)?//[^"'`]+)"""
)


class Page(HTMLParser):
    """The anchors of one page, its links, and what it loads from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.foreign: list[str] = []
        self.feed(text)
        self.foreign += LOADED_BY_CSS.findall(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one tag names."""
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            if (tag, name) in LOADING and FOREIGN.match(value):
                self.foreign.append(value)
            if (tag, name) == ("a", "href"):
                self.links.append(value)


def problems(site: Path) -> list[str]:
    """Return a line for each thing that is wrong with the site."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site} has no pages"]
    found = [f"{path}: loads {url}" for path, page in pages.items() for url in page.foreign]
    for path in sorted(site.rglob("*.css")):
        found += [f"{path}: loads {url}" for url in LOADED_BY_CSS.findall(path.read_text())]
    for path in sorted(site.rglob("*.js")):
        found += [f"{path}: loads {first or second}" for first, second in LOADED_BY_SCRIPT.findall(path.read_text())]
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{path}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{path}: {link} has no such anchor")
    return found


if __name__ == "__main__":
    lines = problems(Path(sys.argv[1]).resolve())
    print("\n".join(lines) or "the site loads nothing from elsewhere, and its links lead somewhere")  # noqa: T201
    sys.exit(bool(lines))

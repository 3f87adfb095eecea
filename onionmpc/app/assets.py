"""The files of the page, read once. A request only ever picks one by its name: no part of it reaches the disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

ENTRY_NAME = "index.html"
ASSET_NAME = re.compile(r"[a-z0-9_-]+\.[a-z]+")
CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page."""

    content: bytes
    content_type: str


def read_assets(folder: Path | Traversable) -> Mapping[str, Asset]:
    """Return the files of a folder by their names.

    Raises:
        ValueError: a file has a name or a type that no request could ask for, or there is no index.html.
    """
    assets = {}
    for file in folder.iterdir():
        content_type = CONTENT_TYPES.get(file.name.rpartition(".")[2])
        if not ASSET_NAME.fullmatch(file.name) or content_type is None:
            raise ValueError(f"{file.name} cannot be a file of the page")
        assets[file.name] = Asset(file.read_bytes(), content_type)
    if ENTRY_NAME not in assets:
        raise ValueError(f"the page has no {ENTRY_NAME}")
    return MappingProxyType(assets)

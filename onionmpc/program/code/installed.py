"""Finds the installed distributions that a program imports.

Knows what is installed into this Python. Does not import any of it.
"""

from __future__ import annotations

import csv
import importlib.metadata
import inspect
import re
import sys
from collections.abc import Iterable, Set
from importlib.metadata import Distribution

# The limits of a peer's parser (PROTOCOL 4).
MAX_DISTRIBUTIONS = 32
MAX_NAME = 60
MAX_VERSION = 40


def distributions_of(modules: Iterable[str], at_most: int = MAX_DISTRIBUTIONS) -> dict[str, str]:
    """Return the version of each distribution that provides one of these modules, by its name.

    Args:
        modules: top-level names, such as "numpy".
        at_most: how many to return, the first ones by name.
    """
    wanted = set(modules) - set(sys.stdlib_module_names)
    if not wanted:
        return {}
    # Not packages_distributions(): it parses every path that is installed, which takes an eighth of a second for 60
    # distributions.
    names = sorted({found.name for found in importlib.metadata.distributions() if _provides(found, wanted)})[:at_most]
    return {_plain(name)[:MAX_NAME]: _plain(importlib.metadata.version(name))[:MAX_VERSION] for name in names}


def _provides(distribution: Distribution, wanted: Set[str]) -> bool:
    """Return whether a distribution declares or contains one of these top-level modules."""
    if declared := (distribution.read_text("top_level.txt") or "").split():
        return not wanted.isdisjoint(declared)
    record = distribution.read_text("RECORD")
    if record is None:  # an old kind of distribution, which lists its files elsewhere
        paths = [str(path) for path in distribution.files or ()]
    else:
        begins = tuple(f"{quote}{module}{end}" for module in wanted for end in "/." for quote in ("", '"'))
        paths = [row[0] for row in csv.reader(line for line in record.splitlines() if line.startswith(begins))]
    return any(path.partition("/")[0].partition(".")[0] in wanted and inspect.getmodulename(path) for path in paths)


def _plain(text: str) -> str:
    """Replace each character that names and versions must not have: a folder in site-packages can have any name.

    Peers refuse other characters. Source: the Python packaging specifications for names and versions.
    """
    return re.sub(r"[^A-Za-z0-9.!+_-]", "-", text) or "-"

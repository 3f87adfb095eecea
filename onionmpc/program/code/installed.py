"""Finds the installed distributions that a program imports.

Knows what is installed into this Python. Does not import any of it.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable

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
    providers = importlib.metadata.packages_distributions()
    names = sorted({name for module in wanted for name in providers.get(module, ())})[:at_most]
    return {_plain(name)[:MAX_NAME]: _plain(importlib.metadata.version(name))[:MAX_VERSION] for name in names}


def _plain(text: str) -> str:
    """Replace each character that names and versions must not have: a folder in site-packages can have any name.

    Peers refuse other characters. Source: the Python packaging specifications for names and versions.
    """
    return re.sub(r"[^A-Za-z0-9.!+_-]", "-", text) or "-"

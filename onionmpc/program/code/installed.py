"""Which installed distributions a program imports.

Knows what is installed into this Python. Does not import any of it.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable

MAX_DISTRIBUTIONS = 32
MAX_NAME = 60
MAX_VERSION = 40


def distributions_of(modules: Iterable[str], at_most: int = MAX_DISTRIBUTIONS) -> dict[str, str]:
    """Return the version of each distribution that provides one of these modules, by its name.

    Args:
        modules: the first words of modules, such as "numpy".
        at_most: how many to return, the first by name.
    """
    wanted = set(modules) - set(sys.stdlib_module_names)
    if not wanted:
        return {}
    providers = importlib.metadata.packages_distributions()
    names = sorted({name for module in wanted for name in providers.get(module, ())})[:at_most]
    return {_plain(name)[:MAX_NAME]: _plain(importlib.metadata.version(name))[:MAX_VERSION] for name in names}


def _plain(text: str) -> str:
    """Return a name or version in the characters that the specification of packages allows, whatever a folder says."""
    return re.sub(r"[^A-Za-z0-9.!+_-]", "-", text) or "-"

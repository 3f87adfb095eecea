"""Keeps the warnings of `cryptography` about odd certificates from the screen, and from becoming errors."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

from cryptography.utils import CryptographyDeprecationWarning

# Filters of warnings belong to the process. Without the lock, a thread could put back those of another one.
_FILTERS = threading.Lock()


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Warn of no odd certificate: a root of certifi has the serial number 0, and a peer could print on our screen.

    Where warnings are errors, it could raise them. What is wrong with its certificate, the verifier refuses.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield

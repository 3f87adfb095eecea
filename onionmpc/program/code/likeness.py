"""Explains how a file differs from another of which only the digest is known.

It tries what mail, git and editors do to a text: line endings, byte order marks and final newlines. Does not know whose
files these are.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator


def only_difference(content: bytes, other_sha256: str) -> str:
    """Return the only way in which the other file differs, or the empty string if they differ in any other way.

    Args:
        content: our file.
        other_sha256: the digest of the other file, in hex.
    """
    for words, form in _forms(content):
        if hashlib.sha256(form).hexdigest() == other_sha256:
            return words
    return ""


def _forms(content: bytes) -> Iterator[tuple[str, bytes]]:
    marked = content.startswith(codecs.BOM_UTF8)
    text = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    mark = codecs.BOM_UTF8 if marked else b""
    yield "in line endings only (LF or CRLF)", mark + text
    yield "in line endings only (LF or CRLF)", mark + text.replace(b"\n", b"\r\n")
    for body in {text, text.rstrip(b"\n"), text.rstrip(b"\n") + b"\n"}:
        for lines in (body, body.replace(b"\n", b"\r\n")):
            for start in (b"", codecs.BOM_UTF8):
                yield "only in line endings, a byte order mark or empty lines at its end", start + lines

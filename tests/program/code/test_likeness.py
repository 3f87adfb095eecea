"""The only difference between two files is found, even if only the digest of one of them is known."""

from __future__ import annotations

import hashlib

import pytest

from onionmpc.program.code.likeness import only_difference

LF, CRLF = b"a\nb\n", b"a\r\nb\r\n"
ENDINGS = "in line endings only (LF or CRLF)"
MORE = "only in line endings, a byte order mark or empty lines at its end"


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (LF, CRLF, ENDINGS),
        (CRLF, LF, ENDINGS),
        (b"a\r\nb\n", LF, ENDINGS),
        (b"\xef\xbb\xbfa\n", b"\xef\xbb\xbfa\r\n", ENDINGS),
        (LF, b"\xef\xbb\xbf" + CRLF, MORE),
        (b"\xef\xbb\xbf" + CRLF, LF, MORE),
        (LF, b"a\nb", MORE),
        (b"a\nb", CRLF, MORE),
        (b"a\nb\n\n\n", LF, MORE),
        (LF, b"a\nc\n", ""),
        (LF, b"", ""),
    ],
)
def test_changes_by_mail_and_editors_are_recognised(ours: bytes, theirs: bytes, words: str) -> None:
    assert only_difference(ours, hashlib.sha256(theirs).hexdigest()) == words

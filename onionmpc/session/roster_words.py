"""The roster in words, which people compare over another channel, such as the telephone.

A host names the parties to each joiner, and can try rosters until two of them have the same words. Why ten words, and
why a slow hash: docs/PROTOCOL.md section 4 and docs/THREATS.md.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from textwrap import wrap

ROSTER_LABEL = b"onionmpc/2 roster"
WORDS_SHOWN = 10  # of 1626: 106 bits
# 2**17 SHA-256 compressions for each roster that a host tries, 20 ms for each that we show.
ITERATIONS = 2**16
LIST = Path(__file__).with_name("roster_words.txt")
LINE_WIDTH = 64  # beside a label, within 80 columns


@cache
def word_list() -> tuple[str, ...]:
    """Return the words that a roster can have, sorted."""
    return tuple(line for line in LIST.read_text("ascii").splitlines() if not line.startswith("#"))


def roster_fingerprint(addresses: tuple[str, ...]) -> str:
    """Return the words of a roster, with a space between two.

    Args:
        addresses: of all parties, in party order.
    """
    digest = hashlib.pbkdf2_hmac("sha256", "\n".join(addresses).encode(), ROSTER_LABEL, ITERATIONS)
    number, words = int.from_bytes(digest, "big"), []
    for _ in range(WORDS_SHOWN):
        number, place = divmod(number, len(word_list()))
        words.append(word_list()[place])
    return " ".join(words)


def roster_lines(fingerprint: str) -> list[str]:
    """Break the words of a roster into lines that fit beside a label."""
    return wrap(fingerprint, LINE_WIDTH)

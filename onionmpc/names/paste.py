"""Cleans text that people paste from mails, chats, word processors and files of any kind.

The text may hold a secret: nothing here keeps it or quotes it in an error.
"""

from __future__ import annotations

import codecs
import string
import unicodedata
from collections.abc import Iterator

# Quotes that are not in Unicode's categories for initial and final quotes: straight quotes, accents, low quotes, primes
# and corner brackets. Mail programs put > before quoted lines and around links.
QUOTES = (
    "\"'`\u00b4\u201a\u201e\u2032\u2033\u2035\u2036"
    "\u300c\u300d\u300e\u300f\u301d\u301e\u301f\uff02\uff07\uff40\uff62\uff63"
)
SKIPPED_CHARACTERS = QUOTES + ">"
# Zero-width joiners and similar characters are in Unicode's category Cf. Variation selectors are not.
VARIANTS = range(0xFE00, 0xFE10)
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
AROUND_WORDS = QUOTES + "<>()[]{},;*_"
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def decode_text(content: bytes) -> str:
    """Return the text of a file in UTF-8 or UTF-16. Bytes that cannot be decoded are replaced."""
    for bom, encoding in BOMS:
        if content.startswith(bom):
            return content[len(bom) :].decode(encoding, "replace")
    # ASCII in UTF-16: every other byte is zero, the first of each pair or the second.
    for encoding, zeros in (("utf-16-be", content[0::2]), ("utf-16-le", content[1::2])):
        if zeros and zeros.count(0) > len(zeros) // 2 and 3 * content.count(0) < 2 * len(content):
            return content.decode(encoding, "replace")
    return content.decode("utf-8", "replace")


def squeeze(text: str) -> str:
    """Return `text` without white space, quote marks, > and invisible characters."""
    return text.translate(
        {ord(c): None for c in set(text) if c.isspace() or c in SKIPPED_CHARACTERS or _is_unseen_or_quote(c)}
    )


def lower(text: str) -> str:
    """Return `text` with the letters of ASCII in lower case.

    Not str.lower: some letters outside ASCII, such as the Kelvin sign, have a lower case inside it.
    """
    return text.translate(LOWER)


def words_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each word, without surrounding quotes and brackets. # starts a comment."""
    for number, line in enumerate(without_comments(text).splitlines(), start=1):
        # A part without a letter is a bullet or a number of a list, not a word.
        unseen = {ord(c): None for c in set(line) if unicodedata.category(c) == "Cf" or ord(c) in VARIANTS}
        for part in line.translate(unseen).replace(",", " ").replace(";", " ").split():
            word = _stripped(part)
            if any(c.isalpha() for c in word):
                yield number, word


def without_comments(text: str) -> str:
    """Return `text` without # and what follows it in each line."""
    return "\n".join(line.partition("#")[0] for line in text.splitlines())


def _stripped(part: str) -> str:
    around = AROUND_WORDS + "".join(c for c in set(part) if unicodedata.category(c) in ("Pi", "Pf"))
    return part.strip(around).rstrip(".").strip(around)


def _is_unseen_or_quote(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Pi", "Pf") or ord(character) in VARIANTS

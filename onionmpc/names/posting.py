"""The page on which a site posts addresses: one in each line, with the last day on which it counts, and its purpose.

The page is a stranger's text. It is read whole, or refused with the number of the line at fault. Does not know how it
came here: that is `onionmpc.tor.web`. Format: docs/reference/files.md.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from onionmpc.errors import InvalidAddress, InvalidPosting, UsageError
from onionmpc.identity import Onion, parse_onion
from onionmpc.text import printable

POSTING_PATH = "/.well-known/onionmpc"
MAX_PAGE_BYTES = 64 * 1024
MAX_LINES = 100
MAX_PURPOSE_CHARACTERS = 80
# So that a page that nobody maintains stops counting by itself.
MAX_DAYS_AHEAD = 366
PAGE_HINT = "the site's owner has to correct it; docs/howto/post.md shows a page"


@dataclass(frozen=True, slots=True)
class PostedAddress:
    """One line of a page.

    Attributes:
        until: the last day on which it counts, in UTC.
        purpose: the site's own words.
    """

    onion: Onion
    until: datetime.date
    purpose: str

    def __str__(self) -> str:
        """Show it to a person."""
        return f"{self.onion} until {self.until.day} {self.until:%B %Y}: {self.purpose}"


@dataclass(frozen=True, slots=True)
class Posting:
    """What a page posts, in its order.

    Attributes:
        expired: the addresses whose last day is over. None of them counts.
    """

    valid: tuple[PostedAddress, ...]
    expired: tuple[PostedAddress, ...]

    def choose(self, *, wanted: Onion | None, kept: Onion | None) -> PostedAddress:
        """Return the address to keep.

        Args:
            wanted: the one that the user asks for, if any.
            kept: the one that the user's contact has already, if any.

        Raises:
            UsageError: the page has no address that counts, or not the one that is wanted, or several of which the user
                has to choose one.
        """
        if not self.valid:
            last = max((each.until for each in self.expired), default=None)
            raise UsageError(
                "the page has no address"
                if last is None
                else f"every address of the page has expired, the last on {last}",
                hint="ask the site's owner for a new one",
            )
        by_onion = {each.onion: each for each in self.valid}
        if wanted is not None:
            if wanted not in by_onion:
                raise UsageError(
                    f"the page does not post {wanted}, or no longer", hint="choose an address that it posts"
                )
            return by_onion[wanted]
        if kept in by_onion:
            return by_onion[kept]
        if len(by_onion) > 1:
            raise UsageError(f"the page posts {len(by_onion)} addresses", hint="choose one with --address ADDRESS")
        return self.valid[0]


def parse_posting(content: bytes, today: datetime.date) -> Posting:
    """Parse a page.

    Args:
        today: the day in UTC.

    Raises:
        InvalidPosting: names the line at fault.
    """
    if len(content) > MAX_PAGE_BYTES:
        raise InvalidPosting(f"the page has more than {MAX_PAGE_BYTES} bytes", hint=PAGE_HINT)
    try:
        # Some editors put a byte order mark in front.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(1 + content.count(b"\n", 0, error.start), "it is not UTF-8") from error
    if text.lstrip().startswith("<"):
        raise InvalidPosting(
            "the page is HTML, expected lines with an address, a day and a purpose",
            hint="many sites answer any path with their own page: ask the site's owner where the addresses are",
        )
    lines = text.split("\n")
    if len(lines) > MAX_LINES + 1:  # the last one ends with a line break too
        raise InvalidPosting(f"the page has more than {MAX_LINES} lines", hint=PAGE_HINT)
    posted: dict[Onion, PostedAddress] = {}
    for number, line in enumerate(lines, start=1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        try:
            each = _parse(words, today)
        except InvalidAddress as error:
            raise _invalid(number, error.message) from error
        except ValueError as error:
            raise _invalid(number, str(error)) from error
        if each.onion in posted:
            raise _invalid(number, "an earlier line has the same address")
        posted[each.onion] = each
    return Posting(
        tuple(each for each in posted.values() if each.until >= today),
        tuple(each for each in posted.values() if each.until < today),
    )


def _parse(line: str, today: datetime.date) -> PostedAddress:
    fields = line.split(maxsplit=2)
    if len(fields) < 3:
        raise ValueError("expected an address, a day and a purpose")
    address, day, purpose = fields
    onion = parse_onion(address)
    try:
        until = datetime.date.fromisoformat(day)
    except ValueError:
        until = None
    if until is None or until.isoformat() != day:
        raise ValueError(f"{printable(ascii(day), 40)} is not a day, expected one such as 2027-02-28")
    if (until - today).days > MAX_DAYS_AHEAD:
        raise ValueError(f"{day} is more than {MAX_DAYS_AHEAD} days ahead")
    if len(purpose) > MAX_PURPOSE_CHARACTERS:
        raise ValueError(f"the purpose has more than {MAX_PURPOSE_CHARACTERS} characters")
    # It goes onto a terminal: no escape sequences, and no direction marks.
    if not purpose.isprintable():
        raise ValueError("the purpose has characters that cannot be printed")
    return PostedAddress(onion, until, purpose)


def _invalid(line: int, what: str) -> InvalidPosting:
    return InvalidPosting(f"line {line} of the page: {what}", hint=PAGE_HINT)

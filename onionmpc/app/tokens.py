"""Start tokens and sessions: who may use the page.

A start token is in the link that opens the page. It works once and for a short time; the page exchanges it for a
session. If it comes twice, two programs have seen the link, and nobody knows which one is the user's browser. So its
session ends.

Knows tokens and the time, which comes in by a clock. Does not know HTTP. Everything is in memory, and new in each run.
"""

from __future__ import annotations

import enum
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from onionmpc.errors import UsageError

TOKEN_BYTES = 32
# A browser that starts cold on a slow disk needs about 10 s. A process list that shows the link is read later.
START_LIFE_S = 30.0
MAX_STARTS = 8
# Tabs that one person has open at once. An older session ends for a newer one.
MAX_SESSIONS = 32
AGAIN_HINT = "open onionmpc again for a fresh link"


class Why(enum.Enum):
    """Why a start token opens nothing. The values are the words of the reply to the page."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    USED_TWICE = "used twice"


class StartRefused(UsageError):
    """A start token that opens no session."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message, hint=AGAIN_HINT)
        self.why = why


@dataclass(frozen=True, slots=True, eq=False)
class PageSession:
    """A page that may use the app.

    Attributes:
        token: the page sends it with each request.
        proof_key: the page never sends it. With it the server proves to a page that reconnects that it is the same
            process, and not another program that has taken the port.
    """

    token: str = field(repr=False)
    proof_key: str = field(repr=False)

    def proof(self, nonce: str) -> str:
        """Return the HMAC-SHA256 of a nonce, in hexadecimal digits."""
        return hmac.digest(self.proof_key.encode(), nonce.encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class _Start:
    token: str = field(repr=False)
    until_s: float


@dataclass(frozen=True, slots=True)
class _Used:
    token: str = field(repr=False)
    session: PageSession


class Tokens:
    """All tokens of one run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._starts: list[_Start] = []  # oldest first, as below
        self._used: list[_Used] = []

    def new_start(self) -> str:
        """Return a fresh start token. The oldest one ends if there are more than MAX_STARTS."""
        start = _Start(secrets.token_urlsafe(TOKEN_BYTES), self._clock() + START_LIFE_S)
        self._starts = [*self._starts, start][-MAX_STARTS:]
        return start.token

    def exchange(self, token: str) -> PageSession:
        """Open a session for a start token. The oldest one ends if there are more than MAX_SESSIONS.

        Raises:
            StartRefused: it is unknown, expired, or was exchanged before; then the session that it opened ends too.
        """
        for used in [each for each in self._used if _equal(each.token, token)]:
            self._used.remove(used)
            raise StartRefused(Why.USED_TWICE, "another program on this computer used this link as well")
        found = [each for each in self._starts if _equal(each.token, token)]
        if not found:
            raise StartRefused(Why.UNKNOWN, "the link is not of this run, or was used before")
        self._starts.remove(found[0])
        if self._clock() > found[0].until_s:
            raise StartRefused(Why.EXPIRED, f"the link is older than {START_LIFE_S:.0f} s")
        session = PageSession(secrets.token_urlsafe(TOKEN_BYTES), secrets.token_urlsafe(TOKEN_BYTES))
        self._used = [*self._used, _Used(token, session)][-MAX_SESSIONS:]
        return session

    def session_of(self, token: str) -> PageSession | None:
        """Return the open session of a session token, or None."""
        found = [used.session for used in self._used if _equal(used.session.token, token)]
        return found[0] if found else None


def _equal(one: str, other: str) -> bool:
    """Compare tokens in a time that does not tell how much of them is equal."""
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "surrogatepass"))

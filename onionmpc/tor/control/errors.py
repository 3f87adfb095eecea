"""The errors of a control connection."""

from __future__ import annotations

from onionmpc.errors import TorFailed

# The answer of a filter before a control port (Tails, Whonix) to a command that it blocks.
FILTERED = 510
FILTER_HINT = "a filter sits before this control port; docs/OTHER_TORS.md lists what it must let through"


class CommandRefused(TorFailed):
    """tor answered a command with an error.

    Attributes:
        code: three digits of control-spec, "Replies".
        reason: tor's own words.
    """

    def __init__(self, command: str, code: int, reason: str) -> None:
        # Only the command's first word: ADD_ONION, for example, continues with a private key.
        super().__init__(f"tor refused {command.split(maxsplit=1)[0]}: {code} {reason}", hint=filter_hint(code))
        self.code = code
        self.reason = reason


def filter_hint(code: int | None) -> str:
    """Return a hint for a reply with this code, if a filter sent it."""
    return FILTER_HINT if code == FILTERED else ""


def connection_gone() -> TorFailed:
    """Return the error for a connection that tor has closed."""
    return TorFailed("tor closed the control connection", hint="check whether tor still runs, and read its log")

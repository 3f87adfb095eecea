"""Decides from the waits of all programs, and their byte counts, whether any of them can ever move again.

Knows no links and no clock: the time is an argument. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.spec import NO_BYTES, NOT_CONNECTED, Place, Wait
from onionmpc.text import printable

# A report's detail may have 500 characters. The rest is for "; 250 more wait too".
DETAIL_CHARACTERS = 450
USUAL_CAUSES = (
    "usual causes: the parties put in different numbers of values (for example rows), they take different branches, or "
    "a coroutine failed"
)


class Standstill:
    """Collects what the programs of a session wait for, and finds out whether they wait for each other.

    Args:
        parties: the number of parties.
        after_s: how long they must have waited for each other, with no byte on its way, to count as stuck.
    """

    def __init__(self, parties: int, after_s: float = 0.0) -> None:
        self._parties = parties
        self._after_s = after_s
        self._waits: dict[int, Wait] = {}
        self._on_way: set[tuple[int, int]] = set()  # sender and receiver, both waiting, with bytes on their way
        self._since: float | None = None

    def note(self, party: int, wait: Wait | None) -> None:
        """Note what a party's program waits for; None if it does not wait, or if that is unknown.

        Raises:
            RemoteProtocolError: no party of this session can have such a wait.
        """
        if wait is not None:
            check_wait(wait, party, self._parties)
        self._since = None
        self._waits.pop(party, None)
        ways = [way for other in range(self._parties) for way in ((party, other), (other, party))]
        self._on_way.difference_update(ways)
        if wait is not None:
            self._waits[party] = wait
            self._on_way.update(way for way in ways if self._is_on_way(*way))

    def all_wait(self) -> bool:
        """Return whether all programs wait and no byte is on its way between any two of them.

        The parties report at different moments. But equal counts mean that everything received was sent before the
        sender's report, and everything sent was received: together the reports are a consistent cut, and no program can
        move from there.
        """
        return len(self._waits) == self._parties and not self._on_way

    def _is_on_way(self, sender: int, receiver: int) -> bool:
        if sender not in self._waits or receiver not in self._waits:
            return False
        received = self._waits[receiver].received[sender]
        return received not in (NOT_CONNECTED, self._waits[sender].sent[receiver])

    def stuck_s(self, now: float, *, connected: bool) -> float | None:
        """Return for how many seconds all have waited for each other, or None if that is too short to count.

        Args:
            connected: whether this party is connected to all others; a broken link explains a wait.
        """
        if not connected or not self.all_wait():
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        seconds = now - self._since
        return seconds if seconds >= self._after_s else None

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The waits of all parties, in party order; only if all wait."""
        return tuple(self._waits[party] for party in range(self._parties))


def check_wait(wait: Wait, party: int, parties: int) -> None:
    """Check that a party of this session can have this wait."""
    if (
        len(wait.sent) != parties
        or len(wait.received) != parties
        or {wait.sent[party], wait.received[party]} != {NO_BYTES}
    ):
        raise RemoteProtocolError(f"it does not count bytes for exactly the {parties - 1} other parties")
    if party in wait.awaited or any(other >= parties for other in wait.awaited):
        raise RemoteProtocolError("it waits for a party that is not among the others")


def describe_wait(party: int, wait: Wait) -> str:
    """Describe what a party's program waits for, and where."""
    if len(wait.awaited) > 2 and len(set(wait.awaited)) == len(wait.sent) - 1:
        whom = "all other parties"
    elif wait.awaited:
        numbers = [str(number) for number in sorted(set(wait.awaited))]
        whom = f"party {numbers[0]}" if len(numbers) == 1 else f"parties {', '.join(numbers[:-1])} and {numbers[-1]}"
    else:
        whom = "a value that no message can bring"
    failed = " (whose program reported an error)" if wait.failed else ""
    ending = "is shutting down and " if wait.ending else ""
    where = f" at {', '.join(map(_place, wait.places))}" if wait.places else ""
    return f"party {party}{failed} {ending}waits for {whom}{where}"


def describe_all(waits: Sequence[Wait]) -> str:
    """Describe the waits of all parties, in no more characters than a report may have."""
    said: list[str] = []
    for number, wait in enumerate(waits):
        words = describe_wait(number, wait)
        if sum(map(len, said)) + 2 * len(said) + len(words) > DETAIL_CHARACTERS:
            return "; ".join([*said, f"{len(waits) - number} more wait too"])
        said.append(words)
    return "; ".join(said)


def likely_cause(waits: Sequence[Wait], own: int | None = None) -> str:
    """Describe the likely cause.

    Args:
        own: the number of this party, whose screen shows the error of its own program.
    """
    failed = [number for number, wait in enumerate(waits) if wait.failed]
    if not failed:
        return USUAL_CAUSES
    errors = [f"an error in party {number}'s program{' (see above)' * (number == own)}" for number in failed]
    return f"likely cause: {', '.join(errors)}"


def _place(place: Place) -> str:
    return f"{printable(place.file)} line {place.line}"

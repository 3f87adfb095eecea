"""Decides when to check whether peers can find our service, and when to add it again. No tor and no clock."""

from __future__ import annotations


class RefreshSchedule:
    """Spaces out checks, and the times at which the service is added again.

    Args:
        every_s: between checks.
        new_s: how long a service counts as new; see `TorTimings.new_service_s`.
    """

    def __init__(self, every_s: float, new_s: float) -> None:
        self._every_s = every_s
        self._first_new_s = new_s
        self._new_s = new_s
        self._added_s = 0.0
        self._next_s = 0.0
        self._in_doubt = False

    def added(self, now_s: float) -> None:
        """Note that the service was added."""
        self._added_s = now_s
        self._next_s = now_s + self._every_s

    def begin(self, now_s: float) -> bool:
        """Return whether a check is due, and if so count it."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True

    def is_new(self, now_s: float) -> bool:
        """Return whether its descriptor may still be on its way to directories."""
        return now_s < self._added_s + self._new_s

    def doubt(self) -> None:
        """Note that a peer's introduction points led nowhere.

        That peer has most likely tried our introduction points in vain too: the network was away for both, and tor does
        not retry a failed introduction point for two minutes. Nor does tor notice that a relay has lost a circuit.
        """
        self._in_doubt = True

    def reached(self) -> None:
        """Note that a peer was reached."""
        self._new_s = self._first_new_s

    def take_doubt(self, now_s: float, *, may_act: bool) -> bool:
        """Return whether doubt is reason to add the service again, and forget the doubt."""
        in_doubt, self._in_doubt = self._in_doubt and may_act and not self.is_new(now_s), False
        if in_doubt:
            self._new_s *= 2  # each time it draws introduction points: less and less often while a peer is away
        return in_doubt

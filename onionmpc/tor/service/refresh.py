"""Decides when to check whether peers can find our service, and when to add it again. Has no tor and no clock."""

from __future__ import annotations


class RefreshSchedule:
    """Limits how often the service is checked, and how often it is added again.

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
        """Return whether a check is due. If so, the next one must wait."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True

    def is_new(self, now_s: float) -> bool:
        """Return whether its descriptor may not be at all directories yet."""
        return now_s < self._added_s + self._new_s

    def doubt(self) -> None:
        """Note that a peer's introduction points did not work.

        That peer has probably tried ours in vain as well: if the network was down for both, tor does not retry a failed
        introduction point for two minutes. Besides, tor does not notice when a relay in between has lost a circuit.
        """
        self._in_doubt = True

    def reached(self) -> None:
        """Note that a peer was reached."""
        self._new_s = self._first_new_s

    def take_doubt(self, now_s: float, *, may_act: bool) -> bool:
        """Return whether doubt justifies adding the service again, and forget the doubt."""
        in_doubt, self._in_doubt = self._in_doubt and may_act and not self.is_new(now_s), False
        if in_doubt:
            # Each time, tor picks new introduction points. So do it less and less often while a peer is away.
            self._new_s *= 2
        return in_doubt

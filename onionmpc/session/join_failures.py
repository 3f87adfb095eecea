"""What a joiner concludes from dials to its host that fail, and for how long it goes on.

Knows what a failure may mean, although all refusals look alike. Does not dial.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from onionmpc.errors import AuthenticationFailed, PeerUnreachable
from onionmpc.mesh.redial import DialFailed
from onionmpc.session.events import DialRetry, UserInterface

ADDRESS_HINT = "ask the host for an invite, or to expect this party's address (one that stays: --identity)"
# A joiner can only infer this: all refusals look alike, and a descriptor that it cannot read says no more.
PROBABLY_USED = "the invite is probably used, or its session is over"
INVITE_HINT = f"{PROBABLY_USED}; ask the host for another"
ONCE_HINT = "an invite works once, for one party: ask the host for another"
# A joiner that has not reached its host for so long says so.
DOUBT_AFTER_S = 20.0
# For so long a joiner may read a descriptor that the host is about to replace, for example by one for its invite.
# A refusal by the host itself leaves no such doubt: the host knows its invites (REFUSED_FOR_S).
SEALED_FOR_S = 300.0


class JoinFailures:
    """The failures of one attempt to get a seat.

    Args:
        ui: sees each of them.
        by_invite: whether the joiner has an invite; otherwise it has the host's address alone.

    Attributes:
        why: the failure that says most, as the end of a sentence.
        hint: what the user can do.
    """

    def __init__(self, ui: UserInterface, *, by_invite: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.why = ""
        self.hint = ""
        self._ui = ui
        self._by_invite = by_invite
        self._clock = clock
        self._began = clock()
        self._sealed_since: float | None = None

    def add(self, failure: DialFailed) -> None:
        """Take and show a failure.

        Raises:
            PeerUnreachable: an invite has opened no descriptor of the host's for SEALED_FOR_S seconds.
        """
        now = self._clock()
        if failure.not_expected or self._sealed_since is None:  # tor may say next that it is not there
            self.why = f": {failure.reason}"
        if failure.not_expected:
            self._sealed_since = self._sealed_since or now
            if self._by_invite and now - self._sealed_since >= SEALED_FOR_S:
                raise PeerUnreachable(f"the host cannot be found by this invite: {PROBABLY_USED}", hint=ONCE_HINT)
            self.hint = INVITE_HINT if self._by_invite else ADDRESS_HINT
        in_doubt = self._by_invite and now - self._began >= DOUBT_AFTER_S
        if in_doubt:
            self.hint = INVITE_HINT
        shown = self.hint if failure.not_expected or in_doubt else ""
        self._ui.tell(DialRetry(None, failure.reason, failure.again_in_s, shown))

    def refused(self, error: AuthenticationFailed) -> AuthenticationFailed:
        """Return the error to end with when the host has refused us for long enough."""
        sentence = f"the host does not let us in: {error.message}"
        if self._by_invite:
            return AuthenticationFailed(f"{sentence}; {PROBABLY_USED}", hint=ONCE_HINT)
        return AuthenticationFailed(sentence, hint=ADDRESS_HINT)

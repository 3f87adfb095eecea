"""Interprets a joiner's failed dials to its host, and decides when to give up."""

from __future__ import annotations

import time
from collections.abc import Callable

from onionmpc.errors import AuthenticationFailed, PeerUnreachable
from onionmpc.mesh.redial import DialFailed
from onionmpc.session.events import DialRetry, UserInterface

ADDRESS_HINT = "ask the host for an invite, or to put this party's address on its --expect list (see --identity)"
# A joiner can only infer this: all refusals look alike, and so do all descriptors that it cannot decrypt.
PROBABLY_USED = "the invite is probably used, or its session is over"
INVITE_HINT = f"{PROBABLY_USED}; ask the host for another"
ONCE_HINT = "an invite works once, for one party: ask the host for another"
# A joiner that has not reached its host for this long doubts its invite on the screen.
DOUBT_AFTER_S = 20.0
# For this long a joiner may still see an old descriptor that the host is about to replace, for example with one for its
# invite. A refusal by the host itself is final sooner, since the host knows its invites (MeshTimings.refused_for_s).
SEALED_FOR_S = 300.0


class JoinFailures:
    """The failures of one attempt to get a seat.

    Args:
        ui: is shown each failure.
        by_invite: True if the joiner has an invite, False if it has only the host's address.

    Attributes:
        why: the most telling failure, as the end of a sentence.
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
        """Record and show a failure.

        Raises:
            PeerUnreachable: the invite has decrypted no descriptor of the host for SEALED_FOR_S seconds.
        """
        now = self._clock()
        # Once a descriptor could not be decrypted, that stays the reason: tor may next report it as missing.
        if failure.not_expected or self._sealed_since is None:
            self.why = f": {failure.reason}"
        if failure.not_expected:
            self._sealed_since = self._sealed_since or now
            if self._by_invite and now - self._sealed_since >= SEALED_FOR_S:
                raise PeerUnreachable(f"the host cannot be found with this invite: {PROBABLY_USED}", hint=ONCE_HINT)
            self.hint = INVITE_HINT if self._by_invite else ADDRESS_HINT
        in_doubt = self._by_invite and now - self._began >= DOUBT_AFTER_S
        if in_doubt:
            self.hint = INVITE_HINT
        shown = self.hint if failure.not_expected or in_doubt else ""
        self._ui.tell(DialRetry(None, failure.reason, failure.again_in_s, shown))

    def refused(self, error: AuthenticationFailed) -> AuthenticationFailed:
        """Return the error to end with when the host has refused this party for long enough."""
        sentence = f"the host does not let us in: {error.message}"
        if self._by_invite:
            return AuthenticationFailed(f"{sentence}; {PROBABLY_USED}", hint=ONCE_HINT)
        return AuthenticationFailed(sentence, hint=ADDRESS_HINT)

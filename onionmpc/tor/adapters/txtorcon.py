"""txtorcon's control protocol, without the questions whose answers we know.

Knows what txtorcon asks when it has logged in. A filter before the control port (Tails, Whonix) refuses to have that
asked, and txtorcon would give up. Import it where it is used, see control.py.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from txtorcon import TorControlProtocol

# All that we ever listen to; whether this tor, or a filter, lets us is seen when we do.
EVENTS = ("CIRC", "CIRC_MINOR", "HS_DESC", "STATUS_CLIENT", "STATUS_GENERAL")
# We send no signal by txtorcon. Extended events are always on since tor 0.2.2.1 (control-spec, "USEFEATURE").
KNOWN_INFO = {"signal/names": "", "events/names": " ".join(EVENTS)}
KNOWN_COMMANDS = {"USEFEATURE EXTENDED_EVENTS"}


class SparingProtocol(TorControlProtocol):  # type: ignore[misc]  # txtorcon is untyped
    """Asks tor for its version alone."""

    def get_info(self, *keys: str) -> Deferred[Any]:
        """See txtorcon."""
        if keys[0] in KNOWN_INFO:
            return succeed({keys[0]: KNOWN_INFO[keys[0]]})
        return super().get_info(*keys)

    def queue_command(self, cmd: str, arg: Any = None) -> Deferred[Any]:  # noqa: ANN401
        """See txtorcon."""
        if cmd in KNOWN_COMMANDS:
            return succeed("OK")
        return super().queue_command(cmd, arg)

    def _read_cookie(self, cookiefile: str) -> None:
        """See txtorcon, which takes each byte of the path for a letter."""
        super()._read_cookie(cookiefile.encode("latin-1"))

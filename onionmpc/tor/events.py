"""The one door to stem's parser of control events.

Knows how stem wants to be fed. Does not know what the events are about.
"""

from __future__ import annotations

import logging
from typing import Any

from stem import ProtocolError
from stem.response import ControlMessage

# Of what it does not know, stem logs the whole line: relays, and the address of a peer.
logging.getLogger("stem").disabled = True


def parse_event(name: str, text: str) -> Any | None:  # noqa: ANN401 (stem is untyped)
    """Return stem's event for a line of tor's, or None if stem cannot read it.

    A line of a later tor is not ours to stumble over: whoever asks goes on without it.

    Args:
        name: its kind, e.g. "CIRC".
        text: the rest of the line.
    """
    try:
        return ControlMessage.from_str(f"650 {name} {text}\r\n", "EVENT", normalize=True)
    except (ProtocolError, ValueError):
        return None

"""What MPyC's bytes get before MPyC sees them: a hello that names its sender, and messages of a bearable size.

Knows the layout of MPyC 0.11's hello and message header. Does not know MPyC, processes or sockets: bytes in, the
same bytes out. Rules: docs/PROTOCOL.md section 6.
"""

from __future__ import annotations

import math
import struct

from onionmpc.errors import RemoteProtocolError

NUMBER_BYTES = 2
PRSS_KEY_BYTES = 16
MESSAGE_HEADER = struct.Struct("<qI")  # program counter, length of the payload
MAX_MPYC_PAYLOAD_BYTES = 2**30  # MPyC collects a message in memory before it looks at it, and would take 4 GiB


def hello_bytes(parties: int, threshold: int, lower: int, higher: int, *, prss: bool) -> int:
    """Return how long the hello is that party `lower` sends to party `higher`.

    It is the sender's number and, with PRSS, one key for each set of `parties - threshold` parties of which
    `lower` is the lowest and `higher` another: the rest of the set is chosen from those above `lower`.
    Source: MPyC 0.11, Runtime._prss_keys_to_peer and MessageExchanger.connection_made.
    """
    if not 0 <= 2 * threshold < parties or not 0 <= lower < higher < parties:
        raise ValueError(f"no hello from party {lower} to {higher} of {parties}, threshold {threshold}")
    keys = math.comb(parties - lower - 2, parties - threshold - 2) if prss else 0
    return NUMBER_BYTES + PRSS_KEY_BYTES * keys


class HelloGate:
    """One direction of a link, between the peer's MPyC and ours.

    MPyC believes any dialler: the number in the hello decides whose shares these are, so another party's number
    there would be that party's voice (PROTOCOL 6).

    Args:
        sender: the number of the party that the link has authenticated.
        hello_length: `hello_bytes` if the sender is the lower party of the two, 0 if it is the higher.
        max_payload_bytes: the longest message that is let through.
    """

    def __init__(self, sender: int, hello_length: int, *, max_payload_bytes: int = MAX_MPYC_PAYLOAD_BYTES) -> None:
        self._sender = sender
        self._hello_missing_bytes = hello_length
        self._hello = bytearray()
        self._header = bytearray()  # of a message whose header has come in part
        self._payload_missing_bytes = 0
        self._max_payload_bytes = max_payload_bytes
        self._error: RemoteProtocolError | None = None

    def let_through(self, received: bytes) -> bytes:
        """Take bytes as they came; return those that MPyC may see now, which are none until the hello is whole.

        Raises:
            RemoteProtocolError: the hello names another party, or a message is too long; again at each later call.
        """
        if self._error:
            raise self._error
        try:
            if not self._hello_missing_bytes:
                self._check_messages(received, 0)
                return received  # as it is: payloads are not copied
            return self._take_hello(received)
        except RemoteProtocolError as error:
            self._error = error
            raise

    def _take_hello(self, received: bytes) -> bytes:
        taken = min(self._hello_missing_bytes, len(received))
        self._hello += received[:taken]
        self._hello_missing_bytes -= taken
        if len(self._hello) >= NUMBER_BYTES:
            number = int.from_bytes(self._hello[:NUMBER_BYTES], "little")
            if number != self._sender:
                raise RemoteProtocolError(f"party {self._sender} calls itself party {number} in its hello")
        if self._hello_missing_bytes:
            return b""
        self._check_messages(received, taken)
        hello, self._hello = bytes(self._hello), bytearray()
        return hello + received[taken:]

    def _check_messages(self, received: bytes, position: int) -> None:
        """Walk from header to header; payloads are skipped and only counted, so this costs the same for any size."""
        while position < len(received):
            if self._payload_missing_bytes:
                skipped = min(self._payload_missing_bytes, len(received) - position)
                self._payload_missing_bytes -= skipped
                position += skipped
                continue
            part = received[position : position + MESSAGE_HEADER.size - len(self._header)]
            self._header += part
            position += len(part)
            if len(self._header) == MESSAGE_HEADER.size:
                _, self._payload_missing_bytes = MESSAGE_HEADER.unpack(self._header)
                self._header.clear()
                if self._payload_missing_bytes > self._max_payload_bytes:
                    raise RemoteProtocolError(
                        f"party {self._sender} announces a message of {self._payload_missing_bytes} bytes,"
                        f" expected at most {self._max_payload_bytes}"
                    )

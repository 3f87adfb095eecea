"""Checks a peer's bytes before MPyC sees them: the hello must name its sender, and no message may be too long.

Knows the layout of the hello and the message header of MPyC 0.11. Does not import MPyC, and knows no processes or
sockets: bytes go in, and the same bytes come out. Rules: docs/PROTOCOL.md section 6.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from onionmpc.errors import RemoteProtocolError

NUMBER_BYTES = 2
PRSS_KEY_BYTES = 16
MESSAGE_HEADER = struct.Struct("<qI")  # program counter, length of the payload
MAX_MPYC_PAYLOAD_BYTES = 2**30  # MPyC keeps a whole message in memory, and its length field allows 4 GiB


def hello_bytes(parties: int, threshold: int, lower: int, higher: int, *, prss: bool) -> int:
    """Return the length of the hello that party `lower` sends to party `higher`.

    A hello has the sender's number and, with PRSS, one key for each set of `parties - threshold` parties in which
    `lower` is the lowest and `higher` is another. The rest of the set comes from the parties above `lower`.
    Source: MPyC 0.11, Runtime._prss_keys_to_peer and MessageExchanger.connection_made.
    """
    if not 0 <= 2 * threshold < parties or not 0 <= lower < higher < parties:
        raise ValueError(f"no hello from party {lower} to {higher} of {parties}, threshold {threshold}")
    keys = math.comb(parties - lower - 2, parties - threshold - 2) if prss else 0
    return NUMBER_BYTES + PRSS_KEY_BYTES * keys


class HelloGate:
    """Checks one direction of a link, from the peer's MPyC to ours.

    MPyC believes any dialler: it takes the shares as those of the party that the hello names. A party that sends
    another's number there would impersonate it (PROTOCOL 6).

    Args:
        sender: the number of the party that the link has authenticated.
        hello_length: `hello_bytes` if the sender is the lower party of the two, 0 if it is the higher.
        max_payload_bytes: the length of the longest message that passes.
    """

    def __init__(self, sender: int, hello_length: int, *, max_payload_bytes: int = MAX_MPYC_PAYLOAD_BYTES) -> None:
        self._sender = sender
        self._hello_missing_bytes = hello_length
        self._hello = bytearray()
        self._header = bytearray()  # the part of a message's header that has arrived
        self._payload_missing_bytes = 0
        self._max_payload_bytes = max_payload_bytes
        self._error: RemoteProtocolError | None = None

    def let_through(self, received: bytes) -> bytes:
        """Take bytes as they arrive; return those that MPyC may see now. There are none until the hello is complete.

        Raises:
            RemoteProtocolError: the hello names another party, or a message is too long. Every later call raises it
                again.
        """
        if self._error:
            raise self._error
        try:
            if not self._hello_missing_bytes:
                self._check_messages(received, 0)
                return received  # the same object: payloads are not copied
            return self._take_hello(received)
        except RemoteProtocolError as error:
            self._error = error
            raise

    def _take_hello(self, received: bytes) -> bytes:
        taken = min(self._hello_missing_bytes, len(received))
        self._hello += received[:taken]
        self._hello_missing_bytes -= taken
        # Check the number as soon as it is there. The rest of a long hello may take a while.
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
        """Walk from header to header. Payloads are only counted, so their size does not matter."""
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


class MessageSplitter:
    """One direction of a link, message by message; the hello is the first.

    Args:
        hello_length: as for `HelloGate`.
    """

    def __init__(self, hello_length: int) -> None:
        self._held = bytearray()
        self._length = hello_length  # of what comes next, 0 if its header has not come yet

    def split(self, received: bytes | bytearray) -> Iterator[bytes]:
        """Take bytes as they came; yield the messages that are whole, with their headers."""
        self._held += received
        while True:
            if not self._length and len(self._held) >= MESSAGE_HEADER.size:
                self._length = MESSAGE_HEADER.size + MESSAGE_HEADER.unpack_from(self._held)[1]
            if not self._length or len(self._held) < self._length:
                return
            message = bytes(self._held[: self._length])
            del self._held[: self._length]
            self._length = 0
            yield message

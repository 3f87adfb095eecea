"""Length-prefixed AEAD records over one stream, under the keys of a finished handshake.

Knows two cipher states and the record's length. Does not know frames. Rules: docs/PROTOCOL.md section 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from onionmpc.errors import RemoteProtocolError
from onionmpc.wire.noise import CipherState

LENGTH_BYTES = 2
TAG_BYTES = 16
MAX_CIPHERTEXT_BYTES = 65535
# A record of the constant-rate mode (PROTOCOL 3) takes one tor cell and fills it: 514 bytes, less 5 of the cell's own
# header and 11 of the relay message's (tor-spec, "Cells" and "Relay cells").
CELL_BYTES = 514
FILLED_RECORD_BYTES = 498
FILLED_PLAINTEXT_BYTES = FILLED_RECORD_BYTES - LENGTH_BYTES - TAG_BYTES


class Records:
    """Both directions of one stream.

    Args:
        sending: cipher state for what we send.
        receiving: cipher state for what the peer sends.
    """

    def __init__(self, sending: CipherState, receiving: CipherState) -> None:
        self._sending = sending
        self._receiving = receiving
        self._received = bytearray()

    def encode(self, plaintext: bytes) -> bytes:
        """Seal one record of 1 to 65519 bytes of plaintext."""
        ciphertext = self._sending.encrypt(plaintext)
        return len(ciphertext).to_bytes(LENGTH_BYTES) + ciphertext

    def decode(self, received: bytes | memoryview) -> Iterator[bytes]:
        """Take bytes as they came; yield the plaintext of each record that is whole.

        Raises:
            RemoteProtocolError: a record says nothing, or does not open.
        """
        self._received += received
        while len(self._received) >= LENGTH_BYTES:
            length = int.from_bytes(self._received[:LENGTH_BYTES])
            # Checked before the body is waited for: an empty record would only cost us work.
            if length <= TAG_BYTES:
                raise RemoteProtocolError(f"a record has {length} bytes, expected more than {TAG_BYTES}")
            if len(self._received) < LENGTH_BYTES + length:
                return
            # Dropped only once it is open: a record that does not open stays, and fails every later call as well.
            plaintext = self._receiving.decrypt(bytes(self._received[LENGTH_BYTES : LENGTH_BYTES + length]))
            del self._received[: LENGTH_BYTES + length]
            yield plaintext

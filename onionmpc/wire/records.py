"""Length-prefixed AEAD records over one stream, under the keys of a finished handshake.

Does not know what a record contains. Rules: docs/PROTOCOL.md section 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from onionmpc.errors import RemoteProtocolError
from onionmpc.wire.noise import CipherState

LENGTH_BYTES = 2
TAG_BYTES = 16
MAX_CIPHERTEXT_BYTES = 65535
# A record of the constant-rate mode (PROTOCOL 3) fills exactly one tor cell: 514 bytes, less 5 for the cell's own
# header and 11 for the relay message's (tor-spec, "Cells" and "Relay cells").
CELL_BYTES = 514
FILLED_RECORD_BYTES = 498
FILLED_PLAINTEXT_BYTES = FILLED_RECORD_BYTES - LENGTH_BYTES - TAG_BYTES


class Records:
    """Both directions of one stream.

    Args:
        sending: the cipher state for what we send.
        receiving: the cipher state for what the peer sends.
    """

    def __init__(self, sending: CipherState, receiving: CipherState) -> None:
        self._sending = sending
        self._receiving = receiving
        self._received = bytearray()

    def encode(self, plaintext: bytes) -> bytes:
        """Encrypt one record of 1 to 65519 bytes of plaintext."""
        ciphertext = self._sending.encrypt(plaintext)
        return len(ciphertext).to_bytes(LENGTH_BYTES) + ciphertext

    def decode(self, received: bytes | memoryview) -> Iterator[bytes]:
        """Take bytes as they arrive, and yield the plaintext of each complete record.

        Raises:
            RemoteProtocolError: a record is empty, or does not decrypt.
        """
        self._received += received
        while len(self._received) >= LENGTH_BYTES:
            length = int.from_bytes(self._received[:LENGTH_BYTES])
            # Checked before the body arrives. An empty record would only cost us work.
            if length <= TAG_BYTES:
                raise RemoteProtocolError(f"a record has {length} bytes, expected more than {TAG_BYTES}")
            if len(self._received) < LENGTH_BYTES + length:
                return
            # Removed only after decryption: a record that does not decrypt stays, so every later call fails as well.
            plaintext = self._receiving.decrypt(bytes(self._received[LENGTH_BYTES : LENGTH_BYTES + length]))
            del self._received[: LENGTH_BYTES + length]
            yield plaintext

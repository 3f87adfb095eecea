"""Evidence: what a party shows of who it is, as texts that travel in its Offer.

Knows sizes and the digest that the agreement holds. What a piece of evidence proves is for onionmpc.names.examine.
Rules: docs/PROTOCOL.md section 4, "Evidence".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec

EVIDENCE_LABEL = b"onionmpc/1 evidence"
MAX_PIECES = 4
# A certificate with its chain is about 6 kB, and an SSH signature of RSA 4096 about 2 kB.
MAX_PIECE_BYTES = 16 * 1024
PIECE_LENGTH_BYTES = 4

# ASCII, so that a piece has as many bytes as characters, and nothing in it can change a terminal.
EvidencePiece = Annotated[str, msgspec.Meta(max_length=MAX_PIECE_BYTES, pattern=r"^[\n -~]*\Z")]
EvidencePieces = Annotated[tuple[EvidencePiece, ...], msgspec.Meta(max_length=MAX_PIECES)]


def evidence_digest(pieces: Sequence[str]) -> bytes:
    """Return the digest of a party's evidence, 32 bytes. The agreement and receipts hold it, and no names."""
    digest = hashlib.sha256(EVIDENCE_LABEL)
    for piece in pieces:
        content = piece.encode()
        digest.update(len(content).to_bytes(PIECE_LENGTH_BYTES) + content)
    return digest.digest()

"""Receipts of three parties, signed and altered."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from onionmpc.identity import Identity
from onionmpc.session.agreement import Agreement, PartyTerms, SharedTerms
from onionmpc.session.receipt import (
    Opening,
    Receipt,
    Signature,
    sign,
)

IDENTITIES = sorted((Identity(bytes([number]) * 32) for number in range(3)), key=lambda identity: identity.onion)
AGREEMENT = Agreement(
    SharedTerms(
        protocol=1,
        addresses=tuple(identity.onion for identity in IDENTITIES),
        threshold=1,
        program="vote",
        files={"vote.py": "0a" * 32},
        public_arguments=("tea", "é\x1b[2J"),
        mpyc_version="0.11",
        mpyc_options=(),
        python="CPython 64-bit",
        numpy=2,
        receipt=True,
    ),
    (PartyTerms(), PartyTerms(), PartyTerms()),
    ("00" * 16, "01" * 16, "02" * 16),
)
TEA = hashlib.sha256(b"tea\n").hexdigest()
COFFEE = hashlib.sha256(b"coffee\n").hexdigest()


def opening(party: int, output: str = TEA) -> Opening:
    return Opening(party, f"{party:02x}" * 32, output)


def signed(party: int, output: str = TEA, agreement: Agreement = AGREEMENT) -> Signature:
    (signature,) = sign(IDENTITIES[party], agreement, opening(party, output)).signatures
    return signature


def receipt(own: int = 0, parties: tuple[int, ...] = (0, 1, 2), outputs: dict[int, str] | None = None) -> Receipt:
    """The file of a party in whose session these have signed."""
    by_party = dict.fromkeys(range(3), TEA) | (outputs or {})
    signatures = tuple(signed(party, by_party[party]) for party in parties)
    return Receipt("onionmpc receipt 1", AGREEMENT, signatures, opening(own, by_party[own]))


def change(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


OTHER_SESSION = change(AGREEMENT, nonces=("00" * 16, "01" * 16, "03" * 16))

"""Evidence of any form: what was signed or certified is named by the user's own files, and nothing else is."""

from __future__ import annotations

import base64
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

from onionmpc.names.certificates import BEGIN_CERTIFICATE, END_CERTIFICATE
from onionmpc.names.evidence import MAX_PIECE_BYTES
from onionmpc.names.examine import examine, examine_review
from onionmpc.names.findings import Grade
from onionmpc.names.ssh import BEGIN_SIGNATURE, END_SIGNATURE
from onionmpc.names.statement import Statement, StatementPurpose, format_statement
from tests.fuzz.mutations import mutated
from tests.fuzz.targets.certificate import DIRECT, LEAF, MIDDLE, ROOT
from tests.support.evidence import (
    CONTEXT,
    NOW,
    PROGRAM,
    REVIEW,
    STATEMENT,
    armored_signature,
    pem,
    signed_data,
    ssh_field,
    trusting,
)

KIND = b"ssh-ed25519"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = ssh_field(KIND) + ssh_field(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
LINE = f"{KIND.decode()} {base64.b64encode(PUBLIC).decode()}"
TRUST = trusting(f"alice {LINE}", f"club {LINE}", domains=frozenset({"acme.example"}), public_roots=(ROOT,))


def signed(statement: Statement) -> str:
    text = format_statement(statement)
    return text + armored_signature(PUBLIC, ssh_field(KIND) + ssh_field(KEY.sign(signed_data(text))))


PARTY, MEMBER, REVIEWED = map(signed, (STATEMENT, replace(STATEMENT, purpose=StatementPurpose.ISSUER), REVIEW))
CHAINS = [pem(LEAF, MIDDLE), pem(DIRECT)]
TOKENS = [
    *(b"\n", b"\r\n", b" ", b"=", b"\0", b"\xff", b"-----", b"QUJD\n", b"A" * 100, b"AAAAC3NzaC1lZDI1NTE5"),
    *(mark.encode() for mark in (BEGIN_CERTIFICATE, END_CERTIFICATE, BEGIN_SIGNATURE, END_SIGNATURE)),
    *(PARTY.encode(), pem(MIDDLE).encode()),
]
INPUTS = mutated(st.sampled_from([PARTY, MEMBER, REVIEWED, *CHAINS]).map(str.encode), TOKENS)
REFUSALS = ()


def check(data: bytes) -> tuple[tuple[Grade, str], ...]:
    piece = data.decode("ascii", "replace").replace("\ufffd", "?")[:MAX_PIECE_BYTES]
    finding, review = examine(piece, CONTEXT, TRUST), examine_review(piece, PROGRAM, TRUST, NOW)
    for each in (finding, review):
        assert each.words.isprintable()
        assert (each.grade is Grade.NOTHING) == (not each.name) == (each.until is None)
    if finding.grade is Grade.VOUCHES:
        assert (finding.name, statement_of(piece)) == ("club", statement_of(MEMBER))
    if finding.name == "alice":
        assert statement_of(piece) == statement_of(PARTY)
    elif finding.grade is Grade.NAMES:
        assert finding.name == "acme.example"
        assert piece.startswith(BEGIN_CERTIFICATE)
    if review.name:
        assert (review.name, statement_of(piece)) == ("alice", statement_of(REVIEWED))
    return (finding.grade, finding.words[:30]), (review.grade, review.words[:30])


def statement_of(piece: str) -> str:
    return piece.partition(BEGIN_SIGNATURE)[0]

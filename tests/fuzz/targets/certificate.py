"""Certificates: what was certified is named by the listed domain or the company, and nothing that was changed is."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import strategies as st

from onionmpc.names.certificates import BEGIN_CERTIFICATE, END_CERTIFICATE, load_pem
from onionmpc.names.examine import examine
from onionmpc.names.findings import Grade
from onionmpc.names.trust import Trust
from tests.fuzz.mutations import mutated
from tests.support.evidence import CONTEXT, ME, pem, sauteed

# A root, a certificate for ME and acme.example from an intermediate, that intermediate, and one from the root itself.
ROOT, LEAF, MIDDLE, DIRECT = load_pem(Path(__file__).parents[2].joinpath("support", "certificates.pem").read_text())
VALID = [each.public_bytes(Encoding.DER) for each in (LEAF, DIRECT)]
TOKENS = [
    *(b"*.acme.example", b"acme.example", ME.encode(), sauteed(ME, "acme.example").encode(), b"*", b"\0", b"\xff" * 9),
    *(
        b"\x30\x80",
        b"\x82",
        b"\x81\x00",
        b"\x02\x01\x00",
        b"\x05\x00",
        b"\x06\x03\x55\x1d\x11",
        b"\x06\x03\x55\x1d\x13",
    ),
    *(b"\x30\x03\x01\x01\xff", b"\x17\x0d500101000000Z", b"\x18\x0f99991231235959Z", b"\x0c\x01\x1b", b"\x06\x01\x80"),
]
INPUTS = mutated(st.sampled_from(VALID), TOKENS)
REFUSALS = ()
TRUSTED = (
    Trust(domains=frozenset({"acme.example"}), public_roots=(ROOT,)),
    Trust(companies={"acme": (ROOT,)}, public_roots=()),
)


def check(data: bytes) -> tuple[tuple[Grade, str], ...]:
    text = base64.encodebytes(data).decode()
    piece = f"{BEGIN_CERTIFICATE}\n{text}{END_CERTIFICATE}\n{pem(MIDDLE)}"
    findings = [examine(piece, CONTEXT, trust) for trust in TRUSTED]
    for finding in findings:
        assert finding.words.isprintable()
        assert (finding.name in ("acme", "acme.example")) == (finding.grade is Grade.NAMES) == (data in VALID)
    return tuple((finding.grade, finding.words[:30]) for finding in findings)

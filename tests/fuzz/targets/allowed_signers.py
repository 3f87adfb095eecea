"""Lists of SSH keys: refused with a line, or names that are no patterns, for keys of known types."""

from __future__ import annotations

import base64

from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.names.allowed_signers import KEY_TYPES, PRINCIPAL, parse_allowed_signers
from onionmpc.names.ssh import NAMESPACE
from tests.fuzz.mutations import mutated
from tests.support.evidence import ssh_field

KEYS = [
    f"{kind} {base64.b64encode(ssh_field(kind.encode()) + ssh_field(b'key')).decode()} comment" for kind in KEY_TYPES
]
LINES = [
    f"alice {KEYS[0]}\n",
    f'# people\n\nalice,al namespaces="statement@*,!file",valid-after="20260101Z" {KEYS[1]}\n',
    f'"alice,al" valid-before="202612312359" {KEYS[4]}\nbob {KEYS[5]}\n',
]
TOKENS = [
    *(b"\n", b"\r", b"\t", b" ", b'"', b'\\"', b"\\", b",", b"!", b"*", b"?", b"=", b"#", b"\0", b"\xff"),
    *(b"cert-authority,", b'namespaces="', b'valid-after="', b'valid-before="20260101"', b"no-touch-required", b"Z"),
    *(kind.encode() for kind in KEY_TYPES),
]
INPUTS = mutated(st.sampled_from(LINES).map(str.encode), TOKENS)
REFUSALS = (UsageError,)


def check(data: bytes) -> tuple[int, frozenset[tuple[bool, bool, bool]]]:
    try:
        signers = parse_allowed_signers(data.decode("utf-8", "replace"), "list")
    except UsageError as error:
        assert error.message.startswith("line ")
        assert (error.message + error.hint).isprintable()
        raise
    assert all(PRINCIPAL.fullmatch(each.principal) and each.key_type in KEY_TYPES for each in signers)
    assert all(each.key.startswith(ssh_field(each.key_type.encode())) for each in signers)
    kinds = ((each.may_sign(NAMESPACE), each.valid_after is None, each.valid_before is None) for each in signers)
    return len(signers), frozenset(kinds)

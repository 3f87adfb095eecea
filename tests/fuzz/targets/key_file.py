"""Key files: InvalidIdentityFile without a secret, or the one spelling of an identity; sealed, what was sealed.

And no seal makes us work harder than the largest that is allowed.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import strategies as st

from onionmpc.errors import InvalidIdentityFile
from onionmpc.identity import Identity
from onionmpc.identity import key_file as module
from onionmpc.identity.key_file import SCRYPT_MAX_LOG2_N, decode_key_file, describe_key_file, encode_key_file
from tests.fuzz.mutations import mutated
from tests.support.identities import NONCE, ONE, SALT

PASSPHRASE = b"passphrase"


class CheapScrypt:
    """Costs nothing, and depends on all that scrypt depends on."""

    def __init__(self, salt: bytes, length: int, n: int, r: int, p: int) -> None:
        assert n <= 2**SCRYPT_MAX_LOG2_N
        self.key = hashlib.sha256(repr((salt, length, n, r, p)).encode())

    def derive_into(self, passphrase: bytes, key: bytearray) -> None:
        self.key.update(passphrase)
        key[:] = self.key.digest()


def cheaply() -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "Scrypt", CheapScrypt)
    return patch


def sealed() -> list[bytes]:
    patch = cheaply()
    try:
        return [encode_key_file(ONE, PASSPHRASE, SALT, NONCE, exposed=exposed) for exposed in (False, True)]
    finally:
        patch.undo()


SEALED = sealed()
OPEN = [
    encode_key_file(one, None, SALT, NONCE, exposed=exposed)
    for one in (ONE, Identity(bytes(32)))
    for exposed in (False, True)
]
TOKENS = [b"\n", b"\r\n", b" ", b"  ", b"=", b"==", b"none", b"scrypt 19 ", b"scrypt 20 ", b"0", b"exposed ", b"\0"]
ONES = st.sampled_from(OPEN + SEALED)
RESPELLED = st.one_of(
    st.builds(lambda content, log2_n: content.replace(b"scrypt 17", b"scrypt %d" % log2_n), ONES, st.integers(0, 99)),
    ONES.map(lambda content: content.replace(ONE.onion.encode(), ONE.onion.upper().encode())),
    st.builds(lambda content, last: content[:-3] + last, ONES, st.sampled_from([b"B=\n", b"C=\n", b"A\n", b"A==\n"])),
    st.builds(lambda head, tail, at: head[:-at] + tail[-at:], ONES, ONES, st.integers(1, 200)),
)
INPUTS = mutated(ONES | RESPELLED, TOKENS)
REFUSALS = (InvalidIdentityFile,)


def check(data: bytes) -> str:
    patch = cheaply()
    try:
        facts = describe_key_file(data)
        one = decode_key_file(data, PASSPHRASE)
    except InvalidIdentityFile as error:
        assert data not in OPEN + SEALED
        for secret in (content.splitlines()[3].removeprefix(b"key ") for content in OPEN):
            assert secret[:20].decode() not in error.message + error.hint
        raise
    finally:
        patch.undo()
    assert facts.onion == one.onion
    if facts.sealed:
        assert data in SEALED
        assert one == ONE
    else:
        assert encode_key_file(one, None, SALT, NONCE, exposed=facts.exposed) == data
    return f"sealed {facts.sealed}, exposed {facts.exposed}"

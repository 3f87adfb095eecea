"""The text file that keeps an identity: four lines of ASCII, each ended by one LF.


    onionmpc identity 1             or  onionmpc exposed identity 1
    onion <address>
    seal none                       or  seal scrypt <log2 N> <salt, 16 bytes> <nonce, 12 bytes>
    key <seed, 32 bytes>            or  key <sealed seed, 48 bytes>

An exposed identity is for circuit length short only, because its service shows an IP address. That is fixed when it is
created: a key that was ever tied to an IP address is anonymous nowhere.

The address is in the clear, so that listing identities needs no passphrase. It is bound to the seed, which must give
that address. Bytes are in base64 with padding. Each file has exactly one spelling, so that any change by an editor or a
bad disk is noticed.

Salts and nonces come in as arguments. Rules: docs/PROTOCOL.md section 1.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from onionmpc.errors import InvalidAddress, InvalidIdentityFile
from onionmpc.identity.address import Onion, parse_onion
from onionmpc.identity.key_pair import SEED_BYTES, Identity

KEY_FILE_SALT_BYTES = 16
KEY_FILE_NONCE_BYTES = 12
KEY_FILE_TAG_BYTES = 16  # of ChaCha20-Poly1305

KEY_FILE_LABEL = b"onionmpc identity "
EXPOSED_LABEL = b"onionmpc exposed identity "
KEY_FILE_VERSION = b"1"
KEY_FILE_LINES = 4

# Each guess costs an attacker 128 N r bytes (128 MiB) and about half a second, which is enough for five random words.
# The owner pays that once per session, even on a small board. r and p are those that scrypt's author recommends. N will
# grow with machines, so each file states its own. More than the largest is refused before any work: a stranger's file
# must not make us allocate a terabyte. An attacker gains nothing by lowering N in a file, since the seal authenticates
# that line.
SCRYPT_LOG2_N = 17
SCRYPT_MAX_LOG2_N = 19  # 512 MiB and two seconds
SCRYPT_R = 8
SCRYPT_P = 1
SCRYPT_LABEL = b"onionmpc/identity/v1/scrypt"  # comes before the salt, so that the derived key opens nothing else


@dataclass(frozen=True, slots=True)
class KeyFileFacts:
    """What a key file reveals without its passphrase.

    Attributes:
        onion: the address. In a sealed file it is a claim until the file is opened.
        sealed: whether opening it needs a passphrase.
        exposed: whether it is for circuit length short only.
    """

    onion: Onion
    sealed: bool
    exposed: bool


@dataclass(frozen=True, slots=True)
class _Seal:
    log2_n: int
    salt: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True, repr=False)
class _KeyFile:
    header: bytes  # the first three lines: what the seal authenticates
    exposed: bool
    onion: Onion
    seal: _Seal | None
    key: bytes


def encode_key_file(
    identity: Identity,
    passphrase: bytes | bytearray | None,
    salt: bytes,
    nonce: bytes,
    *,
    exposed: bool = False,
    scrypt_log2_n: int = SCRYPT_LOG2_N,
) -> bytes:
    """Write an identity as a key file, sealed if there is a passphrase.

    Args:
        passphrase: at least one byte, or None for a file that only its mode protects.
        salt: 16 fresh random bytes, unused without a passphrase.
        nonce: 12 fresh random bytes, unused without a passphrase.
        exposed: it is for circuit length short only.
        scrypt_log2_n: what a guess of the passphrase costs, see SCRYPT_LOG2_N.

    Raises:
        ValueError: the passphrase is empty, or the salt or nonce has another length.
    """
    kind = EXPOSED_LABEL if exposed else KEY_FILE_LABEL
    label = kind + KEY_FILE_VERSION + b"\nonion " + identity.onion.encode("ascii") + b"\n"
    if passphrase is None:
        return label + b"seal none\nkey " + base64.b64encode(identity.seed) + b"\n"
    if not passphrase or len(salt) != KEY_FILE_SALT_BYTES or len(nonce) != KEY_FILE_NONCE_BYTES:
        raise ValueError(
            f"expected a passphrase, a salt of {KEY_FILE_SALT_BYTES} and a nonce of {KEY_FILE_NONCE_BYTES} bytes"
        )
    seal = _Seal(scrypt_log2_n, salt, nonce)
    fields = (b"seal scrypt", str(seal.log2_n).encode("ascii"), base64.b64encode(salt), base64.b64encode(nonce))
    header = label + b" ".join(fields) + b"\n"
    with _sealing_key(passphrase, seal) as key:
        sealed = ChaCha20Poly1305(key).encrypt(nonce, identity.seed, header)
    return header + b"key " + base64.b64encode(sealed) + b"\n"


def describe_key_file(content: bytes) -> KeyFileFacts:
    """Read what a key file reveals without its passphrase.

    Raises:
        InvalidIdentityFile: it is truncated, altered, of another version, or not a key file.
    """
    file = _parse_key_file(content)
    if file.seal is None:
        _identity_of(file.key, file.onion)
    return KeyFileFacts(onion=file.onion, sealed=file.seal is not None, exposed=file.exposed)


def decode_key_file(content: bytes, passphrase: bytes | bytearray | None) -> Identity:
    """Open a key file.

    Args:
        passphrase: needed for a sealed file, ignored otherwise.

    Raises:
        InvalidIdentityFile: it is truncated, altered, of another version, or not a key file; or the passphrase is
            missing or wrong.
    """
    file = _parse_key_file(content)
    if file.seal is None:
        return _identity_of(file.key, file.onion)
    if passphrase is None:
        raise InvalidIdentityFile("the key file is sealed with a passphrase, but none was given")
    try:
        with _sealing_key(passphrase, file.seal) as key:
            seed = ChaCha20Poly1305(key).decrypt(file.seal.nonce, file.key, file.header)
    except InvalidTag as error:
        raise InvalidIdentityFile(
            "the passphrase is wrong, or the key file was altered",
            hint="try again, or restore it from a copy",
        ) from error
    return _identity_of(seed, file.onion)


def wipe(secret: bytearray) -> None:
    """Overwrite a secret that is no longer needed.

    Python does not allow much more: bytes and strings cannot be overwritten. A seed is bytes and stays until the
    process ends, as do the copies that go to tor. A passphrase typed at a terminal passes through a string.
    """
    secret[:] = bytes(len(secret))


@contextlib.contextmanager
def _sealing_key(passphrase: bytes | bytearray, seal: _Seal) -> Iterator[bytearray]:
    key = bytearray(32)
    try:
        scrypt = Scrypt(SCRYPT_LABEL + seal.salt, len(key), 1 << seal.log2_n, SCRYPT_R, SCRYPT_P)
        scrypt.derive_into(passphrase, key)
        yield key
    except MemoryError as error:
        raise InvalidIdentityFile(
            f"opening a sealed key file takes {_scrypt_mib(seal.log2_n)} MiB of memory, and there is less"
        ) from error
    finally:
        wipe(key)


def _scrypt_mib(log2_n: int) -> int:
    return (128 * SCRYPT_R << log2_n) // 2**20


def _identity_of(seed: bytes, onion: Onion) -> Identity:
    identity = Identity(seed)
    if identity.onion != onion:
        raise _altered("its key and its address do not belong together")
    return identity


def _parse_key_file(content: bytes) -> _KeyFile:
    first_line = content.partition(b"\n")[0]
    labels = (KEY_FILE_LABEL, EXPOSED_LABEL)
    label = next((label for label in labels if first_line.startswith(label) or label.startswith(content)), None)
    if not content or label is None:
        raise InvalidIdentityFile("this is not an onionmpc key file", hint="its first line is not that of a key file")
    if b"\r" in content:
        raise _altered("its lines end in CR LF, expected LF")
    version = first_line.removeprefix(label)
    if version != KEY_FILE_VERSION and b"\n" in content:
        # Quote it only if it looks like a version: if lines were lost, this may be the key.
        if not re.fullmatch(rb"[0-9]{1,3}", version):
            raise _altered("its first line names no version")
        raise InvalidIdentityFile(
            f"the key file has version {version.decode('ascii')}, expected {KEY_FILE_VERSION.decode('ascii')}",
            hint="use the release that made it, or a newer one",
        )
    lines = content.split(b"\n")
    if len(lines) <= KEY_FILE_LINES:
        raise InvalidIdentityFile(
            f"the key file is truncated: {len(lines) - 1} whole lines, expected {KEY_FILE_LINES}",
            hint="restore it from a copy",
        )
    if lines[KEY_FILE_LINES:] != [b""]:
        raise _altered(f"it goes on after its {KEY_FILE_LINES} lines")
    seal = _decode_seal(_fields(lines[2], b"seal"))
    return _KeyFile(
        header=b"".join(line + b"\n" for line in lines[:3]),
        exposed=label == EXPOSED_LABEL,
        onion=_decode_onion(b" ".join(_fields(lines[1], b"onion"))),
        seal=seal,
        key=_decode_base64(b" ".join(_fields(lines[3], b"key")), SEED_BYTES + (KEY_FILE_TAG_BYTES if seal else 0)),
    )


def _decode_seal(fields: list[bytes]) -> _Seal | None:
    if fields == [b"none"]:
        return None
    if len(fields) != 4 or fields[0] != b"scrypt" or not re.fullmatch(rb"[1-9][0-9]?", fields[1]):
        raise _altered("its third line says neither how it is sealed nor that it is not")
    log2_n = int(fields[1])
    if log2_n > SCRYPT_MAX_LOG2_N:
        raise InvalidIdentityFile(
            f"opening the key file would take {_scrypt_mib(log2_n)} MiB of memory, expected at most "
            f"{_scrypt_mib(SCRYPT_MAX_LOG2_N)}",
            hint="if it is yours, use the release that made it, or a newer one",
        )
    return _Seal(
        log2_n, _decode_base64(fields[2], KEY_FILE_SALT_BYTES), _decode_base64(fields[3], KEY_FILE_NONCE_BYTES)
    )


def _fields(line: bytes, name: bytes) -> list[bytes]:
    first, *rest = line.split(b" ")
    if first != name:
        raise _altered(f'a line does not begin with "{name.decode("ascii")}"')
    return rest


def _decode_onion(text: bytes) -> Onion:
    try:
        onion = parse_onion(text.decode("ascii"))
    except (UnicodeDecodeError, InvalidAddress) as error:
        raise _altered("its address is not one") from error
    if onion.encode("ascii") != text:
        raise _altered("its address is not in lower case")
    return onion


def _decode_base64(text: bytes, expected_bytes: int) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        value = b""
    # Base64 has several spellings of most values. Only the one that we write is accepted.
    if len(value) != expected_bytes or base64.b64encode(value) != text:
        raise _altered(f"a value in it is not {expected_bytes} bytes of base64")
    return value


def _altered(what: str) -> InvalidIdentityFile:
    return InvalidIdentityFile(f"the key file was altered: {what}", hint="restore it from a copy")

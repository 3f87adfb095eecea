"""The one door to asyncssh: whether a key in a list has signed a text (SSHSIG, as `ssh-keygen -Y sign` writes it).

Knows the signature's envelope and what of it counts here. asyncssh verifies the signature itself, and only after the
key was found in the user's own list. Source: OpenSSH's PROTOCOL.sshsig.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from onionmpc.errors import InvalidEvidence, UsageError
from onionmpc.names.allowed_signers import KEY_TYPES, Signer
from onionmpc.text import printable

NAMESPACE = "statement@onionmpc"  # so that no signature over a file, a mail or a commit is one over a statement
BEGIN_SIGNATURE = "-----BEGIN SSH SIGNATURE-----"
END_SIGNATURE = "-----END SSH SIGNATURE-----"
ARMOR = re.compile(rf"{BEGIN_SIGNATURE}\n((?:[A-Za-z0-9+/=]+\n)+){END_SIGNATURE}\n?")
MAGIC = b"SSHSIG"
SSHSIG_VERSION = 1
SSHSIG_HASHES = ("sha256", "sha512")
# All keys of RSA have the type ssh-rsa. The signature of that name is over SHA-1.
RSA_ALGORITHMS = ("rsa-sha2-256", "rsa-sha2-512")
OWNER = "owner"  # the list that asyncssh is given has one key, under any name


@dataclass(frozen=True, slots=True)
class SshSignature:
    """The envelope of a signature, which nobody has verified.

    Attributes:
        armor: the whole signature, as text.
        key: the public key of the signer, in SSH's encoding.
        namespace: what kind of text the signature is for.
        algorithm: of the signature.
    """

    armor: str
    key: bytes
    namespace: str
    algorithm: str


def fingerprint(key: bytes) -> str:
    """Return the fingerprint of a key, as ssh-keygen -l shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def parse_signature(armor: str) -> SshSignature:
    """Parse a signature's envelope.

    Raises:
        InvalidEvidence: it is damaged, or not for a statement.
    """
    found = ARMOR.fullmatch(armor)
    try:
        content = base64.b64decode(found[1].replace("\n", ""), validate=True) if found else b""
        signature = _decode(armor, content)
    except (binascii.Error, UnicodeDecodeError, _Truncated) as error:
        raise InvalidEvidence("the SSH signature is damaged", hint="sign the statement again") from error
    if signature.namespace != NAMESPACE:
        raise InvalidEvidence(
            f"the SSH signature is for the namespace {printable(ascii(signature.namespace), 60)}, "
            f"expected '{NAMESPACE}'",
            hint=f"sign with ssh-keygen -Y sign -n {NAMESPACE}",
        )
    return signature


def verify(text: str, signature: SshSignature, signers: Sequence[Signer], now: datetime) -> Signer:
    """Verify a signature over a text.

    Args:
        signers: whose signatures count.
        now: the time, for the dates in the list.
    Returns:
        The first signer in the list whose key it is, and who may sign statements now.

    Raises:
        InvalidEvidence: no key of the list has signed this text, or it must not have.
    """
    signer = _find(signature, signers, now)
    _check_signed_by(signer, text, signature)
    return signer


def check_own(text: str, signature: SshSignature) -> None:
    """Check that the key in a signature has signed this text, whoever holds it: for a statement that is not sent yet.

    Raises:
        InvalidEvidence: it has not, or no list can have such a key.
    """
    key_type = _take(signature.key)[0].decode("ascii", "replace")
    if key_type not in KEY_TYPES:
        raise InvalidEvidence(f"it is signed by a key of a type that does not count, {printable(ascii(key_type), 60)}")
    _check_signed_by(Signer("this key", key_type, signature.key), text, signature)


def check_key(signer: Signer) -> None:
    """Check that a listed key can verify signatures.

    Raises:
        UsageError: it is damaged.
    """
    import asyncssh

    try:
        asyncssh.import_public_key(_line(signer))
    except ValueError as error:
        raise UsageError(f"the key of {signer.principal} is damaged", hint="copy the whole line again") from error


def _find(signature: SshSignature, signers: Sequence[Signer], now: datetime) -> Signer:
    known = [signer for signer in signers if signer.key == signature.key]
    if not known:
        raise InvalidEvidence(f"your list does not have the key that signed it, {fingerprint(signature.key)}")
    allowed = [signer for signer in known if signer.may_sign(NAMESPACE)]
    if not allowed:
        raise InvalidEvidence(f"your list does not allow the key of {known[0].principal} to sign statements")
    for signer in allowed:
        # ssh-keygen counts both ends in.
        if (signer.valid_after or now) <= now <= (signer.valid_before or now):
            return signer
    raise InvalidEvidence(f"by your list, the key of {allowed[0].principal} is not valid now")


def _check_signed_by(signer: Signer, text: str, signature: SshSignature) -> None:
    expected = RSA_ALGORITHMS if signer.key_type == "ssh-rsa" else (signer.key_type,)
    if signature.algorithm not in expected:
        raise InvalidEvidence(
            f"the SSH signature is of the kind {printable(ascii(signature.algorithm), 60)}, "
            f"expected {' or '.join(expected)}"
        )
    # Imported here: it takes a quarter of a second, and few parties show signatures.
    import asyncssh

    signers = f"{OWNER} {_line(signer)}"
    try:
        valid = asyncssh.validate_sshsig(text.encode(), signature.armor.encode(), OWNER, signers.encode())
    except ValueError as error:
        raise InvalidEvidence(f"the key of {signer.principal}, or its signature, cannot be used") from error
    if not valid:
        raise InvalidEvidence("the SSH signature is wrong: it is for another text, or was altered")


def _line(signer: Signer) -> str:
    return f"{signer.key_type} {base64.b64encode(signer.key).decode()}"


class _Truncated(ValueError):
    """A field is longer than what is left, or something follows the last."""


def _decode(armor: str, content: bytes) -> SshSignature:
    rest = content
    if not rest.startswith(MAGIC + SSHSIG_VERSION.to_bytes(4)):
        raise _Truncated
    key, rest = _take(rest[len(MAGIC) + 4 :])
    namespace, rest = _take(rest)
    reserved, rest = _take(rest)
    hash_name, rest = _take(rest)
    blob, rest = _take(rest)
    if rest or reserved or hash_name.decode("ascii") not in SSHSIG_HASHES:
        raise _Truncated
    algorithm, _ = _take(blob)
    return SshSignature(armor, key, namespace.decode("ascii"), algorithm.decode("ascii"))


def _take(content: bytes) -> tuple[bytes, bytes]:
    """Return the first field of SSH's encoding, a length of 4 bytes and as many bytes, and the rest."""
    end = 4 + int.from_bytes(content[:4])
    if len(content) < end:
        raise _Truncated
    return content[4:end], content[end:]

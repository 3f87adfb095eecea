"""Identities: an ed25519 key pair, its onion address, and the text file that keeps it.

Knows how an address, a Noise key and tor's key all follow from one 32-byte seed, and which addresses no
honest party can have. Does not know where key files lie, who asks for passphrases, or where randomness comes
from: seeds, salts and nonces come in as arguments. Rules: docs/PROTOCOL.md section 1.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NewType

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from onionmpc.errors import InvalidAddress, InvalidIdentityFile

Onion = NewType("Onion", str)  # 56 base32 characters and ".onion", lower case, checked

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16  # of ChaCha20-Poly1305

SUFFIX = ".onion"
BASE32_CHARACTERS = "abcdefghijklmnopqrstuvwxyz234567"
V2_LENGTH = 16
V3_LENGTH = 56
V3_VERSION = 3


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A party's long-term key. The seed is kept since everything else follows from it.

    Args:
        seed: 32 random bytes.
    Attributes:
        public_key: ed25519 public key, 32 bytes.

    Raises:
        ValueError: the seed is not 32 bytes long.
    """

    seed: bytes
    public_key: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"seed has {len(self.seed)} bytes, expected {SEED_BYTES}")
        public_key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        object.__setattr__(self, "public_key", public_key)

    def __repr__(self) -> str:
        # Not even the address: a repr ends up in logs, and logs name parties by number only.
        return "Identity(<hidden>)"

    @property
    def onion(self) -> Onion:
        """The onion address of this identity."""
        return onion_from_public_key(self.public_key)

    @property
    def expanded_key(self) -> bytes:
        """The 64 bytes that tor takes as ED25519-V3: clamped scalar, then the nonce prefix."""
        digest = bytearray(hashlib.sha512(self.seed).digest())
        digest[0] &= 248
        digest[31] = digest[31] & 63 | 64
        return bytes(digest)

    @property
    def x25519_private(self) -> bytes:
        """The Noise static private key: the same scalar, 32 bytes."""
        return self.expanded_key[:32]

    @property
    def x25519_public(self) -> bytes:
        """The Noise static public key, 32 bytes; equals `x25519_public_from_ed25519(public_key)`."""
        return X25519PrivateKey.from_private_bytes(self.x25519_private).public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Sign with the onion key itself, 64 bytes.

        Whatever is signed begins with a label that says what it is: tor signs with keys that it derives from this one,
        and Noise takes no signatures, so nothing else can be meant.
        """
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


def check_signature(onion: Onion, message: bytes, signature: bytes) -> None:
    """Check that whoever holds the key of this address has signed this message.

    Raises:
        ValueError: it is no signature of that key over that message.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key_from_onion(onion)).verify(signature, message)
    except InvalidSignature as error:
        raise ValueError("the signature is not that of the key and the message") from error


# --- Addresses ----------------------------------------------------------------------------------------------


def onion_from_public_key(public_key: bytes) -> Onion:
    """Derive the v3 onion address of an identity. The key is not checked: see `check_public_key`.

    Args:
        public_key: ed25519 public key, 32 bytes.
    Returns:
        56 base32 characters and ".onion", lower case.
    Raises:
        ValueError: the key is not 32 bytes long.
    Source: Tor rend-spec-v3, "Encoding onion addresses".
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"public key has {len(public_key)} bytes, expected {PUBLIC_KEY_BYTES}")
    packed = public_key + _checksum(public_key) + bytes([V3_VERSION])
    return Onion(base64.b32encode(packed).decode("ascii").lower() + SUFFIX)


def public_key_from_onion(text: str) -> bytes:
    """Read an onion address and check everything that can be checked without asking its owner.

    Surrounding blanks and upper case are forgiven, nothing else is: an address that was repaired by guessing
    could be somebody else's.

    Returns:
        The ed25519 public key, 32 bytes: canonical and of prime order.
    Raises:
        InvalidAddress: names the first thing that is wrong.
    Source: Tor rend-spec-v3, "Encoding onion addresses".
    """
    label = _base32_label(text.strip())
    packed = base64.b32decode(label.upper())
    public_key, checksum, version = packed[:32], packed[32:34], packed[34]
    if version != V3_VERSION:
        raise InvalidAddress(
            f"the address is of version {version}, expected {V3_VERSION}", hint="check its last characters"
        )
    if checksum != _checksum(public_key):
        raise InvalidAddress(
            "the checksum is wrong: there is a typo somewhere in the address", hint="copy it again, whole"
        )
    try:
        check_public_key(public_key)
    except ValueError as error:
        raise InvalidAddress(
            f"the address holds no usable key: {error}",
            hint="no tor makes such an address: do not trust whoever gave it to you",
        ) from error
    return public_key


def parse_onion(text: str) -> Onion:
    """Check an address as `public_key_from_onion` does and return its one canonical form.

    Raises:
        InvalidAddress: names the first thing that is wrong.
    """
    return onion_from_public_key(public_key_from_onion(text))


def looks_like_onion(text: str) -> bool:
    """Tell an address, even a mistyped one, from a program name or path: by its form only.

    Anything that ends in ".onion" is one (v2 addresses and shortened ones included, with or without a port or
    path), and so is a bare word of 50 to 60 letters and digits: nobody names a program like that, and someone
    who mistypes an address should hear about the address.
    """
    return bool(re.search(r"\.onion\.?(?:[:/].*)?$|^[a-z0-9]{50,60}$", text.strip().lower(), re.DOTALL))


def check_roster(onions: Iterable[str], own: Onion | None) -> tuple[Onion, ...]:
    """Check the addresses of the other parties, each and together.

    Args:
        onions: addresses as typed or received; mistakes are named by their place in it, from 1.
        own: our own address, which must not be among them.
    Returns:
        The canonical addresses, sorted.
    Raises:
        InvalidAddress: an address is invalid, our own or there twice, or two of them are one X25519 key.
    """
    roster: list[Onion] = []
    # A and -A are two valid addresses with one y, hence one X25519 key: the handshake could not tell them
    # apart, and whoever holds one of the two secrets holds both.
    place_of_y = {} if own is None else {_y(public_key_from_onion(own)): 0}
    for place, text in enumerate(onions, start=1):
        try:
            public_key = public_key_from_onion(text)
        except InvalidAddress as error:
            raise InvalidAddress(f"address {place}: {error.message}", hint=error.hint) from error
        onion = onion_from_public_key(public_key)
        if onion == own:
            raise InvalidAddress(f"address {place} is your own", hint="name the other parties only")
        if onion in roster:
            raise InvalidAddress(f"addresses {roster.index(onion) + 1} and {place} are the same")
        first = place_of_y.setdefault(_y(public_key), place)
        if first != place:
            other = f"address {first}" if first else "your own address"
            raise InvalidAddress(
                f"address {place} is the mirror image of {other}: both belong to one key",
                hint="somebody is trying to be two parties",
            )
        roster.append(onion)
    return tuple(sorted(roster))


def _checksum(public_key: bytes) -> bytes:
    return hashlib.sha3_256(b".onion checksum" + public_key + bytes([V3_VERSION])).digest()[:2]


def _base32_label(text: str) -> str:
    """Return the 56 base32 characters of an address, in lower case."""
    lowered = text.lower()
    if "/" in lowered or ":" in lowered:
        raise InvalidAddress(
            "this is a link, not an address",
            hint='leave out "http://", the port and whatever follows ".onion"',
        )
    if not lowered.endswith(SUFFIX):
        raise InvalidAddress(f'the address does not end in "{SUFFIX}"', hint=f'copy it whole, with "{SUFFIX}"')
    label = text[: -len(SUFFIX)]
    if "." in label:
        # Tor ignores what stands before the address, so one party could appear under many names.
        raise InvalidAddress(
            'the address has a name before it ("name.address.onion")', hint="start at the 56 characters"
        )
    # Looked for before lower(): U+212A, the Kelvin sign, is a "k" in lower case.
    for position, character in enumerate(label, start=1):
        if character not in BASE32_CHARACTERS and character not in BASE32_CHARACTERS.upper():
            raise InvalidAddress(
                f"character {position} of the address is {character!a}, expected a to z or 2 to 7",
                hint="the digits 0, 1, 8 and 9 are never part of an address",
            )
    if len(label) == V2_LENGTH:
        raise InvalidAddress(
            f"this is a v2 address ({V2_LENGTH} characters), which tor no longer carries",
            hint=f"ask for a v3 address: {V3_LENGTH} characters",
        )
    if len(label) != V3_LENGTH:
        raise InvalidAddress(
            f'the address has {len(label)} characters before "{SUFFIX}", expected {V3_LENGTH}',
            hint="copy it again, whole",
        )
    return label.lower()


# --- The curve ----------------------------------------------------------------------------------------------
# edwards25519 in extended coordinates (X, Y, Z, T), RFC 8032 section 5.1.4. Not constant time, and need not
# be: it only ever sees public keys. `cryptography` does none of these checks, and has no arithmetic to build
# them from.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def check_public_key(public_key: bytes) -> None:
    """Check that a key is the canonical form of a point of prime order, as tor does before it uses one.

    Without the last two checks one key could hide behind eight addresses (A plus a point of small order), all
    with the same shared secrets.

    Raises:
        ValueError: names what the key is instead.
    Source: Tor rend-spec-v3, "Client-side validation of onion addresses"; RFC 8032 section 5.1.3.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"it has {len(public_key)} bytes, expected {PUBLIC_KEY_BYTES}")
    y, x_is_odd = _y(public_key), public_key[31] >> 7
    if y >= P:
        raise ValueError("it is not in canonical form (y is 2^255-19 or more)")
    x = _x_from_y(y)
    if x is None:
        raise ValueError("it is not a point on the curve")
    if x == 0 and x_is_odd:
        raise ValueError("it is not in canonical form (x is zero and said to be odd)")
    if x & 1 != x_is_odd:
        x = P - x
    point = (x, y, 1, x * y % P)
    if _is_neutral(_multiply(8, point)):
        raise ValueError("it is a point of small order, with which every secret is known")
    if not _is_neutral(_multiply(ORDER, point)):
        raise ValueError("it is not of prime order (a point of small order was added to it)")


def x25519_public_from_ed25519(public_key: bytes) -> bytes:
    """Map an identity's public key to its Noise static public key: u = (1 + y) / (1 - y).

    Raises:
        ValueError: the key is not one that `check_public_key` accepts.
    Source: RFC 7748 section 4.1.
    """
    check_public_key(public_key)
    y = _y(public_key)
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def _y(public_key: bytes) -> int:
    return int.from_bytes(public_key, "little") & (2**255 - 1)


def _x_from_y(y: int) -> int | None:
    """Solve x^2 = (y^2 - 1) / (d y^2 + 1); the denominator is never zero since -1/d is not a square."""
    x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x_squared, (P + 3) // 8, P)
    if (x * x - x_squared) % P:
        x = x * SQRT_OF_MINUS_1 % P
    return None if (x * x - x_squared) % P else x


def _add(left: Point, right: Point) -> Point:
    x1, y1, z1, t1 = left
    x2, y2, z2, t2 = right
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * D * t1 * t2 % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiply(factor: int, point: Point) -> Point:
    total = NEUTRAL
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _is_neutral(point: Point) -> bool:
    x, y, z, _ = point
    return x == 0 and y == z


# --- The key file -------------------------------------------------------------------------------------------
# Four lines of ASCII, each ended by one LF (docs/PROTOCOL.md section 1):
#
#     onionmpc identity 1             or  onionmpc exposed identity 1
#     onion <address>
#     seal none                       or  seal scrypt <log2 N> <salt, 16 bytes> <nonce, 12 bytes>
#     key <seed, 32 bytes>            or  key <sealed seed, 48 bytes>
#
# An exposed identity is for circuit length short alone: its service shows an IP address. It is made so and stays so,
# since a key that was ever tied to an address is anonymous nowhere.
#
# The address stands in the clear so that listing identities asks for no passphrase; it is bound to the seed,
# which must give that address. Bytes are in base64 with padding. There is one spelling of each file: whatever
# a careless editor or a bad disk does to it is noticed.

KEY_FILE_LABEL = b"onionmpc identity "
EXPOSED_LABEL = b"onionmpc exposed identity "
KEY_FILE_VERSION = b"1"
KEY_FILE_LINES = 4

# A guess costs 128 N r bytes, 128 MiB, and about half a second, so a passphrase of five random words outlives its
# thief; the owner pays that once per session, also on a small board. r and p are what scrypt's author recommends; N
# grows with machines, so each file says its own. A file that says more than the largest is refused before any work: a
# stranger's must not make us allocate a terabyte. To say less gains nobody anything: the seal holds that line too.
SCRYPT_LOG2_N = 17
SCRYPT_MAX_LOG2_N = 19  # 512 MiB and two seconds
SCRYPT_R = 8
SCRYPT_P = 1
SCRYPT_LABEL = b"onionmpc/identity/v1/scrypt"  # before the salt: the derived key opens nothing else


@dataclass(frozen=True, slots=True)
class KeyFileFacts:
    """What a key file tells without its passphrase.

    Attributes:
        onion: the address; in a sealed file it is a claim until the file is opened.
        sealed: whether opening it takes a passphrase.
        exposed: whether it is for circuit length short, and for no other.
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
    identity: Identity, passphrase: bytes | bytearray | None, salt: bytes, nonce: bytes, *, exposed: bool = False
) -> bytes:
    """Write an identity as a key file, sealed if there is a passphrase.

    Args:
        passphrase: any bytes but none at all, or None for a file that only its mode protects.
        salt: 16 fresh random bytes, unused without a passphrase.
        nonce: 12 fresh random bytes, unused without a passphrase.
        exposed: it is for circuit length short, and for no other.

    Raises:
        ValueError: the passphrase is empty, or the salt or nonce has another length.
    """
    kind = EXPOSED_LABEL if exposed else KEY_FILE_LABEL
    label = kind + KEY_FILE_VERSION + b"\nonion " + identity.onion.encode("ascii") + b"\n"
    if passphrase is None:
        return label + b"seal none\nkey " + base64.b64encode(identity.seed) + b"\n"
    if not passphrase or len(salt) != SALT_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(f"expected a passphrase, a salt of {SALT_BYTES} and a nonce of {NONCE_BYTES} bytes")
    seal = _Seal(SCRYPT_LOG2_N, salt, nonce)
    fields = (b"seal scrypt", str(seal.log2_n).encode("ascii"), base64.b64encode(salt), base64.b64encode(nonce))
    header = label + b" ".join(fields) + b"\n"
    with _sealing_key(passphrase, seal) as key:
        sealed = ChaCha20Poly1305(key).encrypt(nonce, identity.seed, header)
    return header + b"key " + base64.b64encode(sealed) + b"\n"


def describe_key_file(content: bytes) -> KeyFileFacts:
    """Read what a key file tells without its passphrase.

    Raises:
        InvalidIdentityFile: it is cut short, altered, of another version or no key file at all.
    """
    file = _parse_key_file(content)
    if file.seal is None:
        _identity_of(file.key, file.onion)
    return KeyFileFacts(onion=file.onion, sealed=file.seal is not None, exposed=file.exposed)


def decode_key_file(content: bytes, passphrase: bytes | bytearray | None) -> Identity:
    """Open a key file.

    Args:
        passphrase: needed for a sealed file, not looked at otherwise.

    Raises:
        InvalidIdentityFile: it is cut short, altered, of another version or no key file at all; or the
            passphrase is missing or wrong.
    """
    file = _parse_key_file(content)
    if file.seal is None:
        return _identity_of(file.key, file.onion)
    if passphrase is None:
        raise InvalidIdentityFile("the key file is sealed with a passphrase, and none was given")
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
    """Overwrite a secret that is not needed any more.

    It is what Python allows, and little: bytes and strings cannot be overwritten. A seed is bytes and stays until the
    process ends, and so do the copies that go to tor; what was typed at a terminal passes through a string.
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
            f"a sealed key file takes {_scrypt_mib(seal.log2_n)} MiB of memory, and there is less"
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
        raise InvalidIdentityFile("this is not a key file of onionmpc", hint="its first line is another")
    if b"\r" in content:
        raise _altered("its lines end in CR LF, expected LF")
    version = first_line.removeprefix(label)
    if version != KEY_FILE_VERSION and b"\n" in content:
        # Not quoted unless it is one: where lines were lost, the key may stand here.
        if not re.fullmatch(rb"[0-9]{1,3}", version):
            raise _altered("its first line names no version")
        raise InvalidIdentityFile(
            f"the key file is of version {version.decode('ascii')}, expected {KEY_FILE_VERSION.decode('ascii')}",
            hint="use the onionmpc that made it, or a newer one",
        )
    lines = content.split(b"\n")
    if len(lines) <= KEY_FILE_LINES:
        raise InvalidIdentityFile(
            f"the key file is cut short: {len(lines) - 1} whole lines, expected {KEY_FILE_LINES}",
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
        key=_decode_base64(b" ".join(_fields(lines[3], b"key")), SEED_BYTES + (TAG_BYTES if seal else 0)),
    )


def _decode_seal(fields: list[bytes]) -> _Seal | None:
    if fields == [b"none"]:
        return None
    if len(fields) != 4 or fields[0] != b"scrypt" or not re.fullmatch(rb"[1-9][0-9]?", fields[1]):
        raise _altered("its third line says neither how it is sealed nor that it is not")
    log2_n = int(fields[1])
    if log2_n > SCRYPT_MAX_LOG2_N:
        raise InvalidIdentityFile(
            f"to open the key file would take {_scrypt_mib(log2_n)} MiB of memory, expected at most "
            f"{_scrypt_mib(SCRYPT_MAX_LOG2_N)}",
            hint="if it is yours, use the onionmpc that made it, or a newer one",
        )
    return _Seal(log2_n, _decode_base64(fields[2], SALT_BYTES), _decode_base64(fields[3], NONCE_BYTES))


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
    # Base64 has several spellings of most values; only the one that we write is taken.
    if len(value) != expected_bytes or base64.b64encode(value) != text:
        raise _altered(f"a value in it is not {expected_bytes} bytes of base64")
    return value


def _altered(what: str) -> InvalidIdentityFile:
    return InvalidIdentityFile(f"the key file was altered: {what}", hint="restore it from a copy")

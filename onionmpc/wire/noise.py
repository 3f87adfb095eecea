"""The Noise handshake IKpsk1 (and IK, for its published vectors): two messages, then two cipher states.

Implements these two patterns of the Noise Protocol Framework, revision 34, under its class names. Ephemeral keys come
in as arguments. Every fault of a peer raises the same error with the same message, so that the peer learns nothing from
it.
Rules: docs/PROTOCOL.md section 2.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from onionmpc.errors import AuthenticationFailed, LocalProtocolError

PROTOCOL_NAME = "Noise_IKpsk1_25519_ChaChaPoly_SHA256"
HASHES = {"SHA256": "sha256", "SHA512": "sha512", "BLAKE2s": "blake2s", "BLAKE2b": "blake2b"}

KEY_BYTES = 32  # of every key: static, ephemeral, preshared, cipher
TAG_BYTES = 16
MAX_MESSAGE_BYTES = 65535  # Noise section 3: of every message, tags included
LAST_NONCE = 2**64 - 2  # Noise section 5.1: 2**64-1 is reserved

# One message for a wrong key, a wrong invite, a low-order point and a truncated message: an attacker that tries keys
# learns only that one failed.
FAILED = "the handshake or a record failed: wrong key or invite at one end, or the bytes were altered"


class CipherState:
    """One direction of an encrypted stream: a key and a message counter."""

    __slots__ = ("_aead", "_nonce")

    def __init__(self, key: bytes, nonce: int = 0) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._nonce = nonce

    def __repr__(self) -> str:
        return f"CipherState(<hidden>, nonce={self._nonce})"

    def encrypt(self, plaintext: bytes, associated_data: bytes = b"") -> bytes:
        """Encrypt the next message.

        Returns:
            The ciphertext, 16 bytes longer than the plaintext.
        Raises:
            LocalProtocolError: the message is too long, or 2**64-1 messages were sent.
        """
        if len(plaintext) + TAG_BYTES > MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"plaintext has {len(plaintext)} bytes, at most 65519 fit a message")
        ciphertext = self._aead.encrypt(self._nonce_bytes(), plaintext, associated_data)
        self._nonce += 1
        return ciphertext

    def decrypt(self, ciphertext: bytes, associated_data: bytes = b"") -> bytes:
        """Decrypt the next message; a failure leaves the counter where it was (Noise section 5.1).

        Raises:
            AuthenticationFailed: this is not what the other side encrypted next.
            LocalProtocolError: 2**64-1 messages were received.
        """
        if not TAG_BYTES <= len(ciphertext) <= MAX_MESSAGE_BYTES:
            raise AuthenticationFailed(FAILED)
        try:
            plaintext = self._aead.decrypt(self._nonce_bytes(), ciphertext, associated_data)
        except InvalidTag as error:
            raise AuthenticationFailed(FAILED) from error
        self._nonce += 1
        return plaintext

    def _nonce_bytes(self) -> bytes:
        # A nonce that is used twice reveals the XOR of two plaintexts, and the key of their tags.
        if self._nonce > LAST_NONCE:
            raise LocalProtocolError("2**64-1 messages were sent under one key, which is the limit")
        return bytes(4) + self._nonce.to_bytes(8, "little")


class SymmetricState:
    """The chaining key, the transcript hash and the current cipher."""

    __slots__ = ("_chaining_key", "_cipher", "_hash_name", "handshake_hash")

    _cipher: CipherState  # set by the first mix_key, which both patterns do before they encrypt anything

    def __init__(self, protocol_name: str, hash_name: str) -> None:
        self._hash_name = hash_name
        # Noise section 5.2: a name that fits into a hash is padded with zeros, a longer one is hashed.
        name = protocol_name.encode("ascii")
        padding = hashlib.new(hash_name).digest_size - len(name)
        self.handshake_hash = name + bytes(padding) if padding >= 0 else hashlib.new(hash_name, name).digest()
        self._chaining_key = self.handshake_hash

    def __repr__(self) -> str:
        return "SymmetricState(<hidden>)"

    def mix_key(self, key_material: bytes) -> None:
        # Noise section 5.2: of a hash of 64 bytes, the first 32 are the cipher's key. So below as well.
        self._chaining_key, cipher_key = self._hkdf(key_material, 2)
        self._cipher = CipherState(cipher_key[:KEY_BYTES])

    def mix_hash(self, data: bytes) -> None:
        self.handshake_hash = hashlib.new(self._hash_name, self.handshake_hash + data).digest()

    def mix_key_and_hash(self, key_material: bytes) -> None:
        self._chaining_key, for_hash, cipher_key = self._hkdf(key_material, 3)
        self.mix_hash(for_hash)
        self._cipher = CipherState(cipher_key[:KEY_BYTES])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(plaintext, self.handshake_hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.decrypt(ciphertext, self.handshake_hash)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = self._hkdf(b"", 2)
        return CipherState(first[:KEY_BYTES]), CipherState(second[:KEY_BYTES])

    def _hkdf(self, key_material: bytes, outputs: int) -> list[bytes]:
        """Return `outputs` values, each as long as a hash. Source: Noise section 4.3."""
        secret = hmac.digest(self._chaining_key, key_material, self._hash_name)
        values = [hmac.digest(secret, b"\x01", self._hash_name)]
        for index in range(2, outputs + 1):
            values.append(hmac.digest(secret, values[-1] + bytes([index]), self._hash_name))
        return values


class Step(enum.Enum):
    """How far a handshake has come."""

    NEW = enum.auto()
    FIRST_SENT = enum.auto()
    STATIC_READ = enum.auto()
    PAYLOAD_READ = enum.auto()
    COMPLETE = enum.auto()
    SPLIT = enum.auto()
    ERROR = enum.auto()


@dataclass(frozen=True, slots=True)
class Move:
    """One row of the transition table below."""

    before: Step
    after: Step
    after_failure: Step = Step.ERROR


# Initiator
WRITE_FIRST = Move(Step.NEW, Step.FIRST_SENT)
READ_SECOND = Move(Step.FIRST_SENT, Step.COMPLETE)
# Responder
READ_STATIC = Move(Step.NEW, Step.STATIC_READ)
READ_PAYLOAD = Move(Step.STATIC_READ, Step.PAYLOAD_READ, after_failure=Step.STATIC_READ)  # try another psk
WRITE_SECOND = Move(Step.PAYLOAD_READ, Step.COMPLETE)
# Both
SPLIT = Move(Step.COMPLETE, Step.SPLIT)  # only once: a second pair of ciphers would use the same nonces again


class HandshakeState:
    """What the two roles share. Use `Initiator` or `Responder`, each for one handshake."""

    __slots__ = ("_ephemeral", "_static", "_step", "_symmetric", "_takes_psk")

    def __init__(
        self,
        *,
        prologue: bytes,
        static_private: bytes,
        ephemeral_private: bytes,
        responder_static: bytes | None,
        protocol_name: str,
    ) -> None:
        pattern, _, hash_name = protocol_name.removeprefix("Noise_").partition("_25519_ChaChaPoly_")
        if pattern not in ("IK", "IKpsk1") or hash_name not in HASHES:
            raise ValueError(f"cannot speak {protocol_name}")
        self._step = Step.NEW
        self._takes_psk = pattern == "IKpsk1"
        self._static = X25519PrivateKey.from_private_bytes(static_private)
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_private)
        self._symmetric = SymmetricState(protocol_name, HASHES[hash_name])
        self._symmetric.mix_hash(prologue)
        # The pre-message "<- s": the initiator knows the responder's static key beforehand.
        self._symmetric.mix_hash(responder_static or self._static.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>, {self._step.name})"

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the cipher states initiator to responder and responder to initiator, once.

        Raises:
            LocalProtocolError: the handshake is not complete, or was split before.
        """
        with self._move(SPLIT):
            return self._symmetric.split()

    @property
    def handshake_hash(self) -> bytes:
        """The hash of the whole handshake: equal at its two ends, and different for every other handshake.

        Raises:
            LocalProtocolError: the handshake is not complete.
        """
        if self._step not in (Step.COMPLETE, Step.SPLIT):
            raise LocalProtocolError(f"no handshake hash at step {self._step.name}")
        return self._symmetric.handshake_hash

    @contextlib.contextmanager
    def _move(self, move: Move) -> Iterator[None]:
        if self._step is not move.before:
            raise LocalProtocolError(f"handshake is at step {self._step.name}, expected {move.before.name}")
        self._step = move.after_failure  # now, so that it holds if the block raises
        yield
        self._step = move.after

    def _mix_public(self, symmetric: SymmetricState, ephemeral_public: bytes) -> None:
        symmetric.mix_hash(ephemeral_public)
        if self._takes_psk:
            # Noise section 9.2: with a psk, e is mixed into the key too, so that each handshake has keys of its own.
            symmetric.mix_key(ephemeral_public)

    def _mix_psk(self, symmetric: SymmetricState, psk: bytes | None) -> None:
        if len(psk or b"") != (KEY_BYTES if self._takes_psk else 0):
            raise LocalProtocolError("IKpsk1 takes a preshared key of 32 bytes, and IK takes none")
        if psk:
            symmetric.mix_key_and_hash(psk)


class Initiator(HandshakeState):
    """The side that dials: knows the responder's static key, and names itself in its first message.

    Args:
        prologue: what both sides must agree on beforehand, any length.
        static_private, ephemeral_private: X25519 private keys, 32 bytes each; the latter fresh and random.
        remote_static: the responder's X25519 public key, 32 bytes.

    Raises:
        ValueError: a key has another length.
    """

    __slots__ = ("_remote_static",)

    def __init__(
        self,
        *,
        prologue: bytes,
        static_private: bytes,
        ephemeral_private: bytes,
        remote_static: bytes,
        protocol_name: str = PROTOCOL_NAME,
    ) -> None:
        if len(remote_static) != KEY_BYTES:
            raise ValueError(f"remote static key has {len(remote_static)} bytes, expected {KEY_BYTES}")
        self._remote_static = remote_static
        super().__init__(
            prologue=prologue,
            static_private=static_private,
            ephemeral_private=ephemeral_private,
            responder_static=remote_static,
            protocol_name=protocol_name,
        )

    def write_first(self, payload: bytes, psk: bytes | None) -> bytes:
        """Write message 1: -> e, es, s, ss, psk. Its payload can be replayed to the responder by anyone.

        Returns:
            32 + 48 + len(payload) + 16 bytes.
        Raises:
            AuthenticationFailed: the responder's static key is a low-order point.
            LocalProtocolError: out of turn, or the payload is too long.
        """
        with self._move(WRITE_FIRST):
            symmetric = self._symmetric
            ephemeral_public = self._ephemeral.public_key().public_bytes_raw()
            self._mix_public(symmetric, ephemeral_public)
            symmetric.mix_key(_exchange(self._ephemeral, self._remote_static))
            static = symmetric.encrypt_and_hash(self._static.public_key().public_bytes_raw())
            symmetric.mix_key(_exchange(self._static, self._remote_static))
            self._mix_psk(symmetric, psk)
            return _message(ephemeral_public, static, symmetric.encrypt_and_hash(payload))

    def read_second(self, message: bytes) -> bytes:
        """Read message 2: <- e, ee, se. It proves that the responder holds its static key.

        Returns:
            The payload.
        Raises:
            AuthenticationFailed: it does not, or the message was altered.
        """
        with self._move(READ_SECOND):
            ephemeral_public, rest = _cut(message, KEY_BYTES)
            self._mix_public(self._symmetric, ephemeral_public)
            self._symmetric.mix_key(_exchange(self._ephemeral, ephemeral_public))
            self._symmetric.mix_key(_exchange(self._static, ephemeral_public))
            return self._symmetric.decrypt_and_hash(rest)


class Responder(HandshakeState):
    """The side that listens: learns from message 1 who dials, and picks the preshared key accordingly.

    Args:
        prologue: what both sides must agree on beforehand, any length.
        static_private, ephemeral_private: X25519 private keys, 32 bytes each; the latter fresh and random.

    Raises:
        ValueError: a key has another length.
    """

    __slots__ = ("_remote_ephemeral", "_remote_static", "_sealed_payload")

    def __init__(
        self,
        *,
        prologue: bytes,
        static_private: bytes,
        ephemeral_private: bytes,
        protocol_name: str = PROTOCOL_NAME,
    ) -> None:
        self._remote_ephemeral = self._remote_static = self._sealed_payload = b""
        super().__init__(
            prologue=prologue,
            static_private=static_private,
            ephemeral_private=ephemeral_private,
            responder_static=None,
            protocol_name=protocol_name,
        )

    def read_static(self, message: bytes) -> bytes:
        """Read message 1 up to its psk: -> e, es, s, ss.

        Returns:
            The static key that the initiator claims, 32 bytes. Only `read_payload` proves it.
        Raises:
            AuthenticationFailed: the message is not for us, or was altered.
        """
        with self._move(READ_STATIC):
            symmetric = self._symmetric
            self._remote_ephemeral, rest = _cut(message, KEY_BYTES)
            sealed_static, self._sealed_payload = _cut(rest, KEY_BYTES + TAG_BYTES)
            self._mix_public(symmetric, self._remote_ephemeral)
            symmetric.mix_key(_exchange(self._static, self._remote_ephemeral))
            self._remote_static = symmetric.decrypt_and_hash(sealed_static)
            symmetric.mix_key(_exchange(self._static, self._remote_static))
            return self._remote_static

    def read_payload(self, psk: bytes | None) -> bytes:
        """Read the rest of message 1 under one preshared key. After a failure, another key may be tried.

        Returns:
            The payload. It comes from the holder of the static key, but may be a replay.
        Raises:
            AuthenticationFailed: another preshared key was used, or the message was altered.
        """
        with self._move(READ_PAYLOAD):
            # A shallow copy is enough: mixing replaces values instead of changing them, and a failed decryption leaves
            # the counter alone.
            trial = copy.copy(self._symmetric)
            self._mix_psk(trial, psk)
            payload = trial.decrypt_and_hash(self._sealed_payload)
            self._symmetric = trial
            return payload

    def write_second(self, payload: bytes) -> bytes:
        """Write message 2: <- e, ee, se.

        Returns:
            32 + len(payload) + 16 bytes.
        Raises:
            AuthenticationFailed: the initiator's ephemeral or static key is a low-order point.
            LocalProtocolError: out of turn, or the payload is too long.
        """
        with self._move(WRITE_SECOND):
            ephemeral_public = self._ephemeral.public_key().public_bytes_raw()
            self._mix_public(self._symmetric, ephemeral_public)
            self._symmetric.mix_key(_exchange(self._ephemeral, self._remote_ephemeral))
            self._symmetric.mix_key(_exchange(self._ephemeral, self._remote_static))
            return _message(ephemeral_public, self._symmetric.encrypt_and_hash(payload))


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        # A low-order point: the shared secret would be zero whatever our key is, so it would authenticate nobody.
        raise AuthenticationFailed(FAILED) from error


def _cut(message: bytes, length: int) -> tuple[bytes, bytes]:
    if not length <= len(message) <= MAX_MESSAGE_BYTES:
        raise AuthenticationFailed(FAILED)
    return message[:length], message[length:]


def _message(*parts: bytes) -> bytes:
    message = b"".join(parts)
    if len(message) > MAX_MESSAGE_BYTES:
        raise LocalProtocolError(f"message has {len(message)} bytes, at most {MAX_MESSAGE_BYTES} are allowed")
    return message

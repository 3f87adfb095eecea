"""Receipts: what each party signs when all are done, and the file that proves it to others.

How parties exchange signatures is in onionmpc.session.signing. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from onionmpc import __version__
from onionmpc.errors import InvalidReceipt, OnionMPCError, RemoteProtocolError, UsageError
from onionmpc.identity import Identity, Onion, check_roster, check_signature
from onionmpc.program.spec import MAX_PARTIES
from onionmpc.session.agreement import Agreement, session_id
from onionmpc.text import printable
from onionmpc.wire.handshake import VERSION

RECEIPT_LABEL = b"onionmpc/1 receipt"
OUTPUT_LABEL = b"onionmpc/1 output"
FORMAT = "onionmpc receipt 1"
SALT_BYTES = 32
# An agreement fits into a control message of 1 MiB. What the parties state about themselves and sign adds up to less
# than another MiB.
MAX_RECEIPT_BYTES = 2 * 2**20

Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTIES)]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]  # 32 bytes in hex
SignatureText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Opens a party's commitment to its output. The party keeps it secret until it wants to prove its output.

    Attributes:
        salt: 32 random bytes in hex. Without them nobody can test guesses of the output against the commitment.
        output: the SHA-256 of its program's standard output, in hex.
    """

    party: Number
    salt: Hex32
    output: Hex32


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A party's commitment to its output, and its signature; both in hex."""

    party: Number
    commitment: Hex32
    signature: SignatureText


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of one party's receipt file.

    Attributes:
        receipt: the name of the format.
        opening: that party's opening; None in a copy from which it was removed.
        signatures: of the parties that signed, in the order of their numbers.
    """

    receipt: str
    agreement: Agreement
    signatures: tuple[Signature, ...]
    opening: Opening | None = None


class _Head(msgspec.Struct):
    receipt: str


class _VersionedCommon(msgspec.Struct):
    protocol: Annotated[int, msgspec.Meta(ge=0, le=255)]


class _VersionedAgreement(msgspec.Struct):
    common: _VersionedCommon


class _Versioned(msgspec.Struct):
    """The field that receipts of all protocol versions have."""

    agreement: _VersionedAgreement


def sign(identity: Identity, agreement: Agreement, opening: Opening) -> Receipt:
    """Sign the agreement and the output of this party's program; return a receipt with that one signature."""
    session = session_id(agreement)
    commitment = _commitment(session, opening)
    signature = identity.sign(_transcript(session, opening.party, commitment))
    own = Signature(opening.party, commitment.hex(), signature.hex())
    return Receipt(FORMAT, agreement, (own,), opening)


def check_signed(onion: Onion, session: bytes, signature: Signature) -> None:
    """Check a party's signature.

    Raises:
        RemoteProtocolError: it was not made with that address's key, for that session and that party.
    """
    transcript = _transcript(session, signature.party, bytes.fromhex(signature.commitment))
    try:
        check_signature(onion, transcript, bytes.fromhex(signature.signature))
    except ValueError as error:
        raise RemoteProtocolError("its signature is wrong") from error


def _commitment(session: bytes, opening: Opening) -> bytes:
    # The party's number is hashed too. Otherwise a party could sign a copy of another's commitment and, once the other
    # reveals its opening, pass that off as its own.
    place = session + opening.party.to_bytes(2)
    return hashlib.sha256(OUTPUT_LABEL + place + bytes.fromhex(opening.salt) + bytes.fromhex(opening.output)).digest()


def _transcript(session: bytes, party: int, commitment: bytes) -> bytes:
    return RECEIPT_LABEL + session + party.to_bytes(2) + commitment


# -- the file


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the file: JSON with one field a line, so that people can remove the line of the opening from a copy."""
    fields = ("receipt", "opening", "agreement", "signatures")
    values = [(field, getattr(receipt, field)) for field in fields]
    lines = [f'"{field}": '.encode() + msgspec.json.encode(value, order="sorted") for field, value in values]
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def decode_receipt(content: bytes) -> Receipt:
    """Decode a file that anyone may have written. Does not check signatures.

    Raises:
        InvalidReceipt: it is not a receipt, or no party can have written it.
    """
    if len(content) > MAX_RECEIPT_BYTES:
        raise InvalidReceipt(f"it has more than {MAX_RECEIPT_BYTES} bytes, too many for a receipt")
    try:
        head = msgspec.json.decode(content, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReceipt("it is not a receipt", hint="give a file that --receipt wrote") from error
    if head.receipt != FORMAT:
        raise InvalidReceipt(
            f"its format is {printable(head.receipt, 40)!a}, expected {FORMAT!a}",
            hint="use the release that wrote it, or a newer one",
        )
    try:
        receipt = msgspec.json.decode(content, type=Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if (theirs := _protocol_of(content)) > VERSION:
            raise InvalidReceipt(
                f"it uses protocol {theirs}, but this onionmpc ({__version__}) supports {VERSION} and older",
                hint="use the release that wrote it, or a newer one",
            ) from error
        raise InvalidReceipt(f"it was altered: {printable(str(error))}") from error
    _check_agreement(receipt.agreement)
    numbers = [signature.party for signature in receipt.signatures]
    if numbers != sorted(set(numbers)) or not set(numbers) <= set(range(len(receipt.agreement.own))):
        raise InvalidReceipt("it was altered: its signatures are not those of its parties, in order")
    return receipt


def _protocol_of(content: bytes) -> int:
    """Return the protocol version that a receipt names, even if the rest cannot be decoded; 0 if it names none."""
    try:
        return msgspec.json.decode(content, type=_Versioned).agreement.common.protocol
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def _check_agreement(agreement: Agreement) -> None:
    """Check the fields that would be shown wrongly if they were malformed. Signatures vouch for the others."""
    addresses = agreement.common.addresses
    if not 2 <= len(addresses) <= MAX_PARTIES or not len(addresses) == len(agreement.own) == len(agreement.nonces):
        raise InvalidReceipt(f"it was altered: {len(addresses)} parties do not match their number of terms")
    if not 0 <= 2 * agreement.common.threshold < len(addresses):
        raise InvalidReceipt("it was altered: its threshold does not match its number of parties")
    try:
        roster = check_roster(addresses, own=None)
    except OnionMPCError as error:
        raise InvalidReceipt(f"it was altered: {error.message}") from error
    if roster != addresses:
        raise InvalidReceipt("it was altered: its parties are not in order")
    try:
        bytes.fromhex("".join(agreement.common.files.values()))
        session_id(agreement)
    except (ValueError, OverflowError) as error:
        raise InvalidReceipt("it was altered: a digest or a number in it is malformed") from error


# -- what it proves


@dataclass(frozen=True, slots=True)
class Findings:
    """What the receipts of one session prove together.

    Attributes:
        signed: the parties that signed.
        outputs: the SHA-256 of its output, in hex, for each party whose salt is revealed.
    """

    session: bytes
    agreement: Agreement
    signed: frozenset[int]
    outputs: dict[int, str]

    @property
    def missing(self) -> list[int]:
        """The parties that did not sign."""
        return [number for number in range(len(self.agreement.own)) if number not in self.signed]

    @property
    def agreeing(self) -> list[list[int]]:
        """The parties whose salts are revealed, grouped by equal output."""
        by_output: dict[str, list[int]] = {}
        for number in sorted(self.outputs):
            by_output.setdefault(self.outputs[number], []).append(number)
        return list(by_output.values())


def examine_receipts(receipts: Mapping[str, Receipt]) -> Findings:
    """Check all signatures and openings in the receipts of one session.

    Args:
        receipts: at least one receipt, by its name for messages.

    Raises:
        UsageError: the receipts are from several sessions.
        RemoteProtocolError: a signature or a salt is wrong, or a party has signed twice.
    """
    (first, receipt), *_ = receipts.items()
    agreement, session = receipt.agreement, session_id(receipt.agreement)
    commitments: dict[int, str] = {}
    outputs: dict[int, str] = {}
    for name, receipt in receipts.items():
        if session_id(receipt.agreement) != session:
            raise UsageError(f"{first} and {name} are receipts of two sessions", hint="verify one session at a time")
        for signature in receipt.signatures:
            party = signature.party
            try:
                check_signed(Onion(agreement.common.addresses[party]), session, signature)
            except RemoteProtocolError as error:
                raise RemoteProtocolError(
                    f"{name}: the signature of party {party} is wrong",
                    hint="the file was altered: nothing in it can be relied on",
                ) from error
            if commitments.setdefault(party, signature.commitment) != signature.commitment:
                raise RemoteProtocolError(f"party {party} signed two different outputs of this session ({name})")
        if receipt.opening is not None:
            opening = receipt.opening
            if commitments.get(opening.party) != _commitment(session, opening).hex():
                raise RemoteProtocolError(f"{name}: what it reveals is not what party {opening.party} signed")
            outputs[opening.party] = opening.output
    return Findings(session, agreement, frozenset(commitments), outputs)

"""The agreement that all parties commit to before any program byte flows, and the session id that it gives.

`agreed_options` declares the terms that people choose; `comparison` finds how two parties' terms differ. Rules:
docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Annotated

import msgspec

from onionmpc.errors import AgreementError
from onionmpc.levels import Level
from onionmpc.program.code.catalogue import ProgramFile, digest_of_files

AGREEMENT_LABEL = b"onionmpc/1 agreement"
# 5 ms between two records: less than relays and the network add, and slow enough for a small machine.
MAX_PADDING_RATE = 200
# How many circuits race for a link, by default and at most. Each circuit is one more chance that a hostile relay is on
# it (docs/THREATS.md).
DEFAULT_CIRCUITS = 3
MAX_CIRCUITS = 8

Circuits = Annotated[int, msgspec.Meta(ge=1, le=MAX_CIRCUITS)]


class SharedTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of the agreement that must be equal at all parties.

    Attributes:
        addresses: sorted; a party's number is its index here.
        threshold: t; any t+1 parties together can read every input.
        files: SHA-256 in hex of each file of the program, by its path below the script's folder.
        python: implementation and word size: "CPython 64-bit", or "CPython any word size" with --mix32-64bit.
        numpy: major version, None if numpy is not installed.
        padding_rate: records a second on each link, each way; 0 without padding. Bounded in the decoder, since a joiner
            follows the host's rate before its user has seen it.
        circuits: how many circuits race for each link, within the limits of its two parties.
        receipt: whether all parties sign the agreement and their outputs at the end.
        uninvited: the parties that the host seated without an invite and without --expect, sorted, as the host says.
            UNSET if there are none: older receipts lack this field, and their session ids must not change.
    """

    protocol: int
    addresses: tuple[str, ...]
    threshold: int
    program: str
    files: dict[str, str]
    public_arguments: tuple[str, ...]
    mpyc_version: str
    mpyc_options: tuple[str, ...]
    python: str
    numpy: int | None
    allowed_types: tuple[str, ...] = ()
    padding_rate: Annotated[int, msgspec.Meta(ge=0, le=MAX_PADDING_RATE)] = 0
    circuits: Circuits = DEFAULT_CIRCUITS
    receipt: bool = False
    uninvited: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def program_digest(self) -> bytes:
        """The digest of the program's files that people compare, 32 bytes."""
        return digest_of_files(ProgramFile(path, bytes.fromhex(digest)) for path, digest in self.files.items())

    @property
    def strangers(self) -> frozenset[str]:
        """The addresses in `uninvited`."""
        return frozenset() if self.uninvited is msgspec.UNSET else frozenset(self.uninvited)

    def seating(self, uninvited: Collection[str]) -> SharedTerms:
        """Return these terms with those of the parties that are uninvited, and no others."""
        found = tuple(address for address in self.addresses if address in uninvited)
        return msgspec.structs.replace(self, uninvited=found or msgspec.UNSET)


# With these bounds 256 parties name at most 870 kB of distributions, so that a receipt stays below its limit of 2 MiB.
DistributionName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,60}\Z")]
DistributionVersion = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.!+_-]{1,40}\Z")]
EvidenceDigest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Distributions = Annotated[dict[DistributionName, DistributionVersion], msgspec.Meta(max_length=32)]


class PartyTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a party states about itself. Every party sees it on the agreement screen.

    Attributes:
        circuit_length: its level.
        min_circuit_length: its floor: the lowest level that it accepts from others.
        max_circuits: the largest number of circuits that it dials, or accepts, for one link.
        evidence: the digest of what it shows of who it is, in hex. UNSET if it shows nothing, and in older receipts.
        distributions: version of each installed distribution that its program imports, by name. Receipts of protocol
            version 1 lack this field, and their session ids must not change.
    """

    circuit_length: Level = Level.STANDARD
    min_circuit_length: Level = Level.STANDARD
    max_circuits: Circuits = DEFAULT_CIRCUITS
    distributions: Distributions | msgspec.UnsetType = msgspec.UNSET
    evidence: EvidenceDigest | msgspec.UnsetType = msgspec.UNSET

    def version_of(self, distribution: str) -> str | None:
        """Return the version of a distribution that the party has, None if it named none."""
        return None if self.distributions is msgspec.UNSET else self.distributions.get(distribution)


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole agreement, which encodes to the same bytes at every party.

    Attributes:
        own: each party's terms, in party order.
        nonces: 16 bytes in hex per party, in party order. They make every session id unique.
    """

    common: SharedTerms
    own: tuple[PartyTerms, ...]
    nonces: tuple[str, ...]


def session_id(agreement: Agreement) -> bytes:
    """Return the digest of the agreement that all parties compare, 32 bytes."""
    canonical = msgspec.json.encode(agreement, order="sorted")
    return hashlib.sha256(AGREEMENT_LABEL + canonical).digest()


def circuits_of_link(common: SharedTerms, one: PartyTerms, other: PartyTerms) -> int:
    """Return how many circuits race for the link of two parties; 1 means no race."""
    if common.padding_rate:
        return 1  # padding sends at a constant rate: a second stream would be visible and gain nothing
    return min(common.circuits, one.max_circuits, other.max_circuits)


def link_limit(common: SharedTerms, own: PartyTerms) -> str:
    """Describe the party's own limit if it gives its links fewer circuits than the session asks for."""
    if own.max_circuits < common.circuits and not common.padding_rate:
        return f"circuits per link: {own.max_circuits} at most"
    return ""


def check_distributions(ours: PartyTerms, theirs: PartyTerms, *, here: str, there: str) -> None:
    """Check that two parties have the same versions of the distributions that their program imports.

    The program asks for this with `packages = "equal"`. Both parties know that, since they agreed on its files.

    Args:
        here, there: names of the two for messages, such as "party 0" and "party 2".

    Raises:
        AgreementError: a version differs. The message names the first distribution that does.
    """
    names = {name for own in (ours, theirs) if own.distributions is not msgspec.UNSET for name in own.distributions}
    for name in sorted(names):
        mine, other = ours.version_of(name) or "none", theirs.version_of(name) or "none"
        if mine != other:
            raise AgreementError(
                f"{name} differs: {mine} at {here}, {other} at {there}",
                hint="the program needs equal packages: install the same version at all parties, and start again",
            )


def check_floors(ours: PartyTerms, theirs: PartyTerms, *, here: str, there: str) -> None:
    """Check that the level of each of two parties reaches the other's floor.

    Args:
        here, there: names of the two for messages, such as "party 0" and "party 2".

    Raises:
        AgreementError: one level is below the other party's floor.
    """
    for strict, strict_name, other, other_name in ((ours, here, theirs, there), (theirs, there, ours, here)):
        if other.circuit_length < strict.min_circuit_length:
            level, floor = other.circuit_length.value, strict.min_circuit_length.value
            raise AgreementError(
                f"{other_name} uses circuit length {level}, but {strict_name} accepts no less than {floor}"
            )

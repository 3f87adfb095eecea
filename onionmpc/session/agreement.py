"""What all parties commit to before a single byte of the program flows.

Knows the fields and the session id. Does not know how they got here: `agreed_options` declares what people choose of
them, and `comparison` says how two versions differ. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec

from onionmpc.errors import AgreementError
from onionmpc.levels import Level

AGREEMENT_LABEL = b"onionmpc/1 agreement"
ROSTER_LABEL = b"onionmpc/1 roster"
FINGERPRINT_BYTES = 10
# 5 ms between two records: less than relays and the way take, and what a small machine still keeps up with.
MAX_PADDING_RATE = 200
# Over how many circuits a link is raced, and over how many at most: each is a draw of relays (docs/THREATS.md).
DEFAULT_CIRCUITS = 3
MAX_CIRCUITS = 8

Circuits = Annotated[int, msgspec.Meta(ge=1, le=MAX_CIRCUITS)]


class SharedTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be equal at all parties.

    Attributes:
        addresses: sorted; a party's number is its place here.
        threshold: t; any t+1 parties together can read every input.
        files: SHA-256 in hex of each file of the program, by its path below the script's folder.
        python: implementation and word size ("CPython 64-bit"), or "any" with --mix32-64bit.
        numpy: major version, None if it is not there.
        padding_rate: records a second on each link, each way; 0 without padding. A host's is checked as it comes, since
            a joiner obeys it before its person has seen it.
        circuits: over how many each link is raced, as far as both of its parties allow it.
        receipt: whether all sign in the end what they agreed to and what their programs put out.
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


# With the 870 kB at most that 256 parties say by these, a receipt keeps within its 2 MiB.
DistributionName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,60}\Z")]
DistributionVersion = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.!+_-]{1,40}\Z")]
Distributions = Annotated[dict[DistributionName, DistributionVersion], msgspec.Meta(max_length=32)]


class PartyTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each party says of itself, and all are shown.

    Attributes:
        circuit_length: its level.
        min_circuit_length: its floor: the lowest level that it accepts of others.
        max_circuits: the most that it dials, or accepts, for one link.
        distributions: the version of each installed distribution that its program imports, by name; not there in
            receipts of version 1, whose session ids must stay.
    """

    circuit_length: Level = Level.STANDARD
    min_circuit_length: Level = Level.STANDARD
    max_circuits: Circuits = DEFAULT_CIRCUITS
    distributions: Distributions | msgspec.UnsetType = msgspec.UNSET

    def version_of(self, distribution: str) -> str | None:
        """Return the version of a distribution that the party has, None if it named none."""
        return None if self.distributions is msgspec.UNSET else self.distributions.get(distribution)


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole: the same bytes at every party.

    Attributes:
        own: one per party, in party order.
        nonces: 16 bytes in hex per party, in party order; they make every session id new.
    """

    common: SharedTerms
    own: tuple[PartyTerms, ...]
    nonces: tuple[str, ...]


def session_id(agreement: Agreement) -> bytes:
    """Return the digest that all parties compare, 32 bytes."""
    canonical = msgspec.json.encode(agreement, order="sorted")
    return hashlib.sha256(AGREEMENT_LABEL + canonical).digest()


def roster_fingerprint(addresses: Sequence[str]) -> str:
    """Return what people compare by another way: 16 characters in groups of four."""
    digest = hashlib.sha256(ROSTER_LABEL + "\n".join(addresses).encode()).digest()[:FINGERPRINT_BYTES]
    text = base64.b32encode(digest).decode().lower()
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def circuits_of_link(common: SharedTerms, one: PartyTerms, other: PartyTerms) -> int:
    """Return over how many circuits the link of two parties is raced; 1 is no race."""
    if common.padding_rate:
        return 1  # a padded stream is as busy as it ever is: a second one would show, and gain nothing
    return min(common.circuits, one.max_circuits, other.max_circuits)


def limits_links(common: SharedTerms, own: PartyTerms) -> bool:
    """Return whether the links of this party have fewer circuits than the session asks for."""
    return own.max_circuits < common.circuits and not common.padding_rate


def check_floors(ours: PartyTerms, theirs: PartyTerms, *, here: str, there: str) -> None:
    """Check that neither of two parties is below the other's floor.

    Args:
        here, there: what to call the two, such as "party 0" and "party 2".

    Raises:
        AgreementError: one is; it is named, with both levels.
    """
    for strict, strict_name, other, other_name in ((ours, here, theirs, there), (theirs, there, ours, here)):
        if other.circuit_length < strict.min_circuit_length:
            level, floor = other.circuit_length.value, strict.min_circuit_length.value
            raise AgreementError(
                f"{other_name} takes part at circuit length {level}, and {strict_name} accepts no less than {floor}"
            )

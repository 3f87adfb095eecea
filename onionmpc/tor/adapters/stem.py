"""The one door to stem: its version numbers, and its parsers of control events and of relays.

stem 1.8 is older than tor 0.4.9. This module works around:

* `router_status_entry._parse_file` is private. stem's own `Controller.get_network_statuses` reads ns/all with it; the
  public readers need a whole consensus.
* stem does not know "family-ids" in a microdescriptor (proposal 321). We read that line ourselves. * stem logs lines
that it does not know (stem/response/events.py), with relays and a peer's address. Its log is off while
  it parses for us.
* stem raises an error for an event that it cannot read. Here it is None: a line of a later tor must not end anything.

Families are queried relay by relay (`GETINFO md/id/FINGERPRINT`), not with `md/all`: a microdescriptor does not contain
its relay's fingerprint, and ns/all does not contain the digest of the microdescriptor, so nothing would connect them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from typing import Any

from stem import ProtocolError
from stem.descriptor import router_status_entry
from stem.descriptor.microdescriptor import Microdescriptor
from stem.response import ControlMessage
from stem.version import Version

from onionmpc.errors import TorFailed
from onionmpc.tor.circuit.layers import Family, GuardCandidate

__all__ = ["Version", "parse_event", "parse_family", "parse_relays"]

USABLE_FLAGS = frozenset({"Fast", "Stable", "Running", "Valid"})
MAX_BANDWIDTH = 2**32 - 1  # tor's own limit. dir-spec has none, so stem may return any number.
# "$" FINGERPRINT, with "=" or "~" and a nickname in old descriptors; or a nickname. Source: dir-spec, "family".
MEMBER = re.compile(r"\$?([0-9A-Fa-f]{40})(?:[=~].*)?")
FAMILY_IDS = "family-ids "
NEWER_HINT = "this tor may be newer than onionmpc can read"

LOG = logging.getLogger("stem")


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Turn stem's log off while it parses for us, and only then: this process may have another user of stem."""
    before, LOG.disabled = LOG.disabled, True
    try:
        yield
    finally:
        LOG.disabled = before


@_without_log()
def parse_event(name: str, text: str) -> Any | None:  # noqa: ANN401 (stem is untyped)
    """Return stem's event for a line from tor, or None if stem cannot read it.

    Args:
        name: its kind, e.g. "CIRC".
        text: the rest of the line.
    """
    try:
        return ControlMessage.from_str(f"650 {name} {text}\r\n", "EVENT", normalize=True)
    except (ProtocolError, ValueError):
        return None


@_without_log()
def parse_relays(text: str) -> dict[str, GuardCandidate]:
    """Return the relays that can be layer guards, by fingerprint, from the answer to `GETINFO ns/all`.

    A relay whose lines stem cannot read is left out, since there are others to draw.

    Raises:
        TorFailed: the answer as a whole cannot be read.
    """
    try:
        entries = router_status_entry._parse_file(  # noqa: SLF001
            io.BytesIO(text.encode()), False, entry_class=router_status_entry.RouterStatusEntryV3
        )
        return {
            entry.fingerprint: GuardCandidate(
                entry.fingerprint,
                entry.nickname,
                ".".join(entry.address.split(".")[:2]),
                min(entry.bandwidth or 0, MAX_BANDWIDTH),
            )
            for entry in entries
            if USABLE_FLAGS.issubset(entry.flags or ()) and entry.fingerprint and entry.nickname and entry.address
        }
    except ValueError as error:
        raise TorFailed("tor's list of relays cannot be read", hint=NEWER_HINT) from error


@_without_log()
def parse_family(text: str) -> Family:
    """Return the family in a relay's microdescriptor, from the answer to `GETINFO md/id/FINGERPRINT`.

    Raises:
        TorFailed: it cannot be read.
    """
    try:
        family = Microdescriptor(text.encode(), validate=False).family
    except ValueError as error:
        raise TorFailed("a relay's descriptor cannot be read", hint=NEWER_HINT) from error
    # Not with stem's list of unknown lines. For that, stem parses all lines, and "pr Link=1-9999999999" makes it count
    # that far.
    ids = [line for line in text.splitlines() if line.startswith(FAMILY_IDS)]
    return Family(
        frozenset(_member(word) for word in family if word),
        frozenset(word for line in ids for word in line.removeprefix(FAMILY_IDS).split()),
    )


def _member(word: str) -> str:
    match = MEMBER.fullmatch(word)
    return match[1].upper() if match else word.lower()

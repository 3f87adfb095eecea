"""Parses what a party joins: an invite, a host's address, or the addresses of all other parties."""

from __future__ import annotations

from collections.abc import Sequence

from onionmpc.api.arguments import texts
from onionmpc.errors import UsageError
from onionmpc.identity import Onion, looks_like_onion, parse_onion
from onionmpc.names.address_link import looks_like_link, parse_link
from onionmpc.session.invite import Invite, looks_like_invite, parse_invite

# An invite, a host's address, or the addresses of all other parties.
Target = Invite | Onion | tuple[Onion, ...]


def parse_target(target: str | Invite | Sequence[str]) -> Target:
    """Parse what to join.

    Raises:
        UsageError: it is neither one invite nor a list of addresses.
    """
    if isinstance(target, Invite):
        return target
    return target_of([target] if isinstance(target, str) else texts("target", target))


def target_of(words: Sequence[str]) -> Target:
    """Parse one invite, or addresses. Raises as `parse_target` does."""
    invites = [parse_invite(word) for word in words if is_invite(word)]
    onions = tuple(parse_address(word) for word in words if not is_invite(word))
    if len(invites) > 1 or (invites and onions) or not (invites or onions):
        raise UsageError(
            f"{len(invites)} invites and {len(onions)} addresses given",
            hint="expected one invite, or one address, or the addresses of all other parties",
        )
    if invites:
        return invites[0]
    return onions[0] if len(onions) == 1 else onions


def parse_address(word: str) -> Onion:
    """Parse an address, or a link to one.

    Raises:
        InvalidAddress: names the first thing that is wrong.
    """
    return parse_link(word) if looks_like_link(word) else parse_onion(word)


def is_invite(word: str) -> bool:
    """Return whether a word looks like an invite, and not like the name or path of a program."""
    return looks_like_invite(word) and not word.endswith(".py") and "/" not in word


def is_target(word: str) -> bool:
    """Return whether a word looks like an invite, an address or a link to one."""
    return is_invite(word) or looks_like_onion(word) or looks_like_link(word)

"""The longest chain of messages of a run, and the lines of the program on it.

Knows what the parties report: what each has sent, and which message triggered it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onionmpc.program.spec import Origin, Place, Sent

# The sender, the receiver, and how many messages went that way before.
_Name = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Hop:
    """One message of the chain.

    Attributes:
        sender: the number of the party that sent it.
        origin: what in the program asked for it; None if no line of its files did.
    """

    sender: int
    origin: Origin | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the program on the chain.

    Attributes:
        place: where it is; None for hops that no line asked for.
        hops: the hops that it asked for, in order.
    """

    place: Place | None
    hops: tuple[Hop, ...]


def longest_chain(messages: Mapping[tuple[int, int], Sequence[Sent]]) -> Sequence[Hop]:
    """Return the longest chain in which each message triggered the next one.

    Args:
        messages: what each party sent to each other one, in order.
    """
    chain: list[Hop] = []
    depths = _depths(messages)
    name: _Name | None = max(depths, key=lambda each: depths[each], default=None)
    while name is not None:
        sent = messages[name[:2]][name[2]]
        chain.append(Hop(name[0], sent.origin))
        trigger = _trigger(name, sent, depths)
        name = trigger if trigger is not None and depths[trigger] < depths[name] else None
    chain.reverse()
    return _inherited(chain)


def _depths(messages: Mapping[tuple[int, int], Sequence[Sent]]) -> dict[_Name, int]:
    """Return for each message the length of the longest chain that ends with it."""
    depths: dict[_Name, int] = {}
    known = {(*way, index): sent for way, all_sent in messages.items() for index, sent in enumerate(all_sent)}
    for each in known:
        behind: list[_Name] = []
        name: _Name | None = each
        # Depth 0 marks a message that is being followed: a hostile program may report triggers in a circle.
        while name is not None and name not in depths:
            depths[name] = 0
            behind.append(name)
            name = _trigger(name, known[name], known)
        depth = depths[name] if name is not None else 0
        for one in reversed(behind):
            depth += 1
            depths[one] = depth
    return depths


def _trigger(name: _Name, sent: Sent, known: Mapping[_Name, object]) -> _Name | None:
    if sent.trigger is None:
        return None
    trigger = (sent.trigger.sender, name[0], sent.trigger.index)
    return trigger if trigger in known else None


def _inherited(chain: Sequence[Hop]) -> Sequence[Hop]:
    """Give each hop without an origin the origin of the hop before it."""
    hops: list[Hop] = []
    for hop in chain:
        before = hops[-1].origin if hops else None
        hops.append(hop if hop.origin is not None else Hop(hop.sender, before))
    return hops


def by_line(chain: Sequence[Hop]) -> list[Line]:
    """Return the lines of a chain, those with the most hops first."""
    lines: dict[Place | None, list[Hop]] = {}
    for hop in chain:
        lines.setdefault(hop.origin.place if hop.origin else None, []).append(hop)
    found = [Line(place, tuple(hops)) for place, hops in lines.items()]
    return sorted(found, key=lambda line: (-len(line.hops), *_order(line.place)))


def _order(place: Place | None) -> tuple[str, int]:
    return (place.file, place.line) if place else ("", 0)

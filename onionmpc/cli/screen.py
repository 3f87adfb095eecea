"""The agreement as a person reads it before saying yes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from onionmpc.levels import Level
from onionmpc.program.code.catalogue import ProgramFile, digest_of_files
from onionmpc.program.process.stuck import describe, likely_cause
from onionmpc.program.rehearsal import Hops
from onionmpc.program.spec import NO_WALLS, Walls
from onionmpc.session.agreement import Agreement, PartyTerms, roster_fingerprint, session_id
from onionmpc.session.events import ProgramsStuck
from onionmpc.text import duration, printable
from onionmpc.wire.records import CELL_BYTES, FILLED_RECORD_BYTES

WIDTH = 13
# What parties say of themselves must not push the rest off the screen.
MAX_DIFFERENCES = 8
MAX_DIFFERENCE = 300
STUCK_PARTIES = 25  # as many lines are read


def agreement_lines(
    agreement: Agreement,
    own_number: int,
    private_arguments: int,
    takes: str = "",
    *,
    by_invite: bool,
    walls: Walls = NO_WALLS,
    allow_subprocess: bool = False,
) -> Iterator[str]:
    """Yield the lines of the screen.

    Args:
        private_arguments: how many arguments stay with this party.
        takes: how long it will take, in words, if that is known.
        by_invite: whether a host told us who the others are.
        walls: what keeps this party's program in.
        allow_subprocess: whether it may start processes.
    """
    common = agreement.common
    parties, readers = len(common.addresses), common.threshold + 1
    files = [ProgramFile(path, bytes.fromhex(digest)) for path, digest in common.files.items()]
    count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
    yield line("program", f"{printable(common.program)} ({count}, SHA-256 {digest_of_files(files).hex()[:16]}…)")
    if common.public_arguments:
        yield line("arguments", " ".join(printable(argument) for argument in common.public_arguments))
    if private_arguments:
        yield line(
            "yours alone", f"{private_arguments} argument{'s' if private_arguments > 1 else ''}, not sent to anyone"
        )
    yield line("parties", f"{parties}, in this order:")
    for number, (address, own) in enumerate(zip(common.addresses, agreement.own, strict=True)):
        you = " (you)" if number == own_number else ""
        words = f"{number}  {address}  circuits {own.circuit_length.value}"
        if own.min_circuit_length is not Level.STANDARD:
            words += f", accepts {own.min_circuit_length.value}"
        if own.max_circuits < common.circuits and not common.padding_rate:
            words += f", {own.max_circuits} a link at most"
        if own.circuit_length is Level.SHORT:
            words += ", its IP address is SHOWN to all others"
        yield line("", words + you)
    versions = [f"MPyC {common.mpyc_version}", common.python]
    if common.numpy is not None:
        versions.append(f"numpy {common.numpy}")
    yield line("runs on", ", ".join(map(printable, [*versions, *common.mpyc_options])))
    yield from differing_versions(agreement.own)
    if common.allowed_types:
        yield line("may be sent", ", ".join(map(printable, common.allowed_types)))
        yield line("", "classes of the program: any party can have them made of whatever it likes")
    if common.padding_rate:
        # What tor sends for them; a little more goes over the line.
        each_way = (parties - 1) * common.padding_rate * CELL_BYTES / 1000
        what = f"{common.padding_rate} records of {FILLED_RECORD_BYTES} bytes a second on each link, both ways"
        yield line("padding", f"{what}; {each_way:.1f} kB/s out and as much in")
    elif common.circuits > 1:
        what = f"each link is raced over {common.circuits}, where both its parties allow that many"
        yield line("circuits", f"{what}; what is urgent goes over the fastest")
    if common.receipt:
        yield line("receipt", "when all are done, each one signs these terms and a salted digest of its output")
    if takes:
        yield line("takes", takes)
    yield from _walls(walls, allow_subprocess=allow_subprocess)
    yield line("session", f"{session_id(agreement).hex()[:16]}…")
    yield line("roster", roster_fingerprint(common.addresses))
    yield ""
    if common.threshold == 0:
        yield "This hides NOTHING: every single one of these parties can read your input."
    else:
        yield f"Any {readers} of these {parties} addresses together can read your input."
    yield "One person can hold several addresses. The program decides what is revealed: read it first."
    if common.receipt:
        yield "The receipt proves to ANYONE, for ever, that your address took part: you cannot deny it afterwards."
    if by_invite:
        yield "You rely on the host for who the others are: compare the roster line with them by another way."


def differing_versions(owns: Sequence[PartyTerms]) -> Iterator[str]:
    """Yield where parties have other versions of what the program imports."""
    names = sorted({name for own in owns if own.distributions is not msgspec.UNSET for name in own.distributions})
    differing = []
    for name in names:
        parties: dict[str, list[int]] = {}
        for number, own in enumerate(owns):
            parties.setdefault(own.version_of(name) or "none", []).append(number)
        if len(parties) > 1:
            words = (f"{printable(version, 60)} at {', '.join(map(str, them))}" for version, them in parties.items())
            differing.append(f"{printable(name, 60)} differs, by party: {'; '.join(words)}"[:MAX_DIFFERENCE])
    yield from (line("" if place else "libraries", words) for place, words in enumerate(differing[:MAX_DIFFERENCES]))
    if len(differing) > MAX_DIFFERENCES:
        yield line("", f"and {len(differing) - MAX_DIFFERENCES} more")


def _walls(walls: Walls, *, allow_subprocess: bool) -> Iterator[str]:
    first, *others = walls.lines()
    yield line("your walls", first)
    if allow_subprocess:
        others.append("processes: the program may start some, inside the same walls")
    yield from (line("", other) for other in others)


def how_long(agreement: Agreement, hops: Hops, round_trip_s: float | None) -> str:
    """Say how long a session will take, by a dry run of its program.

    Args:
        round_trip_s: that of the slowest link, None if nothing was measured yet.
    """
    common = agreement.common
    if round_trip_s is None:
        round_trip_s = max(own.circuit_length.usual_round_trip_s for own in agreement.own)
        known = "assumed"
    else:
        known = "measured"
    # With padding, what a program says waits for the next record, on each hop.
    seconds = hops.estimate_s(round_trip_s + (2 / common.padding_rate if common.padding_rate else 0))
    return (
        f"about {duration(seconds)}: {hops.count} hops in a dry run, round trip {round_trip_s * 1000:.0f} ms ({known})"
    )


def stuck_lines(event: ProgramsStuck) -> Iterator[str]:
    """Yield what to say of programs that wait for each other."""
    yield "the programs wait for each other, and nothing is on its way between them:"
    yield from (f"  {describe(number, wait)}" for number, wait in enumerate(event.waits[:STUCK_PARTIES]))
    if len(event.waits) > STUCK_PARTIES:
        yield f"  and so do {len(event.waits) - STUCK_PARTIES} more"
    yield f"  {likely_cause(event.waits, event.own_number)}"
    yield f"  if none of them moves, this party ends the session in {duration(event.ends_in_s)} (--patience)"


def line(name: str, value: str) -> str:
    """Return one line of such a screen: what it is about, and what is to be said of it."""
    return f"  {name:<{WIDTH}}{value}"

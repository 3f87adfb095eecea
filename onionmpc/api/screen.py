"""The agreement in words, which the user reads before consenting, and other texts of more than a line.

What other parties state is escaped, so that it is safe to print on a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from onionmpc.levels import Level
from onionmpc.program.code.catalogue import ProgramFile, digest_of_files
from onionmpc.program.describe import AUTHOR_SAYS
from onionmpc.program.process.stuck import describe_wait, likely_cause
from onionmpc.program.spec import NO_WALLS, Walls
from onionmpc.session.agreed_options import AGREED_OPTIONS
from onionmpc.session.agreement import (
    Agreement,
    PartyTerms,
    SharedTerms,
    link_limit,
    roster_fingerprint,
    session_id,
)
from onionmpc.session.estimates import Case
from onionmpc.session.events import ProgramsStuck
from onionmpc.text import duration, printable

WIDTH = 13
# The screen shows the arguments near the top, with the program, and all other options below the versions.
OTHER_OPTIONS = tuple(option.term for option in AGREED_OPTIONS if option.term != "public_arguments")
# Parties state their own versions: a hostile list must not push the rest off the screen.
MAX_DIFFERENCES = 8
MAX_DIFFERENCE = 300
MAX_REVEALS = 300
STUCK_PARTIES = 25  # people do not read more lines


def agreement_lines(
    agreement: Agreement,
    own_number: int,
    private_arguments: int,
    takes: str = "",
    *,
    title: str = "",
    reveals: str = "",
    unusual: Sequence[str] = (),
    by_invite: bool,
    walls: Walls = NO_WALLS,
    allow_subprocess: bool = False,
) -> Iterator[str]:
    """Yield the lines of the screen.

    Args:
        private_arguments: how many arguments stay at this party.
        takes: how long the session will take, in words, if that is known.
        title, reveals: what the program's author says that it is, and what it reveals to whom.
        unusual: a sentence for each public argument beyond a soft bound.
        by_invite: whether a host named the other parties.
        walls: the protections of this party's program process.
        allow_subprocess: whether the program may start processes.
    """
    common = agreement.common
    yield from _program(common, title, reveals)
    yield from _options(common, "public_arguments")
    yield from (line("" if place else "unusual", words) for place, words in enumerate(unusual))
    if private_arguments:
        yield line("yours alone", f"{_count(private_arguments, 'argument')}, not sent to anyone")
    yield from _parties(agreement, own_number)
    yield from _versions(common)
    yield from differing_versions(agreement.own)
    yield from _options(common)
    if takes:
        yield line("takes", takes)
    yield from _walls(walls, allow_subprocess=allow_subprocess)
    yield line("session", f"{session_id(agreement).hex()[:16]}…")
    yield line("roster", roster_fingerprint(common.addresses))
    yield ""
    yield from _warnings(common, by_invite=by_invite)


def _program(common: SharedTerms, title: str, reveals: str) -> Iterator[str]:
    files = [ProgramFile(path, bytes.fromhex(digest)) for path, digest in common.files.items()]
    digest = digest_of_files(files).hex()[:16]
    yield line("program", f"{printable(common.program)} ({_count(len(files), 'file')}, SHA-256 {digest}…)")
    if title:
        yield line("", printable(title))
    if reveals:
        yield line("", f"{AUTHOR_SAYS} {printable(reveals, MAX_REVEALS)}")


def _options(common: SharedTerms, *first: str) -> Iterator[str]:
    """Yield the lines of the named options, or of all that are not shown elsewhere."""
    for option in AGREED_OPTIONS:
        if option.term in (first or OTHER_OPTIONS):
            yield from (line(*words) for words in option.shown(common))


def _parties(agreement: Agreement, own_number: int) -> Iterator[str]:
    yield line("parties", f"{len(agreement.own)}, in this order:")
    for number, (address, own) in enumerate(zip(agreement.common.addresses, agreement.own, strict=True)):
        words = [f"{number}  {address}  level {own.circuit_length.value}"]
        if own.min_circuit_length is not Level.STANDARD:
            words.append(f"minimum {own.min_circuit_length.value}")
        if limit := link_limit(agreement.common, own):
            words.append(limit)
        if own.circuit_length is Level.SHORT:
            words.append("its IP address is SHOWN to all others")
        yield line("", ", ".join(words) + (" (you)" if number == own_number else ""))


def _versions(common: SharedTerms) -> Iterator[str]:
    versions = [f"MPyC {common.mpyc_version}", common.python]
    if common.numpy is not None:
        versions.append(f"numpy {common.numpy}")
    yield line("runs on", ", ".join(map(printable, versions)))


def _warnings(common: SharedTerms, *, by_invite: bool) -> Iterator[str]:
    parties, readers = len(common.addresses), common.threshold + 1
    if common.threshold == 0:
        yield "This hides NOTHING: each of these parties alone can read your input."
    else:
        yield f"Any {readers} of these {parties} addresses together can read your input."
    yield "One person can hold several addresses. The program decides what is revealed: read it first."
    if common.receipt:
        yield "The receipt PERMANENTLY proves to anyone that your address took part: you cannot deny it later."
    if by_invite:
        yield "The host told you who the others are. Compare the roster line with them over another channel."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def differing_versions(owns: Sequence[PartyTerms]) -> Iterator[str]:
    """Yield a line for each distribution that the program imports in different versions at two parties."""
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


def how_long(agreement: Agreement, round_trip_s: float | None) -> str:
    """Say how long a session will take, from a dry run of its program; return "" if none was made.

    Args:
        round_trip_s: the round trip of the slowest link, None if none was measured yet.
    """
    common = agreement.common
    hops = Case.of(common).recall()
    if hops is None:
        return ""
    if round_trip_s is None:
        round_trip_s = max(own.circuit_length.usual_round_trip_s for own in agreement.own)
        known = "assumed"
    else:
        known = "measured"
    # With padding, data waits for the next record: up to 1/R on each hop, so up to 2/R in a round trip.
    seconds = hops.estimate_s(round_trip_s + (2 / common.padding_rate if common.padding_rate else 0))
    return (
        f"about {duration(seconds)}: {hops.count} hops in a dry run, round trip {round_trip_s * 1000:.0f} ms ({known})"
    )


def stuck_lines(event: ProgramsStuck) -> Iterator[str]:
    """Yield the lines about programs that wait for each other."""
    yield "the programs are waiting for each other, and no data is on its way between them:"
    yield from (f"  {describe_wait(number, wait)}" for number, wait in enumerate(event.waits[:STUCK_PARTIES]))
    if len(event.waits) > STUCK_PARTIES:
        yield f"  and so do {len(event.waits) - STUCK_PARTIES} more"
    yield f"  {likely_cause(event.waits, event.own_number)}"
    yield f"  if none of them continues, this party ends the session in {duration(event.ends_in_s)} (--patience)"


def line(name: str, value: str) -> str:
    """Return one line of such a screen: a label and its text."""
    return f"  {name:<{WIDTH}}{value}"

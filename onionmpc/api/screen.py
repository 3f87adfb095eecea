"""The agreement in words, which the user reads before consenting, and other texts of more than a line.

What other parties state is escaped, so that it is safe to print on a terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.names.standing import Seat, sentences
from onionmpc.program.describe import AUTHOR_SAYS
from onionmpc.program.process.stuck import describe_wait, likely_cause
from onionmpc.program.spec import NO_WALLS, Walls
from onionmpc.session.agreed_options import AGREED_OPTIONS
from onionmpc.session.agreement import (
    Agreement,
    PartyTerms,
    SharedTerms,
    link_limit,
    session_id,
)
from onionmpc.session.differences import Exposure
from onionmpc.session.estimates import Case
from onionmpc.session.events import ProgramsStuck
from onionmpc.session.roster_words import roster_fingerprint, roster_lines
from onionmpc.text import duration, printable

WIDTH = 13
# The screen shows the arguments near the top, with the program, and all other options below the versions.
OTHER_OPTIONS = tuple(option.term for option in AGREED_OPTIONS if option.term != "public_arguments")
# Parties state their own versions: a hostile list must not push the rest off the screen.
MAX_DIFFERENCES = 8
MAX_DIFFERENCE = 300
MAX_REVEALS = 300
STUCK_PARTIES = 25  # people do not read more lines
MAX_EXPOSED = 25
MAX_EXPOSURES = 5
MAX_LISTED = 4


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
    computation: int = 1,
    before: SharedTerms | None = None,
    exposes: Sequence[Exposure] = (),
    seats: Sequence[Seat] = (),
    names: Mapping[Onion, str] | None = None,
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
        computation: which computation of the session it is.
        before: the shared terms of the computation before this one.
        exposes: whose inputs the result may expose, together with earlier ones.
        seats: what each other party is to this user.
        names: this user's own names for addresses, those of parties that have left among them.
    """
    common = agreement.common
    yield from _program(common, title, reveals)
    yield from _options(common, "public_arguments")
    yield from named_lines("unusual", unusual)
    if private_arguments:
        yield line("yours alone", f"{_count(private_arguments, 'argument')}, not sent to anyone")
    yield from _parties(agreement, own_number, before, {seat.number: seat for seat in seats})
    if before is not None:
        yield from _gone(common, before, computation - 1, names or {})
    yield from _versions(common)
    yield from differing_versions(agreement.own)
    yield from _options(common)
    if takes:
        yield line("takes", takes)
    yield from _walls(walls, allow_subprocess=allow_subprocess)
    yield line("session", f"{session_id(agreement).hex()[:16]}…")
    yield from named_lines("roster", roster_lines(roster_fingerprint(common.addresses)))
    yield ""
    yield from _warnings(common, seats, by_invite=by_invite)
    yield from _exposures(common, exposes, names or {})


def _program(common: SharedTerms, title: str, reveals: str) -> Iterator[str]:
    files, digest = _count(len(common.files), "file"), common.program_digest.hex()[:16]
    yield line("program", f"{printable(common.program)} ({files}, SHA-256 {digest}…)")
    if title:
        yield line("", printable(title))
    if reveals:
        yield line("", f"{AUTHOR_SAYS} {printable(reveals, MAX_REVEALS)}")


def _options(common: SharedTerms, *first: str) -> Iterator[str]:
    """Yield the lines of the named options, or of all that are not shown elsewhere."""
    for option in AGREED_OPTIONS:
        if option.term in (first or OTHER_OPTIONS):
            yield from (line(*words) for words in option.shown(common))


def _parties(
    agreement: Agreement, own_number: int, before: SharedTerms | None, seats: Mapping[int, Seat]
) -> Iterator[str]:
    yield line("parties", f"{len(agreement.own)}, in this order:")
    for number, (address, own) in enumerate(zip(agreement.common.addresses, agreement.own, strict=True)):
        seat = seats.get(number)
        name = ", ".join(printable(each, 60) for each in seat.names) if seat else ""
        words = [f"{number}  {address}  {name}{'  ' if name else ''}level {own.circuit_length.value}"]
        if own.min_circuit_length is not Level.STANDARD:
            words.append(f"minimum {own.min_circuit_length.value}")
        if limit := link_limit(agreement.common, own):
            words.append(limit)
        if own.circuit_length is Level.SHORT:
            words.append("its IP address is SHOWN to all others")
        if before is not None and (address not in before.addresses or before.addresses.index(address) != number):
            words.append(f"was party {before.addresses.index(address)}" if address in before.addresses else "new")
        first, *others = seat_words(seat) if seat else [""]
        if first:
            words.append(first)
        yield line("", ", ".join(words) + (" (you)" if number == own_number else ""))
        yield from (line("", f"   {other}") for other in others)


def seat_words(seat: Seat) -> list[str]:
    """Say what a party is and how it is known. The first is short, for the line that has its address."""
    first, *others = seat.words
    return [f"{seat.standing.value}: {first}", *others]


def _gone(common: SharedTerms, before: SharedTerms, last: int, names: Mapping[Onion, str]) -> Iterator[str]:
    """Yield a line for each party that took part in the last computation only."""
    for address in before.addresses:
        if address not in common.addresses:
            yield line("", f"-  {called(Onion(address), names)}  took part in computation {last}, not in this one")


def called(onion: Onion, names: Mapping[Onion, str]) -> str:
    """Return an address, and this user's own name for it."""
    name = names.get(onion)
    return onion if name is None else f"{onion}  {name}"


def _versions(common: SharedTerms) -> Iterator[str]:
    versions = [f"MPyC {common.mpyc_version}", common.python]
    if common.numpy is not None:
        versions.append(f"numpy {common.numpy}")
    yield line("runs on", ", ".join(map(printable, versions)))


def _warnings(common: SharedTerms, seats: Sequence[Seat], *, by_invite: bool) -> Iterator[str]:
    parties, readers = len(common.addresses), common.threshold + 1
    if common.threshold == 0:
        yield "This hides NOTHING: each of these parties alone can read your input."
    else:
        yield f"Any {readers} of these {parties} addresses together can read your input."
    about_seats = list(sentences(seats, common.threshold)) if common.threshold else []
    yield from about_seats or ["One person can hold several addresses."]
    yield "The program decides what is revealed: read it first."
    if common.receipt:
        yield "The receipt PERMANENTLY proves to anyone that your address took part: you cannot deny it later."
    if by_invite:
        yield "The host told you who the others are. Compare the roster by telephone."


def _exposures(common: SharedTerms, exposes: Sequence[Exposure], names: Mapping[Onion, str]) -> Iterator[str]:
    for exposure in exposes[:MAX_EXPOSURES]:
        computations = _listed(exposure.computations, "computation")
        whose = "this address" if len(exposure.onions) == 1 else "these addresses"
        yield f"With the result of {computations}, this one may EXPOSE what {whose} gave:"
        for onion in exposure.onions[:MAX_EXPOSED]:
            if onion in common.addresses:
                yield f"  {called(onion, names)} (party {common.addresses.index(onion)}), which takes part only now"
            else:
                yield f"  {called(onion, names)}, which took part in {computations}, not in this one"
        if len(exposure.onions) > MAX_EXPOSED:
            yield f"  and {len(exposure.onions) - MAX_EXPOSED} more"
        if exposure.same_program:
            yield "  The program is the same: the difference of two sums or averages is what they gave."
        if exposure.same_input:
            yield "  You give the same input as then: a result that differs may show what they gave."
    if len(exposes) > MAX_EXPOSURES:
        numbers = sorted({number for exposure in exposes[MAX_EXPOSURES:] for number in exposure.computations})
        yield f"With the result of {_listed(numbers, 'computation')}, it may EXPOSE others as well."


def policy_lines(file: str, policy: str, rule: int, digest: str) -> Iterator[str]:
    """Yield the lines that say which rule consents.

    Args:
        policy, digest: SHA-256 of the policy and of the rule, in hex.
    """
    yield f"Rule {rule} of {file} allows this."
    yield f"  SHA-256 of the rule {digest}"
    yield f"  SHA-256 of the policy {policy}"


def exposed_parties(exposure: Exposure) -> str:
    """Name the parties that the results expose, in a few words."""
    first, *others = exposure.onions
    return f"{first} and {len(others)} more" if others else first


def _listed(numbers: Sequence[int], what: str) -> str:
    """Return "computation 1", "computations 1 and 2", or "computations 1, 2, 3 and 7 more"."""
    if len(numbers) == 1:
        return f"{what} {numbers[0]}"
    last = str(numbers[-1]) if len(numbers) <= MAX_LISTED else f"{len(numbers) - MAX_LISTED + 1} more"
    return f"{what}s {', '.join(map(str, numbers[:-1][: MAX_LISTED - 1]))} and {last}"


def changed_labels(common: SharedTerms, before: SharedTerms) -> Iterator[str]:
    """Yield the label of each term that has changed, even if its line looks the same because it is cut."""
    if (common.program, common.files) != (before.program, before.files):
        yield "program"
    for option in AGREED_OPTIONS:
        if getattr(common, option.term) != getattr(before, option.term):
            yield from (label for label, _ in option.shown(common) if label)


def mark_changes(lines: Sequence[str], before: Sequence[str], changed: Collection[str], last: int) -> Iterator[str]:
    """Yield the lines of a screen with a mark at each one that is not on the screen before it.

    Args:
        before: the screen of the last computation.
        changed: labels of lines that have changed in any case.
        last: the number of that computation.
    """
    yield f"* marks each line that differs from computation {last}"
    terms, old_terms = lines[: lines.index("")], before[: before.index("")]
    labels = {"", *map(_label, terms)}
    for each in terms:
        label = _label(each)
        # A session id is new each time: a mark there says nothing.
        same = label == "session" or (each in before and label not in changed)
        yield each if same else f"*{each[1:]}"
    for each in old_terms:
        if _label(each) not in labels:
            yield f"*{line(_label(each), f'no longer: {each[2 + WIDTH :]}')[1:]}"
    for each in lines[len(terms) :]:
        yield each if each in before or not each else f"* {each}"


def _label(shown: str) -> str:
    return shown[2 : 2 + WIDTH].strip()


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


def named_lines(name: str, values: Sequence[str]) -> Iterator[str]:
    """Yield such lines of one label, which the first of them shows."""
    yield from (line("" if place else name, value) for place, value in enumerate(values))


def line(name: str, value: str) -> str:
    """Return one line of such a screen: a label and its text."""
    return f"  {name:<{WIDTH}}{value}"

"""Says whether a policy allows an agreement, and if not, which rule comes nearest and what fails in it.

Pure: the agreement, what this party knows of the others, the counted runs and the time come in as `Facts`.
What a rule does not name must have onionmpc's default: the options are taken from AGREED_OPTIONS, and a term that is
neither an option nor listed here must have its default too. So a new option is refused until a key allows it.
Rules: docs/reference/policy.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from onionmpc.names.standing import Seat, Standing
from onionmpc.session.agreed_options import AGREED_OPTIONS, AgreedOption
from onionmpc.session.agreement import Agreement, PartyTerms, SharedTerms
from onionmpc.session.policy import PolicyRules, Rule
from onionmpc.session.policy_runs import Run
from onionmpc.text import printable

# Terms that no key names, since they need no rule: what this party has itself, and has compared with the others.
COMPARED_TERMS = frozenset({"protocol", "mpyc_version", "python", "numpy"})
# Terms that are no options, and that the checks below judge. Seats say what `uninvited` means to this party.
JUDGED_TERMS = frozenset({"addresses", "program", "files", "uninvited"})
# What a party states about itself and cannot harm another one: what it accepts of others, its own limit for a link, its
# versions (a program can ask for equal ones), and the digest of its evidence, whose meaning the seats tell.
HARMLESS_TERMS = frozenset({"min_circuit_length", "max_circuits", "distributions", "evidence"})
MAX_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Facts:
    """What a policy is asked about.

    Attributes:
        seats: the other parties, as this party knows them.
        runs: all counted runs, from the first to the last.
        now: the time, in UTC.
        reviewers: who has signed each review of this program, by the review's file as the policy names it. Reviews that
            prove nothing are left out.
        places: the resolved path of each input file, by the file as the policy names it.
        has_private: whether this party's program gets private arguments.
        private_files: the resolved path of each file that these name.
    """

    agreement: Agreement
    seats: tuple[Seat, ...]
    runs: tuple[Run, ...]
    now: datetime
    reviewers: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    has_private: bool = False
    private_files: tuple[str, ...] = ()

    @property
    def common(self) -> SharedTerms:
        """The terms that are equal at all parties."""
        return self.agreement.common

    @property
    def program(self) -> str:
        """The digest of the program, in hex."""
        return self.common.program_digest.hex()

    @property
    def roster(self) -> tuple[str, ...]:
        """A label of each other party, sorted: its name if it is known by one, else its address."""
        return tuple(sorted(label(seat) for seat in self.seats))

    def files_of(self, rule: Rule) -> tuple[str, ...]:
        """Return the path of each file that the program gets under a rule."""
        return tuple(sorted({*(self.places[file] for file in rule.files), *self.private_files}))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a rule does not allow something.

    Attributes:
        key: the key of the rule that fails, or the name of a term that no key allows.
        words: what was seen and what the rule expects. Safe to print, but for this party's own user only.
    """

    key: str
    words: str

    def __str__(self) -> str:
        """Return both."""
        return f"{self.key}: {self.words}"


@dataclass(frozen=True, slots=True)
class RuleAllows:
    """A rule allows it.

    Attributes:
        number: the rule's number in the policy, from 1.
    """

    number: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class NoRuleAllows:
    """No rule allows it.

    Attributes:
        number, rule: the nearest rule: one for this program if there is one, with the fewest failures.
        failures: all that fails in it.
    """

    number: int
    rule: Rule
    failures: tuple[Failure, ...]


def decide(policy: PolicyRules, facts: Facts) -> RuleAllows | NoRuleAllows:
    """Return the first rule that allows what is proposed, or the nearest one."""
    refusals = []
    for number, rule in enumerate(policy.rules, start=1):
        failures = tuple(failures_of(rule, facts))
        if not failures:
            return RuleAllows(number, rule)
        refusals.append(NoRuleAllows(number, rule, failures))
    return min(refusals, key=_distance)


def _distance(refusal: NoRuleAllows) -> tuple[bool, int]:
    about_program = any(failure.key in ("program", "reviewed_by") for failure in refusal.failures)
    return about_program, len(refusal.failures)


def label(seat: Seat) -> str:
    """Return what tells a party from others in the count of runs."""
    return seat.names[0].casefold() if seat.names else seat.onion


def counts_against(run: Run, rule: Rule, programs: Collection[str], files: Collection[str]) -> bool:
    """Return whether a run counts against a rule: the same rule allowed it, or a program of these ran over such a file.

    Args:
        programs: the digests of the programs in question, in hex.
        files: the resolved paths of the files that they get.
    """
    return run.rule == rule.digest or (run.program in programs and not set(files).isdisjoint(run.files))


def failures_of(rule: Rule, facts: Facts) -> Iterator[Failure]:
    """Yield all that fails in a rule, in the order in which its user thinks of it."""
    yield from _program(rule, facts)
    yield from _options(rule, facts)
    yield from _parties(rule, facts)
    yield from _levels(rule, facts)
    yield from _inputs(rule, facts)
    yield from _runs(rule, facts)
    yield from _unknown_terms(facts)


# -- the program


def _program(rule: Rule, facts: Facts) -> Iterator[Failure]:
    program = f"sha256:{facts.program}"
    shown = f"{printable(facts.common.program, 60)} is {program}"
    if rule.program:
        if program not in rule.program:
            yield Failure("program", f"{shown}, which the rule does not name")
        return
    signed = {facts.reviewers[review] for review in rule.reviews if review in facts.reviewers}
    found = sorted(signed & set(rule.reviewed_by))
    if len(found) < rule.needed:
        by = f"a valid review of {' and '.join(found)} alone" if found else "no valid review of anyone named"
        yield Failure("reviewed_by", f"{shown}, and has {by}, expected {rule.needed} of {', '.join(rule.reviewed_by)}")


# -- the options that all parties agree on


OptionCheck = Callable[[Rule, SharedTerms], Iterator[Failure]]


def _options(rule: Rule, facts: Facts) -> Iterator[Failure]:
    for option in AGREED_OPTIONS:
        check = OPTION_CHECKS.get(option.term)
        yield from must_be_equal(option, rule, facts.common) if check is None else check(rule, facts.common)


def must_be_equal(option: AgreedOption, rule: Rule, common: SharedTerms) -> Iterator[Failure]:
    """Check an option of which a rule gives one value, by a key that has the name of the wish; or no key names it."""
    value, has_key = getattr(common, option.term), option.wish in Rule.__struct_fields__
    expected = getattr(rule, option.wish) if has_key else option.default(len(common.addresses))
    if value != expected:
        what = f"expected {_show(expected)}" if has_key else f"and no key allows another value than {_show(expected)}"
        yield Failure(option.wish if has_key else option.name, f"{_show(value)}, {what}")


def _threshold(rule: Rule, common: SharedTerms) -> Iterator[Failure]:
    least = _default("threshold", common) if rule.min_threshold is None else rule.min_threshold
    if common.threshold < least:
        yield Failure("min_threshold", f"the threshold is {common.threshold}, expected at least {least}")


def _public(rule: Rule, common: SharedTerms) -> Iterator[Failure]:
    given = common.public_arguments
    if len(given) != len(rule.public) or not all(map(fnmatchcase, given, rule.public)):
        yield Failure("public", f"the public arguments are {_show(given)}, expected {_show(rule.public)}")


def _mpyc(rule: Rule, common: SharedTerms) -> Iterator[Failure]:
    expected = _default("mpyc_options", common) if rule.mpyc is None else tuple(sorted(rule.mpyc))
    if common.mpyc_options != expected:
        yield Failure("mpyc", f"the MPyC options are {_show(common.mpyc_options)}, expected {_show(expected)}")


def _types(rule: Rule, common: SharedTerms) -> Iterator[Failure]:
    if further := [name for name in common.allowed_types if name not in rule.allow_type]:
        yield Failure("allow_type", f"parties may send {_show(further)}, which the rule does not name")


def _receipt(rule: Rule, common: SharedTerms) -> Iterator[Failure]:
    if rule.receipt == ("never" if common.receipt else "always"):
        yield Failure("receipt", f"there is {'one' if common.receipt else 'none'}, expected {rule.receipt}")


# Those with another meaning than one value.
OPTION_CHECKS: Mapping[str, OptionCheck] = {
    "threshold": _threshold,
    "public_arguments": _public,
    "mpyc_options": _mpyc,
    "allowed_types": _types,
    "receipt": _receipt,
}


def _default(term: str, common: SharedTerms) -> Any:  # noqa: ANN401 (an option's value)
    (option,) = (option for option in AGREED_OPTIONS if option.term == term)
    return option.default(len(common.addresses))


# -- the parties


def _parties(rule: Rule, facts: Facts) -> Iterator[Failure]:
    least, most = rule.seats
    parties = len(facts.common.addresses)
    if not least <= parties <= most:
        yield Failure("seats", f"{parties} parties, expected {least} to {most}")
    by_standing = {standing: [seat for seat in facts.seats if seat.standing is standing] for standing in Standing}
    known = by_standing[Standing.KNOWN]
    names = {name.casefold() for name in rule.parties.names}
    if names and (unnamed := [seat for seat in known if names.isdisjoint(_called(seat))]):
        yield Failure("parties.names", f"{_listed(unnamed)} {_are(unnamed)} known, but not by a name of the rule")
    if (people := _different(known)) < rule.parties.min_known:
        yield Failure("parties.min_known", f"{people} different parties are known, expected {rule.parties.min_known}")
    for key, standing, most_allowed in (
        ("max_vouched", Standing.VOUCHED, rule.parties.max_vouched),
        ("max_introduced", Standing.INTRODUCED, rule.parties.max_introduced),
        ("max_strangers", Standing.STRANGER, rule.parties.max_strangers),
    ):
        found = by_standing[standing]
        if len(found) > most_allowed:
            what = f"{len(found)} ({_listed(found)}), expected {most_allowed} at most"
            yield Failure(f"parties.{key}", what)


def _called(seat: Seat) -> set[str]:
    return {*(name.casefold() for name in seat.names), seat.onion}


def _different(seats: Sequence[Seat]) -> int:
    """Return how many people hold these seats: seats that share a name are one person's."""
    people: list[set[str]] = []
    for seat in seats:
        called = _called(seat)
        same = [names for names in people if names & called]
        people = [names for names in people if not names & called] + [called.union(*same)]
    return len(people)


def _levels(rule: Rule, facts: Facts) -> Iterator[Failure]:
    for number, own in enumerate(facts.agreement.own):
        if own.circuit_length < rule.min_circuit_length:
            level, least = own.circuit_length.value, rule.min_circuit_length.value
            yield Failure("min_circuit_length", f"party {number} uses {level}, expected {least} or longer")
            return


# -- inputs, and how often


def _inputs(rule: Rule, facts: Facts) -> Iterator[Failure]:
    if rule.files and facts.has_private:
        yield Failure(
            "inputs" if rule.inputs else "stdin", "private arguments take the place of inputs: leave them out"
        )
    if facts.private_files and rule.max_runs is None:
        yield Failure("max_runs", "a private argument names a file, and only a rule with max_runs allows that")


def _runs(rule: Rule, facts: Facts) -> Iterator[Failure]:
    if rule.limit is None:
        return
    most, window = rule.limit
    programs, files = {facts.program}, facts.files_of(rule)
    counted = [run for run in facts.runs if counts_against(run, rule, programs, files)]
    recent = [run for run in counted if facts.now - run.at < window]
    if len(recent) >= most:
        again = recent[-most].at + window
        runs = "1 run counts" if len(recent) == 1 else f"{len(recent)} runs count"
        yield Failure(
            "max_runs",
            f"{runs}, the last at {moment(recent[-1].at)}, and {rule.max_runs} allows the next at {moment(again)}",
        )
    if rule.same_roster and counted and counted[0].roster != facts.roster:
        before, now = set(counted[0].roster), set(facts.roster)
        changes = [
            *(f"without {name}" for name in sorted(before - now)),
            *(f"with {name}" for name in sorted(now - before)),
        ]
        what = ", ".join(changes[:4]) or "with other numbers of seats"
        yield Failure("same_roster", f"the parties differ from the first run at {moment(counted[0].at)}: {what}")


# -- what no key is about


def _unknown_terms(facts: Facts) -> Iterator[Failure]:
    yield from terms_beyond(COMPARED_TERMS | JUDGED_TERMS | {option.term for option in AGREED_OPTIONS}, facts.common)
    for own in facts.agreement.own:
        yield from terms_beyond(HARMLESS_TERMS | {"circuit_length"}, own)


def terms_beyond(known: frozenset[str], terms: SharedTerms | PartyTerms) -> Iterator[Failure]:
    """Yield each term that is not among the known ones and has not its default."""
    for one in msgspec.structs.fields(terms):
        value = getattr(terms, one.name)
        if one.name not in known and value != one.default:
            yield Failure(one.name, f"{_show(value)}, and no key allows another value than the default")


def moment(at: datetime) -> str:
    """Return a time in words."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _are(seats: Sequence[Seat]) -> str:
    return "is" if len(seats) == 1 else "are"


def _listed(seats: Sequence[Seat]) -> str:
    numbers = [f"{seat.number}{f' ({seat.names[0]})' if seat.names else ''}" for seat in seats]
    return f"{'party' if len(seats) == 1 else 'parties'} {', '.join(numbers)}"


def _show(value: object) -> str:
    if isinstance(value, tuple | list):
        return printable(" ".join(map(str, value)), MAX_SHOWN) if value else "none"
    return printable(str(value), MAX_SHOWN)

"""Policies: the rules by which a party consents without a person, read from TOML.

Knows every key, and which keys go together. Does not know files, clocks or agreements: onionmpc.session.policy_decision
says what a policy allows. Keys: docs/reference/policy.md.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec

from onionmpc.errors import UsageError
from onionmpc.levels import Level
from onionmpc.program.spec import MAX_PARTIES
from onionmpc.session.agreed_options import default_threshold
from onionmpc.session.agreement import DEFAULT_CIRCUITS, MAX_CIRCUITS, MAX_PADDING_RATE
from onionmpc.session.local import check_mpyc_options
from onionmpc.text import printable
from onionmpc.toml_lines import Mistake, NotTOML, line_of, read_toml

RULE_LABEL = b"onionmpc/1 policy rule"
# A mistake is located by parsing the policy once for each of its lines.
MAX_POLICY_BYTES = 2**15
MAX_POLICY_LINES = 500
MAX_RULES = 50
MAX_IN_A_LIST = 100
MAX_WINDOW = timedelta(days=3660)
POLICY_VERSION = 1

_RUNS = re.compile(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PLACE = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")

ProgramDigest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,254}\Z")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[^\0]{1,4095}\Z")]
GivenFile = Annotated[str, msgspec.Meta(pattern=r"^@[^\0]{1,4095}\Z")]
Argument = Annotated[str, msgspec.Meta(max_length=4096)]
Parties = Annotated[int, msgspec.Meta(ge=2, le=MAX_PARTIES)]
Others = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTIES)]
# What each key takes, for messages. They repeat the types below.
EXPECTED = {
    "version": "1",
    "allow": f"1 to {MAX_RULES} rules, each written [[allow]]",
    "program": 'program digests, as in ["sha256:..."] with 64 hexadecimal digits (onionmpc programs show prints them)',
    "reviewed_by": "names from your list of SSH keys (onionmpc trust)",
    "reviews": "files of signed statements",
    "reviews_needed": "a whole number from 1",
    "public": "a list with a pattern for each public argument",
    "mpyc": "MPyC options, as for --mpyc",
    "allow_type": "classes of the program, as for --allow-type",
    "padding": f"a whole number from 0 to {MAX_PADDING_RATE}",
    "circuits": f"a whole number from 1 to {MAX_CIRCUITS}",
    "receipt": '"never", "always" or "any"',
    "seats": f"the least and the largest number of parties, as in [3, 7], from 2 to {MAX_PARTIES}",
    "min_threshold": f"a whole number from 0 to {default_threshold(MAX_PARTIES)}",
    "min_circuit_length": '"short", "standard" or "long"',
    "parties": "a table, as in {names = [...], min_known = 3}",
    "names": "names of contacts or from your trust files, or addresses",
    "min_known": f"a whole number from 0 to {MAX_PARTIES - 1}",
    "max_vouched": f"a whole number from 0 to {MAX_PARTIES - 1}",
    "max_introduced": f"a whole number from 0 to {MAX_PARTIES - 1}",
    "max_strangers": f"a whole number from 0 to {MAX_PARTIES - 1}",
    "inputs": 'a table of files by the names of inputs, as in {salary = "@/data/q.csv"}',
    "stdin": 'a file, as in "@/data/q.csv"',
    "max_runs": 'how many runs in which time, as in "1/30d" (s, m, h or d; at most 999 runs in 3660 days)',
    "same_roster": "true or false",
}


class PartiesRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which other parties a rule accepts. This party itself never counts.

    Attributes:
        names: those that known parties must be among; any if empty.
        min_known: the least number of different known parties.
        max_vouched, max_introduced, max_strangers: the largest number of seats of each other standing.
    """

    names: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_IN_A_LIST)] = ()
    min_known: Others = 0
    max_vouched: Others = 0
    max_introduced: Others = 0
    max_strangers: Others = 0


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule. What it does not name must have onionmpc's default.

    Attributes:
        program: digests of the programs that it allows; empty if reviewers say which.
        reviewed_by: who must have reviewed the program, by their names in this user's list of SSH keys.
        reviews: files with their signed statements.
        reviews_needed: how many of them; None for all.
        public: a pattern for each public argument, in order.
        mpyc: the MPyC options; None for the default.
        min_threshold: None for the default threshold, which is the largest possible.
        seats: the smallest and the largest number of parties.
        inputs: "@" and the file of each private input, by name.
        stdin: "@" and the file that a program without declared inputs reads from standard input.
        max_runs: how many runs in which time; None for any number, which a rule with inputs cannot have.
        same_roster: whether all counted runs must have the same parties as the first.
    """

    program: Annotated[tuple[ProgramDigest, ...], msgspec.Meta(max_length=MAX_IN_A_LIST)] = ()
    reviewed_by: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_IN_A_LIST)] = ()
    reviews: Annotated[tuple[FileName, ...], msgspec.Meta(max_length=MAX_IN_A_LIST)] = ()
    reviews_needed: Annotated[int, msgspec.Meta(ge=1, le=MAX_IN_A_LIST)] | None = None
    public: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=MAX_IN_A_LIST)] = ()
    mpyc: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=MAX_IN_A_LIST)] | None = None
    allow_type: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=MAX_IN_A_LIST)] = ()
    padding: Annotated[int, msgspec.Meta(ge=0, le=MAX_PADDING_RATE)] = 0
    circuits: Annotated[int, msgspec.Meta(ge=1, le=MAX_CIRCUITS)] = DEFAULT_CIRCUITS
    receipt: Literal["never", "always", "any"] = "never"
    seats: tuple[Parties, Parties] = (3, MAX_PARTIES)
    min_threshold: Annotated[int, msgspec.Meta(ge=0, le=default_threshold(MAX_PARTIES))] | None = None
    min_circuit_length: Level = Level.STANDARD
    parties: PartiesRule = PartiesRule()
    inputs: Annotated[dict[str, GivenFile], msgspec.Meta(max_length=MAX_IN_A_LIST)] = {}
    stdin: GivenFile | None = None
    max_runs: str | None = None
    same_roster: bool = True

    @property
    def digest(self) -> str:
        """The SHA-256 of its content in hex. Comments, order and defaults that are spelt out do not change it."""
        return hashlib.sha256(RULE_LABEL + msgspec.json.encode(_named(self), order="sorted")).hexdigest()

    @property
    def needed(self) -> int:
        """How many reviewers must have signed."""
        return len(self.reviewed_by) if self.reviews_needed is None else self.reviews_needed

    @property
    def files(self) -> tuple[str, ...]:
        """The file of each input, as the policy names it."""
        given = [*self.inputs.values(), *([] if self.stdin is None else [self.stdin])]
        return tuple(file.removeprefix("@") for file in given)

    @property
    def limit(self) -> tuple[int, timedelta] | None:
        """How many runs are allowed within which time; None for any number."""
        return None if self.max_runs is None else parse_max_runs(self.max_runs)


def _named(table: Rule | PartiesRule) -> dict[str, Any]:
    """Return what a table names that is not the default. A key of a later release does not change older digests."""
    usual = type(table)()
    named = {name: value for name in table.__struct_fields__ if (value := getattr(table, name)) != getattr(usual, name)}
    return {name: _named(value) if isinstance(value, PartiesRule) else value for name, value in named.items()}


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    allow: Annotated[tuple[Rule, ...], msgspec.Meta(min_length=1, max_length=MAX_RULES)]


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """A policy: a party consents if one of its rules allows what is proposed.

    Attributes:
        file: what to call it in messages.
        digest: the SHA-256 of the file, in hex.
    """

    file: str
    digest: str
    rules: tuple[Rule, ...]

    @property
    def reviews(self) -> tuple[str, ...]:
        """The file of each review, as the rules name it, once."""
        return tuple(dict.fromkeys(review for rule in self.rules for review in rule.reviews))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of each input, as the rules name it, once."""
        return tuple(dict.fromkeys(file for rule in self.rules for file in rule.files))


def parse_max_runs(text: str) -> tuple[int, timedelta]:
    """Parse a number of runs and a time, as in "1/30d".

    Raises:
        ValueError: it is something else, or more than 3660 days.
    """
    found = _RUNS.fullmatch(text)
    if found is None:
        raise ValueError("not a number of runs and a time")
    window = timedelta(**{_UNITS[found[3]]: int(found[2])})
    if window > MAX_WINDOW:
        raise ValueError("too long a time")
    return int(found[1]), window


def parse_policy(content: bytes, file: str) -> PolicyRules:
    """Read a policy.

    Args:
        file: what to call it in messages.

    Raises:
        UsageError: it breaks a rule. The message names the file, the line, the rule and the key.
    """
    if len(content) > MAX_POLICY_BYTES or content.count(b"\n") > MAX_POLICY_LINES:
        raise UsageError(f"{file} has more than {MAX_POLICY_BYTES} bytes or {MAX_POLICY_LINES} lines")
    try:
        lines = re.split(r"\r?\n", content.decode())
    except UnicodeDecodeError as error:
        place = 1 + content.count(b"\n", 0, error.start)
        raise UsageError(f"{file}, line {place}: the policy is not UTF-8") from error
    try:
        rules = _rules(read_toml(lines))
    except NotTOML as error:
        raise UsageError(f"{file}, line {error.line + 1}: the policy is not TOML: {error.words}") from error
    except Mistake as mistake:
        place = 1 + line_of(lines, mistake.path)
        rule = f"rule {int(mistake.path[1]) + 1}: " if mistake.path[:1] == ("allow",) and mistake.path[1:] else ""
        raise UsageError(f"{file}, line {place}: {rule}{mistake.words}", hint=mistake.hint) from None
    return PolicyRules(file, hashlib.sha256(content).hexdigest(), rules)


def _rules(document: dict[str, Any]) -> tuple[Rule, ...]:
    _check_version(document)
    _check_keys(document)
    try:
        rules = msgspec.convert(document, _Document).allow
    except msgspec.ValidationError as error:
        raise _mistake_of(str(error)) from None
    for place, rule in enumerate(rules):
        _check_rule(rule, ("allow", place))
    return rules


def _check_version(document: dict[str, Any]) -> None:
    version = document.get("version")
    # First, since another version may have other keys. True == 1, and a bool is not a version.
    if version != POLICY_VERSION or isinstance(version, bool):
        words = "the key version is missing" if version is None else "version"
        raise Mistake(("version",), f"{words}: expected version = 1", "a newer release may know a later version")


def _check_keys(document: dict[str, Any]) -> None:
    """Refuse unknown keys, as msgspec does, but with the nearest one as a hint."""
    _check_keys_of(_Document, document, ())
    rules = document.get("allow")
    for place, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict):
            _check_keys_of(Rule, rule, ("allow", place))
            if "same_roster" in rule and "max_runs" not in rule:
                raise Mistake(("allow", place, "same_roster"), "same_roster needs max_runs: it compares counted runs")
            if isinstance(rule.get("parties"), dict):
                _check_keys_of(PartiesRule, rule["parties"], ("allow", place, "parties"))


def _check_keys_of(struct: type[msgspec.Struct], table: dict[str, Any], path: Sequence[str | int]) -> None:
    known = struct.__struct_fields__
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
            raise Mistake((*path, key), f"there is no key {printable(key, 60)}", hint)


def _mistake_of(message: str) -> Mistake:
    """Say what msgspec found in the words of this format."""
    if message.startswith("Object missing"):
        return Mistake((), f"the key allow is missing, expected {EXPECTED['allow']}")
    _, _, place = message.rpartition(" - at `$")
    path: list[str | int] = []
    for name, index in _PLACE.findall(place.removesuffix("`")):
        if index == "...":  # a key or value of a table, which msgspec does not name: the table has the line
            break
        path.append(name or int(index))
    key = next((str(part) for part in reversed(path) if isinstance(part, str)), "allow")
    return Mistake(path, f"{key}: expected {EXPECTED[key]}")


# -- which keys go together


def _check_rule(rule: Rule, path: tuple[str | int, ...]) -> None:
    for key in ("program", "reviewed_by", "reviews"):
        _check_distinct(getattr(rule, key), (*path, key))
    _check_distinct(rule.parties.names, (*path, "parties", "names"))
    _check_program(rule, path)
    _check_counts(rule, path)
    _check_runs(rule, path)
    if rule.mpyc is not None:
        try:
            check_mpyc_options(rule.mpyc)
        except UsageError as error:
            raise Mistake((*path, "mpyc"), f"mpyc: {error.message}", error.hint) from None


def _check_distinct(values: Sequence[str], path: tuple[str | int, ...]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise Mistake(path, f"{path[-1]}: {printable(value, 80)} is listed twice")


def _check_program(rule: Rule, path: tuple[str | int, ...]) -> None:
    if bool(rule.program) == bool(rule.reviewed_by):
        words = "both program and reviewed_by say" if rule.program else "neither program nor reviewed_by says"
        where = (*path, "reviewed_by") if rule.program else path
        raise Mistake(where, f"{words} which programs it allows", "use one of the two keys in each rule")
    if rule.reviewed_by and not rule.reviews:
        raise Mistake((*path, "reviewed_by"), f"reviewed_by needs reviews: expected {EXPECTED['reviews']}")
    for needing, value in (("reviews", rule.reviews), ("reviews_needed", rule.reviews_needed)):
        if value and not rule.reviewed_by:
            raise Mistake((*path, needing), f"{needing} needs reviewed_by: expected {EXPECTED['reviewed_by']}")
    if rule.needed > len(rule.reviewed_by) and rule.reviewed_by:
        raise Mistake(
            (*path, "reviews_needed"), f"reviews_needed: {rule.needed}, but reviewed_by has {len(rule.reviewed_by)}"
        )


def _check_counts(rule: Rule, path: tuple[str | int, ...]) -> None:
    least, most = rule.seats
    if least > most:
        raise Mistake((*path, "seats"), f"seats: {least} is more than {most}")
    if rule.parties.min_known >= most:
        words = f"min_known: {rule.parties.min_known} others, but seats has {most} parties at most"
        raise Mistake((*path, "parties"), words)
    if rule.min_threshold is not None and rule.min_threshold > default_threshold(most):
        words = f"min_threshold: {rule.min_threshold}, but {most} parties have {default_threshold(most)} at most"
        raise Mistake((*path, "min_threshold"), words)


def _check_runs(rule: Rule, path: tuple[str | int, ...]) -> None:
    if rule.max_runs is not None:
        try:
            parse_max_runs(rule.max_runs)
        except ValueError:
            raise Mistake((*path, "max_runs"), f"max_runs: expected {EXPECTED['max_runs']}") from None
    if rule.inputs and rule.stdin is not None:
        raise Mistake((*path, "stdin"), "inputs and stdin exclude each other")
    if rule.files and rule.max_runs is None:
        # Each run reveals a little of an input. Without a limit, other parties could ask until they know it.
        key = "inputs" if rule.inputs else "stdin"
        raise Mistake((*path, key), f"a rule with {key} needs max_runs", f"expected {EXPECTED['max_runs']}")

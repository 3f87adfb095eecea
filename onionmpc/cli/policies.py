"""`onionmpc policy`: explains a policy, tries it on a receipt, and lists the runs that were counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import click

from onionmpc.api.policy import Policy, load_policy
from onionmpc.api.screen import line
from onionmpc.cli.verify import read_receipt
from onionmpc.errors import AgreementError, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.names.contacts import load_book
from onionmpc.names.standing import Acquaintance, seats_of
from onionmpc.names.trust import Trust, load_trust
from onionmpc.program.code.catalogue import catalogue, digest, find_program
from onionmpc.program.spec import MAX_PARTIES
from onionmpc.session.agreed_options import AGREED_OPTIONS
from onionmpc.session.policy import PartiesRule, Rule
from onionmpc.session.policy_decision import OPTION_CHECKS, RuleAllows, counts_against, decide, moment
from onionmpc.session.policy_runs import Run, own_count
from onionmpc.session.receipt import Receipt
from onionmpc.text import printable

POLICY_FILE = click.Path(path_type=Path, dir_okay=False)
DIGEST_DIGITS = 16
RECEIPT_NOTE = """
A receipt holds no evidence, and does not say whose address you gave. So the other parties count here as known by your
contacts alone; in a session, evidence may make more of them known."""


@click.group("policy")
def policy_commands() -> None:
    """Consent by rules instead of a person.

    onionmpc host and join take a policy with --policy FILE. It is a file in TOML. Each of its rules says which program
    it allows, with which parties, over which input, and how often. What a rule does not name must have onionmpc's
    default. If no rule allows what is proposed, the party refuses. docs/reference/policy.md has all keys.

    \b
    onionmpc policy check monthly.toml
    onionmpc policy check monthly.toml receipt.json
    onionmpc policy runs
    """


@policy_commands.command()
@click.argument("file", type=POLICY_FILE)
@click.argument("receipt", type=POLICY_FILE, required=False)
def check(file: Path, receipt: Path | None) -> None:
    """Explain the policy in FILE. With RECEIPT, say whether it would allow the same computation now.

    check reads the policy as a session does, and the files that it names. RECEIPT is what --receipt wrote for you. It
    holds the agreement of a session, but no evidence, so that other parties are known by your contacts alone.

    Exit codes: 0 the policy can be used, and allows the agreement in RECEIPT; 2 it cannot be used; 5 no rule allows the
    agreement.
    """
    policy, trust = load_policy(file), load_trust()
    names = {f"sha256:{digest(find_program(name)).hex()}": name for name, _ in catalogue()}
    for number, rule in enumerate(policy.rules.rules, start=1):
        click.echo(f"Rule {number} (SHA-256 {rule.digest[:DIGEST_DIGITS]}…) consents if")
        for words in _conditions(rule, names):
            click.echo(f"  * {words}")
        for words in _gifts(rule):
            click.echo(f"  {words}")
    click.echo("Anything else is refused.")
    policy.check_files()
    if receipt is not None:
        _try(policy, trust, read_receipt(receipt))


@policy_commands.command("runs")
@click.argument("file", type=POLICY_FILE, required=False)
def list_runs(file: Path | None) -> None:
    """List the runs that policies have allowed. With FILE, say for each of its rules which ones count.

    A run is counted before its program starts, and taken back only if the program never started. The count is kept in
    policy-runs, in the state directory. Without that file, all runs are forgotten.
    """
    count = own_count()
    runs = count.load()
    if file is None:
        for run in runs:
            click.echo("\n".join(_run_lines(run)))
        if not runs:
            click.echo("no run was counted yet", err=True)
        return
    policy, now = load_policy(file), count.clock()
    for number, rule in enumerate(policy.rules.rules, start=1):
        if rule.limit is None:
            click.echo(f"Rule {number} counts no runs.")
            continue
        most, window = rule.limit
        recent = [run for run in _counted(rule, policy, runs) if now - run.at < window]
        again = f"; the next is possible at {moment(recent[-most].at + window)}" if len(recent) >= most else ""
        click.echo(f"Rule {number}: {len(recent)} of {_times(rule)}{again}")
        for run in recent:
            click.echo("\n".join(_run_lines(run)))


# -- a policy in sentences


def _conditions(rule: Rule, names: Mapping[str, str]) -> Iterator[str]:
    yield _programs(rule, names)
    if rule.public:
        yield f"the public arguments match, in this order: {_listed(rule.public)}"
    else:
        yield "there are no public arguments"
    least, most = rule.seats
    how_many = f"{least} to {most}" if most < MAX_PARTIES else f"at least {least}"
    yield f"{least if least == most else how_many} parties take part"
    yield from _parties(rule.parties)
    if rule.min_threshold is None:
        yield "the threshold is the largest below half of the parties"
    else:
        yield f"the threshold is at least {rule.min_threshold}"
    yield f"each party uses circuit length {_levels(rule.min_circuit_length)}"
    yield (
        "there is a receipt, or none"
        if rule.receipt == "any"
        else {
            "always": "all parties sign a receipt",
            "never": "there is no receipt",
        }[rule.receipt]
    )
    if rule.allow_type:
        yield f"parties can send each other no other classes than {_listed(rule.allow_type)}"
    if rule.mpyc is not None:
        yield f"the MPyC options are {_listed(rule.mpyc) or 'none'}"
    for option in AGREED_OPTIONS:
        has_key = option.term not in OPTION_CHECKS and option.wish in Rule.__struct_fields__
        if has_key and (value := getattr(rule, option.wish)) != option.default(least):
            yield f"the option {option.flags[0]} is {value}"
    yield "all other options have their defaults"


def _programs(rule: Rule, names: Mapping[str, str]) -> str:
    if rule.program:
        shown = [f"{names[each]} (included)" if each in names else each for each in rule.program]
        return f"the program is {' or '.join(shown)}"
    needed = "" if rule.needed == len(rule.reviewed_by) else f"{rule.needed} of "
    return f"the program was reviewed by {needed}{_listed(rule.reviewed_by)}, as {_listed(rule.reviews)} must show"


def _parties(parties: PartiesRule) -> Iterator[str]:
    allowed = [
        f"at most {number} {word}"
        for number, word in (
            (parties.max_vouched, "are vouched for by an issuer that you trust"),
            (parties.max_introduced, "are introduced by the host alone"),
            (parties.max_strangers, "are strangers"),
        )
        if number
    ]
    known = f"are known, as {_listed(parties.names, 'or')}" if parties.names else "are known"
    if not allowed:
        yield f"all other parties {known}"
    else:
        yield f"of the other parties, {', '.join(allowed)}, and the rest {known}"
    if parties.min_known:
        yield f"at least {parties.min_known} different people or companies are known"


def _gifts(rule: Rule) -> Iterator[str]:
    given = [f"{name} from {file.removeprefix('@')}" for name, file in rule.inputs.items()]
    given += [f"standard input from {rule.stdin.removeprefix('@')}"] if rule.stdin is not None else []
    yield f"It gives the program {_listed(given) or 'no input'}."
    if rule.limit is None:
        yield "It allows any number of runs, and counts none."
        return
    yield f"It allows {_times(rule)}, by any policy, of the same program over the same file."
    if rule.same_roster:
        yield "The first counted run says who the other parties are, for all later ones."
    else:
        yield "The parties can change: TWO ROSTERS THAT DIFFER BY ONE PARTY CAN REVEAL WHAT IT GAVE."


def _times(rule: Rule) -> str:
    assert rule.limit is not None  # noqa: S101 (the caller has looked)
    most, window = rule.limit
    number, unit = next((n, u) for u, n in _units(window) if n == int(n))
    return f"{most} run{'' if most == 1 else 's'} in {int(number)} {unit}{'' if number == 1 else 's'}"


def _units(window: timedelta) -> Iterator[tuple[str, float]]:
    for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        yield unit, window.total_seconds() / seconds


def _levels(least: Level) -> str:
    return {Level.SHORT: "short or longer", Level.STANDARD: "standard or long", Level.LONG: "long"}[least]


def _listed(words: Sequence[str], last: str = "and") -> str:
    shown = [printable(word) for word in words]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}" if shown else ""


def _run_lines(run: Run) -> Iterator[str]:
    yield f"{moment(run.at)}  program {run.program[:DIGEST_DIGITS]}…, by rule {run.rule[:DIGEST_DIGITS]}…"
    if run.files:
        yield line("over", ", ".join(map(printable, run.files)))
    yield line("with", ", ".join(map(printable, run.roster)))


def _counted(rule: Rule, policy: Policy, runs: Sequence[Run]) -> list[Run]:
    programs = {program.removeprefix("sha256:") for program in rule.program} or {run.program for run in runs}
    files = [policy.places[file] for file in rule.files]
    return [run for run in runs if counts_against(run, rule, programs, files)]


# -- what it would say


def _try(policy: Policy, trust: Trust, receipt: Receipt) -> None:
    if receipt.opening is None:
        raise UsageError(
            "the receipt does not say which party is yours: it is a copy without the line of the opening",
            hint="give the file that --receipt wrote",
        )
    own, common = receipt.opening.party, receipt.agreement.common
    contacts = {contact.onion: contact.name for contact in load_book().contacts.values()}
    seats = seats_of(tuple(map(Onion, common.addresses)), own, Acquaintance(contacts), common.strangers, {})
    count = own_count()
    facts = policy.facts(receipt.agreement, seats, trust, count.load(), count.clock())
    click.echo(RECEIPT_NOTE)
    for seat in seats:
        who, known = f" ({', '.join(seat.names)})" if seat.names else "", seat.standing.value
        click.echo(f"  party {seat.number}  {seat.onion}{who}  {known}")
    decision = decide(policy.rules, facts)
    if isinstance(decision, RuleAllows):
        click.echo(f"\nRule {decision.number} would allow this computation of {printable(common.program, 60)} now.")
        return
    click.echo(f"\nNo rule allows this computation of {printable(common.program, 60)} now. In rule {decision.number}:")
    for failure in decision.failures:
        click.echo(f"  * {failure}")
    raise AgreementError(f"no rule of {policy.rules.file} allows the agreement in the receipt")

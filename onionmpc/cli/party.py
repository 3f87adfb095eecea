"""Runs `onionmpc host` and `onionmpc join`: asks the user, and runs a party through the Python API."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import click

from onionmpc import Walls
from onionmpc.api.contacts import AddressBook, load_book, nearest_hint, note_meeting
from onionmpc.api.events import AddressKnown
from onionmpc.api.inputs import ALLOW_UNUSUAL
from onionmpc.api.options import options_of, prepare
from onionmpc.api.party import OpenIdentity, Party, check_tor_options, open_identity, party
from onionmpc.api.policy import Policy, load_policy
from onionmpc.api.questions import Proposal
from onionmpc.api.table import HostTable, Table, join_table
from onionmpc.api.targets import is_target, parse_address, target_of
from onionmpc.cli.beforehand import note_program
from onionmpc.cli.bridges import read_bridges
from onionmpc.cli.display import Display, JsonDisplay, TextDisplay
from onionmpc.cli.further import Agenda, parse_then
from onionmpc.cli.inputs import read_inputs
from onionmpc.cli.lists import expand
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.cli.options import PartyOptions
from onionmpc.cli.passphrase import passphrase_from
from onionmpc.cli.prompt import is_interactive
from onionmpc.cli.turns import Departure, Turns
from onionmpc.errors import OnionMPCError, UnsafeSetting, UsageError
from onionmpc.files import check_writable
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.machine import explained
from onionmpc.text import printable

CONSENT = "show my ip"
EXPOSURE = """
At circuit length short, this party's onion service is not anonymous. Every other party of the session, and every relay
that one of them picks, learns this machine's IP address, and that it belongs to this party. You cannot take this back.
Connections that you open stay anonymous to the others. The gain is speed: a link has about half as many relays.
"""


def run_host(
    options: PartyOptions,
    program: str | None,
    parties: int,
    expect: Sequence[str],
    private: tuple[str, ...],
    walls: Callable[[], Walls],
    *,
    is_open: bool,
) -> None:
    """Host a session.

    Args:
        private: arguments for this party's program alone.
        walls: returns the protections that a program process gets on this machine; see `probing`.
    """
    if is_open and options.policy is not None:
        raise UsageError(
            "--policy and --open exclude each other",
            hint="a policy admits joiners that have an invite, or that --expect names",
        )
    book = load_book()
    expected = [_expected(word, book) for word in expand(expect, book)]  # first, since it may read standard input
    agenda = _prepare(options, program, private, walls, parties=parties)
    identity = _identity(options)
    with _display(options, book) as display:

        def sit_down(me: Party) -> Table:
            return HostTable(me.runtime, agenda.first, parties, expected, display.admits, is_open=is_open)

        _run(options, identity, display, sit_down, agenda)


def run_join(
    options: PartyOptions, targets: Sequence[str], private: tuple[str, ...], walls: Callable[[], Walls]
) -> None:
    """Join a host, or a list of parties; see `host`."""
    book = load_book()
    words = expand(targets, book)
    programs = [word for word in words if not is_target(word)]
    if len(programs) > 1:
        shown = ", ".join(printable(name, 60) for name in programs)
        raise UsageError(
            f"{len(programs)} words are neither an address nor an invite ({shown}), expected one program at most",
            hint=_nearest(programs, book)
            or "an address has 56 characters and .onion; private arguments follow a lone --",
        )
    if len(programs) == len(words) and (hint := _nearest(programs, book)):
        raise UsageError(f"{printable(programs[0], 60)} is neither an invite, an address nor a contact", hint=hint)
    target = target_of([word for word in words if is_target(word)])
    parties = 1 + len(target) if isinstance(target, tuple) else None
    agenda = _prepare(options, programs[0] if programs else None, private, walls, parties=parties)
    if parties is not None and options.identity is None:
        raise UsageError(
            "a full list of parties needs --identity",
            hint="the others list your address beforehand, so it cannot be a fresh one: onionmpc id new NAME",
        )
    identity = _identity(options)
    with _display(options, book) as display:
        _run(options, identity, display, lambda me: join_table(me.runtime, target, agenda.first), agenda)


def _expected(word: str, book: AddressBook) -> Onion:
    if not is_target(word):
        raise UsageError(
            f"{printable(word, 60)} is neither an address nor a contact",
            hint=_nearest([word], book) or "an address has 56 characters and .onion; see: onionmpc contact list",
        )
    return parse_address(word)


def _nearest(words: Sequence[str], book: AddressBook) -> str:
    return next(filter(None, (nearest_hint(word, book.contacts) for word in words)), "")


def _check_consent(options: PartyOptions) -> None:
    """Ask the user to consent to showing their IP address, if the level does that."""
    level = options.circuit_length
    if options.show_my_ip and level is not Level.SHORT:
        raise UsageError("--show-my-ip needs --circuit-length short", hint="no other level shows it to anyone")
    if level is Level.SHORT and not options.show_my_ip:
        _ask_to_be_shown(can_ask=is_interactive() and options.policy is None)


def _ask_to_be_shown(*, can_ask: bool) -> None:
    if not can_ask:
        raise UnsafeSetting(
            "short shows this machine's IP address to every other party, and you have not agreed to that",
            hint="add --show-my-ip to agree; at standard, the default, no party learns it",
        )
    click.echo(EXPOSURE, err=True)
    if click.prompt(f'Type "{CONSENT}" to continue', default="", show_default=False, err=True).strip() != CONSENT:
        raise UnsafeSetting(
            "you did not agree to circuit length short", hint="at standard, the default, no party learns your address"
        )


def _prepare(
    options: PartyOptions,
    program: str | None,
    private: tuple[str, ...],
    walls: Callable[[], Walls],
    *,
    parties: int | None,
) -> Agenda:
    """Check what can be checked before a network is needed, or a passphrase asked for.

    Args:
        parties: the number of parties, this one included; None if a host chooses it.
    """
    joins_host = parties is None
    policy = _policy(options)
    inputs = read_inputs(options.inputs)
    check_tor_options(
        control=options.control,
        testnet=options.testnet is not None,
        region=options.region,
        profile=options.profile,
    )
    _check_consent(options)
    if options.evidence and options.identity is None:
        raise UsageError(
            "--evidence needs --identity",
            hint="evidence is about one address, and without --identity that is a fresh one",
        )
    if options.json_file is not None:
        check_writable(options.json_file)
    prepared = prepare(
        program,
        joins_host=joins_host,
        arguments=private,
        with_files=options.with_files,
        evidence=options.evidence,
        strangers_may_read_everything=options.strangers_may_read_everything,
        max_unknown=options.max_unknown,
        allow_no_privacy=options.allow_no_privacy,
        allow_difference=options.allow_difference,
        allow_subprocess=options.allow_subprocess,
        wait_s=options.wait,
        patience_s=options.patience,
        min_circuit_length=options.min_circuit_length,
        verbose=options.verbose,
        **options_of(options),
    )
    if options.log_format == "text":
        note_program(prepared.plan.program, prepared.plan.attached)
    if options.inputs and private and not options.then:
        raise UsageError("--input and arguments after -- exclude each other", hint="leave out one of them")
    agenda = Agenda(prepared.behind(walls()), private, parse_then(options.then, joins_host=joins_host), inputs, policy)
    _check_person(options, [argument for choice in agenda.choices for argument in choice.private])
    _, *further = agenda.prepared(parties)
    if options.log_format == "text":
        for _, one in further:
            note_program(one.plan.program, one.plan.attached)
    asks = _has_person(options)
    # The rules of a policy give what is missing here.
    agenda.check_inputs(asks=asks or options.policy is not None, confirms=asks or options.allow_unusual)
    return agenda


def _has_person(options: PartyOptions) -> bool:
    """Return whether a person answers questions: --yes and --policy mean that nobody does."""
    return not _is_unattended(options) and is_interactive()


def _is_unattended(options: PartyOptions) -> bool:
    return options.yes or options.policy is not None


def _policy(options: PartyOptions) -> Policy | None:
    """Read the policy, and check that it and the count of runs can be used, before anyone is met."""
    if options.policy is None:
        return None
    if options.yes:
        raise UsageError("--policy and --yes exclude each other", hint="--yes would agree to what no rule allows")
    if options.inputs:
        raise UsageError(
            "--policy and --input exclude each other",
            hint='name the file in the rule, as in inputs = {salary = "@/data/q.csv"}, so that its runs are counted',
        )
    policy = load_policy(options.policy)
    policy.check_files()
    return policy


def _check_person(options: PartyOptions, private: Sequence[str]) -> None:
    """Check that a user can answer questions, unless --yes or --policy answers them all."""
    unattended = _is_unattended(options)
    if options.log_format == "json" and not unattended:
        raise UsageError(
            "--log-format json needs --yes or --policy", hint="a program that reads JSON cannot answer questions"
        )
    if not unattended and not is_interactive():
        raise UsageError(
            "cannot ask for your consent: standard input or stderr is not a terminal",
            hint="add --policy FILE to consent by rules, or --yes to accept the agreement unseen",
        )
    if not unattended and any(not argument.startswith("-") for argument in private):
        click.echo(
            "onionmpc: note: other users of this machine can see private arguments; the included programs ask "
            "without echo, or read --input FILE",
            err=True,
        )


def _identity(options: PartyOptions) -> OpenIdentity | None:
    if options.identity is not None:
        ask = passphrase_from(options.passphrase_file)
        return open_identity(options.identity, ask, circuit_length=options.circuit_length)
    if options.passphrase_file is not None:
        raise UsageError("--passphrase-file needs --identity", hint="a fresh identity is never written down")
    return None


def _events(options: PartyOptions) -> TextIO | None:
    """Return the file for events that --events names, or None."""
    if options.events is None:
        return None
    try:
        # tor and the program process must not inherit it: a program could forge events.
        os.set_inheritable(options.events, False)
        return os.fdopen(options.events, "w", encoding="utf-8", closefd=False)
    except OSError as error:
        raise UsageError(f"--events {options.events} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _display(options: PartyOptions, book: AddressBook) -> Iterator[Display]:
    events = _events(options)
    as_json = options.log_format == "json"
    contacts = book.by_onion()
    display: Display = (
        JsonDisplay(events, yes=_is_unattended(options), contacts=contacts)
        if as_json
        else TextDisplay(yes=_is_unattended(options), contacts=contacts)
    )
    try:
        yield display
    except (OnionMPCError, OSError, MemoryError, ExceptionGroup) as error:
        known = explained(error)
        if known is None:
            raise
        display.failed(known)
        if isinstance(display, JsonDisplay):
            # The error was written as JSON: print no text as well.
            raise click.exceptions.Exit(known.exit_code) from error
        raise known from error
    except KeyboardInterrupt:
        display.left(by_user=True)
        raise
    finally:
        display.close()


def _run(
    options: PartyOptions,
    identity: OpenIdentity | None,
    display: Display,
    sit_down: Callable[[Party], Table],
    agenda: Agenda,
) -> None:
    ending = run_until_interrupted(_compute(options, identity, display, sit_down, agenda))
    display.left(by_user=ending.by_user)
    if ending.last.flaw is not None:  # shown with its computation
        raise click.exceptions.Exit(ending.last.flaw.exit_code)


def _note_meeting(options: PartyOptions, proposal: Proposal) -> None:
    """Note in the address book which contacts took part. If that fails, the computation has succeeded all the same."""
    try:
        note_meeting(proposal.parties, proposal.program, datetime.datetime.now().astimezone().date())
    except UsageError as error:
        if options.log_format == "text":
            click.echo(f"onionmpc: note: this meeting is not in your contacts: {error.message}", err=True)


async def _compute(
    options: PartyOptions,
    identity: OpenIdentity | None,
    display: Display,
    sit_down: Callable[[Party], Table],
    agenda: Agenda,
) -> Departure:
    async with party(
        identity=identity,
        circuit_length=options.circuit_length,
        or_standard=options.or_standard,
        show_my_ip=options.circuit_length is Level.SHORT,  # the user has consented
        testnet=options.testnet,
        region=options.region,
        control=options.control,
        listen=options.listen,
        change_foreign_tor=options.change_foreign_tor,
        profile=options.profile,
        bridge=read_bridges(options.bridge),
        bootstrap_timeout_s=options.bootstrap_timeout,
        publish_timeout_s=options.publish_timeout,
        patience_s=options.patience,
        on_event=display.tell,
    ) as me:
        display.tell(AddressKnown(me.onion))
        person = display if isinstance(display, TextDisplay) and _has_person(options) else None
        async with sit_down(me) as table:
            turns = Turns(
                table,
                agenda,
                display,
                person,
                confirm=ALLOW_UNUSUAL if options.allow_unusual else None if person is None else person.confirms,
                json_file=options.json_file,
                # With a fresh address, nothing on this disk says that it was this user's. Meetings would.
                succeeded=None if identity is None else lambda proposal: _note_meeting(options, proposal),
            )
            return await turns.run()

"""What `onionmpc host` and `onionmpc join` do: one party of a session, from its options to its result.

Knows what options exclude each other, and where each goes. What they mean is onionmpc.session's to know.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import click

from onionmpc.cli.beforehand import check_receipt, note_program
from onionmpc.cli.bridges import read_bridges
from onionmpc.cli.display import Answers, Display, JsonDisplay, TextDisplay
from onionmpc.cli.lists import expand
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.cli.options import PartyOptions
from onionmpc.cli.passphrase import passphrase_from
from onionmpc.cli.prompt import is_interactive
from onionmpc.cli.summary import summary_data
from onionmpc.errors import OnionMPCError, PeerError, UnsafeSetting, UsageError
from onionmpc.files import check_writable, write_named
from onionmpc.identity import Identity, looks_like_onion, parse_onion
from onionmpc.levels import Level
from onionmpc.machine import explained
from onionmpc.mesh.network import Network
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import Program, find_program, program_files
from onionmpc.program.spec import Walls
from onionmpc.session import keystore
from onionmpc.session.agreed_options import wishes_of
from onionmpc.session.computation import Result
from onionmpc.session.events import AddressKnown, TorProgress
from onionmpc.session.invite import looks_like_invite, parse_invite
from onionmpc.session.local import Plan, check_allowed_types, check_mpyc_options, check_program_arguments
from onionmpc.session.run import Party
from onionmpc.tasks import cancel
from onionmpc.testnet.place import join_testnet
from onionmpc.text import printable
from onionmpc.tor.endpoint import parse_endpoint, parse_listener
from onionmpc.tor.network import tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.binary import find_tor
from onionmpc.tor.process.transports import bridge_torrc
from onionmpc.tor.report import TorReport

SEED_BYTES = 32

CONSENT = "show my ip"
EXPOSURE = """
At circuit length short this party's onion service is not anonymous. Every other party of the session, and every relay
that one of them picks, learns this machine's IP address, and that it belongs to this party. It cannot be taken back.
What you dial stays anonymous to the others; what they gain is speed, about half of a link's relays.
"""


def host(
    options: PartyOptions,
    program: str | None,
    parties: int,
    expect: Sequence[str],
    private: tuple[str, ...],
    walls: Callable[[], Walls],
    *,
    is_open: bool,
) -> None:
    """Be the host of a session.

    Args:
        private: what goes to this party's program alone.
        walls: returns how far the program can be walled in; see `probing`.
    """
    expected = [parse_onion(text) for text in expand(expect)]  # first, since it may read what is piped in
    plan = _plan(options, program, private, walls)
    with (
        _identity(options) as identity,
        _display(options, plan, by_invite=False) as display,
        _place(options) as tor_options,
    ):
        display.tell(AddressKnown(identity.onion))
        party = Party(identity, plan, display)
        seating = party.open_seats(parties, expected, is_open=is_open)
        _run(identity, tor_options, display, lambda network: party.host(network, seating), options.json_file)


def join(options: PartyOptions, targets: Sequence[str], private: tuple[str, ...], walls: Callable[[], Walls]) -> None:
    """Join a host, or a list of parties; see `host`."""
    words = expand(targets)
    invites = [parse_invite(word) for word in words if _is_invite(word)]
    onions = [parse_onion(word) for word in words if looks_like_onion(word)]
    programs = [word for word in words if not _is_invite(word) and not looks_like_onion(word)]
    if len(programs) > 1:
        shown = ", ".join(printable(name, 60) for name in programs)
        raise UsageError(
            f"{len(programs)} words are neither an address nor an invite ({shown}), expected one program at most",
            hint="an address has 56 characters and .onion; private arguments follow a lone --",
        )
    if len(invites) > 1 or (invites and onions) or not (invites or onions):
        raise UsageError(
            f"{len(invites)} invites and {len(onions)} addresses given",
            hint="expected one invite, or one address, or the addresses of all other parties",
        )
    plan = _plan(options, programs[0] if programs else None, private, walls, joins_host=len(invites or onions) == 1)
    if len(onions) > 1 and options.identity is None:
        raise UsageError(
            "a full list of parties needs --identity",
            hint="the others list your address beforehand, so it cannot be a fresh one: onionmpc id new NAME",
        )
    with (
        _identity(options) as identity,
        _display(options, plan, by_invite=len(invites or onions) == 1) as display,
        _place(options) as tor_options,
    ):
        display.tell(AddressKnown(identity.onion))
        party = Party(identity, plan, display)
        if len(onions) > 1:
            common = party.full_list(onions)
            _run(identity, tor_options, display, lambda network: party.join_listed(network, common), options.json_file)
        else:
            target = invites[0] if invites else onions[0]
            party.check_host(target)
            _run(identity, tor_options, display, lambda network: party.join(network, target), options.json_file)


def _is_invite(word: str) -> bool:
    return looks_like_invite(word) and not word.endswith(".py") and "/" not in word


def _check_tor_options(options: PartyOptions) -> None:
    """Refuse options of which one would be silently without effect."""
    if options.testnet is None and options.region is not None:
        raise UsageError("--region needs --testnet", hint="only a private network has regions to choose")
    if options.control is not None and options.testnet is not None:
        raise UsageError(
            "--control and --testnet exclude each other", hint="a party in a private network has a tor of our own"
        )
    if options.control is not None and options.profile is not None:
        raise UsageError(
            "--control and --profile exclude each other", hint="a tor that runs already keeps its own guards"
        )


def _check_consent(options: PartyOptions) -> None:
    """Have the person consent to showing an IP address, where that is what the level does."""
    level = options.circuit_length
    if options.show_my_ip and level is not Level.SHORT:
        raise UsageError("--show-my-ip needs --circuit-length short", hint="no other level shows it to anyone")
    if level is Level.SHORT and not options.show_my_ip:
        _ask_to_be_shown()


def _ask_to_be_shown() -> None:
    if not is_interactive():
        raise UnsafeSetting(
            "short shows this machine's IP address to every other party, and nobody has consented to that",
            hint="--show-my-ip consents; at standard, the default, no party learns it",
        )
    click.echo(EXPOSURE, err=True)
    if click.prompt(f'Type "{CONSENT}" to go on', default="", show_default=False, err=True).strip() != CONSENT:
        raise UnsafeSetting("short was not consented to", hint="at standard, the default, no party learns your address")


def _plan(
    options: PartyOptions,
    program: str | None,
    private: tuple[str, ...],
    walls: Callable[[], Walls],
    *,
    joins_host: bool = False,
) -> Plan:
    _check_tor_options(options)
    _check_consent(options)
    if options.json_file is not None:
        check_writable(options.json_file)
    if options.receipt is not None:
        check_receipt(options.receipt)
    options.check()
    check_program_arguments(private)
    check_program_arguments(options.public or ())
    options = replace(options, mpyc_options=check_mpyc_options(options.mpyc_options or ()))
    found: Program | None = None if program is None else find_program(program)
    attached = attach(options.with_files)
    if found is not None:
        check_allowed_types(options.allowed_types or (), found)
        program_files(found, attached)  # too many of them are told now, not at the host's table
    if options.log_format == "text":
        note_program(found, attached)
    if options.log_format == "json" and not options.yes:
        raise UsageError("--log-format json needs --yes", hint="a machine that reads JSON cannot be asked")
    if not options.yes and not is_interactive():
        raise UsageError(
            "nobody can be asked: standard input or stderr is no terminal",
            hint="--yes consents to the agreement unseen",
        )
    if private and any(not argument.startswith("-") for argument in private) and not options.yes:
        click.echo(
            "onionmpc: note: other users of this machine can see private arguments; the programs that come along ask "
            "without echo, or read --input FILE",
            err=True,
        )
    return Plan(
        program=found,
        private=private,
        attached=attached,
        allow_no_privacy=options.allow_no_privacy,
        wait_s=options.wait,
        patience_s=options.patience,
        min_circuit_length=options.min_circuit_length,
        verbose=options.verbose,
        hidden=() if options.testnet is None else (options.testnet,),
        allow_subprocess=options.allow_subprocess,
        walls=walls(),
        **wishes_of(options, joins_host=joins_host),
    )


@contextlib.contextmanager
def _identity(options: PartyOptions) -> Iterator[Identity]:
    name = options.identity
    if name is None:
        if options.passphrase_file is not None:
            raise UsageError("--passphrase-file needs --identity", hint="a fresh identity is never written down")
        yield Identity(secrets.token_bytes(SEED_BYTES))
        return
    ask = passphrase_from(options.passphrase_file)
    identity = keystore.load(name, ask, exposed=options.circuit_length is Level.SHORT)
    with keystore.in_use(name):
        yield identity


def _events(options: PartyOptions) -> TextIO | None:
    """Return where events go that are kept apart from stderr, None if nobody asked for that."""
    if options.events is None:
        return None
    try:
        os.set_inheritable(options.events, False)
        return os.fdopen(options.events, "w", encoding="utf-8", closefd=False)
    except OSError as error:
        raise UsageError(f"--events {options.events} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _display(options: PartyOptions, plan: Plan, *, by_invite: bool) -> Iterator[Display]:
    events = _events(options)
    answers = Answers(
        yes=options.yes,
        private_arguments=len(plan.private),
        by_invite=by_invite,
        walls=plan.walls,
        allow_subprocess=plan.allow_subprocess,
    )
    display: Display = JsonDisplay(answers, events) if options.log_format == "json" else TextDisplay(answers)
    try:
        yield display
    except (OnionMPCError, OSError, MemoryError, ExceptionGroup) as error:
        known = explained(error)
        if known is None:
            raise
        display.failed(known)
        if isinstance(display, JsonDisplay):
            # It has been told in JSON: no line of text beside it.
            raise click.exceptions.Exit(known.exit_code) from error
        raise known from error
    except KeyboardInterrupt:
        display.left()
        raise
    finally:
        display.close()


def _run(
    identity: Identity,
    options: TorOptions,
    display: Display,
    compute: Callable[[Network], Awaitable[Result]],
    json_file: Path | None,
) -> None:
    result = run_until_interrupted(_over_tor(identity, options, display, compute))
    display.ended(result)
    if json_file is not None:
        write_named(json_file, json.dumps(summary_data(result), indent=2).encode() + b"\n")
    if flaw := result.output_flaw or result.receipt_flaw:
        raise flaw


async def _over_tor(
    identity: Identity, options: TorOptions, display: Display, compute: Callable[[Network], Awaitable[Result]]
) -> Result:
    """Compute over a tor, and stop when that tor is given up."""

    def show(report: TorReport) -> None:
        display.tell(TorProgress(report.phase, report.percent, report.detail))

    async with tor_network(identity, options, show) as network:
        computing = asyncio.ensure_future(compute(network))
        waiting: set[asyncio.Future[Any]] = {computing, network.died}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            # A tor that is away takes all links with it: whichever patience ends first, the tor is the cause.
            without_peers = not computing.done() or isinstance(computing.exception(), PeerError)
            if without_peers and (failure := network.failure):
                raise failure
            return computing.result()
        finally:
            await cancel(computing)


@contextlib.contextmanager
def _place(options: PartyOptions) -> Iterator[TorOptions]:
    """The tor options of the public network, or of a place in a private one.

    Comes before anything is shown: an invite to a session that cannot be helps nobody.
    """
    tor_options = TorOptions(
        control=options.control,
        listen=options.listen,
        profile=options.profile,
        bridges=read_bridges(options.bridge),
        bootstrap_timeout_s=options.bootstrap_timeout,
        publish_timeout_s=options.publish_timeout,
        patience_s=options.patience,
        level=options.circuit_length,
        or_standard=options.or_standard,
        change_foreign_tor=options.change_foreign_tor,
    )
    if options.control is None:
        find_tor()
        bridge_torrc(tor_options.bridges)
    else:
        parse_endpoint(options.control)
    if options.listen is not None:
        parse_listener(options.listen)
    if options.testnet is None:
        yield tor_options
        return
    with join_testnet(options.testnet, options.region) as place:
        yield replace(tor_options, profiles=place.profiles, extra_torrc=place.torrc)

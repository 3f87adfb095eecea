"""A party: an identity, and a tor that carries its sessions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Unpack

from onionmpc.api import arguments
from onionmpc.api.options import SessionOptions, prepare
from onionmpc.api.questions import Admit, admit_the_invited
from onionmpc.api.runtime import OnSessionEvent, PartyRuntime
from onionmpc.api.table import HostTable, Table, join_table
from onionmpc.api.targets import parse_address, parse_target
from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.identity import SEED_BYTES, Identity, Onion
from onionmpc.levels import Level
from onionmpc.session import keystore
from onionmpc.session.invite import Invite
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.endpoint import parse_endpoint, parse_listener
from onionmpc.tor.network import tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.binary import find_tor
from onionmpc.tor.process.bridges import Bridge, parse_bridge
from onionmpc.tor.process.transports import bridge_torrc

Passphrase = Callable[[], bytearray]


@dataclass(frozen=True, slots=True)
class OpenIdentity:
    """A kept identity, ready for use. `open_identity` returns it."""

    name: str
    level: Level
    secret: Identity = field(repr=False)

    @property
    def onion(self) -> Onion:
        """Its address."""
        return self.secret.onion


def open_identity(
    name: str, passphrase: str | Passphrase | None = None, *, circuit_length: Level | str = Level.STANDARD
) -> OpenIdentity:
    """Open an identity that `onionmpc id new` made. A sealed identity takes half a second and 128 MiB of memory.

    Args:
        name: the name of the identity.
        passphrase: for a sealed identity. A function is called only if a passphrase is needed, and the bytearray that
            it returns is overwritten after use.
        circuit_length: the level of the sessions in which to use it.

    Raises:
        UsageError: the name is invalid, or a passphrase is needed and none was given.
        InvalidIdentityFile: no identity has that name, it is damaged, or the passphrase is wrong.
        UnsafeSetting: the identity is for other levels.
    """
    level = arguments.level("circuit_length", circuit_length)
    ask = passphrase if callable(passphrase) else lambda: _passphrase_bytes(passphrase)
    secret = keystore.load(arguments.text("name", name), ask, exposed=level is Level.SHORT)
    return OpenIdentity(name, level, secret)


def _passphrase_bytes(passphrase: str | None) -> bytearray:
    if passphrase is None:
        raise UsageError("a passphrase is needed", hint="pass passphrase=, or use an identity without one")
    # NFC, since systems type the same letters as different code points (PROTOCOL 1, "Key file").
    return bytearray(unicodedata.normalize("NFC", arguments.text("passphrase", passphrase)), "utf-8")


class Party:
    """A party. `onionmpc.party` yields it.

    Attributes:
        onion: its address. Others need the address to expect this party, or to join it without an invite.
    """

    def __init__(self, runtime: PartyRuntime) -> None:
        self.runtime = runtime

    def __repr__(self) -> str:
        """Show the address, and no secret."""
        return f"<onionmpc.Party {self.onion}>"

    @property
    def onion(self) -> Onion:
        """The address."""
        return self.runtime.identity.onion

    def host(
        self,
        program: str | os.PathLike[str],
        *,
        parties: int,
        expect: Sequence[str] = (),
        open: bool = False,  # noqa: A002 (the command line's word)
        admit: Admit | None = None,
        **options: Unpack[SessionOptions],
    ) -> HostTable:
        """Host a session.

        Args:
            program: a script, or the name of a program that comes with onionmpc.
            parties: the number of parties, this one included.
            expect: addresses that need no invite, or links to them.
            open: let anyone who knows this party's address join without an invite.
            admit: a coroutine function that gets a `Joiner` and returns whether it may take part. By default, each
                joiner that has an invite, or whose address is expected, may take part. With `open`, you must pass
                one, for example `onionmpc.ADMIT_ANYONE`.
            **options: see `SessionOptions`.
        Returns:
            A table, to enter with `async with`.

        Raises:
            UsageError: the program, a file or an option does not exist, or an option is out of bounds. Options that
                depend on the number of parties are checked when the table is entered.
            UnsafeSetting: `open` was given without `admit`.
        """
        prepared = prepare(program, **options)
        if arguments.flag("open", open) and admit is None:
            raise UnsafeSetting(
                "an open table needs admit=", hint="pass admit=onionmpc.ADMIT_ANYONE to let anyone take part"
            )
        expected = [parse_address(onion) for onion in arguments.texts("expect", expect)]
        admit = admit_the_invited if admit is None else arguments.function("admit", admit)
        return HostTable(self.runtime, prepared, arguments.whole("parties", parties), expected, admit, is_open=open)

    def join(
        self,
        target: str | Invite | Sequence[str],
        program: str | os.PathLike[str] | None = None,
        **options: Unpack[SessionOptions],
    ) -> Table:
        """Join a session.

        Args:
            target: an invite, or the host's address or a link to it. Without a host: the addresses of all other
                parties.
            program: a script, or the name of a program that comes with onionmpc. With a host, you can leave it out if
                the host's program comes with onionmpc.
            **options: see `SessionOptions`. With a host, its values fill the options that you leave out.
        Returns:
            A table, to enter with `async with`.

        Raises:
            UsageError: see `host`; or the target is neither an invite nor an address.
        """
        found = parse_target(target)
        return join_table(self.runtime, found, prepare(program, joins_host=isinstance(found, Invite | str), **options))


@contextlib.asynccontextmanager
async def party(
    *,
    identity: str | OpenIdentity | None = None,
    passphrase: str | Passphrase | None = None,
    circuit_length: Level | str = Level.STANDARD,
    or_standard: bool = False,
    show_my_ip: bool = False,
    testnet: str | os.PathLike[str] | None = None,
    region: str | None = None,
    control: str | None = None,
    listen: str | None = None,
    change_foreign_tor: bool = False,
    profile: str | None = None,
    bridge: Sequence[str | Bridge] = (),
    bootstrap_timeout_s: float = 300.0,
    publish_timeout_s: float = 180.0,
    patience_s: float = 600.0,
    on_event: OnSessionEvent | None = None,
) -> AsyncIterator[Party]:
    """Start a party: an address, and a tor that starts in the background.

    When a table is entered, the address is published, also in the background. tor seals what it publishes for the
    parties of one session, so a session must exist first. With `Party.host`, the invites hold the keys.

    `Table.compute` waits for tor, so it raises tor's errors. When the block ends, tor has stopped and nobody can reach
    the address.

    Args:
        identity: the name of a kept identity (see: onionmpc id). None uses a fresh one, which is never written down.
        passphrase: for a sealed identity, see `open_identity`.
        circuit_length: the level: how long this party's own side of every circuit is.
        or_standard: if long is not possible, use standard.
        show_my_ip: with short, consent that every other party learns this machine's IP address.
        testnet: the directory of a private Tor network, see `onionmpc.private_network`. None uses the public network.
        region: with `testnet`, the party's region. None takes each region in turn.
        control: the control port of a running tor, "unix:PATH" or "HOST:PORT". None starts a tor.
        listen: with `control`, the "ADDRESS:PORT" to which that tor delivers this party's streams.
        change_foreign_tor: with `control` and long, change that tor's settings until this party leaves.
        profile: the name of the directory that our tor keeps its guards and consensus in. None takes the first free
            one.
        bridge: bridge lines. Our tor then enters its network only by these bridges.
        bootstrap_timeout_s: the time limit for tor to connect to its network, in seconds.
        publish_timeout_s: the time limit for publishing the onion service, in seconds.
        patience_s: how long tor may be away at a time, in seconds.
        on_event: called with each event of tor and of every table, when it happens. It must not block.

    Raises:
        UsageError: an option is invalid, or two exclude each other.
        UnsafeSetting: short was chosen without `show_my_ip`, or the identity is for other levels.
        TorError: tor was not found.
    """
    text, seconds, flag = arguments.text, arguments.seconds, arguments.flag
    level = arguments.level("circuit_length", circuit_length)
    if flag("show_my_ip", show_my_ip) and level is not Level.SHORT:
        raise UsageError("show_my_ip=True needs circuit_length='short'", hint="no other level shows it to anyone")
    if level is Level.SHORT and not show_my_ip:
        raise UnsafeSetting(
            "short shows this machine's IP address to every other party, and you have not agreed to that",
            hint="pass show_my_ip=True to agree; at standard, the default, no party learns it",
        )
    options = TorOptions(
        control=arguments.optional(text)("control", control),
        listen=arguments.optional(text)("listen", listen),
        profile=arguments.optional(text)("profile", profile),
        bridges=tuple(dict.fromkeys(map(_bridge, arguments.several("bridge", bridge)))),
        bootstrap_timeout_s=seconds("bootstrap_timeout_s", bootstrap_timeout_s),
        publish_timeout_s=seconds("publish_timeout_s", publish_timeout_s),
        patience_s=seconds("patience_s", patience_s),
        level=level,
        or_standard=flag("or_standard", or_standard),
        change_foreign_tor=flag("change_foreign_tor", change_foreign_tor),
    )
    place = arguments.optional(arguments.path)("testnet", testnet)
    check_tor_options(control=control, testnet=place is not None, region=region, profile=profile)
    on_event = arguments.optional(arguments.function)("on_event", on_event)
    if not isinstance(identity, str) and passphrase is not None:
        raise UsageError("a passphrase needs the name of an identity", hint="pass identity=, or leave out passphrase=")
    if isinstance(identity, str):
        # In a thread: opening a sealed identity takes half a second, and would stop the caller's event loop.
        identity = await asyncio.to_thread(open_identity, identity, passphrase, circuit_length=level)
    elif identity is not None and not isinstance(identity, OpenIdentity):
        raise UsageError(f"identity: {type(identity).__name__}, expected a name or what open_identity returned")
    elif identity is not None and identity.level is not level:
        raise UnsafeSetting(
            f"the identity {identity.name} was opened for {identity.level.value}, and this party is {level.value}",
            hint="pass the same circuit_length= to open_identity",
        )
    with contextlib.ExitStack() as stack:
        if identity is None:
            own = Identity(secrets.token_bytes(SEED_BYTES))
        else:
            stack.enter_context(keystore.in_use(identity.name))
            own = identity.secret
        options = stack.enter_context(_place(options, place, region))
        network = tor_network(own, options, lambda report: runtime.tell_progress(report))
        runtime = PartyRuntime(own, network, on_event, () if place is None else (place,))
        async with runtime.running():
            yield Party(runtime)


def check_tor_options(*, control: str | None, testnet: bool, region: str | None, profile: str | None) -> None:
    """Refuse options that exclude each other, instead of silently ignoring one of them.

    Raises:
        UsageError: two options exclude each other.
    """
    if not testnet and region is not None:
        raise UsageError("region= needs testnet=", hint="only a private network has regions to choose")
    if control is not None and testnet:
        raise UsageError(
            "control= and testnet= exclude each other", hint="a party in a private network starts its own tor"
        )
    if control is not None and profile is not None:
        raise UsageError("control= and profile= exclude each other", hint="a running tor keeps its own guards")


def _bridge(line: str | Bridge) -> Bridge:
    return line if isinstance(line, Bridge) else parse_bridge(arguments.text("bridge", line))


@contextlib.contextmanager
def _place(options: TorOptions, testnet: Path | None, region: str | None) -> Iterator[TorOptions]:
    """Check that a tor can be used; yield the options for the public network, or for a place in a private one.

    Must come before a host shows its invites: an invite to a session that cannot start helps nobody.
    """
    if options.control is None:
        find_tor()
        bridge_torrc(options.bridges)
    else:
        parse_endpoint(options.control)
    if options.listen is not None:
        parse_listener(options.listen)
    if testnet is None:
        yield options
        return
    with join_testnet(testnet, region) as place:
        yield replace(options, profiles=place.profiles, extra_torrc=place.torrc)

"""Enforces the level: closes circuits that are shorter than it promises, and gives up after too many.

Lengths come from tor's list of circuits, never from its settings: a setting says what was requested, and not what was
built. level.py sets the level.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from onionmpc.errors import PeerUnreachable, TorError, TorFailed, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh.network import OwnPath
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.circuit.status import JoinedCircuit, dialled_circuit, is_service_circuit, parse_circuits
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused

# A few short circuits are normal: tor may build one before our repair, after its start or a change by its operator.
TOO_SHORT_LIMIT = 5

# Sets tor's options again.
Repair = Callable[[], Awaitable[None]]


class Lengths:
    """Enforces what a level promises, over one tor instance after the other.

    Args:
        level: ours.
        give_up: called once, when too many circuits were too short.
        warn: called with a message when a repair fails.
    """

    def __init__(self, level: Level, give_up: Callable[[TorFailed], None], warn: Callable[[str], None]) -> None:
        self._level = level
        self._give_up = give_up
        self._warn = warn
        self._too_short = 0
        self._needs_repair = asyncio.Event()

    @property
    def level(self) -> Level:
        """The level that is enforced."""
        return self._level

    def fall_back_to_standard(self) -> None:
        """Enforce standard from now on. Call it only before anything is dialled."""
        self._level = Level.STANDARD

    async def require_measure(self, control: Control) -> None:
        """Check that this tor shows us its circuits, since its settings alone do not prove a length.

        Raises:
            TorFailed: it does not.
        """
        if await circuits_of(control) is None:
            raise TorFailed(
                "this tor does not show its circuits, so their length cannot be checked",
                hint="let onionmpc start its own tor, or use --circuit-length standard",
            )

    async def check_dialled(self, control: Control, username: str) -> OwnPath | None:
        """Return our side of the circuit dialled with this SOCKS user name; None if tor does not show its circuits.

        Raises:
            PeerUnreachable: it was shorter than promised and is closed now; or it has ended already.
        """
        circuits = await circuits_of(control)
        if circuits is None:
            return None
        circuit = dialled_circuit(circuits, username)
        if circuit is None:
            raise PeerUnreachable("its circuit closed before it was used")
        if await self._closes(control, circuit):
            raise PeerUnreachable(
                f"tor built {len(circuit.relays)} relays, but {self.level.value} promises "
                f"{self.level.promise.dialled}: closed"
            )
        return circuit.own_path

    @contextlib.asynccontextmanager
    async def watching(self, control: Control, onion: Onion, repair: Repair | None = None) -> AsyncIterator[None]:
        """Close each circuit of this service that is too short, as soon as it can carry a stream.

        Args:
            control: of the tor that carries the service.
            onion: the service.
            repair: called after circuits that were too short, dialled ones too.
        """
        changes = asyncio.Event()

        def hear(text: str) -> None:
            if is_service_circuit(text, onion):
                changes.set()

        async with contextlib.AsyncExitStack() as held:
            # A filter before the control port may refuse the events. It then hides the circuits as well.
            with contextlib.suppress(CommandRefused):
                for event in ("CIRC", "CIRC_MINOR"):
                    await held.enter_async_context(control.on_event(event, hear))
            tasks = await held.enter_async_context(BackgroundTasks(self._watch(control, onion, changes)))
            if repair is not None:
                tasks.start(self._repair_when_needed(repair))
            yield

    async def _watch(self, control: Control, onion: Onion, changes: asyncio.Event) -> None:
        while not control.closed.done():  # when tor has ended, so have its circuits
            await changes.wait()
            changes.clear()
            try:
                for circuit in await circuits_of(control) or ():
                    if circuit.accepted and circuit.is_of(onion):
                        await self._closes(control, circuit)
            except TorFailed:
                changes.set()  # no answer: look again, unless the connection has ended

    async def _closes(self, control: Control, circuit: JoinedCircuit) -> bool:
        """Close a circuit that is too short; return whether it was."""
        promise = self.level.promise
        expected = promise.accepted if circuit.accepted else promise.dialled
        if len(circuit.relays) >= expected:
            return False
        # Count first: the caller may be cancelled while tor answers.
        self._needs_repair.set()
        self._too_short += 1
        if self._too_short == TOO_SHORT_LIMIT:
            self._give_up(
                TorFailed(
                    f"tor built {TOO_SHORT_LIMIT} circuits that were shorter than {self.level.value} promises, "
                    f"the last with {len(circuit.relays)} relays on our side, expected {expected}",
                    hint="another program may be changing this tor's settings: let onionmpc start its own tor",
                )
            )
        with contextlib.suppress(CommandRefused):  # it has closed by itself
            await control.command(f"CLOSECIRCUIT {circuit.id}")
        return True

    async def _repair_when_needed(self, repair: Repair) -> None:
        """Set tor's options again after each circuit that was too short.

        This runs in its own task: the dial that found the circuit may be cancelled, and other short circuits must still
        be closed. If repairs fail, enough short circuits end the run.
        """
        while True:
            await self._needs_repair.wait()
            self._needs_repair.clear()
            try:
                await repair()
            except (TorError, UsageError) as error:  # too few relays in the consensus, or the disk is full
                self._warn(f"cannot repair tor's settings after a circuit that was too short: {error.message}")


async def circuits_of(control: Control) -> list[JoinedCircuit] | None:
    """Return the joined rendezvous circuits of a tor, oldest first; None if a filter hides them (Tails, Whonix).

    Raises:
        TorFailed: the connection is gone.
    """
    try:
        return parse_circuits(await control.get_info("circuit-status"))
    except CommandRefused:
        return None


async def has_joined(control: Control, username: str) -> bool:
    """Return whether a circuit that was dialled with this SOCKS user name has reached its service."""
    with contextlib.suppress(TorFailed):
        return dialled_circuit(await circuits_of(control) or (), username) is not None
    return False

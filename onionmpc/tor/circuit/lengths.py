"""Holds our tor to the level: closes circuits that are shorter than it promises, and says when there were too many.

Knows what the level promises, and reads lengths from tor, never from what tor was told. Does not know how a level is
brought about, nor the peer's side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from onionmpc.errors import PeerUnreachable, TorError, TorFailed, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh.network import OwnPath
from onionmpc.tasks import Beside
from onionmpc.tor.circuit.status import JoinedCircuit, dialled_circuit, is_service_circuit, parse_circuits
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused

# One may be of a moment between tor's start, or its operator's change of mind, and our setting it right.
TOO_SHORT_LIMIT = 5


class Lengths:
    """What a level promises of circuits, kept.

    Args:
        level: ours; may change before anything is dialled.
        mend: sets tor right again; called after circuits that were too short.
        give_up: called once, when there were too many.
        tell: called with words when tor could not be set right.
    """

    def __init__(
        self,
        level: Level,
        mend: Callable[[], Awaitable[None]],
        give_up: Callable[[TorFailed], None],
        tell: Callable[[str], None],
    ) -> None:
        self.level = level
        self._mend = mend
        self._give_up = give_up
        self._tell = tell
        self._too_short = 0
        self._wrong = asyncio.Event()

    async def require_measure(self, control: Control) -> None:
        """Check that this tor lets us see its circuits: what it was told to build is no measure.

        Raises:
            TorFailed: it does not.
        """
        if await circuits_of(control) is None:
            raise TorFailed(
                "this tor does not let us see its circuits, so nobody could tell whether they are long",
                hint="use a tor of onionmpc's own, or --circuit-length standard",
            )

    async def check_dialled(self, control: Control, username: str) -> OwnPath | None:
        """Return our side of the circuit dialled with this SOCKS user name; None where tor does not show circuits.

        Raises:
            PeerUnreachable: it is shorter than promised, and was closed; or it is gone already.
        """
        circuits = await circuits_of(control)
        if circuits is None:
            return None
        circuit = dialled_circuit(circuits, username)
        if circuit is None:
            raise PeerUnreachable("its circuit was gone before it was used")
        if await self._closes(control, circuit):
            raise PeerUnreachable(
                f"our tor built {len(circuit.relays)} relays, and {self.level.value} promises "
                f"{self.level.promise.dialled}: closed"
            )
        return circuit.own_path

    @contextlib.asynccontextmanager
    async def watching(self, control: Control, onion: Onion) -> AsyncIterator[None]:
        """Close each circuit of this service that is too short, as soon as it can carry a stream."""
        changes = asyncio.Event()

        def hear(text: str) -> None:
            if is_service_circuit(text, onion):
                changes.set()

        async with contextlib.AsyncExitStack() as held:
            # A filter before the control port may hide them; then there is nothing to see either.
            with contextlib.suppress(CommandRefused):
                for event in ("CIRC", "CIRC_MINOR"):
                    await held.enter_async_context(control.on_event(event, hear))
            await held.enter_async_context(Beside(self._watch(control, onion, changes), self._set_right()))
            yield

    async def _watch(self, control: Control, onion: Onion, changes: asyncio.Event) -> None:
        while not control.closed.done():  # when tor is gone, so are its circuits
            await changes.wait()
            changes.clear()
            try:
                for circuit in await circuits_of(control) or ():
                    if circuit.accepted and circuit.is_of(onion):
                        await self._closes(control, circuit)
            except TorFailed:
                changes.set()  # unanswered: look again, unless that was the end of the connection

    async def _closes(self, control: Control, circuit: JoinedCircuit) -> bool:
        """Close a circuit that is too short; return whether it was."""
        promise = self.level.promise
        expected = promise.accepted if circuit.accepted else promise.dialled
        if len(circuit.relays) >= expected:
            return False
        # Counted first: whoever asks may be cancelled while tor answers.
        self._wrong.set()
        self._too_short += 1
        if self._too_short == TOO_SHORT_LIMIT:
            self._give_up(
                TorFailed(
                    f"our tor built {TOO_SHORT_LIMIT} circuits that were shorter than {self.level.value} promises, "
                    f"the last with {len(circuit.relays)} relays on our side, expected {expected}",
                    hint="someone else may be changing this tor's settings: use a tor of onionmpc's own",
                )
            )
        with contextlib.suppress(CommandRefused):  # it closed by itself
            await control.command(f"CLOSECIRCUIT {circuit.id}")
        return True

    async def _set_right(self) -> None:
        """Set tor right again after each circuit that was too short.

        Apart from who counted it: a dial may be cancelled meanwhile, and other circuits are to be closed. If it fails,
        enough short circuits end the run.
        """
        while True:
            await self._wrong.wait()
            self._wrong.clear()
            try:
                await self._mend()
            except (TorError, UsageError) as error:  # the consensus has too few relays, or the disk is full
                self._tell(f"tor could not be set right after a circuit that was too short: {error.message}")


async def circuits_of(control: Control) -> list[JoinedCircuit] | None:
    """Return the joined rendezvous circuits of a tor, oldest first; None where a filter hides them (Tails, Whonix).

    Raises:
        TorFailed: tor is gone.
    """
    try:
        return parse_circuits(await control.get_info("circuit-status"))
    except CommandRefused:
        return None


async def has_joined(control: Control, username: str) -> bool:
    """Tell whether a circuit that was dialled with this SOCKS user name leads to its service."""
    with contextlib.suppress(TorFailed):
        return dialled_circuit(await circuits_of(control) or (), username) is not None
    return False

"""Runs this party's program process, and pumps its bytes to and from the links."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from functools import partial

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process.launch import ProgramExit, start_program
from onionmpc.session.ending import Ending
from onionmpc.session.events import PrivateInputs, UserInterface
from onionmpc.session.marks import Marks
from onionmpc.session.own_party import OwnParty
from onionmpc.session.peers import ConnectedPeer, Peers
from onionmpc.session.watch import ProgramWatch


class ProgramRun:
    """One run of the program."""

    def __init__(self, own: OwnParty, peers: Peers, ending: Ending, watch: ProgramWatch, ui: UserInterface) -> None:
        self._own = own
        self._peers = peers
        self._ending = ending
        self._watch = watch
        self._ui = ui

    async def run(self, session: bytes, inputs: PrivateInputs) -> ProgramExit:
        """Run the program until it succeeds.

        Args:
            inputs: what it gets from this party's user.

        Raises:
            OnionMPCError: it failed. A report was sent to the peers.
        """
        marks = Marks(self._own.identity, self._own.roster, session)
        streams = self._own.plan.streams
        starting = start_program(
            self._own.program_spec(inputs.arguments),
            list(self._peers.numbers),
            streams=streams if inputs.stdin is None else replace(streams, stdin=inputs.stdin),
            hash_output=self._own.shared.receipt,
        )
        async with starting as process, asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._pump(peer, process.sockets[peer.number])) for peer in self._peers]
            beside.append(tasks.create_task(self._watch.run()))
            try:
                ended = await process.wait(self._note_opening, on_wait=partial(self._watch.note_own, marks))
            finally:  # also if a peer fails or this user leaves: a file out of reach may be why all were waiting
                if (beyond := process.out_of_reach()) is not None:
                    self._ui.tell(beyond)
            if ended.status == 0:
                # What the program wrote last may still be on its way to the links.
                await asyncio.gather(*(peer.pump.emptied.wait() for peer in self._peers))
            else:
                self._ending.report_program(ended)
            for task in beside:
                task.cancel()
        if ended.status != 0:
            raise self._ending.error()
        # Other programs may still send to ours, which has ended. Their bytes must be acknowledged, or they would wait.
        for peer in self._peers:
            peer.pump.discard()
        return ended

    async def _pump(self, peer: ConnectedPeer, end: socket.socket) -> None:
        try:
            await peer.pump.run(end)
        except* RemoteProtocolError as errors:
            self._ending.report_offence(peer, str(errors.exceptions[0]))

    def _note_opening(self) -> None:
        self._ending.revealed = True

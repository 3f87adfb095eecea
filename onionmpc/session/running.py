"""Runs this party's program process, and pumps its bytes to and from the links."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process.launch import Ends, ProgramExit, start_program
from onionmpc.program.pump import UnequalEpochs
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
        try:
            async with starting as process, asyncio.TaskGroup() as tasks:
                pumping = [tasks.create_task(self._pump(peer)) for peer in self._peers]
                watching = tasks.create_task(self._watch.run())
                try:
                    ended = await process.wait(
                        self._note_opening, on_epoch=self._begin_epoch, on_wait=partial(self._watch.note_own, marks)
                    )
                finally:  # also if a peer fails or this user leaves: a file out of reach may be why all were waiting
                    if (beyond := process.out_of_reach()) is not None:
                        self._ui.tell(beyond)
                if ended.status == 0:
                    # What the program wrote last may still be on its way to the links.
                    for peer in self._peers:
                        peer.pump.finish()
                    await asyncio.gather(*pumping)
                else:
                    self._ending.report_program(ended)
                for task in (*pumping, watching):
                    task.cancel()
        finally:
            for peer in self._peers:
                peer.pump.close()
        if ended.status != 0:
            raise self._ending.error()
        # Other programs may still send to ours, which has ended. Their bytes must be acknowledged, or they would wait.
        for peer in self._peers:
            peer.pump.discard()
        return ended

    async def _begin_epoch(self, ends: Ends) -> None:
        begun = [peer.pump.begin(ends[peer.number]) for peer in self._peers]
        for epoch in begun:
            await epoch.connected.wait()

    async def _pump(self, peer: ConnectedPeer) -> None:
        try:
            await peer.pump.run()
        except UnequalEpochs as error:
            self._ending.report(peer.number, "program", error.message)
        except RemoteProtocolError as error:
            self._ending.report_offence(peer, error.message)

    def _note_opening(self) -> None:
        self._ending.revealed = True

"""A private network with faults on demand, for tests and benchmarks of what survives them."""

from __future__ import annotations

import asyncio
import signal

import msgspec

from onionmpc.errors import TorFailed, UsageError
from onionmpc.testnet.network import POLL_S, PrivateNetwork
from onionmpc.testnet.relay import Relay, end
from onionmpc.testnet.state import PartySlot, write_state
from tests.support.faulty_gateway import FaultyGateway

# A relay that comes back finds the consensus on its disk, and is there in a second or two. On a busy machine one took
# 16 s; if it has to fetch something again, tor's own retries need up to a minute.
REVIVE_TIMEOUT_S = 90.0


class FaultyNetwork(PrivateNetwork):
    """A private network whose relays can be killed and stopped; each is given by its nickname or its fingerprint."""

    gateway_kind = FaultyGateway

    async def kill_relay(self, name: str) -> None:
        """Kill a relay. It has ended when this returns."""
        await end([self._find(name)], signal.SIGKILL)

    async def revive_relay(self, name: str, timeout_s: float = REVIVE_TIMEOUT_S) -> None:
        """Start a killed relay again, and wait until it can do its part in circuits.

        Without latency a relay that dialled it in vain meanwhile tries again after a minute (connection_or.c,
        OR_CONNECT_FAILURE_LIFETIME), as in the public network. Behind a gateway it tries at once: dialling a proxy
        never fails.

        Raises:
            TorFailed: it did not come back in time.
        """
        relay = self._find(name)
        relay.start(self._tor)
        self._note_processes()
        try:
            async with asyncio.timeout(timeout_s):
                while not relay.is_ready(len(self._tors)):
                    relay.check_alive()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise TorFailed(f"{relay.nickname} did not come back in {timeout_s:g} s", hint=relay.hint) from None

    def stop_relay(self, name: str) -> None:
        """Stop a relay's process until `continue_relay`: its sockets accept bytes, and nothing happens to them."""
        self._find(name).signal(signal.SIGSTOP)

    def continue_relay(self, name: str) -> None:
        """Let a stopped relay continue."""
        self._find(name).signal(signal.SIGCONT)

    def gateway(self, place: PartySlot) -> FaultyGateway:
        """Return the way out of a party's tor, which can be cut and stalled.

        Raises:
            UsageError: without latency there are no gateways.
        """
        gateway = self._gateways.get((place.address, place.gateway_port))
        if not isinstance(gateway, FaultyGateway):
            raise UsageError("a network without latency has no gateways", hint="ask for a latency of a millisecond")
        return gateway

    def _find(self, name: str) -> Relay:
        for tor in self._tors:
            if name in (tor.nickname, tor.fingerprint):
                return tor
        raise UsageError(f"no relay {name} in this network")

    def _note_processes(self) -> None:
        """Keep the state file true when a relay has a new process."""
        if self.state is None:
            return
        processes = {tor.nickname: tor.process.pid for tor in self._tors if tor.process}
        tors = tuple(
            msgspec.structs.replace(tor, process=processes.get(tor.nickname, tor.process)) for tor in self.state.tors
        )
        self.state = msgspec.structs.replace(self.state, tors=tors)
        write_state(self.directory, self.state)

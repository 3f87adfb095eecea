"""Builds a private Tor network on loopback, starts it, reports when it is ready, and ends it.

Knows the tor processes, their keys and files, and the order in which a network starts. Does not know parties (place.py)
or how bytes are delayed (proxy.py).

It is ready within seconds. The relays start, upload their descriptors and end again. The authorities vote as soon as
they know all relays, not at a fixed time. Then the relays start again, and their first request finds a consensus. A
relay that waited for the consensus would get "404" repeatedly, and back off for a minute or more.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import ClassVar, Self

from onionmpc.errors import TorFailed, UsageError
from onionmpc.files import is_held, private_directory, write_private
from onionmpc.tasks import BackgroundTasks
from onionmpc.testnet.authority_keys import make_authority_keys
from onionmpc.testnet.place import common_torrc, fragment, profiles_directory
from onionmpc.testnet.progress import NetworkPhase, NetworkProgress
from onionmpc.testnet.proxy import Gateway, RelayAddress
from onionmpc.testnet.regions import (
    MAX_ONE_WAY_MS,
    SHIPPED_TABLE,
    TABLE_NAME,
    Latency,
    Regions,
    load_regions,
    relay_address,
)
from onionmpc.testnet.relay import Relay, end, fresh_directory, reserve_ports
from onionmpc.testnet.state import (
    STATE_VERSION,
    NetworkState,
    PartySlot,
    TorRecord,
    ownership,
    remove_state,
    tor_directory,
    write_state,
)
from onionmpc.testnet.status import read_text
from onionmpc.tor.process.binary import find_tor
from onionmpc.tor.process.torrc import quote

AUTHORITIES = 3
# With 5 relays beside 3 authorities, a circuit sometimes failed because there was no relay left for a hop. With 10, no
# attempt of 20 failed.
MIN_RELAYS = 12
MAX_RELAYS = 60
PARTY_SLOTS_PER_REGION = 8

VOTING_INTERVAL_S = 1800  # as in testnet-authority.torrc, which says why
# Late enough that any machine has started all relays before the first vote.
FIRST_VOTE_IN_S = 900
# tor's minimum is 2 s. On a busy machine votes may arrive too late, so each further attempt gets more time.
VOTE_DELAYS_S = (2, 4, 8, 20)
RELAY_WEIGHT_KB = 1000
BANDWIDTHS_NAME = "bandwidths"
# How long an authority takes to reread its torrc.
RELOAD_S = 0.5
# How long to wait for descriptors, and for relays to fetch the consensus. tor's own retries need up to a minute.
STEP_TIMEOUT_S = 120.0
ENDING = (signal.SIGTERM, signal.SIGKILL)
LEFTOVERS_TIMEOUT_S = 30.0
POLL_S = 0.1


class PrivateNetwork:
    """A private Tor network that runs for as long as the context lasts.

    Args:
        directory: keeps all its files; created if needed, readable only by its user.
        relays: the number of relays beside the 3 authorities, at least 12.
        latency: "regions" (the table in the directory), "none", or the one-way latency between any two tors in
            milliseconds.
        progress: called at each step, and when a count within a step changes.

    Raises:
        UsageError: a setting is out of range or, on entry, a network runs in the directory already.
        TorError: on entry: tor is not installed, or a tor process failed.
    """

    # Tests have a kind that can be cut and stalled.
    gateway_kind: ClassVar[type[Gateway]] = Gateway
    # Torrc lines to put before a relay's own, by its nickname. Tests make one relay an exit.
    further_lines: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init__(
        self,
        directory: Path,
        *,
        relays: int = MIN_RELAYS,
        latency: Latency = "regions",
        progress: Callable[[NetworkProgress], None] = lambda _: None,
    ) -> None:
        if not MIN_RELAYS <= relays <= MAX_RELAYS:
            raise UsageError(f"{relays} relays, expected {MIN_RELAYS} to {MAX_RELAYS}")
        if not isinstance(latency, str) and not 0 <= latency <= MAX_ONE_WAY_MS:
            raise UsageError(f"a latency of {latency} ms, expected 0 to {MAX_ONE_WAY_MS:.0f}")
        self.directory = directory
        self.state: NetworkState | None = None
        self._relays = relays
        self._latency: Latency = "none" if latency == 0 else latency
        self._progress = progress
        self._started_s = 0.0
        self._tor = Path()
        self._tors: list[Relay] = []
        self._gateways: dict[RelayAddress, Gateway] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the network.

        Returns when a client that starts now finds a fresh consensus of all relays, and all relays know it.
        """
        self._started_s = time.monotonic()
        async with AsyncExitStack() as stack:
            self._tor = find_tor().path
            private_directory(self.directory)
            stack.enter_context(ownership(self.directory))
            remove_state(self.directory)
            stack.callback(remove_state, self.directory)
            regions = self._load_regions()
            await self._wait_for_leftovers()
            # A party's tor from an earlier network would look for the relays of that network.
            shutil.rmtree(profiles_directory(self.directory), ignore_errors=True)
            self._tors = self._plan(stack, regions)
            slots = await self._open_gateways(stack, regions)
            await self._make_keys()
            stack.push_async_callback(end, self._tors, *ENDING)
            authorities = [tor for tor in self._tors if tor.authority]
            relays = [tor for tor in self._tors if not tor.authority]
            self._report(NetworkPhase.START)
            for tor in self._tors:
                self._write_torrc(tor, _offset_s(time.time() + FIRST_VOTE_IN_S), VOTE_DELAYS_S[0])
            self._start(self._tors)
            await self._wait(NetworkPhase.DESCRIPTORS, authorities, lambda tor: tor.knows_all(len(self._tors)))
            await end(relays, *ENDING)
            self._weigh(authorities)
            await self._vote(authorities)
            self._start(relays)
            await self._wait(NetworkPhase.FETCH, relays, lambda tor: tor.is_ready(len(self._tors)))
            self.state = self._write_state(regions, slots)
            await stack.enter_async_context(BackgroundTasks(self._watch()))
            self._report(NetworkPhase.READY)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process; keys and logs stay in the directory."""
        await self._stack.aclose()

    def _report(self, phase: NetworkPhase, done: int = 0, total: int = 0) -> None:
        self._progress(NetworkProgress(phase, time.monotonic() - self._started_s, done, total))

    def _load_regions(self) -> Regions:
        table = self.directory / TABLE_NAME
        if not table.exists():
            write_private(table, SHIPPED_TABLE.read_bytes())
        regions = load_regions(table)
        return regions if isinstance(self._latency, str) else regions.flat(self._latency)

    async def _wait_for_leftovers(self) -> None:
        """Wait for tors whose owner was killed. They end by themselves within 15 s, and write files until then."""
        deadline_s = time.monotonic() + LEFTOVERS_TIMEOUT_S
        while left := [path for path in self.directory.glob("tors/*/lock") if is_held(path)]:
            self._report(NetworkPhase.LEFTOVERS)
            if time.monotonic() > deadline_s:
                raise TorFailed(f"{len(left)} tors of an earlier network do not end", hint=f"fuser -k {left[0]}")
            await asyncio.sleep(POLL_S)

    def _plan(self, stack: AsyncExitStack, regions: Regions) -> list[Relay]:
        """Give each tor a name, a region, an address, a port and an empty directory."""
        # Relays first: the shares of the regions are about relays, since authorities carry next to nothing.
        names = [f"relay{i:02}" for i in range(self._relays)] + [f"authority{i}" for i in range(AUTHORITIES)]
        tors = []
        for number, (name, region) in enumerate(zip(names, regions.relay_regions(), strict=False)):
            address = relay_address(number)
            authority = name.startswith("authority")
            or_port, dir_port = reserve_ports(stack, address, 2)
            tors.append(
                Relay(
                    name,
                    region,
                    address,
                    fresh_directory(tor_directory(self.directory, name)),
                    authority,
                    or_port,
                    dir_port if authority else 0,
                )
            )
        return tors

    async def _open_gateways(self, stack: AsyncExitStack, regions: Regions) -> tuple[PartySlot, ...]:
        """Open a gateway for each tor and for each party's place, unless there is no latency.

        Returns:
            The parties' places; the regions take turns.
        """
        region_of: dict[RelayAddress, str] = {(tor.address, tor.or_port): tor.region for tor in self._tors}

        async def open_gateway(address: str, region: str) -> int:
            """Open one; return its port, or 0 without latency."""
            if self._latency == "none":
                return 0

            def one_way_s(target: RelayAddress) -> float | None:
                to = region_of.get(target)
                return None if to is None else regions.one_way_s(region, to)

            gateway = await stack.enter_async_context(self.gateway_kind(address, one_way_s))
            self._gateways[address, gateway.port] = gateway
            return gateway.port

        for tor in self._tors:
            if port := await open_gateway(tor.address, tor.region):
                tor.gateway = f"{tor.address}:{port}"
        slots = []
        places = itertools.product(range(1, PARTY_SLOTS_PER_REGION + 1), regions.names)
        for number, (row, region) in enumerate(places):
            address = regions.party_address(region, row)
            slots.append(PartySlot(number, region, address, await open_gateway(address, region)))
        return tuple(slots)

    async def _make_keys(self) -> None:
        """Make the keys of the authorities: every torrc has their fingerprints. Relays make their own keys."""
        self._report(NetworkPhase.KEYS)
        async with asyncio.TaskGroup() as group:
            for tor in self._tors:
                if tor.authority:
                    group.create_task(asyncio.to_thread(make_authority_keys, tor, self._tor))

    def _start(self, tors: Sequence[Relay]) -> None:
        for tor in tors:
            tor.start(self._tor)

    def _write_torrc(self, tor: Relay, offset_s: int, delay_s: int) -> None:
        lines = tuple(authority.directory_authority() for authority in self._tors if authority.authority)
        text = common_torrc(lines, tor.gateway) + self.further_lines.get(tor.nickname, "")
        text += fragment(
            "testnet-relay",
            nickname=tor.nickname,
            directory=quote(tor.directory),
            notices=quote(f"notice file {tor.notices}"),
            owner=os.getpid(),
            address=tor.address,
            or_port=tor.or_port,
        )
        if tor.authority:
            text += fragment(
                "testnet-authority",
                bandwidths=quote(tor.directory / BANDWIDTHS_NAME),
                address=tor.address,
                dir_port=tor.dir_port,
                offset_s=offset_s,
                delay_s=delay_s,
            )
        write_private(tor.directory / "torrc", text.encode())

    def _weigh(self, authorities: Sequence[Relay]) -> None:
        """Give each relay the same weight. An unused relay measures itself at 0, and would be chosen never or always.

        Source: torspec, bandwidth-file-spec 1.0.
        """
        lines = [f"{time.time():.0f}"]
        for tor in self._tors:
            tor.fingerprint = read_text(tor.directory / "fingerprint").split()[-1]
            lines.append(f"node_id=${tor.fingerprint} bw={RELAY_WEIGHT_KB}")
        for authority in authorities:
            write_private(authority.directory / BANDWIDTHS_NAME, "".join(line + "\n" for line in lines).encode())

    async def _vote(self, authorities: Sequence[Relay]) -> None:
        """Make the authorities vote now. Repeat it with more time if votes arrive too late."""
        for delay_s in VOTE_DELAYS_S:
            self._report(NetworkPhase.VOTE)
            publish_s = math.ceil(time.time() + RELOAD_S + 2 * delay_s)
            for tor in authorities:
                self._write_torrc(tor, _offset_s(publish_s), delay_s)
                tor.signal(signal.SIGHUP)
            while time.time() < publish_s + delay_s:
                self._check_alive()
                if all(tor.has_consensus(len(self._tors)) for tor in authorities):
                    return
                await asyncio.sleep(POLL_S)
        raise TorFailed(
            f"the authorities agreed on no consensus in {len(VOTE_DELAYS_S)} votes",
            hint=authorities[0].hint,
        )

    async def _wait(self, phase: NetworkPhase, tors: Sequence[Relay], ready: Callable[[Relay], bool]) -> None:
        """Wait until all these tors are ready."""
        self._report(phase, 0, len(tors))
        waiting = list(tors)
        deadline_s = time.monotonic() + STEP_TIMEOUT_S
        while waiting:
            self._check_alive()
            before = len(waiting)
            waiting = [tor for tor in waiting if not ready(tor)]
            if len(waiting) < before:
                self._report(phase, len(tors) - len(waiting), len(tors))
            if waiting and time.monotonic() > deadline_s:
                raise TorFailed(
                    f"{len(waiting)} of {len(tors)} tors are stuck: {phase.words}",
                    hint=waiting[0].hint,
                )
            if waiting:
                await asyncio.sleep(POLL_S)

    def _check_alive(self) -> None:
        for tor in self._tors:
            tor.check_alive()

    def _write_state(self, regions: Regions, slots: tuple[PartySlot, ...]) -> NetworkState:
        state = NetworkState(
            version=STATE_VERSION,
            owner=os.getpid(),
            started_at=time.time(),
            latency=self._latency if isinstance(self._latency, str) else f"{self._latency:g} ms",
            one_way_ms={}
            if self._latency == "none"
            else {one: {other: regions.one_way_ms[one, other] for other in regions.names} for one in regions.names},
            directory_authorities=tuple(tor.directory_authority() for tor in self._tors if tor.authority),
            tors=tuple(
                TorRecord(
                    nickname=tor.nickname,
                    region=tor.region,
                    address=tor.address,
                    or_port=tor.or_port,
                    fingerprint=tor.fingerprint,
                    process=tor.process.pid if tor.process else 0,
                    authority=tor.authority,
                )
                for tor in self._tors
            ),
            slots=slots,
        )
        write_state(self.directory, state)
        return state

    async def _watch(self) -> None:
        """Reap tors that end early, so that other processes do not see them as zombies."""
        while True:
            for tor in self._tors:
                if tor.process is not None:
                    tor.process.poll()
            await asyncio.sleep(1.0)


def _offset_s(vote_at_s: float) -> int:
    """Return the offset for which the authorities publish a consensus at this time (seconds since 1970)."""
    return math.ceil(vote_at_s) % VOTING_INTERVAL_S

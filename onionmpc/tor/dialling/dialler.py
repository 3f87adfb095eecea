"""Dials peers over the current tor, and refuses a stream whose circuit is too short.

It gives tor the keys to peers' descriptors, and has tor fetch a descriptor again if that may help. dial.py does SOCKS.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import replace

from onionmpc.errors import NotExpected, PeerUnreachable
from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.circuit.lengths import Lengths, has_joined
from onionmpc.tor.control.connection import Control
from onionmpc.tor.dialling.dial import dial_onion
from onionmpc.tor.dialling.peer_descriptor import add_client_key, refetch_descriptor, remove_client_keys
from onionmpc.tor.restarter import TorRestarter
from onionmpc.tor.service.service import VIRTUAL_PORT


class Dialler:
    """Dials over one tor after the other.

    Args:
        restarter: knows the current tor.
        lengths: measures each circuit.
        tasks: run what no caller waits for.
        silent_s: see `TorTimings`.
    """

    def __init__(self, restarter: TorRestarter, lengths: Lengths, tasks: BackgroundTasks, silent_s: float) -> None:
        self._restarter = restarter
        self._lengths = lengths
        self._tasks = tasks
        self._silent_s = silent_s
        self._keys: dict[Onion, bytes] = {}
        # When the dials without an answer began, by peer.
        self._waiting: collections.defaultdict[Onion, list[float]] = collections.defaultdict(list)

    def unlock(self, onion: Onion, key: bytes) -> None:
        """See `Network.unlock`."""
        self._keys[onion] = key

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """See `Network.dial`.

        Raises:
            NotIntroduced: the peer did not answer, but may be there. Also what `Network.dial` raises.
        """
        instance, loop = self._restarter.current(), asyncio.get_running_loop()
        waiting, began_s = self._waiting[onion], loop.time()
        until_s = began_s + timeout_s
        async with _answering(until_s, timeout_s):
            await self._prepare(instance.control, onion, began_s)
        waiting.append(began_s)
        try:
            dialled = await dial_onion(
                instance.socks,
                onion,
                VIRTUAL_PORT,
                until_s - loop.time(),
                functools.partial(has_joined, instance.control),
            )
        except NotExpected:
            raise  # tor could not read the descriptor, so it fetches it again at the next dial anyway
        except PeerUnreachable:
            self._tasks.start(refetch_descriptor(instance.control, onion))
            raise
        finally:
            waiting.remove(began_s)
        try:
            async with _answering(until_s, timeout_s):
                path = await self._lengths.check_dialled(instance.control, dialled.username)
        except BaseException:  # usually a cancellation, because another dial was faster
            await dialled.stream.close()
            raise
        return replace(dialled.stream, path=path)

    async def _prepare(self, control: Control, onion: Onion, now_s: float) -> None:
        if onion in self._keys:
            # Before each dial: tor has one key per address, and another party that uses this tor may have removed it.
            await add_client_key(control, onion, self._keys[onion])
        if any(now_s - began_s >= self._silent_s for began_s in self._waiting[onion]):
            # An earlier dial has no answer yet. tor's copy of the descriptor may be out of date: the peer may have
            # added its service again.
            await refetch_descriptor(control, onion)

    async def forget_keys(self) -> None:
        """Remove our keys to peers from a tor that continues without us."""
        instance = self._restarter.instance
        if instance is not None and instance.own is None:
            await remove_client_keys(instance.control, self._keys)


@contextlib.asynccontextmanager
async def _answering(until_s: float, timeout_s: float) -> AsyncIterator[None]:
    """Limit tor commands to the time of the dial that they belong to: each alone could take a minute."""
    try:
        async with asyncio.timeout_at(until_s):
            yield
    except TimeoutError:
        raise PeerUnreachable(f"tor did not answer within {timeout_s:.3g} s") from None

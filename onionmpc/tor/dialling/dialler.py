"""Dials peers over the current tor, and refuses a stream whose circuit is too short.

It gives tor the keys to peers' descriptors, and has tor fetch a descriptor again when needed. dial.py speaks SOCKS.
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
        restarter: has the current tor.
        lengths: measures each circuit.
        tasks: take what no caller waits for.
        silent_s: see `TorTimings`.
    """

    def __init__(self, restarter: TorRestarter, lengths: Lengths, tasks: BackgroundTasks, silent_s: float) -> None:
        self._restarter = restarter
        self._lengths = lengths
        self._tasks = tasks
        self._silent_s = silent_s
        self._keys: dict[Onion, bytes] = {}
        # When the dials began that have no answer yet, by peer.
        self._waiting: collections.defaultdict[Onion, list[float]] = collections.defaultdict(list)

    def unlock(self, onion: Onion, key: bytes) -> None:
        """See `Network.unlock`."""
        self._keys[onion] = key

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """See `Network.dial`.

        Raises:
            NotIntroduced: nobody answered, though somebody may be there; and what `Network.dial` raises.
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
            raise  # tor could read nothing, so it fetches the descriptor again at the next dial by itself
        except PeerUnreachable:
            self._tasks.start(refetch_descriptor(instance.control, onion))
            raise
        finally:
            waiting.remove(began_s)
        try:
            async with _answering(until_s, timeout_s):
                path = await self._lengths.check_dialled(instance.control, dialled.username)
        except BaseException:  # usually cancelled, because another dial got through meanwhile
            await dialled.stream.close()
            raise
        return replace(dialled.stream, path=path)

    async def _prepare(self, control: Control, onion: Onion, now_s: float) -> None:
        if onion in self._keys:
            # Before each dial: another party may use the same tor, and remove its key when it leaves.
            await add_client_key(control, onion, self._keys[onion])
        if any(now_s - began_s >= self._silent_s for began_s in self._waiting[onion]):
            # The dial before this one has no answer. tor's copy of the descriptor may be out of date, if the peer has
            # added its service again since.
            await refetch_descriptor(control, onion)

    async def forget_keys(self) -> None:
        """Take our keys to peers out of a tor that goes on without us."""
        instance = self._restarter.instance
        if instance is not None and instance.own is None:
            await remove_client_keys(instance.control, self._keys)


@contextlib.asynccontextmanager
async def _answering(until_s: float, timeout_s: float) -> AsyncIterator[None]:
    """Limit the time of tor commands to that of the dial that they are part of: each alone may take a minute."""
    try:
        async with asyncio.timeout_at(until_s):
            yield
    except TimeoutError:
        raise PeerUnreachable(f"our tor did not answer within {timeout_s:.3g} s") from None

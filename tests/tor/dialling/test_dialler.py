"""Dialling over the current tor, with a fake SOCKS port and a scripted control connection."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from onionmpc.errors import PeerUnreachable, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh.network import Stream
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.circuit.lengths import Lengths
from onionmpc.tor.dialling.dialler import Dialler
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.instance import TorInstance
from tests.support.fake_socks import SUCCEEDED, FakeSocks, listening

ONION = Onion("a" * 56 + ".onion")


async def never(*_: object) -> str:
    await asyncio.Event().wait()
    return ""


SILENT = SimpleNamespace(command=never, get_info=never)


def dialler(
    control: Any, socks: Endpoint, tasks: BackgroundTasks, *, lengths: Any = None, silent_s: float = 2.0
) -> Dialler:
    """Return a dialler with a tor that has this SOCKS port and this control connection."""
    instance = TorInstance(control, socks)
    restarter: Any = SimpleNamespace(current=lambda: instance, instance=instance)

    def fail(*why: object) -> None:
        pytest.fail(str(why))

    return Dialler(restarter, lengths or Lengths(Level.STANDARD, fail, fail), tasks, silent_s)


@pytest.mark.parametrize(("silent_s", "fetched"), [(1000.0, 0), (0.0, 1)])
def test_the_descriptor_is_fetched_again_only_beside_a_dial_that_has_waited_long(silent_s: float, fetched: int) -> None:
    commands: list[str] = []

    async def command(line: str) -> str:
        commands.append(line)
        return ""

    async def silent(stream: Stream) -> None:
        await stream.reader.read()

    async def main() -> None:
        async with listening(silent) as socks, BackgroundTasks() as tasks:
            dialling = dialler(SimpleNamespace(command=command), socks, tasks, silent_s=silent_s)
            race = [asyncio.create_task(dialling.dial(ONION, 30)) for _ in range(3 if not fetched else 1)]
            await asyncio.sleep(0)
            assert commands == []
            race.append(asyncio.create_task(dialling.dial(ONION, 30)))
            await asyncio.sleep(0)
            assert commands == ["HSFETCH " + "a" * 56] * fetched
            for dial in race:
                dial.cancel()
            await asyncio.gather(*race, return_exceptions=True)
            assert dialling._waiting[ONION] == []

    asyncio.run(main())


# Issue 12. Whatever happens to a dial, its stream is closed, and it keeps to its timeout.


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), UsageError("the disk is full"), ZeroDivisionError()])
def test_a_stream_is_closed_if_counting_its_circuit_fails(failure: BaseException) -> None:
    ended = asyncio.Event()

    async def serve(stream: Stream) -> None:
        await FakeSocks(SUCCEEDED).serve(stream)
        ended.set()

    async def fail(*_: object) -> None:
        await asyncio.sleep(0)
        raise failure

    async def main() -> None:
        async with listening(serve) as socks, BackgroundTasks() as tasks:
            dialling = dialler(None, socks, tasks, lengths=SimpleNamespace(check_dialled=fail))
            with pytest.raises(type(failure)):
                await dialling.dial(ONION, 30)
            async with asyncio.timeout(5):
                await ended.wait()

    asyncio.run(main())


@pytest.mark.parametrize("answer", [SUCCEEDED, bytes([5, 0xF0, 0, 1, 0, 0, 0, 0, 0, 0]), b""], ids=["ok", "F0", "none"])
@pytest.mark.parametrize("unlocks", [False, True])
def test_a_dial_ends_in_time_even_if_tor_answers_no_command(answer: bytes, unlocks: bool) -> None:
    async def main() -> None:
        async with listening(FakeSocks(answer, stays=True).serve) as socks, BackgroundTasks() as tasks:
            dialling = dialler(SILENT, socks, tasks)
            if unlocks:
                dialling.unlock(ONION, bytes([1]) * 32)
            async with asyncio.timeout(5):  # not the minute that a command may take
                with pytest.raises(PeerUnreachable):
                    await dialling.dial(ONION, 0.2)
            assert dialling._waiting[ONION] == []

    asyncio.run(main())

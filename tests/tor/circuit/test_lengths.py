"""A circuit that is shorter than the level promises is closed, and too many of them end the run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from onionmpc.errors import PeerUnreachable, TorFailed, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh.network import OwnPath
from onionmpc.tor.circuit.lengths import TOO_SHORT_LIMIT, Lengths, has_joined
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused, connection_gone

OURS, OTHERS = Onion("a" * 56 + ".onion"), Onion("b" * 56 + ".onion")
DIALLED, ACCEPTED = "HS_CLIENT_REND HS_STATE=HSCR_JOINED", "HS_SERVICE_REND HS_STATE=HSSR_JOINED"
DEADLINE_S = 10.0


class FakeControl:
    """A scripted tor that lists its circuits, and closes them."""

    def __init__(self) -> None:
        self.circuits: dict[str, str] = {}
        self.hidden = False
        self.unanswered = 0
        self.cut: list[str] = []
        self.gone = False
        self.closed = SimpleNamespace(done=lambda: self.gone)
        self.listeners: list[Callable[[str], None]] = []

    def build(self, name: str, relays: int, purpose: str, onion: Onion = OURS, username: str = "") -> None:
        path = ",".join(f"${digit * 40}~r{digit}" for digit in "ABCDEF"[:relays])
        query = onion.removesuffix(".onion")
        line = f'{name} BUILT {path} PURPOSE={purpose} REND_QUERY={query} SOCKS_USERNAME="{username}"'
        self.circuits[name] = line
        for listener in self.listeners:
            listener(line)

    async def get_info(self, key: str) -> str:
        assert key == "circuit-status"
        if self.gone:
            raise connection_gone()
        if self.unanswered:
            self.unanswered -= 1
            raise TorFailed("tor did not answer GETINFO in 60 s")
        if self.hidden:
            raise CommandRefused("GETINFO", 510, "filtered")
        return "\n".join(self.circuits.values())

    async def command(self, line: str) -> str:
        word, name = line.split()
        assert word == "CLOSECIRCUIT"
        if self.circuits.pop(name, None) is None:
            raise CommandRefused(line, 552, "no such circuit")
        self.cut.append(name)
        return "OK"

    @contextlib.asynccontextmanager
    async def on_event(self, name: str, callback: Callable[[str], None]) -> AsyncIterator[None]:
        if self.hidden:
            raise CommandRefused("SETEVENTS", 510, "filtered")
        self.listeners.append(callback)
        yield
        self.listeners.remove(callback)


class Held:
    """`Lengths` at a level, with a record of what it did."""

    def __init__(self, level: Level) -> None:
        self.tor = FakeControl()
        self.control = cast(Control, self.tor)
        self.mended = 0
        self.given_up: list[TorFailed] = []
        self.failures: list[Exception] = []
        self.told: list[str] = []
        self.lengths = Lengths(level, self.given_up.append, self.told.append)

    async def repair(self) -> None:
        self.mended += 1
        if self.failures:
            raise self.failures.pop(0)

    async def until_closed(self, count: int) -> None:
        await self.until(lambda: len(self.tor.cut) >= count)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 (the fake's own doing, a turn of the loop away)
            await asyncio.sleep(0)


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    return asyncio.run(bounded())


@pytest.mark.parametrize("level", Level)
def test_a_dialled_circuit_as_long_as_promised_is_kept(level: Level) -> None:
    held = Held(level)
    held.tor.build("1", level.promise.dialled, DIALLED, OTHERS, "me")
    path = run(held.lengths.check_dialled(held.control, "me"))
    assert path == OwnPath(level.promise.dialled, "ABCDEF"[level.promise.dialled - 1] * 40)
    assert held.tor.cut == []


@pytest.mark.parametrize("level", Level)
def test_a_dialled_circuit_that_is_too_short_is_closed_and_tor_repaired(level: Level) -> None:
    held = Held(level)
    held.tor.build("1", level.promise.dialled - 1, DIALLED, OTHERS, "me")
    with pytest.raises(PeerUnreachable, match=f"{level.value} promises {level.promise.dialled}: closed"):
        run(held.lengths.check_dialled(held.control, "me"))
    assert held.tor.cut == ["1"]
    assert held.given_up == []

    async def watched() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            await held.until(lambda: held.mended == 1)

    run(watched())


def test_a_dialled_circuit_that_has_ended_is_not_used() -> None:
    held = Held(Level.STANDARD)
    held.tor.build("1", 3, DIALLED, OTHERS, "someone else")
    with pytest.raises(PeerUnreachable, match="closed before it was used"):
        run(held.lengths.check_dialled(held.control, "me"))


def test_if_tor_hides_its_circuits_standard_is_unmeasured_and_long_does_not_start() -> None:
    held = Held(Level.STANDARD)
    held.tor.hidden = True
    assert run(held.lengths.check_dialled(held.control, "me")) is None
    with pytest.raises(TorFailed, match="does not show its circuits"):
        run(held.lengths.require_measure(held.control))


@pytest.mark.parametrize("level", [Level.STANDARD, Level.LONG])
def test_an_accepted_circuit_that_is_too_short_is_closed_without_being_matched(level: Level) -> None:
    held = Held(level)

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            held.tor.build("1", level.promise.accepted, ACCEPTED)
            held.tor.build("2", 1, ACCEPTED, OTHERS)
            held.tor.build("3", 1, DIALLED, OTHERS, "someone else")
            held.tor.build("4", level.promise.accepted - 1, ACCEPTED)
            await held.until_closed(1)
        assert held.tor.cut == ["4"]
        assert held.tor.listeners == []

    run(main())


def test_watching_a_tor_that_hides_its_circuits_does_nothing() -> None:
    held = Held(Level.STANDARD)
    held.tor.hidden = True

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            held.tor.build("1", 1, ACCEPTED)

    run(main())
    assert held.tor.cut == []


def test_after_some_short_circuits_the_run_is_given_up_once() -> None:
    held = Held(Level.LONG)

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            for count in range(TOO_SHORT_LIMIT + 1):
                held.tor.build(str(count), 3, DIALLED if count % 2 else ACCEPTED, OURS, "me")
                if count % 2:
                    with pytest.raises(PeerUnreachable):
                        await held.lengths.check_dialled(held.control, "me")
                await held.until_closed(count + 1)
                assert len(held.given_up) == (count + 1 >= TOO_SHORT_LIMIT)

    run(main())
    (error,) = held.given_up
    assert "shorter than long promises, the last with 3 relays on our side, expected 5" in error.message
    assert "let onionmpc start its own tor" in error.hint


def test_a_dial_has_joined_when_tor_has_a_circuit_for_its_user_name() -> None:
    held = Held(Level.STANDARD)
    held.tor.build("1", 3, DIALLED, OTHERS, "ours")
    held.tor.build("2", 4, "HS_CLIENT_REND HS_STATE=HSCR_ESTABLISHED_WAITING", OTHERS, "waits")
    assert run(has_joined(held.control, "ours"))
    assert not run(has_joined(held.control, "waits"))
    held.tor.hidden = True
    assert not run(has_joined(held.control, "ours"))


# Issue 12.


@pytest.mark.parametrize("failure", [TorFailed("the consensus has too few relays"), UsageError("disk full")], ids=repr)
def test_a_failed_repair_is_reported_and_short_circuits_are_still_closed(failure: Exception) -> None:
    held = Held(Level.LONG)
    held.failures = [failure, failure]

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            for count in range(3):
                held.tor.build(str(count), 4, ACCEPTED)
                await held.until_closed(count + 1)
                await held.until(lambda count=count: held.mended == count + 1)

    run(main())
    assert held.tor.cut == ["0", "1", "2"]
    assert held.told == [f"cannot repair tor's settings after a circuit that was too short: {failure}"] * 2


@pytest.mark.parametrize("failure", [TorFailed("the consensus has too few relays"), UsageError("disk full")], ids=repr)
def test_a_failed_repair_costs_no_more_than_the_dial(failure: Exception) -> None:
    held = Held(Level.LONG)
    held.failures = [failure]

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            held.tor.build("1", 3, DIALLED, OTHERS, "me")
            with pytest.raises(PeerUnreachable, match="long promises 4: closed"):
                await held.lengths.check_dialled(held.control, "me")
            await held.until(lambda: bool(held.told))

    run(main())


def test_a_repair_outlives_the_dial_that_caused_it_and_delays_no_other_circuit() -> None:
    held = Held(Level.LONG)
    repaired = asyncio.Event()

    async def repair() -> None:
        await repaired.wait()
        held.mended += 1

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, repair):
            held.tor.build("1", 3, DIALLED, OTHERS, "me")
            with pytest.raises(PeerUnreachable):
                await held.lengths.check_dialled(held.control, "me")
            held.tor.build("2", 4, ACCEPTED)
            await held.until_closed(2)
            assert held.mended == 0
            repaired.set()
            await held.until(lambda: held.mended > 0)

    run(main())


def test_a_tor_that_did_not_answer_is_asked_again() -> None:
    held = Held(Level.STANDARD)

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            held.tor.unanswered = 2
            held.tor.build("1", 1, ACCEPTED)
            await held.until_closed(1)

    run(main())


def test_the_watch_ends_with_the_connection() -> None:
    held = Held(Level.STANDARD)

    async def main() -> None:
        changes = asyncio.Event()
        changes.set()
        held.tor.gone = True
        await held.lengths._watch(held.control, OURS, changes)

    run(main())


def test_a_bug_in_a_repair_ends_the_instance_and_is_raised() -> None:
    held = Held(Level.STANDARD)
    held.failures = [ZeroDivisionError()]

    async def main() -> None:
        async with held.lengths.watching(held.control, OURS, held.repair):
            held.tor.build("1", 1, ACCEPTED)
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        run(main())

"""Restarting a tor, with instances that end when the test says so."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from onionmpc.errors import PeerUnreachable, TorError, TorFailed, TorNotFound, UsageError
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.instance import TorInstance
from onionmpc.tor.restarter import TorRestarter, waits_s


class ShortLife:
    """Stands in for a TorInstance: it is lost when the test ends it."""

    def __init__(self) -> None:
        self.end: asyncio.Future[TorError] = asyncio.get_running_loop().create_future()
        self.left = False

    async def lost(self) -> TorError:
        return await self.end


class Lives:
    """Starts one instance after the other, or fails as often as the test says."""

    def __init__(self, *failures: Exception | None, then: Exception | None = None) -> None:
        self.begun: list[ShortLife] = []
        self.tries = 0
        self.bug_at_end: Exception | None = None
        self._failures = itertools.chain(failures, itertools.repeat(then))

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        self.tries += 1
        if (failure := next(self._failures)) is not None:
            raise failure
        life = ShortLife()
        self.begun.append(life)
        try:
            yield life
        finally:
            life.left = True
        if self.bug_at_end is not None:
            raise self.bug_at_end


Scene = Callable[[TorRestarter, Lives, list[str]], Awaitable[None]]


def play(scene: Scene, lives: Lives, patience_s: float = 5) -> None:
    async def main() -> None:
        told: list[str] = []
        async with asyncio.timeout(20):
            restarter = TorRestarter(
                lives.begin,
                patience_s,
                lambda percent, words: told.append(f"{percent} {words}"),
                waits=lambda: itertools.repeat(0.0),
            )
            async with restarter.running():
                await scene(restarter, lives, told)

    asyncio.run(main())
    assert all(life.left for life in lives.begun)


def test_tries_begin_at_once_and_then_wait_longer_and_longer_up_to_a_bound() -> None:
    waits = list(itertools.islice(waits_s(), 12))
    assert waits[0] == 0
    assert 0.75 <= waits[1] <= 1.25
    assert 0.75 * 15 <= waits[-1] <= 1.25 * 15


def test_the_first_tor_is_there_when_the_restarter_is() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        assert restarter.instance is restarter.current() is await restarter.available() is lives.begun[0]
        assert told == []

    play(scene, Lives())


@pytest.mark.parametrize("failure", [TorNotFound("no tor"), UsageError("no profile"), ZeroDivisionError()])
def test_a_failure_of_the_first_start_is_raised_at_once(failure: Exception) -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        pytest.fail("it started")

    lives = Lives(failure)
    with pytest.raises(type(failure)):
        play(scene, lives)
    assert lives.tries == 1


def test_a_lost_tor_is_reported_and_followed_by_another() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        first = restarter.instance
        restored = asyncio.create_task(restarter.restored())
        lives.begun[0].end.set_result(TorFailed("tor was killed by signal 9\n  tor: its last words"))
        await restored
        assert lives.begun[0].left
        assert restarter.instance is lives.begun[1]
        assert await restarter.available(after=first) is lives.begun[1]
        assert told == ["0 tor was killed by signal 9; starting again", "100 tor is back after 0 s"]

    play(scene, Lives())


def test_a_tor_that_crashes_after_each_start_is_given_up() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        async def crash() -> None:
            for number in itertools.count():
                while len(lives.begun) <= number:  # noqa: ASYNC110 (a turn of the loop away)
                    await asyncio.sleep(0)
                lives.begun[number].end.set_result(TorFailed("tor crashed"))

        crashing = asyncio.create_task(crash())
        await asyncio.wait({restarter.died})
        crashing.cancel()
        assert restarter.died.result().message == "our tor was down for 0.2 s; giving up: tor crashed"
        assert len(lives.begun) > 2

    play(scene, Lives(), patience_s=0.2)


def test_every_outage_wakes_all_waiters_except_those_that_gave_up() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        for life in range(3):
            waiting = [asyncio.create_task(restarter.restored()) for _ in range(3)]
            await restarter.available()
            waiting[0].cancel()
            lives.begun[life].end.set_result(TorFailed("gone"))
            await asyncio.gather(*waiting[1:])
            assert waiting[0].cancelled()
        assert len(lives.begun) == 4

    play(scene, Lives())


def test_during_an_outage_peers_are_unreachable() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        seen: list[str] = []

        def look(percent: int, words: str) -> None:
            with pytest.raises(PeerUnreachable, match="our tor is restarting"):
                restarter.current()
            seen.append(words)

        restarter._report = look
        restored = asyncio.create_task(restarter.restored())
        lives.begun[0].end.set_result(TorFailed("gone"))
        await restored
        assert len(seen) == 4

    play(scene, Lives(None, TorFailed("still starting"), UsageError("no space")))


def test_a_tor_that_does_not_come_back_is_given_up_with_the_last_cause() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        lives.begun[0].end.set_result(TorFailed("tor was killed by signal 9"))
        await asyncio.wait({restarter.died})
        error = restarter.died.result()
        assert str(error) == "our tor was down for 0.05 s; giving up: no tor program on this machine"
        assert error.hint == "install it"
        for waiting in (restarter.available(), restarter.available(after=None)):
            with pytest.raises(TorFailed, match="giving up"):
                await waiting
        with pytest.raises(TorFailed, match="giving up"):
            restarter.current()

    missing = TorNotFound("no tor program on this machine", hint="install it")
    play(scene, Lives(None, then=missing), patience_s=0.05)


def test_a_waiter_for_the_next_tor_learns_that_there_will_be_none() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        waiting = asyncio.create_task(restarter.available(after=restarter.instance))
        lives.begun[0].end.set_result(TorFailed("gone"))
        with pytest.raises(TorFailed, match="giving up: the disk is full"):
            await waiting

    play(scene, Lives(None, then=UsageError("the disk is full")), patience_s=0.05)


def test_a_bug_of_ours_does_not_leave_anyone_waiting() -> None:
    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        lives.begun[0].end.set_result(TorFailed("gone"))
        await asyncio.wait({restarter.died})
        with pytest.raises(ZeroDivisionError):
            restarter.died.result()

    with pytest.raises(ZeroDivisionError):
        play(scene, Lives(None, ZeroDivisionError()))


# Issue 12.


def test_a_bug_after_tor_was_given_up_is_raised_at_the_end_and_nothing_is_reported_twice() -> None:
    unseen: list[dict[str, Any]] = []

    async def scene(restarter: TorRestarter, lives: Lives, told: list[str]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: unseen.append(what))
        lives.bug_at_end = ZeroDivisionError()
        restarter.give_up(TorFailed("its circuits are too short"))
        lives.begun[0].end.set_result(TorFailed("gone"))
        while not lives.begun[0].left:  # noqa: ASYNC110 (a turn of the loop away)
            await asyncio.sleep(0)
        assert restarter.died.result().message == "its circuits are too short"

    with pytest.raises(ZeroDivisionError):
        play(scene, Lives())
    assert unseen == []


# --- What an instance notices ----------------------------------------------------------------------------------


class Answers:
    """Stands in for a Control: answers each question as scripted, True for an answer, then stays silent."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked = 0
        self._answers = list(answers)

    async def get_info(self, key: str) -> str:
        self.asked += 1
        answer = self._answers.pop(0) if self._answers else False
        if isinstance(answer, Exception):
            raise answer
        if not answer:
            await asyncio.Event().wait()
        return "0.4.9.11"


def lost(script: Callable[[], Answers], question_s: float = 0.01) -> tuple[Answers, TorError]:
    async def main() -> tuple[Answers, TorError]:
        answers = script()
        life = TorInstance(answers, Endpoint(path="/nowhere"), question_s=question_s)  # type: ignore[arg-type]
        async with asyncio.timeout(5):
            return answers, await life.lost()

    return asyncio.run(main())


# Issue 12.
def test_a_bug_in_the_question_is_not_taken_for_a_tor_that_hangs() -> None:
    with pytest.raises(ZeroDivisionError):
        lost(lambda: Answers(True, ZeroDivisionError()))


def test_two_unanswered_questions_in_a_row_are_a_hang() -> None:
    answers, error = lost(lambda: Answers(True, True))
    assert answers.asked == 4
    assert str(error) == "tor does not answer: 2 questions in a row, 0.01 s each"


def test_one_late_answer_is_not_a_hang() -> None:
    """We and tor were stopped together: the current question is overdue when we continue, the next is answered."""
    answers, _ = lost(
        lambda: Answers(True, False, True, False, True, CommandRefused("GETINFO", 551, "filtered"), False)
    )
    assert answers.asked == 8


def test_a_closed_connection_is_noticed_at_once() -> None:
    def script() -> Answers:
        answers = Answers(True)
        asyncio.get_running_loop().call_soon(answers.closed.set_result, None)
        return answers

    answers, error = lost(script, question_s=10.0)
    assert answers.asked <= 1
    assert "closed the control connection" in str(error)

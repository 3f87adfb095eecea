"""No task ends unseen: its owner hears of it, with the error itself."""

# Issue 12.

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import pytest

from onionmpc.errors import LinkExpired, TorFailed
from onionmpc.tasks import BackgroundTasks, ErrorForwarder, cancel, first_of, show_failure, together

DEADLINE_S = 10.0


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        unseen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: unseen.append(what))
        try:
            async with asyncio.timeout(DEADLINE_S):
                await work
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert unseen == []

    asyncio.run(bounded())


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def test_what_runs_beside_a_block_is_cancelled_at_its_end() -> None:
    async def main() -> None:
        async with BackgroundTasks(for_ever()) as tasks:
            tasks.start(for_ever())
            tasks.start(asyncio.sleep(0))
            await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("error", [TorFailed("gone"), ZeroDivisionError()])
def test_what_fails_beside_a_block_ends_it_with_that_error_and_its_cause(error: Exception) -> None:
    cause = OSError("why")

    async def main() -> None:
        async with BackgroundTasks(for_ever(), fail(error, cause)):
            await for_ever()

    with pytest.raises(type(error)) as raised:
        run(main())
    assert raised.value is error
    assert error.__cause__ is cause


def test_a_task_that_was_started_later_ends_the_block_too_and_none_is_started_after_it() -> None:
    refused: list[object] = []

    async def main() -> None:
        tasks = BackgroundTasks()
        try:
            async with tasks:
                tasks.start(fail(ZeroDivisionError()))
                await for_ever()
        finally:
            refused.append(tasks.start(for_ever()))

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert refused == [None]


def test_an_error_of_the_block_passes_as_it_is() -> None:
    error = TorFailed("gone")

    async def main() -> None:
        async with BackgroundTasks(for_ever()):
            raise error from OSError("why")

    with pytest.raises(TorFailed) as raised:
        run(main())
    assert raised.value is error
    assert str(error.__cause__) == "why"


def test_a_block_that_is_cancelled_is_cancelled_and_no_more() -> None:
    async def block() -> None:
        async with BackgroundTasks(for_ever()):
            await for_ever()

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    run(main())


def test_what_goes_on_beside_a_block_does_so_until_it_has_said_why_it_ends() -> None:
    said: list[str] = []

    async def carries() -> None:
        try:
            await for_ever()
        finally:
            said.append("carried")

    async def main() -> None:
        async with BackgroundTasks(carries(), fail(TorFailed("gone"))):
            try:
                await for_ever()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                said.append("goodbye")
                raise

    with pytest.raises(TorFailed, match="gone"):
        run(main())
    assert said == ["goodbye", "carried"]


def test_a_block_that_does_not_wait_hears_of_a_failure_at_its_end_and_nobody_is_cancelled_later() -> None:
    async def main() -> None:
        failed = asyncio.Event()
        block = BackgroundTasks()
        await block.__aenter__()
        task = block.start(fail(ZeroDivisionError()))
        assert task is not None
        task.add_done_callback(lambda _: failed.set())
        with contextlib.suppress(asyncio.CancelledError):
            await failed.wait()
        with pytest.raises(ZeroDivisionError):
            await block.__aexit__(None, None, None)
        await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("failure", [None, ZeroDivisionError()], ids=repr)
def test_a_block_that_is_cancelled_while_it_ends_waits_for_all_and_is_cancelled(failure: Exception | None) -> None:
    ended: list[str] = []

    async def stays() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.01)
            ended.append("it")
            if failure is not None:
                raise failure

    async def block() -> None:
        async with BackgroundTasks(stays()):
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(block())
        for _ in range(4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert ended == ["it"]
        assert task.cancelled() if failure is None else task.exception() is failure

    run(main())


def test_a_group_that_the_block_raises_is_opened() -> None:
    error = TorFailed("gone")

    async def main() -> None:
        async with BackgroundTasks():
            raise ExceptionGroup("several", [ExceptionGroup("more", [error])])

    with pytest.raises(TorFailed) as raised:
        run(main())
    assert raised.value is error


def test_what_a_callback_raises_is_handed_on() -> None:
    heard: list[BaseException] = []

    async def main() -> None:
        def call_back() -> None:
            with ErrorForwarder(heard.append):
                raise ZeroDivisionError

        asyncio.get_running_loop().call_soon(call_back)
        await asyncio.sleep(0)

    run(main())
    assert [type(error) for error in heard] == [ZeroDivisionError]
    with pytest.raises(KeyboardInterrupt), ErrorForwarder(heard.append):
        raise KeyboardInterrupt


def test_of_several_that_run_together_one_that_fails_ends_the_others() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await for_ever()
        finally:
            ended.append("it")

    with pytest.raises(ZeroDivisionError):
        run(together(waits(), fail(ZeroDivisionError())))
    assert ended == ["it"]


def test_a_bug_of_a_task_that_is_cancelled_is_raised_and_what_users_are_told_is_not() -> None:
    async def stumbles(error: Exception) -> None:
        try:
            await for_ever()
        finally:
            raise error

    async def main(error: Exception) -> None:
        tasks = asyncio.create_task(for_ever()), asyncio.create_task(stumbles(error))
        await asyncio.sleep(0)
        await cancel(*tasks)

    run(main(LinkExpired("it is gone")))
    run(main(ExceptionGroup("several", [LinkExpired("it is gone")])))
    with pytest.raises(ZeroDivisionError):
        run(main(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run(main(ExceptionGroup("several", [ZeroDivisionError()])))


def test_what_ends_a_task_that_nobody_waits_for_is_shown_by_the_loop() -> None:
    shown: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, what: shown.append(what["exception"]))
        bug = ZeroDivisionError()
        for work in (fail(bug), asyncio.sleep(0)):
            task = loop.create_task(work)
            task.add_done_callback(show_failure)
            await asyncio.wait({task})
        await asyncio.sleep(0)
        assert shown == [bug]

    asyncio.run(main())


def test_the_first_that_is_done_decides_and_the_others_go_on() -> None:
    async def returns(answer: int) -> int:
        return answer

    async def body() -> None:
        waiting = asyncio.create_task(for_ever())
        failed = asyncio.create_task(fail(TorFailed("gone")))
        returned = asyncio.create_task(returns(7))
        assert await first_of(waiting, returned) == 7
        with pytest.raises(TorFailed, match="gone"):
            await first_of(waiting, failed)
        # Both are done: the order of the arguments counts.
        assert await first_of(returned, failed) == 7
        assert not waiting.done()
        await cancel(waiting)

    run(body())


def test_who_waits_for_the_first_can_be_cancelled_and_what_it_waits_for_goes_on() -> None:
    async def body() -> None:
        waiting = asyncio.create_task(for_ever())
        watching = asyncio.create_task(first_of(waiting))
        await asyncio.sleep(0)
        await cancel(watching)
        assert watching.cancelled()
        assert not waiting.done()
        await cancel(waiting)

    run(body())

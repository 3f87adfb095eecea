"""No task ends unseen: its owner hears of it, with the error itself."""

# Issue 12.

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from onionmpc.errors import LinkExpired, TorFailed
from onionmpc.tasks import beside, cancel, together

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
        async with beside(for_ever()) as tasks:
            tasks.start(for_ever())
            tasks.start(asyncio.sleep(0))
            await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("error", [TorFailed("gone"), ZeroDivisionError()])
def test_what_fails_beside_a_block_ends_it_with_that_error_and_its_cause(error: Exception) -> None:
    cause = OSError("why")

    async def main() -> None:
        async with beside(for_ever(), fail(error, cause)):
            await for_ever()

    with pytest.raises(type(error)) as raised:
        run(main())
    assert raised.value is error
    assert error.__cause__ is cause


def test_a_task_that_was_started_later_ends_the_block_too_and_none_is_started_then() -> None:
    refused: list[object] = []

    async def main() -> None:
        async with beside() as tasks:
            tasks.start(fail(ZeroDivisionError()))
            try:
                await for_ever()
            finally:
                refused.append(tasks.start(for_ever()))

    with pytest.raises(ZeroDivisionError):
        run(main())
    assert refused == [None]


def test_an_error_of_the_block_passes_as_it_is() -> None:
    error = TorFailed("gone")

    async def main() -> None:
        async with beside(for_ever()):
            raise error from OSError("why")

    with pytest.raises(TorFailed) as raised:
        run(main())
    assert raised.value is error
    assert str(error.__cause__) == "why"


def test_a_block_that_is_cancelled_is_cancelled_and_no_more() -> None:
    async def block() -> None:
        async with beside(for_ever()):
            await for_ever()

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    run(main())


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

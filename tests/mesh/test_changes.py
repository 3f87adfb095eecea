"""Waiting for conditions on a state that changes."""

from __future__ import annotations

import asyncio

from onionmpc.mesh.changes import Changes
from tests.support.mesh import in_a_loop


@in_a_loop
async def test_a_condition_that_held_for_a_moment_is_seen_only_by_the_task_that_asks_for_that() -> None:
    changes, state = Changes(), False
    seeing = asyncio.create_task(changes.until_seen(lambda: state))
    waiting = asyncio.create_task(changes.until(lambda: state))
    await asyncio.sleep(0)
    for state in (True, False):  # noqa: B007 (the condition reads it)
        changes.notify()
    await seeing
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})


@in_a_loop
async def test_a_condition_that_comes_true_just_after_a_change_ends_the_wait() -> None:
    changes, state = Changes(), False
    waiting = asyncio.create_task(changes.until(lambda: state))
    await asyncio.sleep(0)
    changes.notify()
    state = True
    await waiting


@in_a_loop
async def test_only_the_tasks_whose_condition_holds_wake() -> None:
    changes = Changes()
    waiting, next_change = asyncio.create_task(changes.until_seen(lambda: False)), asyncio.create_task(changes.next())
    await asyncio.sleep(0)
    changes.notify()
    await next_change
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})
    changes.notify()


@in_a_loop
async def test_a_condition_that_holds_already_needs_no_wait() -> None:
    await Changes().until(lambda: True)
    await Changes().until_seen(lambda: True)

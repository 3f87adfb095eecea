"""Waiting for conditions on a state that changes."""

from __future__ import annotations

import asyncio

from onionmpc.mesh.changes import Changes
from tests.support.mesh import in_a_loop


@in_a_loop
async def test_a_condition_that_held_for_a_moment_wakes_its_task() -> None:
    changes, state = Changes(), False
    waiting = asyncio.create_task(changes.until(lambda: state))
    await asyncio.sleep(0)
    for state in (True, False):  # noqa: B007 (the condition reads it)
        changes.notify()
    await waiting


@in_a_loop
async def test_only_the_tasks_whose_condition_holds_wake() -> None:
    changes = Changes()
    waiting, next_change = asyncio.create_task(changes.until(lambda: False)), asyncio.create_task(changes.next())
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

"""A program process knows what may wake it. For whole sessions, see test_watch.py."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import uvloop

from onionmpc.program.process.failures import Failures
from onionmpc.program.process.waiting import BARRIER_LOOK_S, WaitingWatch
from tests.support.rehearsal import write_spec

DEADLINE_S = 30.0

CHILDREN = """
import subprocess, sys
from onionmpc.program.process.waiting import _has_children
assert not _has_children()
process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
assert _has_children()
process.communicate(b"end")
assert not _has_children()
"""


# Issue 12.
def test_a_child_process_counts_until_it_is_waited_for() -> None:
    subprocess.run([sys.executable, "-c", CHILDREN], check=True, timeout=60)


# Issue 12.
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_barriers_sleep_in_any_loop_and_nothing_is_reported_about_one_that_is_not_asyncios(
    tmp_path: Any, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with contextlib.closing(make_loop()) as loop:
        module = SimpleNamespace(asyncio=asyncio)
        spec = msgspec.structs.replace(write_spec(tmp_path, "pass"), waiting_s=DEADLINE_S)
        watch = WaitingWatch(SimpleNamespace(_loop=loop), spec, {}, Failures(loop), lambda _: None)
        watch.replace_asyncio(module)
        assert watch.enabled == isinstance(loop, asyncio.SelectorEventLoop)

        async def barrier() -> int:
            turns = 0
            happened = loop.create_future()
            loop.call_later(50 * BARRIER_LOOK_S, happened.set_result, None)
            while not happened.done():
                await module.asyncio.sleep(0)
                turns += 1
            return turns

        assert loop.run_until_complete(asyncio.wait_for(barrier(), DEADLINE_S)) <= 60

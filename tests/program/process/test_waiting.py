"""A program process knows what may wake it. For whole sessions, see test_watch.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from onionmpc.program.process.failures import Failures
from onionmpc.program.process.waiting import WaitingWatch
from tests.support.rehearsal import write_spec

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
def test_nothing_is_reported_about_a_loop_that_is_not_asyncios(tmp_path: Any) -> None:
    loop = asyncio.new_event_loop()
    failures = Failures(loop)
    module = SimpleNamespace(asyncio=asyncio)
    # Like uvloop, it has nothing that we know.
    other: Any = SimpleNamespace(_loop=object())
    WaitingWatch(other, write_spec(tmp_path, "pass"), {}, failures, lambda _: None).replace_asyncio(module)
    assert module.asyncio is asyncio
    loop.close()

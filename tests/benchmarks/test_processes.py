"""What the processes of a benchmark say is noted, and all of them end with their context."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.common import Failed
from benchmarks.processes import Process, running


def followed(*lines: str) -> Process:
    process = Process(SimpleNamespace(pid=os.getpid()), lambda: None)  # type: ignore[arg-type]
    for line in lines:
        process.take_line(line)
    return process


def event(name: str, **values: Any) -> str:
    return json.dumps({"event": name, **values})


def test_a_party_is_connected_with_its_last_link() -> None:
    first, last = event("link_up", connected=1, peers=2), event("link_up", connected=2, peers=2)
    assert followed(first).connected_s == 0
    party = followed(first, last)
    assert party.connected_s >= party.heard_s["link_up"]


def test_events_are_told_from_other_words() -> None:
    party = followed("a word", '["no event"]', "{}", event("failed", error="party 2 was lost"))
    assert [told["error"] for told in party.heard("failed")] == ["party 2 was lost"]
    assert party.words == ["a word", '["no event"]', "{}"]
    assert party.last_words.startswith("party 2 was lost\n")
    assert party.peak_bytes > 0 or sys.platform != "linux"


def test_results_are_what_a_program_printed_last() -> None:
    party = followed()
    with pytest.raises(Failed, match="printed nothing"):
        _ = party.results
    party.printed += ["words", "[1.5]"]
    assert party.results == [1.5]


def test_a_process_that_fails_is_reported_at_once_and_the_others_end() -> None:
    async def main() -> Process:
        async with running(60) as processes:
            waits = await processes.start(sys.executable, "-c", "import time; time.sleep(600)")
            await processes.start(sys.executable, "-c", "import sys; sys.exit('it broke')")
            with pytest.raises(Failed, match=r"party 1 ended with status 1:\s+it broke"):
                await processes.ended(processes.all)
        return waits

    assert asyncio.run(main()).process.returncode not in (None, 0)


def test_who_waits_for_an_event_of_a_process_that_ends_hears_of_it() -> None:
    async def main() -> None:
        async with running(60) as processes:
            await processes.start(sys.executable, "-c", "")
            with pytest.raises(Failed, match="ended too early"):
                await processes.hears(lambda: False)

    asyncio.run(main())


def test_what_takes_too_long_is_a_failure() -> None:
    async def main() -> None:
        async with running(0.1) as processes:
            await processes.start(sys.executable, "-c", "import time; time.sleep(600)")
            await processes.ended(processes.all)

    with pytest.raises(Failed, match="did not end within 0 s"):
        asyncio.run(main())

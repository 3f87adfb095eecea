"""Publishing again, with a service that fails when it is used."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onionmpc.errors import UsageError
from onionmpc.identity import Identity
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.options import TorOptions, TorTimings
from onionmpc.tor.report import Reporter
from onionmpc.tor.service.publisher import Publisher
from onionmpc.tor.service.refresh import RefreshSchedule

# Issue 12. No failure of the work in the background goes unnoticed.


class FailingService:
    """A service that cannot be added again."""

    control = onion = None

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    async def reseal(self, _target: str) -> None:
        raise self.failure

    async def remove(self) -> None:
        raise self.failure


@contextlib.asynccontextmanager
async def publishing(directory: Path, failure: Exception, told: list[str]) -> AsyncIterator[Publisher]:
    """A publisher that has published, with a service that fails from now on."""
    instance = SimpleNamespace(gone=False, second=None)

    async def available() -> object:
        return instance

    class FailingPublisher(Publisher):
        def service_in(self, _instance: object) -> Any:
            return FailingService(failure)

    async with asyncio.timeout(10), BackgroundTasks() as tasks:
        restarter: Any = SimpleNamespace(instance=instance, available=available)
        options = TorOptions(timings=TorTimings(refresh_every_s=0, new_service_s=0))
        reporter = Reporter(lambda report: told.append(report.detail))
        publisher = FailingPublisher(Identity(bytes(32)), options, restarter, tasks, directory, reporter)
        publisher._keys, publisher._target = [bytes(32)], "unix:/socket"
        publisher.doubt()
        yield publisher


@pytest.mark.parametrize(
    "touch", [lambda publisher: publisher.admit([bytes(32)]), Publisher.refresh], ids=["admit", "refresh"]
)
def test_a_service_that_cannot_be_added_again_is_reported_and_a_bug_ends_the_network(
    tmp_path: Path, touch: Callable[[Publisher], None]
) -> None:
    told: list[str] = []

    async def main(failure: Exception) -> None:
        async with publishing(tmp_path, failure, told) as publisher:
            touch(publisher)
            while not told:  # noqa: ASYNC110 (a turn of the loop away)
                await asyncio.sleep(0)

    asyncio.run(main(UsageError("the disk is full")))
    assert told == ["our onion service may not be found: the disk is full"]
    told.clear()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(main(ZeroDivisionError()))


# --- When -------------------------------------------------------------------------------------------------------


def test_checks_are_due_some_time_after_adding_the_service_and_then_spaced_out() -> None:
    schedule = RefreshSchedule(every_s=15, new_s=60)
    schedule.added(100)
    assert not schedule.begin(114)
    assert schedule.begin(115)
    assert not schedule.begin(129)
    assert schedule.begin(130)


def test_doubt_does_not_replace_a_new_service_or_one_that_would_lose_its_streams() -> None:
    schedule = RefreshSchedule(every_s=15, new_s=60)
    schedule.added(100)
    schedule.doubt()
    assert schedule.is_new(159)
    assert not schedule.take_doubt(159, may_act=True)
    assert not schedule.take_doubt(160, may_act=True)
    schedule.doubt()
    assert not schedule.take_doubt(160, may_act=False)
    assert not schedule.take_doubt(160, may_act=True)


def test_doubt_counts_less_and_less_often_while_a_peer_is_away() -> None:
    schedule = RefreshSchedule(every_s=15, new_s=60)
    now_s = 0.0
    for new_s in (60, 120, 240):
        schedule.added(now_s)
        schedule.doubt()
        assert schedule.is_new(now_s + new_s - 1)
        now_s += new_s
        assert schedule.take_doubt(now_s, may_act=True)
    schedule.reached()
    schedule.added(now_s)
    assert not schedule.is_new(now_s + 60)

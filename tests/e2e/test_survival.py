"""A computation outlives its circuits: sessions under every kind of fault, compared byte for byte."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.faults import Kind, plan_faults
from tests.e2e.survival import LATENCY_MS, LEAST_ROUNDS, Report, survive
from tests.support.faulty_network import FaultyNetwork

pytestmark = pytest.mark.tor

SEED = 20261
EVERY_S = 5.0
# How many faults befall how many parties: each kind of fault once, and a few of them again.
FAULTS = {3: len(Kind), 5: 4}


async def under_faults(folder: Path, parties: int) -> Report:
    """Run a session of so many parties under their faults, in a network of its own."""
    faults = FAULTS[parties]
    plan = plan_faults(SEED + parties, 2 * EVERY_S * faults, EVERY_S)[:faults]
    place = folder / "parties"
    place.mkdir()
    async with FaultyNetwork(folder / "net", latency=LATENCY_MS) as network:
        return await survive(network, place, plan, seed=SEED, parties=parties)


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    with tempfile.TemporaryDirectory(prefix="onionmpc-survival-") as name:
        yield asyncio.run(under_faults(Path(name), request.param))


@pytest.mark.parametrize("report", [3, pytest.param(5, marks=pytest.mark.weekly)], indirect=True)
def test_a_session_comes_through_faults_unharmed(report: Report) -> None:
    assert not report.problems, report.describe()
    assert report.output_ok, report.describe()
    assert report.digests_ok, report.describe()
    assert report.rounds >= LEAST_ROUNDS


@pytest.mark.parametrize("report", [3], indirect=True)
def test_every_kind_of_fault_came_about(report: Report) -> None:
    assert {felt.kind for felt in report.felt} == {kind.word for kind in Kind}, report.describe()

"""A computation outlives its circuits: two sessions under every kind of fault, compared byte for byte."""

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


async def both(folder: Path) -> dict[int, Report]:
    """Three parties under each kind of fault, then five under some, in one network."""
    reports = {}
    async with FaultyNetwork(folder / "net", latency=LATENCY_MS) as network:
        for parties, faults in FAULTS.items():
            place = folder / f"parties-{parties}"
            place.mkdir()
            plan = plan_faults(SEED + parties, 2 * EVERY_S * faults, EVERY_S)[:faults]
            reports[parties] = await survive(network, place, plan, seed=SEED, parties=parties)
    return reports


@pytest.fixture(scope="module")
def reports() -> Iterator[dict[int, Report]]:
    with tempfile.TemporaryDirectory(prefix="onionmpc-survival-") as name:
        yield asyncio.run(both(Path(name)))


@pytest.mark.parametrize("parties", FAULTS)
def test_a_session_comes_through_faults_unharmed(reports: dict[int, Report], parties: int) -> None:
    report = reports[parties]
    assert not report.problems, report.describe()
    assert report.output_ok, report.describe()
    assert report.digests_ok, report.describe()
    assert report.rounds >= LEAST_ROUNDS


def test_every_kind_of_fault_came_about(reports: dict[int, Report]) -> None:
    came = {felt.kind for report in reports.values() for felt in report.felt}
    assert came == {kind.word for kind in Kind}, reports[3].describe()

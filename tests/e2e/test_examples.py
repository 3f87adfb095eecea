"""The examples print in one session over tor what they print with plain MPyC."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onionmpc.api.tryout import try_out
from tests.e2e.kit import Stage, after

pytestmark = [pytest.mark.tor, pytest.mark.weekly]

OWN_NETWORK = True
EXAMPLES = Path(__file__).parents[2] / "examples"
# The made-up model of private_inference is fitted by floating-point numbers, but what it prints is the same each time.
PROGRAMS = (
    "rank_vote",
    "survey",
    "set_overlap",
    "match",
    "logistic_regression",
    "private_inference",
    "kaplan_meier",
)
# Hundreds of hops, each with the time that the machine needs for three parties.
ALL_S = 600.0


async def all_examples(stage: Stage) -> dict[str, Any]:
    """One session that computes them one after the other."""
    first, *further = PROGRAMS
    then = [word for name in further for word in ("--then", name)]
    demo = await stage.run("demo", "demo", first, *then, "--latency", "none", "--json", "report.json")
    await demo.ends(ALL_S)
    assert demo.code == 0, demo.last_words
    return {"report": json.loads((stage.folder / "report.json").read_text())}


@after(all_examples)
def test_each_example_prints_by_demo_what_it_prints_by_plain_mpyc(outcome: dict[str, Any]) -> None:
    expected = []
    for name in PROGRAMS:
        public = try_out(name, (), (), {}).public
        command = [sys.executable, str(EXAMPLES / f"{name}.py"), "-M3", "--no-log", *public, "--demo"]
        expected += subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    # Plain MPyC shows the output of party 0.
    (output,) = [party["output"] for party in outcome["report"]["parties"] if party["own_number"] == 0]
    assert output == expected

"""Each program takes as many hops as its first lines say."""

from __future__ import annotations

import ast
import asyncio
import re

import pytest

from onionmpc.api.tryout import try_out
from onionmpc.program.rehearsal import profile
from tests.support.examples import EXAMPLES
from tests.support.rehearsal import spec_of

DEADLINE_S = 120.0
STATED = re.compile(r"^hops: (\d+) with three parties", re.MULTILINE)
HEADS = {path.stem: ast.get_docstring(ast.parse(path.read_text())) or "" for path in sorted(EXAMPLES.glob("*.py"))}
HOPS = {name: int(found[1]) for name, head in HEADS.items() if (found := STATED.search(head))}


@pytest.mark.parametrize(("name", "hops"), HOPS.items())
def test_a_dry_run_counts_the_hops_that_a_program_states(name: str, hops: int) -> None:
    tried = try_out(name, (), (), {})
    profiled = asyncio.run(profile(spec_of(name, *tried.public, *tried.private), DEADLINE_S))
    assert profiled.hops.count == hops

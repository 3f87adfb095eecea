"""The audit: every claim names tests that are there, and one that fails breaks it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.audit import THREATS, Claim, read_claims, verdict

ROOT = Path(__file__).parents[1]
CLAIMS = read_claims(THREATS.read_text())


def test_the_table_is_read_whole() -> None:
    section = THREATS.read_text().partition("\n## Claims\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if "tests/" in line]
    assert len(CLAIMS) == len(rows) > 10


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.words[:40])
def test_a_claim_is_held_by_tests_that_are_there(claim: Claim) -> None:
    assert claim.tests
    for test in claim.tests:
        file, _, name = test.partition("::")
        functions = [node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, FUNCTION)]
        assert name in functions if name else any(function.startswith("test") for function in functions), test


FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize(
    ("by_test", "holds"),
    [
        ({"tests/test_a.py::test_x[1]": "passed", "tests/test_b.py::test_y": "passed"}, True),
        ({"tests/test_a.py::test_x[1]": "passed", "tests/test_a.py::test_x[2]": "failed"}, False),
        ({"tests/test_a.py::test_x": "passed", "tests/test_b.py::test_z": "failed"}, False),
        ({"tests/test_a.py::test_x": "passed", "tests/test_a.py::test_other": "failed"}, True),
        ({"tests/test_a.py::test_x": "skipped"}, False),
        ({}, False),
    ],
)
def test_a_claim_holds_if_its_tests_passed_and_none_failed(by_test: dict[str, str], *, holds: bool) -> None:
    claim = Claim("Nothing leaks.", ("tests/test_a.py::test_x", "tests/test_b.py"))
    assert verdict(claim, by_test)[0] is holds


def test_a_claim_is_told_in_a_line() -> None:
    claim = Claim("Nothing leaks: " + "not a byte, " * 20, ("tests/test_a.py",))
    told = verdict(claim, {"tests/test_a.py::test_x": "passed", "tests/test_a.py::test_y": "failed"})[1]
    assert told == "BROKEN  Nothing leaks (1 passed, 1 failed)"

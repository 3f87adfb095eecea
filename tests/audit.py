"""`make audit`: runs the tests that hold each claim of docs/THREATS.md, and prints a line for each claim.

Knows the table there, which is the only place where claims and tests are named together.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

THREATS = Path(__file__).parents[1] / "docs" / "THREATS.md"
TEST = re.compile(r"tests/[\w/]+\.py(?:::\w+)?")
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """A row of the table.

    Attributes:
        tests: files, or functions in them, as pytest names them.
    """

    words: str
    tests: tuple[str, ...]

    def holds(self, nodeid: str) -> bool:
        """Tell whether a test, which may have parameters, is one of this claim's."""
        file, _, rest = nodeid.partition("::")
        return file in self.tests or f"{file}::{rest.partition('[')[0]}" in self.tests


def read_claims(text: str) -> list[Claim]:
    """Return the claims of the table."""
    section = text.partition("\n## Claims\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")][2:]
    return [Claim(claim.strip(), tuple(TEST.findall(held_by))) for claim, held_by, _ in rows]


class Outcomes:
    """A plugin of pytest's that notes how each test went: as its worst phase did."""

    def __init__(self) -> None:
        self.by_test: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one phase of a test."""
        if report.outcome != "passed" or report.when == "call":
            self.by_test[report.nodeid] = report.outcome if self.by_test.get(report.nodeid) != "failed" else "failed"


def verdict(claim: Claim, by_test: dict[str, str]) -> tuple[bool, str]:
    """Return whether a claim holds, and a line that says so."""
    counts = Counter(outcome for test, outcome in by_test.items() if claim.holds(test))
    holds = counts["passed"] > 0 and not counts["failed"]
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome])
    words = claim.words.partition(":")[0] if len(claim.words) > WIDTH else claim.words
    return holds, f"{'holds ' if holds else 'BROKEN'}  {words.rstrip('.')} ({told or 'no test ran'})"


def main() -> int:
    """Run the tests; return the exit code."""
    claims = read_claims(THREATS.read_text())
    outcomes = Outcomes()
    tests = dict.fromkeys(test for claim in claims for test in claim.tests)
    pytest.main(["-q", "--no-header", *tests, *sys.argv[1:]], plugins=[outcomes])
    verdicts = [verdict(claim, outcomes.by_test) for claim in claims]
    print("", *(line for _, line in verdicts), sep="\n")  # noqa: T201
    return int(not all(holds for holds, _ in verdicts))


if __name__ == "__main__":
    sys.exit(main())

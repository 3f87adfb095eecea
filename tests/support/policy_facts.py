"""What a policy is asked about: facts, seats and counted runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from onionmpc.identity import Onion
from onionmpc.names.standing import Seat, Standing
from onionmpc.session.policy import Rule
from onionmpc.session.policy_decision import Facts
from onionmpc.session.policy_runs import Run
from tests.support.agreements import AGREEMENT, COMMON
from tests.support.policies import DIGEST

NOW = datetime(2026, 12, 1, 6, tzinfo=UTC)


def seat(number: int, *names: str, standing: Standing = Standing.KNOWN, onion: str = "") -> Seat:
    """Another party."""
    return Seat(number, Onion(onion or COMMON.addresses[number]), standing, names)


def facts(**changes: Any) -> Facts:
    """What party 0 of AGREEMENT knows, which has a contact and typed an address."""
    usual: dict[str, Any] = {"agreement": AGREEMENT, "seats": (seat(1, "bank"), seat(2)), "runs": (), "now": NOW}
    return Facts(**(usual | changes))


def run(at: datetime, by: Rule, number: int = 0, **changes: Any) -> Run:
    """A run that a rule allowed, of the parties of `facts()`."""
    usual: dict[str, Any] = {
        "id": f"{number:016x}",
        "at": at,
        "rule": by.digest,
        "program": DIGEST.removeprefix("sha256:"),
        "files": (),
        "roster": facts().roster,
    }
    return Run(**(usual | changes))

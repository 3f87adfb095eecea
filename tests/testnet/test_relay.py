"""The process of one relay ends in any state, and only its log since the last start counts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from onionmpc.errors import TorFailed
from onionmpc.testnet.relay import Relay, end

DEADLINE_S = 20.0


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    """A relay whose process is not a tor."""
    made = Relay("relay00", "asia", "127.0.0.1", tmp_path, authority=False, or_port=1)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait(DEADLINE_S)


def program(folder: Path, body: str) -> Path:
    """Write a program that takes the place of tor. It is called as `PROGRAM -f TORRC --quiet`."""
    path = folder / "tor"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return path


def ended(relay: Relay, *numbers: signal.Signals) -> int | None:
    """End a relay, and return its exit status."""
    process = relay.process
    assert process is not None

    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await end([relay], *numbers)

    asyncio.run(bounded())
    assert relay.process is None
    return process.returncode


def test_a_stopped_relay_handles_sigterm(relay: Relay, tmp_path: Path) -> None:
    relay.start(program(tmp_path, "exec sleep 60"))
    relay.signal(signal.SIGSTOP)
    assert ended(relay, signal.SIGTERM, signal.SIGKILL) == -signal.SIGTERM


def test_a_killed_relay_is_not_a_failure_and_can_be_started_again(relay: Relay, tmp_path: Path) -> None:
    sleeper = program(tmp_path, "exec sleep 60")
    relay.start(sleeper)
    assert ended(relay, signal.SIGKILL) == -signal.SIGKILL
    relay.check_alive()
    relay.signal(signal.SIGCONT)
    relay.start(sleeper)
    assert isinstance(relay.process, subprocess.Popen)
    relay.check_alive()


def test_a_relay_that_ends_by_itself_is_reported_with_its_last_warning(relay: Relay, tmp_path: Path) -> None:
    relay.notices.write_text("Nov 23 01:00:00.000 [warn] of an earlier life\n")
    relay.start(program(tmp_path, f"echo 'Nov 23 02:00:00.000 [warn] no space left' >> {relay.notices}; exit 1"))
    assert relay.process is not None
    relay.process.wait(DEADLINE_S)
    with pytest.raises(TorFailed, match=r"^relay00 ended: no space left$") as caught:
        relay.check_alive()
    assert str(relay.notices) in caught.value.hint
    assert "earlier" not in relay.log()

"""Adding a service, with a scripted control port: with proof of work, or without if that is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from onionmpc.errors import TorFailed
from onionmpc.identity import Identity
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.service.service import EphemeralService, Service
from onionmpc.tor.service.single import SingleOnionService
from tests.support.fake_control import FakeControl, listening

IDENTITY = Identity(bytes(range(32)))
TARGET = "unix:/tmp/party"
OK = "250 OK\r\n"
POW = "PoWDefensesEnabled=1"

MakeService = Callable[[Control, Path], Service]
SERVICES: dict[str, tuple[str, MakeService]] = {
    "ephemeral": ("ADD_ONION", lambda control, _: EphemeralService(control, IDENTITY)),
    "single": ("SETCONF", lambda control, directory: SingleOnionService(control, IDENTITY, directory)),
}


class Picky(FakeControl):
    """A tor, or a filter before one, that refuses proof of work."""

    def __init__(self, command: str, refusal: str, version: str = "0.4.9.11") -> None:
        super().__init__({command: OK, "GETINFO version": f"250-version={version}\r\n{OK}"})
        self._command, self._refusal = command, refusal

    def answer_to(self, line: str) -> str:
        return f"{self._refusal}\r\n" if POW in line else super().answer_to(line)

    @property
    def added(self) -> list[bool]:
        """For each command that adds a service: whether it requested proof of work."""
        return [POW in line for line in self.heard if line.startswith(self._command)]


def add_twice(fake: FakeControl, make: MakeService, directory: Path) -> None:
    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            # Made again each time, as in a session.
            await make(control, directory).add(TARGET)
            await make(control, directory).add(TARGET)

    asyncio.run(main())


@pytest.mark.parametrize(("command", "make"), SERVICES.values(), ids=SERVICES)
def test_proof_of_work_is_requested(command: str, make: MakeService, tmp_path: Path) -> None:
    fake = Picky(command, "250 OK")
    add_twice(fake, make, tmp_path)
    assert fake.added == [True, True]


@pytest.mark.parametrize(
    "refusal",
    [
        '512 Bad arguments to ADD_ONION: Unrecognized keyword argument "PoWDefensesEnabled"',
        "552 Unrecognized option: Unknown option 'HiddenServicePoWDefensesEnabled'.  Failing.",
        "510 Command filtered",
    ],
)
@pytest.mark.parametrize(("command", "make"), SERVICES.values(), ids=SERVICES)
def test_a_tor_that_refuses_proof_of_work_gets_the_command_without_it_and_is_not_asked_again(
    command: str, make: MakeService, refusal: str, tmp_path: Path
) -> None:
    fake = Picky(command, refusal)
    add_twice(fake, make, tmp_path)
    assert fake.added == [True, False, False]


@pytest.mark.parametrize(("command", "make"), SERVICES.values(), ids=SERVICES)
def test_a_tor_that_proof_of_work_could_crash_is_not_asked(command: str, make: MakeService, tmp_path: Path) -> None:
    fake = Picky(command, "250 OK", version="0.4.9.8 (git-0123456789abcdef)")
    add_twice(fake, make, tmp_path)
    assert fake.added == [False, False]


def test_another_refusal_is_raised_and_does_not_rule_out_proof_of_work(tmp_path: Path) -> None:
    fake = FakeControl({"ADD_ONION": "512 Invalid VIRTPORT/TARGET\r\n"})

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            service = EphemeralService(control, IDENTITY)
            with pytest.raises(TorFailed, match="tor refused ADD_ONION: 512 Invalid VIRTPORT/TARGET"):
                await service.add(TARGET)
            fake.answers["ADD_ONION"] = OK
            await service.add(TARGET)

    asyncio.run(main())
    assert [POW in line for line in fake.heard if line.startswith("ADD_ONION")] == [True, False, True]


def test_an_identity_that_is_in_use_is_reported_as_such() -> None:
    fake = FakeControl({"ADD_ONION": "550 Onion address collision\r\n"})

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            await EphemeralService(control, IDENTITY).add(TARGET)

    with pytest.raises(TorFailed, match="this identity already runs in this tor"):
        asyncio.run(main())

"""The commands for keys to descriptors, with a scripted control port."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onionmpc.errors import OnionNotPublished, TorFailed
from onionmpc.identity import Identity
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.dialling.peer_descriptor import add_client_key, remove_client_keys
from onionmpc.tor.service.descriptor import publish
from onionmpc.tor.service.service import EphemeralService
from tests.support.fake_control import FakeControl, listening

OURS, PEER = (Identity(bytes([number] * 32)) for number in (1, 2))
KEYS = [bytes([number] * 32) for number in (3, 4)]
TARGET = "unix:/socket"


def told(answers: dict[str, str], work: Callable[[Control], Awaitable[None]]) -> list[str]:
    """Return the commands that tor received after the login."""
    fake = FakeControl(answers)

    async def main() -> int:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            before = len(fake.heard)
            await work(control)
            return before

    before = asyncio.run(main())
    return fake.heard[before:]


def public(key: bytes) -> str:
    raw = X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    return base64.b32encode(raw).decode().rstrip("=")


def test_a_service_is_added_with_the_public_keys_of_its_clients() -> None:
    ok = {"ADD_ONION": "250-ServiceID=x\r\n250 OK\r\n"}
    (line,) = told(ok, lambda control: EphemeralService(control, OURS, KEYS).add(TARGET))
    assert "Flags=DiscardPK,V3Auth " in line
    assert [word for word in line.split() if word.startswith("ClientAuthV3=")] == [
        f"ClientAuthV3={public(key)}" for key in KEYS
    ]
    assert not any(form(key).decode() in line for key in KEYS for form in (base64.b64encode, base64.b32encode))


def test_a_service_without_keys_is_open_to_everyone() -> None:
    (line,) = told({"ADD_ONION": "250 OK\r\n"}, lambda control: EphemeralService(control, OURS).add(TARGET))
    assert "Auth" not in line


def test_a_key_that_is_refused_is_not_quoted() -> None:
    quoted = base64.b64encode(KEYS[0]).decode()

    async def refused(control: Control) -> None:
        with pytest.raises(TorFailed) as raised:
            await add_client_key(control, PEER.onion, KEYS[0])
        assert raised.value.message == "tor does not accept the key to a peer's descriptor (553)"
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__

    (line,) = told({"ONION_CLIENT_AUTH_ADD": f'553 Invalid private key "{quoted}"\r\n'}, refused)
    assert line == f"ONION_CLIENT_AUTH_ADD {PEER.onion.removesuffix('.onion')} x25519:{quoted}"


def test_a_tor_that_hangs_does_not_delay_the_end() -> None:
    async def forget(control: Control) -> None:
        await remove_client_keys(control, [PEER.onion, OURS.onion], timeout_s=0.05)

    assert len(told({"ONION_CLIENT_AUTH_REMOVE": "250-"}, forget)) == 1
    assert len(told({"ONION_CLIENT_AUTH_REMOVE": "250 OK\r\n"}, forget)) == 2


# Issue 12.
@pytest.mark.parametrize("silent", ["SETEVENTS HS_DESC", "ADD_ONION"])
def test_publishing_ends_in_time_even_if_tor_answers_no_command(silent: str) -> None:
    async def publishes(control: Control) -> None:
        with pytest.raises(OnionNotPublished, match=r"taken by 0 of 0 directories in 0\.2 s"):
            await publish(EphemeralService(control, OURS), TARGET, lambda *_: None, 0.2)

    async def main() -> None:
        async with asyncio.timeout(10):  # not the minute that a command may take
            async with (
                listening(FakeControl({silent: "250-so far\r\n"})) as endpoint,
                open_control(endpoint) as control,
            ):
                await publishes(control)

    asyncio.run(main())


# Issue 12.
def test_publishing_waits_for_the_first_upload_and_then_a_little_for_the_others() -> None:
    words: list[str] = []
    address = OURS.onion.removesuffix(".onion")

    async def main() -> None:
        fake = FakeControl({"ADD_ONION": "250 OK\r\n"})

        def hear(_percent: int, heard: str) -> None:
            if not words:
                for number, action in enumerate(["UPLOAD", "UPLOAD", "UPLOADED"]):
                    fake.tell(f"HS_DESC {action} {address} UNKNOWN ${str(number % 2) * 40}~r descriptor")
            words.append(heard)

        async with asyncio.timeout(10), listening(fake) as endpoint, open_control(endpoint) as control:
            await publish(EphemeralService(control, OURS), TARGET, hear, 60, settle_s=0.1)

    asyncio.run(main())
    assert words[-1] == "taken by 1 of 2 directories"

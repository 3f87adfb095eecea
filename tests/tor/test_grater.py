"""The profiles for the filters of Tails and Whonix let through what a party needs, and nothing else."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from onionmpc.identity import Identity
from onionmpc.resources import shipped
from onionmpc.tor.adapters.stem import Version
from onionmpc.tor.circuit.status import service_id
from onionmpc.tor.dialling.peer_descriptor import add_client_key, refetch_descriptor, remove_client_keys
from onionmpc.tor.service.descriptor import Uploads
from onionmpc.tor.service.service import EphemeralService
from tests.support.grater import Profile, read_profile, rewritten

ONION = Identity(bytes(range(32))).onion
ADDRESS = service_id(ONION)
KEY = "A" * 86 + "=="
CLIENT = "10.152.152.11"


@pytest.fixture(params=["tails", "whonix"])
def profile(request: pytest.FixtureRequest) -> Profile:
    return named(request.param)


def named(system: str) -> Profile:
    return read_profile(shipped("torrc.d") / f"onion-grater-{system}.yml")


class Recorder:
    """A control connection that accepts every command."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.refused: set[str] = set()

    release = Version("0.4.9.11")

    async def command(self, line: str) -> str:
        self.lines.append(line)
        return "OK"


@pytest.mark.parametrize("clients", [0, 1, 24])
def test_commands_of_a_party_are_let_through(profile: Profile, clients: int) -> None:
    recorder = Recorder()

    async def main() -> None:
        keys = [secrets.token_bytes(32) for _ in range(clients)]
        service = EphemeralService(recorder, Identity(secrets.token_bytes(32)), keys)  # type: ignore[arg-type]
        await service.add("127.0.0.1:9881")
        await service.remove()
        await add_client_key(recorder, ONION, secrets.token_bytes(32))  # type: ignore[arg-type]
        await remove_client_keys(recorder, [ONION])  # type: ignore[arg-type]
        await refetch_descriptor(recorder, ONION)  # type: ignore[arg-type]

    asyncio.run(main())
    recorder.lines += ["GETINFO version", "GETINFO net/listeners/socks", "GETINFO status/bootstrap-phase"]
    recorder.lines += ["SETEVENTS HS_DESC", "SETEVENTS"]
    assert len(recorder.lines) == 10
    for line in recorder.lines:
        assert profile.command(line, CLIENT) is not None, line


def add(target: str = "127.0.0.1:9881", words: str = "Flags=DiscardPK", port: int = 9880) -> str:
    return f"ADD_ONION ED25519-V3:{KEY} {words} Port={port},{target}"


TOO_MUCH = [
    "GETINFO address",
    "GETINFO circuit-status",
    "GETINFO ns/all",
    "GETINFO version address",
    "GETINFO onions/current",
    "GETINFO",
    "GETCONF Bridge",
    "SETCONF HiddenServiceSingleHopMode=1",
    "SIGNAL SHUTDOWN",
    "SETEVENTS STREAM",
    "SETEVENTS HS_DESC CIRC",
    "SETEVENTS EXTENDED HS_DESC",
    "HSFETCH " + ADDRESS + " SERVER=" + "A" * 40,
    "HSFETCH example.com",
    "DEL_ONION " + ADDRESS + " " + ADDRESS,
    "ONION_CLIENT_AUTH_VIEW",
    f"ONION_CLIENT_AUTH_ADD {ADDRESS} x25519:{'A' * 43}= Flags=Permanent",
    "AUTHCHALLENGE SAFECOOKIE 00",
    "MAPADDRESS 1.2.3.4=torproject.org",
    "DROPGUARDS",
    "ADD_ONION NEW:ED25519-V3 Port=9880,127.0.0.1:9881",
    add("127.0.0.1:22"),
    add("127.0.0.1:9880"),
    add("127.0.0.1:98811"),
    add("unix:/run/user/1000/bus"),
    add(port=80),
    add(words="Flags=DiscardPK,Detach"),
    add(words="Flags=NonAnonymous"),
    add() + " Port=22,127.0.0.1:9881",
    add() + " PoWDefensesEnabled=1 PoWQueueRate=1",
]


@pytest.mark.parametrize("line", TOO_MUCH)
def test_commands_that_no_party_needs_are_not_let_through(profile: Profile, line: str) -> None:
    assert profile.command(line, CLIENT) is None


def test_in_tails_streams_go_only_to_this_machine() -> None:
    assert named("tails").command(add(), CLIENT) == add()
    assert named("tails").command(add("192.168.0.1:9881"), CLIENT) is None


@pytest.mark.parametrize("words", ["Flags=DiscardPK", "Flags=DiscardPK,V3Auth"])
@pytest.mark.parametrize("rest", ["", " ClientAuthV3=" + "A" * 52, " PoWDefensesEnabled=1"])
def test_in_whonix_streams_go_to_the_workstation_that_asked(words: str, rest: str) -> None:
    assert named("whonix").command(add("192.0.2.1:9889", words) + rest, CLIENT) == add(f"{CLIENT}:9889", words) + rest


def test_bootstrap_progress_is_shown_without_the_relays_that_tor_could_not_reach(profile: Profile) -> None:
    rule = profile.rule("GETINFO status/bootstrap-phase")
    assert rule is not None
    progress = 'BOOTSTRAP PROGRESS=10 TAG=conn SUMMARY="Connecting to a relay"'
    told = f'250-status/bootstrap-phase=WARN {progress} WARNING="refused" COUNT=3 HOSTADDR="192.0.2.1:443"'
    assert rewritten(rule["response"], told) == f"250-status/bootstrap-phase=NOTICE {progress}"


def test_lookups_of_others_are_hidden_and_the_rest_is_understood(profile: Profile) -> None:
    uploads = Uploads()
    relay = "$" + "A" * 40 + "~name"
    for line in (
        f"UPLOAD {ADDRESS} UNKNOWN {relay} descriptor HSDIR_INDEX=B",
        f"UPLOADED {ADDRESS} UNKNOWN {relay}",
        f"UPLOAD {ADDRESS} UNKNOWN $" + "B" * 40 + " descriptor HSDIR_INDEX=B",
        f"FAILED {ADDRESS} UNKNOWN $" + "B" * 40 + " descriptor REASON=UPLOAD_REJECTED",
    ):
        told = profile.event(f"650 HS_DESC {line}")
        assert "descriptor" not in told
        assert uploads.hear(ADDRESS, told.removeprefix("650 HS_DESC "))
    assert (len(uploads.sent), len(uploads.taken), len(uploads.refused)) == (2, 1, 1)
    for action in ("REQUESTED", "RECEIVED", "CREATED"):
        assert profile.event(f"650 HS_DESC {action} {ADDRESS} NO_AUTH {relay} descriptor") == ""
    assert profile.event(f"650 HS_DESC FAILED {ADDRESS} NO_AUTH {relay} descriptor REASON=NOT_FOUND") == ""

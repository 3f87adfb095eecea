"""Parties of different versions: both learn so, at once if it is certain, and nobody is accused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from onionmpc import __version__
from onionmpc.cli.display import TextDisplay
from onionmpc.errors import AgreementError, LinkExpired, VersionDiffers
from onionmpc.identity import Identity, Onion, public_key_from_onion, x25519_public_from_ed25519
from onionmpc.mesh.network import Network, Stream
from onionmpc.mesh.pace import Throttle
from onionmpc.session.agreement import Agreement
from onionmpc.session.discovery import pair_key, seat_key
from onionmpc.session.events import OtherVersion, Published, RosterKnown
from onionmpc.session.timings import Timings
from onionmpc.wire.handshake import MESSAGE_1_BYTES, MESSAGE_2_BYTES, NO_PSK, REFUSAL, Purpose
from onionmpc.wire.noise import Initiator
from tests.support.mesh import QUICK, in_a_loop, meshed, private_directory, still_flows  # noqa: F401 (fixtures)
from tests.support.session import CuttableNetwork, Room, listed_plan, room, run, same_sentence, write_script

DIFFER = "different versions of onionmpc: {there} speaks protocol 1, {here} (onionmpc " + __version__ + ") protocol 5"
QUICKLY = Timings(mesh=QUICK)
NEVER_RUN = "raise SystemExit('nothing is to run')"


async def old_listener(stream: Stream) -> None:
    """Answer as version 1 did: it read all of its own message 1 before it looked at the first byte."""
    message = await stream.reader.readexactly(MESSAGE_1_BYTES)
    assert message[0] != 1
    stream.writer.write(b"\x01")
    await stream.close()


async def old_dial(network: Network, identity: Identity, peer: Onion, purpose: Purpose, psk: bytes) -> bytes:
    """Dial as version 1 did, and return all that comes back."""
    public_key = public_key_from_onion(peer)
    noise = Initiator(
        prologue=b"onionmpc/1" + public_key,
        static_private=identity.x25519_private,
        ephemeral_private=bytes([7]) * 32,
        remote_static=x25519_public_from_ed25519(public_key),
    )
    payload = struct.pack(">32sB16s32sQQ", identity.public_key, purpose, bytes(16), bytes(32), 0, 0)
    stream = await network.dial(peer, 5)
    stream.writer.write(b"\x01" + noise.write_first(payload, psk))
    try:
        return await stream.reader.read(MESSAGE_2_BYTES)
    finally:
        await stream.close()


def keys_of(place: Room, number: int) -> Sequence[bytes]:
    """The discovery keys of a party in a full list."""
    return [pair_key(place.identities[number], other, place.onions[number]) for other in place.others(number)]


# Issue 12.
@pytest.mark.parametrize("by_invite", [True, False])
def test_a_joiner_learns_at_once_that_its_host_has_another_version(tmp_path: Path, by_invite: bool) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", NEVER_RUN), timings=QUICKLY)

    async def main() -> None:
        async with room(2, plan) as place:
            place.party(0).open_seats(3, [], is_open=False)
            async with place.networks[0] as old:
                await old.listen(old_listener)
                target = place.persons[0].invites[0] if by_invite else place.onions[0]
                ending = await place.join(1, target)
            assert isinstance(ending, VersionDiffers)
            assert ending.message == DIFFER.format(there="the host", here="this party")
            assert ending.exit_code == 5
            assert place.persons[1].heard(RosterKnown) == []

    run(main())


# Issue 12.
def test_a_host_notes_a_joiner_of_another_version_once_and_keeps_the_seat(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", NEVER_RUN), timings=QUICKLY)

    async def main() -> None:
        async with room(3, plan) as place:
            table = (party := place.party(0)).open_seats(3, [], is_open=False)
            place.host(0, party, table)
            await place.persons[0].hears(Published)
            psks = [invite.psk() for invite in place.persons[0].invites]
            for psk in psks:
                old = CuttableNetwork(place.directory, place.onions[1])
                # What opens the host's descriptor is the same in both versions, or it could not be told.
                old.unlock(place.onions[0], seat_key(psk))
                answer = await old_dial(old, place.identities[1], place.onions[0], Purpose.GATHER, psk)
                assert answer == REFUSAL
            assert place.persons[0].heard(OtherVersion) == [OtherVersion(1)]
            for number, invite in enumerate(place.persons[0].invites, start=1):
                place.join(number, invite)
            place.persons[0].consent = no
            assert {type(ending) for ending in await place.endings()} == {AgreementError}
            assert len(place.persons[0].heard(RosterKnown)) == 1

    async def no(_agreement: Agreement) -> bool:
        return False

    run(main())


# Issue 12.
@pytest.mark.parametrize("old", [0, 1, 2])
def test_one_party_of_a_list_with_another_version_ends_the_session_as_a_difference(tmp_path: Path, old: int) -> None:
    script = write_script(tmp_path / "script.py", NEVER_RUN)
    # Where the difference is seen, the wait is long enough for a busy machine; otherwise its end ends the test.
    plan = listed_plan(script, wait_s=1.0 if old == 0 else 20.0, timings=QUICKLY)
    others = [number for number in range(3) if number != old]

    async def main() -> None:
        async with room(3, plan) as place, place.networks[old] as network:
            await network.listen(old_listener, keys_of(place, old))
            place.start_listed(others)
            if old < max(others):  # it dials the higher ones, and leaves when it hears of the other version
                for number in (number for number in others if number > old):
                    await place.persons[number].hears(Published)
                    peer = place.onions[number]
                    network.unlock(peer, pair_key(place.identities[old], peer, peer))
                    assert await old_dial(network, place.identities[old], peer, Purpose.MESH, NO_PSK) == REFUSAL
                    assert place.persons[number].heard(OtherVersion) == [OtherVersion(1)]
            endings = [await place.tasks[number] for number in others]
        if old == 0:  # none dials it: all that they know is one byte of somebody, which proves nothing
            assert {type(ending) for ending in endings} == {LinkExpired}
            return
        assert {type(ending) for ending in endings} == {AgreementError}
        sentence = same_sentence(endings, others)
        assert f"party 0 and party {old} do not agree: " in sentence
        assert DIFFER.format(there=f"party {old}", here="party 0") in sentence

    run(main())


# Issue 12.
@in_a_loop
async def test_another_version_as_answer_while_resuming_does_not_end_the_link(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        answered: list[Stream] = []
        serve = high.door.serve

        async def once_old(stream: Stream) -> None:
            if answered:
                await serve(stream)
            else:
                answered.append(stream)
                await old_listener(stream)

        high.door.serve = once_old  # type: ignore[method-assign]
        await low.cut(1)
        await low.watcher.until(lambda: low.watcher.failures)
        assert "different versions" in low.watcher.failures[0].reason
        await still_flows(low, high)


def test_a_note_that_strangers_cause_is_shown_once_and_then_less_and_less_often() -> None:
    seldom = Throttle()
    told = [second for second in range(1000) if seldom.is_due(float(second))]
    assert told == [0, 60, 180, 420, 900]


def test_the_note_of_another_version_names_both(capsys: pytest.CaptureFixture[str]) -> None:
    TextDisplay(yes=True).tell(OtherVersion(1))
    assert capsys.readouterr().err.endswith(
        "  someone with another version of onionmpc (protocol 1, here 5) tried to connect\n"
    )

"""Peers that break the rules are named by all others, and cannot take more than their share."""

from __future__ import annotations

import contextlib
import json
import operator
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import reduce
from pathlib import Path

import pytest

from onionmpc.errors import AgreementError, OnionMPCError, RemoteProtocolError
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.redial import DIAL_TIMEOUT_S
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.timings import MeshTimings
from onionmpc.session.messages import AnyMessage, Commit, Done, Report, Verdict, encode_message
from onionmpc.session.timings import Timings
from onionmpc.wire.frames import Ack, Channel, Data, Frame, Ping, encode_frame
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from tests.support.session import HASTY, Hostile, listed_plan, room, run, same_sentence, write_script
from tests.support.stages import QUICK, held_at, says, with_hostile


def message(message: AnyMessage) -> Callable[[Hostile], bytes]:
    return lambda _hostile: encode_message(message)


def sends_program_bytes(hostile: Hostile) -> None:
    def on_up(_party: int, runner: LinkRunner) -> None:
        runner.send_control(hostile.offer())
        runner.link.send_data(b"a share")
        runner._sender.wake()

    hostile.on_up = on_up


def ends_program_bytes(hostile: Hostile) -> None:
    def on_up(_party: int, runner: LinkRunner) -> None:
        runner.send_control(hostile.offer())
        runner.link.end_data(last=True)
        runner._sender.wake()

    hostile.on_up = on_up


# Issue 12: a new field raises the version, so that a party of ours which sends one is none.
def with_a_field_more(what: Callable[[Hostile], bytes], *path: str) -> Callable[[Hostile], bytes]:
    def said(hostile: Hostile) -> bytes:
        whole = json.loads(what(hostile)[4:])
        reduce(operator.getitem, path, whole)["more"] = 1
        body = json.dumps(whole).encode()
        return len(body).to_bytes(4) + body

    return said


NONSENSE = b'{"type":"nonsense"}'


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (says(Hostile.offer, Hostile.offer), "it sent Offer when that was not expected"),
        (says(message(Commit("0" * 64))), "it sent Commit when that was not expected"),
        (says(Hostile.offer, message(Done())), "it sent Done when that was not expected"),
        (says(Hostile.offer, *[message(Commit("0" * 64))] * 2), "it sent Commit when that was not expected"),
        (says(lambda _: b"\x00\x00\x00\x01{"), "a control message of 1 bytes cannot be decoded"),
        (says(lambda _: len(NONSENSE).to_bytes(4) + NONSENSE), "cannot be decoded"),
        (says(with_a_field_more(Hostile.offer)), "cannot be decoded"),
        (says(with_a_field_more(Hostile.offer, "common")), "cannot be decoded"),
        (says(with_a_field_more(Hostile.offer, "own")), "cannot be decoded"),
        (says(with_a_field_more(message(Report("", "", "lost", "agree")))), "cannot be decoded"),
        (says(lambda _: b"\x00\x10\x00\x01"), "a control message has 1048577 bytes, at most 1048576 are allowed"),
        (sends_program_bytes, "it sent bytes of the program before the agreement"),
        (ends_program_bytes, "it sent bytes of the program before the agreement"),
    ],
    ids=[
        "two offers", "commit before offer", "done before commit", "two commits", "no JSON", "no message",
        "a field more", "a common field more", "an own field more", "a field more in a report",
        "too long", "program bytes", "end of program bytes",
    ],
)  # fmt: skip
def test_a_peer_that_breaks_the_rules_is_named(
    tmp_path: Path, number: int, prepare: Callable[[Hostile], None], said: str
) -> None:
    async def main() -> None:
        _, endings = await with_hostile(tmp_path, number, prepare)
        assert {type(ending) for ending in endings} == {RemoteProtocolError}
        sentence = same_sentence(endings, [other for other in range(3) if other != number])
        assert f"says that party {number} broke the rules while the parties" in sentence
        assert said in sentence

    run(main())


@pytest.mark.usefixtures("no_program")
def test_a_commit_to_another_session_starts_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        _, endings = await with_hostile(tmp_path, 1, says(Hostile.offer, message(Commit("0" * 64))))
        assert {type(ending) for ending in endings} == {AgreementError}
        assert "party 1 do not agree: it committed to another session" in same_sentence(endings, [0, 2])

    run(main())


@pytest.mark.usefixtures("no_program")
def test_a_flood_of_forged_reports_is_bounded(tmp_path: Path) -> None:
    def prepare(hostile: Hostile) -> None:
        onions = hostile.common.addresses
        strangers = ["x" * 56 + ".onion", "", "\x1b[2J"]

        def on_up(_party: int, runner: LinkRunner) -> None:
            runner.send_control(hostile.offer())
            for reporter in [*strangers, *onions]:
                for about in [*strangers, *onions]:
                    for turn in range(50):
                        report = Report(reporter, about, "lost", "agree", f"\x1b[2Jlie {turn}")
                        runner.send_control(encode_message(report))
            runner.send_control(encode_message(Verdict(tuple(strangers))))

        hostile.on_up = on_up

    heard: list[AnyMessage] = []

    async def main() -> None:
        plan = listed_plan(write_script(tmp_path / "script.py", QUICK), timings=HASTY)
        async with room(3, plan) as place:
            hostile = Hostile(place, 2, place.party(2).full_list(place.others(2)))
            prepare(hostile)
            hostile.on_message = lambda _party, _runner, message: heard.append(message)
            async with hostile.there():
                place.start_listed([0, 1])
                endings = await place.endings()
        for ending in endings:
            assert isinstance(ending, OnionMPCError)
            assert ending.message.isprintable()
            assert "lost each other while the parties agreed: \\x1b[2Jlie 0" in ending.message

    run(main())
    # Each of the two passes on what it heard first from the other, and no more than two reports of each reporter.
    assert len([message for message in heard if isinstance(message, Report)]) <= 2 * 2 * 3


Attack = Callable[[Mesh], Awaitable[None]]
FAR = 2 * LIMITS.window_bytes  # whatever was said before


async def comes_back_without_end(mesh: Mesh) -> None:
    link = mesh._links[1]
    while link.runner.alive:
        with contextlib.suppress(OnionMPCError):
            _, secure = await mesh.redial(1, 1, DIAL_TIMEOUT_S)
            secure.send([encode_frame(Ping(0))])
            await secure.flush(1.0)
            await secure.close()


def sends(*frames: Frame) -> Attack:
    async def attack(mesh: Mesh) -> None:
        carrier = next(iter(mesh._links[1].runner.carriers))
        carrier.secure.send(map(encode_frame, frames))

    return attack


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (comes_back_without_end, "it reconnected more than"),
        (sends(Data(Channel.DATA, FAR, b"far")), "unacknowledged bytes on the data channel"),
        (sends(Data(Channel.CONTROL, FAR, b"far")), "unacknowledged bytes on the control channel"),
        (
            sends(*(Data(Channel.DATA, FAR // 4 + 2 * piece, b".") for piece in range(1025))),
            "more than 1024 pieces arrived",
        ),
        (sends(Ack(10**9, 0)), "the peer acknowledges"),
    ],
    ids=["comes back without end", "data beyond", "control beyond", "pieces", "acknowledges what was not sent"],
)
def test_a_party_that_attacks_a_running_session_ends_it_and_is_named_by_all(
    tmp_path: Path, meshes: dict[int, Mesh], attack: Attack, said: str
) -> None:
    timings = Timings(mesh=MeshTimings(accepted_per_hour=30))

    async def main() -> None:
        async with held_at("run", tmp_path, timings=timings) as place:
            tracemalloc.start()
            began_s = time.monotonic()
            await attack(meshes[0])
            endings = await place.endings()
            assert time.monotonic() - began_s < timings.ending_s
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        assert {type(ending) for ending in endings} == {RemoteProtocolError}
        sentence = same_sentence(endings)
        assert "says that party 0 broke the rules while the program ran" in sentence
        assert said in sentence

    try:
        run(main())
    finally:
        tracemalloc.stop()

"""Sessions with a receipt: all parties sign when all are done, and a missing signature does not spoil the result."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onionmpc.errors import AgreementError, OnionMPCError, PeerError, ProgramError, RemoteProtocolError, SystemRefused
from onionmpc.identity import Identity
from onionmpc.mesh.mesh import MeshLink
from onionmpc.mesh.runner import LinkRunner
from onionmpc.session import signing
from onionmpc.session.agreement import Agreement
from onionmpc.session.computation import SessionResult
from onionmpc.session.dispatch import Dispatcher
from onionmpc.session.events import ReceiptWritten, Rounding, Signing
from onionmpc.session.local import Plan
from onionmpc.session.messages import Done, Signed, encode_message
from onionmpc.session.receipt import Findings, Opening, Receipt, decode_receipt, examine_receipts, sign
from onionmpc.session.signing import ReceiptExchange
from onionmpc.session.timings import Timings
from tests.support.session import Room, answers, give_answer_files, listed_plan, room, run, same_sentence, write_script

SUM = """
import signal
from mpyc.runtime import mpc
async def main():
    async with mpc:
        total = int(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(mpc.pid)))))
    sys.stdout.write(f"total {total}\\n")
    if sys.argv[1] == "of its own":
        sys.stdout.write(f"of party {mpc.pid}\\n")
    answer(total)
    if sys.argv[1] == "waits":
        signal.pause()
    if sys.argv[1] == "fails":
        sys.exit(3)
mpc.run(main())
"""
OUTPUT = b"total 3\n"


def receipt_plans(folder: Path, what: dict[int, str] | None = None, **changes: Any) -> dict[int, Plan]:
    plan = listed_plan(write_script(folder / "sum.py", SUM), **changes)
    words: dict[int, tuple[str, ...]] = {number: ((what or {}).get(number, "-"),) for number in range(3)}
    plans = give_answer_files(plan, folder, 3, words)
    return {number: replace(plans[number], receipt=folder / f"receipt{number}") for number in plans}


def findings(folder: Path, *numbers: int) -> Findings:
    return examine_receipts({str(n): decode_receipt((folder / f"receipt{n}").read_bytes()) for n in numbers})


@contextlib.asynccontextmanager
async def ended(plans: dict[int, Plan]) -> Any:
    """A room whose parties have ended, and their results."""
    async with room(3, plans[0], plans) as place:
        place.start_listed()
        yield place, await place.endings()


@pytest.mark.parametrize("way", ["listed", "hosted"])
def test_all_parties_sign_what_they_agreed_to_and_their_outputs(
    tmp_path: Path, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plans = receipt_plans(tmp_path)

    async def main() -> None:
        async with room(3, plans[0], plans) as place:
            if way == "listed":
                place.start_listed()
            else:
                place.start_hosted(1)
            for number, (person, ending) in enumerate(zip(place.persons, await place.endings(), strict=True)):
                assert isinstance(ending, SessionResult), ending
                assert ending.receipt_flaw is None
                (written,) = person.heard(ReceiptWritten)
                assert written == ReceiptWritten(str(tmp_path / f"receipt{number}"), (0, 1, 2), 3)
                found = findings(tmp_path, number)
                assert found.session == ending.session
                assert list(found.agreement.common.addresses) == place.onions
                assert found.agreement.common.receipt
                assert found.outputs == {number: hashlib.sha256(OUTPUT).hexdigest()}
                assert (tmp_path / f"receipt{number}").stat().st_mode & 0o777 == 0o600

    run(main())
    together = findings(tmp_path, 0, 1, 2)
    assert together.missing == []
    assert together.agreeing == [[0, 1, 2]]
    assert capfd.readouterr().out.encode() == OUTPUT * 3  # as without a receipt
    files = [(tmp_path / f"receipt{number}").read_bytes().splitlines() for number in range(3)]
    assert len({(*lines[:2], *lines[3:]) for lines in files}) == 1  # but for one's own salt they are the same


def test_a_party_with_another_output_shows_when_salts_are_revealed(tmp_path: Path) -> None:
    async def main() -> None:
        async with ended(receipt_plans(tmp_path, {1: "of its own"})) as (_, endings):
            assert all(isinstance(ending, SessionResult) and ending.receipt_flaw is None for ending in endings)

    run(main())
    found = findings(tmp_path, 0, 1, 2)
    assert found.agreeing == [[0, 2], [1]]
    assert found.outputs[1] == hashlib.sha256(OUTPUT + b"of party 1\n").hexdigest()


def test_without_a_receipt_nothing_is_signed(tmp_path: Path, never_signed: None) -> None:
    plans = {number: replace(plan, receipt=None) for number, plan in receipt_plans(tmp_path).items()}

    async def main() -> None:
        async with ended(plans) as (place, endings):
            assert all(isinstance(ending, SessionResult) and ending.receipt is None for ending in endings)
            assert not any(person.heard(Signing) for person in place.persons)

    run(main())


@pytest.mark.parametrize("number", [0, 2])
def test_a_session_that_fails_leaves_nothing_signed(tmp_path: Path, number: int, never_signed: None) -> None:
    async def main() -> None:
        async with ended(receipt_plans(tmp_path, {number: "fails"})) as (_, endings):
            assert {type(ending) for ending in endings} == {ProgramError}

    run(main())
    assert not list(tmp_path.glob("receipt*"))


@pytest.mark.parametrize("number", [0, 1])
def test_if_one_party_wants_no_receipt_nothing_starts_and_all_learn_whose_choice_differs(
    tmp_path: Path, number: int
) -> None:
    plans = receipt_plans(tmp_path)
    plans[number] = replace(plans[number], receipt=None)

    async def main() -> None:
        async with ended(plans) as (_, endings):
            assert {type(ending) for ending in endings} == {AgreementError}
            sentence = same_sentence(endings)
            assert "receipt differs: " in sentence
            assert f"not wanted at party {number}" in sentence

    run(main())
    assert not list(tmp_path.glob("answer*"))


def test_a_host_cannot_make_a_joiner_sign(tmp_path: Path) -> None:
    plans = receipt_plans(tmp_path)
    plans |= {n: replace(plans[n], receipt=None, public=None, mpyc_options=None) for n in (1, 2)}

    async def main() -> None:
        async with room(3, plans[0], plans) as place:
            place.start_hosted()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert all("receipt differs: not wanted at party " in str(ending) for ending in endings)

    run(main())


# -- parties that do not sign as they should


@pytest.fixture
def never_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No party may sign in this test."""

    def refuse(*_: object) -> Receipt:
        raise AssertionError("something was signed")

    monkeypatch.setattr(signing, "sign", refuse)


Sign = Callable[[Identity, Agreement, Opening], Receipt]


def one_signs(monkeypatch: pytest.MonkeyPatch, place: Room, number: int, badly: Sign) -> None:
    """Let this party sign in another way."""

    def sign_for(identity: Identity, agreement: Agreement, opening: Opening) -> Receipt:
        return (badly if identity == place.identities[number] else sign)(identity, agreement, opening)

    monkeypatch.setattr(signing, "sign", sign_for)


def other_session(identity: Identity, agreement: Agreement, opening: Opening) -> Receipt:
    return sign(identity, msgspec.structs.replace(agreement, nonces=agreement.nonces[::-1]), opening)


def other_key(_: Identity, agreement: Agreement, opening: Opening) -> Receipt:
    return sign(Identity(bytes(32)), agreement, opening)


def other_commitment(identity: Identity, agreement: Agreement, opening: Opening) -> Receipt:
    (one,) = sign(identity, agreement, opening).signatures
    (other,) = sign(identity, agreement, msgspec.structs.replace(opening, salt="00" * 32)).signatures
    return Receipt("", agreement, (msgspec.structs.replace(one, commitment=other.commitment),))


def other_party(identity: Identity, agreement: Agreement, opening: Opening) -> Receipt:
    return sign(identity, agreement, msgspec.structs.replace(opening, party=0))


@pytest.mark.parametrize("badly", [other_session, other_key, other_commitment, other_party])
def test_a_wrong_signature_is_left_out_and_reported_and_the_result_stays_valid(
    tmp_path: Path, badly: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = receipt_plans(tmp_path)

    async def main() -> None:
        async with room(3, plans[0], plans) as place:
            one_signs(monkeypatch, place, 2, badly)
            place.start_listed()
            for ending in (await place.endings())[:2]:
                assert isinstance(ending, SessionResult)
                assert type(ending.receipt_flaw) is RemoteProtocolError
                sentence = "the receipt is not signed by all (party 2: its signature is wrong)"
                assert ending.receipt_flaw.message == sentence
            assert place.persons[0].heard(ReceiptWritten)[0].signed == (0, 1)

    run(main())
    assert findings(tmp_path, 0, 1).missing == [2]
    assert answers(tmp_path, 3) == [(3,)] * 3


def test_a_party_that_leaves_before_signing_is_missing_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Receipt:
        raise asyncio.CancelledError  # as by Ctrl-C, when all are done

    plans = receipt_plans(tmp_path)

    async def main() -> None:
        async with room(3, plans[0], plans) as place:
            one_signs(monkeypatch, place, 1, interrupted)
            place.start_listed()
            for number in (0, 2):
                ending = await place.tasks[number]
                assert isinstance(ending, SessionResult)
                assert type(ending.receipt_flaw) is PeerError
                assert ending.receipt_flaw.message == (
                    "the receipt is not signed by all (party 1: it left without signing)"
                )
            with pytest.raises(asyncio.CancelledError):
                await place.tasks[1]

    run(main())
    assert findings(tmp_path, 0, 2).missing == [1]
    assert not (tmp_path / "receipt1").exists()


def test_a_party_that_stays_without_signing_is_waited_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = ReceiptExchange.run

    async def stay(self: ReceiptExchange, output: bytes) -> tuple[Receipt, OnionMPCError | None]:
        if self._own.number == 0:
            await asyncio.Event().wait()
        return await exchange(self, output)

    monkeypatch.setattr(ReceiptExchange, "run", stay)
    plans = receipt_plans(tmp_path, timings=Timings(farewell_s=2.0))

    async def main() -> None:
        async with room(3, plans[0], plans) as place:
            place.start_listed()
            for number in (1, 2):
                ending = await place.tasks[number]
                assert isinstance(ending, SessionResult)
                assert ending.receipt_flaw is not None
                assert "(party 0: it did not sign within 2.0 s)" in ending.receipt_flaw.message

    run(main())
    assert findings(tmp_path, 1, 2).missing == [0]


def test_a_wrong_signature_decides_the_exit_code_over_a_missing_one(tmp_path: Path) -> None:
    missing = {1: RemoteProtocolError("its signature is wrong"), 2: PeerError("it left without signing")}
    flaw = signing._not_by_all(missing)
    assert type(flaw) is RemoteProtocolError
    assert flaw.message == (
        "the receipt is not signed by all (party 1: its signature is wrong; party 2: it left without signing)"
    )


@pytest.mark.parametrize("when", ["before its Done", "twice", "where none was agreed"])
def test_a_signature_out_of_place_breaks_the_rules(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signed, done = encode_message(Signed("00" * 32, "00" * 64)), encode_message(Done())
    said = {"before its Done": signed + done, "twice": done + signed * 2, "where none was agreed": done + signed}[when]
    plans = receipt_plans(tmp_path, {1: "waits"})  # so that it is not over for anybody
    if when == "where none was agreed":
        plans = {number: replace(plan, receipt=None) for number, plan in plans.items()}
    hostile: list[LinkRunner] = []
    link_up, send_control = Dispatcher.link_up, LinkRunner.send_control

    def note(self: Dispatcher, party: int, link: MeshLink, nonce: bytes) -> None:
        if self._own.number == 2:
            hostile.append(link.runner)
        link_up(self, party, link, nonce)

    def say_more(self: LinkRunner, payload: bytes) -> None:
        send_control(self, said if payload == done and self in hostile else payload)

    monkeypatch.setattr(Dispatcher, "link_up", note)
    monkeypatch.setattr(LinkRunner, "send_control", say_more)

    async def main() -> None:
        async with ended(plans) as (_, endings):
            assert {type(ending) for ending in endings} == {RemoteProtocolError}
            assert "says that party 2 broke the rules" in same_sentence(endings)
            assert "it sent Signed when that was not expected" in same_sentence(endings)

    run(main())


# -- the file, and padded links


def test_a_receipt_that_cannot_be_written_is_reported_and_the_result_stays_valid(tmp_path: Path) -> None:
    plans = receipt_plans(tmp_path)
    plans[1] = replace(plans[1], receipt=tmp_path / "no such folder" / "receipt")

    async def main() -> None:
        async with ended(plans) as (place, endings):
            assert all(isinstance(ending, SessionResult) for ending in endings)
            flaws = [ending.receipt_flaw for ending in endings if isinstance(ending, SessionResult)]
            assert [type(flaw) for flaw in flaws] == [type(None), SystemRefused, type(None)]
            assert place.persons[1].heard(ReceiptWritten) == []

    run(main())
    assert findings(tmp_path, 0, 2).missing == []  # party 1 has signed all the same


def test_on_padded_links_signatures_come_before_the_bucket_is_filled(tmp_path: Path) -> None:
    plans = receipt_plans(tmp_path, padding=100, padding_bucket_s=0.4)

    async def main() -> None:
        async with ended(plans) as (place, endings):
            for person, ending in zip(place.persons, endings, strict=True):
                assert isinstance(ending, SessionResult)
                assert ending.receipt_flaw is None
                order = [type(event) for event in person.events]
                assert order.index(Signing) < order.index(ReceiptWritten) < order.index(Rounding)

    run(main())
    assert findings(tmp_path, 0, 1, 2).agreeing == [[0, 1, 2]]


def test_a_party_that_leaves_while_padded_links_only_stay_busy_has_its_receipt(tmp_path: Path) -> None:
    plans = receipt_plans(tmp_path, padding=100, padding_bucket_s=3600.0)

    async def main() -> None:
        async with room(3, plans[0], plans) as place:
            place.start_listed()
            for person in place.persons:
                await person.hears(Rounding)

    run(main())
    assert findings(tmp_path, 0, 1, 2).missing == []

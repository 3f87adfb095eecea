"""The strangers rule in sessions of the public API: what the others are by each way in, who refuses, what all learn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import onionmpc
from onionmpc import Standing, events
from onionmpc.api.party import Party
from onionmpc.errors import AgreementError, OnionMPCError, UsageError
from onionmpc.files import private_directory, write_private
from onionmpc.identity import Onion
from onionmpc.names.contacts import BOOK_NAME, add_contact
from tests.support.api import local_parties
from tests.support.evidence import Authority, pem
from tests.support.session import new_identities, run

KNOWN, VOUCHED, INTRODUCED, STRANGER = Standing
START_ALONE = "from mpyc.runtime import mpc\nmpc.run(mpc.start())\nmpc.run(mpc.shutdown())\n"

Ending = onionmpc.Result | OnionMPCError
Meeting = Callable[[list[Party], Path, dict[str, Any]], Awaitable[list["Seen"]]]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "start.py"
    path.write_text(START_ALONE)
    return path


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory without contacts. All parties of a test have it."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@dataclass
class Seen:
    """What one party saw of a session, and how that ended for it."""

    asked: list[onionmpc.Proposal] = field(default_factory=list)
    refused: list[events.SeatsRefused] = field(default_factory=list)
    ending: Ending | None = None

    @property
    def seats(self) -> dict[Onion, tuple[Standing, tuple[str, ...]]]:
        """Standing and names by address, in the last computation."""
        found = self.refused[-1].seats if self.refused else self.asked[-1].seats
        return {seat.onion: (seat.standing, seat.names) for seat in found}

    async def computes(self, table: onionmpc.Table) -> None:
        """Compute, with whatever is proposed."""

        async def consent(proposal: onionmpc.Proposal) -> bool:
            self.asked.append(proposal)
            return await onionmpc.AGREE_TO_ANYTHING(proposal)

        try:
            self.ending = await table.compute(consent=consent)
        except OnionMPCError as error:
            self.ending = error

    async def reads(self, table: onionmpc.Table) -> Seen:
        """Read the events of a table that was left."""
        self.refused += [event async for event in table.events if isinstance(event, events.SeatsRefused)]
        return self

    async def sits(self, table: onionmpc.Table) -> Seen:
        async with table:
            await self.computes(table)
        return await self.reads(table)


async def by_invite(parties: list[Party], script: Path, options: dict[str, Any]) -> list[Seen]:
    host, *guests = parties
    async with host.host(script, parties=len(parties), **options) as table, asyncio.TaskGroup() as tasks:
        joining = [
            tasks.create_task(Seen().sits(guest.join(invite, script)))
            for guest, invite in zip(guests, table.invites, strict=True)
        ]
        hosting = Seen()
        await hosting.computes(table)
    return [await hosting.reads(table), *(task.result() for task in joining)]


async def by_address(parties: list[Party], script: Path, options: dict[str, Any], **hosting: Any) -> list[Seen]:
    host, *guests = parties
    tables = [host.host(script, parties=len(parties), **hosting, **options)]
    tables += [guest.join(host.onion, script) for guest in guests]
    return await asyncio.gather(*(Seen().sits(table) for table in tables))


async def expected(parties: list[Party], script: Path, options: dict[str, Any]) -> list[Seen]:
    return await by_address(parties, script, options, expect=[guest.onion for guest in parties[1:]])


async def uninvited(parties: list[Party], script: Path, options: dict[str, Any]) -> list[Seen]:
    return await by_address(parties, script, options, open=True, admit=onionmpc.ADMIT_ANYONE)


async def listed(parties: list[Party], script: Path, options: dict[str, Any]) -> list[Seen]:
    onions = [one.onion for one in parties]
    tables = [me.join([onion for onion in onions if onion != me.onion], script, **options) for me in parties]
    return await asyncio.gather(*(Seen().sits(table) for table in tables))


def standings(seen: Seen, parties: list[Party]) -> list[Standing | None]:
    """What each party is to the one that saw this, in the order of `parties`; None for itself."""
    return [seen.seats.get(one.onion, (None,))[0] for one in parties]


@pytest.mark.parametrize(
    ("meet", "options", "at_host", "at_guest", "refused"),
    [
        (by_invite, {}, [None, INTRODUCED, INTRODUCED], [INTRODUCED, None, INTRODUCED], ""),
        (by_invite, {"max_unknown": 1}, [None, INTRODUCED, INTRODUCED], [], "2 of 3 seats are not known to it"),
        (expected, {"max_unknown": 0}, [None, KNOWN, KNOWN], [KNOWN, None, INTRODUCED], ""),
        (listed, {"max_unknown": 0}, [None, KNOWN, KNOWN], [KNOWN, None, KNOWN], ""),
        (uninvited, {}, [None, STRANGER, STRANGER], [KNOWN, None, STRANGER], "2 of 3 seats are strangers to it"),
        (
            uninvited,
            {"strangers_may_read_everything": True},
            [None, STRANGER, STRANGER],
            [KNOWN, None, STRANGER],
            "",
        ),
        (
            uninvited,
            {"strangers_may_read_everything": True, "max_unknown": 1},
            [None, STRANGER, STRANGER],
            [],
            "2 of 3 seats are not known to it, and it accepts 1",
        ),
    ],
)
def test_each_way_in_shows_what_the_others_are_and_who_would_expose_all_is_refused(
    meet: Meeting,
    options: dict[str, Any],
    at_host: list[Standing | None],
    at_guest: list[Standing | None],
    refused: str,
    script: Path,
) -> None:
    async def main() -> None:
        async with local_parties(3) as parties:
            host, guest, other = await meet(parties, script, options)
            assert standings(host, parties) == at_host
            endings = [seen.ending for seen in (host, guest, other)]
            if not refused:
                assert all(isinstance(ending, onionmpc.Result) for ending in endings), endings
                assert standings(guest, parties) == at_guest
                for seen in (host, guest, other):
                    assert isinstance(seen.ending, onionmpc.Result)
                    assert seen.ending.seats == seen.asked[0].seats
                return
            assert host.asked == []  # the rule comes before anyone is asked
            assert all(isinstance(ending, AgreementError) and refused in str(ending) for ending in endings), endings
            assert isinstance(host.ending, AgreementError)
            assert host.ending.message.startswith("this party did not agree: ")
            assert "True computes all the same" in host.ending.hint or "max_unknown=" in host.ending.hint
            number = sorted(one.onion for one in parties).index(parties[0].onion)
            assert str(guest.ending).startswith(f"party {number} did not agree: ")

    run(main())


def test_a_contact_at_an_open_host_is_no_stranger(script: Path) -> None:
    async def main() -> None:
        async with local_parties(3) as parties:
            add_contact("anna", parties[1].onion)
            host, _, _ = await uninvited(parties, script, {})
            assert host.seats[parties[1].onion] == (KNOWN, ("anna",))
            assert host.seats[parties[2].onion] == (STRANGER, ())
            assert isinstance(host.ending, onionmpc.Result)
            (proposal,) = host.asked
            assert f"{parties[1].onion}  anna  level standard, known: your contact" in proposal.text
            assert "1 of 3 seats is a stranger to you; T is 1: it cannot read your input alone." in proposal.text

    run(main())


def test_a_guest_refuses_strangers_of_its_host_and_may_allow_them_alone(script: Path) -> None:
    async def main() -> None:
        async with local_parties(5) as parties:
            host, *guests = await uninvited(parties, script, {"strangers_may_read_everything": True})
            assert [seen.asked for seen in guests] == [[]] * 4
            assert len(host.asked) == 1
            for seen in (host, *guests):
                assert "3 of 5 seats are strangers to it, and the threshold is 2" in str(seen.ending)

    run(main())


def test_with_two_parties_it_is_enough_to_accept_no_privacy(script: Path) -> None:
    async def main() -> None:
        async with local_parties(2) as (host, guest):
            table = host.host(script, parties=2, open=True, admit=onionmpc.ADMIT_ANYONE, allow_no_privacy=True)
            seen = await asyncio.gather(
                Seen().sits(table), Seen().sits(guest.join(host.onion, script, allow_no_privacy=True))
            )
            assert [standings(one, [host, guest]) for one in seen] == [[None, STRANGER], [KNOWN, None]]
            assert all(isinstance(one.ending, onionmpc.Result) for one in seen)

    run(main())


def test_the_rule_applies_again_when_the_threshold_falls_with_the_number_of_parties(script: Path) -> None:
    async def main() -> None:
        async with local_parties(5) as parties:
            host, first, *others = parties
            expect = [first.onion, others[0].onion]
            tables = [
                host.host(
                    script, parties=5, expect=expect, open=True, admit=onionmpc.ADMIT_ANYONE, allow_difference=True
                ),
                *(guest.join(host.onion, script, allow_difference=True) for guest in (first, *others)),
            ]
            seen = [Seen() for _ in tables]
            left = asyncio.Event()

            async def take_part(number: int, table: onionmpc.Table) -> None:
                async with table:
                    await seen[number].computes(table)
                    assert isinstance(seen[number].ending, onionmpc.Result)
                    if number == 1:
                        return
                    if number == 0:
                        await left.wait()
                    await seen[number].computes(table)
                await seen[number].reads(table)

            async def note_leaving() -> None:
                await leaving
                left.set()

            async with asyncio.TaskGroup() as tasks:
                leaving = tasks.create_task(take_part(1, tables[1]))
                tasks.create_task(note_leaving())
                for number in (0, 2, 3, 4):
                    tasks.create_task(take_part(number, tables[number]))
            for one in (seen[0], *seen[2:]):
                assert isinstance(one.ending, AgreementError)
                assert "2 of 4 seats are strangers to it, and the threshold is 1" in one.ending.message
            assert [len(one.asked) for one in (seen[0], seen[2])] == [1, 1]
            # Both find it out at once, and one may hear of the other's refusal first.
            refused = [event.seats for one in (seen[0], seen[2]) for event in one.refused]
            assert refused
            assert all(len(seats) == 3 for seats in refused)

    run(main())


@pytest.mark.parametrize("way", ["host", "invite", "address", "list"])
def test_a_damaged_address_book_or_missing_trust_is_refused_before_anyone_is_met(
    way: str, script: Path, own_state: Path, tmp_path: Path
) -> None:
    other, third = (identity.onion for identity in new_identities(2))

    async def main() -> None:
        async with local_parties(1) as (me,):

            def table(**options: Any) -> onionmpc.Table:
                match way:
                    case "host":
                        return me.host(script, parties=3, **options)
                    case "invite":
                        return me.join(onionmpc.Invite(other, bytes(16)), script, **options)
                    case "address":
                        return me.join(other, script, **options)
                    case _:
                        return me.join([other, third], script, **options)

            entered = table(trust=tmp_path / "missing")
            with pytest.raises(UsageError, match="missing"):
                await entered.__aenter__()
            assert [event async for event in entered.events] == []
            book = private_directory(own_state) / BOOK_NAME
            write_private(book, b"garbage\n")
            with pytest.raises(UsageError, match=r"address book .* is damaged"):
                await table().__aenter__()
            book.chmod(0o644)
            with pytest.raises(UsageError, match="open to others"):
                await table().__aenter__()

    run(main())


def test_two_seats_of_one_name_are_refused_and_the_name_stays_with_its_user(script: Path, tmp_path: Path) -> None:
    now, company = datetime.now(UTC), Authority.make("Acme CA")
    trust = private_directory(tmp_path / "trust")
    private_directory(trust / "ca")
    (trust / "ca" / "acme-corp.pem").write_text(pem(company.certificate))

    def certify(party: Party) -> Path:
        file = tmp_path / f"{party.onion}.pem"
        certificate = company.certify(party.onion, start=now - timedelta(days=1), until=now + timedelta(days=1))
        file.write_text(pem(certificate))
        return file

    async def main() -> None:
        async with local_parties(3) as (host, *guests):
            async with host.host(script, parties=3, trust=trust) as table, asyncio.TaskGroup() as tasks:
                joining = [
                    tasks.create_task(Seen().sits(guest.join(invite, script, evidence=[certify(guest)])))
                    for guest, invite in zip(guests, table.invites, strict=True)
                ]
                hosting = Seen()
                await hosting.computes(table)
            await hosting.reads(table)
            reason = "2 of 3 seats are held under one name that it knows, and the threshold is 1"
            assert isinstance(hosting.ending, AgreementError)
            assert hosting.ending.message.startswith(f"this party did not agree: {reason}")
            numbers = sorted(seat.number for seat in hosting.refused[-1].seats)
            assert hosting.ending.hint.startswith(f"acme-corp holds parties {numbers[0]} and {numbers[1]}; ")
            assert {names for _, names in hosting.seats.values()} == {("acme-corp",)}
            for seen in (task.result() for task in joining):
                assert isinstance(seen.ending, AgreementError)
                assert reason in seen.ending.message
                assert "acme" not in f"{seen.ending.message} {seen.ending.hint} {seen.asked}"

    run(main())

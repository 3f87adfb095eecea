"""Who the others are at a table: by certificate, SSH key, contact and invite, through the real commands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from onionmpc.files import private_directory
from onionmpc.identity import Onion
from onionmpc.names.ssh import NAMESPACE
from onionmpc.names.statement import Statement, StatementPurpose, format_statement
from onionmpc.program.code.catalogue import digest_of_files, find_program, program_files
from tests.e2e.kit import Party, Stage, after, keep_identity, same_sentence
from tests.support.evidence import Authority, SshKey, make_ssh_key, pem, sauteed

pytestmark = pytest.mark.tor

# Adds the number that each party gives.
ADD = """
    import sys
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            print("sum:", await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(int(sys.argv[1]))))))
    mpc.run(main())
"""


@dataclass(frozen=True)
class People:
    """Parties with kept addresses, each in a state directory of its name, and what they show.

    Attributes:
        onions: by name.
        authority: that of a company, which has certified acme.
        key: cleo's SSH key, which has signed a statement for the script alone.
    """

    stage: Stage
    script: str
    onions: dict[str, Onion]
    authority: Authority
    key: SshKey

    @classmethod
    def prepare(cls, stage: Stage, *names: str) -> People:
        """Give so many parties addresses, and acme and cleo evidence."""
        onions = {name: Onion(keep_identity(stage, name)) for name in names}
        people = cls(stage, stage.script("add.py", ADD), onions, Authority.make("Acme CA"), make_ssh_key(stage.folder))
        now = datetime.now(UTC)
        certificate = people.authority.certify(
            onions["acme"],
            *("acme.example", sauteed(onions["acme"], "acme.example")),
            start=now - timedelta(days=1),
            until=now + timedelta(days=20),
        )
        (stage.folder / "acme.pem").write_text(pem(certificate))
        people.sign("cleo.statement", onions["cleo"])
        return people

    def sign(self, file: str, onion: Onion) -> None:
        """Have cleo's key sign a statement about an address."""
        files = program_files(find_program(str(self.stage.folder / self.script)))
        start = datetime.now(UTC).replace(second=0, microsecond=0)
        until = start + timedelta(days=7)
        text = format_statement(Statement(onion, StatementPurpose.PARTY, digest_of_files(files), None, start, until))
        (self.stage.folder / file).write_text(text)
        (self.stage.folder / f"{file}.sig").write_text(self.key.sign(text))

    def known_to(self, name: str) -> None:
        """Have a party trust the authority and cleo's key."""
        trust = private_directory(self.stage.folder / name / "trust")
        private_directory(trust / "ca")
        (trust / "ca" / "acme-corp.pem").write_text(pem(self.authority.certificate))
        (trust / "allowed_signers").write_text(f'cleo@home namespaces="{NAMESPACE}" {self.key.public}\n')

    def names(self, party: Party) -> dict[str, tuple[str, tuple[str, ...]]]:
        """What each other party is to this one, and what it calls it, by our own name; "guest" has a fresh address."""
        heard = [*party.heard("agreement"), *party.heard("seats_refused")][0]["seats"]
        ours = {onion: name for name, onion in self.onions.items()}
        return {ours.get(seat["onion"], "guest"): (seat["standing"], tuple(seat["names"])) for seat in heard}


async def known(stage: Stage) -> tuple[People, list[Party]]:
    """Five parties by invite: the host knows one by certificate, one by SSH key, one as a contact, and one by no more
    than the invite."""
    people = People.prepare(stage, "anna", "acme", "cleo", "ben")
    people.known_to("anna")
    kept = await stage.run("contact", "contact", "add", "ben", people.onions["ben"], state="anna")
    assert await kept.ends() == 0
    me = ("--identity", "me")
    host = await stage.host(people.script, *me, "--max-unknown", "1", parties=5, private=["1"], state="anna")
    invites = await stage.invites(host, 4)
    joining = [
        stage.start(
            "acme", "join", invites[0], people.script, *me, "--evidence", "acme.pem", private=["2"], state="acme"
        ),
        stage.start(
            "cleo", "join", invites[1], people.script, *me, "--evidence", "cleo.statement", private=["3"], state="cleo"
        ),
        stage.start("ben", "join", invites[2], people.script, *me, private=["4"], state="ben"),
        stage.start("guest", "join", invites[3], people.script, private=["5"], state="guest"),
    ]
    parties = [host, *await asyncio.gather(*joining)]
    await stage.ended(parties)
    return people, parties


@after(known)
def test_one_is_known_by_certificate_one_by_ssh_one_by_contact_and_one_is_introduced(
    outcome: tuple[People, list[Party]],
) -> None:
    people, parties = outcome
    assert [party.code for party in parties] == [0] * 5, [party.last_words for party in parties if party.code]
    assert {party.output for party in parties} == {"sum: 15\n"}
    assert people.names(parties[0]) == {
        "acme": ("known", ("acme-corp",)),
        "cleo": ("known", ("cleo@home",)),
        "ben": ("known", ("ben",)),
        "guest": ("introduced", ()),
    }
    (agreement,) = parties[0].heard("agreement")
    words = [seat["words"][0] for seat in agreement["seats"]]
    assert sum(each.startswith("SSH key in your list, for this program, until ") for each in words) == 1
    assert sum(each.startswith("certificate of your CA acme-corp, until ") for each in words) == 1
    # Nobody else trusts them: what they show proves nothing there, and says why.
    guest = parties[-1]
    assert {standing for standing, _ in people.names(guest).values()} == {"introduced"}
    shown = [word for seat in guest.heard("agreement")[0]["seats"] for word in seat["words"]]
    assert sum(word.startswith("its evidence counts for nothing: ") for word in shown) == 2
    assert parties[0].heard("ended")[0]["seats"] == agreement["seats"]


async def strangers(stage: Stage) -> tuple[People, list[Party]]:
    """An open host, which knows two of three guests. One of these knows the host alone, and allows no strangers."""
    people = People.prepare(stage, "anna", "acme", "cleo", "ben")
    people.known_to("anna")
    people.sign("stolen.statement", people.onions["acme"])
    me, lifted = ("--identity", "me"), "--strangers-may-read-everything"
    host = await stage.host(people.script, *me, "--open", parties=4, private=["1"], state="anna")
    join = ("join", people.onions["anna"], people.script, *me)
    # Nobody shows the statement of another one.
    thief = await stage.start("thief", *join, "--evidence", "stolen.statement", private=["5"], state="ben")
    await thief.ends()
    joining = await asyncio.gather(
        stage.start("acme", *join, lifted, "--evidence", "acme.pem", private=["2"], state="acme"),
        stage.start("cleo", *join, lifted, "--evidence", "cleo.statement", private=["3"], state="cleo"),
        stage.start("ben", *join, private=["4"], state="ben"),
    )
    await stage.ended()
    return people, [host, *joining, thief]


@after(strangers)
def test_the_party_that_knows_too_few_refuses_and_all_learn_why(outcome: tuple[People, list[Party]]) -> None:
    people, (host, acme, cleo, ben, thief) = outcome
    parties = [host, acme, cleo, ben]
    assert [party.code for party in parties] == [5] * 4, [party.last_words for party in parties if party.code != 5]
    assert people.names(ben) == {"anna": ("known", ()), "acme": ("stranger", ()), "cleo": ("stranger", ())}
    reason = "2 of 4 seats are strangers to it, and the threshold is 1: one person behind them could read every input"
    assert ben.failure == f"this party did not agree: {reason}"
    assert "--strangers-may-read-everything computes all the same" in ben.hint
    assert same_sentence([host, acme, cleo]) == f"party {ben.number} did not agree: {reason}"
    assert [len(party.heard("seats_refused")) for party in parties] == [0, 0, 0, 1]
    assert [party.output for party in parties] == [""] * 4
    assert thief.code == 2, thief.last_words
    assert thief.failure.startswith(f"the statement is about {people.onions['acme']}, and this party's address is ")


async def open_to_all(stage: Stage) -> list[Party]:
    """An open host, and two strangers."""
    host = await stage.host("average-salary", "--open", private=["--demo"])
    address = (await host.hears("address_known"))["onion"]
    joining = [stage.start(name, "join", address, private=["--demo"]) for name in ("one", "two")]
    parties = [host, *await asyncio.gather(*joining)]
    await stage.ended(parties)
    return parties


@after(open_to_all)
def test_an_open_host_refuses_strangers_that_could_read_everything(outcome: list[Party]) -> None:
    host, *guests = outcome
    assert [party.code for party in outcome] == [5] * 3, [party.last_words for party in outcome if party.code != 5]
    assert host.failure.startswith("this party did not agree: 2 of 3 seats are strangers to it, and the threshold is 1")
    assert same_sentence(guests).startswith(f"party {host.number} did not agree: 2 of 3 seats are strangers to it")
    assert host.heard("agreement") == []


async def changed_key(stage: Stage) -> tuple[list[Onion], list[Party]]:
    """A contact comes with another address: in a new link, and in a colleague's list. Nobody is dialled."""
    onions = [Onion(keep_identity(stage, name)) for name in ("ben", "another-ben", "cleo")]
    (stage.folder / "partners.txt").write_text(f"ben {onions[1]}\n{onions[2]}\n")
    parties = []
    for name, *words in (
        ("add", "contact", "add", "ben", onions[0]),
        ("add again", "contact", "add", "ben", f"onionmpc:{onions[1]}"),
        ("show", "contact", "show", "ben"),
        ("host", "host", "sort", "-m3", "--expect", "@partners.txt", "--yes"),
    ):
        parties.append(await stage.run(name, *words, state="anna"))
        await parties[-1].ends()
    return onions, parties


@after(changed_key)
def test_a_contact_whose_key_has_changed_is_blocked_with_both_shown(outcome: tuple[list[Onion], list[Party]]) -> None:
    (before, after_it, _), (kept, again, shown, host) = outcome
    assert [party.code for party in (kept, again, shown, host)] == [0, 2, 0, 2]
    for party in (again, host):
        assert party.failure == f"the contact ben has another address: you keep {before}, and this is {after_it}"
    assert shown.output.startswith(before)

"""Pages that are learnt through an exit relay, by readers who are watched as in test_leaks.py.

The network has one exit, which asks a resolver of ours, and connects to this machine alone. The sites have certificates
of an authority of their own.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from onionmpc.identity import Onion
from onionmpc.names import contacts
from tests.e2e.kit import Party, Stage, after
from tests.e2e.leaks import Watch, can_seal, reached, started, told
from tests.support.commands import A, B
from tests.support.exit_network import network_with_exit
from tests.support.website import Authority, answer, running_website

pytestmark = pytest.mark.tor

OWN_NETWORK = True
DOMAIN, SILENT = "acme.test", "silent.test"
OF_TOR = frozenset({"control", "socks"})


@dataclass(frozen=True)
class Learnt:
    """Readers who asked sites for their address.

    Attributes:
        readers: by what is special about each.
        asked: the names that the exit relay looked up.
        requests: how many requests the site with an address got.
        kept: the addresses that each reader has now, by name.
    """

    readers: Mapping[str, Party]
    watch: Watch
    packets: list[str]
    asked: list[str]
    requests: int
    kept: Mapping[str, Mapping[str, str]]


async def learnt(stage: Stage) -> Learnt:
    """Five readers ask at once."""
    folder = stage.folder / "watch"
    folder.mkdir()
    watch = Watch(folder, sealed=can_seal(with_a_way_back=True))
    stage.outfit = watch.outfit
    authority = Authority()
    roots = ("--ca", str(authority.write_certificate(stage.folder / "ca.pem")))
    context = authority.server_context(stage.folder, DOMAIN, SILENT)
    until = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=30)
    names = {DOMAIN: "127.0.0.1", SILENT: "127.0.0.1", f"www.{DOMAIN}": "127.0.0.1"}
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(running_website(context))
        silent = await stack.enter_async_context(running_website(context))
        resolver = await stack.enter_async_context(network_with_exit(stage.folder / "net", names))
        site.response = answer(f"# Addresses of {DOMAIN}\n{A} {until} salaries\n".encode())
        silent.stays = True
        _keep(stage, "changed", B)

        async def start(reader: str, domain: str, port: int, *words: str) -> Party:
            return await stage.run(
                reader,
                *("contact", "learn", f"{domain}:{port}", "--as", "acme", "--yes", *words),
                *("--testnet", str(stage.folder / "net")),
                state=reader,
            )

        readers = {
            "first": await start("first", DOMAIN, site.port, *roots),
            "changed": await start("changed", DOMAIN, site.port, *roots),
            "public": await start("public", DOMAIN, site.port),
            "misled": await start("misled", f"www.{DOMAIN}", site.port, *roots),
            "misspelt": await start("misspelt", "acne.test", site.port, *roots),
            "impatient": await start("impatient", SILENT, silent.port, *roots),
        }
        await silent.asked.wait()
        readers["impatient"].interrupt()
        await stage.ended()
    kept = {reader: _kept(stage, reader) for reader in readers}
    return Learnt(readers, watch, watch.packets(), resolver.asked, len(site.requests), kept)


def _keep(stage: Stage, state: str, onion: Onion) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONIONMPC_STATE", str(stage.folder / state))
        contacts.add_contact("acme", onion)


def _kept(stage: Stage, state: str) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONIONMPC_STATE", str(stage.folder / state))
        return {name: contact.onion for name, contact in contacts.load_book().contacts.items()}


@after(learnt)
def test_an_address_is_learnt_through_an_exit_relay_which_looks_up_the_name(outcome: Learnt) -> None:
    first = outcome.readers["first"]
    assert first.code == 0, first.last_words
    assert first.output == f"{A}\n"
    assert outcome.kept["first"] == {"acme": A}
    assert DOMAIN in outcome.asked
    assert outcome.requests == 2  # of the first, and of the one whose contact has another address


@after(learnt)
def test_a_contact_with_another_address_is_blocked_and_both_are_shown(outcome: Learnt) -> None:
    changed = outcome.readers["changed"]
    assert changed.code == 2, changed.last_words
    assert f"you keep {B}, and this is {A}" in changed.failure
    assert outcome.kept["changed"] == {"acme": B}
    assert changed.output == ""


@after(learnt)
def test_a_site_that_does_not_prove_its_name_gives_no_address(outcome: Learnt) -> None:
    for name, words in (
        ("public", "did not prove its name: unable to get local issuer certificate"),
        ("misled", "did not prove its name: Hostname mismatch"),
        ("misspelt", "the exit relay could not resolve or reach it"),
    ):
        reader = outcome.readers[name]
        assert reader.code == 4, reader.last_words
        assert words in reader.failure
        assert outcome.kept[name] == {}


@after(learnt)
def test_ctrl_c_ends_a_fetch_and_its_tor(outcome: Learnt) -> None:
    """The stage looks for what is left, too."""
    assert outcome.readers["impatient"].code == 130, outcome.readers["impatient"].last_words
    assert outcome.kept["impatient"] == {}


@after(learnt)
def test_no_packet_leaves_a_reader(outcome: Learnt) -> None:
    if not outcome.watch.sealed:
        pytest.skip("nobody may make a network namespace on this machine: only audit events were looked at")
    assert outcome.packets == []


@after(learnt)
def test_a_reader_reaches_its_tor_alone_and_looks_nothing_up(outcome: Learnt) -> None:
    supervisors = outcome.watch.notes("onionmpc.cli")
    assert set(supervisors) == {reader.process_id for reader in outcome.readers.values()}
    for notes in supervisors.values():
        assert reached(notes, OF_TOR) == []
        assert [note for note in notes if note.event == "socket.connect" and str(note.arguments[1]).endswith("/socks")]


@after(learnt)
def test_no_log_and_no_argument_of_a_process_says_what_is_read(outcome: Learnt) -> None:
    words = {DOMAIN: "the domain", SILENT: "a domain", A: "the address", "salaries": "the purpose"}
    starts = started(outcome.watch.notes("onionmpc.cli"))
    assert len(starts) >= len(outcome.readers)
    assert told({**outcome.watch.logs(), **starts}, words) == []

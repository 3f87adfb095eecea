"""`onionmpc contact learn`: what it says and asks before it fetches a page, and what it keeps of one.

That pages are fetched: tests/tor/web and tests/e2e/test_posting.py.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onionmpc.cli import learn as module
from onionmpc.cli.main import cli
from onionmpc.errors import OnionMPCError, SiteFailed, UsageError
from onionmpc.names import contacts
from onionmpc.names.posting import MAX_PAGE_BYTES, POSTING_PATH
from onionmpc.tor.web.fetch import WebOptions
from onionmpc.tor.web.site import WebSite
from tests.e2e.kit import Stage
from tests.support.commands import A, B, C
from tests.support.website import Authority

SITE = "acme.example"
TODAY = datetime.datetime.now(datetime.UTC).date()
LATER, EARLIER = TODAY + datetime.timedelta(days=30), TODAY - datetime.timedelta(days=30)

pytestmark = pytest.mark.usefixtures("alone")
Posts = Callable[..., None]


def learn(*words: str) -> Result:
    """Run `onionmpc contact learn`; our own errors pass through to the caller, as they do to the main command."""
    result = CliRunner().invoke(cli, ["contact", "learn", *words])
    if isinstance(result.exception, OnionMPCError):
        raise result.exception
    assert result.exception is None, result.output
    return result


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[WebSite]:
    """The sites whose pages were fetched. None answers."""
    sites: list[WebSite] = []

    async def fetch(
        site: WebSite, path: str, _context: object, limit: int, _options: WebOptions, _show: object
    ) -> bytes:
        assert (path, limit) == (POSTING_PATH, MAX_PAGE_BYTES)
        sites.append(site)
        raise SiteFailed("no page")

    monkeypatch.setattr(module, "fetch_page", fetch)
    return sites


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch) -> Posts:
    """Have any site post these lines."""

    def have(*lines: str) -> None:
        async def fetch(*_arguments: object) -> bytes:
            return "\n".join(lines).encode()

        monkeypatch.setattr(module, "fetch_page", fetch)

    return have


def kept() -> dict[str, str]:
    return {name: contact.onion for name, contact in contacts.load_book().contacts.items()}


def test_nothing_is_fetched_without_consent(fetched: list[WebSite]) -> None:
    with pytest.raises(UsageError, match=f"fetching a page of {SITE} needs your consent"):
        learn(SITE)
    assert fetched == []
    with pytest.raises(SiteFailed):
        learn(SITE, "--yes")
    assert fetched == [WebSite(SITE)]
    assert kept() == {}


def test_the_user_reads_who_learns_what_and_may_decline(tmp_path: Path) -> None:
    async def main() -> None:
        stage = Stage(None, tmp_path)
        try:
            reader = await stage.run("reader", "contact", "learn", SITE, terminal=True)
            await reader.sees("Fetch the page? [y/N]")
            reader.types("\n")
            assert await reader.ends() == 2
        finally:
            await stage.close()
        assert reader.failure == "nothing was fetched: you did not consent"
        for words in (
            f"https://{SITE}{POSTING_PATH} over Tor",
            f"{SITE} learns that someone asks for its address",
            f"An exit relay looks up {SITE}",
        ):
            assert words in reader.screen
        assert "starting tor" not in reader.screen

    asyncio.run(main())


def test_an_address_is_kept_under_the_domain_or_a_name_of_choice(posts: Posts) -> None:
    posts(f"{A} {LATER} salaries", f"{C} {EARLIER} fraud")
    result = learn(SITE, "--yes")
    assert result.stdout == f"{A}\n"
    assert f"An exit relay looks up {SITE}" in result.stderr
    assert f"{SITE} posts {A} until " in result.stderr
    assert ": salaries\n" in result.stderr
    assert f"expired, ignored: {C}" in result.stderr
    posts(f"{B} {LATER} salaries")
    assert learn("bank.example:8443", "--as", "bank", "--yes").stdout == f"{B}\n"
    assert kept() == {SITE: A, "bank": B}
    assert learn("bank.example", "--as", "bank", "--yes").stdout == f"{B}\n"  # again: nothing changes
    posts(f"{A} {LATER} salaries")
    with pytest.raises(UsageError, match=f"this address is kept already, under the name {SITE}"):
        learn("other.example", "--yes")


def test_of_several_addresses_the_user_chooses(posts: Posts) -> None:
    posts(f"{A} {LATER} salaries", f"{B} {LATER} fraud")
    with pytest.raises(UsageError, match="the page posts 2 addresses") as raised:
        learn(SITE, "--yes")
    assert "--address" in raised.value.hint
    with pytest.raises(UsageError, match=f"does not post {C}"):
        learn(SITE, "--yes", "--address", C)
    assert kept() == {}
    assert learn(SITE, "--yes", "--address", B.upper()).stdout == f"{B}\n"
    assert learn(SITE, "--yes").stdout == f"{B}\n"  # the one that is kept is still posted
    assert kept() == {SITE: B}


def test_a_changed_address_is_blocked_and_both_are_shown(posts: Posts) -> None:
    contacts.add_contact(SITE, A)
    posts(f"{B} {LATER} salaries")
    with pytest.raises(UsageError, match=f"you keep {A}, and this is {B}") as raised:
        learn(SITE, "--yes")
    assert f"onionmpc contact add {SITE} ADDRESS --replace" in raised.value.hint
    assert kept() == {SITE: A}


@pytest.mark.parametrize("line", ["<html>", A, f"{A} {LATER} \x1b[2J", f"{A} 9999-12-31 salaries", "#"])
def test_nothing_is_kept_of_a_page_that_is_refused(posts: Posts, line: str) -> None:
    posts(f"# {B}", line)
    with pytest.raises(UsageError, match="page"):
        learn(SITE, "--yes")
    assert kept() == {}


def test_what_can_be_refused_beforehand_is(fetched: list[WebSite], tmp_path: Path) -> None:
    for words, sentence in (
        (["https://acme.example/"], "is not a domain name"),
        ([A], "which no exit relay can reach"),
        (["acme.example:8443"], "'acme.example:8443' cannot name a contact"),
        (["a-very-long-name-of-a-company.example"], "cannot name a contact"),
        ([SITE, "--as", "Acme"], "'Acme' cannot name a contact"),
        ([SITE, "--address", "acme"], 'does not end in ".onion"'),
        ([SITE, "--ca", "none.pem"], "cannot read none.pem"),
        ([SITE, "--bridge", "nonsense"], "bridge"),
        ([SITE, "--testnet", "nowhere"], "no test network runs"),
    ):
        with pytest.raises(UsageError, match=sentence):
            learn(*words, "--yes")
    with pytest.raises(UsageError) as raised:
        learn("acme.example:8443", "--yes")
    assert raised.value.hint.startswith("choose one with --as NAME; ")
    assert fetched == []
    with pytest.raises(SiteFailed):
        learn(SITE, "--yes", "--ca", str(Authority().write_certificate(tmp_path / "ca.pem")))

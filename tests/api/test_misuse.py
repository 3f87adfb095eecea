"""Calls in the wrong order, answers of the wrong type and exceptions at each step: each ends with an error that says
what is wrong, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import onionmpc
from onionmpc import events
from onionmpc.api.party import Party
from onionmpc.errors import OnionNotPublished, PeerError, UsageError
from onionmpc.files import socket_directory
from onionmpc.mesh.network import OnStream
from tests.api.test_table import SUM, agree, compute, until
from tests.support.api import LocalNetwork, local_parties, local_party
from tests.support.session import new_identities, run

# An error of the caller's own program.
MINE = "out of paper"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "sum.py"
    path.write_text(SUM)
    return path


def run_cleanly(work: Any) -> None:
    """Run a test as `run` does; a task whose error nobody retrieved fails it as well."""

    async def all_of_it() -> None:
        await work
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(all_of_it())


# -- calls in the wrong order


def test_a_table_is_entered_before_it_computes_and_once_only(script: Path) -> None:
    async def main() -> None:
        async with local_parties(1) as (me,):
            table = me.host(script, parties=3)
            with pytest.raises(UsageError, match="not open") as raised:
                await table.compute(consent=agree)
            assert "enter the table first" in raised.value.hint
            async with table:
                pass
            with pytest.raises(UsageError, match="not open"):
                await table.compute(consent=agree)
            with pytest.raises(UsageError, match="entered before"):
                async with table:
                    pytest.fail("it was entered again")

    run_cleanly(main())


def test_a_table_that_failed_does_not_compute_again_but_another_one_does(script: Path) -> None:
    async def main() -> None:
        async with local_parties(2) as (host, guest):
            async with host.join(guest.onion, script, wait_s=0.01) as table:
                for sentence in ("did not start the session", "has ended its session"):
                    with pytest.raises(onionmpc.OnionMPCError, match=sentence):
                        await table.compute(input="1", consent=agree)
            options: Any = {"allow_no_privacy": True}
            async with host.host(script, parties=2, **options) as again, asyncio.TaskGroup() as tasks:
                tasks.create_task(compute(guest.join(again.invites[0], script, **options), 2))
                assert (await again.compute(input="1", consent=agree)).outputs == "sum 3\n"

    run_cleanly(main())


def test_a_wrong_argument_does_not_use_up_the_table(script: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"input": 4200}, "input: int, expected a text or bytes"),
        ({"arguments": "abc"}, "arguments: str, expected a list"),
        ({"consent": True}, "consent: bool, expected a function"),
        ({"on_output": "print"}, "on_output: str, expected a function"),
        ({"terminal": 1}, "terminal: int, expected True or False"),
        ({"terminal": True, "input": "1"}, "uses the terminal"),
        ({"arguments": ["-M3"]}, "-M3"),
    ]

    async def main() -> None:
        async with local_parties(1) as (me,), me.host(script, parties=3) as table:
            for arguments, sentence in wrong:
                with pytest.raises(UsageError, match=sentence):
                    await table.compute(**arguments)
            computing = asyncio.create_task(table.compute(consent=agree))
            await until(table, events.Published)
            computing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await computing

    run_cleanly(main())


def test_a_party_that_has_ended_takes_no_more_tables(script: Path) -> None:
    async def main() -> None:
        async with local_parties(1) as (me,):
            pass
        with pytest.raises(UsageError, match="this party has ended"):
            async with me.host(script, parties=3):
                pytest.fail("it was entered")

    run_cleanly(main())


def test_a_table_that_outlives_its_party_says_so(script: Path) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as tables:
            async with local_parties(1) as (me,):
                table = await tables.enter_async_context(me.host(script, parties=3))
                computing = asyncio.create_task(table.compute(input="1", consent=agree))
                await until(table, events.Published)
            with pytest.raises(UsageError, match="this party has ended"):
                await computing

    run_cleanly(main())


# -- a host is found from the moment that its table is entered


async def seated(table: onionmpc.HostTable) -> None:
    """Wait until every seat is taken."""
    gathering = table._gathering
    assert gathering is not None
    await gathering._changes.until(lambda: all(seat.holder for seat in gathering.seating.seats))


def test_joiners_find_a_host_and_take_seats_before_it_computes(script: Path) -> None:
    async def main() -> None:
        async with local_parties(3) as (host, *guests):
            async with host.host(script, parties=3) as table, asyncio.TaskGroup() as tasks:
                joining = [
                    tasks.create_task(compute(guest.join(invite, script), number))
                    for number, (guest, invite) in enumerate(zip(guests, table.invites, strict=True), 2)
                ]
                await seated(table)
                assert (await table.compute(input="1", consent=agree)).outputs == "sum 6\n"
            assert [(await task).outputs for task in joining] == ["sum 6\n"] * 2
            kinds = [type(event) async for event in table.events]
            assert kinds.index(events.Published) < kinds.index(events.JoinerArrived)

    run_cleanly(main())


def test_a_host_that_leaves_without_computing_sends_its_joiners_away(script: Path) -> None:
    async def main() -> None:
        async with local_parties(2) as (host, guest):
            async with host.host(script, parties=2, allow_no_privacy=True) as table:
                joining = asyncio.create_task(compute(guest.join(table.invites[0], script), 1))
                await seated(table)
            with pytest.raises(PeerError, match="the host stopped waiting"):
                await joining

    run_cleanly(main())


def test_an_address_that_cannot_be_published_fails_what_computes(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def listen(_network: LocalNetwork, _on_stream: OnStream, _keys: Iterable[bytes] = ()) -> None:
        raise OnionNotPublished("no directory took it")

    monkeypatch.setattr(LocalNetwork, "listen", listen)

    async def main() -> None:
        async with local_parties(1) as (me,):
            async with me.host(script, parties=3):
                pass  # nobody waits for it
            async with me.host(script, parties=3) as table:
                with pytest.raises(OnionNotPublished, match="no directory took it"):
                    await table.compute(input="1", consent=agree)

    run_cleanly(main())


# -- answers that are none


@pytest.mark.parametrize(("answer", "kind"), [(None, "NoneType"), ("no", "str"), (1, "int")])
def test_only_true_is_consent(script: Path, answer: Any, kind: str) -> None:
    async def ask(_proposal: onionmpc.Proposal) -> bool:
        return answer

    async def main() -> None:
        with pytest.raises(TypeError, match=f"consent answered {kind}, expected True or False"):
            await _pair(script, consent=ask)

    run_cleanly(main())


def test_a_consent_that_is_no_coroutine_function_is_named(script: Path) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="consent returned bool, expected a coroutine"):
            await _pair(script, consent=lambda _proposal: True)

    run_cleanly(main())


def test_only_true_admits(script: Path) -> None:
    async def ask(_joiner: onionmpc.Joiner) -> Any:
        return None

    async def main() -> None:
        with pytest.raises(TypeError, match="admit answered NoneType, expected True or False"):
            await _pair(script, admit=ask)

    run_cleanly(main())


async def _pair(
    script: Path, *, consent: Any = agree, admit: Any = None, on_output: Any = None, on_event: Any = None
) -> None:
    """Compute with a guest, whose own error does not matter; these are the host's arguments."""
    options: Any = {"allow_no_privacy": True}
    with socket_directory() as directory:
        first, second = new_identities(2)
        async with (
            local_party(directory, first, on_event) as host,
            local_party(directory, second) as guest,
            host.host(script, parties=2, admit=admit, **options) as table,
        ):
            joining = asyncio.create_task(compute(guest.join(table.invites[0], script, **options), 2))
            try:
                await table.compute(input="1", consent=consent, on_output=on_output)
            finally:
                joining.cancel()
                await asyncio.gather(joining, return_exceptions=True)


# -- exceptions of the caller's own


async def _fail(_asked: object) -> bool:
    raise ValueError(MINE)


def _raise(*_: object) -> None:
    raise ValueError(MINE)


def _raise_at(kind: type[events.Event]) -> Any:
    def on_event(event: events.Event) -> None:
        if isinstance(event, kind):
            _raise()

    return on_event


@pytest.mark.parametrize(
    "arguments",
    [
        {"consent": _fail},
        {"admit": _fail},
        {"on_output": _raise},
        *({"on_event": _raise_at(kind)} for kind in (events.Published, events.LinkUp, events.Agreed, events.PeerDone)),
    ],
    ids=["consent", "admit", "output", "published", "link up", "agreed", "done"],
)
def test_an_exception_of_the_callers_own_arrives_as_it_is(script: Path, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=MINE):
            await _pair(script, **arguments)

    run_cleanly(main())


@pytest.mark.parametrize("moment", ["party", "table", "published", "computing"])
def test_leaving_by_an_exception_leaves_nothing_behind(script: Path, moment: str) -> None:
    async def leave(me: Party) -> None:
        if moment == "party":
            raise ValueError(MINE)
        async with me.host(script, parties=3) as table:
            if moment == "table":
                raise ValueError(MINE)
            computing = asyncio.create_task(table.compute(input="1", consent=agree)) if moment == "computing" else None
            await until(table, events.Published)
            assert computing is None or not computing.done()
            raise ValueError(MINE)

    async def main() -> None:
        with pytest.raises(ValueError, match=MINE):
            async with local_parties(1) as (me,):
                await leave(me)

    run_cleanly(main())


def test_a_network_that_does_not_open_is_no_news_to_somebody_who_never_computes(script: Path) -> None:
    class Broken(LocalNetwork):
        async def __aenter__(self) -> Any:
            raise OnionNotPublished("no way out")

    async def main() -> None:
        from onionmpc.api.runtime import PartyRuntime

        with socket_directory() as directory:
            (identity,) = new_identities(1)
            runtime = PartyRuntime(identity, Broken(directory, identity.onion))
            async with runtime.running():
                async with Party(runtime).host(script, parties=3):
                    await asyncio.sleep(0)
                async with Party(runtime).host(script, parties=3) as table:
                    with pytest.raises(OnionNotPublished, match="no way out"):
                        await table.compute(input="1", consent=agree)

    run_cleanly(main())

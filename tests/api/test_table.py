"""Sessions run by the public API, over local sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import onionmpc
from onionmpc import events
from onionmpc.api.party import Party
from onionmpc.errors import AgreementError, PeerUnreachable, ProgramError, TorFailed, UnsafeSetting, UsageError
from onionmpc.program.rehearsal import Hops
from onionmpc.session.estimates import Case
from tests.support.api import LocalNetwork, local_parties
from tests.support.session import new_identities, processes_of_ours, run

SUM = """
import sys
from mpyc.runtime import mpc

async def main():
    secint = mpc.SecInt(32)
    await mpc.start()
    print("sum", await mpc.output(mpc.sum(mpc.input(secint(int(sys.stdin.read()))))))
    print("done", file=sys.stderr)
    await mpc.shutdown()

mpc.run(main())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "sum.py"
    path.write_text(SUM)
    return path


async def agree(_proposal: onionmpc.Proposal) -> bool:
    return True


async def until(table: onionmpc.Table, kind: type[Any]) -> None:
    async for event in table.events:
        if isinstance(event, kind):
            return


async def compute(table: onionmpc.Table, number: int, **options: Any) -> onionmpc.Result:
    async with table:
        return await table.compute(input=str(number), consent=agree, **options)


async def compute_together(
    host: Party, guests: list[Party], program: Path | str, arguments: Sequence[str] = (), **options: Any
) -> list[onionmpc.Result]:
    """Compute with an input of 1 at the host, 2 at the first guest and so on."""
    async with host.host(program, parties=1 + len(guests), **options) as table, asyncio.TaskGroup() as tasks:
        joining = [
            tasks.create_task(compute(guest.join(str(invite), program), number, arguments=arguments))
            for number, (guest, invite) in enumerate(zip(guests, table.invites, strict=True), 2)
        ]
        hosting = tasks.create_task(table.compute(input="1", consent=agree, arguments=arguments))
    return [hosting.result(), *(task.result() for task in joining)]


def test_three_parties_in_one_process_compute_twice_each_time_with_another_host(script: Path) -> None:
    async def main() -> None:
        async with local_parties(3) as (first, second, third):
            for host, guests in ((first, [second, third]), (third, [first, second])):
                for number, result in enumerate(await compute_together(host, guests, script), 1):
                    assert result.outputs == "sum 6\n"
                    assert result.errors.endswith("done\n")
                    assert sorted([result.number, *result.links]) == [0, 1, 2]
                    assert result.times.run_s > 0
                    assert result.receipt is None
                    assert result.flaw is None, number

    run(main())


def test_a_list_of_addresses_needs_no_host(script: Path) -> None:
    async def main() -> None:
        async with local_parties(3) as parties, asyncio.TaskGroup() as tasks:
            computing = [
                tasks.create_task(
                    compute(me.join([other.onion for other in parties if other is not me], script), number)
                )
                for number, me in enumerate(parties)
            ]
            for task in computing:
                assert (await task).outputs == "sum 3\n"

    run(main())


def test_a_program_that_comes_with_onionmpc_reads_the_input() -> None:
    async def main() -> None:
        async with local_parties(3) as (host, *guests):
            results = await compute_together(host, guests, "average-salary")
            assert all("2" in result.outputs for result in results)

    run(main())


PEEKS = """
import sys
from pathlib import Path
from mpyc.runtime import mpc

mpc.run(mpc.start())
try:
    print(Path(sys.argv[1]).read_text())
except OSError:
    print("kept from it")
mpc.run(mpc.shutdown())
"""


def test_the_directory_of_a_private_network_is_kept_from_the_program(tmp_path: Path) -> None:
    (tmp_path / "peeks.py").write_text(PEEKS)
    (tmp_path / "net").mkdir()
    keys = tmp_path / "net" / "keys"
    keys.write_text("in reach")

    seen: list[str] = []

    async def main(*hidden: Path) -> None:
        async with local_parties(3) as (host, *guests):
            for one in (host, *guests):
                one.runtime.hidden = hidden
            seen.extend(
                result.outputs for result in await compute_together(host, guests, tmp_path / "peeks.py", [str(keys)])
            )

    run(main(tmp_path / "net"))
    run(main())
    assert seen == ["kept from it\n"] * 3 + ["in reach\n"] * 3


def test_a_party_in_a_private_network_keeps_its_directory_from_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def joined(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(profiles=tmp_path, torrc="")

    @contextlib.asynccontextmanager
    async def network(*_: object) -> AsyncIterator[LocalNetwork]:
        yield LocalNetwork(tmp_path, new_identities(1)[0].onion)

    monkeypatch.setattr("onionmpc.api.party.join_testnet", joined)
    monkeypatch.setattr("onionmpc.api.party.tor_network", network)

    async def main() -> None:
        async with onionmpc.party(testnet=tmp_path / "net") as me:
            assert me.runtime.hidden == (tmp_path / "net",)

    run(main())


def test_a_party_without_consent_refuses(script: Path) -> None:
    async def main() -> None:
        async with local_parties(2) as (host, guest):
            async with host.host(script, parties=2, allow_no_privacy=True) as table, asyncio.TaskGroup() as tasks:
                joining = tasks.create_task(_error_of(guest.join(table.invites[0], script, allow_no_privacy=True)))
                with pytest.raises(AgreementError, match="its user declined"):
                    await table.compute(input="1")
            assert isinstance(joining.result(), AgreementError)

    async def _error_of(table: onionmpc.Table) -> BaseException:
        with pytest.raises(onionmpc.OnionMPCError) as raised:
            await compute(table, 1)
        return raised.value

    run(main())


def test_consent_gets_the_agreement_and_events_report_what_happens(script: Path) -> None:
    async def main() -> None:
        seen: list[onionmpc.Proposal] = []

        async def ask(proposal: onionmpc.Proposal) -> bool:
            seen.append(proposal)
            return True

        async with local_parties(3) as (host, *guests):
            async with host.host(script, parties=3) as table, asyncio.TaskGroup() as tasks:
                for guest, invite in zip(guests, table.invites, strict=True):
                    tasks.create_task(compute(guest.join(invite, script), 0))
                result = await table.compute(input="1", arguments=["mine"], consent=ask)
            told = [event async for event in table.events]
        (proposal,) = seen
        assert proposal.program == "sum"
        assert proposal.parties == tuple(sorted([host.onion, *(guest.onion for guest in guests)]))
        assert proposal.threshold == 1
        assert proposal.private_arguments == 1
        assert proposal.session == result.session
        assert not proposal.by_invite
        kinds = [type(event) for event in told]
        assert kinds.count(events.JoinerArrived) == 2
        order = [events.InviteReady, events.Published, events.RosterKnown, events.Agreed, events.ProgramEnded]
        assert [kind for kind in kinds if kind in order[1:]] == order[1:]
        assert kinds[:2] == [events.InviteReady] * 2

    run(main())


def test_the_text_of_a_proposal_is_shown_with_what_links_were_measured_to_take(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    seen: list[onionmpc.Proposal] = []

    async def ask(proposal: onionmpc.Proposal) -> bool:
        seen.append(proposal)
        common = proposal.agreement.common
        Case.of(common).remember(Hops(100, 0.0))
        return True

    async def main() -> None:
        async with local_parties(3) as (host, *guests):
            for _ in range(2):
                async with host.host(script, parties=3) as table, asyncio.TaskGroup() as tasks:
                    for guest, invite in zip(guests, table.invites, strict=True):
                        tasks.create_task(compute(guest.join(invite, script), 0))
                    for number, round_trip_s in ((7, 0.4), (8, 0.2)):  # slower than any real link of this session
                        table._tell(events.LinkMeasured(number, 3, 4, round_trip_s, 1))
                    await table.compute(input="1", consent=ask)

    run(main())
    first, second = map(str, seen)
    assert "  takes  " not in first
    assert "  takes        about 20 s: 100 hops in a dry run, round trip 400 ms (measured)" in second
    for text in (first, second):
        assert text.startswith("The agreement:\n  program      sum (1 file, SHA-256 ")
        assert f" roster {seen[0].fingerprint} " in " ".join(text.split())
        assert all(f"{number}  {onion}  level standard" in text for number, onion in enumerate(seen[0].parties))
    assert seen[0].text == first


def test_output_is_shown_as_it_is_written(script: Path) -> None:
    async def main() -> None:
        shown: dict[str, bytes] = {"stdout": b"", "stderr": b""}

        def show(name: str, data: bytes) -> None:
            shown[name] += data

        async with local_parties(3) as parties, asyncio.TaskGroup() as tasks:
            for number, me in enumerate(parties):
                others = [other.onion for other in parties if other is not me]
                extra = {"on_output": show} if number == 0 else {}
                tasks.create_task(compute(me.join(others, script), number, **extra))
        assert shown["stdout"] == b"sum 3\n"
        assert shown["stderr"].endswith(b"done\n")

    run(main())


def test_the_stderr_of_a_failed_program_is_available_after_the_error(tmp_path: Path) -> None:
    path = tmp_path / "fails.py"
    said: list[str] = []
    path.write_text("from mpyc.runtime import mpc\nmpc.run(mpc.start())\nraise ValueError('out of paper')\n")

    async def main() -> None:
        async with local_parties(3) as parties, asyncio.TaskGroup() as tasks:
            for me in parties:
                tasks.create_task(fail(me, [other.onion for other in parties if other is not me]))
        assert any("out of paper" in words for words in said)  # the others may be ended before theirs says so

    async def fail(me: Party, others: list[str]) -> None:
        async with me.join(others, path) as table:
            with pytest.raises(ProgramError):
                await table.compute(consent=agree)
            said.append(table.program_errors)

    run(main())


def test_a_table_is_for_one_session_and_a_party_has_one_table(script: Path) -> None:
    async def main() -> None:
        async with local_parties(2) as (host, guest):
            async with host.host(script, parties=3) as table:
                with pytest.raises(UsageError, match="another table"):
                    async with host.join(guest.onion, script):
                        pass
                computing = asyncio.create_task(table.compute(input="1", consent=agree))
                await until(table, events.Published)
                with pytest.raises(UsageError, match="this table is computing"):
                    await table.compute(input="1", consent=agree)
                computing.cancel()
                await asyncio.gather(computing, return_exceptions=True)
            async with host.join(guest.onion, script, wait_s=0.01) as later:
                with pytest.raises(PeerUnreachable):
                    await later.compute(input="1", consent=agree)

    run(main())


def test_invalid_options_are_refused_at_once(script: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with local_parties(1) as (me,):
            with pytest.raises(UsageError):
                me.host("no-such-program", parties=3)
            with pytest.raises(UnsafeSetting, match="admit="):
                me.host(script, parties=3, open=True)
            with pytest.raises(UsageError):
                me.join("not an invite", script)
            with pytest.raises(UsageError, match="padding rate: 1000, expected 0 to 200"):
                me.host(script, parties=3, padding=1000)
            with pytest.raises(UsageError, match="one circuit"):
                me.host(script, parties=3, padding=10, circuits=2)
            with pytest.raises(UnsafeSetting, match="threshold 0"):
                async with me.host(script, parties=2):
                    pass
            async with me.host(script, parties=3, open=True, admit=onionmpc.ADMIT_ANYONE) as table:
                assert table.invites == ()
                with pytest.raises(UsageError, match="uses the terminal"):
                    await table.compute(input="1", terminal=True)

    run(main())


def test_invites_hide_their_secrets_but_in_their_text(script: Path) -> None:
    async def main() -> None:
        async with local_parties(1) as (me,), me.host(script, parties=3) as table:
            for invite in table.invites:
                assert str(invite) == invite.text
                assert invite.text.startswith("onionmpc1")
                assert invite.text not in repr(table.invites)
                assert invite.secret.hex() not in repr(table.invites)
                assert repr(invite.secret) not in repr(table.invites)

    run(main())


def test_a_network_that_is_lost_ends_the_session_with_its_own_error(script: Path) -> None:
    async def main() -> None:
        async with local_parties(1) as (me,), me.host(script, parties=3) as table:
            computing = asyncio.create_task(table.compute(input="1", consent=agree))
            await until(table, events.Published)
            network = me.runtime._opening
            assert isinstance(network, LocalNetwork)
            network.died.set_result(TorFailed("tor is gone"))
            with pytest.raises(TorFailed, match="tor is gone"):
                await computing

    run(main())


@pytest.mark.parametrize(
    "moment",
    [None, events.Published, events.JoinerArrived, events.RosterKnown, events.LinkUp, events.Agreed],
    ids=lambda moment: "at once" if moment is None else moment.__name__,
)
def test_a_cancelled_host_leaves_nothing_behind(
    script: Path, moment: type[events.Event] | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # where temporary files go
    tmp_path.chmod(0o700)
    before = sorted(tmp_path.iterdir())

    async def main() -> None:
        async with local_parties(3) as (host, *guests), contextlib.AsyncExitStack() as stack:
            table = await stack.enter_async_context(host.host(script, parties=3))
            others = [
                asyncio.create_task(compute(guest.join(invite, script), 1))
                for guest, invite in zip(guests, table.invites, strict=True)
            ]
            computing = asyncio.create_task(table.compute(input="1", consent=agree))
            if moment is not None:
                await until(table, moment)
            computing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await computing
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        assert processes_of_ours() == []
        assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()

    run(main())
    assert sorted(tmp_path.iterdir()) == before


def test_leaving_a_table_cancels_its_computation_in_another_task(script: Path) -> None:
    async def main() -> None:
        async with local_parties(1) as (me,):
            async with me.host(script, parties=3) as table:
                computing = asyncio.create_task(table.compute(input="1", consent=agree))
                await until(table, events.Published)
            assert computing.cancelled()

    run(main())

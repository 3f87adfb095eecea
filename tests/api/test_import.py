"""`import onionmpc`: it is cheap, offers the public names, and changes nothing in its process."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import onionmpc
from tests.support.session import write_script

EMPTY = "from mpyc.runtime import mpc\nmpc.run(mpc.start())\nmpc.run(mpc.shutdown())"

# What takes long, or what a program process has no use for.
HEAVY = ("asyncio", "mpyc", "numpy", "txtorcon", "twisted", "stem", "click", "cryptography", "msgspec", "onionmpc.api")

# All that one process can set for itself and others in it would notice.
STATE = """
import ctypes, json, logging, os, resource, signal, sys, warnings

def state():
    umask = os.umask(0o77)
    os.umask(umask)
    return {
        "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == "linux" else 1,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE),
        "signals": {number: repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "handlers": [repr(handler) for handler in logging.getLogger().handlers],
        "level": logging.getLogger().level,
        "loggers": {name: logging.getLogger(name).disabled for name in ("stem", "asyncio", "twisted")},
        "warnings": [repr(one) for one in warnings.filters],
        "umask": umask,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "streams": [repr(sys.stdin), repr(sys.stdout), repr(sys.stderr)],
        "hooks": [repr(sys.excepthook), repr(sys.unraisablehook)],
    }
"""


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def type_check(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(program.with_name("cache")), str(program)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=program.parent,
    )


def test_import_is_cheap() -> None:
    loaded = json.loads(
        python(
            """
            import json, sys
            before = set(sys.modules)
            import onionmpc
            print(json.dumps([*set(sys.modules) - before]))
            """
        )
    )
    assert [name for name in loaded if name.split(".")[0] in HEAVY or name in HEAVY] == []
    assert [name for name in loaded if name.startswith("onionmpc.")] == []


def test_each_public_name_exists_and_has_a_docstring() -> None:
    assert len(onionmpc.__all__) == len(set(onionmpc.__all__))
    for name in onionmpc.__all__:
        assert getattr(onionmpc, name).__doc__, name
        assert name in dir(onionmpc)
    assert set(onionmpc._MODULES) | set(onionmpc._SUBMODULES) == set(onionmpc.__all__)


def test_there_is_no_other_public_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        importlib.import_module("onionmpc").no_such_name  # noqa: B018


def test_programs_that_use_the_api_can_be_type_checked(tmp_path: Path) -> None:
    assert Path(onionmpc.__file__).with_name("py.typed").exists()
    consumer = tmp_path / "consumer.py"
    consumer.write_text(
        textwrap.dedent(
            """
            import asyncio

            import onionmpc
            from onionmpc import events

            async def ask(proposal: onionmpc.Proposal) -> bool:
                return proposal.threshold > 0

            async def main() -> str:
                async with onionmpc.party(identity="work", testnet=None) as me:
                    reveal_type(me)
                    async with me.host("average-salary", parties=3, threshold=1) as table:
                        lines = [str(invite) for invite in table.invites]
                        async for event in table.events:
                            match event:
                                case events.JoinerArrived(seat, onion):
                                    print(seat, onion, lines)
                        result = await table.compute(input="4200", consent=ask)
                        reveal_type(result)
                    async with me.join(lines[0]) as other:
                        reveal_type(other)
                return result.outputs

            asyncio.run(main())
            """
        )
    )
    done = type_check(consumer)
    assert done.returncode == 0, done.stdout
    for kind in ("party.Party", "outcome.Result", "table.Table"):
        assert f'Revealed type is "onionmpc.api.{kind}"' in done.stdout, done.stdout


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_the_reference_has_each_public_name_and_of_a_party_only_what_users_call() -> None:
    page = REFERENCE.read_text()
    named = set(re.findall(r"auto(?:class|function):: onionmpc\.(\w+)", page))
    assert {*named, "OnionMPCError", "errors", "events"} == set(onionmpc.__all__)
    for kind in (onionmpc.Party, onionmpc.Table, onionmpc.HostTable, onionmpc.OpenIdentity):
        shown = re.search(rf"onionmpc\.{kind.__name__}\(\)\n(?:   :members: (.*)\n)?", page)
        assert shown is not None
        public = {
            name
            for name, value in vars(kind).items()
            if not name.startswith("_") and (callable(value) or isinstance(value, property))
        }
        assert set((shown[1] or "").split(", ")) - {""} == public, kind


@pytest.mark.parametrize(
    "function",
    [
        onionmpc.party,
        onionmpc.open_identity,
        onionmpc.private_network,
        onionmpc.Party.host,
        onionmpc.Party.join,
        onionmpc.Table.compute,
    ],
    ids=lambda function: function.__name__,
)
def test_each_docstring_describes_every_argument_and_what_is_raised(function: Callable[..., object]) -> None:
    described = inspect.getdoc(function) or ""
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "self":
            stars = "**" if parameter.kind is inspect.Parameter.VAR_KEYWORD else ""
            assert f"\n    {stars}{name}: " in described, name
    assert "\nRaises:\n" in described


def test_a_type_checker_finds_each_misspelt_option(tmp_path: Path) -> None:
    consumer = tmp_path / "consumer.py"
    consumer.write_text(
        textwrap.dedent(
            """
            import onionmpc
            def f(me: onionmpc.Party) -> None:
                me.host("vote", parties=3, treshold=1)
                me.host("vote", parties=3, threshold="1")
                me.host("vote", parties=3, wait=3)
            """
        )
    )
    done = type_check(consumer)
    assert done.returncode == 1, done.stdout
    assert re.findall(r"consumer\.py:(\d+): error: ", done.stdout) == ["4", "5", "6"], done.stdout


def test_a_session_changes_nothing_of_its_process(tmp_path: Path) -> None:
    write_script(tmp_path / "adds.py", EMPTY)
    python(
        STATE
        + textwrap.dedent(
            """
            import asyncio
            before = state()
            import onionmpc
            from onionmpc.tor import network
            from onionmpc.tor.adapters import stem, txtorcon
            from tests.support.api import local_parties

            async def compute(table):
                async with table:
                    await table.compute(consent=onionmpc.AGREE_TO_ANYTHING)

            async def main():
                async with local_parties(3) as parties, asyncio.TaskGroup() as tasks:
                    for me in parties:
                        others = [other.onion for other in parties if other is not me]
                        tasks.create_task(compute(me.join(others, sys.argv[1])))
                    await asyncio.sleep(0)
                    during.append(state()["dumpable"])

            during = []
            asyncio.run(main())
            after = state()
            signals = before.pop("signals"), after.pop("signals")
            assert signals[0] == signals[1], signals
            assert before == after, [key for key in before if before[key] != after[key]]
            assert during == [before["dumpable"]]
            """
        ),
        str(tmp_path / "adds.py"),
    )


def test_a_notebook_with_a_running_loop_can_use_the_api_step_by_step_and_twice(tmp_path: Path) -> None:
    write_script(tmp_path / "adds.py", EMPTY)
    out = python(
        """
        # Each cell of a notebook is a task of its own, in a loop that is never ours to start or to end.
        import asyncio, gc, sys
        import onionmpc
        from tests.support.api import local_parties

        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _loop, what: print("unseen:", what))
        def cell(work):
            return loop.run_until_complete(work)

        network = local_parties(2)
        host, guest = cell(network.__aenter__())
        options = {"allow_no_privacy": True}

        def refused(act):
            try:
                cell(act())
            except onionmpc.OnionMPCError as error:
                print(error)

        async def enter_with(**wrong):
            await host.host(sys.argv[1], parties=2, **wrong).__aenter__()

        for _ in range(2):
            # Cells that were typed too early, or wrong, and are typed again.
            refused(lambda: enter_with(treshold=0))
            refused(lambda: enter_with())
            table = host.host(sys.argv[1], parties=2, **options)
            refused(lambda: table.compute(consent=onionmpc.AGREE_TO_ANYTHING))
            cell(table.__aenter__())
            joined = cell(guest.join(table.invites[0], sys.argv[1], **options).__aenter__())

            async def both():
                return await asyncio.gather(
                    table.compute(consent=onionmpc.AGREE_TO_ANYTHING),
                    joined.compute(consent=onionmpc.AGREE_TO_ANYTHING),
                )

            assert [result.outputs for result in cell(both())] == ["", ""]
            cell(table.__aexit__(None, None, None))
            cell(joined.__aexit__(None, None, None))
        cell(network.__aexit__(None, None, None))
        refused(lambda: enter_with(**options))
        assert not asyncio.all_tasks(loop)
        loop.close()
        gc.collect()
        """,
        str(tmp_path / "adds.py"),
    )
    each_time = [
        "there is no option treshold",
        "threshold 0 with 2 parties hides nothing: any single party can read every input",
        "this table is not open",
    ]
    assert out.splitlines() == [*each_time, *each_time, "this party has ended"]

"""Nothing leaves a party except by unix sockets to its tor, and nothing that others can read contains a secret.

A session is watched from three sides. By packets: each party is in a network of its own, whose every packet is seen.
By Python's audit events, in each process of the parties, where there are no networks to be had too. And by /proc, while
the programs run. In front stand tests that each watch does see what it is there for.

Readers of a web site's page are watched in the same way, in test_posting.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from onionmpc.files import private_directory, socket_directory
from onionmpc.session import keystore
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.process.own_tor import own_tor
from tests.e2e.kit import Party, Stage, after, keep_identity
from tests.e2e.leaks import (
    CONTROL_PASSWORD,
    Watch,
    as_it_runs,
    can_seal,
    children,
    open_sockets,
    reached,
    secrets_of,
    spellings,
    started,
    told,
)

LEAK_S = 60.0
NO_NETWORKS = "nobody may make a network namespace on this machine: only audit events and /proc were looked at"
# All that a party has to do with, by the names of its sockets.
OF_TOR = frozenset({"control", "socks", "party"})
STATES = ("anna", "ben", "cleo")
PRIVATE_INPUT = "4815162342"
PRIVATE_WORD = "swordfish-7261"
ADD = """
    import sys
    from pathlib import Path
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            print("waiting", flush=True)
            number = int(Path(sys.argv[1]).read_text())
            print("sum:", await mpc.output(mpc.sum(mpc.input(mpc.SecInt(64)(number)))))
    mpc.run(main())
"""


# --- The watches see what they are there for -----------------------------------------------------------------------

LEAKS = {
    "nothing": "",
    "a look-up": "socket.getaddrinfo(name, 80)",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'.', ('127.0.0.1', 9))",
    "a datagram by IPv6": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'.', ('::1', 9))",
    "a connection": "socket.socket().connect_ex(('127.0.0.1', 9))",
    "a look-up in C": "ctypes.CDLL(None).getaddrinfo(name.encode(), b'80', None, ctypes.byref(ctypes.c_void_p()))",
    "a datagram in C": "ctypes.CDLL(None).sendto(ctypes.CDLL(None).socket(2, 2, 0), b'.', 1, 0, "
    "struct.pack('=H2s4s8x', 2, bytes([0, 9]), bytes([127, 0, 0, 1])), 16)",
    "a port of ours": "socket.create_server(('127.0.0.1', 0))",
    "another daemon's socket": "socket.socket(socket.AF_UNIX).connect_ex('/run/nowhere/resolver')",
    "a socket without a place": "socket.socket(socket.AF_UNIX).bind(b'\\0abstract')",
}
# No packet tells of these, and no audit event of those.
WITHOUT_PACKETS = {"nothing", "a port of ours", "another daemon's socket", "a socket without a place"}
WITHOUT_NOTES = {"nothing", "a look-up in C", "a datagram in C"}


def test_each_leak_that_a_watch_cannot_see_is_there() -> None:
    assert set(LEAKS) >= WITHOUT_PACKETS | WITHOUT_NOTES


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the watches are Linux's")
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "audited"])
@pytest.mark.parametrize("leak", LEAKS)
def test_a_supervisor_that_leaks_is_seen(tmp_path: Path, leak: str, sealed: bool) -> None:
    if sealed and not can_seal():
        pytest.skip(NO_NETWORKS)
    if "IPv6" in leak and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    watch = Watch(tmp_path, sealed=sealed)
    outfit = watch.outfit("leaky")
    # Where packets do leave this machine, none does so for a test.
    name = "leak.invalid" if sealed else "127.0.0.1"
    code = f"""if True:
        import contextlib, ctypes, socket, struct
        name = {name!r}
        with contextlib.suppress(OSError):
            {LEAKS[leak] or "pass"}
        from onionmpc.cli.main import main
        main(["levels"])
    """
    subprocess.run(
        [*outfit.before, sys.executable, "-P", "-c", code],
        env={**os.environ, **outfit.environment},
        pass_fds=outfit.descriptors,
        capture_output=True,
        check=True,
        timeout=LEAK_S,
    )
    if sealed:
        assert bool(watch.packets()) == (leak not in WITHOUT_PACKETS)
    (notes,) = watch.notes().values()
    assert bool(reached(notes, OF_TOR)) == (leak not in WITHOUT_NOTES)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_socket_other_than_a_unix_socket_is_seen_in_a_running_process() -> None:
    code = """if True:
        import socket
        pair = socket.socketpair()
        kept = [eval(text) for text in input().split(";") if text]
        print("there", flush=True)
        input()
    """
    opened = {
        "": [],
        "socket.create_server(('127.0.0.1', 0))": ["it has a socket of tcp that listens"],
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)": ["it has a socket of an unknown kind"],
        "(s := socket.socket(socket.AF_INET, socket.SOCK_DGRAM), s.bind(('127.0.0.1', 0)))": ["it has a socket of udp"],
    }
    for text, found in opened.items():
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "there\n"
            assert open_sockets({process.pid: "it"}) == found
            assert open_sockets({process.pid: "tor"}) == [each.replace("it", "tor", 1) for each in found]
            process.stdin.write("\n")


def test_a_secret_is_found_in_any_spelling() -> None:
    secret = bytes(range(200, 232))
    for text in spellings("the seed", secret):
        assert told({"argv": f"--seed={text}=="}, spellings("the seed", secret))
    assert told({"argv": "--seed=none"}, spellings("the seed", secret)) == []


# --- A session that is watched -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watched:
    """A session that went well.

    Attributes:
        running: its processes while the programs ran: number, and what it is.
        sockets: what `open_sockets` found of them.
        texts: their words and variables.
        secrets: by how they may be written.
    """

    parties: list[Party]
    watch: Watch
    packets: list[str]
    running: Mapping[int, str]
    sockets: list[str]
    texts: Mapping[str, str]
    secrets: Mapping[str, str]


@contextlib.asynccontextmanager
async def tor_of(party: str, stage: Stage, watch: Watch, *, own: bool) -> AsyncIterator[list[str]]:
    """Return a party's options for tor: start one, or use a running one outside of the party's network namespace."""
    assert stage.testnet is not None
    if own:
        yield ["--testnet", str(stage.testnet)]
        return
    with join_testnet(stage.testnet) as place, socket_directory() as sockets:
        profile = private_directory(stage.folder / f"tor of {party}")
        async with own_tor(profile, sockets, f"{place.torrc}\nLog notice file {watch.log_of(party)}") as tor:
            yield ["--control", str(tor.control)]


async def watched(stage: Stage) -> Watched:
    """Three parties add their numbers, two with their own tors. Their programs wait until everything was inspected."""
    folder = stage.folder / "watch"
    folder.mkdir()
    watch = Watch(folder, sealed=can_seal())
    # In a network that it cannot leave again, a party has to find a tor outside.
    own = not watch.sealed or can_seal(with_a_way_back=True)
    secrets = {PRIVATE_WORD: "the private word", PRIVATE_INPUT: "the private input", CONTROL_PASSWORD: "a password"}
    for state in STATES:
        keep_identity(stage, state)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ONIONMPC_STATE", str(stage.folder / state))
            secrets |= secrets_of(state, keystore.load("me", bytearray))
        os.mkfifo(stage.folder / f"{state}.txt")
    script = stage.script("add.py", ADD)
    async with contextlib.AsyncExitStack() as tors:
        places = {
            state: await tors.enter_async_context(tor_of(state, stage, watch, own=own and state != "cleo"))
            for state in STATES
        }
        stage.outfit = watch.outfit

        async def start(state: str, *words: str) -> Party:
            shared = ("--identity", "me", "--verbose", "--yes", "--log-format", "json")
            private = (str(stage.folder / f"{state}.txt"), PRIVATE_WORD)
            return await stage.run(state, *words, *shared, *places[state], "--", *private, state=state)

        host = await start("anna", "host", script, "--parties", "3")
        invites = await host.shows_invites(2)
        for invite in invites[:2]:
            secrets |= {invite: "an invite", invite[-30:]: "the end of an invite"}
        joiners = [
            await start(state, "join", stage.write_invite(invite), script)
            for state, invite in zip(STATES[1:], invites, strict=False)
        ]
        parties = [host, *joiners]
        await asyncio.gather(*(party.prints("waiting") for party in parties))
        running = {party.process_id: f"supervisor {party.name}" for party in parties}
        for party in parties:
            running |= {child: _kind(party, child) for child in children(party.process_id)}
        begun = {child: name for child, name in running.items() if not name.startswith("supervisor")}
        readable = os.geteuid() == 0  # a supervisor lets nobody else look in
        sockets = open_sockets(running) if readable else []
        texts = as_it_runs(begun) if readable else {}
        for state in STATES:
            await asyncio.to_thread((stage.folder / f"{state}.txt").write_text, PRIVATE_INPUT)
        await stage.ended(parties)
    return Watched(parties, watch, watch.packets(), running, sockets, texts, secrets)


def _kind(party: Party, process: int) -> str:
    return "tor" if process in party.children("tor") else f"program {party.name}"


@pytest.mark.tor
@after(watched)
def test_a_watched_session_gives_its_result(outcome: Watched) -> None:
    for party in outcome.parties:
        assert party.code == 0, party.last_words
        assert party.output == f"waiting\nsum: {3 * int(PRIVATE_INPUT)}\n"


@pytest.mark.tor
@after(watched)
def test_no_packet_leaves_a_supervisor_or_a_program(outcome: Watched) -> None:
    if not outcome.watch.sealed:
        pytest.skip(NO_NETWORKS)
    assert outcome.packets == []


@pytest.mark.tor
@after(watched)
def test_a_supervisor_reaches_tor_only_by_unix_sockets_and_looks_nothing_up(outcome: Watched) -> None:
    supervisors = outcome.watch.notes("onionmpc.cli")
    assert set(supervisors) == {party.process_id for party in outcome.parties}
    for notes in supervisors.values():
        assert reached(notes, OF_TOR) == []
        assert [note for note in notes if note.event == "socket.connect"]


@pytest.mark.tor
@after(watched)
def test_a_program_reaches_nothing(outcome: Watched) -> None:
    programs = outcome.watch.notes("onionmpc.program.process.child")
    assert len(programs) == len(outcome.parties)
    for notes in programs.values():
        assert reached(notes, frozenset()) == []


@pytest.mark.tor
@after(watched)
def test_every_socket_of_a_running_party_is_a_unix_socket_and_tor_listens_on_no_other(outcome: Watched) -> None:
    if not outcome.texts:
        pytest.skip("only root may look into a supervisor: audit events alone were looked at")
    assert outcome.sockets == []
    assert len(outcome.running) >= 2 * len(outcome.parties)


@pytest.mark.tor
@after(watched)
def test_no_process_is_started_with_a_secret_in_its_arguments_or_environment(outcome: Watched) -> None:
    starts = started(outcome.watch.notes("onionmpc.cli"))
    assert len(starts) >= len(outcome.parties)
    assert told({**starts, **outcome.texts}, outcome.secrets) == []


@pytest.mark.tor
@after(watched)
def test_no_log_has_a_secret_in_it(outcome: Watched) -> None:
    logs = outcome.watch.logs()
    assert any(text for name, text in logs.items() if "tor" in name)
    # What is no event is MPyC's, the program's, or an error: events are told to the person who asked for them.
    logs |= {f"stderr of {party.name}": "\n".join(party.words) for party in outcome.parties}
    assert "mpyc: " in logs[f"stderr of {outcome.parties[0].name}"]
    assert told(logs, outcome.secrets) == []


@pytest.mark.tor
@after(watched)
def test_a_supervisor_is_not_dumpable_before_it_speaks_to_tor(outcome: Watched) -> None:
    for notes in outcome.watch.notes("onionmpc.cli").values():
        assert not any(note.exposed for note in notes if note.event in ("socket.connect", "subprocess.Popen"))

"""A tor of our own: how it starts, what is reported if it cannot, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from onionmpc.errors import (
    ControlRefused,
    OnionMPCError,
    OnionNotPublished,
    TorFailed,
    TorNotFound,
    TorTooOld,
    UnsafeSetting,
    UsageError,
)
from onionmpc.files import lock, private_directory, socket_directory
from onionmpc.identity import Identity
from onionmpc.resources import shipped
from onionmpc.tor.adapters.python_socks import SocksConnection
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.control.probe import ListenerKind, probe
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.instance import foreign_instance
from onionmpc.tor.network import tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.bridges import parse_bridge
from onionmpc.tor.process.log import TorLog
from onionmpc.tor.process.own_tor import OwnTor, Traffic, own_tor
from onionmpc.tor.process.profile import data_directory, free_profile, named_profile
from onionmpc.tor.process.transports import bridge_torrc
from onionmpc.tor.report import Reporter, TorReport
from onionmpc.tor.service.descriptor import is_lost, publish
from onionmpc.tor.service.service import VIRTUAL_PORT, EphemeralService
from tests.support.party_tor import _children, ended

tor = pytest.mark.tor

# It never sends a packet: it needs no network for what these tests check.
OFFLINE = "DisableNetwork 1"
# Opens its SOCKS port, which it does not while its network is disabled; its only authority is a port where nobody is.
NOWHERE = """TestingTorNetwork 1
DirAuthority nobody orport=1 no-v2 v3ident={0} 127.0.0.1:2 {0}
""".format("F" * 40)
IDENTITY = Identity(bytes(range(32)))


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "tor"


@contextlib.asynccontextmanager
async def running(base: Path, extra: str = OFFLINE, **timings: Any) -> AsyncIterator[tuple[OwnTor, Control, int]]:
    """A tor, a control connection to it and its process id."""
    with free_profile(base) as profile, socket_directory() as sockets:
        async with (
            own_tor(profile, sockets, extra, **timings) as started,
            open_control(started.control) as control,
        ):
            yield started, control, int(await control.get_info("process/pid"))


def mode(path: Path | str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


# --- It runs ---------------------------------------------------------------------------------------------------


@tor
def test_it_starts_accepts_our_cookie_and_leaves_nothing(base: Path) -> None:
    async def main() -> tuple[Path, int, float]:
        async with running(base) as (started, control, process):
            assert re.match(r"0\.4\.\d+", control.version)
            found = await probe(started.control)
            assert found.kind is ListenerKind.CONTROL
            assert found.methods == {"COOKIE", "SAFECOOKIE"}
            assert mode(found.cookie_file) == 0o600
            assert mode(started.directory) == 0o700
            assert os.getsid(process) == process  # so that Ctrl-C on the terminal does not reach it
            began = time.monotonic()
        return started.directory, process, time.monotonic() - began

    directory, process, took_s = asyncio.run(main())
    assert not directory.exists()
    assert ended(process, 0)
    assert took_s < 2


@tor
def test_it_listens_on_two_unix_sockets_and_nowhere_else(base: Path) -> None:
    async def main() -> None:
        async with running(base, NOWHERE) as (started, control, _):
            listeners = {
                key: await control.get_info(f"net/listeners/{key}")
                for key in ("or", "dir", "socks", "trans", "natd", "dns", "control", "extor", "httptunnel")
            }
            assert {key: text for key, text in listeners.items() if text} == {
                "socks": f'"{started.socks}"',
                "control": f'"{started.control}"',
            }
            assert str(VIRTUAL_PORT) in await control.command("GETCONF LongLivedPorts")

    asyncio.run(main())


WITH_SETPRIV = pytest.mark.skipif(shutil.which("setpriv") is None, reason="nothing ends a stopped tor here")


@tor
@pytest.mark.parametrize("stopped", [False, pytest.param(True, marks=WITH_SETPRIV)])
def test_a_killed_party_leaves_no_tor_and_its_profile_for_the_next(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stopped: bool
) -> None:
    script = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from onionmpc.identity import Identity
        from onionmpc.tor.network import tor_network
        from onionmpc.tor.options import TorOptions

        def progress(step):
            if step.phase == "bootstrap":  # by now we are logged in
                print(Path("{tmp_path}/id").read_text(), flush=True)

        async def main():
            options = TorOptions(extra_torrc="{OFFLINE}\\nPidFile {tmp_path}/id")
            async with tor_network(Identity(bytes(range(32))), options, progress):
                pass

        asyncio.run(main())
    """)
    # Short enough for sockets, and ours alone.
    with socket_directory() as sockets:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as party:
            assert party.stdout is not None
            process = int(party.stdout.readline())
            if stopped:
                os.kill(process, signal.SIGSTOP)
            party.kill()
            assert ended(process)
        (left,) = sockets.iterdir()

        async def main() -> list[Path]:
            async with running(base):
                return list(sockets.iterdir())

        (ours,) = asyncio.run(main())
        assert ours != left
        assert list(sockets.iterdir()) == []
    assert [path.name for path in base.iterdir()] == ["1"]


@tor
def test_its_end_is_reported(base: Path) -> None:
    async def main() -> TorFailed:
        async with running(base) as (started, control, process):
            os.kill(process, signal.SIGKILL)
            async with asyncio.timeout(5):
                await asyncio.wait({control.closed})
                return await started.died

    error = asyncio.run(main())
    assert "tor was killed by signal 9" in str(error)


@tor
def test_it_is_gone_when_kill_returns(base: Path) -> None:
    async def main() -> int | None:
        async with running(base) as (started, _, process):
            os.kill(process, signal.SIGSTOP)
            await started.kill()
            return started.process.returncode

    assert asyncio.run(main()) == -signal.SIGKILL


@tor
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_transport_ends_with_its_tor_however_that_ends(base: Path, number: signal.Signals) -> None:
    bridge = parse_bridge(f"obfs4 127.0.0.1:1 cert={'A' * 70} iat-mode=0")

    async def main() -> int:
        torrc = f"{NOWHERE}\n{bridge_torrc([bridge])}"
        async with asyncio.timeout(20), running(base, torrc) as (started, _, process):
            while not (transports := _children(process)):
                await asyncio.wait({started.died}, timeout=0.02)
            os.kill(process, number)
            await asyncio.wait({started.died})
        return transports[0]

    assert ended(asyncio.run(main()))


@tor
def test_its_end_ends_a_network_that_waits(base: Path, tmp_path: Path) -> None:
    def progress(step: TorReport) -> None:
        if step.phase == "bootstrap":
            os.kill(int((tmp_path / "id").read_text()), signal.SIGKILL)

    async def main() -> None:
        torrc = f"{OFFLINE}\nPidFile {tmp_path}/id"
        async with tor_network(IDENTITY, TorOptions(extra_torrc=torrc, bootstrap_timeout_s=20), progress):
            pytest.fail("bootstrapped without a network")

    with pytest.raises(TorFailed, match="killed by signal 9"):
        asyncio.run(main())


@tor
def test_guards_stay_in_the_profile_from_run_to_run(base: Path) -> None:
    async def main() -> None:
        async with running(base):
            pass

    asyncio.run(main())
    state = base / "1" / "data" / "state"
    written = state.read_text()
    asyncio.run(main())
    assert "TorVersion" in written
    assert [path.name for path in base.iterdir()] == ["1"]


@tor
def test_it_gets_no_secret_from_our_environment(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", "open sesame")

    async def main() -> bytes:
        async with running(base) as (_, _, process):
            return environment(process)

    def environment(process: int) -> bytes:
        return Path(f"/proc/{process}/environ").read_bytes()

    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc here")
    assert b"open sesame" not in asyncio.run(main())


# --- It cannot start -------------------------------------------------------------------------------------------


def failure(base: Path, extra: str = OFFLINE, **timings: Any) -> OnionMPCError:
    async def main() -> None:
        async with running(base, extra, **timings):
            pytest.fail("it started")

    with pytest.raises(OnionMPCError) as raised:
        asyncio.run(main())
    return raised.value


@tor
def test_a_broken_line_is_quoted(base: Path) -> None:
    error = failure(base, "Nonsense 1")
    assert isinstance(error, TorFailed)
    assert "it refused its configuration" in str(error)
    assert "Unknown option 'Nonsense'" in str(error)


@tor
def test_a_taken_port_is_named(base: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        error = failure(base, f"{NOWHERE}\nSocksPort 127.0.0.1:{other.getsockname()[1]}")
    assert isinstance(error, TorFailed)
    assert "a port or socket it wants is taken" in str(error)


def test_no_tor_at_all(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("ONIONMPC_TOR", raising=False)
    assert isinstance(failure(base), TorNotFound)


def fake_tor(path: Path, version: str, body: str) -> str:
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Tor version {version}."; exit; fi\n{body}\n')
    path.chmod(0o700)
    return str(path)


def test_a_tor_that_is_too_old(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor", "0.4.5.10", "exit 0"))
    assert isinstance(failure(base), TorTooOld)


@pytest.mark.parametrize(
    ("said", "cause", "hint"),
    [
        ("Couldn't write to state: No space left on device", "the disk is full", "free some space"),
        ("Couldn't create data directory: Permission denied", "it has no permission to write", "owner and mode"),
        ("It looks like another Tor process is running with the same data directory.", "another tor", "--profile"),
        ("Something new", "exit code 3", "doctor"),
    ],
)
def test_the_last_words_of_its_log_are_the_reason(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, cause: str, hint: str
) -> None:
    log = f'echo "Nov 23 01:45:24.000 [notice] Tor here"; echo "Nov 23 01:45:24.000 [warn] {said}"; exit 3'
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor", "0.4.9.11", log))
    error = failure(base)
    assert isinstance(error, TorFailed)
    assert cause in str(error)
    assert f"  tor: [warn] {said}" in str(error)
    assert "[notice]" not in str(error)
    assert hint in error.hint


def test_a_tor_that_hangs_is_given_up_and_ended(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"echo $$ > {tmp_path}/id; trap '' TERM; while :; do read -r line < {tmp_path}/fifo; done"
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor", "0.4.9.11", body))
    assert "opened no control socket within 0.3 s" in str(failure(base, start_timeout_s=0.3, end_timeout_s=0.3))
    assert ended(int((tmp_path / "id").read_text()))


def test_no_address_in_its_log_is_kept() -> None:
    log = TorLog()
    onion = "xbt5sietg333te4c5l3osutfoidrpmtpmhbk6vajjysb4rjnggxq62ad"
    log.add("Nov 23 01:45:24.000 [warn] Tor 0.4.9.11 is old")
    log.add(f"Nov 23 01:45:24.000 [warn] {onion}.onion at 192.0.2.7:9001 and [2001:db8::1]:9001 (${'A1' * 20}~guard)")
    said = str(log.failure("tor ended"))
    assert "[warn] Tor 0.4.9.11 is old" in said
    log = TorLog()
    key = "A1b2" * 10 + "xyz"
    log.add(
        f"Nov 23 01:45:24.000 [notice] new bridge descriptor 'home' (fresh): ${'A1' * 20}~home [{key}] at 192.0.2.7"
    )
    assert str(log.failure("tor ended")).splitlines()[1:] == ["  tor: [notice] [hidden]"]
    assert "[warn] [hidden] at [hidden]:9001 and [hidden]:9001 ([hidden])" in said


# --- Profiles --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def named(base: Path, name: str, leftover_timeout_s: float = 5.0) -> AsyncIterator[Path]:
    async with asyncio.timeout(10), named_profile(base, name, leftover_timeout_s) as profile:
        yield profile


def test_each_party_on_a_machine_has_its_own_profile(tmp_path: Path) -> None:
    base = tmp_path / "tor"

    async def main() -> None:
        with free_profile(base) as first:
            with free_profile(base) as second:
                assert (first, second) == (base / "1", base / "2")
                with pytest.raises(UsageError, match="another party uses the profile 2 now"):
                    async with named(base, "2"):
                        pass
            with free_profile(base) as again:
                async with named(base, "mine") as mine:
                    assert (again, mine) == (base / "2", base / "mine")

    asyncio.run(main())
    assert mode(base / "mine") == 0o700


def test_a_profile_in_which_a_tor_was_left_is_not_free(tmp_path: Path) -> None:
    base = tmp_path / "tor"

    async def main() -> None:
        with free_profile(base) as first:
            private_directory(data_directory(first))
        # As tor locks it.
        with lock(data_directory(first) / "lock"):
            with free_profile(base) as second:
                assert second == base / "2"
            with pytest.raises(UsageError, match="a tor that a killed party left behind still uses the profile 1"):
                async with named(base, "1", 0.2):
                    pass
        with free_profile(base) as again:
            assert again == first

    asyncio.run(main())


def test_a_named_profile_is_waited_for_while_its_tor_ends(tmp_path: Path) -> None:
    base = tmp_path / "tor"

    async def main() -> None:
        async with named(base, "mine") as mine:
            private_directory(data_directory(mine))
        with contextlib.ExitStack() as tor:
            tor.enter_context(lock(data_directory(mine) / "lock"))
            asyncio.get_running_loop().call_soon(tor.close)
            async with named(base, "mine") as again:
                assert again == mine

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "-x", "a" * 33, "ä", "a\n"])
def test_a_profile_name_must_be_one_plain_word(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with named_profile(tmp_path / "tor", name):
            pass

    with pytest.raises(UsageError, match="is not a valid profile name"):
        asyncio.run(main())
    assert not (tmp_path / "tor").exists()


# --- Other tors ------------------------------------------------------------------------------------------------


@tor
def test_a_socks_port_is_not_taken_for_a_control_port(base: Path) -> None:
    async def main() -> None:
        async with running(base, NOWHERE) as (started, _, _), open_control(started.socks):
            pass

    with pytest.raises(ControlRefused, match="is a SOCKS port, expected a control port"):
        asyncio.run(main())


@tor
def test_a_password_logs_in_if_it_is_the_right_one(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = subprocess.run(
        [shutil.which("tor") or "tor", "--quiet", "--hash-password", "sesame"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[-1]

    async def main() -> None:
        with free_profile(base) as profile, socket_directory() as sockets:
            torrc = f"{OFFLINE}\nHashedControlPassword {hashed}\nCookieAuthentication 0"
            async with own_tor(profile, sockets, torrc) as started:
                monkeypatch.delenv("ONIONMPC_CONTROL_PASSWORD", raising=False)
                with pytest.raises(ControlRefused, match="wants a password"):
                    async with open_control(started.control):
                        pass
                monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", "wrong")
                with pytest.raises(ControlRefused, match="does not accept the password in ONIONMPC_CONTROL_PASSWORD"):
                    async with open_control(started.control):
                        pass
                monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", "sesame")
                async with open_control(started.control) as control:
                    assert await control.get_info("version")

    asyncio.run(main())


# Issue 12.
@tor
def test_a_non_anonymous_tor_and_a_cookie_of_another_tor_are_reported(base: Path) -> None:
    async def main() -> None:
        with free_profile(base) as profile, socket_directory() as sockets:
            async with own_tor(profile, sockets, OFFLINE, traffic=Traffic.EXPOSED) as started:
                with pytest.raises(UnsafeSetting, match="this tor is in HiddenServiceNonAnonymousMode"):
                    async with foreign_instance(started.control, Reporter(lambda _: None)):
                        pass
                Path((await probe(started.control)).cookie_file).write_bytes(bytes(32))  # noqa: ASYNC240
                with pytest.raises(ControlRefused, match="has another cookie than the one in "):
                    async with open_control(started.control):
                        pass

    asyncio.run(main())


@tor
def test_a_service_that_is_not_published_in_time_is_reported_and_can_be_removed(base: Path) -> None:
    async def main() -> tuple[str, str]:
        async with running(base) as (_, control, _):
            with pytest.raises(OnionNotPublished, match=r"taken by 0 of 0 directories in 0\.2 s"):
                await publish(EphemeralService(control, IDENTITY), "127.0.0.1:1", lambda percent, words: None, 0.2)
            there = await control.get_info("onions/current")
            await EphemeralService(control, IDENTITY).remove()
            return there, await control.get_info("onions/current")

    assert asyncio.run(main()) == (IDENTITY.onion.removesuffix(".onion"), "")


@tor
def test_an_identity_that_is_in_use_is_refused(base: Path) -> None:
    async def main() -> None:
        async with running(base) as (_, control, _):
            await EphemeralService(control, IDENTITY).add("127.0.0.1:1")
            await EphemeralService(control, IDENTITY).add("127.0.0.1:1")

    with pytest.raises(TorFailed, match="this identity already runs in this tor"):
        asyncio.run(main())


@tor
def test_a_service_without_introduction_points_is_lost(base: Path) -> None:
    async def main() -> bool:
        async with running(base) as (_, control, _):
            await EphemeralService(control, IDENTITY).add("127.0.0.1:1")
            return await is_lost(EphemeralService(control, IDENTITY))

    assert asyncio.run(main())


# --- Fragments -------------------------------------------------------------------------------------------------


@pytest.fixture
def somewhere() -> Iterator[Path]:
    with socket_directory() as directory:
        yield directory


@tor
@pytest.mark.parametrize("names", [["party"], ["system-control"], ["system-control", "system-service"]])
def test_each_fragment_starts_a_tor(names: list[str], somewhere: Path) -> None:
    text = "\n".join((shipped("torrc.d") / f"{name}.torrc").read_text() for name in names)
    # Debian keeps a system tor's sockets in /run/tor, which is not ours to write to.
    text = text.replace("/run/tor", str(somewhere)).replace("Log notice stdout", "Log notice file /dev/null")
    if "party" in names:
        text += f"\nControlSocket {somewhere}/control\n"
    if "system-service" not in names:
        text += "\nSocksPort 0\n"  # rather than 9050, which may be taken
    torrc = somewhere / "torrc"
    torrc.write_text(f"{text}\n{NOWHERE}\nDataDirectory {somewhere}/data\n__OwningControllerProcess {os.getpid()}\n")
    endpoint = Endpoint(path=str(somewhere / "control"))

    async def log_in() -> str:
        async with asyncio.timeout(20):
            while (await probe(endpoint)).kind is not ListenerKind.CONTROL:
                assert process.poll() is None, process.stdout and process.stdout.read()
            async with open_control(endpoint) as control:
                return await control.get_info("net/listeners/socks")

    with subprocess.Popen(
        ["tor", "--defaults-torrc", f"{somewhere}/none", "-f", torrc], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            socks = asyncio.run(log_in())
        finally:
            process.terminate()
    assert socks == (f'"unix:{somewhere}/onionmpc-socks"' if "system-service" in names else "")


@tor
def test_a_tor_of_ours_carries_onion_services_or_one_web_site(base: Path) -> None:
    async def answers(traffic: Traffic) -> list[int | None]:
        codes: list[int | None] = []
        async with running(base, NOWHERE, traffic=traffic) as (started, _, _):
            for host in (IDENTITY.onion, "acme.example"):
                connection = SocksConnection(await started.socks.connect())
                try:
                    codes.append(await connection.request(host, 443, "name", "word", 0.5))
                except TimeoutError:  # it would, if it had a network
                    codes.append(None)
                finally:
                    connection.close()
        return codes

    not_allowed = 2  # RFC 1928 section 6
    assert asyncio.run(answers(Traffic.ONION)) == [None, not_allowed]
    assert asyncio.run(answers(Traffic.WEB)) == [not_allowed, None]

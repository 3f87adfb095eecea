"""`onionmpc doctor`: what it finds, and that it changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from onionmpc.cli import doctor as module
from onionmpc.cli.main import cli
from onionmpc.cli.neighbours import Neighbours, neighbours
from onionmpc.errors import ProgramError
from onionmpc.mesh.listener import listening_local
from onionmpc.mesh.network import Stream
from onionmpc.program.spec import Walls
from onionmpc.tor.control.probe import ListenerKind, Probe
from onionmpc.tor.endpoint import Endpoint


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a tor that accepts our torrc, and no other program that matters."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor"))
    monkeypatch.setattr(module, "KNOWN_PLACES", {})
    monkeypatch.setattr(module, "neighbours", list)
    show_walls(monkeypatch, Walls(network=True, sockets=True, files=True))


def fake_tor(path: Path, version: str = "0.4.9.11", verify: str = "exit 0") -> str:
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Tor version {version}."; exit; fi\n{verify}\n')
    path.chmod(0o700)
    return str(path)


def show_walls(monkeypatch: pytest.MonkeyPatch, walls: Walls) -> None:
    def probe() -> Walls:
        return walls

    monkeypatch.setattr(module, "probe_walls", probe)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments])


def finding(check: str) -> dict[str, str]:
    found: list[dict[str, str]] = [
        each for each in json.loads(run("--json").stdout)["findings"] if each["check"] == check
    ]
    assert len(found) == 1
    return found[0]


def test_a_good_machine_is_usable() -> None:
    result = run()
    assert result.exit_code == 0
    assert "tor 0.4.9.11 at " in result.stdout
    findings = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert {line.split()[0] for line in findings} == {"ok"}
    assert json.loads(run("--json").stdout)["usable"] is True


@pytest.mark.parametrize(
    ("walls", "level"),
    [(Walls(sockets=True, files=True), "ok"), (Walls(network=True, files=True), "warn"), (Walls(), "warn")],
)
def test_missing_walls_are_a_warning_and_stop_nobody(monkeypatch: pytest.MonkeyPatch, walls: Walls, level: str) -> None:
    show_walls(monkeypatch, walls)
    found = finding("walls")
    assert found["level"] == level
    assert ("OPEN" in found["seen"]) == (level == "warn")
    assert json.loads(run("--json").stdout)["usable"] is True


def test_if_walls_cannot_be_probed_no_party_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Walls:
        raise ProgramError("cannot put walls around a program on this machine: OSError")

    monkeypatch.setattr(module, "probe_walls", fail)
    assert finding("walls")["level"] == "fail"


@pytest.mark.tor
def test_the_tor_of_this_machine_accepts_our_torrc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONIONMPC_TOR")
    assert finding("torrc")["level"] == "ok"


def test_no_tor_fails_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONIONMPC_TOR")
    monkeypatch.setenv("PATH", "")
    assert run().exit_code == 3
    assert "no tor program" in finding("tor")["seen"]
    assert "install" in finding("tor")["fix"]


def test_an_old_but_usable_tor_is_a_warning(tmp_path: Path) -> None:
    fake_tor(tmp_path / "tor", "0.4.8.12")
    assert run().exit_code == 0
    assert finding("tor")["level"] == "warn"


def test_a_tor_that_refuses_our_torrc_fails_in_its_own_words(tmp_path: Path) -> None:
    fake_tor(tmp_path / "tor", verify="echo '[warn] Unknown option LongLivedPorts.'; exit 1")
    assert run().exit_code == 3
    assert "Unknown option LongLivedPorts" in finding("torrc")["seen"]


def test_usable_bridges_are_listed_and_stop_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "--bridge works with only plain bridges (for obfs4: install obfs4proxy" in finding("bridges")["seen"]
    fake_tor(tmp_path / "obfs4proxy")
    assert finding("bridges")["seen"] == f"--bridge works with obfs4, meek_lite ({tmp_path / 'obfs4proxy'})"
    assert json.loads(run("--json").stdout)["usable"] is True


@pytest.mark.parametrize(
    ("version", "modules", "seen"),
    [
        ("0.4.9.11", "relay: yes\npow: yes", "with proof of work"),
        ("0.4.9.11", "pow: no", "without proof of work"),
        ("0.4.9.8", "pow: yes", "without proof of work"),
        ("0.4.9.11", "", "without proof of work"),
    ],
)
def test_the_finding_about_tor_mentions_proof_of_work(tmp_path: Path, version: str, modules: str, seen: str) -> None:
    fake_tor(tmp_path / "tor", version, f'if [ "$1" = --list-modules ]; then echo "{modules}"; fi')
    assert f"{seen} against floods" in finding("tor")["seen"]


def test_a_state_directory_open_to_others_fails(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)
    assert run().exit_code == 3
    assert finding("state directory")["fix"] == f"chmod 700 {tmp_path / 'state'}"


@pytest.mark.parametrize(("free", "level"), [(10**6, "fail"), (10**8, "warn"), (10**9, "ok")])
def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    assert finding("state directory")["level"] == level
    assert f"{free // 10**6} MB free" in finding("state directory")["seen"]


def test_a_clock_before_tors_last_consensus_is_slow(tmp_path: Path) -> None:
    data = tmp_path / "state" / "tor" / "1" / "data"
    data.mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    consensus = data / "cached-microdesc-consensus"
    consensus.write_text("network-status-version 3 microdesc\nvalid-after 2001-01-01 00:00:00\n")
    assert finding("clock")["level"] == "ok"
    consensus.write_text("network-status-version 3 microdesc\nvalid-after 2999-01-01 00:00:00\n")
    assert finding("clock")["level"] == "fail"
    assert "2999-01-01 00:00" in finding("clock")["seen"]
    consensus.write_text("valid-after soon\n")
    assert finding("clock")["level"] == "ok"


def test_missing_and_wrong_packages_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "numpy":
            raise importlib.metadata.PackageNotFoundError
        return "0.110"

    monkeypatch.setattr("importlib.metadata.version", version)
    assert "mpyc 0.110, expected 0.11" in finding("mpyc")["seen"]
    assert finding("numpy")["seen"] == "not installed"


def test_doctor_names_other_tors_and_asks_only_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    async def serve(stream: Stream) -> None:
        heard.append(await stream.reader.readline())
        stream.writer.write(b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE\r\n250-VERSION Tor="0.4.8.1"\r\n250 OK\r\n')
        with contextlib.suppress(ConnectionError):
            heard.append(await stream.reader.read())

    async def main() -> None:
        async with listening_local(serve) as port:
            places = {Endpoint(port=port): module.SYSTEM_TOR}
            monkeypatch.setattr(module, "KNOWN_PLACES", places)
            found = await asyncio.to_thread(finding, "also here")
            assert "is a control port of a running tor 0.4.8.1" in found["seen"]

    asyncio.run(main())
    assert b"".join(heard) == b"PROTOCOLINFO 1\r\n"


def started_as(stack: contextlib.ExitStack, *words: str, parent: str | None = None) -> int:
    """Run a process with this command line; its parent has the command line of `parent`, or is this test."""
    asleep = "import time; print(flush=True); time.sleep(60)"
    if parent is not None:
        child = f"os.spawnv(os.P_NOWAIT, {sys.executable!r}, {[*words, '-c', asleep]!r})"
        code = f"import os; print({child}, flush=True); {asleep}"
        process = stack.enter_context(subprocess.Popen([parent, "-c", code], executable=sys.executable, stdout=PIPE))
        assert process.stdout is not None
        number = int(process.stdout.readline())
        stack.callback(os.kill, number, signal.SIGKILL)
    else:
        process = stack.enter_context(subprocess.Popen([*words, "-c", asleep], executable=sys.executable, stdout=PIPE))
        number = process.pid
    stack.callback(process.kill)
    assert process.stdout is not None
    process.stdout.readline()
    return number


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_tors_are_named_by_the_program_that_started_them() -> None:
    with contextlib.ExitStack() as stack:
        running = {
            started_as(stack, "/opt/tor-browser/Browser/TorBrowser/Tor/tor"): "tor of Tor Browser",
            started_as(stack, "tor", parent="/opt/browser/firefox.real"): "tor of Tor Browser",
            started_as(stack, "/usr/bin/tor", parent="/usr/bin/onionshare-cli"): "tor of OnionShare",
            started_as(stack, "tor", parent="/venv/bin/onionmpc"): "tor of onionmpc",
            started_as(stack, "tor"): "tor of someone else",
            started_as(stack, "onionshare-cli"): "OnionShare",
            started_as(stack, "torsocks"): None,
        }
        found = {process: each for each in neighbours() for process in each.processes}
        assert {process: found[process].what if process in found else None for process in running} == running


# Issue 12.
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_process_may_have_any_name() -> None:
    odd = "import time; open('/proc/self/comm', 'wb').write(b'a) \\xff ('); print(flush=True); time.sleep(60)"
    with subprocess.Popen(["tor", "-c", odd], executable=sys.executable, stdout=PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            assert process.pid in [number for each in neighbours() for number in each.processes]
        finally:
            process.kill()


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
def test_a_check_that_fails_becomes_a_finding_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(module, "socket_directory", fail)
    result = run()
    assert result.exit_code == 3
    assert "fail  sockets:" in result.stdout
    assert "fix: " in result.stdout
    assert "clock:" in result.stdout


def test_a_bug_in_a_check_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(module, "socket_directory", fail)
    assert isinstance(run().exception, OSError)


def test_of_many_processes_the_count_is_shown() -> None:
    assert str(Neighbours("tor of onionmpc", (7,))) == "tor of onionmpc (process 7)"
    assert str(Neighbours("tor of onionmpc", (7, 9))) == "tor of onionmpc (processes 7, 9)"
    assert str(Neighbours("tor of onionmpc", tuple(range(20)))) == "tor of onionmpc (20 processes)"


@pytest.mark.parametrize(
    ("usual", "found", "words"),
    [
        (module.SYSTEM_TOR, Probe(ListenerKind.CONTROL, version="0.4.9.11"), "usable with --control 127.0.0.1:9051"),
        (module.SYSTEM_TOR, Probe(ListenerKind.SOCKS), "is a SOCKS port of a running tor"),
        (module.TOR_BROWSER, Probe(ListenerKind.CONTROL), "of Tor Browser; onionmpc leaves it alone"),
        (module.TAILS, Probe(ListenerKind.CONTROL), "a control port, as the filter of Tails is; usable with --control"),
        (module.SYSTEM_TOR, Probe(ListenerKind.OTHER), "is something that is not tor"),
    ],
)
def test_other_programs_are_named(monkeypatch: pytest.MonkeyPatch, usual: str, found: Probe, words: str) -> None:
    async def probe(endpoint: Endpoint, timeout_s: float) -> Probe:
        return found

    monkeypatch.setattr(module, "KNOWN_PLACES", {Endpoint(port=9051): usual})
    monkeypatch.setattr(module, "probe", probe)
    assert words in finding("also here")["seen"]
    assert run().exit_code == 0


def test_doctor_never_imports_mpyc(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom onionmpc.cli.doctor import run_checks\nrun_checks()\n"
        "sys.exit(any(name.split('.')[0] in ('mpyc', 'txtorcon') for name in sys.modules))"
    )
    environment = os.environ | {"ONIONMPC_STATE": str(tmp_path / "state")}
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0
    assert time.monotonic() - began < 30

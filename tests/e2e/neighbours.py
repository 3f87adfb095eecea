"""One machine on which all kinds of programs use tor at once. test_neighbours.py runs it in its own network namespace.

Tor Browser's tor is started with the words that Tor Browser uses, with ports, password and all; a system's tor runs as
the user that Debian gives it; OnionShare is Debian's, at the system's tor. Of four parties, one has a tor of its own,
one the system's, and two the system's through filters with the profiles for Tails and Whonix.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from python_socks.async_.asyncio import Proxy

from onionmpc.resources import shipped
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import PASSWORD_VARIABLE, open_control
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.process.binary import find_tor
from tests.e2e.kit import ADD_WHEN_TOLD, Party, Stage
from tests.support.grater import Grater, grating

BROWSER_SOCKS, BROWSER_CONTROL = 9150, 9151
SYSTEM_SOCKS, SYSTEM_CONTROL = 9050, 9051
TAILS_CONTROL = 951
PARTIES = 4
STEP_S = 120.0
TRY_AGAIN_S = 0.5
END_S = 5.0
SYSTEM_USER = "debian-tor"
SYSTEM_TORRC = """
SocksPort 127.0.0.1:{socks}
ControlPort 127.0.0.1:{control}
CookieAuthentication 1
CookieAuthFile {folder}/control.authcookie
CookieAuthFileGroupReadable 1
DataDirectory {folder}/data
Log notice stdout
{user}
"""


@dataclass
class Machine:
    """What runs besides parties.

    Attributes:
        browser: Tor Browser's control connection.
        system: one to the system's tor.
        shared: the address of what OnionShare shares.
    """

    browser: Control
    system: Control
    shared: str
    tails: Grater
    whonix: Grater
    whonix_port: int


@contextlib.asynccontextmanager
async def running(*words: str | Path, log: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={"PATH": os.environ["PATH"], **variables}
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(TimeoutError):  # OnionShare waits for whoever is still at its circuits
            async with asyncio.timeout(END_S):
                await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def logged_in(
    process: asyncio.subprocess.Process, log: Path, port: int, password: str = ""
) -> AsyncIterator[Control]:
    """Log in to a tor as soon as it listens, and wait until it is connected."""
    endpoint = Endpoint(port=port)
    async with asyncio.timeout(STEP_S):
        while True:
            assert process.returncode is None, f"see {log}"
            with contextlib.suppress(OSError):
                (await endpoint.connect()).close()
                break
            await asyncio.sleep(TRY_AGAIN_S)
    async with contextlib.AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # not for parties
            patch.setenv(PASSWORD_VARIABLE, password)
            control = await stack.enter_async_context(open_control(endpoint))
        if password:
            await control.command("SETCONF DisableNetwork=0")
        await control.bootstrap(lambda percent, words: None, STEP_S)
        yield control


def install_browser(folder: Path) -> tuple[Path, Path]:
    """Return the tor and the data directory of a Tor Browser."""
    data = folder / "Browser" / "TorBrowser" / "Data" / "Tor"
    binary = folder / "Browser" / "TorBrowser" / "Tor" / "tor"
    for directory in (data, binary.parent, data / "onion-auth"):
        directory.mkdir(parents=True, mode=0o700)
    binary.symlink_to(find_tor().path)
    (data / "torrc-defaults").write_text("AvoidDiskWrites 1\nLog notice stdout\nDormantCanceledByStartup 1\n")
    return binary, data


def hashed(binary: Path, password: str) -> str:
    """Return the hash of a password in tor's format."""
    hashing = [str(binary), "--hash-password", password]
    return subprocess.run(hashing, capture_output=True, text=True, check=True).stdout.split()[-1]


@contextlib.asynccontextmanager
async def tor_browser(testnet: Path, folder: Path) -> AsyncIterator[Control]:
    """Run a tor as Tor Browser does."""
    binary, data = install_browser(folder)
    password = secrets.token_hex(16)
    log = folder / "browser.log"
    with join_testnet(testnet) as place:
        (data / "torrc").write_text(place.torrc)
        words: list[str | Path] = [
            binary,
            *("--defaults-torrc", data / "torrc-defaults", "-f", data / "torrc"),
            *("DataDirectory", data, "ClientOnionAuthDir", data / "onion-auth"),
            *("HashedControlPassword", hashed(binary, password), "+__ControlPort", str(BROWSER_CONTROL)),
            "+__SocksPort",
            f"127.0.0.1:{BROWSER_SOCKS} ExtendedErrors IPv6Traffic PreferIPv6 KeepAliveIsolateSOCKSAuth",
            *("__OwningControllerProcess", str(os.getpid()), "DisableNetwork", "1"),
        ]
        async with (
            running(*words, log=log, HOME=str(folder)) as process,
            logged_in(process, log, BROWSER_CONTROL, password) as control,
        ):
            await control.command("TAKEOWNERSHIP")
            yield control


def install_system_tor() -> tuple[Path, str]:
    """Return a directory that belongs to the user of a system's tor, and the torrc line for that user."""
    # Not under pytest's, where only we may go.
    folder = Path(tempfile.mkdtemp(prefix="onionmpc-system-"))
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o700)
    if os.geteuid() != 0:
        return folder, ""
    account = pwd.getpwnam(SYSTEM_USER)
    for path in (folder, folder / "data"):
        os.chown(path, account.pw_uid, account.pw_gid)
    return folder, f"User {SYSTEM_USER}"


@contextlib.asynccontextmanager
async def system_tor(testnet: Path) -> AsyncIterator[tuple[Control, Path]]:
    """Run a tor as Debian does; yield its control connection and its cookie."""
    folder, user = install_system_tor()
    log = folder / "log"
    try:
        with join_testnet(testnet) as place:
            lines = SYSTEM_TORRC.format(socks=SYSTEM_SOCKS, control=SYSTEM_CONTROL, folder=folder, user=user)
            (folder / "torrc").write_text(place.torrc + lines)
            async with (
                running(find_tor().path, "-f", folder / "torrc", log=log) as process,
                logged_in(process, log, SYSTEM_CONTROL) as control,
            ):
                yield control, folder / "control.authcookie"
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def onionshare(folder: Path) -> AsyncIterator[str]:
    """Let OnionShare share a file over the system's tor; yield its address."""
    (folder / "leaflet.txt").write_text("hello")
    settings = {"connection_type": "control_port", "control_port_port": SYSTEM_CONTROL, "auth_type": "no_auth"}
    (folder / "settings.json").write_text(json.dumps(settings))
    words: list[str | Path] = [
        "--config",
        folder / "settings.json",
        "--public",
        "--no-autostop-sharing",
        folder / "leaflet.txt",
    ]
    log = folder / "onionshare.log"
    program = shutil.which("onionshare-cli")
    assert program, "onionshare-cli is not installed: make test does that"
    async with running(program, *words, log=log, HOME=str(folder), PYTHONUNBUFFERED="1") as process:
        async with asyncio.timeout(STEP_S):
            while not (found := re.search(r"http://([a-z2-7]{56}\.onion)", log.read_text())):
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(TRY_AGAIN_S)
        yield found[1]


@contextlib.asynccontextmanager
async def busy_machine(testnet: Path, folder: Path) -> AsyncIterator[Machine]:
    profiles = shipped("torrc.d")
    # In a workstation this port leads to the gateway's, and here to Tor Browser's.
    as_here = folder / "onion-grater-whonix.yml"
    as_here.write_text((profiles / as_here.name).read_text().replace(f":{BROWSER_SOCKS}", f":{SYSTEM_SOCKS}"))
    there = ("127.0.0.1", SYSTEM_CONTROL)
    async with (
        tor_browser(testnet, folder) as browser,
        system_tor(testnet) as (system, cookie),
        onionshare(folder) as shared,
        grating(profiles / "onion-grater-tails.yml", there, cookie, TAILS_CONTROL) as (tails, _),
        grating(as_here, there, cookie) as (whonix, port),
    ):
        yield Machine(browser, system, shared, tails, whonix, port)


async def browse(onion: str) -> str:
    """Fetch a page as Tor Browser does; each site has circuits of its own there."""
    proxy = Proxy.from_url(f"socks5://{onion}:0@127.0.0.1:{BROWSER_SOCKS}", rdns=True)
    async with asyncio.timeout(STEP_S):
        while True:
            try:
                reader, writer = await asyncio.open_connection(sock=await proxy.connect(onion, 80))
            except Exception:  # noqa: BLE001 (a service that is new may not be found at once)
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            writer.write(f"GET / HTTP/1.1\r\nHost: {onion}\r\nConnection: close\r\n\r\n".encode())
            page = (await reader.read()).decode(errors="replace")
            writer.close()
            return page


async def doctor(stage: Stage) -> list[str]:
    """Return doctor's findings about other programs."""
    party = await stage.run("doctor", "doctor", "--json")
    assert await party.ends() == 0, party.screen
    return [finding["seen"] for finding in json.loads(party.output)["findings"] if finding["check"] == "also here"]


async def add(stage: Stage, machine: Machine) -> tuple[list[Party], list[str]]:
    """Let four parties add four numbers; return them, and doctor's findings during the session."""
    script = stage.script("add.py", ADD_WHEN_TOLD)
    host = await stage.host(script, parties=PARTIES, state="own", private=["1"])
    ways = [
        ["--control", f"127.0.0.1:{SYSTEM_CONTROL}"],
        ["--control", f"127.0.0.1:{TAILS_CONTROL}", "--listen", "127.0.0.1:9881"],
        ["--control", f"127.0.0.1:{machine.whonix_port}", "--listen", "127.0.0.1:9882"],
    ]
    parties = [host]
    for number, (invite, way) in enumerate(zip(await stage.invites(host, len(ways)), ways, strict=True), 1):
        name = f"joiner {number}"
        options = ["join", invite, script, *way, "--yes", "--log-format", "json", "--", str(10**number)]
        parties.append(await stage.run(name, *options, state=name))
    await asyncio.gather(*(party.hears("agreed") for party in reversed(parties)))
    seen = await doctor(stage)
    stage.tell_to_go()
    assert await stage.ended(parties) == [0] * PARTIES, [party.last_words for party in parties]
    return parties, seen


def test_one_machine(testnet_dir: Path, tmp_path: Path) -> None:
    async def main() -> None:
        stage = Stage(testnet_dir, tmp_path)
        async with busy_machine(testnet_dir, tmp_path) as machine:
            before = [await control.get_info("config-text") for control in (machine.browser, machine.system)]
            assert "leaflet.txt" in await browse(machine.shared)
            try:
                session = asyncio.create_task(add(stage, machine))
                while not session.done():
                    assert "leaflet.txt" in await browse(machine.shared)
                    await asyncio.sleep(TRY_AGAIN_S)
                parties, seen = await session
            finally:
                await stage.close()

            for party in parties:
                assert party.output == "sum: 1111\n"
            assert_named(seen, machine)
            assert_filtered(machine)

            # Nobody's settings were touched, and nothing of ours is left.
            assert before == [await control.get_info("config-text") for control in (machine.browser, machine.system)]
            assert "x25519:" not in await machine.system.command("ONION_CLIENT_AUTH_VIEW")
            assert await machine.system.get_info("onions/detached") == ""
            assert "leaflet.txt" in await browse(machine.shared)

    asyncio.run(main())


def assert_named(seen: list[str], machine: Machine) -> None:
    """Check that doctor names all programs that run."""
    text = "\n".join(seen)
    for words in (
        f"127.0.0.1:{TAILS_CONTROL} is a control port, as the filter of Tails is",
        f"127.0.0.1:{SYSTEM_SOCKS} is a SOCKS port of a running tor",
        f"127.0.0.1:{SYSTEM_CONTROL} is a control port of a running tor",
        f"127.0.0.1:{BROWSER_SOCKS} is a SOCKS port of Tor Browser; onionmpc leaves it alone",
        f"127.0.0.1:{BROWSER_CONTROL} is a control port of Tor Browser; onionmpc leaves it alone",
    ):
        assert words in text
    assert re.search(r"^OnionShare \(process \d+\)", text, re.MULTILINE)
    assert re.search(r"^tor of Tor Browser \(process \d+\)", text, re.MULTILINE)
    assert re.search(r"^tor of (the system|someone else) \(process", text, re.MULTILINE)
    assert re.search(r"^tor of onionmpc \(\d+ processes\)$", text, re.MULTILINE)
    assert re.search(r"^a party of onionmpc \(processes (\d+, ){3}\d+\)", text, re.MULTILINE)


def assert_filtered(machine: Machine) -> None:
    """Check that parties used the filters, and asked for more than the filters let through."""
    for grater in (machine.tails, machine.whonix):
        assert {"ADD_ONION", "ONION_CLIENT_AUTH_ADD"} <= {line.split()[0] for line in grater.passed}
        assert "GETINFO circuit-status" in grater.refused
        assert not [line for line in grater.refused if line.startswith(("ADD_ONION", "ONION_CLIENT_AUTH"))]

"""Parties as people start them: `onionmpc` processes in a private Tor network, followed by their output.

Knows processes, their JSON events and a terminal. Knows nothing of a session that they do not tell. Every wait is
bounded, and whatever a stage started has ended when the stage has.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import secrets
import signal
import sys
import termios
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from onionmpc.identity import Identity
from onionmpc.session import keystore
from onionmpc.session.invite import Invite, format_invite, parse_invite

# No party comes near it: what hangs must fail, and not stop the others.
PATIENCE_S = 120.0
# How long what a party started may outlive it: tor ends when its control connection does.
REMAINS_S = 15.0
# Handed down to every process that a party starts, by which they are found again. Not one of ours, which are not.
MARK = "E2E_STAGE"
LINE_LIMIT_BYTES = 2**20
# Adds the number that each party is given, once `Stage.tell_to_go` was called.
ADD_WHEN_TOLD = """
    import sys, time
    from pathlib import Path
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            while not Path("go").exists():
                time.sleep(0.1)
            print("sum:", await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(int(sys.argv[1]))))))
    mpc.run(main())
"""
INVITE = re.compile(r"\bonionmpc1[a-z2-7]{84}\b")


class Party:
    """One `onionmpc` process.

    Attributes:
        name: for the messages of tests.
        events: what it said in JSON, each with the time at which we heard it, `heard_s`.
        words: the other lines on its stderr.
        screen: all of its stderr; with a terminal, what was typed too.
        output: its stdout.
        code: its exit code, when it has ended.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, terminal: int | None) -> None:
        self.name = name
        self.process_id = process.pid
        self.events: list[dict[str, Any]] = []
        self.words: list[str] = []
        self.screen = ""
        self.output = ""
        self.code: int | None = None
        self.ended_at_s = 0.0
        self._process = process
        self._terminal = terminal
        if terminal is not None:
            os.set_blocking(terminal, False)
        self._said = asyncio.Event()
        self._following = asyncio.create_task(self._follow())

    @property
    def failure(self) -> str:
        """The sentence that it ended with."""
        told = [event["error"] for event in self.events if event["event"] == "failed"]
        told += [line.removeprefix("onionmpc: error: ") for line in self.words if line.startswith("onionmpc: error: ")]
        assert len(told) == 1, f"{self.name} told {len(told)} errors: {self.last_words}"
        return str(told[0])

    @property
    def hint(self) -> str:
        """What it said how to mend that."""
        return next((str(event["hint"]) for event in self.events if event["event"] == "failed"), "")

    @property
    def number(self) -> int:
        """Its place in the roster."""
        return int(self.heard("roster_known")[0]["own_number"])

    @property
    def last_words(self) -> str:
        """The end of what it said, for the message of a test that fails."""
        return self.screen[-3000:]

    def heard(self, name: str, **values: Any) -> list[dict[str, Any]]:
        """Return the events of this name with these values."""
        return [event for event in self.events if event["event"] == name and values.items() <= event.items()]

    async def hears(self, name: str, times: int = 1, **values: Any) -> dict[str, Any]:
        """Wait until it told such an event so often, and return the last one."""
        await self._until(lambda: len(self.heard(name, **values)) >= times, f"the event {name} {values or ''}")
        return self.heard(name, **values)[-1]

    async def sees(self, text: str, times: int = 1) -> None:
        """Wait until this text is on its screen so often."""
        await self._until(lambda: self.screen.count(text) >= times, f"{text!r} on its screen")

    async def shows_invites(self, count: int) -> list[str]:
        """Wait until it has shown so many invites and return them."""
        await self._until(lambda: len(INVITE.findall(self.screen)) >= count, f"{count} invites")
        return INVITE.findall(self.screen)

    async def prints(self, text: str) -> None:
        """Wait until its program printed this text."""
        await self._until(lambda: text in self.output, f"{text!r} on stdout")

    async def ends(self, timeout_s: float | None = PATIENCE_S) -> int:
        """Wait for its end and return its exit code."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._following)
        except TimeoutError:
            raise AssertionError(f"{self.name} did not end: {self.last_words}") from None
        assert self.code is not None
        return self.code

    def types(self, text: str) -> None:
        """Type at its terminal; \\x03 is Ctrl-C."""
        assert self._terminal is not None
        os.write(self._terminal, text.encode())

    def interrupt(self) -> None:
        """Send what Ctrl-C sends, to it alone."""
        os.kill(self.process_id, signal.SIGINT)

    def kill(self) -> None:
        """Kill it without a chance to say a word."""
        os.kill(self.process_id, signal.SIGKILL)

    def children(self, word: str) -> list[int]:
        """Return the process ids of its children that have this word in their command line."""
        listed = Path(f"/proc/{self.process_id}/task/{self.process_id}/children").read_text().split()
        return [int(child) for child in listed if word in command_line(int(child))]

    async def close(self) -> None:
        """Kill it if it still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._following
        if self._terminal is not None:
            os.close(self._terminal)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    assert self.code is None, f"{self.name} ended ({self.code}) before {what}: {self.last_words}"
                    self._said.clear()
                    await self._said.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} took too long for {what}: {self.last_words}") from None

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_output())
            tasks.create_task(self._read_errors())
            code = await self._process.wait()
        self.ended_at_s = asyncio.get_running_loop().time()
        self.code = code
        self._said.set()

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(2**16):
            self.output += chunk.decode()
            self._said.set()

    async def _read_errors(self) -> None:
        line = b""
        async for chunk in self._error_chunks():
            self.screen += chunk.decode(errors="replace")
            *lines, line = (line + chunk).split(b"\n")
            for whole in lines:
                self._take_line(whole.decode(errors="replace").rstrip("\r"))
            self._said.set()
        self._take_line(line.decode(errors="replace"))

    def _take_line(self, line: str) -> None:
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                self.events.append(event | {"heard_s": asyncio.get_running_loop().time()})
                return
        if line:
            self.words.append(click.unstyle(line))

    async def _error_chunks(self) -> AsyncIterator[bytes]:
        if self._terminal is None:
            assert self._process.stderr is not None
            while chunk := await self._process.stderr.read(2**16):
                yield chunk
            return
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._terminal, readable.set)
        try:
            while True:
                readable.clear()
                await readable.wait()
                try:
                    yield os.read(self._terminal, 2**16)
                except BlockingIOError:
                    continue
                except OSError:  # EIO: nobody has the terminal open any more
                    return
        finally:
            loop.remove_reader(self._terminal)


@dataclass(frozen=True)
class Outfit:
    """How to start a command so that it can be watched.

    Attributes:
        before: words that come first.
        environment: further variables.
        descriptors: what it inherits.
    """

    before: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


class Stage:
    """Starts parties and ends them.

    Args:
        testnet: the directory of the private network, None for scenes that bring their own.
        folder: where scripts, invites and the state of parties go.

    Attributes:
        outfit: what a party of this name is started with.
        command: the words before a party's own, after Python's.
    """

    def __init__(self, testnet: Path | None, folder: Path) -> None:
        self.folder = folder
        self.command: tuple[str, ...] = ("-m", "onionmpc.cli")
        self.parties: list[Party] = []
        self.outfit: Callable[[str], Outfit] = lambda _name: Outfit()
        self.testnet = testnet
        self._mark = secrets.token_hex(8)

    async def start(
        self,
        name: str,
        *arguments: str,
        private: Sequence[str] = (),
        state: str = "state",
        stdin: str | None = None,
        terminal: bool = False,
    ) -> Party:
        """Start `onionmpc` with these arguments, in the private network.

        Args:
            private: what follows a lone --.
            state: the name of its state directory; parties of one name share it.
            stdin: what its program reads.
            terminal: whether a person sits before it and is asked; otherwise it says yes, or has a --policy, and
                writes JSON.
        """
        agrees = [] if "--policy" in arguments else ["--yes"]
        how = [] if terminal else [*agrees, "--log-format", "json"]
        where = [] if self.testnet is None else ["--testnet", str(self.testnet)]
        options = [*arguments, *where, *how, "--", *private]
        return await self.run(name, *options, state=state, stdin=stdin, terminal=terminal)

    async def run(
        self, name: str, *arguments: str, state: str = "state", stdin: str | None = None, terminal: bool = False
    ) -> Party:
        """Start `onionmpc` with these arguments and no others; see `start`."""
        with contextlib.ExitStack() as opened:
            near, far = pty.openpty() if terminal else (None, None)
            if far is not None:
                opened.callback(os.close, far)
            given = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
            outfit = self.outfit(name)
            process = await asyncio.create_subprocess_exec(
                *(*outfit.before, sys.executable, "-P", *self.command, *arguments),
                stdin=given if far is None else far,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE if far is None else far,
                env={**os.environ, **self._environment(state), **outfit.environment},
                pass_fds=outfit.descriptors,
                cwd=self.folder,
                limit=LINE_LIMIT_BYTES,
                start_new_session=True,
                # So that Ctrl-C, once typed, reaches all that run there.
                preexec_fn=None if far is None else lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
        if stdin is not None:
            assert process.stdin is not None
            process.stdin.write(stdin.encode())
            process.stdin.close()
        party = Party(name, process, near)
        self.parties.append(party)
        return party

    def _environment(self, state: str) -> dict[str, str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            "ONIONMPC_STATE": str(self.folder / state),
            "TMPDIR": str(temporary),
            "TERM": "dumb",
            MARK: self._mark,
        }

    async def host(self, program: str, *options: str, parties: int = 3, **how: Any) -> Party:
        """Start a host."""
        return await self.start("host", "host", program, "--parties", str(parties), *options, **how)

    async def invites(self, host: Party, count: int) -> list[str]:
        """Return what `join` takes for the first invites that the host showed, be it in JSON or to a person."""
        return [self.write_invite(invite) for invite in (await host.shows_invites(count))[:count]]

    def write_invite(self, invite: str) -> str:
        """Return what `join` takes for an invite in a file."""
        path = self.folder / f"invite-{secrets.token_hex(4)}.txt"
        path.write_text(invite + "\n")
        return f"@{path.name}"

    async def gathered(
        self, program: str, *options: str, parties: int = 3, each: Sequence[str] = (), **how: Any
    ) -> list[Party]:
        """Start a host and its joiners, which leave everything to the host, and return them all, the host first.

        Args:
            options: the host's.
            each: options of every party.
        """
        host = await self.host(program, *options, *each, parties=parties, **how)
        invites = await self.invites(host, parties - 1)
        named = [program] if program.endswith(".py") else []
        started = [
            self.start(f"joiner {number}", "join", invite, *named, *each, **how)
            for number, invite in enumerate(invites, 1)
        ]
        return [host, *await asyncio.gather(*started)]

    def script(self, name: str, body: str) -> str:
        """Write a script and return its name."""
        (self.folder / name).write_text(textwrap.dedent(body))
        return name

    def tell_to_go(self) -> None:
        """Let programs that wait for it go on; see `ADD_WHEN_TOLD`."""
        (self.folder / "go").touch()

    async def ended(self, parties: Iterable[Party] | None = None) -> list[int]:
        """Wait for parties, all unless told otherwise, to end; return their exit codes."""
        chosen = self.parties if parties is None else list(parties)
        return await asyncio.gather(*(party.ends() for party in chosen))

    async def close(self) -> None:
        """End all parties, and see that nothing that they started is left."""
        await asyncio.gather(*(party.close() for party in self.parties))
        left = [process for process in _processes() if self._is_ours(process)]
        try:
            async with asyncio.timeout(REMAINS_S):
                await asyncio.gather(*map(gone, left))
        except TimeoutError:
            words = [command_line(process) for process in left if self._is_ours(process)]
            for process in left:
                if self._is_ours(process):
                    os.kill(process, signal.SIGKILL)
            raise AssertionError(f"left behind: {words}") from None
        files = [path.name for path in (self.folder / "tmp").glob("*")]
        assert not files, f"left behind: {files}"

    def _is_ours(self, process: int) -> bool:
        try:
            return f"{MARK}={self._mark}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


def forged(invite: str) -> str:
    """Return an invite to the same host, with a secret that the host never gave out."""
    return format_invite(Invite(parse_invite(invite).host, bytes(16)))


def new_identity() -> Identity:
    """Return a new identity."""
    return Identity(secrets.token_bytes(32))


def keep_identity(stage: Stage, state: str = "state") -> str:
    """Make an identity "me" in a state directory; return its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONIONMPC_STATE", str(stage.folder / state))
        return keystore.create("me", None).onion


def same_sentence(parties: Iterable[Party]) -> str:
    """Return the sentence that all these parties ended with, the same but for "this party"."""
    sentences = {re.sub(r"this party \((party \d+)\)", r"\1", party.failure) for party in parties}
    assert len(sentences) == 1, sentences
    return sentences.pop()


# --- Many scenes at once -----------------------------------------------------------------------------------------

Scene = Callable[[Stage], Awaitable[Any]]


@dataclass(frozen=True)
class Played:
    """The outcome of a scene: what it returned, or what it raised."""

    result: Any = None
    error: BaseException | None = None

    def unwrap(self) -> Any:
        """Return or raise it."""
        if self.error is not None:
            raise self.error
        return self.result


def play(scenes: Iterable[Scene], testnet: Path | None, folder: Path, at_once: int) -> dict[Scene, Played]:
    """Play scenes side by side, each on its own stage: parties spend most of the time waiting for each other."""

    async def one(scene: Scene, turn: asyncio.Semaphore) -> Played:
        place = folder / scene.__name__
        place.mkdir()
        async with turn:
            stage = Stage(testnet, place)
            try:
                try:
                    return Played(await scene(stage))
                finally:
                    await stage.close()
            except Exception as error:  # noqa: BLE001 (a test raises it again)
                return Played(error=error)

    async def all_of_them() -> dict[Scene, Played]:
        turn = asyncio.Semaphore(at_once)
        chosen = list(scenes)
        return dict(zip(chosen, await asyncio.gather(*(one(scene, turn) for scene in chosen)), strict=True))

    return asyncio.run(all_of_them())


def after(scene: Scene) -> pytest.MarkDecorator:
    """Give a test what came of this scene, as its argument `outcome`."""
    return pytest.mark.parametrize("outcome", [scene], indirect=True, ids=[scene.__name__])


# --- Processes ---------------------------------------------------------------------------------------------------


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command_line(process: int) -> str:
    """Return the command line of a process, its words joined by blanks."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


async def gone(process: int) -> None:
    """Wait for the end of a process that may not be our child."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)

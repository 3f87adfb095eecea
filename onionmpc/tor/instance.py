"""One tor instance: from its start or our login until it, or our connection to it, is lost.

network.py sets it up for a party; restarter.py starts the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from onionmpc.errors import TorError, TorFailed, TorTooOld, UnsafeSetting, UsageError
from onionmpc.files import memory_directory, private_directory
from onionmpc.tasks import cancel, first_of, together
from onionmpc.tor.adapters.stem import Version
from onionmpc.tor.control.bootstrap import DONE_PERCENT
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused, connection_gone
from onionmpc.tor.control.login import open_control
from onionmpc.tor.endpoint import UNIX_PREFIX, Endpoint, parse_endpoint
from onionmpc.tor.process.binary import OLDEST, tor_install_hint, version_warning
from onionmpc.tor.process.own_tor import OwnTor, Traffic, own_tor
from onionmpc.tor.process.profile import service_profile
from onionmpc.tor.report import Reporter

# How long to wait for tor's last log lines after its control connection broke.
TOR_DEATH_S = 2.0
# How often we ask tor whether it is there, and how long it may take to answer.
QUESTION_S = 10.0
# Two in a row: if this machine was suspended, the current question is overdue as soon as the machine resumes, but tor
# answers the next one.
UNANSWERED_QUESTIONS = 2
# Such a tor has no SOCKS port: tor refuses to start with both.
NON_ANONYMOUS = "HiddenServiceNonAnonymousMode"


@dataclass(frozen=True, slots=True)
class TorInstance:
    """A running tor, and our connection to it.

    Attributes:
        control: our control connection, logged in.
        socks: its SOCKS endpoint, for dials.
        reaches_files: whether it can connect to a socket in a private directory of ours.
        own: its process, if it is ours.
        second: the tor that carries our service, if that is another one.
        keys: the directory for that service's key.
        question_s: see `TorTimings`.
    """

    control: Control
    socks: Endpoint
    reaches_files: bool = True
    own: OwnTor | None = None
    second: TorInstance | None = None
    keys: Path | None = None
    question_s: float = QUESTION_S

    @property
    def tors(self) -> tuple[TorInstance, ...]:
        """Its tors. The one that carries our service is last."""
        return (self,) if self.second is None else (self, self.second)

    @property
    def gone(self) -> bool:
        """Whether the connection to one of its tors is lost."""
        return any(tor.control.closed.done() for tor in self.tors)

    async def lost(self) -> TorError:
        """Wait until one of its tors, or our connection to one, is lost; return why. Kill a tor of ours that hangs."""
        losses = [asyncio.create_task(tor._lost()) for tor in self.tors]  # noqa: SLF001 (of the same class)
        try:
            loss: TorError = await first_of(*losses)
            return loss
        finally:
            await cancel(*losses)

    async def _lost(self) -> TorError:
        hanging = asyncio.create_task(self._hanging())
        try:
            await asyncio.wait({hanging, self.control.closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(hanging)
        if self.control.closed.done():
            return await self._last_words()
        if self.own is not None:
            await self.own.kill()
        return TorFailed(f"tor does not answer: {UNANSWERED_QUESTIONS} questions in a row, {self.question_s:g} s each")

    @contextlib.asynccontextmanager
    async def explaining(self) -> AsyncIterator[None]:
        """Replace the error "the connection is gone" by tor's own reason, from its log."""
        try:
            yield
        except TorFailed as error:
            for tor in self.tors:
                if tor.control.closed.done():
                    raise await tor._last_words() from error  # noqa: SLF001 (of the same class)
            raise

    async def _hanging(self) -> None:
        """Return when tor no longer answers."""
        unanswered = 0
        while unanswered < UNANSWERED_QUESTIONS:
            try:
                async with asyncio.timeout(self.question_s):
                    # Any answer is enough, even a refusal.
                    with contextlib.suppress(CommandRefused):
                        await self.control.get_info("version")
            except TimeoutError:
                unanswered += 1
            else:
                unanswered = 0
                await asyncio.sleep(self.question_s)

    async def _last_words(self) -> TorError:
        """Return why the control connection is gone, from the log of our own tor if it has ended."""
        if self.own is not None:
            await asyncio.wait({self.own.died}, timeout=TOR_DEATH_S)
            if self.own.died.done():
                return self.own.died.result()
        return connection_gone()


StartTor = Callable[[], AbstractAsyncContextManager[TorInstance]]


@contextlib.asynccontextmanager
async def own_instance(
    profile: Path,
    sockets: Path,
    extra_torrc: str,
    reporter: Reporter,
    question_s: float = QUESTION_S,
    traffic: Traffic = Traffic.ONION,
) -> AsyncIterator[TorInstance]:
    """Run a tor of our own during the block; see `own_tor`.

    Raises:
        TorError: it does not start, or does not let us in.
    """
    reporter.tor(0, "starting tor")
    async with own_tor(profile, sockets, extra_torrc, traffic=traffic) as tor, open_control(tor.control) as control:
        # If this process is killed, the connection ends and tor exits at once.
        await control.command("TAKEOWNERSHIP")
        # A new tor first looks for work after a second, and SIGHUP makes it look at once: it bootstraps 0.75 s sooner.
        await control.command("SIGNAL HUP")
        reporter.tor(DONE_PERCENT, _describe(tor.binary.version))
        yield TorInstance(control, tor.socks, own=tor, question_s=question_s)


@contextlib.asynccontextmanager
async def short_instance(
    profile: Path, sockets: Path, extra_torrc: str, reporter: Reporter, question_s: float = QUESTION_S
) -> AsyncIterator[TorInstance]:
    """Run two tors of our own: one to dial with, and one that shows our IP address to every peer that dials us.

    A tor that serves without anonymity refuses to have a SOCKS port, so it cannot dial.

    Raises:
        TorError: one of them does not start, or does not let us in.
    """
    second_profile = private_directory(service_profile(profile))
    second_sockets = private_directory(sockets / "service")
    async with (
        own_instance(profile, sockets, extra_torrc, reporter, question_s) as first,
        own_instance(second_profile, second_sockets, extra_torrc, reporter, question_s, Traffic.EXPOSED) as second,
    ):
        with memory_directory(sockets) as keys:
            yield replace(first, second=second, keys=keys)


@contextlib.asynccontextmanager
async def foreign_instance(
    endpoint: Endpoint, reporter: Reporter, question_s: float = QUESTION_S
) -> AsyncIterator[TorInstance]:
    """Use a tor that runs already during the block.

    Raises:
        TorError: it does not let us in, is too old, or has no SOCKS port for us.
        UnsafeSetting: it is configured to serve without anonymity.
    """
    reporter.tor(0, f"logging in at {endpoint}")
    async with open_control(endpoint) as control:
        version = control.release
        if version < OLDEST:
            raise TorTooOld(f"the tor at {endpoint} is {version}, expected {OLDEST} or newer", hint=tor_install_hint())
        reporter.tor(DONE_PERCENT, _describe(version))
        yield TorInstance(
            control, await _foreign_socks(control), await _reaches_our_files(control), question_s=question_s
        )


@contextlib.asynccontextmanager
async def bootstrapped(start: StartTor, reporter: Reporter, timeout_s: float) -> AsyncIterator[TorInstance]:
    """Start an instance, and wait until its tors have bootstrapped.

    Raises:
        TorError: it does not start, or does not reach its network.
    """
    async with start() as instance:
        async with instance.explaining():
            await together(*(tor.control.bootstrap(reporter.bootstrap, timeout_s) for tor in instance.tors))
        yield instance


async def _foreign_socks(control: Control) -> Endpoint:
    """Return a SOCKS port of a running tor that accepts our connection; unix sockets first."""
    listed = shlex.split(await control.get_info("net/listeners/socks"))
    for text in sorted(listed, key=lambda text: not text.startswith(UNIX_PREFIX)):
        with contextlib.suppress(OSError, UsageError):  # we cannot use this one, but perhaps the next
            endpoint = parse_endpoint(text)
            (await endpoint.connect()).close()
            return endpoint
    with contextlib.suppress(CommandRefused):  # a filter before the control port may refuse the question
        if (await control.command(f"GETCONF {NON_ANONYMOUS}")).strip() == f"{NON_ANONYMOUS}=1":
            raise UnsafeSetting(
                f"this tor is in {NON_ANONYMOUS}: its onion services show its IP address, and it cannot dial",
                hint="leave --control out; for a service of that kind, add --circuit-length short",
            )
    raise TorFailed(
        f"this tor has {len(listed)} SOCKS ports, but we can reach none of them",
        hint="torrc.d/system-service.torrc has a line for one",
    )


async def _reaches_our_files(control: Control) -> bool:
    """Return whether tor runs as our user, and so can connect to a socket in a directory of mode 0700."""
    try:
        return int(await control.get_info("process/uid")) == os.geteuid()
    except (CommandRefused, ValueError):
        return False


def _describe(version: Version) -> str:
    return "; ".join(filter(None, [f"tor {version}", version_warning(version)]))

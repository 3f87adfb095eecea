"""Finds out whether the program can continue by itself, or sleeps until a peer's program sends something.

Knows asyncio's selector loop, threads, child processes and the frames of suspended coroutines. Does not know the other
programs: stuck.py compares them. A program is *waiting* only if nothing but bytes of a peer can wake it. In every other
case its state is *unknown*, and never reported: if it has a timer, a thread, a child process, a reader of the script's
own, or another kind of loop. An idle processor proves nothing: a sleep and a lost message look alike.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

from onionmpc.program.process.failures import Failures
from onionmpc.program.process.places import ProgramFiles
from onionmpc.program.spec import MAX_PLACES, NO_BYTES, NOT_CONNECTED, Notice, Place, ProgramSpec, Wait

# Users end programs with these. A handler for them does not mean that the program wakes by itself.
ENDING_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
# How many coroutines that await one another are followed: a script's objects could form an endless chain.
MAX_CHAIN = 10_000
# In a loop of another kind, a barrier looks again after this long: little beside a hop, and little processor time.
BARRIER_LOOK_S = 0.001


class WaitingWatch:
    """Wraps the select() of MPyC's loop, and reports to the supervisor what the program waits for once that lasts.

    Create it before the script's first line: the threads that run at that time are ours.

    Args:
        mpc: MPyC's runtime.
        exchangers: MPyC's end of each connected link, by the peer's number.
        failures: the failures in the loop that nothing awaits.
        send: sends a notice to the supervisor.
    """

    def __init__(
        self,
        mpc: Any,
        spec: ProgramSpec,
        exchangers: Mapping[int, Any],
        failures: Failures,
        send: Callable[[Notice], None],
    ) -> None:
        self._mpc = mpc
        self._loop = mpc._loop  # noqa: SLF001 (MPyC has no public name for it)
        self._number = spec.number
        self._files = ProgramFiles(spec.folder)
        self._after_s = spec.waiting_s
        self._exchangers = exchangers
        self._failures = failures
        self._send = send
        self._reported: Wait | None = None
        self._our_threads = _python_threads()
        self._at_barrier: list[asyncio.Future[None]] = []
        # What can wake another kind of loop, such as uvloop's, is unknown.
        self._enabled = isinstance(self._loop, asyncio.SelectorEventLoop) and self._after_s > 0
        if self._enabled:
            selector = self._loop._selector  # noqa: SLF001
            self._select: Callable[[float | None], list[Any]] = selector.select
            selector.select = self.select

    def replace_asyncio(self, module: Any) -> None:
        """Make the barriers in a module of MPyC sleep.

        They poll with asyncio.sleep(0): the loop would never block, so a program that waits would look busy, and keep a
        processor busy.
        """
        module.asyncio = _Asyncio(self._sleep if self._enabled else _look_again)

    @property
    def enabled(self) -> bool:
        """Whether it can tell what the program waits for."""
        return self._enabled

    def poll(self, timeout_s: float) -> bool:
        """Wait at most this long; tell whether select() would return an event now."""
        return bool(self._select(timeout_s))

    def select(self, timeout: float | None = None) -> list[Any]:
        """Do what the selector does. Without a timer, notice how long it takes."""
        events = self._select(timeout) if timeout is not None else self._sleep_without_timer()
        for future in self._at_barrier:
            if not future.done():
                future.set_result(None)
        self._at_barrier.clear()
        return events

    def _sleep_without_timer(self) -> list[Any]:
        while not (events := self._select(self._after_s)):
            self._report(self._state(sys._getframe()))  # noqa: SLF001 (its documented name)
        self._report(None)
        return events

    async def _sleep(self, delay_s: float) -> None:
        """Take the place of asyncio.sleep() in MPyC: a barrier looks again when something has happened."""
        if delay_s > 0:
            await asyncio.sleep(delay_s)
            return
        # Only a callback of the loop can open a barrier, and the loop calls callbacks only after a select().
        future = self._loop.create_future()
        self._at_barrier.append(future)
        await future

    def _report(self, wait: Wait | None) -> None:
        if wait != self._reported:
            self._reported = wait
            self._send(Notice("moving" if wait is None else "waiting", None, "", wait))

    # -- what the program waits for

    def _state(self, frame: FrameType) -> Wait | None:
        """Return what the program waits for; None if anything but a peer may wake it."""
        if self.may_wake_itself():
            return None
        places, ending = self._places(frame)
        ends = [self._exchangers.get(number) for number in range(len(self._mpc.parties))]
        return Wait(
            awaited=tuple(self._awaited()),
            places=places,
            ending=ending,
            failed=self._failures.any_failed(),
            sent=tuple(NO_BYTES if end is None else f"{end.transport.sent_bytes:x}" for end in ends),
            received=tuple(
                NO_BYTES
                if number == self._number
                else NOT_CONNECTED
                if end is None or end.over
                else f"{end.received_bytes:x}"
                for number, end in enumerate(ends)
            ),
        )

    def may_wake_itself(self) -> bool:
        """Tell whether anything but a peer or a timer of the loop may wake the program."""
        links = {end.link.fileno() for end in self._exchangers.values()}
        links.add(self._loop._ssock.fileno())  # noqa: SLF001 (the loop's own; threads wake the loop through it)
        return (
            # A script has put its own transport in the place of ours. We cannot know how much it has sent.
            not all(hasattr(end.transport, "sent_bytes") for end in self._exchangers.values())
            or threading.current_thread() is not threading.main_thread()
            or bool(_python_threads() - self._our_threads)
            or any(descriptor not in links for descriptor in self._loop._selector.get_map())  # noqa: SLF001
            or not ENDING_SIGNALS.issuperset(self._loop._signal_handlers)  # noqa: SLF001
            or signal.getitimer(signal.ITIMER_REAL)[0] > 0
            or _has_children()
        )

    def _awaited(self) -> Iterator[int]:
        """Yield the peers from which MPyC awaits a message, or the start or the end of the connection."""
        parties = self._mpc.parties
        others = [number for number in range(len(parties)) if number != self._number]
        if self._mpc.start_time is None:
            if parties[self._number].protocol is not None:  # start() was called
                yield from (number for number in others if parties[number].protocol is None)
            return
        owing = [number for number in others if number in self._exchangers and self._exchangers[number].owes()]
        # At its end, shutdown() waits until all peers have closed their connections.
        closing = not parties[self._number].protocol.done()
        yield from owing or (number for number in others if closing and parties[number].protocol is not None)

    def _places(self, frame: FrameType) -> tuple[tuple[Place, ...], bool]:
        """Return where in the program's files its coroutines are suspended, and whether one is in MPyC's shutdown()."""
        shutdown: CodeType = type(self._mpc).shutdown.__code__
        found: dict[Place, None] = {}
        ending = False
        for task in sorted(asyncio.all_tasks(self._loop), key=_age):
            frames = list(_frames(task.get_coro()))
            ending = ending or any(one.f_code is shutdown for one in frames)
            if places := [place for one in frames if (place := self._files.place(one))]:
                found[places[-1]] = None
        outer: FrameType | None = frame
        while outer is not None and not found:  # for example mpc.run(mpc.output(...)) at the top level
            if place := self._files.place(outer):
                found[place] = None
            outer = outer.f_back
        return tuple(found)[:MAX_PLACES], ending


async def _look_again(delay_s: float) -> None:
    """Take the place of asyncio.sleep() in MPyC where nothing tells when something has happened."""
    await asyncio.sleep(max(delay_s, BARRIER_LOOK_S))


class _Asyncio:
    """The module asyncio with another sleep()."""

    def __init__(self, sleep: Callable[[float], Any]) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


def _python_threads() -> set[int]:
    # Not threading.enumerate(): it lacks threads of _thread.start_new_thread(), and threads that C code started.
    return set(sys._current_frames())  # noqa: SLF001 (its documented name)


def _has_children() -> bool:
    try:
        # WNOWAIT leaves the exit status for the script to collect.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _age(task: asyncio.Task[Any]) -> tuple[int, str]:
    """Return a sort key: the number in the name that asyncio gives a task by default."""
    name = task.get_name()
    digits = name.removeprefix("Task-")
    return (int(digits) if digits.isascii() and digits.isdigit() else sys.maxsize), name


def _frames(coroutine: Any) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine and of everything that it awaits, the outermost first."""
    for _ in range(MAX_CHAIN):
        if coroutine is None:
            return
        frame = _first(coroutine, "cr_frame", "gi_frame", "ag_frame")
        awaited = _first(coroutine, "cr_await", "gi_yieldfrom", "ag_await")
        if frame is not None:
            yield frame
            if awaited is None:
                # MPyC wraps its coroutines in an object that calls send() itself, to switch program counters.
                awaited = getattr(frame.f_locals.get("self"), "coro", None)
        coroutine = awaited


def _first(of: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(of, name, None)) is not None), None)

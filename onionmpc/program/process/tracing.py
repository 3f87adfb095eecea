"""Finds for each message of a program its trigger, and the line that asked for it. Only dry runs use it.

Knows asyncio's queue of callbacks, and contexts. Does not know MPyC or the other programs: program/chain.py combines
what all of them report.

The trigger of a message is the received message that led to it, through any number of callbacks. The line is taken when
the program calls MPyC: MPyC works later, in tasks that inherit the line.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import FrameType
from typing import Any

from onionmpc.program.process.places import ProgramFiles
from onionmpc.program.process.waiting import WaitingWatch
from onionmpc.program.spec import MAX_FILE_CHARACTERS, MAX_TRACED, Notice, Origin, Place, Rest, Sent, Trace, Trigger

# How long a program with threads or child processes must seem to rest before it counts as resting.
THREADS_S = 0.1
# A timer that is due sooner is part of the program's work. A later one is usually a limit for a wait.
TIMERS_S = 1.0
# The loop runs each callback in a frame of this code.
RUN_CALLBACK = asyncio.Handle._run.__code__  # noqa: SLF001 (it has no public name)


class Tracer:
    """Notes what the program sends, and reports it when the program rests.

    Args:
        loop: MPyC's loop.
        watch: knows whether anything but a peer may wake the program.
        files: the program's files.
        rest: returns how much was exchanged so far.
        counter: returns MPyC's program counter.
        send: sends a notice to the supervisor.

    Attributes:
        trigger: the received message that led to the running callback.
    """

    def __init__(
        self,
        loop: Any,
        watch: WaitingWatch,
        files: ProgramFiles,
        rest: Callable[[], Rest],
        counter: Callable[[], int],
        send: Callable[[Notice], None],
    ) -> None:
        self.trigger: Trigger | None = None
        self._loop = loop
        self._watch = watch
        self._files = files
        self._rest = rest
        self._counter = counter
        self._send = send
        self._origin: contextvars.ContextVar[Origin | None] = contextvars.ContextVar("origin", default=None)
        self._received: collections.Counter[int] = collections.Counter()
        self._messages: list[Sent] = []
        self._reported: Rest | None = None
        self._called: FrameType | None = None
        self._call = 0

    def follow(self) -> None:
        """Replace the loop's queue, and its methods that run the loop, stop it and wait for events."""
        loop, run_forever, stop = self._loop, self._loop.run_forever, self._loop.stop
        loop._ready = Callbacks(loop._ready, self)  # noqa: SLF001 (as in waiting.py)
        loop._selector.select = self.select  # noqa: SLF001
        trigger_of_stop: Trigger | None = None

        # After mpc.run(), a script goes on because its work was done, which need not be the loop's last callback.
        def noted_stop() -> None:
            nonlocal trigger_of_stop
            trigger_of_stop = self.trigger
            stop()

        def noted_run_forever() -> None:
            run_forever()
            self.trigger = trigger_of_stop

        loop.stop, loop.run_forever = noted_stop, noted_run_forever

    def select(self, timeout: float | None = None) -> list[Any]:
        """Do what the selector does. Report that the program rests, before it sleeps."""
        if timeout != 0 and not self._watch.poll(0):
            soon = timeout is not None and timeout <= TIMERS_S
            if not soon and not (self._watch.may_wake_itself() and self._watch.poll(THREADS_S)):
                rest = self._rest()
                if rest != self._reported:
                    self._reported = rest
                    self._report(rest)
        return self._watch.select(timeout)

    def task(self, coroutine: Coroutine[Any, Any, Any], *, loop: Any) -> asyncio.Task[Any]:
        """Make a task that knows the line that asks for it. MPyC calls this instead of asyncio.Task."""
        context = contextvars.copy_context()
        context.run(self._origin.set, self.origin(sys._getframe(1)))  # noqa: SLF001 (its documented name)
        return asyncio.Task(coroutine, loop=loop, context=context)

    def origin(self, frame: FrameType | None) -> Origin | None:
        """Return what asked for the work in a frame: a line in the same callback, else the origin of its task."""
        below, inherited = frame, self._origin.get()
        while frame is not None:
            # If the task has no origin, the script runs a coroutine of MPyC itself, such as mpc.run(mpc.shutdown()).
            # Then the line is beyond the loop.
            if frame.f_code is RUN_CALLBACK and inherited is not None:
                return inherited
            if place := self._files.place(frame):
                return self._asked_at(place, below)
            if not frame.f_globals.get("__name__", "").startswith("onionmpc."):  # a wrapper of ours
                below = frame
            frame = frame.f_back
        return inherited

    def _asked_at(self, place: Place, below: FrameType | None) -> Origin:
        """Return the origin for a line.

        Args:
            below: the frame of the function that the line called.
        """
        if below is None or below is not self._called:  # one call may ask for much: is_zero() for several products
            self._called, self._call = below, self._counter()
        name, values = _callee(below) if below is not None else ("", [])
        return Origin(place, name[:MAX_FILE_CHARACTERS], next(_bit_lengths(values), 0), self._call)

    def received(self, sender: int) -> None:
        """Note that the next message of a peer, or the end of its connection, is about to be handled."""
        self.trigger = Trigger(sender, self._received[sender])
        self._received[sender] += 1

    def missed(self, sender: int) -> None:
        """Note that the next message of a peer, the end of its connection, is handled by nobody: this end is closed."""
        self._received[sender] += 1

    def sent(self, to: int, origin: Origin | None) -> None:
        """Note that a message, or the end of a connection, is sent."""
        self._messages.append(Sent(to, self.trigger, origin))
        if len(self._messages) == MAX_TRACED:
            self.flush()

    def flush(self) -> None:
        """Report what was sent so far."""
        if self._messages:
            self._report(None)

    def _report(self, rest: Rest | None) -> None:
        self._send(Notice("traced", None, "", trace=Trace(tuple(self._messages), rest)))
        self._messages.clear()


class Callbacks(collections.deque[Any]):
    """The callbacks of a loop that are due. Each has the trigger of the callback that scheduled it."""

    def __init__(self, due: Iterable[Any], tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer
        self._triggers: collections.deque[Trigger | None] = collections.deque()
        for callback in due:
            self.append(callback)

    def append(self, callback: Any) -> None:
        """Add one."""
        self._triggers.append(self._tracer.trigger)
        super().append(callback)

    def popleft(self) -> Any:
        """Take the one that runs next."""
        self._tracer.trigger = self._triggers.popleft()
        return super().popleft()


def _callee(frame: FrameType) -> tuple[str, list[Any]]:
    """Return the name of the function that a frame runs, and its values."""
    values = frame.f_locals
    if frame.f_code.co_name == "typed_asyncoro":  # MPyC's decorator for coroutines
        return values["func"].__name__, list(values["args"])
    return frame.f_code.co_name, list(values.values())


def _bit_lengths(values: Iterable[Any]) -> Iterator[int]:
    """Yield the bit lengths of the secret numbers, and of the lists of these, among some values."""
    for value in values:
        kind = type(value[0] if isinstance(value, list) and value else value)
        bits = getattr(kind, "bit_length", None)
        if isinstance(bits, int):
            yield bits

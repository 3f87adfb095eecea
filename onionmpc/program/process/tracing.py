"""Which message of a program follows from which, and which line asked for it; for dry runs alone.

Knows asyncio's queue of callbacks and contexts. Does not know MPyC, nor the other programs: chain.py puts together what
all of them report.

The trigger of a message is the one that woke the callback that sends it, over any number of callbacks in between. The
line is remembered when MPyC's work is asked for: it is done later, by tasks that inherit the line.
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

# How long something besides the links may take to wake a program that seems to rest: a thread, a child process.
THREADS_S = 0.1
# A timer that is due sooner is part of what the program does; a later one only bounds how long it waits for a peer.
TIMERS_S = 1.0
# Below this frame are those of the loop, and of what runs the loop.
RUN_CALLBACK = asyncio.Handle._run.__code__  # noqa: SLF001 (no public name tells where a callback begins)


class Tracer:
    """Notes what the program sends, and reports it when the program rests.

    Args:
        loop: MPyC's.
        watch: what knows whether anything but a peer may wake the program.
        files: the program's.
        rest: returns how much was exchanged so far.
        counter: returns MPyC's program counter.
        tell: takes a notice to the supervisor.

    Attributes:
        trigger: the message that the running callback follows from.
    """

    def __init__(
        self,
        loop: Any,
        watch: WaitingWatch,
        files: ProgramFiles,
        rest: Callable[[], Rest],
        counter: Callable[[], int],
        tell: Callable[[Notice], None],
    ) -> None:
        self.trigger: Trigger | None = None
        self._loop = loop
        self._watch = watch
        self._files = files
        self._rest = rest
        self._counter = counter
        self._tell = tell
        self._origin: contextvars.ContextVar[Origin | None] = contextvars.ContextVar("origin", default=None)
        self._received: collections.Counter[int] = collections.Counter()
        self._messages: list[Sent] = []
        self._told: Rest | None = None
        self._called: FrameType | None = None
        self._call = 0

    def follow(self) -> None:
        """Take the place of the loop's queue, and of its methods that run it and wait for events."""
        loop, run_forever, stop = self._loop, self._loop.run_forever, self._loop.stop
        loop._ready = Callbacks(loop._ready, self)  # noqa: SLF001 (as in waiting.py)
        loop._selector.select = self.select  # noqa: SLF001
        trigger_of_stop: Trigger | None = None

        # What follows mpc.run() in a script follows from what ended that, not from the loop's last callback.
        def noted_stop() -> None:
            nonlocal trigger_of_stop
            trigger_of_stop = self.trigger
            stop()

        def noted_run_forever() -> None:
            run_forever()
            self.trigger = trigger_of_stop

        loop.stop, loop.run_forever = noted_stop, noted_run_forever

    def select(self, timeout: float | None = None) -> list[Any]:
        """Do what the selector does, and report that the program rests before it sleeps."""
        if timeout != 0 and not self._watch.poll(0):
            soon = timeout is not None and timeout <= TIMERS_S
            if not soon and not (self._watch.may_wake_itself() and self._watch.poll(THREADS_S)):
                rest = self._rest()
                if rest != self._told:
                    self._told = rest
                    self._report(rest)
        return self._watch.select(timeout)

    def task(self, coroutine: Coroutine[Any, Any, Any], *, loop: Any) -> asyncio.Task[Any]:
        """Make a task that knows the line which asks for it; it takes the place of asyncio.Task in MPyC."""
        context = contextvars.copy_context()
        context.run(self._origin.set, self.origin(sys._getframe(1)))  # noqa: SLF001 (its documented name)
        return asyncio.Task(coroutine, loop=loop, context=context)

    def origin(self, frame: FrameType | None) -> Origin | None:
        """Return what asked for what this frame does: a line in the same callback, or what asked for the callback."""
        below, inherited = frame, self._origin.get()
        while frame is not None:
            # Without any, it is a coroutine of MPyC itself that a script runs: mpc.run(mpc.shutdown()), say.
            if frame.f_code is RUN_CALLBACK and inherited is not None:
                return inherited
            if place := self._files.place(frame):
                return self._asked_at(place, below)
            if not frame.f_globals.get("__name__", "").startswith("onionmpc."):  # our own detour is no operation
                below = frame
            frame = frame.f_back
        return inherited

    def _asked_at(self, place: Place, below: FrameType | None) -> Origin:
        """Return an origin.

        Args:
            below: the frame of what the line called.
        """
        if below is None or below is not self._called:  # one call of is_zero() asks for several products, say
            self._called, self._call = below, self._counter()
        name, values = _callee(below) if below is not None else ("", [])
        return Origin(place, name[:MAX_FILE_CHARACTERS], next(_bit_lengths(values), 0), self._call)

    def received(self, sender: int) -> None:
        """Note that the next message of a peer is about to be handled, or the end of its connection."""
        self.trigger = Trigger(sender, self._received[sender])
        self._received[sender] += 1

    def sent(self, to: int, origin: Origin | None) -> None:
        """Note that a message leaves, or the end of a connection."""
        self._messages.append(Sent(to, self.trigger, origin))
        if len(self._messages) == MAX_TRACED:
            self.flush()

    def flush(self) -> None:
        """Report what was sent so far."""
        if self._messages:
            self._report(None)

    def _report(self, rest: Rest | None) -> None:
        self._tell(Notice("traced", None, "", trace=Trace(tuple(self._messages), rest)))
        self._messages.clear()


class Callbacks(collections.deque[Any]):
    """A loop's callbacks that are due, each with its trigger: that of the callback which asked for it."""

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
    if frame.f_code.co_name == "typed_asyncoro":  # by which MPyC decorates its coroutines
        return values["func"].__name__, list(values["args"])
    return frame.f_code.co_name, list(values.values())


def _bit_lengths(values: Iterable[Any]) -> Iterator[int]:
    """Yield the bit lengths of the types of secret numbers, or of lists of these."""
    for value in values:
        kind = type(value[0] if isinstance(value, list) and value else value)
        bits = getattr(kind, "bit_length", None)
        if isinstance(bits, int):
            yield bits

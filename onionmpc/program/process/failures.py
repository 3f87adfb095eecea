"""Finds failures in the program's event loop that nothing awaits, or that asyncio or MPyC would hide."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import traceback
from typing import Any

from onionmpc.errors import ProgramError
from onionmpc.text import printable

# asyncio's words, for errors that have no class of their own.
LOOP_STOPPED = "Event loop stopped before Future completed."
ANOTHER_LOOP = "attached to a different loop"
OTHER_LOOP = (
    "the script runs MPyC in an event loop that is not MPyC's, as asyncio.run(main()) does: write mpc.run(main())"
)
SHOWN_FAILURE_CHARACTERS = 500


class Failures:
    """Handles the exceptions that the loop reports, before MPyC's own handler does.

    Args:
        loop: MPyC's loop, with the exception handler that MPyC has set.

    Attributes:
        reason: the error that stopped the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reason: BaseException | None = None
        self._report = loop.get_exception_handler() or type(loop).default_exception_handler
        self._any = False
        loop.set_exception_handler(self.handle)

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle a report of asyncio: print the reason first, then the rest."""
        error = context.get("exception")
        if error is None:
            self._report(loop, context)
            return
        self._any = True
        if "handle" in context and "mpc_coro" in context["message"]:
            if self.reason is None:
                self.reason = error
                _print_reason(error)
            with contextlib.redirect_stdout(sys.stderr):  # MPyC prints a part to stdout, among the script's results
                self._report(loop, context)
        else:
            # MPyC's handler looks at the first callback of the task. A task that has ended has none, so the handler
            # itself fails, and hides this error.
            loop.default_exception_handler(context)

    def any_failed(self) -> bool:
        """Return whether anything failed. Print the errors of failed tasks that nothing awaits.

        asyncio prints such an error only when the task is collected. A program that is stuck may never get there.
        """
        for task in gc.get_objects():  # asyncio.all_tasks() leaves out tasks that have ended
            # Not isinstance(): it reads __class__ of the object, and a proxy of the script may raise an error there.
            if issubclass(type(task), asyncio.Task) and task._log_traceback:  # noqa: SLF001
                task._log_traceback = False  # noqa: SLF001 (so that asyncio does not print it again)
                self._any = True
                _say("a coroutine of the program failed, and nothing awaits it:")
                traceback.print_exception(task.exception(), file=sys.stderr)
        return self._any

    def caused(self, error: BaseException) -> bool:
        """Return whether this error only says that the loop stopped. The reason was printed already."""
        return self.reason is not None and isinstance(error, RuntimeError) and str(error) == LOOP_STOPPED

    @property
    def for_peers(self) -> str:
        """The reason for the other parties, if it is in our words: the script's words may contain private values."""
        return self.reason.message if isinstance(self.reason, ProgramError) else ""


def is_of_another_loop(error: BaseException) -> bool:
    """Return whether this is asyncio's error for a future of MPyC that was awaited in another event loop."""
    return isinstance(error, RuntimeError) and ANOTHER_LOOP in str(error)


def _print_reason(error: BaseException) -> None:
    words = "".join(traceback.format_exception_only(error)).strip().partition("\n")[0]
    if isinstance(error, ProgramError):
        words = error.message
    _say(f"the program failed: {printable(words, SHOWN_FAILURE_CHARACTERS)}")
    if isinstance(error, ProgramError) and error.hint:
        print(f"onionmpc: hint: {error.hint}", file=sys.stderr)  # noqa: T201


def _say(words: str) -> None:
    print(f"onionmpc: {words}", file=sys.stderr)  # noqa: T201

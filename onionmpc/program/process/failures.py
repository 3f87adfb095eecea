"""Finds failures inside the program's event loop that nobody awaits, or that asyncio or MPyC would hide."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import traceback
from typing import Any

from onionmpc.errors import ProgramError
from onionmpc.text import printable

LOOP_STOPPED = "Event loop stopped before Future completed."
ANOTHER_LOOP = "attached to a different loop"
OTHER_LOOP = (
    "the script runs MPyC in an event loop that is not MPyC's, as asyncio.run(main()) does: write mpc.run(main())"
)
SHOWN_FAILURE_CHARACTERS = 500


class Failures:
    """Takes the exceptions that a loop reports, before MPyC does.

    Args:
        loop: MPyC's, which MPyC has given a handler.

    Attributes:
        reason: what stopped the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reason: BaseException | None = None
        self._report = loop.get_exception_handler() or type(loop).default_exception_handler
        self._any = False
        loop.set_exception_handler(self.handle)

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what asyncio reports: print the reason first, then the rest."""
        error = context.get("exception")
        if error is None:
            self._report(loop, context)
            return
        self._any = True
        if "handle" in context and "mpc_coro" in context["message"]:
            if self.reason is None:
                self.reason = error
                _print_reason(error)
            with contextlib.redirect_stdout(sys.stderr):  # MPyC prints part of it among the results
                self._report(loop, context)
        else:
            # MPyC's own handler fails on a task that has ended, and hides why it did.
            loop.default_exception_handler(context)

    def seen(self) -> bool:
        """Tell whether anything failed, and print what nobody has asked for yet: asyncio would when it is collected."""
        for task in gc.get_objects():
            # By its type: isinstance() asks the object, and a script's proxy may answer with an error.
            if issubclass(type(task), asyncio.Task) and task._log_traceback:  # noqa: SLF001
                task._log_traceback = False  # noqa: SLF001 (once is enough)
                self._any = True
                _say("a coroutine of the program failed, and nothing awaits it:")
                traceback.print_exception(task.exception(), file=sys.stderr)
        return self._any

    def caused(self, error: BaseException) -> bool:
        """Tell whether the reason, which was printed, ended the script with this error, which says nothing of it."""
        return self.reason is not None and isinstance(error, RuntimeError) and str(error) == LOOP_STOPPED

    @property
    def for_all(self) -> str:
        """What the other parties may hear of the reason: our own words, since others may quote what is private."""
        return self.reason.message if isinstance(self.reason, ProgramError) else ""


def is_of_another_loop(error: BaseException) -> bool:
    """Tell whether asyncio says that what MPyC made was awaited in an event loop that is not MPyC's."""
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

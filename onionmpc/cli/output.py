"""Writes lines to stderr: facts with their time, and a status line. stdout belongs to results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status

# Without a spinner, a repeated line shows that the party is alive.
SAME_LINE_S = 10.0


class StatusLine:
    """Prints lines on stderr and, on a terminal, keeps a status line below them."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._started = time.monotonic()
        self._shown_at: dict[str, float] = {}
        self._held: list[str] | None = None
        # Set while the terminal belongs to a program: progress then shows as lines, as it does without a terminal.
        self.lent = False

    @property
    def is_terminal(self) -> bool:
        """True if stderr is a terminal that this process may use."""
        return self._console.is_terminal

    def elapsed_s(self) -> float:
        """Return the seconds since this was made."""
        return time.monotonic() - self._started

    def line(self, text: str) -> None:
        """Print a fact with its time."""
        line = f"[dim]{self.elapsed_s():5.1f}s[/dim]  {escape(text)}"
        if self._held is None:
            self.end_line()
            self._console.print(line)
        else:
            self._held.append(line)

    def beside_a_question(self, text: str) -> None:
        """Print a fact at once, even during a question, because the user needs it for the answer."""
        click.echo(f"\n{text} ", nl=False, err=True)

    def text(self, text: str) -> None:
        """Print lines as they are, without a time."""
        click.echo(text, err=True)

    def end_line(self) -> None:
        """Start a new line if a program, which has the terminal, left its last line without an end.

        We cannot know where the cursor is. So we print a row of blanks and then a carriage return. At the beginning of
        a line the blanks fill that line; after other text they reach the next one. Shells do the same before their
        prompt.
        """
        if self.lent and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._console.file.write(" " * self._console.width + "\r")  # Rich itself would print no \r
            self._console.file.flush()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold back lines during a question, and print them after its answer."""
        self.close()
        held: list[str] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
            for line in held:
                self._console.print(line)

    def going_on(self, what: str, detail: str = "") -> None:
        """Show `what` as the status until the next call. Without a terminal, print a line for each new `what`."""
        text = f"{what}: {detail}" if detail else what
        if self._held is not None:
            return
        if self.is_terminal and not self.lent:
            if self._status is None:
                self._status = self._console.status("")
                self._status.start()
            self._status.update(escape(text))
        elif self.elapsed_s() - self._shown_at.get(what, -SAME_LINE_S) >= SAME_LINE_S:
            self._shown_at[what] = self.elapsed_s()
            self.line(text)

    def close(self) -> None:
        """Give up the terminal."""
        if self._status is not None:
            self._status.stop()
            self._status = None

"""How lines look on stderr: facts with their time, and one line for what goes on. stdout belongs to results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status

# Where no spinner can show that we live, a line every so often does.
SAME_LINE_S = 10.0


class StatusLine:
    """Lines for what stays true, and at their end one line for what goes on, where there is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None
        self._started = time.monotonic()
        self._shown_at: dict[str, float] = {}
        self._held: list[str] | None = None
        # Set while the terminal belongs to a program: what goes on is told in lines, as where there is no terminal.
        self.lent = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees this as it happens."""
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
        """Print a fact that who is being asked has to know before they answer."""
        click.echo(f"\n{text} ", nl=False, err=True)

    def text(self, text: str) -> None:
        """Print lines as they are, without a time."""
        click.echo(text, err=True)

    def end_line(self) -> None:
        """Leave the line in which a program's last words stand without an end, while it has the terminal.

        Where the cursor is, nobody can say. So the line is filled with blanks: at its beginning they fit, and the
        cursor goes back to it; behind other words it ends up in the next one. Shells do so before their prompt.
        """
        if self.lent and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._console.file.write(" " * self._console.width + "\r")  # Rich itself would print no \r
            self._console.file.flush()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Leave the terminal to a question and its answer, and print afterwards what happened meanwhile."""
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
        """Show what is going on until the next call; without a terminal of ours, a line for each new `what`."""
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
        """Leave the terminal to others."""
        if self._status is not None:
            self._status.stop()
            self._status = None

"""Asks a question on the terminal while the event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios

import click

LINE_BYTES = 4096
STDIN = 0


def is_interactive() -> bool:
    """Return whether a user can read our questions and answer them."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def has_terminal() -> bool:
    """Return whether this process has a terminal to ask for a passphrase, even if stdin is a file or a pipe."""
    if is_interactive():
        return True
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
        return True
    return False


def take_terminal() -> None:
    """Make the terminal the stdin of this process and its program, after the piped input has been read."""
    with contextlib.suppress(OSError):  # there is none
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(terminal, STDIN)
        os.close(terminal)
        sys.stdin = os.fdopen(STDIN, closefd=False)


async def confirm(question: str, *, default: bool) -> bool:
    """Ask a yes-or-no question on stderr, while links keep sending heartbeats.

    Input typed before the question is discarded, since it answered something else.

    Returns:
        The answer; `default` for an empty line, False at the end of input.
    """
    choices = "Y/n" if default else "y/N"
    discard_typed()
    while True:
        click.echo(f"{question} [{choices}] ", nl=False, err=True)
        line = await _read_line()
        answer = line.strip().lower()
        if not line or answer in ("n", "no"):
            return False
        if answer in ("y", "yes"):
            return True
        if not answer:
            return default


def discard_typed() -> None:
    """Discard what was typed before a question, since it answered something else."""
    with contextlib.suppress(termios.error):  # no terminal: a test's pipe
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


async def ask_unseen(question: str) -> str:
    """Ask for a line on stderr that the terminal does not show, while links keep sending heartbeats.

    Returns:
        The line with its end; an empty text at the end of input.
    """
    descriptor = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:  # no terminal: a test's pipe
        click.echo(question, nl=False, err=True)
        return await _read_line()
    silent = list(before)
    silent[3] &= ~termios.ECHO
    # TCSAFLUSH discards what was typed, and shown, before the question.
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        click.echo(question, nl=False, err=True)
        return await _read_line()
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        click.echo(err=True)  # the end of line that was typed was not shown


async def ask_line(question: str) -> str:
    """Ask for a line on stderr that the terminal shows; see `ask_unseen`."""
    click.echo(question, nl=False, err=True)
    return await _read_line()


async def _read_line() -> str:
    """Read one line of standard input without blocking. A terminal delivers whole lines.

    Not through sys.stdin: it reads ahead, and the program, which uses the same terminal next, would miss that input.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    descriptor = sys.stdin.fileno()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
        return os.read(descriptor, LINE_BYTES).decode(errors="replace")
    except OSError:  # the terminal is gone, so nobody can answer
        return ""
    finally:
        loop.remove_reader(descriptor)

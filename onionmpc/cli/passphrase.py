"""Where a passphrase comes from: a person at the terminal, or a file that automation provides.

Never from an argument, which every user of the machine can read, nor from the environment, which every process started
by us inherits. Does not know what a passphrase opens.
"""

from __future__ import annotations

import os
import select
import stat
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import click

from onionmpc.cli.prompt import has_terminal
from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.identity.key_file import wipe

MAX_PASSPHRASE_BYTES = 1024
PIPE_WAIT_S = 60.0  # a password manager may ask its owner first

HELP = (
    "Take the passphrase from the first line of FILE instead of asking. FILE must be readable only by you (chmod 600), "
    "or a pipe: /dev/stdin, /dev/fd/3 or, in a shell, <(COMMAND)."
)


def passphrase_from(file: Path | None, *, new: bool = False) -> Callable[[], bytearray]:
    """Return what gets a passphrase when it is called: from that file, else from the person at the terminal.

    Args:
        new: it is asked for twice.
    """
    return lambda: ask_passphrase(new=new) if file is None else read_passphrase(file)


def ask_passphrase(*, new: bool = False) -> bytearray:
    """Ask for a passphrase without echo, twice if it is a new one; the prompt goes to stderr.

    Raises:
        UsageError: there is no terminal to ask at.
    """
    if not has_terminal():
        raise UsageError("a passphrase is needed, and there is no terminal to ask at", hint="--passphrase-file FILE")
    try:
        text: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=new, err=True)
    except UnicodeDecodeError as error:
        raise _not_utf_8(error) from None
    return _normal(bytearray(text, "utf-8", "surrogateescape"))


def read_passphrase(path: Path) -> bytearray:
    """Return the first line of a file, without its end.

    Raises:
        UsageError: it cannot be read, or holds no passphrase.
        UnsafeSetting: it is open to others.
    """
    line = bytearray()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb", buffering=0):
            _check_private(path, descriptor)
            _read_line(path, descriptor, line)
    except OSError as error:
        raise UsageError(f"cannot read the passphrase from {path}: {error.strerror}") from error
    if not line:
        raise UsageError(f"there is no passphrase in the first line of {path}")
    return _normal(line)


def _check_private(path: Path, descriptor: int) -> None:
    if os.isatty(descriptor):
        raise UsageError(
            f"{path} is a terminal, which would show the passphrase", hint="leave out --passphrase-file to be asked"
        )
    status = os.fstat(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode) and mode & 0o077:
        raise UnsafeSetting(
            f"the passphrase file {path} is open to others (mode {mode:o}, expected 600)",
            hint=f"chmod 600 {path}; or hand it over by a pipe: --passphrase-file <(COMMAND)",
        )


def _read_line(path: Path, descriptor: int, line: bytearray) -> None:
    """Read up to the first end of line, and wait for it no longer than PIPE_WAIT_S."""
    until_s = time.monotonic() + PIPE_WAIT_S
    byte = bytearray(1)
    # Byte by byte and in place: what comes in is nowhere else, and what follows the line is left where it is.
    while True:
        if not select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
            raise UsageError(f"{path} has not brought a line within {PIPE_WAIT_S:.0f} s")
        if not os.readv(descriptor, [byte]) or byte == b"\n":
            break
        if len(line) == MAX_PASSPHRASE_BYTES:
            raise UsageError(
                f"the first line of {path} is longer than {MAX_PASSPHRASE_BYTES} bytes: is it the right file?"
            )
        line += byte
    wipe(byte)
    if line.endswith(b"\r"):
        line.pop()


def _normal(secret: bytearray) -> bytearray:
    """Bring a passphrase into the one form of its letters: typed on another system, they may be other code points.

    Plain ASCII has one form only and is not made a string of, since a string cannot be overwritten.
    """
    if secret.isascii():
        return secret
    try:
        return bytearray(unicodedata.normalize("NFC", secret.decode("utf-8")), "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf_8(error) from None
    finally:
        wipe(secret)


def _not_utf_8(error: UnicodeDecodeError) -> UsageError:
    return UsageError(f"the passphrase is not UTF-8 (byte {error.start + 1})")

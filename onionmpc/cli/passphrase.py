"""Reads a passphrase from the terminal, or from a file for automation.

Never from an argument, which every user of the machine can see, and never from the environment, which child processes
inherit.
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

DETAILS = (
    "Take the passphrase from the first line of FILE instead of asking. FILE must be readable only by you (chmod 600), "
    "or a pipe: /dev/stdin, /dev/fd/3 or, in a shell, <(COMMAND)."
)


def passphrase_from(file: Path | None, *, new: bool = False) -> Callable[[], bytearray]:
    """Return a function that gets a passphrase, from that file or else from the terminal.

    Args:
        new: True to ask twice.
    """
    return lambda: ask_passphrase(new=new) if file is None else read_passphrase(file)


def ask_passphrase(*, new: bool = False) -> bytearray:
    """Ask for a passphrase without echo, twice if it is new. The prompt goes to stderr.

    Raises:
        UsageError: there is no terminal to ask at.
    """
    if not has_terminal():
        raise UsageError(
            "a passphrase is needed, but there is no terminal to ask at", hint="use --passphrase-file FILE"
        )
    try:
        text: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=new, err=True)
    except UnicodeDecodeError as error:
        raise _not_utf_8(error) from None
    return _normal(bytearray(text, "utf-8", "surrogateescape"))


def read_passphrase(path: Path, pipe_wait_s: float = PIPE_WAIT_S) -> bytearray:
    """Return the first line of a file, without its line end.

    Args:
        pipe_wait_s: how long a pipe may take to bring it.

    Raises:
        UsageError: the file cannot be read, or holds no passphrase.
        UnsafeSetting: other users can read the file.
    """
    line = bytearray()
    try:
        # Without O_NONBLOCK, opening a named pipe waits for its writer without a time limit.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb", buffering=0):
            _check_private(path, descriptor)
            _read_line(path, descriptor, line, pipe_wait_s)
    except OSError as error:
        raise UsageError(f"cannot read the passphrase from {path}: {error.strerror}") from error
    if not line:
        raise UsageError(f"the first line of {path} is empty, expected a passphrase")
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
            hint=f"chmod 600 {path}, or use a pipe: --passphrase-file <(COMMAND)",
        )


def _read_line(path: Path, descriptor: int, line: bytearray, wait_s: float) -> None:
    """Read up to the first line end, for at most `wait_s` seconds."""
    until_s = time.monotonic() + wait_s
    byte = bytearray(1)
    # Byte by byte and in place: no other copy of the passphrase exists, and the rest of a pipe stays unread.
    while True:
        if not select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
            raise UsageError(f"{path} did not send a line within {wait_s:.0f} s")
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
    """Normalise a passphrase, since other systems may type the same letters as other code points.

    ASCII needs no normalisation and is never made a string, since a string cannot be overwritten.
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

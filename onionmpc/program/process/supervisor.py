"""The program process's end of the channel to its supervisor."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from typing import NoReturn

from onionmpc.program.spec import EXIT_STOPPED, EXIT_SUPERVISOR_GONE, Notice, ProgramSpec, decode_spec, encode


class Supervisor:
    """The process that started this one, at the other end of a socketpair."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)

    def read_spec(self) -> ProgramSpec:
        """Wait for what to run."""
        with self._socket.makefile("rb") as lines:
            return decode_spec(lines.readline())

    def die_with_it(self) -> None:
        """End this process when the supervisor does, however it ends: a script that blocks would outlive it.

        On Linux the kernel does that (see build_walls), unless the supervisor had ended before it was asked.
        """

        def wait() -> None:
            while self._socket.recv(1):
                pass
            os._exit(EXIT_SUPERVISOR_GONE)

        threading.Thread(target=wait, daemon=True, name="supervisor").start()

    def send(self, notice: Notice) -> None:
        """Report what the supervisor cannot see."""
        self._socket.sendall(encode(notice))

    def stop(self, notice: Notice) -> NoReturn:
        """Report why this process cannot go on, and end it at once: nothing the script does now would be of use."""
        self.send(notice)
        with contextlib.suppress(OSError, ValueError):  # full, or closed by the script
            sys.stdout.flush()
        os._exit(EXIT_STOPPED)

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
        """Wait for the spec of the program to run."""
        with self._socket.makefile("rb") as lines:
            return decode_spec(lines.readline())

    def die_with_it(self) -> None:
        """End this process when the supervisor ends, even if it is killed: a blocked script would outlive it.

        On Linux the kernel does this (see build_walls), unless the supervisor ended before that request.
        """

        def wait() -> None:
            while self._socket.recv(1):
                pass
            os._exit(EXIT_SUPERVISOR_GONE)

        threading.Thread(target=wait, daemon=True, name="supervisor").start()

    def send(self, notice: Notice) -> None:
        """Send a notice to the supervisor."""
        self._socket.sendall(encode(notice))

    def stop(self, notice: Notice) -> NoReturn:
        """Report why this process cannot continue, and end it at once.

        os._exit() runs none of the script's handlers: nothing that it does now would be of use, and it could hang.
        """
        self.send(notice)
        with contextlib.suppress(OSError, ValueError):  # the disk is full, or the script closed stdout
            sys.stdout.flush()
        os._exit(EXIT_STOPPED)

"""The program process's end of the channel to its supervisor."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
from typing import NoReturn

from onionmpc.program.spec import (
    EXIT_STOPPED,
    EXIT_SUPERVISOR_GONE,
    HANDED_AT_ONCE,
    Notice,
    ProgramSpec,
    decode_spec,
    encode,
)


class Supervisor:
    """The process that started this one, at the other end of a socketpair."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._handed: queue.SimpleQueue[list[int]] = queue.SimpleQueue()

    def read_spec(self) -> ProgramSpec:
        """Wait for the spec of the program to run."""
        with self._socket.makefile("rb") as lines:
            return decode_spec(lines.readline())

    def listen(self) -> None:
        """Take the descriptors that the supervisor hands down, and end this process when the supervisor ends.

        It ends even if the supervisor is killed: a blocked script would outlive it. On Linux the kernel does this (see
        build_walls), unless the supervisor ended before that request.
        """

        def take() -> None:
            while True:
                message, descriptors, _, _ = socket.recv_fds(self._socket, 1, HANDED_AT_ONCE)
                if not message:
                    os._exit(EXIT_SUPERVISOR_GONE)
                self._handed.put(descriptors)

        threading.Thread(target=take, daemon=True, name="supervisor").start()

    def start_epoch(self, peers: int) -> list[socket.socket]:
        """Ask for the next epoch; return our end of the link to each peer, in the order of their numbers.

        Waits for the supervisor, which answers at once unless a peer has not yet acknowledged the ends of many epochs.
        """
        self.send(Notice("started", None, ""))
        descriptors: list[int] = []
        while len(descriptors) < peers:
            descriptors += self._handed.get()
        ends = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        for end in ends:
            end.set_inheritable(False)  # a process that the script starts would keep the link open
        return ends

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

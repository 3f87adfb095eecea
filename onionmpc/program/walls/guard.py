"""A guard against mistakes: refuses calls in Python that a program of several parties does not need.

Knows Python's audit events. It is not a boundary: ctypes bypasses it, and so does any library in C. The boundary, if
the machine has one, is onionmpc.program.walls.build. The guard makes an error say what was refused.
"""

from __future__ import annotations

import _posixsubprocess
import errno
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

INHERITED = -1  # the family that socket.socket(fileno=...) is called with
LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")
ADDRESS_CALLS = ("connect", "bind", "sendto")
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen")
START_REFUSED = "start a process: use threads, or n_jobs=1 in scikit-learn (--allow-subprocess allows processes)"

Judge = Callable[[tuple[Any, ...]], str]  # takes an event's arguments; returns what is refused, or the empty string


def set_guard(*, allow_subprocess: bool, watchers: Mapping[str, Judge] | None = None) -> None:
    """Refuse look-ups, sockets and processes from now on, with a PermissionError. Audit hooks cannot be removed.

    Args:
        watchers: judges for further events.
    """
    refused = dict(watchers or {})
    for name in LOOK_UPS:
        refused[f"socket.{name}"] = lambda _: "look up an address"
    for name in ADDRESS_CALLS:
        refused[f"socket.{name}"] = lambda _: "reach an address"
    refused["socket.sendmsg"] = lambda arguments: "reach an address" if arguments[1] is not None else ""
    refused["socket.__new__"] = lambda arguments: "" if arguments[1] in (socket.AF_UNIX, INHERITED) else "open a socket"
    if not allow_subprocess:
        for name in STARTS:
            refused[name] = lambda _: START_REFUSED
        # multiprocessing and joblib call it directly, for which there is no event.
        _posixsubprocess.fork_exec = _refuse_process

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        refusal = refused.get(event)
        if refusal is not None and (what := refusal(arguments)):
            raise _error(what)

    sys.addaudithook(guard)


def _refuse_process(*_arguments: object) -> NoReturn:
    raise _error(START_REFUSED)


def _error(what: str) -> PermissionError:
    return PermissionError(errno.EPERM, f"the program is walled in and cannot {what}")

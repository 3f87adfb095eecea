"""Notes in each Python process what it reaches for, what it starts with which words and variables, and what it logs.

Knows Python's audit events. Is imported before anything of the process's own, where its folder is on PYTHONPATH and
RECORDER_NOTES names a folder for the notes: a file for each process, a JSON list for each note. Opened before any
walls, that file takes notes behind them too. What is called in C is not noted.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import resource
import socket
import sys
from typing import Any

PR_GET_DUMPABLE = 3
HEEDED = ("socket.", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system")

_notes = os.open(
    f"{os.environ['RECORDER_NOTES']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
)
_prctl = ctypes.CDLL(None).prctl


def note(event: str, *arguments: object) -> None:
    """Write one down, with whether this process could leave a core file, and be looked into, at that time."""
    exposed = [resource.getrlimit(resource.RLIMIT_CORE)[0], _prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)]
    os.write(_notes, json.dumps([event, exposed, *map(_plain, arguments)]).encode() + b"\n")


def _plain(value: object) -> Any:
    if isinstance(value, socket.socket):
        return "socket"
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, int) else str(value)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note("log", record.getMessage())


note("start", sys.orig_argv, dict(os.environ))
sys.addaudithook(lambda event, arguments: note(event, *arguments) if event.startswith(HEEDED) else None)
if "onionmpc.program.process.child" not in sys.orig_argv:  # its log goes to stderr, as the root logger has no handler
    logging.basicConfig(level=logging.DEBUG, handlers=[_Notes()])

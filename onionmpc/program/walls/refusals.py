"""Reports which files a program could not open: the program process's side.

Knows Python's audit events about files, and the rules of the walls. An audit hook sees a request before the kernel
answers it, so this module judges each path by those rules. To try and open it here could create a file, or wake a
process that waits at a pipe. Files that a library in C opens by itself cause no event. onionmpc.program.walls.asked
decides what the user is shown.
"""

from __future__ import annotations

import atexit
import os
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from onionmpc.machine import working_directory
from onionmpc.program.spec import Notice
from onionmpc.program.walls import landlock
from onionmpc.program.walls.build import Rules
from onionmpc.program.walls.guard import Judge
from onionmpc.program.walls.naming import has_private_name
from onionmpc.program.walls.reachable import is_opened_whole

MAX_SENT_PATHS = 64  # the user is shown ten of them; the supervisor drops private ones
REMEMBERED = 4096
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
IN_MEMORY = ("", ":memory:")
REACH = (
    "a program can read its own folder, the current folder and the paths that you give after --; it can write only in "
    "the latter two, and it has no network"
)
AT_HOME = (
    ". You are in your home folder, which is never opened as a whole because it contains keys and passwords: start "
    "onionmpc in another folder, or give each file after --"
)


def reach_hint(rules: Rules) -> str:
    """Return a hint for a PermissionError: which files a program can open. Empty if it can open all."""
    here = working_directory()
    return REACH + AT_HOME * (here is not None and not is_opened_whole(here)) if rules else ""


class Refusals:
    """Reports each file that the program cannot open to the supervisor, once.

    Args:
        rules: the paths that the program may open, and its rights there; empty if it may open everything.
        send: sends a notice to the supervisor.
    """

    def __init__(self, rules: Rules, send: Callable[[Notice], None]) -> None:
        self._rules: dict[str, int] = {}
        for path, rights in rules:
            real = os.path.realpath(path)
            self._rules[real] = self._rules.get(real, 0) | rights
        self._send = send
        self._reported: set[tuple[str, str]] = set()
        # The rights in each folder, by the program's name for it. Most files are in few folders, and the hook runs at
        # each open().
        self._folders: dict[str, int] = {}
        self._judged: set[tuple[str, int]] = set()
        self._ended = False

    def watchers(self) -> Mapping[str, Judge]:
        """Return a judge for each audit event. None of them refuses anything."""
        if not self._rules:
            return {}
        watchers: dict[str, Judge] = {
            "open": self._opened,
            "os.listdir": self._listed,
            "os.scandir": self._listed,
            "os.mkdir": self._made,
            "os.chdir": self._moved,
            "sqlite3.connect": self._connected,
        }
        # Audit hooks stay until the end, after the modules that they need are gone. An object that is deleted last may
        # still open a file.
        atexit.register(self._end)
        return {event: self._until_the_end(watcher) for event, watcher in watchers.items()}

    def _end(self) -> None:
        self._ended = True

    def _until_the_end(self, watcher: Judge) -> Judge:
        return lambda arguments: "" if self._ended else watcher(arguments)

    def _opened(self, arguments: tuple[Any, ...]) -> str:
        path, _, flags = arguments
        right = landlock.WRITE_FILE if flags & WRITES else landlock.READ_FILE
        if type(path) is str and self._folders.get(path.rpartition("/")[0], 0) & right and not os.path.islink(path):
            return ""
        self._look(path, right)
        return ""

    def _listed(self, arguments: tuple[Any, ...]) -> str:
        path = "." if arguments[0] is None else arguments[0]
        if type(path) is not str or not self._folders.get(path, 0) & landlock.READ_DIR:
            self._look(path, landlock.READ_DIR)
        return ""

    def _made(self, arguments: tuple[Any, ...]) -> str:
        path, _, folder = arguments
        if folder == -1:  # with a descriptor, we cannot know the path
            self._look(path, landlock.MAKE_DIR)
        return ""

    def _moved(self, _arguments: tuple[Any, ...]) -> str:
        # Relative paths mean other files from now on.
        self._folders.clear()
        self._judged.clear()
        return ""

    def _connected(self, arguments: tuple[Any, ...]) -> str:
        path = _text(arguments[0])
        if path.startswith("file:"):
            path = urllib.parse.unquote(path.removeprefix("file:").partition("?")[0])
        if path not in IN_MEMORY:
            self._look(path, landlock.READ_FILE if os.path.exists(path) else landlock.WRITE_FILE)
        return ""

    def _look(self, asked: object, right: int) -> None:
        """Report a path if it exists and the rules do not give the program this right to it."""
        text = _text(asked)
        if not text or (text, right) in self._judged or len(self._reported) >= MAX_SENT_PATHS:
            return
        if not _exists(text, right):
            return
        try:
            path = os.path.join(os.getcwd(), text)
            real = os.path.realpath(path)
            self._remember(text, path, right)
            if not self._rights(real) & right:
                self._note(_how(text, right), path, real)
        except (OSError, ValueError):  # the working directory is gone; the path has a null byte
            return

    def _remember(self, text: str, path: str, right: int) -> None:
        """Note the program's rights in a folder, or in the folder of a file, by the program's name for it."""
        if len(self._judged) >= REMEMBERED:
            self._judged.clear()
            self._folders.clear()
        self._judged.add((text, right))
        if right != landlock.READ_DIR:
            text, path = text.rpartition("/")[0], os.path.dirname(path)
        self._folders[text] = self._rights(os.path.realpath(path))

    def _rights(self, real: str) -> int:
        rights = self._rules.get(real, 0)
        while real != "/":
            real = os.path.dirname(real)
            rights |= self._rules.get(real, 0)
        return rights

    def _note(self, how: str, path: str, real: str) -> None:
        # One report for all files that the program would create in one folder.
        what = os.path.dirname(real) if how == "write" and not os.path.exists(real) else real
        if (how, what) not in self._reported and not has_private_name(path) and not has_private_name(real):
            self._reported.add((how, what))
            # In hexadecimal: a path may have any bytes, and JSON only text.
            self._send(Notice("refused", None, f"{how} {os.fsencode(path).hex()}"))


def _text(asked: object) -> str:
    """Return a path as text; empty for a descriptor."""
    return os.fsdecode(asked) if isinstance(asked, str | bytes | PurePath) else ""


def _how(text: str, right: int) -> str:
    if right == landlock.READ_DIR and text in sys.path:
        return "import"
    return "read" if right & landlock.READ else "write"


def _exists(text: str, right: int) -> bool:
    """Return whether a path exists, or the folder in which it would be created."""
    try:
        exists = os.path.exists(text)
        if exists or right & landlock.READ:
            return exists and right != landlock.MAKE_DIR
        return os.path.isdir(os.path.dirname(os.path.realpath(text)))
    except (OSError, ValueError):  # the path has a null byte; the working directory is gone
        return False

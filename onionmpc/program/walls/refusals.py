"""Reports which files a program could not open: the program process's side.

Knows Python's audit events about files, and the rules that the walls were built by. An audit hook sees a request
before the kernel answers it, so each path is judged by those rules; trying to open it here could create a file, or wake
a process that waits at a pipe. What a library in C opens by itself raises no event. What a person may be shown
of all this is onionmpc.program.walls.asked's to know.
"""

from __future__ import annotations

import atexit
import os
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from onionmpc.machine import standing_in
from onionmpc.program.spec import Notice
from onionmpc.program.walls import landlock
from onionmpc.program.walls.build import Rules
from onionmpc.program.walls.guard import Judge
from onionmpc.program.walls.naming import has_private_name
from onionmpc.program.walls.reachable import is_opened_whole

MOST_SENT = 64  # paths; of these the person is shown ten
REMEMBERED = 4096
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
IN_MEMORY = ("", ":memory:")
REACH = (
    "a program reads its own folder, the folder that you stand in and the paths that you give after --; it writes in "
    "the latter two only, and it has no network"
)
AT_HOME = (
    ". You stand in your home folder, which is never opened as a whole because it holds keys and passwords: start "
    "onionmpc in a folder made for this, or give each file after --"
)


def reach_hint(rules: Rules) -> str:
    """Return a hint, for a PermissionError, about the files that a program can open; empty if it can open all."""
    here = standing_in()
    return REACH + AT_HOME * (here is not None and not is_opened_whole(here)) if rules else ""


class Refusals:
    """Tells the supervisor which files are asked for in vain, each once.

    Args:
        rules: what the walls let the program open, and how; empty if they let it open everything.
        tell: sends a notice.
    """

    def __init__(self, rules: Rules, tell: Callable[[Notice], None]) -> None:
        self._rules: dict[str, int] = {}
        for path, rights in rules:
            real = os.path.realpath(path)
            self._rules[real] = self._rules.get(real, 0) | rights
        self._tell = tell
        self._told: set[tuple[str, str]] = set()
        # What may be done in a folder, as the program calls it: most files lie in a few folders.
        self._folders: dict[str, int] = {}
        self._judged: set[tuple[str, int]] = set()
        self._ended = False

    def watchers(self) -> Mapping[str, Judge]:
        """Return what is to see each audit event; none of them refuses anything."""
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
        # A hook outlives the modules that it needs: objects that are deleted last may still open files.
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
        if folder == -1:  # otherwise the path is relative to a descriptor
            self._look(path, landlock.MAKE_DIR)
        return ""

    def _moved(self, _arguments: tuple[Any, ...]) -> str:
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
        """Tell of a path if the rules do not give this right to it, and it exists."""
        text = _text(asked)
        if not text or (text, right) in self._judged or len(self._told) >= MOST_SENT or not _is_there(text, right):
            return
        try:
            path = os.path.join(os.getcwd(), text)
            real = os.path.realpath(path)
            self._remember(text, path, right)
            if not self._rights(real) & right:
                self._note(_how(text, right), path, real)
        except (OSError, ValueError):  # the folder that it stands in is gone; a null byte
            return

    def _remember(self, text: str, path: str, right: int) -> None:
        """Note what may be done in a folder, or in that of a file, by the words that the program has for it."""
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
        # All that would be made in one folder is one thing to tell.
        what = os.path.dirname(real) if how == "write" and not os.path.exists(real) else real
        if (how, what) not in self._told and not has_private_name(path) and not has_private_name(real):
            self._told.add((how, what))
            self._tell(Notice("refused", None, f"{how} {os.fsencode(path).hex()}"))


def _text(asked: object) -> str:
    """Return a path as text; nothing for a descriptor."""
    return os.fsdecode(asked) if isinstance(asked, str | bytes | PurePath) else ""


def _how(text: str, right: int) -> str:
    if right == landlock.READ_DIR and text in sys.path:
        return "import"
    return "read" if right & landlock.READ else "write"


def _is_there(text: str, right: int) -> bool:
    """Tell whether a path exists, or the folder that it would be made in."""
    try:
        there = os.path.exists(text)
        if there or right & landlock.READ:
            return there and right != landlock.MAKE_DIR
        return os.path.isdir(os.path.dirname(os.path.realpath(text)))
    except (OSError, ValueError):  # a null byte; the folder that it stands in is gone
        return False

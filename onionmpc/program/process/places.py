"""Which line of the program a frame stands at.

Knows the program's folder, by which the agreement names its files. Does not know what runs there.
"""

from __future__ import annotations

from pathlib import Path
from types import FrameType

from onionmpc.program.spec import MAX_FILE_CHARACTERS, Place


class ProgramFiles:
    """The files of the program, by their names in the agreement.

    Args:
        folder: the folder that the script is in.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._names: dict[str, str] = {}

    def place(self, frame: FrameType) -> Place | None:
        """Return the position of a frame, or None if it is in none of these files."""
        path = frame.f_code.co_filename
        name = self._names.get(path)
        if name is None:
            name = self._names[path] = self._name(Path(path))
        return Place(name, frame.f_lineno or 0) if name else None

    def _name(self, path: Path) -> str:
        if not path.is_relative_to(self._folder) or "site-packages" in path.parts:
            return ""
        name = path.relative_to(self._folder).as_posix()
        # A name that is not UTF-8 cannot be sent.
        return name if len(name) <= MAX_FILE_CHARACTERS and name.encode(errors="ignore").decode() == name else ""

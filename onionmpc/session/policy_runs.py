"""The count of runs that policies have allowed: one private file, changed by one process at a time.

A run is counted, on the disk, before its program may start. It is taken back only if the program never started, so a
process that is killed at any moment leaves it counted. What a count allows is for onionmpc.session.policy_decision.
Format: docs/reference/files.md.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from onionmpc import files
from onionmpc.errors import UsageError
from onionmpc.session.receipt import Hex32

RUNS_NAME = "policy-runs"
RUNS_LOCK_NAME = "policy-runs.lock"
RUNS_HEADER = b"onionmpc policy runs 1"
# Some 10,000 runs. None is dropped to make room: that would let it happen again, and forget the first roster.
MAX_RUNS_BYTES = 2**22
WHAT = "the count of policy runs"
# A change takes milliseconds. Parties of one user may consent at the same moment.
RUNS_LOCK_WAIT_S = 5.0
ID_BYTES = 8

Hex8 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run that a rule allowed.

    Attributes:
        id: tells it from all other runs.
        at: when this party consented, in UTC.
        rule: the digest of the rule.
        program: the digest of the program.
        files: the resolved path of each file that this party's program got.
        roster: a label of each other party, sorted: the name by which it was known, or its address.
    """

    id: Hex8
    at: Moment
    rule: Hex32
    program: Hex32
    files: tuple[str, ...]
    roster: tuple[str, ...]


def new_run_id() -> str:
    """Return the id of a new run."""
    return secrets.token_hex(ID_BYTES)


def encode_runs(runs: tuple[Run, ...]) -> bytes:
    """Return the content of the file: a header, and one JSON object a line."""
    return b"\n".join([RUNS_HEADER, *map(msgspec.json.encode, runs), b""])


def decode_runs(content: bytes, file: str) -> tuple[Run, ...]:
    """Read the file whole, or refuse it.

    Args:
        file: its path, for errors.

    Raises:
        UsageError: it is damaged. Names the line.
    """
    if len(content) > MAX_RUNS_BYTES:
        raise _damaged(file, 1, f"it has more than {MAX_RUNS_BYTES} bytes")
    header, *lines = content.split(b"\n")
    if header != RUNS_HEADER:
        raise _damaged(file, 1, f'expected "{RUNS_HEADER.decode()}"')
    if not lines or lines.pop() != b"":
        raise _damaged(file, 1 + content.count(b"\n"), "it is cut short")
    runs: list[Run] = []
    for number, line in enumerate(lines, start=2):
        try:
            run = msgspec.json.decode(line, type=Run)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _damaged(file, number, "expected a run") from error
        # In one form only, so that nothing is hidden in the file, and in order, so that a clock that goes back shows.
        if msgspec.json.encode(run) != line or run.at.utcoffset() != UTC.utcoffset(None):
            raise _damaged(file, number, "the run is not as onionmpc writes it")
        if runs and run.at < runs[-1].at:
            raise _damaged(file, number, "the run is older than the one above it")
        runs.append(run)
    if len({run.id for run in runs}) != len(runs):
        raise _damaged(file, 1, "two runs have the same id")
    return tuple(runs)


def _damaged(file: str, line: int, what: str) -> UsageError:
    return UsageError(
        f"line {line} of {WHAT} {file} is damaged: {what}",
        hint="restore the file; without it, all runs are forgotten, and each rule allows its runs again",
    )


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RunCount:
    """The count in one folder.

    Attributes:
        folder: a private folder; it is made if it does not exist.
        clock: returns the time, in UTC.
        lock_wait_s: how long to wait for another process.
    """

    folder: Path
    clock: Callable[[], datetime] = _utc_now
    lock_wait_s: float = RUNS_LOCK_WAIT_S

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / RUNS_NAME

    def load(self) -> tuple[Run, ...]:
        """Read the counted runs, from the first to the last.

        Raises:
            UsageError: the file is damaged, open to others, of another user, or cannot be read.
        """
        # Another user who can write it could take runs out. One who can read it learns who computed what, and when.
        content = files.read_private(self.path, MAX_RUNS_BYTES, WHAT)
        return () if content is None else decode_runs(content, str(self.path))

    def reserve(self, decide: Callable[[tuple[Run, ...], datetime], Run | None]) -> Run | None:
        """Count a run, on the disk, unless `decide` refuses it.

        Args:
            decide: gets all counted runs, while no other process can change them, and the time. Returns the run to
                count, or None for a run that needs no count, or raises an error.

        Raises:
            UsageError: see `load`; or the clock is behind the last run, the file is full, the lock cannot be had, or
                the disk refuses.
        """
        with self._locked():
            runs, now = self.load(), self.clock()
            if runs and now < runs[-1].at:
                # Time that goes back would free runs that are within their window.
                raise UsageError(
                    f"this machine's clock shows {_shown(now)}, but {WHAT} has a run at {_shown(runs[-1].at)}",
                    hint="set the clock; a run of a time to come blocks all runs until then",
                )
            run = decide(runs, now)
            if run is not None:
                self._write((*runs, run))
            return run

    def refund(self, run: Run) -> None:
        """Take back a run whose program never started.

        Raises:
            UsageError: see `reserve`. The run stays counted.
        """
        with self._locked():
            self._write(tuple(each for each in self.load() if each.id != run.id))

    def _write(self, runs: tuple[Run, ...]) -> None:
        content = encode_runs(runs)
        if len(content) > MAX_RUNS_BYTES:
            raise UsageError(
                f"{WHAT} {self.path} is full ({len(runs) - 1} runs)",
                hint="move the file away; all runs are forgotten then, and each rule allows its runs again",
            )
        files.write_private(self.path, content)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        files.private_directory(self.folder)
        with files.lock_in_time(self.folder / RUNS_LOCK_NAME, self.lock_wait_s, WHAT):
            yield


def own_count() -> RunCount:
    """Return the count of this user."""
    return RunCount(files.state_directory())


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

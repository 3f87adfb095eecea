"""Stores results of dry runs, so that the agreement screen can say how long a session will take.

onionmpc.program.rehearsal makes the dry runs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from onionmpc.errors import UsageError
from onionmpc.files import private_directory, state_directory, write_private
from onionmpc.program.rehearsal import Hops
from onionmpc.session.agreement import SharedTerms

MAX_ESTIMATE_FILE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Case:
    """What the number of hops depends on, as far as all parties know it. One result is stored for each case.

    Attributes:
        files: SHA-256 in hex of each file of the program, by its path.
    """

    files: Mapping[str, str]
    parties: int
    threshold: int
    public_arguments: Sequence[str]
    mpyc_options: Sequence[str]

    @classmethod
    def of(cls, common: SharedTerms) -> Case:
        """Return the case of a session."""
        parties = len(common.addresses)
        return cls(common.files, parties, common.threshold, common.public_arguments, common.mpyc_options)

    def _path(self) -> Path:
        fields = [
            sorted(self.files.items()),
            self.parties,
            self.threshold,
            list(self.public_arguments),
            sorted(self.mpyc_options),
        ]
        return _directory() / f"{hashlib.sha256(msgspec.json.encode(fields)).hexdigest()}.json"

    def remember(self, hops: Hops) -> None:
        """Store the result of a dry run. A failure to write is ignored: the screen then only lacks an estimate."""
        with contextlib.suppress(UsageError):
            private_directory(state_directory())
            private_directory(_directory())
            write_private(self._path(), msgspec.json.encode(_Kept(hops.count, hops.seconds)) + b"\n")

    def recall(self) -> Hops | None:
        """Return the result of the last dry run, or None if there is none or its file is damaged."""
        try:
            with self._path().open("rb") as file:
                kept = msgspec.json.decode(file.read(MAX_ESTIMATE_FILE_BYTES), type=_Kept)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return Hops(kept.hops, kept.seconds)


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a stored file."""

    hops: int
    seconds: float


def _directory() -> Path:
    return state_directory() / "estimates"

"""Profiles: the directories in which our own tors keep their guards and the consensus from run to run.

Knows names and locks: no two tors ever share a profile. Does not know what tor writes there.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from onionmpc.errors import TorFailed, UsageError
from onionmpc.files import lock, private_directory

PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@contextlib.contextmanager
def named_profile(base: Path, name: str) -> Iterator[Path]:
    """Lock and return the profile `base/name`: a tor's guards and consensus, kept from run to run.

    Raises:
        UsageError: the name will not do, or another party of this machine uses the profile now.
    """
    if not PROFILE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no profile name, expected up to 32 letters, digits, - and _")
    with _try_profile(base, name) as profile:
        if profile is None:
            raise UsageError(f"another party uses the profile {name} now", hint="leave --profile out, or wait")
        yield profile


@contextlib.contextmanager
def free_profile(base: Path) -> Iterator[Path]:
    """Lock and return the first of the profiles "1", "2", ... that no running party uses.

    So a party without a name of its own still keeps its guards: a fresh draw in each run would sooner or later pick
    a guard of the adversary's.
    """
    for number in itertools.count(1):
        with _try_profile(base, str(number)) as profile:
            if profile is not None:
                yield profile
                return


@contextlib.contextmanager
def _try_profile(base: Path, name: str) -> Iterator[Path | None]:
    profile = private_directory(private_directory(base) / name)
    with contextlib.ExitStack() as held:
        try:
            ours = held.enter_context(lock(profile / "lock"))
        except OSError as error:
            raise TorFailed(f"cannot lock the profile {profile}: {error.strerror}", hint="free some space") from error
        yield profile if ours else None

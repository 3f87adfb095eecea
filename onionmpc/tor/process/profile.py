"""Profiles: the directories in which our own tors keep guards and the consensus from run to run.

No two tors ever share a profile.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.files import is_held, lock, private_directory

PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
# The tor of a killed party ends within 0.1 s, unless it was stopped (SIGSTOP) before.
LEFTOVER_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.1


def data_directory(profile: Path) -> Path:
    """Return where a profile's tor keeps its data."""
    return profile / "data"


def service_profile(profile: Path) -> Path:
    """Return the profile of the second tor of a party at level short. It is inside that of the first."""
    return profile / "service"


@contextlib.asynccontextmanager
async def named_profile(base: Path, name: str, leftover_timeout_s: float = LEFTOVER_TIMEOUT_S) -> AsyncIterator[Path]:
    """Lock and return the profile `base/name`.

    Args:
        leftover_timeout_s: how long to wait for the tor of a killed party to end.
    Raises:
        UsageError: the name is not valid, or another party on this machine, or the tor of a killed one, uses it.
    """
    if not PROFILE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a valid profile name, expected up to 32 letters, digits, - and _")
    with _try_profile(base, name) as profile:
        if profile is None:
            raise UsageError(f"another party uses the profile {name} now", hint="leave --profile out, or wait")
        try:
            async with asyncio.timeout(leftover_timeout_s):
                while _has_a_tor(profile):  # noqa: ASYNC110 (nobody notifies us when a lock is released)
                    await asyncio.sleep(LOCK_POLL_S)
        except TimeoutError:
            raise UsageError(
                f"a tor that a killed party left behind still uses the profile {name}",
                hint=f"end that tor (fuser -k {data_directory(profile) / 'lock'}), or leave --profile out",
            ) from None
        yield profile


@contextlib.contextmanager
def free_profile(base: Path) -> Iterator[Path]:
    """Lock and return the first of the profiles "1", "2", ... that no party and no tor uses.

    So a party without a named profile keeps its guards too. New guards in each run would sooner or later include an
    adversary's.
    """
    for number in itertools.count(1):
        with _try_profile(base, str(number)) as profile:
            if profile is not None and not _has_a_tor(profile):
                yield profile
                return


def _has_a_tor(profile: Path) -> bool:
    """Return whether a tor runs there without a party. Its party was killed, and it has not noticed yet."""
    return any(is_held(data_directory(tor) / "lock") for tor in (profile, service_profile(profile)))


@contextlib.contextmanager
def _try_profile(base: Path, name: str) -> Iterator[Path | None]:
    profile = private_directory(private_directory(base) / name)
    with lock(profile / "lock") as ours:
        yield profile if ours else None

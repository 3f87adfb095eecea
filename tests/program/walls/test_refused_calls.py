"""No refused system call gets through, whichever other walls there are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onionmpc.program.walls import landlock, seccomp
from tests.support import every_call

pytestmark = pytest.mark.skipif(seccomp.machine() is None or sys.platform != "linux", reason="needs seccomp")
DEADLINE_S = 60.0
NOBODY = 65534
# The function of each missing wall, and what it returns instead.
OLD_LANDLOCK: dict[str, object] = {
    "landlock.version": 2
}  # Debian 12, Linux 6.1: no scopes for signals, O_TRUNC is not seen
NO_LANDLOCK: dict[str, object] = {"landlock.version": 0}
NO_NAMESPACE: dict[str, object] = {"namespaces.leave_network": False}
NO_MOUNTS: dict[str, object] = {"namespaces.freeze_all_but": False}
MISSING = {
    "nothing": {},
    "mounts": NO_MOUNTS,
    "namespace": NO_NAMESPACE,
    "new landlock": OLD_LANDLOCK,
    "new landlock and namespace": OLD_LANDLOCK | NO_NAMESPACE,
    "landlock": NO_LANDLOCK,
    "all but seccomp": NO_LANDLOCK | NO_NAMESPACE,
}
NO_WALLS = NO_LANDLOCK | NO_NAMESPACE | {"seccomp.refuse_calls": False}
# The calls that get through without walls. The others need more rights, or a newer kernel.
KNOWN_WAYS = {
    *(f"process: {name}" for name in ("kill", "kill group", "kill all", "tkill", "tgkill", "pidfd", "pidfd_open")),
    *(f"process: {name}" for name in ("F_SETOWN", "F_SETSIG", "F_SETOWN_EX", "O_ASYNC", "FIOASYNC", "FIOSETOWN")),
    *(f"{place}: {name}" for place in ("outside", "O_PATH") for name in ("fchmodat", "utimensat", "fchownat")),
    *("outside: truncate", "outside: inotify", "folder outside: fchmodat", "folder outside: inotify"),
    *(f"{file}: {name}" for file in ("opened", "stdin") for name in ("fchmod", "futimens", "fchown", "F_SETLEASE")),
    *(
        "machine: SIOCGIFCONF",
        "machine: SIOCGIFHWADDR",
        "process: PR_SET_PDEATHSIG",
        "terminal: fchmod",
        "terminal: O_ASYNC",
        "stdin: fchmodat by link",
        "stdin: utimensat by link",
        "open: O_TRUNC",
        "open: O_TRUNC and neither",
    ),
}
# These fail for root: its victim has capabilities, and its program has none.
WAYS_OF_USERS = {f"process: {name}" for name in ("prlimit64", "setpriority", "sched_setaffinity", "ioprio_set")}
USERS = [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]


@dataclass(frozen=True)
class Others:
    """A process and files that belong to the program's user, but not to the program."""

    folder: Path
    here: Path
    outside: Path
    stdin: Path
    victim: subprocess.Popen[bytes]
    master: int
    terminal: int

    def state(self) -> object:
        """Return everything that a successful call would change."""
        number = self.victim.pid
        process = (
            *(self.victim.poll(), os.getpriority(os.PRIO_PROCESS, number), os.sched_getaffinity(number)),
            *(os.sched_getscheduler(number), Path(f"/proc/{number}/limits").read_text()),
        )
        files = []
        for path in (self.outside, self.outside.parent, self.folder / "module.py", self.stdin):
            status = path.stat()
            labels = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            content = path.read_bytes() if path.is_file() else b""
            files.append((status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, labels, content))
        status = os.fstat(self.terminal)
        return process, files, (status.st_mode, status.st_uid, status.st_gid)


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def others(user: int) -> Iterator[Others]:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        for folder in ("folder", "here", "elsewhere"):
            (base / folder).mkdir()
        outside, stdin = base / "elsewhere" / "outside", base / "elsewhere" / "stdin"
        for path in (outside, stdin, base / "folder" / "module.py"):
            path.write_text("content")
            path.chmod(0o600)
            try:
                os.setxattr(path, "user.old", b"label")
            except OSError:
                continue  # a file system without
        for path in (base, *base.rglob("*")):
            os.chown(path, user, user if os.geteuid() == 0 else -1)
        # It ignores SIGTERM, so every call is tried on a living process. Other changes are visible in state().
        stubborn = ["sh", "-c", "trap '' TERM; echo; exec sleep 600"]
        to = user if os.geteuid() == 0 else None
        with subprocess.Popen(stubborn, stdout=subprocess.PIPE, user=to, group=to) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()
            master, terminal = os.openpty()
            os.fchown(terminal, user, -1)
            try:
                yield Others(base / "folder", base / "here", outside, stdin, victim, master, terminal)
            finally:
                victim.kill()
                os.close(master)
                os.close(terminal)


def attempt(others: Others, user: int, missing: Mapping[str, object]) -> dict[str, Any]:
    """Try every call in a program; return what it reports."""
    targets = {
        "user": user if os.geteuid() == 0 else 0,
        "missing": missing,
        "victim": others.victim.pid,
        **{name: str(getattr(others, name)) for name in ("folder", "here", "outside")},
    }
    program = every_call.__file__
    with others.stdin.open("rb") as stdin:
        ran = subprocess.run(
            [sys.executable, program, json.dumps(targets)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=others.terminal,
            timeout=DEADLINE_S,
        )
    assert ran.returncode == 0, os.read(others.master, 2**16).decode()
    return json.loads(ran.stdout)


# Issue 12.
@pytest.mark.parametrize("missing", MISSING)
def test_no_call_on_others_gets_through_and_calls_on_itself_work(others: Others, user: int, missing: str) -> None:
    before = others.state()
    found = attempt(others, user, MISSING[missing])
    assert found["through"] == []
    assert found["wrong"] == []
    assert found["lacks"] == []
    assert others.state() == before
    if "landlock" in missing or "seccomp" in missing:
        return
    assert found["files"] == (landlock.version() > 0)
    if missing == "mounts":
        assert not found["frozen"]


# Issue 12.
def test_without_walls_these_calls_do_get_through(others: Others, user: int) -> None:
    found = attempt(others, user, NO_WALLS)
    assert (KNOWN_WAYS | (WAYS_OF_USERS if user else set())) <= set(found["through"])
    assert others.victim.wait(DEADLINE_S) == -signal.SIGKILL  # by O_ASYNC
    assert others.outside.read_bytes() == b""
    assert os.fstat(others.terminal).st_mode & 0o777 == 0o777
    assert others.outside.stat().st_mode & 0o777 == others.stdin.stat().st_mode & 0o777 == 0o777

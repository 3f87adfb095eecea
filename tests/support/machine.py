"""The command `onionmpc` on a machine that lacks something: space, files, descriptors, a folder to stand in.

Mounts are made in a mount namespace of the test's own. Root needs nothing more for that; others get it within a user
namespace, where the kernel allows these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_S = 120.0
NAMESPACE = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
PRIVATE = (
    'mount --make-rprivate / && mount -t tmpfs -o mode=700 none /mnt && export ONIONMPC_STATE=/mnt/state && eval "$0"'
)


def _can() -> bool:
    if shutil.which("unshare") is None or not Path("/mnt").is_dir():
        return False
    return subprocess.run([*NAMESPACE, "sh", "-c", PRIVATE, "true"], capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not _can(), reason="nobody may make a mount namespace on this machine")


def on_machine(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell with mounts of its own: `onionmpc` is the command, and /mnt an empty folder."""
    return shell([*NAMESPACE, "sh", "-c", PRIVATE], script, variables)


def in_shell(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell, in which `onionmpc` is the command."""
    return shell(["sh", "-c", 'eval "$0"'], script, variables)


def shell(command: list[str], script: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    defined = f'onionmpc() {{ {sys.executable} -P -m onionmpc.cli "$@"; }}\n'
    return subprocess.run(
        [*command, defined + script],
        env={name: value for name, value in (os.environ | variables).items() if value},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=DEADLINE_S,
        check=False,
    )


def check_told(done: subprocess.CompletedProcess[str], sentence: str, code: int = 2) -> None:
    """Check that a command ended with an error of ours that says this, and with nothing that looks like a bug."""
    assert "Traceback" not in done.stderr, done.stderr
    assert f"onionmpc: error: {sentence}" in done.stderr, done.stderr
    assert done.returncode == code, done.stderr


def open_descriptors() -> int:
    """How many descriptors of this process are open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())

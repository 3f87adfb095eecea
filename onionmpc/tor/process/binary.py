"""Finds the tor program and checks its version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from onionmpc.errors import TorFailed, TorNotFound, TorTooOld
from onionmpc.machine import refused
from onionmpc.tor.adapters.stem import Version

# 0.4.9.11 fixes a race in which a rendezvous point could impersonate a service (tor bug 41297).
RECOMMENDED = Version("0.4.9.11")
# 0.4.8 is the oldest series that is still maintained, and the oldest with vanguards-lite, congestion control and
# proof of work together.
OLDEST = Version("0.4.8.1")
# ADD_ONION has a keyword for proof of work since 0.4.9.2. But before 0.4.9.9 an attacker could crash a service that has
# the defence (TROVE-2026-020), which is worse than having none.
POW_SINCE = Version("0.4.9.9")
VERSION_TIMEOUT_S = 20.0
# Nobody else needs a tor's files, whatever our own umask is.
TOR_UMASK = 0o077
ENVIRONMENT_PREFIX = "ONIONMPC_"


@dataclass(frozen=True, slots=True)
class TorBinary:
    """A tor program that can be started."""

    path: Path
    version: Version


def environment_of_tor() -> dict[str, str]:
    """Return the environment for a tor that we start: without our own variables, which may contain a password."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}


def tor_install_hint() -> str:
    """Return the one command that installs tor on this operating system."""
    if sys.platform == "darwin":
        return "brew install tor"
    for manager, command in {
        "apt-get": "sudo apt-get install tor",
        "dnf": "sudo dnf install tor",
        "pacman": "sudo pacman -S tor",
        "zypper": "sudo zypper install tor",
        "apk": "sudo apk add tor",
    }.items():
        if shutil.which(manager):
            return command
    return "install tor: https://community.torproject.org/onion-services/setup/install/"


def cannot_start(path: Path, error: OSError | subprocess.SubprocessError) -> TorFailed:
    """Return the error for a program that did not start or failed."""
    if isinstance(error, OSError):
        known = refused(f"cannot start {path}", error)
        return TorFailed(known.message, hint=known.hint or tor_install_hint())
    return TorFailed(f"cannot start {path} ({type(error).__name__})", hint=tor_install_hint())


def find_tor() -> TorBinary:
    """Find tor: $ONIONMPC_TOR, else `tor` on the path.

    Raises:
        TorNotFound: there is no such program.
        TorTooOld: it is older than OLDEST.
        TorFailed: it did not report its version.
    """
    configured = os.environ.get("ONIONMPC_TOR")
    found = shutil.which(configured or "tor")
    if found is None:
        if configured:
            raise TorNotFound(
                f"ONIONMPC_TOR names {configured}, which is not a program", hint="unset it, or correct it"
            )
        raise TorNotFound("no tor program on this machine", hint=tor_install_hint())
    version = _version_of(Path(found))
    if version < OLDEST:
        raise TorTooOld(f"{found} is tor {version}, expected {OLDEST} or newer", hint=tor_install_hint())
    return TorBinary(Path(found), version)


def version_warning(version: Version) -> str:
    """Return what a tor of this version lacks, or the empty string."""
    if version >= RECOMMENDED:
        return ""
    return (
        f"tor {version} is older than {RECOMMENDED}: a rendezvous point may impersonate an onion service to its client "
        "(tor bug 41297); onionmpc's own handshake still authenticates every party"
    )


def may_have_pow(version: Version) -> bool:
    """Return whether a tor of this version should use the proof-of-work defence, if it was built with it."""
    return bool(version >= POW_SINCE)


def has_pow(binary: TorBinary) -> bool:
    """Return whether this tor has the proof-of-work defence. A tor built without it silently ignores the option."""
    try:
        modules = _answer(binary.path, "--list-modules", check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return may_have_pow(binary.version) and "pow: yes" in modules.splitlines()


def _version_of(path: Path) -> Version:
    try:
        output = _answer(path, "--version", check=True)
        # First line: "Tor version 0.4.9.11." or "Tor version 0.4.8.9 (git-...)."
        return Version(output.split()[2].rstrip("."))
    except OSError as error:
        raise cannot_start(path, error) from error
    except (subprocess.SubprocessError, IndexError, ValueError) as error:
        raise TorFailed(
            f"{path} did not report its version ({type(error).__name__})", hint=tor_install_hint()
        ) from error


def _answer(path: Path, question: str, *, check: bool) -> str:
    return subprocess.run(
        [path, question],
        env=environment_of_tor(),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=VERSION_TIMEOUT_S,
        check=check,
    ).stdout

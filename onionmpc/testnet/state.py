"""The files of a running test network's directory, testnet.json and owner.lock, by which other processes use it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from onionmpc.errors import UsageError
from onionmpc.files import lock, state_directory, write_private
from onionmpc.machine import refusing

STATE_NAME = "testnet.json"
# Held by the owner for as long as it lives; the kernel frees it if the owner is killed.
OWNER_LOCK_NAME = "owner.lock"
PROCESS_ID = "[1-9][0-9]{0,8}"  # a signal to process 0 would reach the sender's own group
STATE_VERSION = 1
UP_HINT = "onionmpc testnet up --detach"


class TorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One relay or authority."""

    nickname: str
    region: str
    address: str
    or_port: int
    fingerprint: str
    process: int
    authority: bool


class PartySlot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place where a party may stand; gateway_port is 0 if there is no latency."""

    number: int
    region: str
    address: str
    gateway_port: int


class NetworkState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network that is up.

    Args:
        owner: process id of the owner.
        started_at: seconds since 1970.
        directory_authorities: lines for a torrc.
        latency: "regions", "none" or a flat one-way latency such as "30 ms".
        one_way_ms: for each two regions the latency in force, whatever the table says by now; empty if there is none.
    """

    version: int
    owner: int
    started_at: float
    latency: str
    one_way_ms: dict[str, dict[str, float]]
    directory_authorities: tuple[str, ...]
    tors: tuple[TorRecord, ...]
    slots: tuple[PartySlot, ...]


def default_directory() -> Path:
    """Return where a test network lives if nobody says otherwise."""
    return state_directory() / "testnet"


def tor_directory(directory: Path, nickname: str) -> Path:
    """Return the data directory of a relay or authority."""
    return directory / "tors" / nickname


def write_state(directory: Path, state: NetworkState) -> None:
    """Tell all who look that the network is ready."""
    write_private(directory / STATE_NAME, msgspec.json.format(msgspec.json.encode(state)) + b"\n")


def remove_state(directory: Path) -> None:
    """Tell all who look that the network is gone."""
    (directory / STATE_NAME).unlink(missing_ok=True)


def read_state(directory: Path) -> NetworkState:
    """Read the state of a network that is up and ready.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    if owner_of(directory) is None:
        raise UsageError(f"no test network runs in {directory}", hint=UP_HINT)
    try:
        state = msgspec.json.decode((directory / STATE_NAME).read_bytes(), type=NetworkState)
    except FileNotFoundError as error:
        raise UsageError(f"the test network in {directory} is not ready yet", hint="wait for `testnet up`") from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {directory / STATE_NAME} ({error})", hint="onionmpc testnet down") from error
    if state.version != STATE_VERSION:
        raise UsageError(
            f"{directory / STATE_NAME} has version {state.version}, expected {STATE_VERSION}", hint=UP_HINT
        )
    return state


def owner_of(directory: Path) -> int | None:
    """Return the process id of the owner, or None if nobody owns the directory.

    The id is only believed while the lock is held: another process may have got it since.
    """
    path = directory / OWNER_LOCK_NAME
    if not path.is_file():
        return None
    with lock(path) as free:
        if free:
            return None
        content = path.read_text(encoding="ascii", errors="replace").strip()
    return int(content) if re.fullmatch(PROCESS_ID, content) else None


@contextlib.contextmanager
def ownership(directory: Path) -> Iterator[None]:
    """Own the directory.

    Raises:
        UsageError: another process does.
    """
    path = directory / OWNER_LOCK_NAME
    with lock(path) as ours:
        if not ours:
            raise UsageError(f"a test network already runs in {directory}", hint=f"onionmpc testnet down {directory}")
        # Into the locked file itself: a replaced one would be another inode, with another lock.
        with refusing(f"cannot write {path}"):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # without the lock, nobody believes what it says
                path.write_text("", encoding="ascii")

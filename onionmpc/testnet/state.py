"""The files by which other processes find and use a running test network: testnet.json and owner.lock."""

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
# The owner holds this lock as long as it lives. If the owner is killed, the kernel releases it.
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
    """A place for a party; gateway_port is 0 without latency."""

    number: int
    region: str
    address: str
    gateway_port: int


class NetworkState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network that is up.

    Args:
        owner: the owner's process id.
        started_at: in seconds since 1970.
        directory_authorities: lines for a torrc.
        latency: "regions", "none" or a fixed one-way latency such as "30 ms".
        one_way_ms: the latencies in use, by pair of regions, even if the table has changed; empty without latency.
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
    """Return the default directory of a test network."""
    return state_directory() / "testnet"


def tor_directory(directory: Path, nickname: str) -> Path:
    """Return the data directory of a relay or authority."""
    return directory / "tors" / nickname


def write_state(directory: Path, state: NetworkState) -> None:
    """Publish that the network is ready."""
    write_private(directory / STATE_NAME, msgspec.json.format(msgspec.json.encode(state)) + b"\n")


def remove_state(directory: Path) -> None:
    """Publish that the network is gone."""
    (directory / STATE_NAME).unlink(missing_ok=True)


def read_state(directory: Path) -> NetworkState:
    """Read the state of a network that is ready.

    Raises:
        UsageError: no network is ready there, or its state cannot be read.
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
    """Return the owner's process id, or None if no process owns the directory.

    The id counts only while the lock is held: afterwards another process may have the same id.
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
    """Own the directory for as long as the context lasts.

    Raises:
        UsageError: another process owns it.
    """
    path = directory / OWNER_LOCK_NAME
    with lock(path) as ours:
        if not ours:
            raise UsageError(f"a test network already runs in {directory}", hint=f"onionmpc testnet down {directory}")
        # Written into the locked file itself: a replaced file would be another inode, with another lock.
        with refusing(f"cannot write {path}"):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # an id that stays does not matter: it does not count without the lock
                path.write_text("", encoding="ascii")

"""The identities that this user keeps: one key file each, in a private directory.

Knows where key files lie, who may read them and that none is ever overwritten. Does not know their format
(`onionmpc.identity`) or how a passphrase is asked for: that comes in as a function. Rules: docs/PROTOCOL.md section 1.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from onionmpc import files
from onionmpc.errors import InvalidIdentityFile, UnsafeSetting, UsageError
from onionmpc.identity import (
    NONCE_BYTES,
    SALT_BYTES,
    SEED_BYTES,
    Identity,
    KeyFileFacts,
    decode_key_file,
    describe_key_file,
    encode_key_file,
)

SUFFIX = ".key"
LOCK_NAME = ".lock"
# Lower case only, since some file systems hold "Alice" and "alice" for one file; never a leading dot or dash, which
# would be a hidden file or an option; no slash, so a name cannot lead out of the directory.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MAX_FILE_BYTES = 4096  # ten times the longest key file


def create(name: str, passphrase: bytes | None, *, exposed: bool = False) -> Identity:
    """Make a new identity and keep it under `name`, sealed if there is a passphrase.

    Args:
        exposed: it is for circuit length short, and for no other.

    Raises:
        UsageError: the name cannot be one or is taken, the passphrase is empty, or the directory cannot be used.
    """
    _check_name(name)
    if passphrase is not None and not passphrase:
        raise UsageError("the passphrase is empty", hint="choose a longer one, or none at all")
    files.private_directory(files.state_directory())
    directory = files.private_directory(_directory())
    identity = Identity(secrets.token_bytes(SEED_BYTES))
    content = encode_key_file(
        identity, passphrase, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES), exposed=exposed
    )
    path = directory / (name + SUFFIX)
    # The lock, since the write that is safe against a full disk replaces what is there: between looking and writing,
    # no other process may create the same name. A lost key cannot be made again.
    with files.lock(directory / LOCK_NAME) as held:
        if not held:
            raise UsageError("another onionmpc is making an identity at this moment", hint="try again")
        if path.exists() or path.is_symlink():
            raise UsageError(f"there is an identity named {name} already", hint="choose another name")
        files.write_private(path, content)
    return identity


def load(name: str, ask_passphrase: Callable[[], bytes], *, exposed: bool = False) -> Identity:
    """Open an identity.

    Args:
        ask_passphrase: called once, and only if the key file is sealed.
        exposed: whether it is to be used at circuit length short.

    Raises:
        UsageError: the name cannot be one, or the directory is open to others.
        UnsafeSetting: the identity is for other levels.
        InvalidIdentityFile: there is none of that name, others may read it, it is damaged, or the passphrase is wrong.
    """
    content = _read(name)
    facts = describe_key_file(content)
    if exposed and not facts.exposed:
        raise UnsafeSetting(
            f"the identity {name} is for anonymous sessions, and short would tie it to this machine's IP address",
            hint="onionmpc id new NAME --for-short makes one that may be",
        )
    if facts.exposed and not exposed:
        raise UnsafeSetting(
            f"the identity {name} is for circuit length short: whoever met it can know its IP address",
            hint="take part with --circuit-length short, or under another identity",
        )
    return decode_key_file(content, ask_passphrase() if facts.sealed else None)


@contextlib.contextmanager
def in_use(name: str) -> Iterator[None]:
    """Keep an identity to one session at a time, on this machine: two would answer each other's dials.

    Raises:
        UsageError: another session uses it, or the directory cannot be written.
    """
    _check_name(name)
    with contextlib.ExitStack() as held:
        try:
            ours = held.enter_context(files.lock(_directory() / f"{name}.lock"))
        except OSError as error:
            raise UsageError(
                f"cannot lock the identity {name}: {error.strerror}", hint=f"make room in {_directory()}"
            ) from error
        if not ours:
            raise UsageError(
                f"another session uses the identity {name} now", hint="end that one, or take part under another"
            )
        yield


def describe(name: str) -> KeyFileFacts:
    """Return what an identity's key file tells without its passphrase.

    Raises:
        UsageError: the name cannot be one, or the directory is open to others.
        InvalidIdentityFile: there is none of that name, others may read it, or it is damaged.
    """
    return describe_key_file(_read(name))


def list_names() -> tuple[str, ...]:
    """Return the names of all identities, sorted, without a look into their files.

    Raises:
        UsageError: the directory is open to others.
    """
    if not _directory().exists():
        return ()
    found = files.private_directory(_directory()).glob("*" + SUFFIX)
    names = (path.name.removesuffix(SUFFIX) for path in found)
    return tuple(sorted(name for name in names if NAME.fullmatch(name)))


def _directory() -> Path:
    return files.state_directory() / "identities"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!a} cannot name an identity",
            hint="take 1 to 64 of a-z, 0-9, dot, dash and underscore, and begin with a letter or digit",
        )


def _read(name: str) -> bytes:
    _check_name(name)
    path = _directory() / (name + SUFFIX)
    if _directory().exists():
        files.private_directory(_directory())
    try:
        # Not through a link, and the mode is that of the very file that is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_private(path, os.fstat(descriptor))
            return file.read(MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise InvalidIdentityFile(
            f"there is no identity named {name}",
            hint=f'"onionmpc id list" shows yours, "onionmpc id new {name}" makes it',
        ) from error
    except OSError as error:
        raise InvalidIdentityFile(f"cannot read {path}: {error.strerror}", hint="it must be a file of yours") from error


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        raise InvalidIdentityFile(f"the key file {path} belongs to another user", hint="it must be a file of yours")
    if mode & 0o077:
        # Whoever could read it may have: say it, and leave it to the owner whether the identity is still theirs.
        raise InvalidIdentityFile(
            f"the key file {path} is open to others (mode {mode:o}, expected {files.FILE_MODE:o})",
            hint=f"chmod 600 {path}, or make a new identity if others use this machine",
        )

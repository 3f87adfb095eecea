"""The identities that this user keeps: one key file each, in a private directory.

Knows where key files lie, who may read them, that none is ever overwritten, and how one gets to another machine. Does
not know their format (`onionmpc.identity`) or how a passphrase is asked for: that comes in as a function, whose answer
is overwritten here as soon as it has served. Rules: docs/PROTOCOL.md section 1.
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
from onionmpc.identity import SEED_BYTES, Identity, Onion
from onionmpc.identity.key_file import (
    KEY_FILE_NONCE_BYTES,
    KEY_FILE_SALT_BYTES,
    KeyFileFacts,
    decode_key_file,
    describe_key_file,
    encode_key_file,
    wipe,
)

KEY_FILE_SUFFIX = ".key"
KEYSTORE_LOCK_NAME = ".lock"
# Lower case only, since some file systems hold "Alice" and "alice" for one file; never a leading dot or dash, which
# would be a hidden file or an option; no slash, so a name cannot lead out of the directory.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MAX_KEY_FILE_BYTES = 4096  # ten times the longest key file

Ask = Callable[[], bytearray]  # asks for a passphrase


def create(name: str, ask_passphrase: Ask | None, *, exposed: bool = False) -> Identity:
    """Make a new identity and keep it under `name`.

    Args:
        ask_passphrase: called once, for a passphrase to seal it with; None leaves it open.
        exposed: it is for circuit length short, and for no other.

    Raises:
        UsageError: the name cannot be one or is taken, the passphrase is empty, or the directory cannot be used.
    """
    _check_free(name)
    identity = Identity(secrets.token_bytes(SEED_BYTES))
    _keep(name, _encode(identity, ask_passphrase, exposed=exposed))
    return identity


def load(name: str, ask_passphrase: Ask, *, exposed: bool = False) -> Identity:
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
    return _decode(content, facts, ask_passphrase)


def export_to(path: Path, name: str, ask_passphrase: Ask | None) -> KeyFileFacts:
    """Copy an identity into a file that `import_from` takes.

    The copy of a sealed identity is sealed with the same passphrase, which is not asked for.

    Args:
        ask_passphrase: called once, for a passphrase to seal the copy of an open identity with; None leaves it open.
    Returns:
        What the copy tells without its passphrase.

    Raises:
        UsageError: see `load`; there is such a file already, it cannot be written, or would be open to others.
        InvalidIdentityFile: see `load`.
    """
    content = _read(name)
    if os.path.lexists(path):
        raise UsageError(f"there is a file {path} already", hint="choose another name: it is not replaced")
    facts = describe_key_file(content)
    if not facts.sealed and ask_passphrase is not None:
        content = _encode(decode_key_file(content, None), ask_passphrase, exposed=facts.exposed)
        facts = describe_key_file(content)
    files.write_new(path, content, must_be_private=not facts.sealed)
    return facts


def import_from(path: Path, name: str, ask_passphrase: Ask) -> KeyFileFacts:
    """Keep the identity of an exported file under `name`, sealed and exposed as it is there.

    It is opened once, so that neither a damaged file nor a forgotten passphrase shows only when it is needed. A sealed
    file may be open to others, as on a memory stick, whose file system knows no modes: it is sealed for that. An
    open one is then everybody's already.

    Args:
        ask_passphrase: called once, and only if the file is sealed.

    Raises:
        UsageError: the name cannot be one or is taken, or the identity is kept already, under whatever name.
        InvalidIdentityFile: the file cannot be read, is open to others, is damaged, or the passphrase is wrong.
    """
    _check_free(name)
    content, mode = _read_copy(path)
    facts = describe_key_file(content)
    if not facts.sealed and mode & 0o077:
        raise InvalidIdentityFile(
            f"no passphrase seals {path}, and it is open to others (mode {mode:o}, expected {files.FILE_MODE:o})",
            hint="if nobody else had it: copy it to a directory of yours, chmod 600 it there, and import that",
        )
    _decode(content, facts, ask_passphrase)
    _keep(name, content)
    return facts


def remove(name: str) -> None:
    """Remove an identity. Nothing brings it back but a copy of its key file, which need not be sound to be removed.

    Raises:
        UsageError: the name cannot be one, a session uses the identity, or it cannot be removed.
        InvalidIdentityFile: there is none of that name.
    """
    check_kept(name)
    with in_use(name):
        files.remove(_path(name))
        with contextlib.suppress(OSError):  # an empty file in the way of nobody
            (_directory() / f"{name}.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def in_use(name: str) -> Iterator[None]:
    """Keep an identity to one session at a time, on this machine: two would answer each other's dials.

    Raises:
        UsageError: another session uses it, or the directory cannot be written.
    """
    _check_name(name)
    with files.lock(_directory() / f"{name}.lock") as ours:
        if not ours:
            raise UsageError(
                f"another session uses the identity {name} now", hint="end that one, or take part under another"
            )
        yield


def describe_identity(name: str) -> KeyFileFacts:
    """Return what an identity's key file tells without its passphrase.

    Raises:
        UsageError: the name cannot be one, or the directory is open to others.
        InvalidIdentityFile: there is none of that name, others may read it, or it is damaged.
    """
    return describe_key_file(_read(name))


def check_kept(name: str) -> None:
    """Check that there is an identity of that name, sound or not.

    Raises:
        UsageError: the name cannot be one, or the directory is open to others.
        InvalidIdentityFile: there is none.
    """
    _check_name(name)
    if name not in list_names():
        raise _missing(name)


def list_names() -> tuple[str, ...]:
    """Return the names of all identities, sorted, without a look into their files.

    Raises:
        UsageError: the directory is open to others.
    """
    if not _directory().exists():
        return ()
    found = files.private_directory(_directory()).glob("*" + KEY_FILE_SUFFIX)
    names = (path.name.removesuffix(KEY_FILE_SUFFIX) for path in found)
    return tuple(sorted(name for name in names if NAME.fullmatch(name)))


def _directory() -> Path:
    return files.state_directory() / "identities"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!a} cannot name an identity",
            hint="take 1 to 64 of a-z, 0-9, dot, dash and underscore, and begin with a letter or digit",
        )


def _path(name: str) -> Path:
    return _directory() / (name + KEY_FILE_SUFFIX)


def _missing(name: str) -> InvalidIdentityFile:
    hint = f'"onionmpc id list" shows yours, "onionmpc id new {name}" makes it'
    return InvalidIdentityFile(f"there is no identity named {name}", hint=hint)


def _check_free(name: str) -> None:
    _check_name(name)
    if os.path.lexists(_path(name)):
        raise UsageError(f"there is an identity named {name} already", hint="choose another name")


def _encode(identity: Identity, ask_passphrase: Ask | None, *, exposed: bool) -> bytes:
    salt, nonce = secrets.token_bytes(KEY_FILE_SALT_BYTES), secrets.token_bytes(KEY_FILE_NONCE_BYTES)
    if ask_passphrase is None:
        return encode_key_file(identity, None, salt, nonce, exposed=exposed)
    passphrase = ask_passphrase()
    try:
        if not passphrase:
            raise UsageError("the passphrase is empty", hint="choose a longer one, or none at all")
        return encode_key_file(identity, passphrase, salt, nonce, exposed=exposed)
    finally:
        wipe(passphrase)


def _decode(content: bytes, facts: KeyFileFacts, ask_passphrase: Ask) -> Identity:
    if not facts.sealed:
        return decode_key_file(content, None)
    passphrase = ask_passphrase()
    try:
        return decode_key_file(content, passphrase)
    finally:
        wipe(passphrase)


def _keep(name: str, content: bytes) -> None:
    """Write a new key file."""
    files.private_directory(files.state_directory())
    directory = files.private_directory(_directory())
    # The lock, since the write that is safe against a full disk replaces what is there: between looking and writing,
    # no other process may create the same name. A lost key cannot be made again.
    with files.lock(directory / KEYSTORE_LOCK_NAME) as held:
        if not held:
            raise UsageError("another onionmpc is making an identity at this moment", hint="try again")
        _check_free(name)
        _check_unknown(describe_key_file(content).onion)
        files.write_private(_path(name), content)


def _check_unknown(onion: Onion) -> None:
    """Refuse a second name for an identity: a session under each would answer the other's dials."""
    for name in list_names():
        with contextlib.suppress(InvalidIdentityFile):  # a damaged one is nobody's
            if describe_identity(name).onion == onion:
                raise UsageError(f"this identity is kept already, under the name {name}", hint=f"use {name}")


def _read(name: str) -> bytes:
    _check_name(name)
    path = _path(name)
    if _directory().exists():
        files.private_directory(_directory())
    try:
        # Not through a link, and the mode is that of the very file that is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            _check_private(path, os.fstat(descriptor))
            return file.read(MAX_KEY_FILE_BYTES)
    except FileNotFoundError as error:
        raise _missing(name) from error
    except OSError as error:
        raise InvalidIdentityFile(f"cannot read {path}: {error.strerror}", hint="it must be a file of yours") from error


def _read_copy(path: Path) -> tuple[bytes, int]:
    """Return what is in an exported file, and its mode."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidIdentityFile(f"{path} is no file", hint="name what onionmpc id export has written")
            return file.read(MAX_KEY_FILE_BYTES), stat.S_IMODE(status.st_mode)
    except OSError as error:
        raise InvalidIdentityFile(f"cannot read {path}: {error.strerror}") from error


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

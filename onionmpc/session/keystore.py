"""Stores this user's identities, one key file each, in a private directory.

No key file is ever overwritten. The format of key files is in `onionmpc.identity.key_file`. A passphrase comes from a
function that the caller passes in, and is wiped here after use. Rules: docs/PROTOCOL.md section 1.
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
# Lower case only, since some file systems treat "Alice" and "alice" as one file. No leading dot or dash, which would
# make a hidden file or an option. No slash, so that a name cannot lead out of the directory.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MAX_KEY_FILE_BYTES = 4096  # ten times the longest key file

Ask = Callable[[], bytearray]  # asks for a passphrase


def create(name: str, ask_passphrase: Ask | None, *, exposed: bool = False) -> Identity:
    """Make a new identity and store it under `name`.

    Args:
        ask_passphrase: called once, for the passphrase that seals the key file; None stores it unsealed.
        exposed: True if the identity is for circuit length short only.

    Raises:
        UsageError: the name is invalid or taken, the passphrase is empty, or the directory cannot be used.
    """
    _check_free(name)
    identity = Identity(secrets.token_bytes(SEED_BYTES))
    _keep(name, _encode(identity, ask_passphrase, exposed=exposed))
    return identity


def load(name: str, ask_passphrase: Ask, *, exposed: bool = False) -> Identity:
    """Load a stored identity.

    Args:
        ask_passphrase: called once, and only if the key file is sealed.
        exposed: whether the session uses circuit length short.

    Raises:
        UsageError: the name is invalid, or other users can read the directory.
        UnsafeSetting: the identity is for other levels.
        InvalidIdentityFile: no identity has that name, others can read it, it is damaged, or the passphrase is wrong.
    """
    content = _read(name)
    facts = describe_key_file(content)
    if exposed and not facts.exposed:
        raise UnsafeSetting(
            f"the identity {name} is for anonymous sessions, but short would tie it to this machine's IP address",
            hint="make one for short: onionmpc id new NAME --for-short",
        )
    if facts.exposed and not exposed:
        raise UnsafeSetting(
            f"the identity {name} is for circuit length short: any party that met it can know its IP address",
            hint="use circuit_length='short', or another identity",
        )
    return _decode(content, facts, ask_passphrase)


def export_to(path: Path, name: str, ask_passphrase: Ask | None) -> KeyFileFacts:
    """Copy an identity into a file that `import_from` reads.

    The copy of a sealed identity keeps its seal, so that no passphrase is asked for.

    Args:
        ask_passphrase: called once, for the passphrase that seals the copy of an unsealed identity; None leaves the
            copy unsealed.
    Returns:
        What the copy shows without its passphrase.

    Raises:
        UsageError: see `load`; the file exists, cannot be written, or would be readable by others.
        InvalidIdentityFile: see `load`.
    """
    content = _read(name)
    if os.path.lexists(path):
        raise UsageError(f"{path} already exists", hint="choose another name: an existing file is never replaced")
    facts = describe_key_file(content)
    if not facts.sealed and ask_passphrase is not None:
        content = _encode(decode_key_file(content, None), ask_passphrase, exposed=facts.exposed)
        facts = describe_key_file(content)
    files.write_new(path, content, must_be_private=not facts.sealed)
    return facts


def import_from(path: Path, name: str, ask_passphrase: Ask) -> KeyFileFacts:
    """Store the identity of an exported file under `name`. It stays as sealed and as exposed as in the file.

    The file is decrypted once, so that a damaged file or a forgotten passphrase shows now and not when the identity is
    needed. A sealed file may be readable by others, as on a memory stick without file modes: the seal protects it. An
    unsealed file that others can read is refused, since others may have copied the key.

    Args:
        ask_passphrase: called once, and only if the file is sealed.

    Raises:
        UsageError: the name is invalid or taken, or the identity is stored already under any name.
        InvalidIdentityFile: the file cannot be read, is readable by others, is damaged, or the passphrase is wrong.
    """
    _check_free(name)
    content, mode = _read_copy(path)
    facts = describe_key_file(content)
    if not facts.sealed and mode & 0o077:
        raise InvalidIdentityFile(
            f"{path} has no passphrase and is open to others (mode {mode:o}, expected {files.FILE_MODE:o})",
            hint="if nobody else had it: copy it to a directory that you own, chmod 600 the copy, and import that",
        )
    _decode(content, facts, ask_passphrase)
    _keep(name, content)
    return facts


def remove(name: str) -> None:
    """Remove an identity for good, unless a copy of its key file exists. A damaged key file can be removed too.

    Raises:
        UsageError: the name is invalid, a session uses the identity, or it cannot be removed.
        InvalidIdentityFile: no identity has that name.
    """
    check_kept(name)
    with in_use(name):
        files.remove(_path(name))
        with contextlib.suppress(OSError):  # a leftover lock file is empty and harms nobody
            (_directory() / f"{name}.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def in_use(name: str) -> Iterator[None]:
    """Hold an identity for one session at a time on this machine. Two sessions would answer each other's dials.

    Raises:
        UsageError: another session uses the identity, or the directory cannot be written.
    """
    _check_name(name)
    with files.lock(_directory() / f"{name}.lock") as ours:
        if not ours:
            raise UsageError(
                f"another session uses the identity {name} now", hint="end that session, or use another identity"
            )
        yield


def describe_identity(name: str) -> KeyFileFacts:
    """Return what an identity's key file shows without its passphrase.

    Raises:
        UsageError: the name is invalid, or other users can read the directory.
        InvalidIdentityFile: no identity has that name, others can read it, or it is damaged.
    """
    return describe_key_file(_read(name))


def check_kept(name: str) -> None:
    """Check that an identity of that name is stored, damaged or not.

    Raises:
        UsageError: the name is invalid, or other users can read the directory.
        InvalidIdentityFile: no identity has that name.
    """
    _check_name(name)
    if name not in list_names():
        raise _missing(name)


def list_names() -> tuple[str, ...]:
    """Return the names of all identities, sorted, without reading their files.

    Raises:
        UsageError: other users can read the directory.
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
            hint="use 1 to 64 of a-z, 0-9, dot, dash and underscore, starting with a letter or digit",
        )


def _path(name: str) -> Path:
    return _directory() / (name + KEY_FILE_SUFFIX)


def _missing(name: str) -> InvalidIdentityFile:
    hint = f'"onionmpc id list" shows yours, "onionmpc id new {name}" makes it'
    return InvalidIdentityFile(f"there is no identity named {name}", hint=hint)


def _check_free(name: str) -> None:
    _check_name(name)
    if os.path.lexists(_path(name)):
        raise UsageError(f"an identity named {name} already exists", hint="choose another name")


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
    # `write_private` survives a full disk because it replaces the file in one step. The lock makes sure that no other
    # process creates the same name between the check and that step: an overwritten key is lost for good.
    with files.lock(directory / KEYSTORE_LOCK_NAME) as held:
        if not held:
            raise UsageError("another onionmpc process is making an identity now", hint="try again")
        _check_free(name)
        _check_unknown(describe_key_file(content).onion)
        files.write_private(_path(name), content)


def _check_unknown(onion: Onion) -> None:
    """Check that an identity has no name yet: with two names, two sessions could answer each other's dials."""
    for name in list_names():
        with contextlib.suppress(InvalidIdentityFile):  # a damaged key file names no identity
            if describe_identity(name).onion == onion:
                raise UsageError(f"this identity is already kept, under the name {name}", hint=f"use {name}")


def _read(name: str) -> bytes:
    _check_name(name)
    path = _path(name)
    if _directory().exists():
        files.private_directory(_directory())
    try:
        with files.open_itself(path) as file:
            # Others may have read the key by now. The hint leaves it to the owner whether to keep using the identity.
            remedy = f"chmod 600 {path}, or make a new identity if others use this machine"
            status = os.fstat(file.fileno())
            files.check_private(f"the key file {path}", status, remedy=remedy, error=InvalidIdentityFile)
            return file.read(MAX_KEY_FILE_BYTES)
    except FileNotFoundError as error:
        raise _missing(name) from error
    except OSError as error:
        raise InvalidIdentityFile(f"cannot read {path}: {error.strerror}", hint="it must belong to you") from error


def _read_copy(path: Path) -> tuple[bytes, int]:
    """Return the content of an exported file, and its mode."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidIdentityFile(f"{path} is not a file", hint="give a file that onionmpc id export wrote")
            return file.read(MAX_KEY_FILE_BYTES), stat.S_IMODE(status.st_mode)
    except OSError as error:
        raise InvalidIdentityFile(f"cannot read {path}: {error.strerror}") from error

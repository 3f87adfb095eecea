"""Reads what a party shows of who it is from its user's files: certificates, or statements with their signatures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.names.evidence import MAX_PIECE_BYTES, MAX_PIECES
from onionmpc.text import printable

STATEMENT = "onionmpc statement "
SIGNATURE = "-----BEGIN SSH SIGNATURE-----"
SIGNATURE_SUFFIX = ".sig"  # ssh-keygen -Y sign writes it beside the file
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----\n?", re.DOTALL)


def read_evidence(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the pieces of evidence in these files, one for each file.

    Raises:
        UsageError: a file cannot be read, is too large, or is no evidence; or there are too many.
    """
    if len(paths) > MAX_PIECES:
        raise UsageError(f"{len(paths)} files of evidence, and a party shows {MAX_PIECES} at most")
    return tuple(map(_read_piece, paths))


def _read_piece(path: Path) -> str:
    name, text = printable(str(path)), _read(path)
    # Before all else: what is returned goes to every party of the session.
    if "PRIVATE KEY" in text:
        raise UsageError(f"{name} contains a private key, which nobody may see", hint="name the certificate's own file")
    if text.startswith(STATEMENT):
        piece = text if SIGNATURE in text else text + _read_signature(path)
    elif not (piece := "".join(f"{found.strip()}\n" for found in CERTIFICATE.findall(text.replace("\r\n", "\n")))):
        raise UsageError(
            f"{name} is neither certificates in PEM nor a statement", hint="onionmpc id statement writes a statement"
        )
    if len(piece) > MAX_PIECE_BYTES:
        raise UsageError(f"{name} has {len(piece)} bytes of evidence, and the others accept {MAX_PIECE_BYTES}")
    if not re.fullmatch(r"[\n -~]*", piece):
        raise UsageError(f"{name} has other characters than those of ASCII and line feeds", hint="write it again")
    return piece


def _read_signature(statement: Path) -> str:
    path = statement.with_name(statement.name + SIGNATURE_SUFFIX)
    if not path.exists():
        raise UsageError(
            f"{printable(str(statement))} is not signed: there is no {printable(path.name)} beside it",
            hint=f"sign it: ssh-keygen -Y sign -n statement@onionmpc -f KEY {printable(str(statement))}",
        )
    return _read(path)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # A certificate's file may have a text of any length beside it.
            return file.read(4 * MAX_PIECE_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(path))}: {error.strerror}") from error

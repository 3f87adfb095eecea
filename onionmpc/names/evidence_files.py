"""Reads this user's own evidence from files: certificates in PEM, and statements with their signatures beside them.

Makes a piece of each file, as it travels. Refuses what no verifier could use, and above all secret keys.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from onionmpc.errors import InvalidEvidence, UsageError
from onionmpc.identity import Onion
from onionmpc.names.certificates import BEGIN_CERTIFICATE, END_CERTIFICATE, find_address, parse_certificates
from onionmpc.names.evidence import MAX_PIECE_BYTES, MAX_PIECES
from onionmpc.names.ssh import BEGIN_SIGNATURE, NAMESPACE, check_own, parse_signature
from onionmpc.names.statement import looks_like_statement, parse_statement
from onionmpc.text import printable

SIGNATURE_SUFFIX = ".sig"
SECRET_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
CERTIFICATE = re.compile(rf"{BEGIN_CERTIFICATE}\n[A-Za-z0-9+/=\n]+{END_CERTIFICATE}\n")


def read_pieces(paths: Sequence[Path]) -> tuple[str, ...]:
    """Read evidence from files.

    Args:
        paths: of certificates in PEM (the leaf first, then its intermediates), or of statements that are signed: the
            signature follows in the file, or is beside it in a file of the same name and .sig.

    Raises:
        UsageError: there are too many, or a file cannot be read, contains a secret key, or is no evidence.
    """
    if len(paths) > MAX_PIECES:
        raise UsageError(f"there are {len(paths)} files of evidence, expected at most {MAX_PIECES}")
    return tuple(map(_read_piece, paths))


def check_about(pieces: Sequence[str], onion: Onion, now: datetime) -> None:
    """Check that evidence is about an address, and not expired. Whether a verifier accepts it is the verifier's to say.

    Raises:
        InvalidEvidence: a piece is about something else, or counts at another time.
    """
    for piece in pieces:
        if piece.startswith(BEGIN_CERTIFICATE):
            certificate = find_address(parse_certificates(piece), onion).leaf
            start, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        else:
            statement = parse_statement(piece.partition(BEGIN_SIGNATURE)[0])
            start, until = statement.start, statement.until
            if statement.onion != onion:
                raise InvalidEvidence(
                    f"the statement is about {statement.onion or 'a program'}, and this party's address is {onion}",
                    hint="use the identity that the statement is about, or write another one: onionmpc id statement",
                )
        if not start <= now <= until:
            raise InvalidEvidence(f"the evidence counts from {start:%Y-%m-%d} to {until:%Y-%m-%d} only")


def sign_command(file: str) -> str:
    """Return the command that signs a statement in a file."""
    return f"ssh-keygen -Y sign -n {NAMESPACE} -f ~/.ssh/id_ed25519 {shlex.quote(file)}"


def _read_piece(path: Path) -> str:
    name = printable(str(path))
    text = _read(path)
    if SECRET_KEY.search(text):
        raise UsageError(
            f"{name} contains a secret key, and evidence is sent to the other parties",
            hint="put only the certificates into the file, as in fullchain.pem",
        )
    try:
        piece = _certificates(text) if BEGIN_CERTIFICATE in text else _statement(path, text)
    except InvalidEvidence as error:
        raise InvalidEvidence(f"{name} cannot serve as evidence: {error.message}", hint=error.hint) from error
    if len(piece) > MAX_PIECE_BYTES:
        raise InvalidEvidence(f"{name} cannot serve as evidence: it has more than {MAX_PIECE_BYTES} bytes")
    return piece


def _certificates(text: str) -> str:
    # Without the comments that some tools write between certificates: a verifier takes none, and they may say more than
    # the certificates do.
    piece = "".join(CERTIFICATE.findall(text.replace("\r\n", "\n") + "\n"))
    if not parse_certificates(piece):
        raise InvalidEvidence("a certificate is damaged", hint="use the file in PEM, with the whole chain")
    return piece


def _statement(path: Path, text: str) -> str:
    if not looks_like_statement(text):
        raise InvalidEvidence(
            "it contains neither certificates nor a statement", hint="see onionmpc id statement --help"
        )
    statement, begin, signature = text.partition(BEGIN_SIGNATURE)
    if not begin:
        beside = path.with_name(path.name + SIGNATURE_SUFFIX)
        if not beside.exists():
            raise InvalidEvidence("it is not signed", hint=f"sign it with {sign_command(printable(str(path)))}")
        signature = _read(beside)
    parse_statement(statement)
    signature = (begin + signature).replace("\r\n", "\n")
    check_own(statement, parse_signature(signature))
    return statement + signature


def _read(path: Path) -> str:
    name = printable(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_PIECE_BYTES + 1)  # with comments, and CR before LF
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise InvalidEvidence(
            f"{name} cannot serve as evidence: it is not text in ASCII", hint="convert certificates to PEM"
        ) from error

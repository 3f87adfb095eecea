"""`onionmpc verify`: says what receipts prove. onionmpc.session.receipt checks them. Files may come from anyone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from onionmpc.api.contacts import load_book
from onionmpc.api.screen import called, differing_versions, line, named_lines
from onionmpc.errors import AgreementError, InvalidReceipt, PeerError, UsageError
from onionmpc.identity import Onion
from onionmpc.program.code.catalogue import ProgramFile
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.receipt import MAX_RECEIPT_BYTES, Findings, Receipt, decode_receipt, examine_receipts
from onionmpc.session.roster_words import roster_fingerprint, roster_lines
from onionmpc.text import printable

RECEIPT_FILE = click.Path(path_type=Path)

MEANING = """
What a signature says: the holder of that address's key agreed to this computation with these parties, and states that
its program succeeded with one output, which it can no longer change. It does not say that the output is right, that any
input is true, who is behind an address, or when this was. People who hold all keys can sign without computing."""


@click.command()
@click.argument("receipts", nargs=-1, required=True, type=RECEIPT_FILE, metavar="FILE...")
@click.option(
    "--output", type=RECEIPT_FILE, metavar="FILE", help="Also check that FILE is the parties' output, byte for byte."
)
def verify(receipts: tuple[Path, ...], output: Path | None) -> None:
    """Say who signed a receipt, and whose outputs are the same.

    FILE is the receipt that one party keeps after a session with --receipt: the terms that all agreed to, all
    signatures, and that party's own salt. Given the files of several parties, verify says which of them had the same
    output; one file reveals only the digest of its own party. Verify checks everything on this machine: it uses no
    network and trusts no one.

    A signature covers the agreement, and a digest with a random salt of all that the party's program wrote to its
    standard output. If you show a FILE, you show that salt too, and anyone who has it can test guesses of the output. A
    copy without it proves who signed, and reveals nothing about the output:

    \b
    onionmpc verify receipt.json                         who signed?
    onionmpc verify mine.json yours.json                 did we get the same output?
    onionmpc verify mine.json --output result.txt        is this what I got?
    grep -v '^"opening":' mine.json > without_salt.json  to show to others

    A receipt proves to anyone that these addresses took part in this computation: they cannot deny it. It does not
    prove that the output is right, that inputs were true, who is behind an address, or when it was. If a program prints
    something different at each party, such as its number or the time, no two outputs are the same.

    Your own names for addresses (see: onionmpc contact) are shown beside them. A receipt has no names.

    Exit codes: 0 all parties signed, and all revealed outputs are the same; 2 a FILE is not a receipt; 4 a signature is
    missing; 5 outputs differ; 6 a signature or a salt is wrong.
    """
    findings = examine_receipts({printable(str(file)): read_receipt(file) for file in receipts})
    click.echo("\n".join(_lines(findings, load_book().names())))
    if output is not None:
        _check_output(findings, output)
    _check(findings)


def read_receipt(file: Path) -> Receipt:
    """Read a receipt; see `decode_receipt`."""
    name = printable(str(file))
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_RECEIPT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    try:
        return decode_receipt(content)
    except InvalidReceipt as error:
        raise InvalidReceipt(f"{name}: {error.message}", hint=error.hint) from error


def _lines(findings: Findings, names: Mapping[Onion, str]) -> Iterator[str]:
    common = findings.agreement.common
    yield f"A receipt of a computation of {len(common.addresses)} parties:"
    yield from _terms(common)
    yield from differing_versions(findings.agreement.own)
    yield line("session", findings.session.hex())
    yield from named_lines("roster", roster_lines(roster_fingerprint(common.addresses)))
    for number, address in enumerate(common.addresses):
        words = "signed" if number in findings.signed else "did NOT sign"
        if number in findings.outputs:
            words += f", SHA-256 of its output {findings.outputs[number]}"
        yield line("" if number else "parties", f"{number}  {called(Onion(address), names)}  {words}")
    alike = findings.agreeing
    if len(alike) == 1 and len(alike[0]) > 1:
        yield f"{_parties(alike[0])} had the SAME output."
    elif len(alike) > 1:
        yield f"Outputs DIFFER: {' / '.join(_parties(group) for group in alike)}."
    yield MEANING


def _terms(common: SharedTerms) -> Iterator[str]:
    files = [ProgramFile(path, bytes.fromhex(digest)) for path, digest in common.files.items()]
    yield line("program", f"{printable(common.program)} (SHA-256 of its files {common.program_digest.hex()})")
    for file in sorted(files):
        yield line("", f"{printable(file.path)}  {file.sha256.hex()}")
    if common.public_arguments:
        yield line("arguments", " ".join(printable(argument) for argument in common.public_arguments))
    yield line("threshold", f"{common.threshold}: any {common.threshold + 1} of them together could read every input")
    versions = (f"MPyC {common.mpyc_version}", common.python, *common.mpyc_options)
    yield line("ran on", ", ".join(map(printable, versions)))


def _parties(numbers: Sequence[int]) -> str:
    first, *others = map(str, numbers)
    return f"party {first}" if not others else f"parties {', '.join([first, *others[:-1]])} and {others[-1]}"


def _check_output(findings: Findings, file: Path) -> None:
    name = printable(str(file))
    if not findings.outputs:
        raise UsageError(
            "--output needs a receipt with a salt, and no FILE has one", hint="ask a party for its own receipt"
        )
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    if others := [number for number, output in sorted(findings.outputs.items()) if output != digest]:
        raise AgreementError(f"{name} is not the output of {_parties(others)}")
    click.echo(f"{name} is the output of {_parties(sorted(findings.outputs))}.")


def _check(findings: Findings) -> None:
    if len(findings.agreeing) > 1:
        raise AgreementError("the revealed outputs differ")
    if missing := findings.missing:
        raise PeerError(f"{_parties(missing)} did not sign")

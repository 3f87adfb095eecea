"""This user's own evidence, read from files."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from onionmpc.errors import InvalidEvidence, UsageError
from onionmpc.names.evidence_files import check_about, read_pieces
from onionmpc.names.examine import examine
from onionmpc.names.findings import Grade
from onionmpc.names.ssh import BEGIN_SIGNATURE
from onionmpc.names.statement import format_statement
from onionmpc.names.trust import Trust
from tests.support.evidence import CONTEXT, ME, OTHER, REVIEW, STATEMENT, Authority, SshKey, make_ssh_key, pem, trusting


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    return make_ssh_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.make()


def refused(path: Path, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        read_pieces([path])
    assert str(path) in refusal.value.message


def test_a_statement_finds_its_signature_beside_it(key: SshKey, tmp_path: Path) -> None:
    text = format_statement(STATEMENT)
    file, both = tmp_path / "statement", tmp_path / "both.txt"
    file.write_text(text)
    (tmp_path / "statement.sig").write_text(key.sign(text))
    both.write_text(text + key.sign(text))
    pieces = read_pieces([file, both])
    assert pieces[0] == pieces[1] == key.piece()
    assert examine(pieces[0], CONTEXT, trusting(f"alice {key.public}")).name == "alice"


def test_certificates_come_without_what_is_between_them(root: Authority, tmp_path: Path) -> None:
    middle = Authority.make("R12", root)
    one, two = pem(middle.certify(ME, "acme.example")), pem(middle.certificate)
    file = tmp_path / "fullchain.pem"
    file.write_bytes(f"subject=CN = x\r\n{one}issuer\n\n{two.strip()}".replace("\n", "\r\n").encode())
    assert read_pieces([file]) == (one + two,)
    trust = Trust(domains=frozenset({"acme.example"}), public_roots=(root.certificate,))
    assert examine(one + two, CONTEXT, trust).grade is Grade.NAMES


def test_a_file_with_a_secret_key_is_never_sent(root: Authority, key: SshKey, tmp_path: Path) -> None:
    file = tmp_path / "combined.pem"
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        secret = root.key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()
        for content in (pem(root.certify(ME)) + secret, secret):
            file.write_text(content)
            refused(file, "contains a secret key")
    refused(key.file, "contains a secret key")


def test_a_statement_without_a_signature_says_how_to_sign_it(tmp_path: Path) -> None:
    file = tmp_path / "statement"
    file.write_text(format_statement(STATEMENT))
    with pytest.raises(UsageError, match="it is not signed") as refusal:
        read_pieces([file])
    assert refusal.value.hint.endswith(f"ssh-keygen -Y sign -n statement@onionmpc -f ~/.ssh/id_ed25519 {file}")


def test_what_no_verifier_takes_is_refused_before_it_is_sent(key: SshKey, root: Authority, tmp_path: Path) -> None:
    file = tmp_path / "file"
    refused(file, "cannot read .*: No such file")
    refused(tmp_path, "cannot read .*: Is a directory")
    text = format_statement(STATEMENT)
    one = pem(root.certify(ME))
    for content, words in (
        ("", "neither certificates nor a statement"),
        (text.replace("\n", "\r\n") + key.sign(text), "line 1 of the statement is damaged"),
        (text + key.sign(text, "file"), "namespace 'file'"),
        (text + BEGIN_SIGNATURE, "the SSH signature is damaged"),
        (text.replace("party", "friend") + key.sign(text), "line 3"),
        ("\u00e9" + text, "not text in ASCII"),
        (text + key.sign(text.replace(ME, OTHER)), "the SSH signature is wrong"),
        (one[:200], "a certificate is damaged"),
        (one.replace("MII", "MIX"), "a certificate is damaged"),
        (one * 7, "there are 7 certificates"),
    ):
        file.write_text(content)
        refused(file, words)
    file.write_bytes(root.certificate.public_bytes(Encoding.DER))
    refused(file, "not text in ASCII")


def test_a_piece_is_at_most_16_kib_and_there_are_at_most_four(root: Authority, tmp_path: Path) -> None:
    file = tmp_path / "chain.pem"
    names = [f"{'n' * 60}.{number:050}.example" for number in range(90)]
    file.write_text(pem(root.certify(ME, *names)) * 3)
    refused(file, "more than 16384 bytes")
    file.write_text(pem(root.certify(ME)))
    assert len(read_pieces([file] * 4)) == 4
    with pytest.raises(UsageError, match="there are 5 files of evidence"):
        read_pieces([file] * 5)


def test_an_expired_statement_may_be_read(key: SshKey, tmp_path: Path) -> None:
    """Whether it counts is for those who see it, by their clocks."""
    old = replace(STATEMENT, start=STATEMENT.start.replace(year=2020), until=STATEMENT.start.replace(year=2020, day=9))
    file = tmp_path / "old"
    file.write_text(key.piece(old))
    assert read_pieces([file])


def test_own_evidence_must_be_about_the_own_address_today(root: Authority, key: SshKey) -> None:
    certificate, statement, now = pem(root.certify(ME)), key.piece(), CONTEXT.now
    check_about([certificate, statement], ME, now)
    for piece, onion, when, words in (
        (certificate, OTHER, now, "does not name this address"),
        (statement, OTHER, now, f"the statement is about {ME}, and this party's address is {OTHER}"),
        (key.piece(REVIEW), ME, now, "the statement is about a program"),
        (certificate, ME, now + timedelta(days=15), "the evidence counts from 2026-12-10 to 2027-01-03 only"),
        (statement, ME, now - timedelta(days=30), "the evidence counts from 2026-12-01 to 2027-02-28 only"),
    ):
        with pytest.raises(InvalidEvidence, match=words):
            check_about([piece], onion, when)

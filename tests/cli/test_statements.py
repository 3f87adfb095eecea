"""`onionmpc id statement` and `onionmpc trust`: what they print, and where."""

from __future__ import annotations

import shlex
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onionmpc.cli.main import cli
from onionmpc.errors import OnionMPCError
from onionmpc.names.contacts import add_contact
from onionmpc.names.evidence_files import read_pieces
from onionmpc.names.examine import Context, examine, examine_review
from onionmpc.names.findings import Grade
from onionmpc.names.statement import StatementPurpose, parse_statement
from onionmpc.names.trust import load_trust, trust_folder
from onionmpc.program.code.catalogue import digest, find_program
from onionmpc.session import keystore
from tests.support.commands import A, Refused
from tests.support.evidence import ROSTER, Authority, SshKey, make_ssh_key, pem

pytestmark = pytest.mark.usefixtures("alone")
STATEMENT = ("id", "statement")


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    if isinstance(result.exception, OnionMPCError):
        raise result.exception
    return result


@pytest.fixture
def key(tmp_path: Path) -> SshKey:
    return make_ssh_key(tmp_path)


def test_a_statement_is_written_signed_as_it_says_shown_and_believed(key: SshKey) -> None:
    onion = keystore.create("me", None).onion
    done = run(*STATEMENT, "--identity", "me", "--program", "vote", "--audience", ROSTER, "--output", "my statement")
    assert done.stdout == ""
    command = done.stderr.partition("sign it with: ")[2]
    words = shlex.split(command)
    subprocess.run([*words[:6], str(key.file), *words[7:]], check=True, capture_output=True)
    (piece,) = read_pieces([Path("my statement")])
    run("trust")
    (trust_folder() / "allowed_signers").write_text(f"alice {key.public}")
    context = Context(onion, digest(find_program("vote")), ROSTER, datetime.now(UTC))
    finding = examine(piece, context, load_trust())
    assert (finding.grade, finding.name) == (Grade.NAMES, "alice")


def test_the_statement_alone_goes_to_stdout() -> None:
    done = run(*STATEMENT, "--address", A)
    written = parse_statement(done.stdout)
    assert (written.onion, written.purpose, written.program, written.roster) == (A, StatementPurpose.PARTY, None, None)
    assert written.until - written.start == timedelta(days=7)
    now = datetime.now(UTC)
    assert written.start + timedelta(hours=1) <= now < written.start + timedelta(hours=2, seconds=60)
    assert done.stderr.rstrip().endswith("-f ~/.ssh/id_ed25519 FILE")


def test_an_issuer_certifies_a_contact_and_a_reviewer_a_program(key: SshKey) -> None:
    add_contact("acme", A)
    text = run(*STATEMENT, "--address", "acme", "--purpose", "issuer", "--days", "90").stdout
    assert (parse_statement(text).onion, parse_statement(text).purpose) == (A, StatementPurpose.ISSUER)
    program = digest(find_program("vote"))
    texts = [
        run(*STATEMENT, "--purpose", "program", "--program", word).stdout
        for word in ("vote", f"sha256:{program.hex()}")
    ]
    assert texts[0] == texts[1]
    run("trust")
    (trust_folder() / "allowed_signers").write_text(f"anna {key.public}")
    finding = examine_review(texts[0] + key.sign(texts[0]), program, load_trust(), datetime.now(UTC))
    assert finding.name == "anna"


def test_what_a_statement_cannot_say_is_refused(refused: Refused) -> None:
    keystore.create("me", None)
    for arguments, words in (
        ((), "a statement is about one address"),
        (("--identity", "me", "--address", A), "a statement is about one address"),
        (("--identity", "you"), "there is no identity"),
        (("--address", "nobody"), "nobody is not one address"),
        (("--address", A[:-8]), "does not end in"),
        (("--identity", "me", "--days", "91"), "--days"),
        (("--identity", "me", "--audience", "one two"), "not the ten words of a roster"),
        (("--identity", "me", "--program", "nothing"), "there is no program nothing"),
        (("--identity", "me", "--program", "sha256:00"), "there is no program sha256:00"),
        (("--identity", "me", "--with", "."), "--with belongs to a program"),
        (("--identity", "me", "--program", f"sha256:{'0' * 64}", "--with", "."), "counts the files of --with"),
        (("--identity", "me", "--purpose", "program", "--program", "vote"), "not about an address"),
        (("--purpose", "program"), "names a program"),
        (("--purpose", "program", "--program", "vote", "--audience", ROSTER), "nor an audience"),
    ):
        assert words in refused(*STATEMENT, *arguments), arguments


def test_trust_makes_the_folder_and_says_that_it_is_empty() -> None:
    done = run("trust")
    assert done.stdout == f"{trust_folder()}\n"
    assert stat.S_IMODE(trust_folder().stat().st_mode) == 0o700
    assert "you trust nobody" in done.stderr


def test_trust_shows_what_is_in_the_files_and_what_is_of_no_use(key: SshKey) -> None:
    run("trust")
    folder = trust_folder()
    (folder / "allowed_signers").write_text(
        f'alice {key.public}\nbob namespaces="git" {key.public}\ncarol valid-before="20200101Z" {key.public}\n'
    )
    (folder / "issuers").write_text(f'club valid-after="20260101Z" {key.public}\n')
    (folder / "domains").write_text("acme.example\n")
    (folder / "ca").mkdir()
    (folder / "ca" / "bank.pem").write_text(pem(Authority.make("Bank").certificate))
    (folder / "domain").write_text("misspelt")
    done = run("trust")
    fingerprint = subprocess.run(["ssh-keygen", "-l", "-f", key.file], capture_output=True, text=True, check=True)
    shown = f"ssh-ed25519  {fingerprint.stdout.split()[1]}"
    assert done.stdout.splitlines() == [
        str(folder),
        f"allowed_signers  alice  {shown}",
        f"allowed_signers  bob  {shown}",
        f"allowed_signers  carol  {shown}, until 2020-01-01 00:00 UTC",
        f"issuers          club  {shown}, from 2026-01-01 00:00 UTC",
        "domains          acme.example",
        "ca               bank  CN=Bank, until 2040-01-01",
    ]
    notes = done.stderr.splitlines()
    assert notes == [
        f"onionmpc: note: {folder / 'domain'} is not read: the files are allowed_signers, ca, domains, issuers",
        "onionmpc: note: a key of bob counts for nothing: its namespaces leave out statement@onionmpc",
        "onionmpc: note: a key of carol has expired",
    ]


def test_trust_checks_the_files(refused: Refused, key: SshKey) -> None:
    run("trust")
    (trust_folder() / "allowed_signers").write_text(f"* {key.public}\n")
    assert "allowed_signers cannot be used: the name is empty" in refused("trust")
    (trust_folder() / "allowed_signers").write_text(f"alice {key.public.split()[0]} {key.public.split()[1][:-8]}\n")
    assert "the key of alice is damaged" in refused("trust")
    trust_folder().chmod(0o755)
    assert "is open to others" in refused("trust")

"""The folder of trust: what is in it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from onionmpc import files
from onionmpc.errors import UsageError
from onionmpc.names.trust import MAX_COMPANIES, MAX_FILE_BYTES, Trust, load_trust, parse_domains, trust_folder
from tests.support.evidence import Authority, make_ssh_key, pem


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    return files.private_directory(trust_folder())


def test_no_folder_and_no_files_mean_nobody(folder: Path) -> None:
    assert load_trust() == load_trust(folder) == Trust()
    folder.rmdir()
    assert load_trust() == Trust()
    assert not folder.exists()


def test_the_files_are_read(folder: Path, tmp_path: Path) -> None:
    alice, club = make_ssh_key(tmp_path, name="alice"), make_ssh_key(tmp_path, "ecdsa")
    company = Authority.make("Acme")
    (folder / "allowed_signers").write_text(f"# people\nalice {alice.public}\n")
    (folder / "issuers").write_text(f"club {club.public}")
    (folder / "domains").write_text("# companies\nACME.example\n\n bank.example \r\n")
    (folder / "ca").mkdir()
    (folder / "ca" / "acme.pem").write_text(pem(company.certificate))
    (folder / "ca" / ".acme.pem.swp").write_text("of an editor")
    trust = load_trust()
    assert [signer.principal for signer in trust.people] == ["alice"]
    assert [signer.principal for signer in trust.issuers] == ["club"]
    assert trust.domains == {"acme.example", "bank.example"}
    assert trust.companies == {"acme": (company.certificate,)}
    assert trust.public_roots is None


def test_a_folder_of_another_name_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_trust(tmp_path / "nowhere")


def test_a_folder_that_is_open_to_others_is_refused(folder: Path) -> None:
    for mode in (0o755, 0o770, 0o702):
        folder.chmod(mode)
        with pytest.raises(UsageError, match="is open to others"):
            load_trust()


def test_a_damaged_file_is_refused_with_its_path_and_line(folder: Path) -> None:
    (folder / "ca").mkdir()
    for name, content, words in (
        ("allowed_signers", b"\nalice\n", "line 2 of .*/allowed_signers cannot be used"),
        ("issuers", b"* ssh-ed25519 AAAA\n", "line 1 of .*/issuers cannot be used"),
        ("domains", b"acme.example\n*.acme.example\n", "line 2 of .*/domains is not a domain"),
        ("domains", b"\xff\n", "/domains is not text in UTF-8"),
        ("domains", b"#" * (MAX_FILE_BYTES + 1), "more than"),
        ("ca/acme.pem", b"", "acme.pem does not contain certificates in PEM"),
        ("ca/acme.pem", b"-----BEGIN CERTIFICATE-----\n", "does not contain certificates"),
        ("ca/acme.crt", b"", "acme.crt cannot name a company"),
        ("ca/ac me.pem", b"", "cannot name a company"),
    ):
        path = folder / name
        path.write_bytes(content)
        with pytest.raises(UsageError, match=words) as refusal:
            load_trust()
        assert (refusal.value.message + refusal.value.hint).isprintable()
        path.unlink()
    (folder / "domains").mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*/domains: Is a directory"):
        load_trust()


def test_there_are_at_most_32_companies(folder: Path) -> None:
    (folder / "ca").mkdir()
    content = pem(Authority.make().certificate)
    for number in range(MAX_COMPANIES + 1):
        (folder / "ca" / f"c{number}.pem").write_text(content)
    with pytest.raises(UsageError, match="has more than 32 files"):
        load_trust()


@pytest.mark.parametrize(
    "line",
    [
        *(
            "com",
            "*.example",
            "https://acme.example",
            "acme.example/",
            "acme.example.",
            ".acme.example",
            "acme..example",
        ),
        *("acme example", "b\u00fccher.example", "-a.example", "x" * 64 + ".example", "a." * 130 + "example"),
        *("2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion", "\x1b[2J.example"),
    ],
)
def test_what_is_not_a_domain_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match="line 1 of domains is not a domain") as refusal:
        parse_domains(line)
    assert refusal.value.message.isprintable()


def test_the_widest_listed_domain_covers_a_domain() -> None:
    trust = Trust(domains=parse_domains("acme.example\nshop.acme.example\nxn--bcher-kva.example\n"))
    assert trust.domain_of("acme.example") == "acme.example"
    assert trust.domain_of("a.shop.acme.example") == "acme.example"
    assert trust.domain_of("xn--bcher-kva.example") == "xn--bcher-kva.example"
    assert trust.domain_of("badacme.example") is None
    assert trust.domain_of("example") is None

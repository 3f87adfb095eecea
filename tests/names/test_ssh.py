"""Signatures by the real ssh-keygen, and lists of keys that it reads as well."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from onionmpc.errors import InvalidEvidence, UsageError
from onionmpc.names.allowed_signers import parse_allowed_signers
from onionmpc.names.ssh import BEGIN_SIGNATURE, END_SIGNATURE, NAMESPACE, check_key, parse_signature, verify
from tests.support.evidence import NOW, SshKey, armored_signature, make_ssh_key, signed_data, ssh_field

TEXT = "any text\n"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SshKey:
    return make_ssh_key(tmp_path_factory.mktemp("key"))


def principal(signers: str, armor: str, text: str = TEXT, now: datetime = NOW) -> str:
    return verify(text, parse_signature(armor), parse_allowed_signers(signers), now).principal


def takes(folder: Path, signers: str, name: str, armor: str) -> bool:
    """Whether ssh-keygen takes the signature for that name."""
    (folder / "signers").write_text(signers)
    (folder / "signature").write_text(armor)
    words = ["-Y", "verify", "-n", NAMESPACE, "-I", name, "-f", "signers", "-s", "signature"]
    command = ["ssh-keygen", *words, "-O", f"verify-time={NOW:%Y%m%d%H%M%S}"]
    environment = {"TZ": "UTC", "PATH": "/usr/bin:/bin"}
    return (
        subprocess.run(command, input=TEXT, text=True, cwd=folder, capture_output=True, env=environment).returncode == 0
    )


@contextlib.contextmanager
def time_zone(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_signature_by_ssh_keygen_is_verified(kind: str, hash_name: str, tmp_path: Path) -> None:
    key = make_ssh_key(tmp_path, kind)
    armor = key.sign(TEXT, hash_name=hash_name)
    assert principal(f"bob {key.public}", armor) == "bob"
    for text in ("any text", "Any text\n", "any text\r\n", ""):
        with pytest.raises(InvalidEvidence, match="for another text, or was altered"):
            principal(f"bob {key.public}", armor, text)


def test_a_signature_of_a_hardware_key_is_verified(tmp_path: Path) -> None:
    """Such keys sign the application and a counter too. ssh-keygen says that this one is made as they do."""
    secret = ed25519.Ed25519PrivateKey.generate()
    kind, application, flags_and_counter = b"sk-ssh-ed25519@openssh.com", b"ssh:", b"\x01" + (7).to_bytes(4)
    public = (
        ssh_field(kind)
        + ssh_field(secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        + ssh_field(application)
    )
    hashed = hashlib.sha256(application).digest() + flags_and_counter + hashlib.sha256(signed_data(TEXT)).digest()
    armor = armored_signature(public, ssh_field(kind) + ssh_field(secret.sign(hashed)) + flags_and_counter)
    line = f"carol {kind.decode()} {base64.b64encode(public).decode()}"
    assert takes(tmp_path, line, "carol", armor)
    assert principal(line, armor) == "carol"
    with pytest.raises(InvalidEvidence, match="altered"):
        principal(line, armor, "other")


def test_a_signature_over_sha_1_does_not_count(tmp_path: Path) -> None:
    secret = rsa.generate_private_key(65537, 2048)
    line = "bob " + secret.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    key = base64.b64decode(line.split()[2])
    old = secret.sign(signed_data(TEXT), padding.PKCS1v15(), SHA1())
    armor = armored_signature(key, ssh_field(b"ssh-rsa") + ssh_field(old))
    assert not takes(tmp_path, line, "bob", armor)
    with pytest.raises(InvalidEvidence, match="of the kind 'ssh-rsa', expected rsa-sha2-256 or rsa-sha2-512"):
        principal(line, armor)


def test_an_envelope_that_is_not_as_ssh_keygen_writes_it_is_refused(key: SshKey) -> None:
    whole = key.sign(TEXT)
    public = base64.b64decode(key.public.split()[1])
    for armor in (
        "",
        whole.replace("\n", "\r\n"),
        whole + "\n",
        "\n" + whole,
        whole[:100],
        whole.replace(END_SIGNATURE, ""),
        whole + whole,
        armored_signature(public, b"\xff\xff\xff\xff"),
        armored_signature(public, ssh_field(b"ssh-ed25519"), tail=b"x"),
        armored_signature(public, ssh_field(b"ssh-ed25519"), reserved=b"x"),
        armored_signature(public, ssh_field(b"ssh-ed25519"), hash_name=b"md5"),
        armored_signature(public, ssh_field(b"ssh-\xff")),
        armored_signature(public, b""),
        f"{BEGIN_SIGNATURE}\nQUJD\n{END_SIGNATURE}\n",
        f"{BEGIN_SIGNATURE}\n=\n{END_SIGNATURE}\n",
    ):
        with pytest.raises(InvalidEvidence, match="the SSH signature is damaged"):
            parse_signature(armor)


def test_a_signature_blob_of_any_form_is_refused(key: SshKey) -> None:
    public = base64.b64decode(key.public.split()[1])
    for blob in (
        b"",
        ssh_field(b""),
        ssh_field(b"x" * 64),
        ssh_field(b"x" * 64) + b"x",
        b"\0\0\0\xff",
        ssh_field(b"x" * 10_000),
    ):
        with pytest.raises(InvalidEvidence):
            principal(f"bob {key.public}", armored_signature(public, ssh_field(b"ssh-ed25519") + blob))


def test_a_key_of_one_kind_signs_in_no_other(key: SshKey) -> None:
    public = base64.b64decode(key.public.split()[1])
    with pytest.raises(InvalidEvidence, match="expected ssh-ed25519"):
        principal(f"bob {key.public}", armored_signature(public, ssh_field(b"rsa-sha2-512") + ssh_field(b"x" * 64)))


# Each reads as ssh-keygen reads it: the name that the signature then has, or the words of the refusal.
LINES = {
    "bob KEY": "bob",
    "bob KEY\r": "bob",
    "# comment\n\n  \n\tbob   KEY": "bob",
    "bob,robert KEY": "bob",
    '"bob,robert" KEY': "bob",
    "bob@acme.example KEY": "bob@acme.example",
    "other OTHER\nbob KEY\nrob KEY": "bob",
    'bob namespaces="statement@onionmpc" KEY': "bob",
    'bob namespaces="file,statement@*" KEY': "bob",
    'bob namespaces="statement?onionmpc" KEY': "bob",
    'bob NAMESPACES="*" KEY': "bob",
    'bob namespaces="file" KEY\nrob KEY': "rob",
    'bob valid-after="20261220",valid-before="20261221" KEY': "bob",
    'bob valid-after="202612201200" KEY': "bob",
    'bob valid-before="20261220120000" KEY': "bob",
    'bob valid-before="20261220",namespaces="*" KEY\nrob valid-after="20261219" KEY': "rob",
    'bob valid-before="20261220" KEY': "not valid now",
    'bob valid-before="20261220115959" KEY': "not valid now",
    'bob valid-after="20261221" KEY': "not valid now",
    'bob namespaces="file,git" KEY': "does not allow the key of bob",
    'bob namespaces="*,!statement@*" KEY': "does not allow the key of bob",
    'bob namespaces="!statement@onionmpc,*" KEY': "does not allow the key of bob",
    'bob namespaces="STATEMENT@onionmpc" KEY': "does not allow the key of bob",
    "bob OTHER": "does not have the key",
    "": "does not have the key",
    "# bob KEY": "does not have the key",
    "bob cert-authority OTHER": r"line 1 of allowed_signers cannot be used: a certificate authority",
    'bob namespaces="*",cert-authority KEY': "a certificate authority",
    "bob CERT-AUTHORITY KEY": "a certificate authority",
    "\n* KEY": "line 2 .*a pattern names nobody",
    "*@acme.example KEY": "a pattern names nobody",
    "bob,!rob KEY": "a pattern names nobody",
    "bob,,rob KEY": "the name is empty",
    "b\u00f6b KEY": "other characters than letters",
    "x" * 65 + " KEY": "longer than 64 characters",
    "KEY": "cannot be used",
    "bob": "expected a name",
    "bob no-touch-required KEY": "an option is not one of",
    'bob valid-after="2026" KEY': "expected a date",
    'bob valid-after="20261301" KEY': "cannot be used",
    'bob valid-after="" KEY': "has no value",
    'bob valid-after="20261221",valid-before="20261221" KEY': "not earlier",
    'bob namespaces="a",namespaces="*" KEY': "is there twice",
    'bob namespaces="* KEY': "expected a name",
    "bob namespaces=* KEY": "damaged",
    'bob namespaces="a"valid-after="20261221" KEY': "damaged",
    "bob ssh-dss AAAAB3NzaC1kc3MAAACBAN": "of one of the types",
    "bob ssh-ed25519-cert-v01@openssh.com AAAA": "of one of the types",
    "bob ssh-rsa SHORT": "not of the type ssh-rsa",
    "bob ssh-ed25519 AAAAA": "not base64",
}


@pytest.mark.parametrize(("lines", "expected"), LINES.items())
def test_a_list_is_read_as_ssh_keygen_reads_it_or_refused_with_words(
    lines: str, expected: str, key: SshKey, tmp_path: Path
) -> None:
    other = make_ssh_key(tmp_path, name="other")
    lines = lines.replace("KEY", key.public).replace("OTHER", other.public).replace("SHORT", key.public.split()[1])
    armor = key.sign(TEXT)
    with time_zone("UTC"):
        if expected not in ("bob", "rob", "bob@acme.example"):
            with pytest.raises(UsageError, match=expected) as refusal:
                principal(lines, armor)
            assert (refusal.value.message + refusal.value.hint).isprintable()
            return
        found = principal(lines, armor)
    assert found == expected
    assert takes(tmp_path, lines, found, armor)


@pytest.mark.parametrize("line", [line for line, words in LINES.items() if "valid now" in words or "allow" in words])
def test_what_a_list_does_not_allow_ssh_keygen_does_not_either(line: str, key: SshKey, tmp_path: Path) -> None:
    assert not takes(tmp_path, line.replace("KEY", key.public), "bob", key.sign(TEXT))


def test_dates_without_z_are_of_this_machine_s_time_zone(key: SshKey) -> None:
    with time_zone("EST5"):
        local, utc = parse_allowed_signers(
            f'a valid-after="202612200700" {key.public}\nb valid-after="202612201200Z" {key.public}\n'
        )
    assert local.valid_after == utc.valid_after == NOW


def test_a_listed_key_that_is_none_is_found(key: SshKey) -> None:
    kind, content = key.public.split()[:2]
    [whole] = parse_allowed_signers(f"bob {kind} {content}")
    check_key(whole)
    [short] = parse_allowed_signers(f"bob {kind} {content[:-4]}")
    with pytest.raises(UsageError, match="the key of bob is damaged"):
        check_key(short)

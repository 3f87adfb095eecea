"""What parties show of who they are: SSH keys and signatures by the real ssh-keygen, and certificates of any kind."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from onionmpc.identity import Onion
from onionmpc.names.allowed_signers import parse_allowed_signers
from onionmpc.names.examine import Context
from onionmpc.names.ssh import BEGIN_SIGNATURE, END_SIGNATURE, NAMESPACE
from onionmpc.names.statement import Statement, StatementPurpose, format_statement, roster_in_statement
from onionmpc.names.trust import Trust
from tests.support.identities import identity

ME, OTHER = identity(1).onion, identity(2).onion
NOW = datetime(2026, 12, 20, 12, 0, tzinfo=UTC)
PROGRAM = bytes(range(32))
ROSTER = "acid adam alarm album alert alex alice alpha amber anna"
CONTEXT = Context(onion=ME, program=PROGRAM, roster=ROSTER, now=NOW)
STATEMENT = Statement(
    onion=ME,
    purpose=StatementPurpose.PARTY,
    program=PROGRAM,
    roster=roster_in_statement(ROSTER),
    start=datetime(2026, 12, 1, tzinfo=UTC),
    until=datetime(2027, 2, 28, tzinfo=UTC),
)
REVIEW = replace(STATEMENT, onion=None, purpose=StatementPurpose.PROGRAM, roster=None)


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key pair of ssh-keygen's, in a file."""

    file: Path

    @property
    def public(self) -> str:
        """The public key: a type, base64 and a comment."""
        return self.file.with_suffix(".pub").read_text().strip()

    def sign(self, text: str, namespace: str = NAMESPACE, hash_name: str = "sha512") -> str:
        """Sign a text, and return the armored signature."""
        words = ["-Y", "sign", "-q", "-n", namespace, "-f", str(self.file), "-O", f"hashalg={hash_name}"]
        command = ["ssh-keygen", *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    def piece(self, statement: Statement = STATEMENT, **changes: Any) -> str:
        """Return a signed statement, as parties send it."""
        text = format_statement(replace(statement, **changes))
        return text + self.sign(text)


def make_ssh_key(folder: Path, kind: str = "ed25519", name: str = "") -> SshKey:
    """Make a key pair."""
    file = folder / (name or kind)
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "a comment", "-f", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return SshKey(file)


def ssh_field(content: bytes) -> bytes:
    """Return bytes with their length before them, as all of SSH's formats have them."""
    return len(content).to_bytes(4) + content


def signed_data(text: str) -> bytes:
    """Return what a key signs for a text."""
    fields = (NAMESPACE.encode(), b"", b"sha512", hashlib.sha512(text.encode()).digest())
    return b"SSHSIG" + b"".join(map(ssh_field, fields))


def armored_signature(
    key: bytes, signature: bytes, *, tail: bytes = b"", reserved: bytes = b"", hash_name: bytes = b"sha512"
) -> str:
    """Return a signature's envelope, which may be one that ssh-keygen never writes."""
    fields = (key, NAMESPACE.encode(), reserved, hash_name, signature)
    content = b"SSHSIG" + (1).to_bytes(4) + b"".join(map(ssh_field, fields)) + tail
    return f"{BEGIN_SIGNATURE}\n{base64.b64encode(content).decode()}\n{END_SIGNATURE}\n"


def trusting(people: str = "", issuers: str = "", **files: Any) -> Trust:
    """Return trust in the keys of these lines."""
    return Trust(people=parse_allowed_signers(people), issuers=parse_allowed_signers(issuers), **files)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: a root, or one below another."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def make(
        cls,
        name: str = "Root",
        above: Authority | None = None,
        *extensions: x509.ExtensionType,
        path_length: int | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Authority:
        """Make an authority that counts in the years 2020 to 2040."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, above, key, datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return cls(builder.sign(above.key if above else key, hashes.SHA256()), key)

    def certify(
        self,
        *names: str,
        extensions: Sequence[x509.ExtensionType] = (),
        start: datetime = NOW - timedelta(days=10),
        until: datetime = NOW + timedelta(days=14),
    ) -> x509.Certificate:
        """Return a certificate of a server with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("", self, key, start, until)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=True)  # since there is no subject
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> str:
    """Return certificates as parties send them."""
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)


def sauteed(onion: Onion, domain: str) -> str:
    """Return the name for an address below a domain."""
    return f"{onion.removesuffix('.onion')}onion.{domain}"


def _builder(
    name: str, above: Authority | None, key: ec.EllipticCurvePrivateKey, start: datetime, until: datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    issuer_key = above.key if above else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.certificate.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )

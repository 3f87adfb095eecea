"""Reads whom this user trusts to prove names: the files of one private folder, written by the user alone.

Knows the folder and its files. What a piece of evidence proves by them is for onionmpc.names.examine.
Formats: docs/reference/evidence.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from onionmpc import files
from onionmpc.errors import UsageError
from onionmpc.names.allowed_signers import Signer, parse_allowed_signers
from onionmpc.names.certificates import load_pem
from onionmpc.text import printable

TRUST_NAME = "trust"
PEOPLE_NAME = "allowed_signers"
ISSUERS_NAME = "issuers"
DOMAINS_NAME = "domains"
COMPANIES_NAME = "ca"
COMPANY_SUFFIX = ".pem"
COMPANY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Letters, digits and dashes, as in certificates: other scripts are written as xn--. At least two labels, since "com"
# would make a known party of the owner of any .com domain.
DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAX_DOMAIN_CHARACTERS = 253
MAX_FILE_BYTES = 2**20  # some thousand keys
MAX_COMPANIES = 32  # each certificate of a peer is tried against each


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom this user trusts to prove names. By default, nobody.

    Attributes:
        people: keys that name their owners.
        issuers: keys that vouch for others, without naming them.
        domains: domains that name the owner of a certificate for them, from a public certificate authority.
        companies: the certificate authorities of companies, by the name that each gives to everyone that it certifies.
        public_roots: certificates of public certificate authorities; None for those that the package certifi lists.
    """

    people: tuple[Signer, ...] = ()
    issuers: tuple[Signer, ...] = ()
    domains: frozenset[str] = frozenset()
    companies: Mapping[str, tuple[x509.Certificate, ...]] = field(default_factory=dict)
    public_roots: tuple[x509.Certificate, ...] | None = None

    def domain_of(self, domain: str) -> str | None:
        """Return the listed domain that covers a domain, or None. Of several it is the widest, so that one owner has
        one name."""
        covering = (listed for listed in self.domains if domain == listed or domain.endswith(f".{listed}"))
        return min(covering, key=len, default=None)


def trust_folder() -> Path:
    """Return the folder of this user."""
    return files.state_directory() / TRUST_NAME


def load_trust(folder: Path | None = None) -> Trust:
    """Read the folder. A file that is missing means nobody.

    Args:
        folder: None for this user's own, which may be missing too.

    Raises:
        UsageError: a file is damaged or cannot be read, the folder is open to others, or `folder` does not exist.
    """
    if folder is None:
        folder = trust_folder()
        if not folder.exists():
            return Trust()
    elif not folder.is_dir():
        raise UsageError(f"the folder {folder} does not exist", hint="onionmpc trust --help explains what is in it")
    # A user who can write there decides who is known here; one who can read there learns which parties this user knows.
    files.private_directory(folder)
    return Trust(
        people=parse_allowed_signers(_read(folder / PEOPLE_NAME), str(folder / PEOPLE_NAME)),
        issuers=parse_allowed_signers(_read(folder / ISSUERS_NAME), str(folder / ISSUERS_NAME)),
        domains=parse_domains(_read(folder / DOMAINS_NAME), str(folder / DOMAINS_NAME)),
        companies=_companies(folder / COMPANIES_NAME),
    )


def parse_domains(text: str, file: str = DOMAINS_NAME) -> frozenset[str]:
    """Parse a list of domains, one a line. Empty lines and those that start with # are skipped.

    Raises:
        UsageError: names the first line that is not a domain.
    """
    domains = set[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        domain = line.strip().lower()
        if not domain or domain.startswith("#"):
            continue
        if not DOMAIN.fullmatch(domain) or len(domain) > MAX_DOMAIN_CHARACTERS or domain.endswith(".onion"):
            raise UsageError(
                f"line {number} of {file} is not a domain: {printable(ascii(domain), 80)}",
                hint="write a domain such as acme.example, without https:// and without *; other scripts as xn--",
            )
        domains.add(domain)
    return frozenset(domains)


def _companies(folder: Path) -> dict[str, tuple[x509.Certificate, ...]]:
    companies = dict[str, tuple[x509.Certificate, ...]]()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        if path.suffix != COMPANY_SUFFIX or not COMPANY.fullmatch(path.stem):
            raise UsageError(
                f"{path} cannot name a company",
                hint="name it NAME.pem, with 1 to 64 letters, digits, dots, dashes and underscores in NAME",
            )
        if len(companies) >= MAX_COMPANIES:
            raise UsageError(f"{folder} has more than {MAX_COMPANIES} files, the most that are read")
        try:
            companies[path.stem] = load_pem(_read(path))
        except ValueError as error:
            raise UsageError(
                f"{path} does not contain certificates in PEM",
                hint="such a file begins with -----BEGIN CERTIFICATE-----",
            ) from error
    return companies


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="it must be a file that you own") from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{path} has more than {MAX_FILE_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8") from error

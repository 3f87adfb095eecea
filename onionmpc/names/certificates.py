"""Certificates (X.509) that name an onion address: who certified it, and for which domain.

Knows the two ways in which a certificate can name an address, and leaves chains to the verifier of `cryptography`.
Revocation is not checked: asking a certificate authority would show it who computes together. Does not know whose
domains count. Rules: docs/reference/evidence.md.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import certifi
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from onionmpc.errors import InvalidEvidence
from onionmpc.identity import Onion
from onionmpc.identity.address import ONION_SUFFIX
from onionmpc.names.warnings_of_certificates import without_warnings
from onionmpc.text import printable

BEGIN_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
END_CERTIFICATE = "-----END CERTIFICATE-----"
# A leaf, and intermediates: public authorities use one or two. Each one more is work for whoever verifies.
MAX_CERTIFICATES = 6
MAX_NAMES = 100  # as the largest public authority allows
ONION_LABEL = "onion"


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate that names an address, with its intermediates. Nobody has verified it.

    Attributes:
        domains: that it names beside the address, so that the holder controls both; lower case.
        name: the one of its names that holds the address.
    """

    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    domains: tuple[str, ...]
    name: str

    @property
    def until(self) -> datetime:
        """When the certificate expires, in UTC."""
        return self.leaf.not_valid_after_utc

    @property
    def issuer(self) -> str:
        """What its issuer calls itself; safe to print. True only if a trusted root leads to it."""
        for attribute in self.leaf.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
            return printable(ascii(str(attribute.value))[1:-1], 60)
        return "an authority without a name"


def parse_certificates(piece: str) -> tuple[x509.Certificate, ...]:
    """Parse certificates in PEM: one, and its intermediates.

    Raises:
        InvalidEvidence: there are too many, or one is damaged.
    """
    count = piece.count(BEGIN_CERTIFICATE)
    if count > MAX_CERTIFICATES:
        raise InvalidEvidence(f"there are {count} certificates, expected at most {MAX_CERTIFICATES}")
    try:
        return load_pem(piece)
    except ValueError as error:
        raise InvalidEvidence("a certificate is damaged", hint="use the file in PEM, with the whole chain") from error


def find_address(certificates: Sequence[x509.Certificate], onion: Onion) -> Certificates:
    """Find an address among the names of the first certificate.

    Raises:
        InvalidEvidence: it does not name that address.
    """
    leaf, *intermediates = certificates
    names = _names(leaf)
    # Compared as they are written, and never with a wildcard. A verifier would also take *.acme.example for any label,
    # and that certificate says nothing about the address.
    label = f"{onion.removesuffix(ONION_SUFFIX)}{ONION_LABEL}."
    beside = sorted(name for name in names if not name.endswith(ONION_SUFFIX) and not name.startswith(label))
    if onion in names:
        return Certificates(leaf, tuple(intermediates), tuple(beside), onion)
    # The domain itself has to be there: else the owner of a part of it (a subdomain, a customer) could be named after
    # the whole.
    if domains := [domain for domain in beside if label + domain in names]:
        return Certificates(leaf, tuple(intermediates), tuple(domains), label + domains[0])
    raise InvalidEvidence("the certificate does not name this address, as it is written and beside its domain")


def verify(certificates: Certificates, roots: Sequence[x509.Certificate], now: datetime) -> None:
    """Verify that a chain leads from a certificate to one of these roots, now, for the name that holds the address.

    Raises:
        InvalidEvidence: it does not, or the certificate is not valid now.
    """
    leaf = certificates.leaf
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise InvalidEvidence(
            f"the certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {certificates.until:%Y-%m-%d}"
        )
    try:
        builder = PolicyBuilder().store(Store(list(roots))).time(now)
        verifier = builder.build_server_verifier(x509.DNSName(certificates.name))
        with without_warnings():
            verifier.verify(leaf, list(certificates.intermediates))
    except (VerificationError, ValueError, UnsupportedAlgorithm) as error:
        raise InvalidEvidence(
            f"no valid chain leads to a root that you trust ({printable(str(error), 120)})"
        ) from error


@functools.cache
def public_roots() -> tuple[x509.Certificate, ...]:
    """Return the roots of public certificate authorities, as the package certifi has them."""
    return load_pem(certifi.contents())


def load_pem(text: str) -> tuple[x509.Certificate, ...]:
    """Load certificates in PEM.

    Raises:
        ValueError: there is none, or one is damaged.
    """
    try:
        with without_warnings():
            return tuple(x509.load_pem_x509_certificates(text.encode()))
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        with without_warnings():
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError) as error:
        raise InvalidEvidence("the certificate has no readable list of names (SAN)") from error
    names = extension.value.get_values_for_type(x509.DNSName)
    if len(names) > MAX_NAMES:
        raise InvalidEvidence(f"the certificate has {len(names)} names, expected at most {MAX_NAMES}")
    return frozenset(name.lower() for name in names if "*" not in name)

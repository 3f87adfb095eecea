"""A web site, by its domain and port. Only a domain name: an exit relay must be able to resolve it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from onionmpc.errors import UsageError
from onionmpc.text import printable

HTTPS_PORT = 443
MAX_SITE_CHARACTERS = 253
# RFC 1034 section 3.5, with at least two labels. The last one begins with a letter, so this is not an IP address.
DOMAIN_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
SITE_DOMAIN = re.compile(rf"(?:{DOMAIN_LABEL}\.)+(?=[a-z]){DOMAIN_LABEL}")
DOMAIN_HINT = "give the domain alone, such as acme.example; write letters beyond a to z in their ASCII form, xn--..."
PORT = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class WebSite:
    """A site that is reached by HTTPS."""

    domain: str
    port: int = HTTPS_PORT

    def __str__(self) -> str:
        """Return it as in a URL."""
        return self.domain if self.port == HTTPS_PORT else f"{self.domain}:{self.port}"


def parse_site(text: str) -> WebSite:
    """Parse "DOMAIN" or "DOMAIN:PORT".

    Raises:
        UsageError: it is neither.
    """
    domain, colon, port = text.strip().lower().partition(":")
    # Of the text as it was typed: lower() turns U+212A, the Kelvin sign, into "k".
    if not text.isascii() or not SITE_DOMAIN.fullmatch(domain) or len(domain) > MAX_SITE_CHARACTERS:
        raise UsageError(f"{printable(ascii(text), 80)} is not a domain name", hint=DOMAIN_HINT)
    if domain.endswith(".onion"):
        raise UsageError(
            f"{printable(domain, 80)} is an onion address, which no exit relay can reach",
            hint="keep an address with: onionmpc contact add NAME ADDRESS",
        )
    if not colon:
        return WebSite(domain)
    if not PORT.fullmatch(port) or int(port) >= 2**16:
        raise UsageError(f"{printable(ascii(port), 40)} is not a port, expected 1 to 65535", hint=DOMAIN_HINT)
    return WebSite(domain, int(port))

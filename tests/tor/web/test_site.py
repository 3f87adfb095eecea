"""Domains as people type them."""

from __future__ import annotations

import pytest

from onionmpc.errors import UsageError
from onionmpc.tor.web.site import WebSite, parse_site


@pytest.mark.parametrize(
    ("text", "site", "shown"),
    [
        ("acme.example", WebSite("acme.example"), "acme.example"),
        (" ACME.Example ", WebSite("acme.example"), "acme.example"),
        ("www.a-1.xn--p1ai", WebSite("www.a-1.xn--p1ai"), "www.a-1.xn--p1ai"),
        ("acme.example:8443", WebSite("acme.example", 8443), "acme.example:8443"),
        ("acme.example:443", WebSite("acme.example"), "acme.example"),
    ],
)
def test_a_domain_may_have_a_port(text: str, site: WebSite, shown: str) -> None:
    assert parse_site(text) == site
    assert str(site) == shown


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "localhost",
            "acme",
            ".example",
            "acme..example",
            "acme.example.",
            "-a.example",
            "a-.example",
            "a_b.example",
        ),
        *("127.0.0.1", "[::1]", "1.2.3.4:443", "acme.example/page", "https://acme.example", "user@acme.example"),
        *("k\u00e4se.example", "\u212aacme.example", "acme.example\n.x", "a b.example", f"{'a' * 64}.example"),
        ".".join(["a" * 60] * 5),
    ],
)
def test_anything_else_is_no_domain(text: str) -> None:
    with pytest.raises(UsageError, match="is not a domain name") as raised:
        parse_site(text)
    assert raised.value.message.isprintable()


def test_a_wrong_port_and_an_onion_address_are_named() -> None:
    for port in ("", "0", "65536", "080", "x", "-1", "1:2"):
        with pytest.raises(UsageError, match="is not a port"):
            parse_site(f"acme.example:{port}")
    with pytest.raises(UsageError, match="which no exit relay can reach"):
        parse_site("a" * 56 + ".onion")

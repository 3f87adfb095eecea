"""Bridge lines: which are accepted, which are refused, and that none becomes more than one line of a torrc."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import InvalidBridge
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.bridges import MAX_ARGUMENTS_BYTES, MAX_LINE_CHARACTERS, Bridge, parse_bridge

FINGERPRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
CERT = "cert=ssH+9rP8dG2NLDN2XuFw63hIO/9MNNinLmxQDpVa+7kTOa9/m+tGWT1SmSYpQ9uTBGa6Hw"
LINES = {
    "plain": "192.0.2.7:443",
    "plain, known": f"192.0.2.7:443 {FINGERPRINT}",
    "IPv6": f"[2001:db8::7]:9001 {FINGERPRINT}",
    "obfs4": f"obfs4 192.0.2.7:443 {FINGERPRINT} {CERT} iat-mode=0",
    "without a fingerprint": f"obfs4 192.0.2.7:443 {CERT} iat-mode=0",
    "webtunnel": f"webtunnel [2001:db8::7]:443 {FINGERPRINT} url=https://example.com/a%20b?c=d ver=0.0.1",
    "snowflake": f"snowflake 192.0.2.3:80 {FINGERPRINT} fronts=a.example,b.example ice=stun:c.example:3478",
    "an argument with nothing in it": "obfs4 192.0.2.7:443 cert=",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_bridge_line_survives_reading_and_writing(line: str) -> None:
    assert str(parse_bridge(line)) == line


def test_a_line_from_a_torrc_is_accepted_in_any_spelling() -> None:
    assert str(parse_bridge(f"  Bridge  obfs4   192.0.2.7:443 {FINGERPRINT.lower()}  {CERT} ")) == (
        f"obfs4 192.0.2.7:443 {FINGERPRINT.lower()} {CERT}"
    )


NONE = {
    "": "the line is empty",
    "Bridge": "the line is empty",
    "obfs4": "no address follows obfs4",
    "192.0.2.7": "192.0.2.7 is not IP:PORT, such as 192.0.2.7:443",
    "192.0.2.256:443": "192.0.2.256:443 is not IP:PORT",
    "192.0.2.07:443": "192.0.2.07:443 is not IP:PORT",
    "bridge.example:443": "bridge.example:443 is not IP:PORT",
    "2001:db8::7:443": "2001:db8::7:443 is not IP:PORT",
    "[192.0.2.7]:443": "[192.0.2.7]:443 is not IP:PORT",
    "[fe80::1%eth0]:443": "[fe80::1%eth0]:443 is not IP:PORT",
    "192.0.2.7:0": "0 is not a port",
    "192.0.2.7:65536": "65536 is not a port",
    f"192.0.2.7:443 {FINGERPRINT[:-1]}": f"{FINGERPRINT[:-1]} is not a fingerprint of 40 hex digits",
    f"192.0.2.7:443 {FINGERPRINT[:-1]}G": "is not a fingerprint of 40 hex digits",
    f"192.0.2.7:443 ${FINGERPRINT}": "is not a fingerprint of 40 hex digits",
    f"192.0.2.7:443 {FINGERPRINT} iat-mode=0": "it has arguments, but no transport that takes them",
    f"obfs4 192.0.2.7:443 {FINGERPRINT} iat-mode": "iat-mode is not KEY=VALUE",
    f"obfs4 192.0.2.7:443 {FINGERPRINT} =0": "=0 is not KEY=VALUE",
    "obfs4 192.0.2.7:443 a=b#c": "a=b#c is not KEY=VALUE",
    "obfs4 192.0.2.7:443 a=b\\": "a=b\\ is not KEY=VALUE",
    'obfs4 192.0.2.7:443 a="b"': 'a="b" is not KEY=VALUE',
    "192.0.2.7:443\nSocksPort 9050": "the line holds '\\n', expected plain characters and spaces",
    "192.0.2.7:443\rSocksPort 9050": "the line holds '\\r'",
    "192.0.2.7:443\x00": "the line holds '\\x00'",
    "192.0.2.7:443\t\x1b[2J": "the line holds '\\t'",
    "192.0.2.7:443 \u2028": "the line holds '\\u2028'",
    "١٩٢.0.2.7:443": "the line holds '\\u0661'",
    "x" * (MAX_LINE_CHARACTERS + 1): f"the line has {MAX_LINE_CHARACTERS + 1} characters",
    f"obfs4 192.0.2.7:443 a={'b' * MAX_ARGUMENTS_BYTES}": f"the arguments have {MAX_ARGUMENTS_BYTES + 2} bytes",
    f"obfs4 192.0.2.7:443 a={';' * 255}": "the arguments have 512 bytes",
}


@pytest.mark.parametrize(("line", "sentence"), NONE.items(), ids=[line[:60] for line in NONE])
def test_text_that_is_not_a_bridge_line_is_refused_with_the_reason(line: str, sentence: str) -> None:
    with pytest.raises(InvalidBridge) as raised:
        parse_bridge(line)
    assert sentence in raised.value.message
    assert "expected [TRANSPORT] IP:PORT" in raised.value.hint


def test_a_refusal_shows_one_word_and_not_the_bridge() -> None:
    with pytest.raises(InvalidBridge) as raised:
        parse_bridge(f"obfs4 192.0.2.7:443 {FINGERPRINT} {CERT} iat-mode")
    told = raised.value.message + raised.value.hint + repr(raised.value)
    assert not any(secret in told for secret in ("192.0.2.7 ", "192.0.2.7:443 " + FINGERPRINT, FINGERPRINT, CERT))


def test_a_bridge_is_shown_only_by_str() -> None:
    bridge = parse_bridge(LINES["obfs4"])
    assert repr(bridge) == "Bridge(transport='obfs4')"
    assert "192.0.2.7" not in repr(TorOptions(bridges=(bridge,)))


def test_a_bridge_that_would_be_another_torrc_line_cannot_be_built() -> None:
    host = IPv4Address("192.0.2.7")
    for fields in (
        ("obfs4\nSocksPort", host, 443),
        ("", host, 443, FINGERPRINT + "\n"),
        ("obfs4", host, 443, "", ("a=b\nSocksPort 9050",)),
        ("obfs4", host, 443, "", ("a=b c",)),
    ):
        with pytest.raises(InvalidBridge):
            Bridge(*fields)


# Words that are almost right get further than random ones.
PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["Bridge", "obfs4", "192.0.2.7:443", "[2001:db8::7]:9001", FINGERPRINT, CERT, "iat-mode=0"]),
    st.sampled_from([" ", "\n", "\r", "\t", "#", "\\", '"', "\\\n", "\x85", "="]),
)


@given(st.lists(PIECES, max_size=8), st.sampled_from(["", " "]))
def test_pasted_text_becomes_one_torrc_line_or_is_refused(pieces: list[str], between: str) -> None:
    try:
        line = str(parse_bridge(between.join(pieces)))
    except InvalidBridge:
        return
    assert line.isascii()
    assert line.isprintable()
    assert not set(line) & set('#"\\')


@given(
    st.sampled_from(["", "obfs4", "meek_lite"]),
    st.ip_addresses(),
    st.integers(1, 2**16 - 1),
    st.sampled_from(["", FINGERPRINT]),
    st.lists(st.from_regex(r"[a-z-]{1,9}=[!$-\[\]-~]{0,40}", fullmatch=True), max_size=5),
)
def test_each_bridge_is_read_from_its_own_line(
    transport: str, host: IPv4Address | IPv6Address, port: int, fingerprint: str, arguments: list[str]
) -> None:
    bridge = Bridge(transport, host, port, fingerprint, tuple(arguments) if transport else ())
    assert parse_bridge(str(bridge)) == bridge

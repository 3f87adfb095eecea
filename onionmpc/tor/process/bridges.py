"""Bridges: unlisted relays, through which a tor can enter its network. Each circuit then begins with one.

It parses bridge lines strictly, since a line comes from a mail or a web page and ends up in a torrc. transports.py
finds the programs for pluggable transports. Source: tor's man page, "Bridge"; parse_bridge_line of tor 0.4.9.11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from onionmpc.errors import InvalidBridge
from onionmpc.text import printable

FORM = "expected [TRANSPORT] IP:PORT [FINGERPRINT] [KEY=VALUE ...], as https://bridges.torproject.org writes it"
MAX_LINE_CHARACTERS = 1024
# tor passes all arguments to the transport, joined by ";", as the user name and password of a SOCKS request.
MAX_ARGUMENTS_BYTES = 2 * 255
TRANSPORT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
BRIDGE_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40}")
PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")
# Printable characters, except those with a meaning in a torrc: the double quote, # (starts a comment) and \ (continues
# the line).
ARGUMENT = re.compile(r"[A-Za-z0-9_-]{1,32}=[!$-\[\]-~]*")
# An error shows only this much of the wrong word, and nothing of the rest of the line, which names someone's bridge.
SHOWN_WORD_CHARACTERS = 40


@dataclass(frozen=True, slots=True, repr=False)
class Bridge:
    """A bridge, and how to reach it. Anyone who knows it can block it, so only `str` shows it.

    Attributes:
        transport: the pluggable transport that leads to it, or an empty string.
        host: its address. Some transports ignore it, because they reach the bridge in another way.
        port: 1 to 65535.
        fingerprint: 40 hex digits, or an empty string: then tor accepts any relay that answers there.
        arguments: for the transport, each "KEY=VALUE".
    """

    transport: str
    host: IPv4Address | IPv6Address
    port: int
    fingerprint: str = ""
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not a bridge, or would be another line in a torrc.

        Raises:
            InvalidBridge: it is not a bridge.
        """
        if self.transport and not TRANSPORT.fullmatch(self.transport):
            raise _invalid(f"{_shown(self.transport)} is not the name of a transport")
        if not 0 < self.port < 2**16:
            raise _invalid(f"{self.port} is not a port, expected 1 to 65535")
        if self.fingerprint and not BRIDGE_FINGERPRINT.fullmatch(self.fingerprint):
            raise _invalid(f"{_shown(self.fingerprint)} is not a fingerprint of 40 hex digits")
        if self.arguments and not self.transport:
            raise _invalid("it has arguments, but no transport that takes them")
        for argument in self.arguments:
            if not ARGUMENT.fullmatch(argument):
                raise _invalid(f"{_shown(argument)} is not KEY=VALUE")
        if (length := len(";".join(self.arguments).replace(";", "\\;"))) > MAX_ARGUMENTS_BYTES:
            raise _invalid(f"the arguments have {length} bytes, expected {MAX_ARGUMENTS_BYTES} or fewer")

    def __str__(self) -> str:
        """Return its bridge line, which `parse_bridge` reads."""
        host = f"[{self.host}]" if self.host.version == 6 else str(self.host)
        return " ".join(filter(None, [self.transport, f"{host}:{self.port}", self.fingerprint, *self.arguments]))

    def __repr__(self) -> str:
        return f"Bridge(transport={self.transport!r})"


def parse_bridge(line: str) -> Bridge:
    """Read a bridge line, with or without the word "Bridge" with which it begins in a torrc.

    Raises:
        InvalidBridge: it is not a bridge line. The message shows the wrong word, and nothing else of the line.
    """
    if len(line) > MAX_LINE_CHARACTERS:
        raise _invalid(f"the line has {len(line)} characters, expected {MAX_LINE_CHARACTERS} or fewer")
    if not (line.isascii() and line.isprintable()):
        strange = next(character for character in line if not (character.isascii() and character.isprintable()))
        raise _invalid(f"the line holds {strange!a}, expected plain characters and spaces")
    words = line.split()
    if words and words[0].lower() == "bridge":
        del words[0]
    transport = words.pop(0) if words and TRANSPORT.fullmatch(words[0]) else ""
    if not words:
        raise _invalid(f"no address follows {_shown(transport)}" if transport else "the line is empty")
    host, port = _parse_place(words.pop(0))
    fingerprint = words.pop(0) if words and "=" not in words[0] else ""
    return Bridge(transport, host, port, fingerprint, tuple(words))


def _parse_place(word: str) -> tuple[IPv4Address | IPv6Address, int]:
    if match := PLACE.fullmatch(word):
        try:
            return IPv6Address(match[1]) if match[1] else IPv4Address(match[2]), int(match[3])
        except AddressValueError:
            pass
    # Names are not resolved: the query would reveal the bridge to a DNS server.
    raise _invalid(f"{_shown(word)} is not IP:PORT, such as 192.0.2.7:443 or [2001:db8::7]:443")


def _shown(word: str) -> str:
    return printable(word, SHOWN_WORD_CHARACTERS)


def _invalid(message: str) -> InvalidBridge:
    return InvalidBridge(f"this is not a bridge line: {message}", hint=FORM)

"""Probes what listens at an endpoint: a control port, a SOCKS port, something else or nothing.

It sends PROTOCOLINFO, which needs no login and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import re
from dataclasses import dataclass

from onionmpc.tor.endpoint import Endpoint

PROBE_TIMEOUT_S = 5.0
ANSWER_LIMIT_BYTES = 4096  # a PROTOCOLINFO answer has about 200


class ListenerKind(enum.Enum):
    """What listens at an endpoint."""

    NOTHING = "nothing"
    FORBIDDEN = "something that we may not connect to"
    CONTROL = "a control port"
    SOCKS = "a SOCKS port"
    OTHER = "something that is not tor"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe saw.

    Attributes:
        kind: what listens there.
        methods: ways to log in, in tor's words: "NULL", "HASHEDPASSWORD", "COOKIE", "SAFECOOKIE".
        cookie_file: where tor says its cookie is, or an empty string.
        version: tor's version, or an empty string.
    """

    kind: ListenerKind
    methods: frozenset[str] = frozenset()
    cookie_file: str = ""
    version: str = ""


async def probe(endpoint: Endpoint, timeout_s: float = PROBE_TIMEOUT_S) -> Probe:
    """Ask `endpoint` what it is. Never raises because of what it finds."""
    until_s = asyncio.get_running_loop().time() + timeout_s
    try:
        async with asyncio.timeout_at(until_s):
            connection = await endpoint.connect()
    except PermissionError:
        return Probe(ListenerKind.FORBIDDEN)
    except (OSError, TimeoutError):
        return Probe(ListenerKind.NOTHING)
    reader, writer = await asyncio.open_connection(sock=connection)
    answer = b""
    try:
        # A listener that waits for more input is not a control port, so a timeout is an answer too.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout_at(until_s):
                writer.write(b"PROTOCOLINFO 1\r\n")
                while not answer.endswith(b"250 OK\r\n") and len(answer) < ANSWER_LIMIT_BYTES:
                    if not (more := await reader.read(ANSWER_LIMIT_BYTES)):
                        break
                    answer += more
    finally:
        writer.transport.abort()
    return parse_answer(answer)


def parse_answer(answer: bytes) -> Probe:
    """Interpret the answer to PROTOCOLINFO. Source: control-spec, "PROTOCOLINFO"."""
    text = answer.decode("utf-8", "replace")
    if methods := re.search(r"^250-AUTH METHODS=(\S+)", text, re.MULTILINE):
        cookie = re.search(r'COOKIEFILE="((?:[^"\\]|\\.)*)"', text)
        version = re.search(r'^250-VERSION Tor="([^"]*)"', text, re.MULTILINE)
        return Probe(
            ListenerKind.CONTROL,
            frozenset(methods[1].split(",")),
            _unescaped(cookie[1]) if cookie else "",
            version[1] if version else "",
        )
    # tor's SOCKS port takes "P" for the start of an HTTP request, and replies in HTTP.
    if text.startswith("HTTP/1.0 501 Tor is not an HTTP Proxy"):
        return Probe(ListenerKind.SOCKS)
    return Probe(ListenerKind.OTHER)


def _unescaped(text: str) -> str:
    """Read the inside of a QuotedString, in which tor writes each byte beyond ASCII as three octal digits."""

    def character(match: re.Match[str]) -> str:
        word = match[1]
        return chr(int(word, 8) & 0xFF) if word[0] in "01234567" else {"n": "\n", "t": "\t", "r": "\r"}.get(word, word)

    return os.fsdecode(re.sub(r"\\([0-7]{1,3}|.)", character, text).encode("latin-1", "replace"))

"""A filter before a control port that does as a profile of onion-grater says, the filter of Tails and Whonix.

Written after the description of the format at the head of that program, and after what it answers
(https://github.com/Whonix/onion-grater, usr/lib/onion-grater): one command in a line; what no pattern matches whole is
answered with "510 Command filtered"; of events, all that a SETEVENTS names must be allowed. Who asks is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FILTERED = "510 Command filtered"
LINE_LIMIT_BYTES = 10 * 1024  # that of the original


@dataclass
class Profile:
    """What is let through.

    Attributes:
        commands: by name in capitals, rules: `pattern`, and maybe `replacement` and `response`.
        events: by name, what becomes of their lines.
    """

    commands: dict[str, list[dict[str, Any]]]
    events: dict[str, list[dict[str, str]]]

    def rule(self, line: str) -> dict[str, Any] | None:
        """Return the rule that lets this command through."""
        word, _, rest = line.partition(" ")
        rules = self.commands.get(word.upper(), [])
        return next((rule for rule in rules if re.fullmatch(rule["pattern"], rest)), None)

    def command(self, line: str, client: str) -> str | None:
        """Return what tor gets of a command, if anything."""
        if line.upper().startswith("SETEVENTS"):
            return line if {event.upper() for event in line.split()[1:]} <= self.events.keys() else None
        if (rule := self.rule(line)) is None:
            return None
        if "replacement" not in rule:
            return line
        word, _, rest = line.partition(" ")
        return f"{word} {rewritten([rule], rest, client)}"

    def event(self, line: str) -> str:
        """Return what the client gets of an event, if anything."""
        return rewritten(self.events.get(line.split()[1], []), line)


def read_profile(path: Path) -> Profile:
    """Read a file that has one profile."""
    (filter_,) = yaml.safe_load(path.read_text(encoding="utf-8"))
    commands = {
        word.upper(): [{"pattern": rule} if isinstance(rule, str) else rule for rule in rules]
        for word, rules in filter_["commands"].items()
    }
    events = {word.upper(): (options or {}).get("response", []) for word, options in filter_["events"].items()}
    return Profile(commands, events)


def rewritten(rules: list[dict[str, str]], line: str, client: str = "") -> str:
    """Return the line as the first rule that matches it whole would have it."""
    for rule in rules:
        if match := re.fullmatch(rule["pattern"], line):
            return rule["replacement"].format(*match.groups(), **{"client-address": client})
    return line


@dataclass
class Grater:
    """One filter.

    Attributes:
        refused: the commands that it did not let through.
        passed: the commands that tor got.
    """

    profile: Profile
    control: tuple[str, int]
    cookie: Path
    refused: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        client, _ = writer.get_extra_info("peername")
        from_tor, to_tor = await asyncio.open_connection(*self.control)
        rules: asyncio.Queue[list[dict[str, str]]] = asyncio.Queue()
        back = asyncio.create_task(self._bring_back(from_tor, writer, rules))

        def ask(line: str, rule: dict[str, Any] | None) -> None:
            rules.put_nowait((rule or {}).get("response", []))
            to_tor.write(f"{line}\r\n".encode())

        try:
            to_tor.write(f"AUTHENTICATE {self.cookie.read_bytes().hex()}\r\n".encode())
            while line := (await reader.readline()).decode().rstrip("\r\n"):
                match line.split()[0].upper():
                    case "PROTOCOLINFO":
                        writer.write(
                            b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4"\r\n250 OK\r\n'
                        )
                    case "AUTHENTICATE":
                        writer.write(b"250 OK\r\n")
                    case _:
                        if (passed := self.profile.command(line, client)) is None:
                            self.refused.append(line)
                            writer.write(f"{FILTERED}\r\n".encode())
                        else:
                            self.passed.append(passed)
                            ask(passed, self.profile.rule(line))
        except (ConnectionError, ValueError):
            pass
        finally:
            back.cancel()
            to_tor.close()
            writer.close()

    async def _bring_back(
        self, from_tor: asyncio.StreamReader, writer: asyncio.StreamWriter, rules: asyncio.Queue[list[dict[str, str]]]
    ) -> None:
        assert (await from_tor.readline()).startswith(b"250"), "the filter itself was not let in"
        reply: list[str] = []
        data = False
        while line := (await from_tor.readline()).decode().rstrip("\r\n"):
            if not data and line.startswith("650"):
                if event := self.profile.event(line):
                    writer.write(f"{event}\r\n".encode())
                continue
            reply.append(line)
            data = line != "." if data else line[3:4] == "+"
            if not data and line[3:4] == " ":
                rule = rules.get_nowait()
                writer.write("".join(f"{rewritten(rule, each)}\r\n" for each in reply).encode())
                reply = []


@contextlib.asynccontextmanager
async def grating(
    profile: Path, control: tuple[str, int], cookie: Path, port: int = 0
) -> AsyncIterator[tuple[Grater, int]]:
    """Filter at a port of 127.0.0.1, by default a free one; yield the filter and the port."""
    grater = Grater(read_profile(profile), control, cookie)
    async with await asyncio.start_server(grater.serve, "127.0.0.1", port, limit=LINE_LIMIT_BYTES) as server:
        yield grater, server.sockets[0].getsockname()[1]

"""A scripted control port of tor."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from onionmpc.files import socket_directory
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.tor.endpoint import Endpoint

LOGIN = {
    "PROTOCOLINFO": '250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n',
    "AUTHENTICATE": "250 OK\r\n",
    "GETINFO version": "250-version=0.4.9.11\r\n250 OK\r\n",
    "SETEVENTS": "250 OK\r\n",
    "GETINFO status/bootstrap-phase": (
        '250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=10 TAG=conn_done SUMMARY="Connected"\r\n250 OK\r\n'
    ),
}


class FakeControl:
    """Answers each command line by the longest key that it starts with; an answer of "" hangs up."""

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self.answers = LOGIN | (answers or {})
        self.heard: list[str] = []
        self.streams: list[Stream] = []

    async def serve(self, stream: Stream) -> None:
        self.streams.append(stream)
        while line := (await stream.reader.readline()).decode().strip():
            self.heard.append(line)
            if not (answer := self.answer_to(line)):
                break
            stream.writer.write(answer.encode())
        stream.writer.close()

    def answer_to(self, line: str) -> str:
        known = [key for key in self.answers if line.startswith(key)]
        return self.answers[max(known, key=len)] if known else '552 Unrecognized key "x"\r\n'

    def tell(self, event: str) -> None:
        self.streams[-1].writer.write(f"650 {event}\r\n".encode())


@contextlib.asynccontextmanager
async def listening(fake: FakeControl) -> AsyncIterator[Endpoint]:
    with socket_directory() as directory:
        path = directory / "control"
        async with listening_unix(path, fake.serve):
            yield Endpoint(path=str(path))

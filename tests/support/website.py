"""A web site of a test: a certificate authority of its own, and a server on loopback that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from onionmpc.mesh.listener import StreamServer
from onionmpc.mesh.network import Stream

DAY = datetime.timedelta(days=1)
PEM, OPEN = serialization.Encoding.PEM, serialization.NoEncryption()


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an HTTP response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Authority:
    """A certificate authority that nobody else trusts."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = self._sign(self._key, self._name, [], DAY, is_authority=True)

    def write_certificate(self, path: Path) -> Path:
        """Write its certificate, in PEM."""
        path.write_bytes(self._certificate.public_bytes(PEM))
        return path

    def server_context(
        self, folder: Path, *domains: str, name: str = "a site", valid: datetime.timedelta = DAY
    ) -> ssl.SSLContext:
        """Return what a server of these domains needs.

        Args:
            folder: for the key.
            name: the common name, which is no domain name for a reader.
            valid: how long the certificate is still valid; it may be negative.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, _name(name), list(domains), valid)
        path = folder / "site.pem"
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, OPEN)
        path.write_bytes(private + certificate.public_bytes(PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        name: x509.Name,
        domains: list[str],
        valid: datetime.timedelta,
        *,
        is_authority: bool = False,
    ) -> x509.Certificate:
        until = datetime.datetime.now(datetime.UTC) + valid
        builder = (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(until - 10 * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if domains:
            names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Website:
    """A server, made by `running_website`.

    Attributes:
        response: the bytes with which it answers each request.
        stays: whether it keeps the connection open after that, as some servers do.
        cuts: whether it ends the connection as an exit relay could: without an end of TLS.
        requests: the requests that it got.
        asked, left: set when it has got a request, and when the reader has left a connection that stays.
    """

    port: int = 0
    response: bytes = b""
    stays: bool = False
    cuts: bool = False
    requests: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, stream: Stream) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append(await stream.reader.readuntil(b"\r\n\r\n"))
            self.asked.set()
            stream.writer.write(self.response)
            await stream.writer.drain()
            if self.stays:
                await stream.reader.read()
            if self.cuts:
                stream.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        self.left.set()
        stream.writer.close()


@contextlib.asynccontextmanager
async def running_website(context: ssl.SSLContext | None) -> AsyncIterator[Website]:
    """Run a server at a free port of loopback, without TLS if there is no context."""
    site = Website()
    streams = StreamServer(site.serve)
    server = await asyncio.start_server(streams.accept, "127.0.0.1", 0, ssl=context)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        await streams.close()

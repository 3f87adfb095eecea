"""Gets one page by HTTPS over a connected socket. Does not know how it was connected: no name is resolved here.

What comes back is a stranger's. No redirect is followed, no cookie kept, and nothing is sent that tells one reader from
another.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
from pathlib import Path
from typing import NoReturn

import certifi

from onionmpc.errors import SiteFailed, UsageError
from onionmpc.text import printable
from onionmpc.tor.web.site import WebSite

OK, REDIRECTS = 200, range(300, 400)
NOT_FOUND = (404, 410)
UNCOMPRESSED = ("", "identity")
OTHER_EXIT_HINT = "try again: another exit relay may do better"
OWNER_HINT = "the site's owner has to change that; docs/howto/post.md says how a page is posted"


def tls_context(roots: Path | None) -> ssl.SSLContext:
    """Return how to check a site: its certificate must name it, and come from one of these authorities.

    Args:
        roots: a PEM file with the certificates of authorities; None for the public ones, as certifi has them. Those
            that this machine trusts besides do not count: some are there to look into their users' connections.

    Raises:
        UsageError: the file cannot be read, or has no certificate.
    """
    # Not ssl.create_default_context(): it writes the keys of each connection to the file in $SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    try:
        context.load_verify_locations(cafile=certifi.where() if roots is None else roots)
    except ssl.SSLError as error:
        raise UsageError(f"{roots} has no certificate in PEM", hint="it must have BEGIN CERTIFICATE lines") from error
    except OSError as error:
        raise UsageError(f"cannot read {roots}: {error.strerror}") from error
    return context


async def get_page(
    connection: socket.socket, site: WebSite, path: str, context: ssl.SSLContext, limit_bytes: int
) -> bytes:
    """Get a page. The socket is closed afterwards.

    Args:
        limit_bytes: a longer page is refused.

    Raises:
        SiteFailed: the site did not prove its name, or gave no page.
    """
    # A second descriptor of the connection: it ends what the thread waits for when we are cancelled, or out of time.
    with connection, connection.dup() as handle:
        try:
            return await asyncio.to_thread(_get, connection, site, path, context, limit_bytes)
        finally:
            with contextlib.suppress(OSError):  # it is closed already
                handle.shutdown(socket.SHUT_RDWR)


def _get(connection: socket.socket, site: WebSite, path: str, context: ssl.SSLContext, limit_bytes: int) -> bytes:
    try:
        connection.setblocking(True)
        # An end of the connection without TLS's own end could be anyone's: it must not pass for the end of the page.
        with (
            context.wrap_socket(connection, server_hostname=site.domain, suppress_ragged_eofs=False) as tls,
            contextlib.closing(http.client.HTTPSConnection(site.domain, site.port, context=context)) as client,
        ):
            client.auto_open = 0  # it never connects by itself, which would be around Tor
            client.sock = tls
            client.request("GET", path, headers={"Connection": "close"})
            with client.getresponse() as response:
                return _read(response, site, path, limit_bytes)
    except ssl.SSLCertVerificationError as error:
        raise SiteFailed(
            f"{site} did not prove its name: {printable(error.verify_message).rstrip('.')}",
            hint="an exit relay may have tried to take its place: try again; for a company's own authority, use --ca",
        ) from error
    except ssl.SSLError as error:
        reason = (error.reason or "no reason").replace("_", " ").lower()
        raise SiteFailed(f"TLS with {site} failed: {printable(reason)}", hint=OTHER_EXIT_HINT) from error
    except OSError as error:
        raise SiteFailed(f"the connection to {site} broke: {error.strerror or error}", hint=OTHER_EXIT_HINT) from error
    except http.client.HTTPException as error:
        raise SiteFailed(
            f"{site} does not answer as HTTP/1.1 does ({type(error).__name__})", hint=OTHER_EXIT_HINT
        ) from error


def _read(response: http.client.HTTPResponse, site: WebSite, path: str, limit_bytes: int) -> bytes:
    if response.status != OK:
        _refuse(response, site, path)
    if (encoding := response.getheader("Content-Encoding", "")).lower() not in UNCOMPRESSED:
        raise SiteFailed(
            f"{site} compresses the page ({printable(encoding, 40)}), which we did not ask for", hint=OWNER_HINT
        )
    content = response.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise SiteFailed(f"the page of {site} has more than {limit_bytes} bytes", hint=OWNER_HINT)
    if response.length:
        raise SiteFailed(f"{site} ended the page {response.length} bytes early", hint=OTHER_EXIT_HINT)
    return content


def _refuse(response: http.client.HTTPResponse, site: WebSite, path: str) -> NoReturn:
    status = f"{response.status} {printable(response.reason, 40)}".strip()
    if response.status in NOT_FOUND:
        raise SiteFailed(f"{site} has no page {path} ({status})", hint="ask its owner whether it posts addresses")
    if response.status in REDIRECTS:
        where = printable(response.getheader("Location", "nowhere"), 120)
        raise SiteFailed(
            f"{site} redirects to {where} ({status}), expected the page itself",
            hint="redirects are not followed; if that site belongs to the same owner, learn from it",
        )
    raise SiteFailed(f"{site} refuses the page ({status})", hint="some sites refuse visitors from Tor; ask its owner")

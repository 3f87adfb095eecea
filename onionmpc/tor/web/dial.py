"""Dials a web site through tor's SOCKS port, each time over its own circuit.

The name goes to tor unresolved, and from tor to the exit relay, which resolves it. Nothing here asks a DNS server.
"""

from __future__ import annotations

import contextlib
import secrets
import socket

from onionmpc.errors import SiteFailed, TorFailed
from onionmpc.tor.adapters.python_socks import GRANTED, SocksConnection
from onionmpc.tor.dialling.dial import ISOLATION_BYTES
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.web.site import WebSite

# Source: RFC 1928 section 6; tor 0.4.9, stream_end_reason_to_socks5_response in reasons.c.
SITE_REPLIES = {
    0x01: "the exit relay could not reach it, and gave no reason",
    0x02: "no exit relay lets us use this port of it",
    0x03: "the exit relay has no route to it",
    0x04: "the exit relay could not resolve or reach it",
    0x05: "it refuses connections",
    0x06: "tor gave up waiting for it",
}
SPELLING_HINT = "check the spelling of the domain, or try again: another exit relay may reach it"


async def dial_site(socks: Endpoint, site: WebSite, timeout_s: float) -> socket.socket:
    """Return a connected socket to a site, non-blocking.

    Args:
        socks: the SOCKS port of a tor that carries more than onion services.
        timeout_s: for everything.

    Raises:
        SiteFailed: tor, or the exit relay, did not reach it.
        TimeoutError: there was no answer.
        TorFailed: tor is gone, or this is not tor's SOCKS port.
    """
    # tor never lets streams with different user names share a circuit (IsolateSOCKSAuth, the default).
    username, password = secrets.token_hex(ISOLATION_BYTES), secrets.token_hex(ISOLATION_BYTES)
    with contextlib.ExitStack() as closing:
        try:
            connection = SocksConnection(await socks.connect())
            closing.callback(connection.close)
            code = await connection.request(site.domain, site.port, username, password, timeout_s)
        except TimeoutError:  # an OSError too
            raise
        except OSError as error:
            raise TorFailed(f"tor does not accept connections: {error.strerror or error}") from error
        except (EOFError, ValueError):
            raise TorFailed("tor's SOCKS port closed the connection, or does not speak SOCKS5") from None
        if code != GRANTED:
            words = SITE_REPLIES.get(code, f"tor answered with the SOCKS reply {code:#04x}")
            raise SiteFailed(f"cannot reach {site}: {words}", hint=SPELLING_HINT)
        return connection.detach()

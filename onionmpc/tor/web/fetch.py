"""Fetches one page of a web site over Tor, by our own tor, which is started for it and ends with it.

Never by a session's tor or a running one: those carry onion services only, and an exit must not be on their circuits.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import SiteFailed
from onionmpc.files import private_directory, socket_directory, state_directory
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.instance import TorInstance, bootstrapped, own_instance
from onionmpc.tor.process.bridges import Bridge
from onionmpc.tor.process.own_tor import Traffic
from onionmpc.tor.process.profile import free_profile
from onionmpc.tor.process.transports import bridge_torrc
from onionmpc.tor.report import OnTorReport, Reporter
from onionmpc.tor.web.dial import dial_site
from onionmpc.tor.web.https import OTHER_EXIT_HINT, get_page
from onionmpc.tor.web.site import WebSite

# A page comes within a few seconds. tor itself tries several circuits within two minutes.
PAGE_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Which tor to start for a page, and how long to wait.

    Attributes:
        profiles: the folder of tor's data directories; None for that of parties. So a page is fetched through the same
            guard: another one would be one more relay that knows us.
        extra_torrc: lines for this tor.
        bridges: the only relays by which it enters its network; empty to use a guard.
        bootstrap_timeout_s: from tor's start to a built circuit.
        page_timeout_s: from then until the page is here.
    """

    profiles: Path | None = None
    extra_torrc: str = field(default="", repr=False)
    bridges: tuple[Bridge, ...] = ()
    bootstrap_timeout_s: float = 300.0
    page_timeout_s: float = PAGE_TIMEOUT_S


async def fetch_page(
    site: WebSite, path: str, context: ssl.SSLContext, limit_bytes: int, options: WebOptions, report: OnTorReport
) -> bytes:
    """Start a tor, fetch a page through it, and end it.

    Args:
        context: checks the site; see `tls_context`.
        limit_bytes: a longer page is refused.

    Raises:
        SiteFailed: the site could not be reached, did not prove its name, or gave no page.
        TorError: tor is missing, fails or does not reach its network.
    """
    async with _web_tor(options, report) as tor, tor.explaining():
        return await tor.control.unless_closed(
            get_by(tor.socks, site, path, context, limit_bytes, options.page_timeout_s)
        )


async def get_by(
    socks: Endpoint, site: WebSite, path: str, context: ssl.SSLContext, limit_bytes: int, timeout_s: float
) -> bytes:
    """Fetch a page through a SOCKS port; see `fetch_page`.

    Args:
        timeout_s: for everything.
    """
    try:
        async with asyncio.timeout(timeout_s):
            connection = await dial_site(socks, site, timeout_s)
            return await get_page(connection, site, path, context, limit_bytes)
    except TimeoutError:
        raise SiteFailed(f"{site} did not answer within {timeout_s:g} s", hint=OTHER_EXIT_HINT) from None


@contextlib.asynccontextmanager
async def _web_tor(options: WebOptions, report: OnTorReport) -> AsyncIterator[TorInstance]:
    reporter = Reporter(report)
    base = options.profiles or private_directory(state_directory()) / "tor"
    torrc = f"{options.extra_torrc}\n{bridge_torrc(options.bridges)}"
    with socket_directory() as sockets, free_profile(base) as profile:
        start = functools.partial(own_instance, profile, sockets, torrc, reporter, traffic=Traffic.WEB)
        async with bootstrapped(start, reporter, options.bootstrap_timeout_s) as tor:
            yield tor

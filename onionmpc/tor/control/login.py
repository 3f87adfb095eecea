"""Logging in at a control port: by cookie, by password or without either."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from onionmpc.errors import ControlRefused
from onionmpc.tor.control.connection import ANSWER_TIMEOUT_S, Control
from onionmpc.tor.control.errors import filter_hint
from onionmpc.tor.control.probe import ListenerKind, Probe, probe
from onionmpc.tor.endpoint import Endpoint

if TYPE_CHECKING:
    from onionmpc.tor.adapters.txtorcon import ControlConnection

PASSWORD_VARIABLE = "ONIONMPC_CONTROL_PASSWORD"  # noqa: S105 (its name, not the password)
# tor answers within milliseconds. On a busy machine it takes seconds, and so does the import in `_log_in`.
LOGIN_TIMEOUT_S = 60.0
# Source: control-spec, "Replies".
BAD_AUTHENTICATION = 515


@contextlib.asynccontextmanager
async def open_control(
    endpoint: Endpoint, timeout_s: float = LOGIN_TIMEOUT_S, *, answer_timeout_s: float = ANSWER_TIMEOUT_S
) -> AsyncIterator[Control]:
    """Connect and log in: by cookie if we can read its file, else by $ONIONMPC_CONTROL_PASSWORD, else without.

    Args:
        timeout_s: for connecting and logging in.
        answer_timeout_s: for each command from then on.
    Raises:
        ControlRefused: nothing is there, it is not a control port, or it does not let us in.
    """
    until_s = asyncio.get_running_loop().time() + timeout_s
    found = await probe(endpoint, timeout_s)
    password = _password(endpoint, found)
    try:
        async with asyncio.timeout_at(until_s):
            connection = await _log_in(endpoint, password, "" if password else found.cookie_file)
    except TimeoutError:
        raise _refused(endpoint, f"did not let us in within {timeout_s:g} s") from None
    try:
        yield Control(connection, answer_timeout_s)
    finally:
        connection.close()


async def _log_in(endpoint: Endpoint, password: str, cookie_file: str) -> ControlConnection:
    from onionmpc.tor.adapters import txtorcon  # here, because importing it takes long: see its docstring

    try:
        return await txtorcon.log_in(await endpoint.connect(), password)
    except OSError as error:
        raise _refused(endpoint, f"cannot be reached: {error.strerror or error}") from error
    except EOFError:
        raise _refused(endpoint, "hung up while we logged in") from None
    except txtorcon.LoginRefused as error:
        if error.code in {None, BAD_AUTHENTICATION}:
            # tor's own words would mislead: it lists every way to log in, or asks for quotes that our password had.
            raise _wrong(endpoint, cookie_file) from None
        what = f"refused our login: {error.code} {error.reason}"
        raise _refused(endpoint, what, filter_hint(error.code)) from None


def _password(endpoint: Endpoint, found: Probe) -> str:
    """Return the password to log in with, or an empty string. Refuse what cannot work, in plain words."""
    if found.kind is not ListenerKind.CONTROL:
        hints = {
            ListenerKind.NOTHING: "start tor, or leave --control out: onionmpc then starts its own tor",
            ListenerKind.FORBIDDEN: "join tor's group (Debian: sudo adduser $USER debian-tor) and log in again",
            ListenerKind.SOCKS: "give the control port; tor's is usually unix:/run/tor/control or 127.0.0.1:9051",
            ListenerKind.OTHER: "give tor's control port",
        }
        raise _refused(endpoint, f"is {found.kind.value}, expected a control port", hints[found.kind])
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if found.methods & {"COOKIE", "SAFECOOKIE"}:
        problem = _cookie_problem(Path(found.cookie_file))
        if not problem:
            return ""
        if not (password and "HASHEDPASSWORD" in found.methods):
            raise _refused(
                endpoint,
                f"wants its cookie, and {found.cookie_file} {problem}",
                "join tor's group (Debian: sudo adduser $USER debian-tor) and log in again; torrc lines for it are "
                "in torrc.d/system-control.torrc",
            )
    if "HASHEDPASSWORD" in found.methods and not password:
        raise _refused(endpoint, "wants a password", f"set {PASSWORD_VARIABLE}")
    return password


def _cookie_problem(cookie: Path) -> str:
    try:
        with cookie.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _wrong(endpoint: Endpoint, cookie: str) -> ControlRefused:
    if cookie:
        return _refused(
            endpoint,
            f"has another cookie than the one in {cookie}: another tor wrote that file, or an earlier run of this one",
            "restart that tor, which writes the file again; two tors need a CookieAuthFile each",
        )
    return _refused(
        endpoint,
        f"does not accept the password in {PASSWORD_VARIABLE}",
        "set it to the password itself; HashedControlPassword in its torrc is what tor --hash-password makes of it",
    )


def _refused(endpoint: Endpoint, what: str, hint: str = "") -> ControlRefused:
    return ControlRefused(f"{endpoint} {what}", hint=hint)

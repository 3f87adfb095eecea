"""Our service's descriptor: waits until directories have it, and checks whether peers can find us.

Source: control-spec, "HS_DESC", "HSFETCH"; rend-spec-v3 for directories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from onionmpc.errors import OnionNotPublished
from onionmpc.tor.adapters.stem import parse_event
from onionmpc.tor.circuit.status import has_introductions, service_id
from onionmpc.tor.service.service import Service

# Each client asks a few directories of its own choice, so one upload is not enough. Right after the first one, 4 of 12
# dials failed in a private network; the other uploads ended within 0.3 s.
SETTLE_S = 3.0
# For tor to reach a directory and to get its answer.
FETCH_TIMEOUT_S = 30.0

PublishProgress = Callable[[int, str], None]


@dataclass
class Uploads:
    """The directories to which tor has sent our descriptor, and their answers."""

    sent: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    def hear(self, address: str, text: str) -> bool:
        """Note an HS_DESC event, and return whether it changed anything. Source: control-spec, "HS_DESC"."""
        event = parse_event("HS_DESC", text)
        if event is None:
            return False
        directories = {"UPLOAD": self.sent, "UPLOADED": self.taken, "FAILED": self.refused}.get(event.action)
        if event.address != address or directories is None:
            return False
        before = len(directories)
        directories.add(event.directory_fingerprint or event.directory)
        return len(directories) > before

    @property
    def open(self) -> set[str]:
        """Directories that have not answered yet."""
        return self.sent - self.taken - self.refused

    def __str__(self) -> str:
        refused = f", refused by {len(self.refused)}" if self.refused else ""
        return f"taken by {len(self.taken)} of {len(self.sent)} directories{refused}"


async def publish(
    service: Service, target: str, progress: PublishProgress, timeout_s: float, settle_s: float = SETTLE_S
) -> None:
    """Add an onion service and wait until directories have accepted its descriptor.

    Args:
        target: see `Service.add`.
        progress: called with percent and a message.
        timeout_s: for the first directory to accept the descriptor. The others get up to `settle_s` more.
    Raises:
        OnionNotPublished: no directory accepted it in time. tor keeps trying.
        TorFailed: tor refused, or the identity is in use in this tor.
    """
    control, address = service.control, service_id(service.onion)
    uploads = Uploads()
    heard: asyncio.Queue[str] = asyncio.Queue()
    try:
        async with asyncio.timeout(timeout_s) as deadline, control.on_event("HS_DESC", heard.put_nowait):
            await service.add(target)
            progress(0, "tor connects to its introduction points")
            while uploads.open or not uploads.taken:
                taken_before = bool(uploads.taken)
                if uploads.hear(address, await control.unless_closed(heard.get())):
                    progress(100 if uploads.taken else 50, str(uploads))
                if uploads.taken and not taken_before:
                    deadline.reschedule(asyncio.get_running_loop().time() + settle_s)
    except TimeoutError:
        if uploads.taken:
            return
        raise OnionNotPublished(
            f"the onion service's descriptor was {uploads} in {timeout_s:g} s",
            hint="try again; if this continues, check this machine's clock",
        ) from None


async def is_lost(service: Service, *, is_new: bool = False) -> bool:
    """Return whether peers cannot find our service, even though tor has published it.

    Two things are checked. First, our introduction points: after four losses in a row, tor leaves a service without a
    circuit to any for five minutes. Second, one of the directories that clients ask, a different one each time: a
    directory forgets descriptors when it restarts, and tor uploads ours again only after an hour or two.

    Args:
        is_new: whether the descriptor may still be under way. Then no directory is asked.
    Raises:
        TorFailed: tor does not answer.
        TimeoutError: the directory did not answer.
    """
    control, address = service.control, service_id(service.onion)
    if not has_introductions(await control.get_info("circuit-status"), service.onion):
        return True
    if is_new:
        return False
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with control.on_event("HS_DESC", heard.put_nowait), asyncio.timeout(FETCH_TIMEOUT_S):
        await control.command(f"HSFETCH {address}")
        while True:
            event = parse_event("HS_DESC", await control.unless_closed(heard.get()))
            if event is None or event.address != address:
                continue
            if event.action == "RECEIVED":
                return False
            if event.action == "FAILED" and event.reason == "NOT_FOUND":
                return True

"""Drives a link by hand: what it sends over a stream, and what it receives."""

from __future__ import annotations

from typing import Any

from onionmpc.wire.frames import (
    Frame,
    Ping,
    decode_frames,
    encode_frame,
)
from onionmpc.wire.link import (
    Event,
    Link,
)
from tests.support.link_schedules import T0


def attached(**settings: Any) -> Link:
    """A link on stream 0 that has sent its first ping."""
    link = Link(**settings)
    link.attach(0, T0)
    assert said(link) == [Ping(1)]
    return link


def said(link: Link, now: float = T0, stream: int = 0) -> list[Frame]:
    """Return the frames that a link sends over a stream now."""
    return [frame for record in records(link, now, stream) for frame in decode_frames(record)]


def records(link: Link, now: float = T0, stream: int = 0) -> list[bytes]:
    """Return what a link sends over a stream that takes everything now."""
    return list(iter(lambda: link.transmit(stream, now), b""))


def hear(link: Link, *frames: Frame, now: float = T0, stream: int = 0) -> list[Event]:
    return link.receive(stream, b"".join(map(encode_frame, frames)), now)

"""The events that the links of a mesh report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from onionmpc.errors import OnionMPCError
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.secure import SecureStream
from onionmpc.wire.link import Event

if TYPE_CHECKING:
    from onionmpc.mesh.mesh import MeshLink


class Observer(Protocol):
    """Receives the events of all links. Must not block."""

    def dial_failed(self, party: int, failure: DialFailed) -> None:
        """A peer could not be dialled yet, or not again."""

    def link_up(self, party: int, link: MeshLink, nonce: bytes) -> None:
        """A link came up; `nonce` is the peer's contribution to the session id."""

    def stream_up(self, party: int, secure: SecureStream, *, dialled: bool) -> None:
        """A link got its first or a further stream. The other end is authenticated."""

    def stream_down(self, party: int, secure: SecureStream) -> None:
        """A link has lost a stream that `stream_up` reported."""

    def link_raced(self, party: int, streams: int) -> None:
        """This many streams of a link were compared. Urgent data goes over the fastest."""

    def link_event(self, party: int, event: Event) -> None:
        """Something arrived."""

    def link_broken(self, party: int, reason: str) -> None:
        """A link has lost its last stream, and is being redialled."""

    def link_quiet(self, party: int, seconds: float) -> None:
        """Nothing has arrived for this long. The link is not lost, but a further stream is being dialled."""

    def link_resumed(self, party: int, seconds: float) -> None:
        """Something has arrived again, this long after the last time."""

    def link_down(self, party: int, error: OnionMPCError) -> None:
        """A link ended, or never came up, for this reason. Not called for links that were closed properly."""

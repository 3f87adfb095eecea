"""Names the peer whose pickle is refused.

MPyC unpickles a payload without saying whose it is. So the payload's hash is noted when it arrives, and looked up if
its content is not allowed.
"""

from __future__ import annotations

import collections
from typing import Protocol

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process.supervisor import Supervisor
from onionmpc.program.spec import Notice

# One round of 25 parties and 1000 arrays each.
REMEMBERED_PAYLOADS = 2**15


class Senders:
    """Remembers by hash which peer sent each of the last payloads; keeps no payload alive."""

    def __init__(self) -> None:
        self._by_hash: collections.OrderedDict[int, int] = collections.OrderedDict()

    def remember(self, payload: bytes, party: int) -> None:
        """Note who sent this payload."""
        self._by_hash[hash(payload)] = party
        if len(self._by_hash) > REMEMBERED_PAYLOADS:
            self._by_hash.popitem(last=False)

    def find(self, payload: bytes) -> int | None:
        """Return who sent it, None if that was too long ago."""
        return self._by_hash.get(hash(payload))


class Pickle(Protocol):
    """The two functions of the pickle module that MPyC uses."""

    def dumps(self, obj: object) -> bytes:
        """Return `obj` as bytes."""

    def loads(self, data: bytes) -> object:
        """Return the object; raises RemoteProtocolError if it is not allowed."""


class StoppingPickle:
    """A pickle that ends the process, and names the sender, where a peer's payload is not allowed."""

    def __init__(self, pickle: Pickle, senders: Senders, supervisor: Supervisor) -> None:
        self.dumps = pickle.dumps
        self._loads = pickle.loads
        self._senders = senders
        self._supervisor = supervisor

    def loads(self, data: bytes) -> object:
        """Return what a peer sent."""
        try:
            return self._loads(data)
        except RemoteProtocolError as error:
            self._supervisor.stop(Notice("pickle", self._senders.find(data), error.message))

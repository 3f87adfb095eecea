"""Finds the peer that sent a refused pickle.

MPyC calls `pickle.loads` without the sender. So this module notes the hash of each payload as it arrives, and looks it
up if the content is not allowed.
"""

from __future__ import annotations

import collections
from typing import Protocol

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process.supervisor import Supervisor
from onionmpc.program.spec import Notice

# One round of 25 parties with 1000 arrays each, rounded up.
REMEMBERED_PAYLOADS = 2**15


class Senders:
    """Remembers the sender of each recent payload by hash, so that no payload stays in memory."""

    def __init__(self) -> None:
        self._by_hash: collections.OrderedDict[int, int] = collections.OrderedDict()

    def remember(self, payload: bytes, party: int) -> None:
        """Note who sent this payload."""
        self._by_hash[hash(payload)] = party
        if len(self._by_hash) > REMEMBERED_PAYLOADS:
            self._by_hash.popitem(last=False)

    def find(self, payload: bytes) -> int | None:
        """Return the sender's number, or None if too many payloads have come since."""
        return self._by_hash.get(hash(payload))


class Pickle(Protocol):
    """The two functions of the pickle module that MPyC uses."""

    def dumps(self, obj: object) -> bytes:
        """Return `obj` as bytes."""

    def loads(self, data: bytes) -> object:
        """Return the object. Raises RemoteProtocolError if it is not allowed."""


class StoppingPickle:
    """A pickle module that ends the process and names the sender if a peer's payload is not allowed.

    An exception would not do: a script can catch it, and MPyC may lose it in a task that nothing awaits.
    """

    def __init__(self, pickle: Pickle, senders: Senders, supervisor: Supervisor) -> None:
        self.dumps = pickle.dumps
        self._loads = pickle.loads
        self._senders = senders
        self._supervisor = supervisor

    def loads(self, data: bytes) -> object:
        """Return the object that a peer sent."""
        try:
            return self._loads(data)
        except RemoteProtocolError as error:
            self._supervisor.stop(Notice("pickle", self._senders.find(data), error.message))

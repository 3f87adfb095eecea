"""Handshakes over a hostile network: whoever completes one shares it with the party it means, and with no other.

The network hands any message that was ever sent to anybody, altered or not: it drops, repeats, reflects and swaps them,
and brings those of other handshakes. Eve is a party too, and may claim to be another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import pytest

from onionmpc.errors import AuthenticationFailed, RemoteProtocolError, VersionDiffers
from onionmpc.identity import Identity, x25519_public_from_ed25519
from onionmpc.wire import handshake
from onionmpc.wire.handshake import Answer, DiallerHandshake, Hello, ListenerHandshake, Purpose, Reply
from onionmpc.wire.records import Records
from tests.fuzz.mutations import steps

STEP_BYTES = 4
INPUTS = steps(STEP_BYTES, 30)
REFUSALS = ()

PARTIES = [Identity(bytes([number]) * 32) for number in (1, 2, 3)]
EVE = 2
PSKS = [bytes(32), bytes([5]) * 32]
# Which psks a listener tries.
TRIED = [PSKS, PSKS[:1], PSKS[1:], []]


@dataclass
class End:
    """One end of a completed handshake: what it seals, and what it has opened."""

    records: Records
    partner: End | None = None
    sealed: list[bytes] = field(default_factory=list)
    opened: int = 0
    broken: bool = False


@dataclass
class Dialling:
    owner: int
    peer: int
    psk: bytes
    hello: Hello
    handshake: DiallerHandshake
    message: bytes
    over: bool = False


@dataclass
class Listening:
    owner: int
    answers: Dialling
    handshake: ListenerHandshake
    reply: Reply
    message: bytes
    end: End


class Network:
    """What all parties did so far, and every message that was ever sent."""

    def __init__(self) -> None:
        self.fresh = 0
        self.messages: list[bytes] = [handshake.REFUSAL]
        self.dials: list[Dialling] = []
        self.answers: list[Listening] = []
        self.ends: list[End] = []
        self.reached: set[str] = set()

    def secret(self, size: int = 32) -> bytes:
        """Nobody draws the same twice."""
        self.fresh += 1
        return hashlib.sha256(self.fresh.to_bytes(4)).digest()[:size]

    def dial(self, who: int, to: int, what: int) -> None:
        """A party calls another, or itself; Eve says at times that she is somebody else."""
        owner, peer, psk = who % 3, to % 3, PSKS[what % 2]
        claimed = PARTIES[what // 2 % 3] if owner == EVE else PARTIES[owner]
        purpose = list(Purpose)[what // 8 % len(Purpose)]
        hello = Hello(claimed.public_key, purpose, self.secret(16), self.secret(), (what, to))
        dialling = DiallerHandshake(PARTIES[owner], PARTIES[peer].public_key, psk, hello, self.secret())
        message = dialling.message()
        self.dials.append(Dialling(owner, peer, psk, hello, dialling, message))
        self.messages.append(message)

    def hear(self, who: int, which: int, how: int) -> None:
        """A party reads some message as the first of a handshake, and answers if it is one."""
        owner, message = who % 3, self._pick(which, how)
        listening, tried = ListenerHandshake(PARTIES[owner], self.secret()), TRIED[who // 3 % len(TRIED)]
        try:
            listening.read_static(message)
            index, hello = listening.read_hello(tried)
        except AuthenticationFailed:
            self.reached.add("refused by the listener")
            return
        (dialling,) = (one for one in self.dials if one.message == message)
        assert dialling.peer == owner
        assert dialling.psk == tried[index]
        assert dialling.hello == hello
        assert hello.public_key == PARTIES[dialling.owner].public_key
        reply = Reply(list(Answer)[how % len(Answer)], self.secret(16), (how, which))
        answer, records = listening.answer(reply)
        self.answers.append(Listening(owner, dialling, listening, reply, answer, End(records)))
        self.messages.append(answer)
        self.ends.append(self.answers[-1].end)
        self.reached.add("answered")

    def receive(self, who: int, which: int, how: int) -> None:
        """A dialler takes some message for its answer."""
        waiting = [dialling for dialling in self.dials if not dialling.over]
        if not waiting:
            return
        dialling, message = waiting[-1 - who % len(waiting)], self._pick(which, how)
        dialling.over = True
        try:
            reply, records = dialling.handshake.receive(message)
        except (AuthenticationFailed, VersionDiffers):
            self.reached.add("refused by the dialler")
            return
        (answer,) = (one for one in self.answers if one.message == message)
        assert answer.answers is dialling
        assert answer.owner == dialling.peer
        assert answer.reply == reply
        assert answer.handshake.stream == dialling.handshake.stream
        assert answer.end.partner is None
        end = End(records, answer.end)
        answer.end.partner = end
        self.ends.append(end)
        self.reached.add("completed")

    def seal(self, who: int, size: int, _: int) -> None:
        """An end says something."""
        if self.ends:
            end = self.ends[-1 - who % len(self.ends)]
            end.sealed.append(end.records.encode(bytes(size + 1)))

    def open(self, who: int, whose: int, which: int) -> None:
        """An end takes some record of some end for the next of its partner's."""
        sealed = [(end, index) for end in self.ends for index in range(len(end.sealed))]
        if not sealed:
            return
        end = self.ends[-1 - who % len(self.ends)]
        sender, index = sealed[-1 - (whose + 256 * which) % len(sealed)]
        right = end.partner is sender and index == end.opened and not end.broken
        try:
            (plaintext,) = end.records.decode(sender.sealed[index])
        except RemoteProtocolError:
            assert not right
            end.broken = True
            self.reached.add("a record that does not open")
            return
        assert right
        assert plaintext == bytes(len(sender.sealed[index]) - 18)
        end.opened += 1
        self.reached.add("a record")

    def _pick(self, which: int, how: int) -> bytes:
        """Some message; of a few a byte is altered, or another length."""
        message = self.messages[-1 - which % len(self.messages)]
        if how < 200:
            return message
        at = (how * 7 + which) % len(message)
        if how < 240:
            return message[:at] + bytes([message[at] ^ 1 << how % 8]) + message[at + 1 :]
        return message[:at] if how % 2 else message + b"\0"


ACTIONS: list[Callable[[Network, int, int, int], None]] = [
    *(Network.dial, Network.hear, Network.receive, Network.hear, Network.receive),
    *(Network.seal, Network.open, Network.open),
]


def check(data: bytes) -> frozenset[str]:
    """Each four bytes are a step: what is done, by whom, with which message, and how."""
    network = Network()
    with pytest.MonkeyPatch.context() as patch:
        # The same three keys are checked again and again, which takes far longer than all else.
        patch.setattr(handshake, "x25519_public_from_ed25519", public_of)
        for at in range(0, len(data) - STEP_BYTES + 1, STEP_BYTES):
            action, *arguments = data[at : at + STEP_BYTES]
            ACTIONS[action % len(ACTIONS)](network, *arguments)
    return frozenset(network.reached)


@cache
def public_of(public_key: bytes) -> bytes:
    return x25519_public_from_ed25519(public_key)

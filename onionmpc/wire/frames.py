"""Encodes and decodes frames, which fill records. Rules: docs/PROTOCOL.md section 3."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from onionmpc.errors import RemoteProtocolError


class Channel(enum.IntEnum):
    """The two byte streams of a link."""

    CONTROL = 0
    DATA = 1


class AbortCode(enum.IntEnum):
    """Which rule the peer broke."""

    FRAME = 1
    OFFSET = 2
    LIMIT = 3
    CONTROL_MESSAGE = 4
    PROGRAM_BYTES = 5


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a channel, from `offset` on."""

    channel: Channel
    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class End:
    """An epoch of the data channel ends at `offset`, or the program does if it is the `last` one."""

    offset: int
    last: bool


@dataclass(frozen=True, slots=True)
class Ack:
    """All bytes before these offsets have arrived."""

    control: int
    data: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a Pong with the same token."""

    token: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a Ping."""

    token: int


@dataclass(frozen=True, slots=True)
class Close:
    """The sender sends nothing more on this link, and expects nothing."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The peer broke the rules."""

    code: AbortCode


@dataclass(frozen=True, slots=True)
class Padding:
    """The rest of the record: `size` zero bytes. It has no length field, so that it can be as short as one byte."""

    size: int


Frame = Data | End | Ack | Ping | Pong | Close | Abort | Padding

HEADER = struct.Struct(">BH")
DATA_HEADER = struct.Struct(">BQ")
OFFSET = struct.Struct(">Q")
OFFSETS = struct.Struct(">QQ")
END_BODY = struct.Struct(">QB")
DATA_FRAME = struct.Struct(">BHBQ")
ACK_FRAME = struct.Struct(">BHQQ")
CHANNELS = tuple(Channel)

# The most plaintext in a record: a Noise message of 65535 bytes, without its tag of 16.
MAX_RECORD_BYTES = 65519
DATA_OVERHEAD_BYTES = HEADER.size + DATA_HEADER.size


def encode_data(channel: Channel, offset: int, payload: bytes) -> bytes:
    """Encode a Data frame without building the object first, since nearly every record has one."""
    return DATA_FRAME.pack(1, DATA_HEADER.size + len(payload), channel, offset) + payload


def encode_ack(control: int, data: int) -> bytes:
    """Encode an Ack frame without building the object first."""
    return ACK_FRAME.pack(3, OFFSETS.size, control, data)


def encode_frame(frame: Frame) -> bytes:
    """Encode one frame: type, length, body."""
    match frame:
        case Padding(size):
            return bytes(size)
        case Data(channel, offset, payload):
            return encode_data(channel, offset, payload)
        case End(offset, last):
            kind, body = 2, END_BODY.pack(offset, last)
        case Ack(control, data):
            return encode_ack(control, data)
        case Ping(token):
            kind, body = 4, OFFSET.pack(token)
        case Pong(token):
            kind, body = 5, OFFSET.pack(token)
        case Close():
            kind, body = 6, b""
        case Abort(code):
            kind, body = 7, bytes([code])
    return HEADER.pack(kind, len(body)) + body


def decode_frames(plaintext: bytes) -> Iterator[Frame]:
    """Decode all frames of one record.

    Raises:
        RemoteProtocolError: a frame is unknown, cut short or of the wrong size, or padding is not all zeros.
    """
    position = 0
    while position < len(plaintext):
        if plaintext[position] == 0:
            # Each frame has exactly one encoding. Bytes that nobody checks could carry hidden data to a peer.
            if any(plaintext[position:]):
                raise RemoteProtocolError("padding has bytes other than zero")
            yield Padding(len(plaintext) - position)
            return
        if len(plaintext) - position < HEADER.size:
            raise RemoteProtocolError(f"a frame's header has {len(plaintext) - position} bytes, expected {HEADER.size}")
        kind, length = HEADER.unpack_from(plaintext, position)
        position += HEADER.size
        body = plaintext[position : position + length]
        if len(body) < length:
            raise RemoteProtocolError(f"a frame of type {kind} has {len(body)} bytes, expected {length}")
        position += length
        yield _decode_body(kind, body)


def _decode_body(kind: int, body: bytes) -> Frame:
    try:
        match kind:
            case 1:
                channel, offset = DATA_HEADER.unpack_from(body)
                return Data(CHANNELS[channel], offset, body[DATA_HEADER.size :])
            case 2 if body[-1:] in (b"\0", b"\1"):
                offset, last = END_BODY.unpack(body)
                return End(offset, bool(last))
            case 3:
                return Ack(*OFFSETS.unpack(body))
            case 4:
                return Ping(*OFFSET.unpack(body))
            case 5:
                return Pong(*OFFSET.unpack(body))
            case 6 if not body:
                return Close()
            case 7 if len(body) == 1:
                return Abort(AbortCode(body[0]))
    except (struct.error, ValueError, IndexError) as error:
        raise RemoteProtocolError(f"a frame of type {kind} has a malformed body of {len(body)} bytes") from error
    raise RemoteProtocolError(f"a frame has the unknown type {kind} and {len(body)} bytes")

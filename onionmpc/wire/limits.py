"""How long one link waits, and how much it holds and sends at once. Rules: docs/PROTOCOL.md section 3."""

from __future__ import annotations

from dataclasses import dataclass

from onionmpc.wire.frames import MAX_RECORD_BYTES


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Times in seconds, sizes in bytes. Tests make them smaller.

    Attributes:
        window_bytes: how many unacknowledged bytes a channel may hold; the same at both ends. Five rounds of 10**5
            shares of 8 bytes. It bounds the memory of both sides: the sender keeps what is not acknowledged, and the
            data channel is acknowledged only when the program takes it.
        record_bytes: the size of the largest record.
        ack_delay_s: an ACK travels with data. If there is none, it goes alone after this long,
        ack_after_bytes: or when this many bytes have arrived.
        ping_after_s: one heartbeat. The slowest round trips through tor that we have seen took less than ten seconds.
        suspect_after_s: three missed heartbeats.
        silence_limit_s: a stream that delivers nothing for this long is given up, unless it is the only one.
        late_after_s: with several streams, one that leaves a ping unanswered for this long, and for `late_round_trips`
            of its round trips, is late: data moves to the others before this one is even suspicious, since they are
            open anyway and moving costs nothing.
        late_round_trips: see `late_after_s`.
        measure_every_s: a stream gets one ping this often even if it is never silent, so that its speed stays known.
        max_pieces: how many pieces may wait behind gaps. An honest sender gives whole chunks, 256 to a window, to all
            streams but the fastest. A hostile one could send pieces of one byte, and each costs us far more than a byte
            of memory.
        max_ends: how many ENDs may be unacknowledged. Honest programs synchronise before each END, so two or three are
            on their way. A hostile one could fill the window with ENDs, and each costs us far more than its byte.
        bulk_bytes: less than this goes over the fastest stream alone: the peer waits for all of it, and so for the
            slowest stream that carries a part. It is about what tor sends before the first acknowledgement (124 cells
            of 498 bytes).
        chunk_bytes: when more waits, other streams take this much at a time as well.
        max_stripes: how many streams share it.
    """

    window_bytes: int = 4 * 2**20
    record_bytes: int = MAX_RECORD_BYTES
    ack_delay_s: float = 0.2
    ack_after_bytes: int = 64 * 2**10
    ping_after_s: float = 5.0
    suspect_after_s: float = 15.0
    silence_limit_s: float = 45.0
    late_after_s: float = 3.0
    late_round_trips: int = 4
    measure_every_s: float = 30.0
    max_pieces: int = 1024
    max_ends: int = 64
    bulk_bytes: int = 64 * 2**10
    chunk_bytes: int = 16 * 2**10
    max_stripes: int = 4


DEFAULT_LINK_LIMITS = LinkLimits()

"""Links of two honest parties: each byte once and in order, all in the end, in a window, whatever their streams do.

Streams delay, cut, lose and reorder as in tests/wire/test_link.py; and here what one brings, another may bring as well.
"""

from __future__ import annotations

from collections.abc import Callable

from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from tests.fuzz.mutations import steps
from tests.support.link_schedules import STREAMS_AT_ONCE, AnySchedule, AnyScheduleOfOneSize

STEP_BYTES = 3
INPUTS = steps(STEP_BYTES, 60)
REFUSALS = ()
WAITS_S = [0.01, 0.1, LIMITS.ack_delay_s, LIMITS.ping_after_s, 100.0]

Step = Callable[[AnySchedule, int, int], object]


def dial(schedule: AnySchedule, one: int, _: int) -> None:
    if len(schedule.wires) < STREAMS_AT_ONCE:
        schedule.dial(say_offsets=bool(one % 2))


def repeat(schedule: AnySchedule, one: int, other: int) -> None:
    """What is on its way to a party comes over some stream of its as well."""
    side = one % 2
    source, target = (schedule.wires[pick % len(schedule.wires)] for pick in (one // 2, other))
    if target.held[side] and source.on_its_way_to[side]:
        schedule.parties[side].receive(target.number, source.on_its_way_to[side][0], schedule.now)


def with_streams(step: Step) -> Step:
    return lambda schedule, one, other: step(schedule, one, other) if schedule.wires else None


ACTIONS: list[Step] = [
    lambda schedule, one, other: schedule.write_control(one % 2, other % 60 + 1),
    lambda schedule, one, other: schedule.write_data(one % 2, other % 130 + 1),
    lambda schedule, one, other: schedule.end_data(one % 2, last=not other % 8),
    lambda schedule, one, other: schedule.take(one % 2, other % 130 + 1),
    dial,
    with_streams(lambda schedule, one, other: schedule.attach(one % 2, other)),
    with_streams(lambda schedule, one, other: schedule.attach(one % 2, other)),
    with_streams(lambda schedule, one, other: schedule.transmit_over_one(one % 2, other, one // 2 % 5 + 1)),
    lambda schedule, one, _: schedule.transmit(one % 2),
    with_streams(lambda schedule, one, other: schedule.deliver(one % 2, other, one // 2 % 5 + 1)),
    with_streams(lambda schedule, one, other: schedule.deliver(one % 2, other, one // 2 % 5 + 1)),
    with_streams(repeat),
    with_streams(lambda schedule, one, other: schedule.cut(one % 2, other, one // 2 % 6)),
    lambda schedule, one, _: schedule.wait(WAITS_S[one % len(WAITS_S)]),
    lambda schedule, _one, _other: schedule.exchange(),
    lambda schedule, one, other: (schedule.sleep if other % 2 else schedule.ping)(one % 2),
]


def check(data: bytes) -> bool:
    """The first byte says whether all records have one size; each three more are a step: what, by whom, over which."""
    of_one_size = bool(data[:1] and data[0] % 2)
    schedule = AnyScheduleOfOneSize() if of_one_size else AnySchedule()
    for at in range(1, len(data) - STEP_BYTES + 1, STEP_BYTES):
        action, one, other = data[at : at + STEP_BYTES]
        ACTIONS[action % len(ACTIONS)](schedule, one, other)
        schedule.every_byte_comes_once_and_in_order()
        schedule.memory_is_bounded()
        schedule.what_was_sent_is_acknowledged_or_lost_or_on_exactly_one_stream()
    schedule.teardown()
    return of_one_size

"""Each byte once and in order under any schedule of sends, cuts and delays."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import settings

from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from tests.support.link_schedules import STREAMS_AT_ONCE, AnySchedule, AnyScheduleOfOneSize

TestAnySchedule = AnySchedule.TestCase
TestAnyScheduleOfOneSize = AnyScheduleOfOneSize.TestCase
TestAnySchedule.settings = TestAnyScheduleOfOneSize.settings = settings(
    max_examples=100, stateful_step_count=60, derandomize=True
)


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("kind", [AnySchedule, AnyScheduleOfOneSize])
def test_any_long_schedule(kind: type[AnySchedule], seed: int) -> None:
    """The same steps at the rates of a network that mostly works: long histories; those of hypothesis are short."""
    choose = random.Random(seed)
    schedule = kind()

    def side_and(upper: int) -> tuple[int, int]:
        return choose.randrange(2), choose.randint(1, upper)

    steps: list[tuple[float, Callable[[], object]]] = [
        (2, lambda: schedule.write_control(*side_and(60))),
        (2, lambda: schedule.write_data(*side_and(130))),
        (0.3, lambda: schedule.end_data(choose.randrange(2), choose.random() < 0.2)),
        (3, lambda: schedule.take(*side_and(130))),
        (1, lambda: len(schedule.wires) < STREAMS_AT_ONCE and schedule.dial(choose.random() < 0.5)),
        (3, lambda: schedule.wires and schedule.attach(*side_and(6))),
        (5, lambda: schedule.transmit(choose.randrange(2))),
        (9, lambda: schedule.wires and schedule.deliver(*side_and(6), choose.randint(1, 4))),
        (0.5, lambda: schedule.wires and schedule.cut(*side_and(6), choose.randint(0, 5))),
        (2, lambda: schedule.wait(choose.choice([0.01, 0.1, LIMITS.ack_delay_s, LIMITS.ping_after_s]))),
        (2, schedule.exchange),
        (0.2, lambda: schedule.ping(choose.randrange(2))),
        (0.1, lambda: schedule.sleep(choose.randrange(2))),
        (4, lambda: schedule.wires and schedule.transmit_over_one(*side_and(6), choose.randint(1, 4))),
    ]
    weights, actions = zip(*steps, strict=True)
    for action in choose.choices(actions, weights, k=choose.randint(100, 1000)):
        action()
        schedule.every_byte_comes_once_and_in_order()
        schedule.memory_is_bounded()
        schedule.what_was_sent_is_acknowledged_or_lost_or_on_exactly_one_stream()
    schedule.teardown()

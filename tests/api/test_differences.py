"""Further computations that expose somebody by their difference, and those that do not, over local sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from onionmpc import AGREE_TO_ANYTHING, InputQuestion, Proposal, Table
from onionmpc.api.outcome import Result
from onionmpc.api.questions import Consent
from onionmpc.errors import AgreementError, UnsafeSetting
from onionmpc.session.events import Left, Proposed
from tests.api.test_table import until
from tests.support.api import local_parties
from tests.support.blocks import script_of
from tests.support.session import run

AVERAGE = """
import sys
from mpyc.runtime import mpc

async def main():
    secint = mpc.SecInt(32)
    async with mpc:
        total = int(await mpc.output(mpc.sum(mpc.input(secint(int(sys.stdin.read()))))))
        print("average", total / len(mpc.parties))

mpc.run(main())
"""
LARGEST = AVERAGE.replace("mpc.sum(", "mpc.max(")
DECLARED = script_of(
    """\
[tool.onionmpc]
version = 1
title = "Average"
reveals = "the average to all parties"

[[tool.onionmpc.input]]
name = "number"
label = "Your number"
type = "integer"
"""
)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


class Tables:
    """Tables of a full list, whose last party can leave."""

    def __init__(self, tables: list[Table]) -> None:
        self.tables = tables
        self.leaver = AsyncExitStack()

    async def compute(
        self, inputs: Sequence[str], program: Path | None = None, consents: Sequence[Consent] = ()
    ) -> list[Result | BaseException]:
        """Let all tables compute together; return how each ended."""
        consents = [*consents, *[AGREE_TO_ANYTHING] * len(self.tables)]
        return await asyncio.gather(
            *(
                table.compute(program, input=one, consent=consent)
                for table, one, consent in zip(self.tables, inputs, consents, strict=False)
            ),
            return_exceptions=True,
        )

    async def last_leaves(self) -> None:
        self.tables.pop()
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            for table in self.tables:
                tasks.create_task(until(table, Left))
            tasks.create_task(self.leaver.aclose())


@asynccontextmanager
async def session(
    script: Path, number: int, *allowing: int, allow_no_privacy: bool = True, first_allows_no_privacy: bool = False
) -> AsyncIterator[Tables]:
    """Yield a session of this many parties, of which some allow a difference."""
    async with local_parties(number) as parties, AsyncExitStack() as stack:
        onions = [party.onion for party in parties]
        tables = [
            party.join(
                [onion for onion in onions if onion != party.onion],
                script,
                allow_difference=place in allowing,
                allow_no_privacy=allow_no_privacy or (first_allows_no_privacy and place == 0),
            )
            for place, party in enumerate(parties)
        ]
        opened = Tables(tables)
        await opened.leaver.enter_async_context(tables[-1])
        stack.push_async_exit(opened.leaver)
        for table in tables[:-1]:
            await stack.enter_async_context(table)
        yield opened


def seen_by(proposals: list[Proposal]) -> Consent:
    async def consent(proposal: Proposal) -> bool:
        proposals.append(proposal)
        return True

    return consent


def outputs(endings: Sequence[Result | BaseException]) -> list[str]:
    return [ending.outputs if isinstance(ending, Result) else repr(ending) for ending in endings]


def test_an_average_of_four_and_then_of_three_is_shown_to_a_person_and_refused_unseen(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[Proposal] = []
        # The first party is a person, then one that consents unseen. The others allow what a difference exposes.
        async with session(write(tmp_path, "average", AVERAGE), 4, 1, 2) as opened:
            first = await opened.compute(["1", "2", "3", "10"], consents=[seen_by(seen)])
            assert outputs(first) == ["average 4.0\n"] * 4
            await opened.last_leaves()
            again = await opened.compute(["1", "2", "3"], consents=[seen_by(seen)])
            assert outputs(again) == ["average 2.0\n"] * 3
            refused = await opened.compute(["1", "2", "3"])
        before, now = seen
        left = before.parties[3]
        assert (before.computation, before.previous, before.exposes) == (1, None, ())
        assert (now.computation, now.previous, now.exposed) == (2, before, {left})
        (exposure,) = now.exposes
        assert (exposure.computations, exposure.onions, exposure.same_program) == ((1,), (left,), True)
        text = str(now).splitlines()
        assert f"*              -  {left}  took part in computation 1, not in this one" in text
        assert "* With the result of computation 1, this one may EXPOSE what this address gave:" in text
        assert "*" not in str(before)
        # All parties learn why.
        why = f"this one may expose what {left} gave (allow_difference=True allows that)"
        for number, ending in enumerate(refused):
            assert isinstance(ending, AgreementError), ending
            assert ending.exit_code == 5
            who = "this party (party 0)" if number == 0 else "party 0"
            assert ending.message == f"{who} did not agree: with the result of computation 1, {why}"

    run(main())


def test_the_same_roster_or_other_inputs_alarm_nobody_but_an_input_that_is_given_again_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with session(write(tmp_path, "average", AVERAGE), 3) as opened:
            largest = write(tmp_path, "largest", LARGEST)
            for _ in range(2):
                assert outputs(await opened.compute(["1", "2", "3"])) == ["average 2.0\n"] * 3
            await opened.last_leaves()
            assert outputs(await opened.compute(["7", "8"], largest)) == ["average 4.0\n"] * 2
            mine, other = await opened.compute(["1\n", "9"], largest)
        assert isinstance(mine, AgreementError)
        assert mine.message.startswith("with the result of computation 1, this one may expose what ")
        assert "allow_difference=True" in mine.message
        # That an input was given again stays at its party.
        assert isinstance(other, AgreementError)
        assert other.message == "party 0 did not agree: its user declined"

    run(main())


def test_what_is_typed_after_consent_can_make_it_ask_again(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[Proposal] = []
        asked: list[str] = []

        async def consent(proposal: Proposal) -> bool:
            seen.append(proposal)
            return proposal.computation < 3 or not proposal.exposes

        async def ask(question: InputQuestion) -> str:
            asked.append(question.name)
            return "42"

        async def type_in(opened: Tables, program: Path | None) -> list[Result | BaseException]:
            first, *others = opened.tables
            # Each time another one.
            inputs = ({"number": len(seen) * 10 + number} for number in range(len(others)))
            return await asyncio.gather(
                first.compute(program, ask=ask, consent=consent),
                *(
                    table.compute(program, inputs=own, consent=AGREE_TO_ANYTHING)
                    for table, own in zip(others, inputs, strict=True)
                ),
                return_exceptions=True,
            )

        async with session(write(tmp_path, "average", DECLARED + AVERAGE), 3) as opened:
            largest = write(tmp_path, "largest", DECLARED + LARGEST)
            assert outputs(await type_in(opened, None)) == ["average 14.333333333333334\n"] * 3
            await opened.last_leaves()
            assert outputs(await type_in(opened, largest)) == ["average 21.0\n"] * 2
            declined = await type_in(opened, largest)
        assert len(asked) == 3
        assert [(one.computation, len(one.exposes)) for one in seen] == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
        assert not seen[-1].exposes[0].same_program
        why = "You are asked again: the input that you typed changes whom this result may expose."
        assert [str(one).splitlines()[0] == why for one in seen] == [one.again for one in seen]
        assert [one.again for one in seen] == [False, False, True, False, True]
        assert [str(ending) for ending in declined] == [
            "this party (party 0) did not agree: its user declined",
            "party 0 did not agree: its user declined",
        ]

    run(main())


def test_two_that_are_left_compute_only_if_both_allow_no_privacy(tmp_path: Path) -> None:
    async def main() -> None:
        script = write(tmp_path, "average", AVERAGE)
        async with session(script, 3, allow_no_privacy=False) as opened:
            assert outputs(await opened.compute(["1", "2", "3"])) == ["average 2.0\n"] * 3
            await opened.last_leaves()
            for ending in await opened.compute(["4", "5"]):
                assert isinstance(ending, UnsafeSetting), ending
                assert "threshold 0 with 2 parties hides nothing" in ending.message

    run(main())


def test_a_proposal_that_hides_nothing_is_refused_by_a_party_that_does_not_allow_it(tmp_path: Path) -> None:
    async def main() -> None:
        script = write(tmp_path, "average", AVERAGE)
        async with session(script, 3, allow_no_privacy=False, first_allows_no_privacy=True) as opened:
            assert outputs(await opened.compute(["1", "2", "3"])) == ["average 2.0\n"] * 3
            await opened.last_leaves()
            first, second = opened.tables
            proposing = asyncio.create_task(first.compute(input="4", consent=AGREE_TO_ANYTHING))
            await until(second, Proposed)
            with pytest.raises(AgreementError, match="threshold 0 with 2 parties hides nothing"):
                await second.compute(input="5", consent=AGREE_TO_ANYTHING)
            with pytest.raises(AgreementError, match="party 1 did not agree: threshold 0 with 2 parties"):
                await proposing

    run(main())

"""Runs in rounds: the longest chain of messages is found, and each of its hops goes to the line that asked for it.

A script here says at the end of a line how many hops of the chain are that line's; a line that says nothing has none.
"""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from onionmpc.errors import ProgramError
from onionmpc.program.chain import Hop, by_line, longest_chain
from onionmpc.program.code.catalogue import code_of, find_program
from onionmpc.program.dry_run import run_parties
from onionmpc.program.rehearsal import evenly, rehearse
from onionmpc.program.rounds import TRACED_OPTIONS, Rounds, trace
from onionmpc.program.spec import ProgramSpec, Rest, Sent, Trace
from tests.support.rehearsal import CHAIN, HOPS_BESIDE_ROUNDS, write_spec

DEADLINE_S = 60.0
# So long that what the examples compute is little beside it.
DELAY_S = 0.4
TRIES = 4
MARK = re.compile(r"# hops: (\d+)$")
MAIN = """
from mpyc.runtime import mpc
import asyncio
secint = mpc.SecInt(32)
async def main():
    async with mpc:  # hops: 4
        a, b = [mpc.input(secint(3), senders=sender) for sender in (0, 1)]
        await mpc.output(a)  # hops: 1
{body}
mpc.run(main())
"""
# After the value of party 0, which came with its hello, so that it does not matter who is slow to connect.
BODIES = {
    "nothing more": "",
    "products of one another": """
        for _ in range(5):
            a = a * b  # hops: 5
        await mpc.output(a)  # hops: 1
    """,
    "products beside one another": """
        products = [a * b for _ in range(5)]  # hops: 1
        await mpc.output(products)  # hops: 1
    """,
    "outputs in a loop": """
        for _ in range(5):
            await mpc.output(b)  # hops: 5
    """,
    "outputs in a list": """
        await mpc.output([b] * 5)  # hops: 1
    """,
    "transfers in a loop": """
        for number in range(3):
            await mpc.transfer(number)  # hops: 3
    """,
    # As MPyC 0.11 compares numbers of 32 bits.
    "a comparison": """
        less = a < b  # hops: 10
        await mpc.output(less)  # hops: 1
    """,
    "two branches": """
        short, long = a, a
        for _ in range(3):
            short = short * b
        for _ in range(7):
            long = long * b  # hops: 7
        await mpc.output([short, long])  # hops: 1
    """,
    "two branches that meet in a product": """
        short, long = a, a
        for _ in range(3):
            long = long * b  # hops: 3
        short = short * b
        both = short * long  # hops: 1
        await mpc.output(both)  # hops: 1
    """,
    "the branch that is opened last is not the longest": """
        long = a
        for _ in range(6):
            long = long * b  # hops: 6
        first = mpc.output(long)  # hops: 1
        short = await mpc.output(a * b)
        await first
    """,
    "a gathered share": """
        await mpc.gather(a * b)  # hops: 1
        await mpc.gather([a * b, b * b])  # hops: 1
    """,
    "coroutines of its own": """
        async def power(of, exponent):
            result = of
            for _ in range(exponent):
                result = result * of
                await mpc.gather(result)
            return result
        async def longer(of):
            result = of
            for _ in range(4):
                result = result * of  # hops: 4
                await mpc.gather(result)
            return result
        await mpc.output(await asyncio.gather(power(a, 2), longer(a)))  # hops: 1
    """,
    "a coroutine of MPyC's kind": """
        @mpc.coroutine
        async def cube(of):
            await mpc.returnType(type(of))
            square = of * of  # hops: 2
            return await mpc.gather(square * of)  # hops: 2
        await mpc.output(cube(cube(a)))  # hops: 1
    """,
    "arrays": """
        array = mpc.np_fromlist([a, b, a])
        for _ in range(3):
            array = array * array  # hops: 3
        await mpc.output(array)  # hops: 1
    """,
    "a barrier": """
        product = a * b  # hops: 1
        await mpc.barrier()
        await mpc.output(product)  # hops: 1
    """,
    # Hops are hops, however long something else takes.
    "timers and threads": """
        await asyncio.sleep(0.05)
        await asyncio.wait_for(mpc.output(a * b), 30)  # hops: 2
        await asyncio.get_running_loop().run_in_executor(None, pow, 3, 10**5)
        await mpc.output(b)  # hops: 1
    """,
    "one party alone does something": """
        if mpc.pid == 1:
            await asyncio.sleep(0.05)
        await mpc.output(b)  # hops: 1
    """,
}
# Not in a coroutine of its own, but one mpc.run() after the other.
STATEMENTS = """
from mpyc.runtime import mpc
secint = mpc.SecInt(32)
mpc.run(mpc.start())  # hops: 1
a = mpc.input(secint(3), senders=0)
beside = a
for _ in range(9):
    beside = beside * a  # hops: 9
for _ in range(4):
    mpc.run(mpc.output(a))
mpc.run(mpc.output(beside))  # hops: 1
for _ in range(4):
    mpc.run(mpc.output(a))  # hops: 4
mpc.run(mpc.shutdown())  # hops: 3
"""


def marked(text: str, file: str = "script.py") -> dict[tuple[str, int], int]:
    """Return how many hops each line is to have."""
    return {
        (file, number): int(found[1])
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := MARK.search(line))
    }


def counted(chain: Sequence[Hop]) -> dict[tuple[str, int], int]:
    """Return how many hops each line has."""
    return {(line.place.file, line.place.line): len(line.hops) for line in by_line(chain) if line.place}


def traced(spec: ProgramSpec) -> Sequence[Hop]:
    """Run a program in rounds; return the longest chain."""

    async def main() -> Sequence[Hop]:
        async with asyncio.timeout(DEADLINE_S):
            return await trace(spec)

    return asyncio.run(main())


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_each_hop_is_that_of_the_line_that_asked_for_it(tmp_path: Path, body: str) -> None:
    script = MAIN.format(body=textwrap.indent(textwrap.dedent(body), " " * 8))
    chain = traced(write_spec(tmp_path, script))
    assert counted(chain) == marked(textwrap.dedent(script))
    assert len(chain) == sum(counted(chain).values())


def test_statements_that_run_one_after_another(tmp_path: Path) -> None:
    assert counted(traced(write_spec(tmp_path, STATEMENTS))) == marked(STATEMENTS)


def test_a_chain_goes_through_the_files_of_the_program(tmp_path: Path) -> None:
    helper = """
from mpyc.runtime import mpc

def power(of, exponent):
    result = of
    for _ in range(exponent):
        result = result * of  # hops: 4
    return result

async def shown(value):
    return await mpc.output(value)  # hops: 1
"""
    script = """
from mpyc.runtime import mpc
from parts.helper import power, shown
async def main():
    async with mpc:  # hops: 4
        [a] = mpc.input([mpc.SecInt(32)(2)], senders=0)
        product = power(a, 4) * a  # hops: 1
        await shown(product)
mpc.run(main())
"""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "helper.py").write_text(helper)
    chain = traced(write_spec(tmp_path, script))
    assert counted(chain) == marked(script) | marked(helper, "parts/helper.py")


@pytest.mark.parametrize("parties", [2, 5])
def test_any_number_of_parties(tmp_path: Path, parties: int) -> None:
    # Two parties have no privacy, and need no messages for a product.
    products = 6 if parties > 2 else 0
    chain = traced(write_spec(tmp_path, CHAIN, "6", parties=parties))
    [product] = [line for line, text in enumerate(CHAIN.splitlines(), start=1) if "product * one" in text]
    assert counted(chain).get(("script.py", product), 0) == products
    if parties > 2:
        assert len(chain) == products + HOPS_BESIDE_ROUNDS


@pytest.mark.parametrize(
    ("line", "operation", "bits"),
    [
        ("a < b", "__lt__", 64),
        ("mpc.max([a, b])", "max", 64),
        ("mpc.output(a)", "output", 64),
        ("a * b", "__mul__", 64),
    ],
)
def test_a_hop_says_what_the_line_called_with_how_many_bits(
    tmp_path: Path, line: str, operation: str, bits: int
) -> None:
    script = f"""
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            a, b = mpc.input(mpc.SecInt(64)(mpc.pid), senders=[0, 1])
            await mpc.output([a, b])
            await mpc.gather({line})
    mpc.run(main())
    """
    hops = [hop for hop in traced(write_spec(tmp_path, script)) if hop.origin and hop.origin.place.line == 7]
    assert {(hop.origin.operation, hop.origin.bits) for hop in hops if hop.origin} == {(operation, bits)}


@pytest.mark.parametrize(
    "report",
    [
        Trace((Sent(3, None, None),)),
        Trace((Sent(0, None, None),)),
        Trace((), Rest(1, (0, 0), (0, 0, 0))),
        Trace((), Rest(1, (0, 0, 0), (0,) * 4)),
    ],
)
def test_a_report_of_messages_that_there_cannot_be_is_refused(report: Trace) -> None:
    with pytest.raises(ProgramError, match="party 0 reports messages to parties that do not exist"):
        Rounds(3).traced(0, report)


# -- the same as counted in another way


EXAMPLES = {
    "auction": (),
    "average_salary": (),
    "millionaires": (),
    "regression": ("--rows", "20"),
    "secret_santa": (),
    "sort": ("--count", "6"),
    "vote": ("tea,coffee",),
}


def example(name: str) -> ProgramSpec:
    """Return what runs a program that comes with onionmpc, with three parties."""
    program = find_program(name)
    return ProgramSpec(
        script=str(program.path),
        folder=str(program.folder),
        arguments=(*EXAMPLES[name], "--demo") if name != "sort" else EXAMPLES[name],
        number=0,
        parties=3,
        threshold=1,
        mpyc_options=(),
        code=code_of(program),
    )


@pytest.mark.parametrize("starts", [1, 2, 5])
def test_each_further_start_of_mpyc_adds_three_hops(tmp_path: Path, starts: int) -> None:
    # The first has four: the ends of the connections overlap with the next start.
    script = """
    import sys
    from mpyc.runtime import mpc
    for _ in range(int(sys.argv[1])):
        mpc.run(mpc.start())
        mpc.run(mpc.shutdown())
    """
    hops = asyncio.run(trace(write_spec(tmp_path, script, str(starts))))
    assert len(hops) == 4 + 3 * (starts - 1)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_chain_of_each_example_is_as_long_as_the_run_has_rounds(name: str) -> None:
    # By what it was that woke whom, and by how often nothing moved until messages were delivered.
    rounds = Rounds(3)
    asyncio.run(run_parties(msgspec.structs.replace(example(name), trace=True, mpyc_options=TRACED_OPTIONS), rounds))
    chain = longest_chain(rounds.messages)
    assert len(chain) == rounds.count
    assert all(hop.origin for hop in chain)


# The others take longer, and secret santa draws again until nobody has drawn itself, so two runs of it differ.
@pytest.mark.parametrize("name", ["average_salary", "vote"])
def test_an_example_takes_as_many_delays_as_its_chain_has_hops(name: str) -> None:
    hops = len(traced(example(name)))
    most = 1.05 * hops + 0.5
    delays = []
    for _ in range(TRIES):  # a run cannot be faster than its hops, but a busy machine makes it slower
        ran = asyncio.run(rehearse(example(name), evenly(DELAY_S)))
        assert ran.seconds >= hops * DELAY_S
        delays.append(ran.seconds / ran.held_s)
        if delays[-1] < most:
            break
    assert min(delays) < most

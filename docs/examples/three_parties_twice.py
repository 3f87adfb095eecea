"""Shows: three parties in one process that compute twice, over a private Tor network on this machine.

python three_parties_twice.py              starts a network and stops it at the end
python three_parties_twice.py DIRECTORY    uses the network in DIRECTORY (see: onionmpc testnet)
"""

import asyncio
import contextlib
import sys

import onionmpc


async def compute(table: onionmpc.Table, salary: int) -> onionmpc.Result:
    async with table:
        # All three parties are ours: there is nobody to ask.
        return await table.compute(input=str(salary), consent=onionmpc.AGREE_TO_ANYTHING)


async def average(host: onionmpc.Party, *guests: onionmpc.Party, salaries: tuple[int, int, int]) -> str:
    async with host.host("average-salary", parties=3) as table, asyncio.TaskGroup() as tasks:
        for guest, invite, salary in zip(guests, table.invites, salaries[1:], strict=True):
            tasks.create_task(compute(guest.join(invite), salary))
        result = await table.compute(input=str(salaries[0]), consent=onionmpc.AGREE_TO_ANYTHING)
    slowest_s = max(link.round_trip_s or 0.0 for link in result.links.values())
    print(f"connected in {result.times.connect_s:.1f} s, slowest round trip {slowest_s * 1000:.0f} ms")
    return result.outputs


async def main(testnet: str | None = None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        network = testnet or await stack.enter_async_context(onionmpc.private_network(latency="none"))
        ann, bob, cy = [await stack.enter_async_context(onionmpc.party(testnet=network)) for _ in range(3)]
        print(await average(ann, bob, cy, salaries=(4200, 3100, 5300)), end="")
        print(await average(cy, ann, bob, salaries=(5400, 4300, 3200)), end="")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Shows: one party of a session, with questions to its person and the invites of a host.

python average_of_three.py host 4200
python average_of_three.py join 3100 invite.txt
"""

import asyncio
import sys
from pathlib import Path

import onionmpc


async def ask(proposal: onionmpc.Proposal) -> bool:
    print(proposal)  # the text that the command line shows
    return await asyncio.to_thread(input, "compute on these terms? [y/N] ") == "y"


async def host(salary: str, testnet: str | None) -> None:
    async with onionmpc.party(testnet=testnet) as me, me.host("average-salary", parties=3) as table:
        for number, invite in enumerate(table.invites, 1):
            path = Path(f"invite-{number}.txt")
            path.touch(mode=0o600)
            path.write_text(str(invite))
            print(f"send {path} to one party, by a way that only that party can read", flush=True)
        result = await table.compute(input=salary, consent=ask)
    print(result.outputs, end="")


async def join(salary: str, invite: str, testnet: str | None) -> None:
    async with onionmpc.party(testnet=testnet) as me, me.join(Path(invite).read_text()) as table:
        result = await table.compute(input=salary, consent=ask)
    print(result.outputs, end="")


def main(role: str, salary: str, *others: str) -> None:
    try:
        if role == "host":
            asyncio.run(host(salary, *others or (None,)))
        else:
            asyncio.run(join(salary, others[0], *others[1:] or (None,)))
    except onionmpc.OnionMPCError as error:
        sys.exit(f"{error.message}\n{error.hint}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Shows: reading the events of a session while it runs, giving up after a time, and telling errors apart.

python progress_and_errors.py ADDRESS [DIRECTORY]    joins a host that may not be there
"""

import asyncio
import sys

import onionmpc
from onionmpc import errors, events


async def watch(table: onionmpc.Table) -> None:
    async for event in table.events:
        match event:
            case events.TorProgress(phase, percent, _):
                print(f"{phase}: {percent} %")
            case events.Published():
                print("others can find this party")
            case events.DialRetry(_, reason):
                print(f"the host is not there yet: {reason}")
            case events.LinkUp(party, connected, peers):
                print(f"connected to party {party}, {connected} of {peers}")


async def main(address: str, testnet: str | None = None) -> str:
    try:
        async with onionmpc.party(testnet=testnet) as me, me.join(address, "average-salary", wait_s=5) as table:
            watching = asyncio.create_task(watch(table))  # ends when the table is left
            try:
                async with asyncio.timeout(60):
                    return (await table.compute(input="4200", consent=onionmpc.AGREE_TO_ANYTHING)).outputs
            finally:
                watching.cancel()
    except TimeoutError:  # tor, its programs and all temporary files are gone by now
        return "gave up"
    except errors.TorError as error:
        return f"our own tor: {error}"
    except errors.PeerError as error:
        return f"a party is not there: {error}"
    except errors.OnionMPCError as error:
        return f"something else: {error}"


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:])))

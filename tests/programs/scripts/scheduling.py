"""What moves values between parties, and what decides when: transfers, receivers, barriers and own protocols."""

from __future__ import annotations

import asyncio

from mpyc.runtime import mpc


@mpc.coroutine
async def masked(number):  # what MPyC returns for it is not what it returns
    """A protocol of this program: add a random number, open the sum, take it off again."""
    secint = type(number)
    await mpc.returnType(secint)
    mask = mpc.random.randrange(secint, 50)
    number, mask = await mpc.gather(number, mask)
    total = await mpc.output(number + mask)
    return total - mask


async def main() -> None:
    secint = mpc.SecInt(16)
    await mpc.start()
    print("parties", mpc.pid, len(mpc.parties), mpc.threshold, mpc.version, mpc.options.no_prss)
    print("inputs", await mpc.output(mpc.input(secint(4 + mpc.pid))), await mpc.output(mpc.input(secint(7), senders=1)))
    print("inputs", [await mpc.output(row) for row in mpc.input([secint(1), secint(mpc.pid)], senders=[0, 2])])
    secret = mpc.input(secint(41), senders=2)
    print("receivers", await mpc.output(secret, receivers=1), await mpc.output(secret, receivers=[0, 2]))
    print("transfer", await mpc.transfer({"from": mpc.pid, "bytes": bytes(3)}))
    print(
        "transfer",
        await mpc.transfer(mpc.pid, senders=1),
        await mpc.transfer(mpc.pid, senders=[0, 1], receivers=[1, 2]),
    )
    ring = [(party, (party + 1) % 3) for party in range(3)]
    print("transfer", await mpc.transfer(f"to the next of {mpc.pid}", sender_receivers=ring))
    print("transfer", await mpc.transfer(mpc.pid, sender_receivers={0: {1, 2}, 1: {0}, 2: set()}))
    print("protocol", await mpc.output(masked(secret)))
    product = secret
    for turn in range(20):
        product = product * (turn % 3 - 1)
        await mpc.throttler(0.25, name="turn")
    await mpc.barrier("products")
    print("barrier", await mpc.output(product))
    await mpc.barrier()
    both = await asyncio.gather(mpc.output(secret + 1), mpc.output(secret + 2))
    print("gather", both, await mpc.gather(mpc.output([secret, secret])))
    print("run", mpc.run(asyncio.sleep(0, result="done")))
    mpc.logging(False)
    mpc.peek(secret, label="not shown")
    await mpc.barrier("after the peek")
    mpc.logging(True)
    await mpc.shutdown()


if __name__ == "__main__":
    mpc.run(main())

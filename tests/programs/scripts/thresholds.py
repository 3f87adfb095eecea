"""Thresholds: of an output, and of what follows a change. Keys of PRSS belong to one threshold, so it goes without."""

from __future__ import annotations

from mpyc.runtime import mpc


async def main() -> None:
    secint, prime = mpc.SecInt(16), mpc.SecFld(101)
    async with mpc:
        agreed = mpc.threshold
        a, b, c = mpc.input(secint(mpc.pid + 3))[:3]
        product = mpc.mul(a, b)
        print(
            "agreed",
            agreed,
            await mpc.output([a, product], threshold=agreed),
            await mpc.output(prime(5), threshold=agreed),
        )
        # A product of two shares has twice the degree, and all parties can open it without a resharing.
        shares = await mpc.gather(a, b)
        print("twice", int(await mpc.output(secint.field(int(shares[0] * shares[1])), threshold=2 * agreed)))
        if mpc.options.no_prss:
            mpc.threshold = 0
            public = mpc.input(secint(mpc.pid + 1))
            print("none", mpc.threshold, await mpc.output(mpc.prod(public)), await mpc.output(public[0] < public[1]))
            mpc.threshold = agreed
        again = mpc.input(secint(mpc.pid + 1))
        print("again", mpc.threshold, await mpc.output(mpc.sum(again)), await mpc.output([again[0] < again[1], c * c]))


if __name__ == "__main__":
    mpc.run(main())

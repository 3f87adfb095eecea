"""Reductions and prefixes of few rounds."""

from __future__ import annotations

import operator

from mpyc import mpctools
from mpyc.runtime import mpc


async def main() -> None:
    secint = mpc.SecInt(16)
    async with mpc:
        x = mpc.input(secint(mpc.pid + 2)) + [secint(1), secint(3)]
        print(
            "reduce", await mpc.output([mpctools.reduce(operator.mul, x), mpctools.reduce(operator.add, x, initial=10)])
        )
        print("accumulate", await mpc.output([*mpctools.accumulate(x)]))
        print("accumulate", await mpc.output([*mpctools.accumulate(x, operator.mul, initial=secint(2))]))
        for method in ("Brent-Kung", "Sklansky"):
            print(method, await mpc.output([*mpctools.accumulate(x, mpc.max, method=method)]))


if __name__ == "__main__":
    mpc.run(main())

"""Statistics of secure integers and fixed-point numbers."""

from __future__ import annotations

from mpyc import statistics
from mpyc.runtime import mpc


async def main() -> None:
    secint, secfxp = mpc.SecInt(10), mpc.SecFxp(32, 12)
    async with mpc:
        x = [number for row in mpc.input([secint(3 * mpc.pid + 1), secint(2)]) for number in row]
        print("data", await mpc.output(x))
        print("means", await mpc.output([statistics.mean(x), mpc.statistics.mean(iter(x))]))
        spread = [statistics.variance(x), statistics.pvariance(x), statistics.stdev(x), statistics.pstdev(x)]
        print("spread", await mpc.output(spread))
        print("middle", await mpc.output([statistics.median(x), statistics.median_low(x), statistics.median_high(x)]))
        print("mode", await mpc.output(statistics.mode(x)))
        print("quantiles", await mpc.output(statistics.quantiles(x, n=2)))
        print("quantiles", await mpc.output(statistics.quantiles(x, n=2, method="inclusive")))
        u, v = [secfxp(n) for n in (1.25, 2.5, 3.75)], [secfxp(n) for n in (2.25, 4.75, 7.25)]
        print(
            "means",
            [
                round(n * 16) / 16
                for n in await mpc.output([statistics.mean(u), statistics.variance(v, xbar=secfxp(4.75))])
            ],
        )
        slope, intercept = statistics.linear_regression(u, v)
        both = [statistics.covariance(u, v), statistics.correlation(u, v), slope, intercept]
        print("two", [round(n) + 0 for n in await mpc.output(both)])


if __name__ == "__main__":
    mpc.run(main())

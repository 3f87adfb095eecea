"""Secure fixed-point numbers, and the functions that only they have.

MPyC rounds at random, so numbers are shown in sixteenths: no exact result lies halfway between two of these.
"""

from __future__ import annotations

from mpyc.runtime import mpc


def rounded(numbers: list[float]) -> list[float]:
    return [round(number * 16) / 16 + 0.0 for number in numbers]


async def main() -> None:
    secfxp = mpc.SecFxp(24, 12)
    async with mpc:
        a, b, c = mpc.input(secfxp(mpc.pid * 1.5 - 1.25), senders=[0, 1, 2])
        print("inputs", await mpc.output([a, b, c]), a.integral, secfxp(3).integral, secfxp.frac_length)
        print("arithmetic", rounded(await mpc.output([a + b, a - 0.5, 2 - c, a * b, -c, c / a, 1 / b, a**2])))
        print("functions", rounded(await mpc.output([mpc.div(a, b), mpc.abs(a), mpc.sgn(a)])))
        print("comparison", await mpc.output([a < b, a <= b, a == b, a != b, a >= b, a > b, a < 0.5, b == 0.25]))
        print("trunc", rounded(await mpc.output([mpc.trunc(secfxp(8), f=2), *mpc.trunc([secfxp(8), secfxp(4)], f=1)])))
        print("rest", rounded(await mpc.output([c % 1, mpc.mod(secfxp(7), secfxp(2)), secfxp(7) // 2])))
        print("list", rounded(await mpc.output([mpc.sum([a, b, c]), mpc.prod([b, c, c]), mpc.in_prod([a, b], [b, c])])))
        print(
            "list", rounded(await mpc.output(mpc.scalar_mul(b, [a, c]))), rounded(await mpc.output([mpc.max(a, b, c)]))
        )
        print("public", await mpc.eq_public(b, 0.25), await mpc.is_zero_public(a - a))
        print("convert", await mpc.output(mpc.convert(secfxp(12), mpc.SecInt(24))))
        small = mpc.SecFxp(20, 10)
        sine, cosine = mpc.sincos(small(1.2))
        angles = [sine, cosine, mpc.sin(small(0.4)), mpc.cos(small(0.4)), mpc.tan(small(0.4))]
        print("angles", [round(value, 1) for value in await mpc.output(angles)])


if __name__ == "__main__":
    mpc.run(main())

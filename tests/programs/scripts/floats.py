"""Secure floating-point numbers."""

from __future__ import annotations

from mpyc.runtime import mpc


async def main() -> None:
    secflt = mpc.SecFlt(s=8, e=5)
    async with mpc:
        a, b, c = mpc.input(secflt(1.5 * mpc.pid - 1))
        print("inputs", await mpc.output([a, b, c]))
        values = await mpc.output(
            [a + b, b - c, 3 - c, b * c, c / 3, -a, +a, abs(a), 1 / (c + 1), (c + 1).reciprocal()]
        )
        print("arithmetic", [round(value, 1) + 0.0 for value in values])
        print("comparison", await mpc.output([a < b, a <= b, a == b, a != b, a >= b, a > b]))
        print("public", await mpc.eq_public(a, a), await mpc.is_zero_public(a - b), await secflt.is_zero_public(a - a))
        print("extremes", await mpc.output([mpc.max(a, b), mpc.min(a, b)]))


if __name__ == "__main__":
    mpc.run(main())

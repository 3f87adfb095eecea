"""Secure integers: operators, comparison, division and number theory."""

from __future__ import annotations

from mpyc.runtime import mpc


async def main() -> None:
    secint = mpc.SecInt(16)
    async with mpc:
        a, b, c = mpc.input(secint(10 * mpc.pid + 7))
        b, c = b + 3, c - 6
        print("inputs", await mpc.output([a, b, c]))
        print("arithmetic", await mpc.output([a + b, a - b, 100 - c, a * b, -c, +a, a / 7, 140 / a, a**3, abs(-b)]))
        print(
            "division",
            await mpc.output([c % 2, c % 5, c // 4, *divmod(b, 8), mpc.mod(b, secint(6)), mpc.mod(c, secint(2))]),
        )
        print("comparison", await mpc.output([a < b, a <= 7, a == b, a != b, b > c, b >= 20, mpc.lt(a, b)]))
        print("functions", await mpc.output([mpc.add(a, b), mpc.sub(a, b), mpc.mul(a, b), mpc.div(c * 5, 5)]))
        print("functions", await mpc.output([mpc.neg(a), mpc.pos(a), mpc.pow(b, 2), mpc.abs(-c), mpc.eq(a, 7)]))
        print("functions", await mpc.output([mpc.ge(a, b), mpc.is_zero(a - 7), mpc.sgn(a - b), mpc.lsb(b)]))
        print("sgn", await mpc.output([mpc.sgn(a - b, LT=True), mpc.sgn(a - 7, EQ=True), mpc.sgn(c, l=8)]))
        print("public", await mpc.eq_public(a, 7), await mpc.eq_public(a, b), await mpc.is_zero_public(a - 7))
        print("choice", await mpc.output([mpc.if_else(a < b, a, b), *mpc.if_swap(a < b, a, b)]))
        print("choice", await mpc.output([(a < b).if_else(1, c), *(a > b).if_swap(a, b)]))
        print("choice", await mpc.output(mpc.if_else(a == 7, [a, b], [b, c])))
        eight = mpc.SecInt(8)
        x, y = eight(12), eight(18)
        print("number theory", await mpc.output([mpc.gcd(x, y, l=6), mpc.lcm(x, y, l=6), mpc.gcp2(x, eight(20))]))
        print("number theory", await mpc.output([mpc.inverse(eight(3), eight(7), l=4), *mpc.gcdext(x, y, l=6)]))
        zeros = await mpc.output(mpc.trailing_zeros(eight(40)))
        print("trailing zeros", zeros[:4])
        print("convert", await mpc.output(mpc.convert(a, mpc.SecInt(64)) * 10**12))
        print(
            "convert",
            await mpc.output([*mpc.convert([a, b], mpc.SecFxp(20, 4)), mpc.convert(a, mpc.SecFxp(20, 4)) / 2]),
        )
        print("lengths", secint.bit_length, secint.frac_length, type(a).__name__)
        default = mpc.SecInt()
        print("default", default.bit_length, await mpc.output(default(2) ** 20))
        prime = mpc.SecInt(10, p=2**61 - 1)
        print("modulus", prime.field.modulus, await mpc.output(prime(-5) * 6))


if __name__ == "__main__":
    mpc.run(main())

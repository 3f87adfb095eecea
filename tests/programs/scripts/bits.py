"""Bits of secure numbers, unit vectors, and random bits."""

from __future__ import annotations

from mpyc.runtime import mpc


async def main() -> None:
    secint, secfxp, prime = mpc.SecInt(16), mpc.SecFxp(16, 8), mpc.SecFld(101)
    async with mpc:
        a, b, _ = mpc.input(secint(mpc.pid * 11 + 5))
        x, y = mpc.to_bits(a, 8), mpc.to_bits(b, 8)
        print("bits", await mpc.output(x), await mpc.output(y), await mpc.output(mpc.to_bits(secint(-3))))
        print("bits", await mpc.output(mpc.add_bits(x, y)), await mpc.output([mpc.from_bits(x), mpc.from_bits(y)]))
        print("bits", await mpc.output(mpc.to_bits(secfxp(1.5))), await mpc.output(mpc.to_bits(prime(21), 5)))
        print("unit", await mpc.output(mpc.unit_vector(a, 7)), await mpc.output(mpc.unit_vector(prime(2), 4)))
        flips = mpc.random_bits(secint, 6) + [mpc.random_bit(secint)]
        print("random", {*await mpc.output(flips)} <= {0, 1})
        signs = mpc.random_bits(secint, 6, signed=True) + [mpc.random_bit(secint, signed=True)]
        print("random", {*await mpc.output(signs)} <= {-1, 1})
        print("random", {*map(int, await mpc.output(mpc.random_bits(prime, 6)))} <= {0, 1})
        print("random", {*await mpc.output(mpc.random_bits(secfxp, 6))} <= {0, 1})
        binary = mpc.SecFld(2**8)
        print("random", {*map(int, await mpc.output(mpc.random_bits(binary, 6)))} <= {0, 1})


if __name__ == "__main__":
    mpc.run(main())

"""Secure finite fields: prime, binary and extension fields, and conversions between them."""

from __future__ import annotations

from mpyc.runtime import mpc


async def main() -> None:
    async with mpc:
        prime = mpc.SecFld(101)
        a, b, c = mpc.input(prime(mpc.pid + 5))
        print("prime", await mpc.output([a + b, a - b, a * b, a / b, -c, 1 / c, a**7, b**-1, mpc.reciprocal(a)]))
        # No sgn, not even with EQ=True: its mask wraps around in a field without room for it, so it errs at times.
        print("prime", await mpc.output([a == 5, b != 6, a == b, mpc.is_zero(a - 5), mpc.eq(b, 6)]))
        print("prime", await mpc.eq_public(a, b), await mpc.is_zero_public(a - 5))
        print("prime", await mpc.output([mpc.prod([a, b, c]), mpc.sum([a, b, c]), mpc.in_prod([a, b], [b, c])]))
        print("raw", await mpc.output(a, raw=True), prime.frac_length, prime.field.order)

        signed = mpc.SecFld(modulus=101, signed=True)
        print("signed", await mpc.output([signed(3) - 5, signed(-50)]))

        two = mpc.SecFld(2)
        x, y, z = mpc.input(two(mpc.pid % 2))
        print("bits", await mpc.output([x + y, y * y, x ^ y, x & y, x | y, ~x, mpc.all([y, y]), mpc.any([x, z])]))

        binary = mpc.SecFld(2**8)
        p, q, r = mpc.input(binary(3 + 16 * mpc.pid))
        print("binary", await mpc.output([p + q, p * q, 1 / q, p**254, r & q, r | q, r ^ q, ~p, p == 3]))
        print("binary", await mpc.output([mpc.and_(q, r), mpc.or_(q, r), mpc.xor(q, r), mpc.invert(q)]))
        print("binary", await mpc.output(mpc.to_bits(r)), await mpc.output(mpc.from_bits(mpc.to_bits(r))))

        extension = mpc.SecFld(order=3**4)
        d, e, f = mpc.input(extension(10 + mpc.pid))
        print("extension", await mpc.output([d + e, d * e * f, d / e, f**5, d == e]), extension.field.ext_deg)
        print("described", mpc.SecFld(char=2, ext_deg=3).field.order, mpc.SecFld(min_order=500).field.order)
        print("described", mpc.SecFld(char=7, min_order=50).field.order, mpc.SecFld(modulus="x^3+x+1").field.order)

        print("convert", await mpc.output(mpc.convert([a, b], mpc.SecInt(16))))
        print("convert", await mpc.output(mpc.convert(a, mpc.SecFld(1009)) * 100))
        print("convert", await mpc.output(mpc.convert(mpc.SecInt(16)(9), mpc.SecFld(31))))


if __name__ == "__main__":
    mpc.run(main())

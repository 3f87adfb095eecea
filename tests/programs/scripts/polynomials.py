"""Secure polynomials over a prime field."""

from __future__ import annotations

from mpyc.gfpx import GFpX
from mpyc.runtime import mpc
from mpyc.secpols import secpoly


async def main() -> None:
    field = mpc.SecFld(101)
    polynomial = GFpX(101)
    async with mpc:
        a = mpc.input(secpoly(polynomial([1 + mpc.pid, 2, 3, 1]), field), senders=1)
        b = secpoly(polynomial([5, 1]), field)
        print("values", await mpc.output(a), await mpc.output(b), a.sectype is field)
        print("arithmetic", [await mpc.output(c) for c in (a + b, a - b, a * b, -a, +a, a**2)])
        print("arithmetic", [await mpc.output(c) for c in (secpoly.add(a, b), secpoly.sub(a, b), secpoly.mul(a, b))])
        print(
            "division", [await mpc.output(c) for c in (a // b, a % b, *divmod(a, b), secpoly.mod(a, b), a << 1, a >> 1)]
        )
        print(
            "shape",
            await mpc.output(a.degree()),
            [await mpc.output(c) for c in (a.monic(), a.reverse(), a.truncate(2))],
        )
        print(
            "choice", await mpc.output(secpoly.if_else(field(1), a, b)), await mpc.output(a[1]), await mpc.output(a(2))
        )
        print("choice", [await mpc.output(c) for c in secpoly.if_swap(field(1), a, a + b)])
        print("gcd", await mpc.output(secpoly.gcd(a, b)), [await mpc.output(c) for c in secpoly.gcdext(a, b)])
        print("modular", await mpc.output(secpoly.powmod(b, 3, a)), await mpc.output(secpoly.invert(b, a)))
        print("compared", await mpc.output([a < b, a <= b, a == b, a != b, a >= b, a > b]))
        print("irreducible", await mpc.output([secpoly.is_irreducible(b), secpoly.is_irreducible(b * b)]))
        print("copy", await mpc.output(a.copy()))


if __name__ == "__main__":
    mpc.run(main())

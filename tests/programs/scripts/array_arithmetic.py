"""Secure arrays: arithmetic, sums and products, over integers, fixed-point numbers and fields.

MPyC rounds at random, so numbers are shown in sixteenths: no exact result lies halfway between two of these.
"""

from __future__ import annotations

import numpy as np
from mpyc.runtime import mpc


async def show(name, *arrays):
    for array in arrays:
        opened = await mpc.output(array)
        opened = np.asarray(opened.value if hasattr(opened, "field") else opened, dtype=object)
        print(name, (np.round(opened.astype(float) * 16) / 16).tolist())


async def main() -> None:
    secint, secfxp, prime = mpc.SecInt(16), mpc.SecFxp(24, 12), mpc.SecFld(101)
    async with mpc:
        a, b, c = mpc.input(secint.array(np.array([[1, 2], [3, -4]]) + mpc.pid))
        await show(
            "operators",
            a + b,
            a - b,
            a * b,
            -a,
            abs(b - 3),
            a**2,
            3 - a,
            2 * a,
            a + np.array([1, 2]),
            a / 1,
            12 / (b - b + 4),
        )
        await show("functions", mpc.np_add(a, b), mpc.np_subtract(a, b), mpc.np_multiply(a, c), mpc.np_negative(a))
        await show(
            "functions",
            mpc.np_absolute(b - 3),
            mpc.np_pow(a, 3),
            mpc.np_divide(b * 12, b - b + 4),
            mpc.np_divide(a * 6, 3),
        )
        await show(
            "numpy", np.add(a, b), np.subtract(a, 1), np.multiply(a, a), np.negative(a), np.absolute(a), np.power(a, 2)
        )
        await show(
            "products", mpc.np_matmul(a, b), a @ b, np.matmul(a, c), a @ np.array([1, 1]), mpc.np_outer(a[0], b[0])
        )
        await show("products", np.outer(a[0], a[1]), mpc.np_convolve(a[0], b[1]), np.convolve(a[0], [1, 2, 3]))
        await show(
            "reduced", mpc.np_sum(a), a.sum(), a.sum(axis=0), np.sum(a, axis=1), np.sum(a, axis=(0, 1), keepdims=True)
        )
        await show("reduced", mpc.np_prod(a), np.prod(a, axis=0), mpc.np_cumsum(a[0]), np.cumsum(a, axis=1))
        await show("reduced", mpc.np_cumulative_sum(a, axis=0), np.cumulative_sum(a, axis=1, include_initial=True))
        bits = secint.array(np.array([[1, 0], [1, 1]]))
        await show("reduced", mpc.np_all(bits, axis=1), np.all(bits), mpc.np_any(bits, axis=0), np.any(bits))
        await show("vander", mpc.np_vander(a[0]), np.vander(a[0], 3, increasing=True))

        x, y, _ = mpc.input(secfxp.array(np.array([1.5, -2.25]) * (mpc.pid + 1)))
        await show(
            "fixed",
            x,
            x + y,
            x - y,
            x * y,
            -x,
            abs(x),
            x / y,
            x / 2,
            3 / x,
            x**2,
            x @ y,
            np.sum(x),
            mpc.np_trunc(x * 4, f=2),
        )
        await show("fixed", mpc.np_matmul(x.reshape(1, 2), y.reshape(2, 1)), mpc.np_outer(x, y), np.stack((x, y)))
        print("fixed", x.integral, secfxp.array(np.array([1, 2])).integral, secfxp.array.frac_length)

        p, q, _ = mpc.input(prime.array(np.array([[3, 5], [7, 11 + mpc.pid]])))
        await show("field", p + q, p * q, p / q, p @ q, 1 / p, p**-1, p**5, mpc.np_reciprocal(p))
        await show("determinant", mpc.np_det(a), np.linalg.det(b))
        binary = mpc.SecFld(2**8)
        print("binary", (await mpc.output(binary.array(np.array([3, 77])) ** 254)).tolist(), binary.array.frac_length)


if __name__ == "__main__":
    mpc.run(main())

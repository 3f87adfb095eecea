"""Secure arrays: comparison, choice, order, search and bits."""

from __future__ import annotations

import numpy as np
from mpyc.runtime import mpc


async def show(name, *arrays):
    for array in arrays:
        opened = await mpc.output(array)
        print(name, opened.tolist() if hasattr(opened, "tolist") else opened)


async def main() -> None:
    secint, secfxp, prime = mpc.SecInt(12), mpc.SecFxp(12, 4), mpc.SecFld(101)
    async with mpc:
        a, b, _ = mpc.input(secint.array(np.array([[5, -2], [7, 4]]) * (1 - mpc.pid) + mpc.pid))
        await show("compared", a < b, a <= b, a == b, a != b, a >= 5, a > b, mpc.np_less(a, b), mpc.np_equal(a, 5))
        await show(
            "compared", np.less(a, b), np.equal(a, b), mpc.np_sgn(a), mpc.np_sgn(a - 4, EQ=True), mpc.np_sgn(a, LT=True)
        )
        print("public", await mpc.np_is_zero_public(a - a), await mpc.np_is_zero_public(a - 5))
        await show("choice", mpc.np_where(a < b, a, b), np.where(a < b, a, b), *mpc.np_if_swap(a < b, a, b))
        await show("choice", mpc.np_minimum(a, b), np.minimum(a, 3), mpc.np_maximum(a, b), np.maximum(a, b))
        await show("extremes", mpc.np_amin(a), np.amin(a, axis=0), mpc.np_amax(a), np.amax(a, axis=1, keepdims=True))
        await show(
            "extremes",
            mpc.np_argmin(a),
            np.argmin(a, axis=0),
            *a.argmin(),
            mpc.np_argmax(a),
            np.argmax(a, axis=1),
            *a.argmax(),
        )
        await show("order", mpc.np_sort(a), np.sort(a, axis=None), mpc.np_sort(a, axis=0))
        c = a.copy()
        c.sort()
        await show("order", c)
        bits = secint.array(np.array([[0, 0, 1], [1, 1, 1]]))
        await show("found", mpc.np_find(bits, 1), mpc.np_find(bits, 0), mpc.np_find(a, 7, bits=False, e=-1))
        await show("bits", mpc.np_to_bits(a)[..., :4], mpc.np_from_bits(bits), mpc.np_add_bits(bits, bits))
        if not mpc.options.no_prss:  # MPyC 0.11 fails in it otherwise
            await show("bits", mpc.np_lsb(a))
        await show("unit", mpc.np_unit_vector(secint(2), 4))
        random = await mpc.output(mpc.np_random_bits(secint, 8))
        print("random", {*random.tolist()} <= {0, 1}, len(random))
        random = await mpc.output(mpc.np_random_bits(prime, 8, signed=True))
        print("random", {*map(int, random.tolist())} <= {1, 100})
        x = secfxp.array(np.array([1.5, -0.25, 2.0]))
        await show("fixed", x < 1, np.sort(x), np.amax(x), mpc.np_sgn(x), *x.argmin(), mpc.np_to_bits(x)[0, -6:])
        await show("field", prime.array(np.array([5, 0])) == 5)


if __name__ == "__main__":
    mpc.run(main())

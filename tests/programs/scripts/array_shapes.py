"""Secure arrays: how they are taken apart, joined and turned. Each function is called by MPyC's name and by numpy's."""

from __future__ import annotations

import numpy as np
from mpyc.runtime import mpc


async def show(name, *arrays):
    for array in arrays:
        opened = await mpc.output(array)
        print(name, opened.tolist() if hasattr(opened, "tolist") else opened)


async def main() -> None:
    secint = mpc.SecInt(16)
    async with mpc:
        a = mpc.input(secint.array(np.arange(6).reshape(2, 3) * (mpc.pid + 1)), senders=1)
        b = secint.array(np.array([[7, 8, 9], [1, 1, 2]]))
        v = mpc.np_fromlist([secint(3), secint(1), secint(2)])
        cube = mpc.np_reshape(mpc.np_append(a, b), (2, 2, 3))
        print("about", a.shape, a.ndim, a.size, len(a), cube.shape, a.frac_length, secint.array.sectype is secint)
        await show("items", a[0], a[:, 1], a[1, 2], mpc.np_getitem(a, (0, 1)), mpc.np_update(a, (0, 1), secint(50)))
        await show("rows", *a)
        await show(
            "flat",
            mpc.np_flatten(a),
            a.flatten(),
            a.flatten("F"),
            np.reshape(a, -1),
            a.reshape(3, 2),
            *list(a.flat)[:2],
        )
        print(
            "lists", [await mpc.output(row) for row in mpc.np_tolist(a)], [await mpc.output(row) for row in a.tolist()]
        )
        await show("copies", mpc.np_copy(a), a.copy(), np.copy(a))
        await show("turned", mpc.np_transpose(a), a.T, a.transpose(), np.transpose(cube, (2, 0, 1)), a.swapaxes(0, 1))
        await show("turned", mpc.np_swapaxes(a, 0, 1), np.swapaxes(cube, 0, 2), mpc.np_rot90(a), np.rot90(a, 2))
        await show("turned", mpc.np_flip(a), np.flip(a, 1), mpc.np_fliplr(a), np.flipud(a), mpc.np_flipud(a))
        await show("rolled", mpc.np_roll(a, 1), np.roll(a, 1, axis=1), mpc.np_roll(v, secint(1)))
        await show(
            "dimensions", mpc.np_expand_dims(v, 0), np.expand_dims(v, 1), mpc.np_squeeze(a[:1]), np.squeeze(a[:1])
        )
        await show("diagonals", mpc.np_diag(v), mpc.np_diag(a, 1), np.diag(a), mpc.np_diagflat(v, 1), np.diagflat(v))
        await show(
            "diagonals", mpc.np_diagonal(a), a.diagonal(1), np.diagonal(a), mpc.np_trace(a), a.trace(), np.trace(a)
        )
        await show("joined", mpc.np_concatenate((a, b)), np.concatenate((a, b), axis=1), mpc.np_append(a, b, axis=0))
        await show(
            "joined", mpc.np_stack((a, b)), np.stack((a, b), axis=-1), mpc.np_block([[a, b], [b, a]]), np.block([v, v])
        )
        await show("joined", mpc.np_vstack((a, b)), np.vstack((a, b)), mpc.np_hstack((a, b)), np.hstack((v, v)))
        await show(
            "joined", mpc.np_dstack((a, b)), np.dstack((v, v)), mpc.np_column_stack((v, v)), np.column_stack((v, v))
        )
        await show("joined", mpc.np_row_stack((v, v)), np.append(v, v))
        await show("split", *mpc.np_split(v, 3), *np.split(a, 2), *mpc.np_hsplit(a, 3), *np.hsplit(a, 3))
        await show("split", *mpc.np_vsplit(a, 2), *np.vsplit(a, 2), *mpc.np_dsplit(cube, 3), *np.dsplit(cube, 3))


if __name__ == "__main__":
    mpc.run(main())

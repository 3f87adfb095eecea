"""Lists of secure numbers: sums, products, vectors, matrices, order and search."""

from __future__ import annotations

from mpyc.runtime import mpc


async def main() -> None:
    secint = mpc.SecInt(16)
    async with mpc:
        rows = mpc.input([secint(number * (mpc.pid + 1)) for number in (3, -1, 2)])
        x, y, z = rows
        print("rows", [await mpc.output(row) for row in rows])
        print("reduced", await mpc.output([mpc.sum(x), mpc.sum(y, start=5), mpc.prod(x), mpc.prod(y, start=2)]))
        print("reduced", await mpc.output([mpc.in_prod(x, y), mpc.in_prod(x, x), mpc.all(n > 0 for n in x)]))
        print("reduced", await mpc.output([mpc.any(n < 0 for n in x), mpc.all([secint(1), secint(1)])]))
        print("vectors", await mpc.output(mpc.vector_add(x, y) + mpc.vector_sub(x, y) + mpc.scalar_mul(x[0], y)))
        print("vectors", await mpc.output(mpc.schur_prod(x, y) + mpc.schur_prod(x, x)))
        matrices = (
            mpc.matrix_add(rows, rows),
            mpc.matrix_sub(rows, rows, tr=True),
            mpc.matrix_prod(rows, rows),
            mpc.matrix_prod(rows, rows, tr=True),
            mpc.gauss(rows, x[0], x, z),
        )
        for matrix in matrices:
            print("matrix", [await mpc.output(row) for row in matrix])
        print("order", await mpc.output(mpc.sorted(x + y)), await mpc.output(mpc.sorted(x, reverse=True)))
        pairs = mpc.sorted([[a, b] for a, b in zip(x, y, strict=True)], key=lambda pair: pair[1])
        print("order", [await mpc.output(pair) for pair in pairs])
        print("extremes", await mpc.output([mpc.min(x), mpc.max(x), mpc.max(*y), *mpc.min_max(x + y)]))
        print("extremes", await mpc.output([mpc.min(x, key=lambda n: -n), *mpc.argmin(y), *mpc.argmax(y)]))
        bits = [secint(bit) for bit in (0, 0, 1, 0)]
        print(
            "search",
            await mpc.output([mpc.find(bits, 1), mpc.find(x, 2, bits=False), mpc.find(x, 9, bits=False, e=-1)]),
        )
        print("search", await mpc.output([mpc.find(bits, 1, f=lambda i: 2**i), *mpc.find(bits, 0, e=None)]))
        print("search", await mpc.output([mpc.indexOf(x, -1), mpc.indexOf(bits, 1, bits=True)]))


if __name__ == "__main__":
    mpc.run(main())

"""Random secure numbers. Each line says what holds for any outcome."""

from __future__ import annotations

from mpyc import random
from mpyc.runtime import mpc


async def main() -> None:
    secint, secfxp, prime = mpc.SecInt(16), mpc.SecFxp(16, 8), mpc.SecFld(101)
    async with mpc:
        print("bits", 0 <= await mpc.output(random.getrandbits(secint, 5)) < 32)
        print("bits", {*await mpc.output(random.getrandbits(secint, 5, bits=True))} <= {0, 1})
        print("ranges", await mpc.output(random.randrange(secint, 3, 20, 4)) in range(3, 20, 4))
        print("ranges", 1 <= await mpc.output(mpc.random.randint(secint, 1, 6)) <= 6)
        print("ranges", int(await mpc.output(random.randint(prime, 1, 6))) in range(1, 7))
        print("unit", sorted(await mpc.output(random.random_unit_vector(secint, 5))))
        print("unit", sorted((await mpc.output(random.np_random_unit_vector(secint, 5))).tolist()))
        print("choice", await mpc.output(random.choice(secint, [2, 4, 8])) in (2, 4, 8))
        print("choices", {*await mpc.output(random.choices(secint, [2, 4, 8], k=2))} <= {2, 4, 8})
        print("choices", {*await mpc.output(random.choices(secint, [2, 4, 8], weights=[1, 0, 2], k=2))} <= {2, 8})
        print("choices", {*await mpc.output(random.choices(secint, [2, 4], cum_weights=[1, 3]))} <= {2, 4})
        deck = [secint(number) for number in range(4)]
        random.shuffle(secint, deck)
        print("shuffle", sorted(await mpc.output(deck)))
        pairs = [[secint(number), secint(number**2)] for number in range(3)]
        random.shuffle(secint, pairs)
        print("shuffle", sorted([await mpc.output(pair) for pair in pairs]))
        print("permutation", sorted(await mpc.output(random.random_permutation(secint, 4))))
        derangement = await mpc.output(random.random_derangement(secint, 3))
        print("derangement", sorted(derangement), all(number != place for place, number in enumerate(derangement)))
        print("sample", len({*await mpc.output(random.sample(secint, [1, 2, 3, 4], 2))}))
        print("sample", len({*await mpc.output(random.sample(secint, range(20), 3))}))
        print("reals", 0 <= await mpc.output(random.random(secfxp)) < 1)
        print("reals", 1 <= await mpc.output(random.uniform(secfxp, 1.0, 2.5)) <= 2.5)


if __name__ == "__main__":
    mpc.run(main())

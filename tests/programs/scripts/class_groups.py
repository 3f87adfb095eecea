"""Secure groups of many rounds: class groups, and divisors of hyperelliptic curves."""

from __future__ import annotations

from mpyc import secgroups
from mpyc.runtime import mpc


async def operations(name, secure, element):
    group = secure.group
    one = mpc.input(secure(element), senders=0)
    print(name, await mpc.output(one) == element, await mpc.output(~one) == group.inversion(element))
    print(name, await mpc.output(one @ one) == group.operation(element, element))
    print(name, await mpc.output([one == one, one != one]))


async def main() -> None:
    async with mpc:
        forms = mpc.SecClassGroup(Delta=-23)
        await operations("forms", forms, forms.group((2, 1, 3)))

        divisors = mpc.SecHyperellipticCurve(l=5, genus=2)
        await operations("divisors", divisors, divisors.group.generator)

        kummer = secgroups.SecHyperellipticCurve("kummer1271")
        await operations("kummer", kummer, kummer.group.generator)


if __name__ == "__main__":
    mpc.run(main())

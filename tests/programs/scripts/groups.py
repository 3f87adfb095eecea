"""Secure groups of few rounds: permutations, residues, Schnorr groups and elliptic curves.

Elements are compared with those that are computed in the open, so that nothing random is shown.
"""

from __future__ import annotations

from mpyc import fingroups, secgroups
from mpyc.runtime import mpc


async def operations(name, secure, element):
    """Use what all groups have."""
    group = secure.group
    one = mpc.input(secure(element), senders=0)
    two = one @ one
    print(name, await mpc.output(two) == group.operation(element, element), await mpc.output(one) == element)
    print(name, await mpc.output([one.inverse(), secure.inversion(one)]) == [group.inversion(element)] * 2)
    print(name, await mpc.output(secure.operation(two, one)) == await mpc.output(secure.operation2(one) @ one))
    print(name, await mpc.output([one == one, one != two, secure.equality(one, two)]))
    print(name, await mpc.output([secure.if_else(secure.sectype(1), one, two), secure(secure.identity.share)]))
    print(name, await mpc.output(one ^ 3) == group.repeat(element, 3))


async def exponents(name, secure, element):
    """Use secret exponents, which only groups of prime order take."""
    exponent = mpc.input(mpc.SecFld(secure.group.order)(5), senders=2)
    five = secure.group.repeat(element, 5)
    print(name, await mpc.output(secure.repeat(element, exponent)) == five)
    print(name, await secure.repeat_public(element, exponent) == five)
    print(name, await secgroups.repeat_public_base_public_output([element], [exponent]) == five)
    print(name, await mpc.output(secgroups.repeat_public_base_secret_output(element, exponent, secure)) == five)


async def main() -> None:
    async with mpc:
        # Its field has seven elements: MPyC extends smaller ones for five parties, and takes no bits of the result.
        symmetric = mpc.SecSymmetricGroup(6)
        await operations("symmetric", symmetric, symmetric.group([1, 2, 0, 3, 5, 4]))

        residues = mpc.SecQuadraticResidues(p=23)
        await operations("residues", residues, residues.group.generator)

        schnorr = mpc.SecSchnorrGroup(p=23, q=11)
        base = schnorr.group.generator
        await operations("schnorr", schnorr, base)
        await exponents("schnorr", schnorr, base)
        secret = secgroups.repeat_secret_base_secret_output(schnorr(base), mpc.SecFld(11)(3), schnorr)
        print("schnorr", await mpc.output(secret) == schnorr.group.repeat(base, 3))

        curve = mpc.SecEllipticCurve("Ed25519", "extended")
        base = curve.group.generator
        await operations("curve", curve, base)
        await exponents("curve", curve, base)
        print("curve", await mpc.output(curve(base).normalize()) == base)
        message, rest = curve.group.encode(7)
        print("curve", int(await mpc.output(curve.decode(curve(message), curve(rest)))))

        named = secgroups.SecGrp(fingroups.EllipticCurve("secp256k1", "projective"))
        print("named", mpc.SecGrp(named.group) is named, secgroups.SecEllipticCurve("Ed25519", "extended") is curve)
        print("named", await mpc.output(named(named.group.generator)) == named.group.generator)


if __name__ == "__main__":
    mpc.run(main())

"""The kinds of secure objects, as a program asks for them."""

from __future__ import annotations

import numpy as np
from mpyc import secgroups, secpols, sectypes
from mpyc.gfpx import GFpX
from mpyc.runtime import mpc


async def main() -> None:
    secint, secfxp, prime = mpc.SecInt(16), mpc.SecFxp(16, 8), mpc.SecFld(101)
    async with mpc:
        numbers = {mpc.SecureInteger: secint(1), mpc.SecureFixedPoint: secfxp(1), mpc.SecureFiniteField: prime(1)}
        numbers[mpc.SecureFloat] = mpc.SecFlt(s=8, e=5)(1)
        arrays = {
            mpc.SecureIntegerArray: secint.array(np.array([1])),
            mpc.SecureFixedPointArray: secfxp.array(np.array([1])),
            mpc.SecureFiniteFieldArray: prime.array(np.array([1])),
        }
        groups = {
            secgroups.SecureSymmetricGroupElement: mpc.SecSymmetricGroup(3),
            secgroups.SecureQuadraticResidue: mpc.SecQuadraticResidues(p=23),
            secgroups.SecureSchnorrGroupElement: mpc.SecSchnorrGroup(p=23, q=11),
            secgroups.SecureEllipticCurvePoint: mpc.SecEllipticCurve("Ed25519"),
            secgroups.SecureHyperellipticCurveDivisor: mpc.SecHyperellipticCurve(l=5, genus=1),
            secgroups.SecureHCDivisorCL: mpc.SecHyperellipticCurve("kummer1271"),
            secgroups.SecureClassGroupForm: mpc.SecClassGroup(Delta=-23),
        }
        print("numbers", all(isinstance(value, (kind, mpc.SecureNumber)) for kind, value in numbers.items()))
        print("numbers", [kind.__name__ for kind in numbers if not isinstance(secint(1), kind)])
        print(
            "arrays",
            all(isinstance(value, kind) and isinstance(value, mpc.SecureArray) for kind, value in arrays.items()),
        )
        print("groups", all(issubclass(group, kind) for kind, group in groups.items()))
        print("groups", all(issubclass(group, mpc.SecureFiniteGroup) for group in groups.values()))
        print("objects", isinstance(secpols.secpoly(GFpX(101)(7)), mpc.SecureObject))
        print("modules", sectypes.SecureInteger is mpc.SecureInteger, sectypes.SecureFloat is mpc.SecureFloat)
        for value in (*numbers.values(), *arrays.values()):
            print("values", await mpc.output(value))


if __name__ == "__main__":
    mpc.run(main())

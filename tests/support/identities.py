"""Keys, points of the curve and key files that tests of identities share."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from onionmpc.identity import Identity, curve
from onionmpc.identity.key_file import encode_key_file
from onionmpc.session import keystore

# RFC 8032 section 7.1, tests 1 to 3: secret key, public key.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ),
]
# The Tor Project's own site, then the three examples of rend-spec-v3.
DEPLOYED = [
    "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion",
    "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
    "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd.onion",
    "xa4r2iadxm55fbnqgwwi5mymqdcofiu3w6rpbtqn7b2dyn7mgwj64jyd.onion",
]
# All eight points of small order in canonical form: orders 1, 2, 4, 4, 8, 8, 8, 8.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


def identity(number: int) -> Identity:
    return Identity(bytes([number]) * 32)


def point_of(public_key: bytes) -> curve.Point:
    """Decompress without any check."""
    y = curve.y_coordinate(public_key)
    x = curve._x_from_y(y)
    assert x is not None
    if x & 1 != public_key[31] >> 7:
        x = curve.P - x
    return x, y, 1, x * y % curve.P


def key_of(point: curve.Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, curve.P)
    return (y * inverse % curve.P | (x * inverse % curve.P & 1) << 255).to_bytes(32, "little")


def mirrored(public_key: bytes) -> bytes:
    """-A: the same y, the other x."""
    return public_key[:31] + bytes([public_key[31] ^ 0x80])


SALT, NONCE = bytes(range(16)), bytes(range(12))
ONE = Identity(bytes.fromhex(RFC_8032[0][0]))


def cheaply_sealed(
    one: Identity = ONE, passphrase: bytes = b"passphrase", *, exposed: bool = False, scrypt_log2_n: int = 1
) -> bytes:
    """A key file whose seal costs almost nothing, so that thousands of damaged ones can be tried."""
    return encode_key_file(one, passphrase, SALT, NONCE, exposed=exposed, scrypt_log2_n=scrypt_log2_n)


def keep_sealed(name: str, passphrase: bytes = b"passphrase", *, exposed: bool = False) -> Identity:
    """Store a new identity that opens at once, unlike one that was created with a passphrase."""
    made = Identity(secrets.token_bytes(32))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "copy"
        file.write_bytes(cheaply_sealed(made, passphrase, exposed=exposed))
        keystore.import_from(file, name, lambda: bytearray(passphrase))
    return made

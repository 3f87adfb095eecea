"""Checks of ed25519 public keys, and their conversion to X25519.

edwards25519 in extended coordinates (X, Y, Z, T), RFC 8032 section 5.1.4. It need not take constant time: only public
keys come here. `cryptography` makes none of these checks, and has no arithmetic to build them from.
"""

from __future__ import annotations

PUBLIC_KEY_BYTES = 32

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)

Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def check_public_key(public_key: bytes) -> None:
    """Check that a key is the canonical form of a point of prime order, as tor does before it uses one.

    Without the last two checks, one key could appear under eight addresses (A plus a point of small order), all with
    the same shared secrets.

    Raises:
        ValueError: says what is wrong with the key.
    Source: Tor rend-spec-v3, "Client-side validation of onion addresses"; RFC 8032 section 5.1.3.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"it has {len(public_key)} bytes, expected {PUBLIC_KEY_BYTES}")
    y, x_is_odd = y_coordinate(public_key), public_key[31] >> 7
    if y >= P:
        raise ValueError("it is not in canonical form (y is 2^255-19 or more)")
    x = _x_from_y(y)
    if x is None:
        raise ValueError("it is not a point on the curve")
    if x == 0 and x_is_odd:
        raise ValueError("it is not in canonical form (x is zero and said to be odd)")
    if x & 1 != x_is_odd:
        x = P - x
    point = (x, y, 1, x * y % P)
    if _is_neutral(_multiply(8, point)):
        raise ValueError("it is a point of small order, with which every secret is known")
    if not _is_neutral(_multiply(ORDER, point)):
        raise ValueError("it is not of prime order (a point of small order was added to it)")


def x25519_public_from_ed25519(public_key: bytes) -> bytes:
    """Map an identity's public key to its Noise static public key: u = (1 + y) / (1 - y).

    Raises:
        ValueError: `check_public_key` refuses the key.
    Source: RFC 7748 section 4.1.
    """
    check_public_key(public_key)
    y = y_coordinate(public_key)
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def y_coordinate(public_key: bytes) -> int:
    """Return y, which is the same for A and -A: the key without the bit that says whether x is odd."""
    return int.from_bytes(public_key, "little") & (2**255 - 1)


def _x_from_y(y: int) -> int | None:
    """Solve x^2 = (y^2 - 1) / (d y^2 + 1); the denominator is never zero since -1/d is not a square."""
    x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x_squared, (P + 3) // 8, P)
    if (x * x - x_squared) % P:
        x = x * SQRT_OF_MINUS_1 % P
    return None if (x * x - x_squared) % P else x


def _add(left: Point, right: Point) -> Point:
    x1, y1, z1, t1 = left
    x2, y2, z2, t2 = right
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * D * t1 * t2 % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiply(factor: int, point: Point) -> Point:
    total = NEUTRAL
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _is_neutral(point: Point) -> bool:
    x, y, z, _ = point
    return x == 0 and y == z

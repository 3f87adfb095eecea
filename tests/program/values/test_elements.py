"""MPyC's polynomials, field elements, arrays of these, and group elements travel; only what is valid is built."""

from __future__ import annotations

from tests.support.with_mpyc import run_with_mpyc


def test_polynomials_of_mpyc_come_back_unchanged() -> None:
    run_with_mpyc("""
for p in 2, 3, 101:
    polynomials = gfpx.GFpX(p)
    array = numpy.array([polynomials(n) for n in (0, 1, 5, 2**70)], dtype=object).reshape(2, 2)
    received = there_and_back(array)
    assert (received == array).all() and received.shape == (2, 2) and type(received[0, 0]) is polynomials
    assert there_and_back(polynomials(7)) == polynomials(7)
""")


def test_field_elements_of_mpyc_come_back_unchanged() -> None:
    run_with_mpyc("""
moduli = 2, 101, 2**61 - 1, finfields.find_irreducible(2, 8), finfields.find_irreducible(3, 2)
for modulus in moduli:
    field = finfields.GF(modulus)
    for number in 0, 1, field.order - 1:
        assert there_and_back(field(number)) == field(number)
""")


def test_elements_of_fields_that_differ_only_in_modulus_or_root_keep_their_field() -> None:
    run_with_mpyc("""
moduli = [gfpx.GFpX(2)(0x11B), gfpx.GFpX(2)(0x11D), (101, 2, 100), (101, 5, 95), (101, 1, 1)]
fields = [finfields.GF(modulus) for modulus in moduli]
for field in reversed(fields):
    assert there_and_back(field(7)) == field(7)
    assert (there_and_back(field.array([7, 1])) == field.array([7, 1])).all()
""")


def test_arrays_of_field_elements_come_back_unchanged() -> None:
    run_with_mpyc("""
moduli = 2, 101, 2**61 - 1, 2**255 - 19, finfields.find_irreducible(2, 8), finfields.find_irreducible(3, 2)
for modulus in moduli:
    field = finfields.GF(modulus)
    last = field.order - 1
    for values in [], [0], [[0, 1, last], [last, 1, 0]], [[[1]], [[last]]], last:
        array = field.array(values)
        received = there_and_back(array)
        assert received.shape == array.shape and (received == array).all()
        assert {type(value) for value in received.value.flat} <= {type(value) for value in array.value.flat}
    transposed = field.array([[0, 1, last], [last, 1, 0]]).T
    assert (there_and_back(transposed) == transposed).all()
    there_and_back(field.array([1, last]))[0] = 0  # it is writable
    assert len(restricted.dumps([field(1)] * 10)) < len(restricted.dumps([field(1) for _ in range(10)]))
""")


def test_a_message_names_a_field_once() -> None:
    run_with_mpyc("""
field = finfields.GF(2**2203 - 1)
assert len(restricted.dumps([field(n) for n in range(10)])) < 2 * len(restricted.dumps([field(1)]))
""")


def test_group_elements_of_mpyc_come_back_unchanged() -> None:
    run_with_mpyc("""
curves = [
    fingroups.EllipticCurve(name, coordinates)
    for name, all_coordinates in {
        "Ed25519": ("affine", "projective", "extended"),
        "Ed448": ("projective",),
        "secp256k1": ("affine", "projective", "jacobian"),
        "BN256": ("affine", "projective", "jacobian"),
        "BN256_twist": ("affine", "projective", "jacobian"),
    }.items()
    for coordinates in all_coordinates
]
others = [fingroups.QuadraticResidues(l=64), fingroups.SchnorrGroup(l=256, n=160), fingroups.ClassGroup(l=32)]
for group in curves + others:
    for element in group.identity, group.generator, group.generator ^ 5, ~group.generator:
        assert there_and_back(element) == element, group
symmetric = fingroups.SymmetricGroup(4)
assert there_and_back(symmetric((1, 0, 3, 2))) == symmetric((1, 0, 3, 2))
""")


def test_divisors_come_back_unchanged() -> None:
    run_with_mpyc("""
curves = [
    fingroups.HyperellipticCurve("kummer1271"),
    fingroups.HyperellipticCurve(l=20),
    fingroups.HyperellipticCurve(l=20, genus=2),
    fingroups.HyperellipticCurve(l=20, genus=2, coordinates="extended"),
]
for group in curves:
    for element in group.identity, group.generator, group.generator ^ 5, ~group.generator:
        assert there_and_back(element) == element, group
not_sent(curves[0].encode(3)[0], "would refuse: value not in Jacobian")  # MPyC's own encoding is not
genus_3 = curves[1].generator
u, v = map(int, genus_3.value)
name = "HyperellipticCurveDivisor", "DGS", genus_3.field.modulus, 3
assert built("group_element", name, (u, v)) == genus_3
p = genus_3.field.modulus
for wrong in (u + 1, v), (u, v + 1), (0, 0), (2, 0), (1, 1), (u, v + p**3), (p**4, 0), (p**3000, 0), (u,), (u, v, 1), u:
    not_built("not well formed", "group_element", name, wrong)
name = "HCDivisorCL", "kummer1271", 2**127 - 1, 2
numbers = [number.value for number in curves[0].generator.value]
assert built("group_element", name, tuple(numbers)) == curves[0].generator
for at in range(6):
    wrong = [*numbers[:at], (numbers[at] + 1) % p, *numbers[at + 1:]]
    not_built("not well formed", "group_element", name, tuple(wrong))
not_built("not well formed", "group_element", name, tuple(numbers[:4]))
""")


def test_groups_that_differ_only_in_generator_or_genus_keep_their_type() -> None:
    run_with_mpyc("""
groups = [
    fingroups.SchnorrGroup(p=23, q=11, g=2),
    fingroups.SchnorrGroup(p=23, q=11, g=3),
    fingroups.HyperellipticCurve(l=20, genus=2),
    fingroups.HyperellipticCurve(l=20, genus=3),
]
for group in groups:
    assert there_and_back(group.generator) == group.generator
""")


def test_points_at_infinity_of_each_form_come_back_unchanged() -> None:
    run_with_mpyc("""
for curve in "secp256k1", "BN256", "BN256_twist":
    for coordinates in "affine", "projective", "jacobian":
        group = fingroups.EllipticCurve(curve, coordinates)
        g = group.generator
        for element in g @ ~g, group.identity @ group.identity, group.operation2(group.identity):
            assert there_and_back(element) == group.identity
""")


def test_a_field_or_group_that_the_program_has_not_made_is_named_and_not_made() -> None:
    run_with_mpyc("""
gfpx.GFpX(101)
finfields.GF(101)
finfields.GF(gfpx.GFpX(2)(0x11B))
fingroups.SymmetricGroup(3)
before = names_of_types()
not_made = "which this program has not made"
not_built(f"the type of polynomials GF(103)[x], {not_made}", "polynomial", 103, 7)
not_built(f"the field GF(103), {not_made}", "field_element", (103, 2, 102), 7)
not_built(f"the field GF(101), {not_made}", "field_element", (101, 5, 95), 7)
not_built(f"the field GF(103), {not_made}", "field_array", (103, 2, 102), (1,), b"1")
not_built(f"the field of characteristic 2 with modulus 285, {not_made}", "field_element", (2, 0x11D), 7)
not_built(f"the group of SymmetricGroupElement (4), {not_made}", "group_element", ("SymmetricGroupElement", 4), (0,))
not_built(f"the group of EdwardsAffine (Ed448), {not_made}", "group_element", ("EdwardsAffine", "Ed448"), (0, 1))
hint = None
try:
    built("field_element", (103, 2, 102), 7)
except RemoteProtocolError as error:
    hint = error.hint
assert hint == "every party's program must make it before the transfer"
# Large numbers take no time: they are compared, not tested for primality or factored.
begin = time.process_time()
for huge in 2**11213 - 1, 2**65535 + 1, -(2**65535):
    not_built("in hex", "field_element", (huge, 2, huge - 1), 7)
    not_built("not", "polynomial", huge, 7)
    for kind in "QuadraticResidue", "ClassGroupForm", "SymmetricGroupElement":
        not_built("in hex", "group_element", (kind, huge), 7)
    not_built("in hex", "group_element", ("SchnorrGroupElement", huge, huge, huge), 7)
assert time.process_time() - begin < 1
assert names_of_types() == before
""")


def test_only_names_of_groups_that_were_made_find_one() -> None:
    run_with_mpyc("""
fingroups.EllipticCurve("Ed25519", "affine")
for name in "EllipticCurve", "GF", "FiniteGroupElement", "EdwardsCurvePoint", "__builtins__", "__class__", "math", "":
    not_built("which this program has not made", "group_element", (name, "Ed25519"), (0, 1))
for name in ("EdwardsAffine",), ("EdwardsAffine", b"Ed25519"), ("EdwardsAffine", True), ["EdwardsAffine", "Ed25519"]:
    not_built("not well formed", "group_element", name, (0, 1))
class Own(gfpx.Polynomial):
    p = 5
not_built("which this program has not made", "polynomial", 5, 7)
not_sent(Own(7), "the program sends a __main__.Own, which the other parties would refuse")
""")


def test_only_elements_of_a_field_are_built() -> None:
    run_with_mpyc("""
small, byte = finfields.GF(101), finfields.GF(gfpx.GFpX(2)(0x11B))
prime, binary = (101, 2, 100), (2, 0x11B)
assert built("field_element", prime, 100) == small(100)
assert built("field_element", binary, 255) == byte(255)
for field, order in (prime, 101), (binary, 256):
    for number in order, -1, 2**65000:
        not_built("not well formed: a number out of range", "field_element", field, number)
    for number in True, 1.0, "1", b"1", None, (1,):
        not_built("not well formed: expected int", "field_element", field, number)
assert (built("field_array", prime, (2,), b"\\x64\\0") == small.array([100, 0])).all()
not_built("a number out of range", "field_array", prime, (2,), b"\\x65\\0")
not_built("expected bytes", "field_array", prime, (1,), [1])
not_built("expected bytes", "field_array", prime, (1,), numpy.array([1]).tolist())
for shape in (3,), (2**62,), (-1,), (True, 2), "2", [2], 2, (1,) * 65 + (2,), (2**70, 2), (2.0,):
    not_built("not well formed", "field_array", prime, shape, b"12")
for shape in (0, 2**40), (2**62, 0), (2**20, 2**20, 0):
    not_built("an empty array of more than", "field_array", prime, shape, b"")
wide = finfields.GF(2**61 - 1)
not_built("7 bytes cannot hold numbers of 8 bytes each", "field_array", (2**61 - 1, 2, 2**61 - 2), (1,), bytes(7))
not_sent(small.array([5, -1], check=False), "a number out of range")
not_sent(small.array([1.5], check=False), "the program sends a mpyc.finfields.ArrayGF(101) that")
""")


def test_only_elements_of_a_group_are_built() -> None:
    run_with_mpyc("""
def wrong(group, *values):
    for value in values:
        not_built("not well formed", "group_element", group, value)

ed = fingroups.EllipticCurve("Ed25519", "affine")
p = ed.field.modulus
x, y = (int(number) for number in ed.generator.value)
name = "EdwardsAffine", "Ed25519"
assert built("group_element", name, (x, y)) == ed.generator
not_built("point not on curve", "group_element", name, (x, y ^ 1))
wrong(name, (x + p, y), (x, -y), (x, y, 1), (x,), (), x, [x, y], (str(x), y), (True, y), (2**65000, y), (2**70000, y))
extended = fingroups.EllipticCurve("Ed25519", "extended")
wrong(("EdwardsExtended", "Ed25519"), (x, y, 1, 1), (x, y, 1), (x, y), (0, 0, 0, 0), (x, y, 0, 0))
for coordinates in "Projective", "Jacobian":
    curve = fingroups.EllipticCurve("secp256k1", coordinates.lower())
    x, y, z = (int(number) for number in curve.generator.value)
    name = f"Weierstrass{coordinates}", "secp256k1"
    assert built("group_element", name, (x, y, z)) == curve.generator
    wrong(name, (0, 0, 0), (1, 0, 0), (x, y, z + 1), (x, y + 1, z), (x, y), (), (x, y, z, 0))
not_built("point not on curve", "group_element", ("WeierstrassProjective", "secp256k1"), (1, 1, 0))
twist = fingroups.EllipticCurve("BN256_twist")
x, y = (int(number.value) for number in twist.generator.value)
assert built("group_element", ("WeierstrassAffine", "BN256_twist"), (x, y)) == twist.generator
wrong(("WeierstrassAffine", "BN256_twist"), (x, y + 1), (x + twist.field.order, y))

fingroups.QuadraticResidues(p=23)
wrong(("QuadraticResidue", 23), 0, 5, 23, 24, -1, (1,), True, 1.0, 2**65000)
fingroups.SchnorrGroup(p=23, q=11, g=2)
wrong(("SchnorrGroupElement", 23, 11, 2), 0, 5, 23, 24, -1, (2,), True, 2**65000)
fingroups.SymmetricGroup(3)
wrong(("SymmetricGroupElement", 3), (0, 1), (0, 1, 1), (0, 1, 3), (0, True, 2), (0, 1.0, 2), [0, 1, 2], 3)
group = fingroups.ClassGroup(l=64)
name, (a, b, c) = ("ClassGroupForm", group.discriminant), group.generator.value
assert built("group_element", name, (a, b, c)) == group.generator
# MPyC would reduce these, however large they are.
wrong(name, (a, b + 2 * a, a + b + c), (c, -b, a), (-a, b, -c), (a, b), (a, b, c + 1), (0, b, 0), a)
k = 2**30000
wrong(name, (a, b + 2 * a * k, a * k * k + b * k + c))
""")


def test_a_number_that_would_take_long_to_take_apart_is_refused() -> None:
    run_with_mpyc("""
before = time.process_time()
for huge in 2**2**16, 2**2**23:
    number = huge.to_bytes(2**20 + 1, "little")
    for value in gfpx.GFpX(3)(7), gfpx.GFpX(2)(7), finfields.GF(11)(7):
        sent = restricted.dumps(value)
        longer = sent.replace(b"K\\x07", b"\\x8b" + len(number).to_bytes(4, "little") + number)
        refused(longer[:2] + longer[11:], "a number of more than 8192 bytes")
assert time.process_time() - before < 5
# The longest number that is allowed takes little time.
widest = numpy.array([gfpx.GFpX(3)(2**65000)], dtype=object)
there_and_back(widest)
""")


def test_polynomials_take_no_more_memory_than_their_bound() -> None:
    run_with_mpyc("""
import tracemalloc
from onionmpc.program.values.fields import array_of_shares, bytes_of_shares
for p in 2, 3, 251, 257, 2**61 - 1:
    gfpx.GFpX(p)
    for width in 1, 2, 9, 100:
        data = b"\\x7f" * width * 200
        tracemalloc.start()
        array_of_shares(p, (200,), width, data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= bytes_of_shares(p, (), width, data), (p, width, peak)
""")


def test_elements_take_no_more_memory_than_their_bound() -> None:
    run_with_mpyc("""
from onionmpc.program.values import reduce_value
field, wide = finfields.GF(finfields.find_irreducible(3, 40)), finfields.GF(2**2203 - 1)
three = gfpx.GFpX(3)
values = [
    field.array([field.order - 1] * 500), wide.array([-1] * 500), finfields.GF(2).array([1] * 500), field.array([[]]),
    field(-1), wide(-1), three(3**40000), fingroups.SymmetricGroup(500)(), fingroups.ClassGroup(l=64).generator,
    fingroups.EllipticCurve("BN256_twist", "jacobian").generator, fingroups.HyperellipticCurve("kummer1271").generator,
    fingroups.HyperellipticCurve(l=20).generator, fingroups.QuadraticResidues(l=64).generator,
]
for value in values:
    (build, arguments) = reduce_value(value)
    build(*arguments)  # what MPyC and we cache once
    tracemalloc.start()
    held = build(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= BUILDERS[build.__name__].bytes(*arguments) + 384, (type(value), peak)
""")


def test_an_altered_message_of_mpycs_values_is_refused_or_holds_valid_elements() -> None:
    run_with_mpyc("""
import random
rnd = random.Random(14)
byte, small = finfields.GF(gfpx.GFpX(2)(0x11B)), finfields.GF(101)
curve, forms, perms = fingroups.EllipticCurve("secp256k1"), fingroups.ClassGroup(l=32), fingroups.SymmetricGroup(4)
divisors, residues = fingroups.HyperellipticCurve(l=5), fingroups.QuadraticResidues(p=23)
values = [
    small(7), byte(200), small.array([[1, 100]]), byte.array([1, 255]), gfpx.GFpX(101)([1, 2, 3]), curve.generator,
    forms.generator, perms((1, 0, 3, 2)), divisors.generator, residues.generator,
]
messages = [restricted.dumps(value) for value in values]
before = names_of_types()

def check(value):
    if isinstance(value, (finfields.FiniteFieldElement, finfields.FiniteFieldArray)):
        assert numpy.all(type(value)(value.value) == value)
    elif isinstance(value, fingroups.FiniteGroupElement):
        assert type(value)(value.value) == value

outcomes = set()
for _ in range(30_000):
    message = bytearray(rnd.choice(messages))
    for _ in range(rnd.randrange(1, 4)):
        at = rnd.randrange(len(message))
        kind = rnd.randrange(3)
        if kind == 0:
            message[at] = rnd.randrange(256)
        elif kind == 1:
            message[at:at + 8] = rnd.choice(messages)[at:at + 8]
        else:
            message[at] ^= 1 << rnd.randrange(8)
    try:
        received = restricted.loads(bytes(message))
    except RemoteProtocolError:
        outcomes.add("refused")
    else:
        check(received)
        outcomes.add(type(received))
assert len(outcomes) > len(values), outcomes
assert names_of_types() == before
""")

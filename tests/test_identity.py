"""Addresses, keys and key files: what is accepted, and that each refusal names what is wrong."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from onionmpc.errors import InvalidAddress, InvalidIdentityFile
from onionmpc.identity import (
    Identity,
    Onion,
    check_public_key,
    check_roster,
    curve,
    key_file,
    looks_like_onion,
    onion_from_public_key,
    parse_onion,
    public_key_from_onion,
    public_keys_from_onion,
    x25519_public_from_ed25519,
)
from onionmpc.identity.key_file import decode_key_file, describe_key_file, encode_key_file
from tests.support.identities import (
    DEPLOYED,
    NONCE,
    ONE,
    RFC_8032,
    SALT,
    SMALL_ORDER,
    cheaply_sealed,
    identity,
    key_of,
    mirrored,
    point_of,
)
from tests.support.keys import x25519_public

ADDRESS = DEPLOYED[0]

seeds = st.binary(min_size=32, max_size=32)


# --- Keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "public_key"), RFC_8032)
def test_public_key_is_that_of_rfc_8032(seed: str, public_key: str) -> None:
    assert Identity(bytes.fromhex(seed)).public_key.hex() == public_key


def test_address_of_the_first_rfc_8032_key() -> None:
    assert Identity(bytes.fromhex(RFC_8032[0][0])).onion == (
        "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid.onion"
    )


def test_expanded_key_is_the_scalar_and_prefix_that_tor_expects() -> None:
    for seed, public_key in RFC_8032:
        expanded = Identity(bytes.fromhex(seed)).expanded_key
        assert len(expanded) == 64
        assert expanded[32:] == hashlib.sha512(bytes.fromhex(seed)).digest()[32:]
        scalar = int.from_bytes(expanded[:32], "little")
        assert scalar % 8 == 0
        assert scalar >> 254 == 1
        base_point = point_of((4 * pow(5, -1, curve.P) % curve.P).to_bytes(32, "little"))
        assert key_of(curve._multiply(scalar, base_point)).hex() == public_key


def test_both_halves_of_the_noise_key_are_those_of_libsodium() -> None:
    # libsodium's test/default/ed25519_convert: what crypto_sign_ed25519_{pk,sk}_to_curve25519 make of a seed.
    one = Identity(bytes.fromhex("421151a459faeade3d247115f94aedae42318124095afabe4d1451a559faedee"))
    expected = "f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50"
    assert x25519_public_from_ed25519(one.public_key).hex() == expected
    assert one.x25519_private.hex() == "8052030376d47112be7f73ed7a019293dd12ad910b654455798b4667d73de166"


@given(seeds, seeds)
def test_both_sides_agree_on_a_secret_from_each_others_address(seed_a: bytes, seed_b: bytes) -> None:
    a, b = Identity(seed_a), Identity(seed_b)

    def secret(own: Identity, peer: Onion) -> bytes:
        public = x25519_public_from_ed25519(public_key_from_onion(peer))
        return X25519PrivateKey.from_private_bytes(own.x25519_private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )

    assert secret(a, b.onion) == secret(b, a.onion)
    assert x25519_public_from_ed25519(a.public_key) == x25519_public(a)


@given(seeds)
def test_every_seed_gives_an_address_that_is_accepted(seed: bytes) -> None:
    one = Identity(seed)
    assert one.public_key == Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert public_key_from_onion(one.onion) == one.public_key
    assert parse_onion(one.onion) == one.onion


@given(seeds)
def test_both_keys_of_an_address_are_those_of_its_identity(seed: bytes) -> None:
    one = Identity(seed)
    for _ in range(2):  # the second time, they are kept
        assert public_keys_from_onion(one.onion) == (one.public_key, x25519_public(one))


def test_an_address_without_a_usable_key_is_refused_each_time() -> None:
    unusable = onion_from_public_key(bytes(32))
    for _ in range(2):
        with pytest.raises(InvalidAddress, match="no usable key"):
            public_keys_from_onion(unusable)


def test_identity_shows_neither_seed_nor_address() -> None:
    one = identity(1)
    assert repr(one) == "Identity(<hidden>)"
    assert f"{one}" == "Identity(<hidden>)"


def test_identities_of_one_seed_are_equal() -> None:
    assert identity(1) == identity(1)
    assert identity(1) != identity(2)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes, expected 32"):
        Identity(bytes(length))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_public_key_of_another_length_is_refused(length: int) -> None:
    for function in (onion_from_public_key, check_public_key, x25519_public_from_ed25519):
        with pytest.raises(ValueError, match=f"{length} bytes, expected 32"):
            function(bytes(length))


# --- Addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", DEPLOYED)
def test_deployed_address_is_accepted(address: str) -> None:
    assert parse_onion(address) == address
    assert onion_from_public_key(public_key_from_onion(address)) == address


def test_upper_case_and_blanks_around_are_forgiven() -> None:
    assert parse_onion(f" \t{ADDRESS.upper()}\n") == ADDRESS


@pytest.mark.parametrize("address", DEPLOYED)
def test_every_change_of_one_character_is_refused(address: str) -> None:
    for at in range(len(address)):
        for character in "abcdefghijklmnopqrstuvwxyz0123456789.-_ \u212a\u017f":
            changed = address[:at] + character + address[at + 1 :]
            if changed != address:
                with pytest.raises(InvalidAddress):
                    parse_onion(changed)


@pytest.mark.parametrize("address", DEPLOYED)
def test_address_cut_anywhere_doubled_or_swapped_is_refused(address: str) -> None:
    for at in range(len(address)):
        swapped = address[:at] + address[at : at + 2][::-1] + address[at + 2 :]
        for changed in (address[:at], address[at + 1 :], address[:at] + address[at] + address[at:], swapped):
            if changed != address:
                with pytest.raises(InvalidAddress):
                    parse_onion(changed)


@given(st.text(max_size=80))
def test_any_text_is_refused_or_is_canonical_afterwards(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_onion(text)
    with pytest.raises(InvalidAddress):
        parse_onion(text + ".onion")


def with_last_bytes(public_key: bytes, checksum: bytes, version: int) -> str:
    return base64.b32encode(public_key + checksum + bytes([version])).decode().lower() + ".onion"


def test_each_refusal_names_what_is_wrong() -> None:
    key = public_key_from_onion(ADDRESS)
    checksum_v4 = hashlib.sha3_256(b".onion checksum" + key + b"\x04").digest()[:2]
    checksum_v3 = hashlib.sha3_256(b".onion checksum" + key + b"\x03").digest()[:2]
    cases = {
        "expyuzz4wqqyqhjn.onion": r"v2 address \(16 characters\)",
        ADDRESS[1:]: r"has 55 characters before .*, expected 56",
        "a" + ADDRESS: r"has 57 characters before .*, expected 56",
        ".onion": r"has 0 characters",
        "": r'does not end in "\.onion"',
        ADDRESS.removesuffix(".onion"): r'does not end in "\.onion"',
        ADDRESS + ".": r'does not end in "\.onion"',
        "www." + ADDRESS: r"has a name before it",
        "http://" + ADDRESS: r"a link, not an address",
        ADDRESS + "/": r"a link, not an address",
        ADDRESS + ":80": r"a link, not an address",
        ADDRESS.replace("z", "0"): r"character 3 of the address is '0', expected a to z or 2 to 7",
        ADDRESS.replace("k", "\u212a"): r"character 24 of the address is '\\u212a'",
        ADDRESS[:5] + "\u200b" + ADDRESS[5:]: r"character 6 of the address is '\\u200b'",
        with_last_bytes(key, checksum_v4, 4): r"has version 4, expected 3",
        with_last_bytes(key, checksum_v3[::-1], 3): r"checksum is wrong: there is a typo",
    }
    for text, expected in cases.items():
        with pytest.raises(InvalidAddress, match=expected) as caught:
            parse_onion(text)
        assert caught.value.hint


def test_address_as_text_is_told_from_a_program() -> None:
    for text in (
        ADDRESS,
        ADDRESS.upper(),
        f" {ADDRESS}\n",
        ADDRESS + ".",
        ADDRESS + ":80",
        f"http://{ADDRESS}/index.html",
        ADDRESS.removesuffix(".onion"),
        ADDRESS[:-9],
        ADDRESS.replace("z", "0"),
        "expyuzz4wqqyqhjn.onion",
        ".onion",
    ):
        assert looks_like_onion(text), text
    for text in ("", "average_salary", "./onion.py", "examples/my.onion.py", "onion", "secretsantaparty", "a" * 61):
        assert not looks_like_onion(text), text


# --- Keys that no honest party has -------------------------------------------------------------------------------


def refused(public_key: bytes) -> str:
    """Check that the key is refused in every way it can come in, and return why."""
    with pytest.raises(ValueError, match="it is") as caught:
        check_public_key(public_key)
    with pytest.raises(ValueError, match="it is"):
        x25519_public_from_ed25519(public_key)
    with pytest.raises(InvalidAddress, match="contains no usable key: it is"):
        parse_onion(onion_from_public_key(public_key))
    return str(caught.value)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_point_of_small_order_is_refused(point: str) -> None:
    assert "small order" in refused(bytes.fromhex(point))


def test_these_are_all_points_of_small_order() -> None:
    generator = point_of(bytes.fromhex(SMALL_ORDER[4]))
    assert {key_of(curve._multiply(factor, generator)).hex() for factor in range(8)} == set(SMALL_ORDER)


@pytest.mark.parametrize("point", SMALL_ORDER[1:])
def test_key_with_a_point_of_small_order_added_is_refused(point: str) -> None:
    for number in range(4):
        shifted = curve._add(point_of(identity(number).public_key), point_of(bytes.fromhex(point)))
        assert "not of prime order" in refused(key_of(shifted))


def test_y_of_p_or_more_is_refused() -> None:
    for y in range(2**255 - 19, 2**255):
        for sign in (0, 2**255):
            assert "canonical" in refused((y + sign).to_bytes(32, "little"))


def test_x_of_zero_that_is_said_to_be_odd_is_refused() -> None:
    for y in (1, curve.P - 1):
        assert "canonical" in refused((y + 2**255).to_bytes(32, "little"))


def test_y_that_is_not_on_the_curve_is_refused() -> None:
    off_curve = []
    for y in range(2, 50):
        # Euler's criterion: x^2 = (y^2 - 1) / (d y^2 + 1) has a solution, or its (p-1)/2-th power is -1.
        x_squared = (y * y - 1) * pow(curve.D * y * y + 1, -1, curve.P)
        if pow(x_squared, (curve.P - 1) // 2, curve.P) == curve.P - 1:
            off_curve.append(y)
            assert "not a point on the curve" in refused(y.to_bytes(32, "little"))
        else:
            assert curve._x_from_y(y) is not None
    assert len(off_curve) > 10


@given(seeds)
def test_both_faces_of_a_key_are_valid_and_map_to_one_x25519_key(seed: bytes) -> None:
    key = Identity(seed).public_key
    check_public_key(mirrored(key))
    assert x25519_public_from_ed25519(mirrored(key)) == x25519_public_from_ed25519(key)


# --- Rosters -----------------------------------------------------------------------------------------------------


def test_roster_is_canonical_and_sorted() -> None:
    onions = [identity(number).onion for number in range(1, 6)]
    assert check_roster([f" {onion.upper()} " for onion in reversed(onions)], identity(9).onion) == tuple(
        sorted(onions)
    )
    assert check_roster(iter(onions), None) == tuple(sorted(onions))
    assert check_roster([], None) == ()


def test_roster_with_our_own_address_is_refused() -> None:
    a, b = identity(1).onion, identity(2).onion
    with pytest.raises(InvalidAddress, match="address 2 is your own"):
        check_roster([a, b.upper()], b)


def test_roster_with_an_address_twice_is_refused() -> None:
    a, b, c = (identity(number).onion for number in range(3))
    with pytest.raises(InvalidAddress, match="addresses 2 and 3 are the same"):
        check_roster([a, b, b.upper(), c], None)


def test_roster_with_both_faces_of_a_key_is_refused() -> None:
    a, b = identity(1), identity(2)
    other_face = onion_from_public_key(mirrored(a.public_key))
    with pytest.raises(InvalidAddress, match="address 3 is the mirror image of address 1"):
        check_roster([a.onion, b.onion, other_face], None)
    with pytest.raises(InvalidAddress, match="address 2 is the mirror image of your own address"):
        check_roster([b.onion, other_face], a.onion)


def test_roster_says_which_address_is_invalid() -> None:
    with pytest.raises(InvalidAddress, match=r"^address 2: the checksum is wrong"):
        check_roster([ADDRESS, "a" + ADDRESS[1:]], None)


# --- Key files ---------------------------------------------------------------------------------------------------

OPEN_FILE = (
    b"onionmpc identity 1\n"
    b"onion 25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid.onion\n"
    b"seal none\n"
    b"key nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n"
)

SEALED_FILE = (
    OPEN_FILE.split(b"seal")[0]
    + b"seal scrypt 17 AAECAwQFBgcICQoLDA0ODw== AAECAwQFBgcICQoL\n"
    + b"key "
    + base64.b64encode(bytes(48))
    + b"\n"
)


def damaged(content: bytes) -> Iterator[bytes]:
    """The file cut at each length, each byte changed in three ways, each line gone, doubled or swapped, and a tail."""
    for at in range(len(content)):
        yield content[:at]
        for mask in (0x01, 0x20, 0x80):
            yield content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]
    lines = content.splitlines(keepends=True)
    for at in range(len(lines)):
        yield b"".join(lines[:at] + lines[at + 1 :])
        yield b"".join([*lines[:at], lines[at], *lines[at:]])
        yield b"".join([lines[at], *lines[:at], *lines[at + 1 :]]) if at else content + lines[0]
    yield from (content + tail for tail in (b"\n", b" ", b"x", b"\x00", content))
    yield from (b"\n" + content, b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n"))
    yield from (content.replace(b" ", b"  "), content.replace(b"\n", b" \n"), content.replace(b"=", b""))


def test_open_key_file_byte_for_byte() -> None:
    assert encode_key_file(ONE, None, SALT, NONCE) == OPEN_FILE
    assert decode_key_file(OPEN_FILE, None) == ONE
    assert decode_key_file(OPEN_FILE, b"a passphrase that is not needed") == ONE


def test_sealed_key_file_byte_for_byte() -> None:
    header = OPEN_FILE.split(b"seal")[0] + b"seal scrypt 17 AAECAwQFBgcICQoLDA0ODw== AAECAwQFBgcICQoL\n"
    salt = b"onionmpc/identity/v1/scrypt" + SALT
    key = hashlib.scrypt(b"passphrase", salt=salt, n=2**17, r=8, p=1, maxmem=2**28, dklen=32)
    sealed = ChaCha20Poly1305(key).encrypt(NONCE, ONE.seed, header)
    content = header + b"key " + base64.b64encode(sealed) + b"\n"
    assert encode_key_file(ONE, b"passphrase", SALT, NONCE) == content
    assert decode_key_file(content, b"passphrase") == ONE
    assert ONE.seed not in content
    assert base64.b64encode(ONE.seed)[:40] not in content


@given(seeds)
def test_open_key_file_reads_back(seed: bytes) -> None:
    one = Identity(seed)
    content = encode_key_file(one, None, SALT, NONCE)
    assert decode_key_file(content, None) == one
    assert describe_key_file(content) == key_file.KeyFileFacts(one.onion, sealed=False, exposed=False)


# HMAC fills short keys up with zeros, so "x" and "x\0" are one passphrase to scrypt. Nobody can type the second.
typed = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60).map(str.encode)


@settings(max_examples=50)
@given(
    seed=seeds,
    passphrase=typed.filter(bool),
    wrong=typed,
    salt=st.binary(min_size=16, max_size=16),
    nonce=st.binary(min_size=12, max_size=12),
)
def test_sealed_key_file_reads_back_under_its_passphrase_only(
    seed: bytes, passphrase: bytes, wrong: bytes, salt: bytes, nonce: bytes
) -> None:
    one = Identity(seed)
    content = encode_key_file(one, passphrase, salt, nonce, scrypt_log2_n=1)
    assert decode_key_file(content, passphrase) == one
    assert describe_key_file(content) == key_file.KeyFileFacts(one.onion, sealed=True, exposed=False)
    if wrong != passphrase:
        with pytest.raises(InvalidIdentityFile, match="passphrase is wrong"):
            decode_key_file(content, wrong)


def test_sealed_key_file_needs_its_passphrase() -> None:
    sealed = b"onionmpc identity 1\nonion " + ONE.onion.encode() + b"\nseal scrypt 17 " + base64.b64encode(SALT) + b" "
    sealed += base64.b64encode(NONCE) + b"\nkey " + base64.b64encode(bytes(48)) + b"\n"
    with pytest.raises(InvalidIdentityFile, match="sealed with a passphrase, but none was given"):
        decode_key_file(sealed, None)


def test_damaged_open_key_file_is_refused() -> None:
    for content in damaged(OPEN_FILE):
        with pytest.raises(InvalidIdentityFile):
            decode_key_file(content, None)
        with pytest.raises(InvalidIdentityFile):
            describe_key_file(content)


def test_damaged_sealed_key_file_is_refused() -> None:
    for content in damaged(cheaply_sealed()):
        with pytest.raises(InvalidIdentityFile):
            decode_key_file(content, b"passphrase")


def test_sealed_key_file_under_another_address_is_refused() -> None:
    content = cheaply_sealed()
    moved = content.replace(ONE.onion.encode(), identity(2).onion.encode())
    assert describe_key_file(moved).onion == identity(2).onion  # a claim, until the file is opened
    with pytest.raises(InvalidIdentityFile):
        decode_key_file(moved, b"passphrase")


def test_each_refusal_of_a_key_file_names_what_is_wrong() -> None:
    cases = {
        b"": "not an onionmpc key file",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n": "not an onionmpc key file",
        OPEN_FILE[:5]: "truncated: 0 whole lines, expected 4",
        OPEN_FILE[:-1]: "truncated: 3 whole lines, expected 4",
        OPEN_FILE.replace(b"identity 1", b"identity 2"): "has version 2, expected 1",
        OPEN_FILE.replace(
            b"identity 1", b"identity " + OPEN_FILE.splitlines()[3][4:]
        ): "its first line names no version",
        OPEN_FILE.replace(b"\n", b"\r\n"): "lines end in CR LF",
        OPEN_FILE + b"\n": "altered: it goes on after its 4 lines",
        OPEN_FILE.replace(b"none", b"rot13"): "altered: its third line",
        OPEN_FILE.replace(ONE.onion.encode(), b"A" + ONE.onion.encode()): "altered: its address is not one",
        OPEN_FILE.replace(ONE.onion.encode(), ONE.onion.upper().encode()): "altered: its address is not in lower case",
        OPEN_FILE.replace(ONE.onion.encode(), identity(2).onion.encode()): "do not belong together",
        OPEN_FILE.replace(b"key nW", b"key "): "altered: a value in it is not 32 bytes of base64",
        OPEN_FILE.replace(b"2A=\n", b"2B=\n"): "altered: a value in it is not 32 bytes of base64",
        OPEN_FILE.replace(b"key ", b"kee "): 'altered: a line does not begin with "key"',
    }
    for content, expected in cases.items():
        with pytest.raises(InvalidIdentityFile, match=expected) as caught:
            decode_key_file(content, None)
        assert "nWGxne" not in str(caught.value)


@pytest.mark.parametrize(
    ("passphrase", "salt", "nonce"), [(b"", SALT, NONCE), (b"x", SALT[1:], NONCE), (b"x", SALT, NONCE[1:])]
)
def test_seal_that_would_protect_nothing_is_refused(passphrase: bytes, salt: bytes, nonce: bytes) -> None:
    with pytest.raises(ValueError, match="expected a passphrase"):
        encode_key_file(ONE, passphrase, salt, nonce)


def test_a_seal_says_what_it_costs_and_an_older_or_newer_one_opens_all_the_same() -> None:
    for log2_n in (1, 5):
        content = cheaply_sealed(scrypt_log2_n=log2_n)
        assert b"seal scrypt %d " % log2_n in content
        assert decode_key_file(content, b"passphrase") == ONE


@pytest.mark.parametrize("log2_n", ["20", "30", "63", "99"])
def test_a_seal_that_would_take_gigabytes_is_refused_before_any_work(
    log2_n: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_file, "Scrypt", None)  # not called
    content = SEALED_FILE.replace(b"scrypt 17", f"scrypt {log2_n}".encode())
    expected = rf"would take {2 ** (int(log2_n) - 10)} MiB of memory, expected at most 512"
    for read in (describe_key_file, lambda content: decode_key_file(content, b"passphrase")):
        with pytest.raises(InvalidIdentityFile, match=expected):
            read(content)


@pytest.mark.parametrize("log2_n", ["0", "017", "+17", "-1", "1_7", "100", "1e1", "", "x", "17 17"])
def test_a_cost_that_is_spelled_otherwise_is_refused(log2_n: str) -> None:
    with pytest.raises(InvalidIdentityFile, match="altered: "):
        describe_key_file(SEALED_FILE.replace(b"scrypt 17", f"scrypt {log2_n}".encode()))


def test_a_seal_whose_cost_was_altered_does_not_open() -> None:
    content = cheaply_sealed()
    with pytest.raises(InvalidIdentityFile, match="the passphrase is wrong, or the key file was altered"):
        decode_key_file(content.replace(b"scrypt 1 ", b"scrypt 2 "), b"passphrase")


def test_a_sealed_identity_cannot_be_made_one_for_short_or_the_reverse() -> None:
    for exposed in (False, True):
        content = cheaply_sealed(exposed=exposed)
        label = (b"onionmpc identity 1", b"onionmpc exposed identity 1")
        other = content.replace(label[exposed], label[not exposed])
        assert describe_key_file(other).exposed is not exposed  # a claim, until the file is opened
        with pytest.raises(InvalidIdentityFile):
            decode_key_file(other, b"passphrase")


def test_the_key_that_a_passphrase_gives_is_overwritten_after_use(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytearray] = []

    class Watched:
        def __init__(self, *_: object) -> None: ...

        def derive_into(self, _passphrase: bytes, key: bytearray) -> None:
            key[:] = b"k" * 32
            keys.append(key)

    monkeypatch.setattr(key_file, "Scrypt", Watched)
    content = encode_key_file(ONE, b"passphrase", SALT, NONCE)
    assert decode_key_file(content, b"passphrase") == ONE
    with pytest.raises(InvalidIdentityFile):
        decode_key_file(SEALED_FILE, b"passphrase")
    assert keys == [bytearray(32)] * 3


def test_too_little_memory_for_the_seal_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Starved:
        def __init__(self, *_: object) -> None:
            raise MemoryError

    monkeypatch.setattr(key_file, "Scrypt", Starved)
    with pytest.raises(InvalidIdentityFile, match="128 MiB"):
        encode_key_file(ONE, b"passphrase", SALT, NONCE)

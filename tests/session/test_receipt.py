"""A receipt proves who signed what, and no more. Any other file is refused in one sentence."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from onionmpc import __version__
from onionmpc.errors import InvalidReceipt, OnionMPCError, RemoteProtocolError, UsageError
from onionmpc.identity import Identity, check_signature
from onionmpc.session.agreement import Agreement, PartyTerms, session_id
from onionmpc.session.receipt import (
    MAX_RECEIPT_BYTES,
    Opening,
    Receipt,
    Signature,
    check_signed,
    decode_receipt,
    encode_receipt,
    examine_receipts,
    sign,
)
from onionmpc.wire.handshake import VERSION
from tests.support.receipts import AGREEMENT, COFFEE, IDENTITIES, OTHER_SESSION, TEA, change, opening, receipt, signed

SESSION = session_id(AGREEMENT)


# -- what is signed


def test_commitment_and_signature_follow_the_protocol() -> None:
    # PROTOCOL 4, by another encoder.
    canonical = json.dumps(msgspec.to_builtins(AGREEMENT), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    session = hashlib.sha256(b"onionmpc/1 agreement" + canonical.encode()).digest()
    for party, identity in enumerate(IDENTITIES):
        place = session + bytes([0, party])
        commitment = hashlib.sha256(b"onionmpc/1 output" + place + bytes([party]) * 32 + bytes.fromhex(TEA)).digest()
        key = Ed25519PrivateKey.from_private_bytes(identity.seed)
        signature = key.sign(b"onionmpc/1 receipt" + place + commitment)
        assert signed(party) == Signature(party, commitment.hex(), signature.hex())
        key.public_key().verify(bytes.fromhex(signed(party).signature), b"onionmpc/1 receipt" + place + commitment)


def test_known_answer() -> None:
    assert signed(1) == Signature(
        1,
        "b1be0283442283cbd472cc25604a8b6fc08a91f5041d414388b94bb2aae39d05",
        "dde813556d8bacc0be90637ac9fbdb2a4fbadb7ba915d3957341236e82e2af1fdfec30ddf3bf9db5d7d2ef6315c861b305948bab208e0a3e5a2ea3b29edb1701",
    )


def test_a_signature_is_made_with_the_expanded_key_that_tor_uses() -> None:
    # RFC 8032 section 5.1.6 by hand: tor is given the scalar and the prefix, and neither can sign for another address.
    identity, message = IDENTITIES[0], b"onionmpc/1 receipt"
    order = 2**252 + 27742317777372353535851937790883648493
    scalar, prefix = int.from_bytes(identity.expanded_key[:32], "little"), identity.expanded_key[32:]
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % order
    signature = identity.sign(message)
    challenge = hashlib.sha512(signature[:32] + identity.public_key + message).digest()
    expected = (nonce + int.from_bytes(challenge, "little") * scalar) % order
    assert signature[32:] == expected.to_bytes(32, "little")
    check_signature(identity.onion, message, signature)


def wrong_label(party: int) -> Signature:
    right = signed(party)
    place = SESSION + party.to_bytes(2)
    signature = IDENTITIES[party].sign(b"onionmpc/1 output" + place + bytes.fromhex(right.commitment))
    return change(right, signature=signature.hex())


OTHER_TERMS = change(AGREEMENT, common=change(AGREEMENT.common, threshold=0))
WRONG: dict[str, Callable[[], Signature]] = {
    "another label": lambda: wrong_label(1),
    "no label": lambda: change(
        signed(1), signature=IDENTITIES[1].sign(SESSION + b"\0\1" + bytes.fromhex(signed(1).commitment)).hex()
    ),
    "another session": lambda: signed(1, agreement=OTHER_SESSION),
    "other terms": lambda: signed(1, agreement=OTHER_TERMS),
    "another party's": lambda: change(signed(2), party=1),
    "another party's signature": lambda: change(signed(1), signature=signed(2).signature),
    "another party's commitment": lambda: change(signed(1), commitment=signed(2).commitment),
    "another party's number": lambda: sign(IDENTITIES[1], AGREEMENT, opening(2)).signatures[0],
    "another output's commitment": lambda: change(signed(1), commitment=signed(1, COFFEE).commitment),
    "zeros": lambda: change(signed(1), signature="00" * 64),
    "S plus the order": lambda: change(signed(1), signature=malleable(signed(1).signature)),
}


def malleable(signature: str) -> str:
    raw = bytes.fromhex(signature)
    s = int.from_bytes(raw[32:], "little") + 2**252 + 27742317777372353535851937790883648493
    return (raw[:32] + s.to_bytes(32, "little")).hex()


@pytest.mark.parametrize("what", WRONG)
def test_a_signature_over_anything_else_is_invalid(what: str) -> None:
    wrong = WRONG[what]()
    assert wrong != signed(1)
    with pytest.raises(RemoteProtocolError, match="its signature is wrong"):
        check_signed(IDENTITIES[1].onion, SESSION, change(wrong, party=1))
    if wrong.party == 1:
        altered = change(receipt(), signatures=(signed(0), wrong, signed(2)))
        with pytest.raises(RemoteProtocolError, match="mine: the signature of party 1 is wrong"):
            examine_receipts({"mine": altered})


@given(st.integers(0, 64 * 8 - 1))
def test_every_bit_of_a_signature_counts(bit: int) -> None:
    raw = bytearray.fromhex(signed(1).signature)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteProtocolError):
        check_signed(IDENTITIES[1].onion, SESSION, change(signed(1), signature=raw.hex()))


# -- what a receipt proves


def test_one_file_shows_who_signed_and_reveals_only_its_own_output() -> None:
    findings = examine_receipts({"mine": receipt(1)})
    assert findings.session == SESSION
    assert findings.signed == {0, 1, 2}
    assert findings.missing == []
    assert findings.outputs == {1: TEA}
    assert findings.agreeing == [[1]]


def test_without_its_salt_a_file_proves_the_signatures_and_reveals_nothing_about_the_output() -> None:
    lines = encode_receipt(receipt(1)).splitlines(keepends=True)
    without = b"".join(line for line in lines if not line.startswith(b'"opening":'))
    assert len(lines) == 6
    findings = examine_receipts({"mine": decode_receipt(without)})
    assert (findings.signed, findings.outputs, findings.agreeing) == ({0, 1, 2}, {}, [])
    assert TEA.encode() not in without


def test_files_of_several_parties_show_whose_outputs_are_the_same() -> None:
    outputs = {1: COFFEE}
    findings = examine_receipts({str(own): receipt(own, outputs=outputs) for own in range(3)})
    assert findings.agreeing == [[0, 2], [1]]
    assert findings.outputs == {0: TEA, 1: COFFEE, 2: TEA}


def test_a_signature_in_one_file_counts_for_all_files() -> None:
    findings = examine_receipts({"a": receipt(0, (0, 1)), "b": receipt(2, (0, 2))})
    assert findings.missing == []
    assert examine_receipts({"a": receipt(0, (0, 1))}).missing == [2]


def test_commitments_do_not_show_equal_outputs() -> None:
    assert len({signed(party).commitment for party in range(3)}) == 3


def test_a_copied_commitment_cannot_be_opened_by_another_party() -> None:
    # Party 2 signs what party 1 committed to, to pass party 1's salt for its own as soon as it is revealed.
    copied = signed(1).commitment
    signature = IDENTITIES[2].sign(b"onionmpc/1 receipt" + SESSION + b"\0\2" + bytes.fromhex(copied)).hex()
    forged = change(receipt(), signatures=(signed(0), signed(1), Signature(2, copied, signature)))
    assert examine_receipts({"honest": forged}).signed == {0, 1, 2}
    with pytest.raises(RemoteProtocolError, match="copied: what it reveals is not what party 2 signed"):
        examine_receipts({"copied": change(forged, opening=change(opening(1), party=2))})


@pytest.mark.parametrize(
    "revealed",
    [opening(0, COFFEE), change(opening(0), salt="ff" * 32), opening(1, COFFEE), change(opening(1), party=0)],
)
def test_only_the_signed_output_can_be_revealed(revealed: Opening) -> None:
    with pytest.raises(RemoteProtocolError, match=r"mine: what it reveals is not what party \d signed"):
        examine_receipts({"mine": change(receipt(), opening=revealed)})


def test_a_salt_without_a_signature_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="what it reveals is not what party 0 signed"):
        examine_receipts({"mine": receipt(0, (1, 2))})


def test_a_party_that_signs_two_outputs_is_caught() -> None:
    one, other = receipt(0), receipt(1, outputs={2: COFFEE})
    with pytest.raises(RemoteProtocolError, match="party 2 signed two different outputs of this session"):
        examine_receipts({"one": one, "other": other})


def test_receipts_of_two_sessions_are_not_compared() -> None:
    other = Receipt("onionmpc receipt 1", OTHER_SESSION, (signed(1, agreement=OTHER_SESSION),), opening(1))
    with pytest.raises(UsageError, match="one and other are receipts of two sessions"):
        examine_receipts({"one": receipt(), "other": other})


# -- the file


def test_a_file_holds_no_secret_key_and_can_be_read_back() -> None:
    encoded = encode_receipt(receipt())
    assert decode_receipt(encoded) == receipt()
    assert encode_receipt(decode_receipt(encoded)) == encoded
    assert [line.partition(b":")[0] for line in encoded.splitlines()] == [
        b"{", b'"receipt"', b'"opening"', b'"agreement"', b'"signatures"', b"}",
    ]  # fmt: skip
    for identity in IDENTITIES:
        assert identity.seed.hex().encode() not in encoded.replace(b"00" * 32, b"")
        assert identity.expanded_key.hex().encode() not in encoded


def test_the_largest_session_fits() -> None:
    count = 256
    addresses = tuple(sorted(Identity(number.to_bytes(32)).onion for number in range(count)))
    common = change(AGREEMENT.common, addresses=addresses, files={f"{n:x}.py": "00" * 32 for n in range(12_000)})
    assert len(msgspec.json.encode(common)) < 2**20
    agreement = Agreement(common, (PartyTerms(),) * count, ("00" * 16,) * count)
    signatures = tuple(Signature(number, "00" * 32, "00" * 64) for number in range(count))
    largest = Receipt("onionmpc receipt 1", agreement, signatures, opening(0))
    assert len(encode_receipt(largest)) - len(msgspec.json.encode(common)) < 100 * 2**10
    assert decode_receipt(encode_receipt(largest)) == largest


def as_data() -> Any:
    return json.loads(encode_receipt(receipt()))


def altered(path: str, value: Any) -> bytes:
    """Return a receipt with another value at a path of keys and indices."""
    data = place = as_data()
    *words, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    for word in words:
        place = place[word]
    place[last] = value
    return json.dumps(data).encode()


def later(protocol: int) -> bytes:
    """Return a receipt of a protocol version with more fields."""
    data = json.loads(altered("agreement.common.protocol", protocol))
    data["agreement"]["common"]["more"] = 1
    return json.dumps(data).encode()


MIRRORED = IDENTITIES[0].public_key[:31] + bytes([IDENTITIES[0].public_key[31] ^ 0x80])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is not a receipt"),
        (b"\xff\xfe", "it is not a receipt"),
        (b"[]", "it is not a receipt"),
        (b"{}", "it is not a receipt"),
        (b'{"receipt": 1}', "it is not a receipt"),
        (b'{"receipt": "\\ud800"}', "it is not a receipt"),
        (b'{"a":' + b"[" * 10**6, "it is not a receipt"),
        (b'{"a":' * 10**5, "it is not a receipt"),
        (b'{"receipt": "onionmpc receipt 2"}', "its format is 'onionmpc receipt 2', expected 'onionmpc receipt 1'"),
        (b'{"receipt": "\\u001b[2J"}', r"its format is '\\\\x1b\[2J'"),
        (b'{"receipt": "onionmpc receipt 1"}', "it was altered: Object missing required field"),
        (encode_receipt(receipt())[:-3], "it is not a receipt"),
        (encode_receipt(receipt()) + b"{", "it is not a receipt"),
        (encode_receipt(receipt()) + b" " * MAX_RECEIPT_BYTES, f"it has more than {MAX_RECEIPT_BYTES} bytes"),
        # Issue 12: what a later version says is not of ours, which is nobody's fault.
        (
            later(VERSION + 1),
            f"it uses protocol {VERSION + 1}, but this onionmpc \\({__version__}\\) supports {VERSION} ",
        ),
        (later(VERSION), r"it was altered: Object contains unknown field `more`"),
        (later(256), r"it was altered: Object contains unknown field `more`"),
        (altered("\x1b[2J", 1), r"it was altered: Object contains unknown field `\\x1b\[2J`"),
        (altered("agreement.common.threshold", "1"), "it was altered: Expected `int`"),
        (altered("agreement.common.threshold", -1), "its threshold does not match its number of parties"),
        (altered("agreement.common.threshold", 10**40), "its threshold does not match its number of parties"),
        (altered("agreement.common.addresses", []), "0 parties do not match their number of terms"),
        (altered("agreement.common.addresses", ["a"] * 300), "300 parties do not match"),
        (altered("agreement.common.addresses", ["a"] * 3), 'address 1: the address does not end in ".onion"'),
        (altered("agreement.common.addresses", [IDENTITIES[0].onion] * 3), "addresses 1 and 2 are the same"),
        (altered("agreement.common.addresses.0", IDENTITIES[0].onion.upper()), "its parties are not in order"),
        (altered("agreement.own", []), "3 parties do not match their number of terms"),
        (altered("agreement.nonces", ["00" * 16]), "3 parties do not match their number of terms"),
        (altered("agreement.common.files", {"vote.py": "x"}), "a digest or a number in it is malformed"),
        (altered("agreement.common.padding_rate", 201), "it was altered: Expected `int` <= 200"),
        (altered("signatures.0.party", 256), "it was altered: Expected `int` <= 255"),
        (altered("signatures.2.party", 3), "its signatures are not those of its parties, in order"),
        (altered("signatures.0.party", 1), "its signatures are not those of its parties, in order"),
        (altered("signatures.0.signature", "00" * 63), "it was altered: Expected `str` matching regex"),
        (altered("signatures.0.commitment", "0A" * 32), "it was altered: Expected `str` matching regex"),
        (altered("opening.salt", "00" * 32 + "\n"), "it was altered: Expected `str` matching regex"),
    ],
)
def test_a_malformed_file_is_refused_in_one_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(InvalidReceipt, match=sentence) as caught:
        decode_receipt(content)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def examined(content: bytes) -> Receipt | None:
    """Read and check a file; None if it is refused."""
    with contextlib.suppress(OnionMPCError):
        read = decode_receipt(content)
        examine_receipts({"mine": read})
        return read
    return None


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**50), 10**50) | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(data: Any, path: str = "") -> list[str]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found = [path] if path else []
    for key, below in items:
        found += places(below, f"{path}.{key}" if path else str(key))
    return found


@settings(max_examples=300)
@given(st.sampled_from([place for place in places(as_data()) if "vote.py" not in place]), values)
def test_any_alteration_is_noticed_or_changes_nothing(path: str, value: Any) -> None:
    content = altered(path, value)
    read = examined(content)
    # A list may be cut short, and the salt be taken out; all else is signed.
    assert read is None or read.agreement == AGREEMENT
    assert read in (None, receipt()) or path in ("signatures", "opening")


@given(st.binary(max_size=200), st.integers(0, 1000))
def test_random_bytes_are_read_or_refused(noise: bytes, at: int) -> None:
    encoded = encode_receipt(receipt())
    for content in (noise, encoded[:at] + noise + encoded[at + len(noise) :]):
        examined(content)


def test_a_receipt_of_version_1_still_proves_what_it_did() -> None:
    # Written by the code of before: an own field more must not change its session id.
    content = (Path(__file__).parent / "vectors" / "receipt-1.json").read_bytes()
    assert b"distributions" not in content
    findings = examine_receipts({"old": decode_receipt(content)})
    assert findings.session.hex() == "e1f602c42e2394fbebc868e05a2aeb38148f7d9490d2a1973ae898f1c177fd21"
    assert (findings.missing, findings.outputs) == ([], {0: TEA})
    assert encode_receipt(decode_receipt(content)) == content


def test_a_receipt_proves_which_distributions_each_party_stated() -> None:
    own = (PartyTerms(distributions={"numpy": "2.1"}), PartyTerms(distributions={}), PartyTerms())
    agreement = change(AGREEMENT, own=own)
    whole = change(
        sign(IDENTITIES[0], agreement, opening(0)), signatures=tuple(signed(n, agreement=agreement) for n in range(3))
    )
    content = encode_receipt(whole)
    assert examine_receipts({"a": decode_receipt(content)}).agreement.own == own
    with pytest.raises(RemoteProtocolError):
        examine_receipts({"a": decode_receipt(content.replace(b'"numpy":"2.1"', b'"numpy":"2.2"'))})

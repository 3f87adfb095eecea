"""The session id is the same for the same agreement only, and a difference is named."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import AgreementError
from onionmpc.levels import Level
from onionmpc.session.agreement import (
    Agreement,
    PartyTerms,
    SharedTerms,
    check_distributions,
    check_floors,
    circuits_of_link,
    session_id,
)
from onionmpc.session.comparison import TERM_NAMES, check_equal
from tests.support.agreements import AGREEMENT, COMMON, OTHERS, change


def difference(ours: SharedTerms, theirs: SharedTerms) -> str:
    with pytest.raises(AgreementError) as raised:
        check_equal(ours, theirs, here="party 0", there="party 2")
    return raised.value.message


def test_every_common_field_has_a_name_and_another_value_here() -> None:
    fields = {field.name for field in msgspec.structs.fields(SharedTerms)}
    assert set(TERM_NAMES) == set(OTHERS) == fields


def test_session_id_is_the_digest_that_the_protocol_defines() -> None:
    # PROTOCOL 4, by another encoder.
    canonical = json.dumps(msgspec.to_builtins(AGREEMENT), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert session_id(AGREEMENT) == hashlib.sha256(b"onionmpc/1 agreement" + canonical.encode()).digest()


def test_session_id_known_answer() -> None:
    assert session_id(AGREEMENT).hex() == "4b56f435fe1e19b8add7a592f4c74b8489a793d17fa22803ce7c7c986d6cdba7"


@pytest.mark.parametrize("field", TERM_NAMES)
def test_a_different_common_field_gives_another_session_id(field: str) -> None:
    changed = msgspec.structs.replace(AGREEMENT, common=change(COMMON, **{field: OTHERS[field]}))
    assert session_id(changed) != session_id(AGREEMENT)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (PartyTerms(distributions={"mpyc": "0.11", "numpy": "2.2"}), "numpy differs: 2.1 at party 0, 2.2 at party 2"),
        (PartyTerms(distributions={"numpy": "2.1"}), "mpyc differs: 0.11 at party 0, none at party 2"),
        (PartyTerms(distributions={"mpyc": "0.11", "numpy": "2.1", "a": "1"}), "a differs: none at party 0, 1 at"),
        (PartyTerms(), "mpyc differs: 0.11 at party 0, none at party 2"),
    ],
)
def test_the_first_distribution_that_differs_is_named_with_both_versions(theirs: PartyTerms, said: str) -> None:
    ours = PartyTerms(distributions={"numpy": "2.1", "mpyc": "0.11"})
    with pytest.raises(AgreementError) as caught:
        check_distributions(ours, theirs, here="party 0", there="party 2")
    assert caught.value.message.startswith(said)
    check_distributions(ours, ours, here="party 0", there="party 2")
    check_distributions(PartyTerms(), PartyTerms(), here="party 0", there="party 2")


@pytest.mark.parametrize("floor", Level)
@pytest.mark.parametrize("level", Level)
def test_both_sides_enforce_a_floor_and_name_both_levels(floor: Level, level: Level) -> None:
    strict, other = PartyTerms(min_circuit_length=floor), PartyTerms(level, Level.SHORT)
    for pair, names in (((strict, other), ("party 0", "party 2")), ((other, strict), ("party 2", "party 0"))):
        if level >= floor:
            check_floors(*pair, here=names[0], there=names[1])
            continue
        with pytest.raises(AgreementError) as caught:
            check_floors(*pair, here=names[0], there=names[1])
        sentence = f"party 2 uses circuit length {level.value}, but party 0 accepts no less than {floor.value}"
        assert caught.value.message == sentence


@pytest.mark.parametrize(
    ("agreed", "limits", "padding_rate", "raced"),
    [(3, (3, 3), 0, 3), (3, (3, 1), 0, 1), (8, (3, 8), 0, 3), (8, (8, 8), 0, 8), (2, (8, 8), 0, 2), (8, (8, 8), 1, 1)],
)
def test_a_link_has_as_many_circuits_as_were_agreed_and_both_parties_allow(
    agreed: int, limits: tuple[int, int], padding_rate: int, raced: int
) -> None:
    common = change(COMMON, circuits=agreed, padding_rate=padding_rate)
    one, other = (PartyTerms(max_circuits=limit) for limit in limits)
    assert circuits_of_link(common, one, other) == circuits_of_link(common, other, one) == raced


@pytest.mark.parametrize("circuits", [0, 9])
def test_a_number_of_circuits_out_of_bounds_is_refused(circuits: int) -> None:
    for value in (change(COMMON, circuits=circuits), PartyTerms(max_circuits=circuits)):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(value), type=type(value))


def test_a_different_nonce_own_field_or_order_gives_another_session_id() -> None:
    ids = {
        session_id(msgspec.structs.replace(AGREEMENT, **changes))
        for changes in (
            {},
            {"nonces": ("00" * 16, "01" * 16, "03" * 16)},
            {"nonces": AGREEMENT.nonces[::-1]},
            {"own": (PartyTerms(Level.LONG), PartyTerms(), PartyTerms())},
            {"own": (PartyTerms(), PartyTerms(Level.STANDARD, Level.LONG), PartyTerms())},
            {"own": (PartyTerms(distributions={"numpy": "2.1"}), PartyTerms(Level.LONG), PartyTerms())},
        )
    }
    assert len(ids) == 6


def test_the_order_in_which_files_were_found_does_not_matter() -> None:
    swapped = change(COMMON, files=dict(reversed(COMMON.files.items())))
    check_equal(COMMON, swapped, here="party 0", there="party 2")
    assert session_id(msgspec.structs.replace(AGREEMENT, common=swapped)) == session_id(AGREEMENT)


# msgspec's floor for text: what JSON can carry.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(words, max_size=3).map(tuple), st.dictionaries(words, words, max_size=3), words)
def test_an_agreement_survives_the_wire(arguments: tuple[str, ...], files: dict[str, str], program: str) -> None:
    common = change(COMMON, public_arguments=arguments, files=files, program=program)
    agreement = msgspec.structs.replace(AGREEMENT, common=common)
    copied = msgspec.json.decode(msgspec.json.encode(agreement), type=Agreement)
    assert copied == agreement
    assert session_id(copied) == session_id(agreement)
    check_equal(common, copied.common, here="party 0", there="party 2")


@given(st.lists(words, max_size=3), st.lists(words, max_size=3))
def test_lists_with_the_same_concatenation_give_different_session_ids(one: list[str], other: list[str]) -> None:
    ids = [
        session_id(msgspec.structs.replace(AGREEMENT, common=change(COMMON, public_arguments=tuple(arguments))))
        for arguments in (one, other)
    ]
    assert (ids[0] == ids[1]) == (one == other)


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("protocol", "protocol version differs: 1 at party 0, 2 at party 2"),
        ("threshold", "threshold differs: 1 at party 0, 0 at party 2"),
        ("program", "program differs: vote at party 0, auction at party 2"),
        (
            "files",
            "program file vote.py differs: SHA-256 0a0a0a0a0a0a0a0a… at party 0, SHA-256 0c0c0c0c0c0c0c0c… at party 2",
        ),
        ("public_arguments", "public arguments differs: (tea,coffee) at party 0, (tea, coffee) at party 2"),
        ("mpyc_version", "MPyC version differs: 0.11 at party 0, 0.10 at party 2"),
        ("mpyc_options", "MPyC options differs: () at party 0, (-L64) at party 2"),
        ("numpy", "numpy's major version differs: 2 at party 0, none at party 2"),
        ("receipt", "receipt differs: not wanted at party 0, wanted at party 2"),
    ],
)
def test_a_difference_is_named_with_both_values(field: str, sentence: str) -> None:
    assert difference(COMMON, change(COMMON, **{field: OTHERS[field]})) == sentence


@pytest.mark.parametrize("field", TERM_NAMES)
def test_every_difference_is_found_from_both_sides(field: str) -> None:
    changed = change(COMMON, **{field: OTHERS[field]})
    assert TERM_NAMES[field] in difference(COMMON, changed)
    assert TERM_NAMES[field] in difference(changed, COMMON)


def test_a_missing_file_is_named() -> None:
    fewer = change(COMMON, files={"vote.py": "0a" * 32})
    assert difference(COMMON, fewer) == (
        "program file private_input.py differs: SHA-256 0b0b0b0b0b0b0b0b… at party 0, missing at party 2"
    )
    assert "missing at party 0, SHA-256 0b" in difference(fewer, COMMON)


def test_a_renamed_file_is_distinguished_from_a_different_file() -> None:
    # Issue 12.
    renamed = change(COMMON, program="vote (1)", files={"vote (1).py": "0a" * 32, "private_input.py": "0b" * 32})
    assert difference(COMMON, renamed) == (
        "a file of the program has two names: vote.py at party 0, vote (1).py at party 2"
    )
    assert "vote (1).py at party 0, vote.py at party 2" in difference(renamed, COMMON)
    data = change(COMMON, files={**COMMON.files, "with/a.csv": "0d" * 32})
    assert "with/a.csv at party 0, with/b.csv at party 2" in difference(
        data, change(COMMON, files={**COMMON.files, "with/b.csv": "0d" * 32})
    )
    # Two programs that share a module are two programs.
    other = change(COMMON, program="auction", files={"auction.py": "0c" * 32, "private_input.py": "0b" * 32})
    assert difference(COMMON, other) == "program differs: vote at party 0, auction at party 2"


def test_the_message_explains_a_difference_that_is_understood() -> None:
    # Issue 12.
    def explain(path: str, sha256: str) -> str:
        assert (path, sha256) == ("vote.py", "0c" * 32)
        return "in line endings only"

    theirs = change(COMMON, files=OTHERS["files"])
    with pytest.raises(
        AgreementError, match=r"program file vote\.py differs in line endings only: SHA-256 0a0a"
    ) as raised:
        check_equal(COMMON, theirs, here="party 0", there="party 2", explain=explain)
    assert "git, mail and editors" in raised.value.hint


def test_party_terms_without_distributions_are_encoded_as_in_version_1() -> None:
    # PROTOCOL 4: the session id of an older receipt stays.
    old = {"circuit_length": "standard", "min_circuit_length": "standard", "max_circuits": 3}
    assert msgspec.json.decode(msgspec.json.encode(PartyTerms())) == old
    own = msgspec.json.decode(msgspec.json.encode(old), type=PartyTerms)
    assert own == PartyTerms()
    assert own.version_of("numpy") is None


@pytest.mark.parametrize(
    "distributions",
    [
        {str(n): "1" for n in range(33)},
        {"n" * 61: "1"},
        {"n": "1" * 41},
        {"": "1"},
        {"n": ""},
        {"\x1b": "1"},
        {"n": "é"},
        {"n": "1\n"},
        {"n": 1},
        ["n"],
        None,
    ],
)
def test_distributions_out_of_bounds_are_refused(distributions: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"distributions": distributions}, type=PartyTerms)


@given(st.text(max_size=400))
def test_control_characters_in_a_peers_values_are_escaped(text: str) -> None:
    for changes in ({"program": text}, {"public_arguments": (text,)}, {"files": {text: text}}):
        message = difference(COMMON, change(COMMON, **changes))
        assert message.isprintable()
        assert len(message) < 600

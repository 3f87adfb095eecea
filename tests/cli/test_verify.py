"""`onionmpc verify`: its text and its exit code say what a receipt proves, no matter who wrote the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from onionmpc.cli.main import run
from onionmpc.names.contacts import add_contact
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.receipt import MAX_RECEIPT_BYTES, Receipt, encode_receipt
from tests.support.receipts import AGREEMENT, COFFEE, IDENTITIES, OTHER_SESSION, TEA, change, opening, receipt, signed

Verify = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verify(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Verify:
    """Write receipts as a, b, c and verify them, or other words; return the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))

    def run_verify(*words: Receipt | bytes | str) -> tuple[int, str, str]:
        arguments = []
        for name, word in zip("abcdefgh", words, strict=False):
            if not isinstance(word, str):
                Path(name).write_bytes(word if isinstance(word, bytes) else encode_receipt(word))
            arguments.append(word if isinstance(word, str) else name)
        code = run(["verify", *arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert "\x1b" not in out + err
        return code, out, err

    return run_verify


def test_one_receipt_shows_what_was_computed_and_who_signed(verify: Verify) -> None:
    code, out, err = verify(receipt(1))
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "A receipt of a computation of 3 parties:"
    assert "arguments    tea é\\x1b[2J" in lines
    assert "threshold    1: any 2 of them together could read every input" in lines
    assert f"vote.py  {'0a' * 32}" in lines
    assert f"parties      0  {IDENTITIES[0].onion}  signed" in lines
    assert f"1  {IDENTITIES[1].onion}  signed, SHA-256 of its output {TEA}" in lines
    assert f"2  {IDENTITIES[2].onion}  signed" in lines
    assert "SAME" not in out
    assert "It does not say that the output is right" in out


def test_a_receipt_is_shown_with_this_users_own_names_for_its_addresses(verify: Verify) -> None:
    add_contact("acme", IDENTITIES[1].onion)
    lines = [line.strip() for line in verify(receipt(0))[1].splitlines()]
    assert f"1  {IDENTITIES[1].onion}  acme  signed" in lines
    assert f"2  {IDENTITIES[2].onion}  signed" in lines
    assert b"acme" not in encode_receipt(receipt(0))


def test_a_receipt_shows_where_parties_had_different_versions_of_a_distribution(verify: Verify) -> None:
    agreement = change(
        AGREEMENT, own=tuple(PartyTerms(distributions={"numpy": version}) for version in ("2.1", "2.2", "2.1"))
    )
    whole = receipt(0)
    whole = change(
        whole, agreement=agreement, opening=None, signatures=tuple(signed(n, agreement=agreement) for n in range(3))
    )
    code, out, _ = verify(whole)
    assert code == 0
    assert "  libraries    numpy differs, by party: 2.1 at 0, 2; 2.2 at 1\n" in out
    assert "libraries" not in verify(receipt(0))[1]


def test_a_missing_signature_is_reported(verify: Verify) -> None:
    code, out, err = verify(receipt(0, (0,)))
    assert code == 4
    assert out.count("did NOT sign") == 2
    assert err == "onionmpc: error: parties 1 and 2 did not sign\n"


def test_several_receipts_show_who_had_the_same_output(verify: Verify) -> None:
    code, out, err = verify(receipt(0), receipt(1), receipt(2))
    assert (code, err) == (0, "")
    assert "\nparties 0, 1 and 2 had the SAME output.\n" in out
    code, out, err = verify(*(receipt(own, outputs={1: COFFEE}) for own in range(3)))
    assert code == 5
    assert "\nOutputs DIFFER: parties 0 and 2 / party 1.\n" in out
    assert err == "onionmpc: error: the revealed outputs differ\n"


def test_an_output_can_be_compared_with_what_was_signed(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "tea").write_bytes(b"tea\n")
    (tmp_path / "coffee").write_bytes(b"coffee\n")
    code, out, _ = verify(receipt(0), receipt(1), "--output", "tea")
    assert code == 0
    assert out.endswith("\ntea is the output of parties 0 and 1.\n")
    code, _, err = verify(receipt(0), "--output", "coffee")
    assert (code, err) == (5, "onionmpc: error: coffee is not the output of party 0\n")
    code, _, err = verify(change(receipt(0), opening=None), "--output", "tea")
    assert code == 2
    assert "--output needs a receipt with a salt, and no FILE has one" in err
    code, _, err = verify(receipt(0), "--output", "nothing")
    assert (code, err) == (2, "onionmpc: error: cannot read nothing: No such file or directory\n")


def test_the_copy_that_the_help_shows_how_to_make_proves_the_signatures(
    verify: Verify, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", "--help"]) == 0
    assert """grep -v '^"opening":' mine.json""" in capfd.readouterr().out
    lines = encode_receipt(receipt()).splitlines(keepends=True)
    code, out, _ = verify(b"".join(line for line in lines if not line.startswith(b'"opening":')))
    assert code == 0
    assert TEA not in out


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (b"", 2, "a: it is not a receipt"),
        (b"\x1b[2J", 2, "a: it is not a receipt"),
        (b"[" * 10**6, 2, "a: it is not a receipt"),
        (b" " * (MAX_RECEIPT_BYTES + 1), 2, "a: it has more than"),
        (b'{"receipt": "\\u001b[2J"}', 2, "a: its format is '\\\\x1b[2J'"),
        (
            encode_receipt(change(receipt(), signatures=(signed(1),))),
            6,
            "a: what it reveals is not what party 0 signed",
        ),
        (
            encode_receipt(change(receipt(), signatures=(change(signed(1), party=0),))),
            6,
            "a: the signature of party 0 is wrong",
        ),
        (encode_receipt(change(receipt(), opening=opening(0, COFFEE))), 6, "a: what it reveals is not what party 0"),
    ],
)
def test_a_file_that_is_no_receipt_or_was_altered_is_refused_in_one_sentence(
    verify: Verify, content: bytes, code: int, sentence: str
) -> None:
    ended, out, err = verify(content)
    assert (ended, out) == (code, "")
    assert err.startswith(f"onionmpc: error: {sentence}")


@pytest.mark.parametrize("name", ["nothing", ".", "/dev/null", "\x1b[2J"])
def test_an_unreadable_file_is_reported(verify: Verify, name: str) -> None:
    code, out, err = verify(name)
    assert (code, out) == (2, "")
    assert err.startswith("onionmpc: error: ")


def test_receipts_of_two_sessions_are_refused(verify: Verify) -> None:
    other = Receipt("onionmpc receipt 1", OTHER_SESSION, (signed(1, agreement=OTHER_SESSION),), opening(1))
    code, out, err = verify(receipt(), other)
    assert (code, out) == (2, "")
    assert err.startswith("onionmpc: error: a and b are receipts of two sessions\n")


def test_a_party_that_signed_two_outputs_is_reported(verify: Verify) -> None:
    code, out, err = verify(receipt(0), receipt(1, outputs={2: COFFEE}))
    assert (code, out) == (6, "")
    assert err == "onionmpc: error: party 2 signed two different outputs of this session (b)\n"


def test_numbers_that_nobody_can_print_are_refused(verify: Verify) -> None:
    data = json.loads(encode_receipt(receipt()))
    text = json.dumps(data).replace('"protocol": 1', '"protocol": 1' + "0" * 4000)
    assert verify(text.encode())[0] in (2, 6)
    text = json.dumps(data).replace('"numpy": 2', '"numpy": 1' + "0" * 10**5)
    assert verify(text.encode())[0] == 2


def test_control_characters_of_a_stranger_are_escaped(verify: Verify) -> None:
    common = change(
        AGREEMENT.common,
        program="\x1b]0;owned\x07",
        files={"\x1b[2J\u202e.py": "00" * 32},
        mpyc_version="\x1b[2J",
        mpyc_options=("\n",),
        python="\r",
    )
    agreement = change(AGREEMENT, common=common)
    code, out, _ = verify(Receipt("onionmpc receipt 1", agreement, (signed(0, agreement=agreement),)))
    assert code == 4
    assert all(line.isprintable() for line in out.splitlines())
    assert msgspec.json.decode(Path("a").read_bytes(), type=Receipt).agreement == agreement

"""`onionmpc host` and `onionmpc join`: whatever cannot be is refused in a sentence, before tor is started.

The tor of these tests says its version and does nothing else, so no test reaches a network.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onionmpc.api.options import Prepared
from onionmpc.api.outcome import Result
from onionmpc.cli import party as module
from onionmpc.cli.bridges import read_bridges
from onionmpc.cli.main import run
from onionmpc.cli.options import PartyOptions
from onionmpc.errors import OnionMPCError, PeerError, RemoteProtocolError, UsageError
from onionmpc.identity import Identity, Onion, curve, key_file, onion_from_public_key, public_key_from_onion
from onionmpc.program.spec import Walls
from onionmpc.session import keystore
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.computation import Result as SessionResult
from onionmpc.session.invite import Invite, format_invite

ERROR = "onionmpc: error: "
HINT = "onionmpc: hint: "
V2_ADDRESS = "expyuzz4wqqyqhjn.onion"
A, B, C = (Identity(bytes([number]) * 32).onion for number in range(3))
INVITE = format_invite(Invite(A, bytes(16)))
OTHER_INVITE = format_invite(Invite(A, bytes([1]) * 16))
HOST = ("host", "average-salary", "--parties", "3", "--yes")

# A point of order 8 (RFC 8032's curve): added to a key, it gives another address with the same shared secrets.
POINT_OF_ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of our own, a tor that only says its version, and nobody at the terminal."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run the command line, which must refuse; return the sentence, and the hint in a line of its own."""

    def run_refused(*arguments: str, code: int = 2) -> str:
        assert run(list(arguments)) == code
        out, err = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in err
        assert err.count(ERROR) == 1
        sentence = err[err.index(ERROR) + len(ERROR) :]
        assert sentence.count(HINT) <= 1
        return sentence.replace(HINT, "").strip()

    return run_refused


def fake_tor(path: Path, version: str = "0.4.9.11", otherwise: str = "exit 1") -> str:
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Tor version {version}."; exit; fi\n{otherwise}\n')
    path.chmod(0o700)
    return str(path)


def mirrored(onion: Onion) -> Onion:
    """-A: another address of the same X25519 key."""
    key = public_key_from_onion(onion)
    return onion_from_public_key(key[:31] + bytes([key[31] ^ 0x80]))


def with_torsion(onion: Onion) -> Onion:
    """A plus a point of small order."""
    x, y, z, _ = curve._add(*(_point(key) for key in (public_key_from_onion(onion), POINT_OF_ORDER_8)))
    inverse = pow(z, -1, curve.P)
    return onion_from_public_key((y * inverse % curve.P | (x * inverse % curve.P & 1) << 255).to_bytes(32, "little"))


def _point(key: bytes) -> curve.Point:
    y = curve.y_coordinate(key)
    x = curve._x_from_y(y)
    assert x is not None
    if x & 1 != key[31] >> 7:
        x = curve.P - x
    return x, y, 1, x * y % curve.P


def with_version(onion: Onion, version: int) -> str:
    packed = base64.b32decode(onion.removesuffix(".onion").upper())
    return base64.b32encode(packed[:-1] + bytes([version])).decode().lower() + ".onion"


# --- Addresses ---------------------------------------------------------------------------------------------------

BAD_ADDRESSES = {
    "a typo": (("b" if A[0] == "a" else "a") + A[1:], "the checksum is wrong: there is a typo somewhere"),
    "a digit that is none": (A[:9] + "1" + A[10:], "character 10 of the address is '1', expected a to z or 2 to 7"),
    "cut short": (A[:40] + ".onion", 'the address has 40 characters before ".onion", expected 56'),
    "too long": ("a" + A, 'the address has 57 characters before ".onion", expected 56'),
    "without its end": (A.removesuffix(".onion"), 'the address does not end in ".onion"'),
    "a link": (f"http://{A}/", "this is a link, not an address"),
    "with a port": (f"{A}:9735", "this is a link, not an address"),
    "with a name before it": (f"www.{A}", "the address has a name before it"),
    "of version 2": (V2_ADDRESS, "this is a v2 address (16 characters), which tor no longer carries"),
    "of version 4": (with_version(A, 4), "the address is of version 4, expected 3"),
    "the neutral point": (onion_from_public_key(b"\1" + bytes(31)), "it is a point of small order"),
    "a point of order 8": (onion_from_public_key(POINT_OF_ORDER_8), "it is a point of small order"),
    "a key with torsion": (with_torsion(A), "it is not of prime order"),
    "not on the curve": (onion_from_public_key(b"\2" + bytes(31)), "it is not a point on the curve"),
    "not canonical": (onion_from_public_key(b"\xee" + b"\xff" * 30 + b"\x7f"), "it is not in canonical form"),
}


@pytest.mark.parametrize(("address", "sentence"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES)
def test_an_address_that_is_none_is_refused_with_what_is_wrong(refused: Refused, address: str, sentence: str) -> None:
    for told in (
        refused("join", address, "--yes"),
        refused("join", B, address, "average-salary", "--identity", "me", "--yes"),
        refused(*HOST, "--expect", address),
    ):
        assert sentence in told
        assert told.count("\n") == 1  # a hint


def test_one_bad_address_in_a_file_is_enough(refused: Refused, tmp_path: Path) -> None:
    others = tmp_path / "others.txt"
    others.write_text(f"# ours\n{B}  # Bob\n{A[:20]}.onion\n")
    assert "the address has 20 characters" in refused("join", f"@{others}", "average-salary", "--yes")
    assert "the address has 20 characters" in refused(*HOST, "--expect", f"@{others}")


def test_our_own_address_is_no_other_party(refused: Refused) -> None:
    own = keystore.create("me", None).onion
    me = ("--identity", "me", "--yes")
    assert "address 1 is your own\nname the other parties only" in refused("join", own, *me)
    invite = format_invite(Invite(own, bytes(16)))
    assert "address 1 is your own" in refused("join", invite, *me)
    assert "address 2 is your own" in refused("join", B, own, C, "average-salary", *me)
    assert "address 1 is your own" in refused(*HOST, "--identity", "me", "--expect", own)


def test_an_address_twice_is_refused(refused: Refused) -> None:
    keystore.create("me", None)
    told = refused("join", B, C, B.upper(), "average-salary", "--identity", "me", "--yes")
    assert told == "addresses 1 and 3 are the same"
    assert "addresses 1 and 2 are the same" in refused(*HOST, "--expect", B, "--expect", B)


def test_two_addresses_of_one_key_are_refused(refused: Refused) -> None:
    own = keystore.create("me", None).onion
    me = ("--identity", "me", "--yes")
    told = refused("join", B, C, mirrored(B), "average-salary", *me)
    assert told.startswith("address 3 is the mirror image of address 1: both belong to one key\n")
    assert "address 1 is the mirror image of your own address" in refused("join", mirrored(own), *me)
    assert "address 2 is the mirror image of address 1" in refused(*HOST, "--expect", B, "--expect", mirrored(B))


# --- Invites and lists -------------------------------------------------------------------------------------------

BAD_INVITES = {
    "cut short": (INVITE[:-1], "the invite has 92 characters, expected 93"),
    "too long": (INVITE[:50] + "a" + INVITE[50:], "a character was changed"),
    "beside another": (f"{INVITE} {OTHER_INVITE}", "this holds 2 different invites, expected one"),
    "altered": (INVITE[:20] + ("b" if INVITE[20] == "a" else "a") + INVITE[21:], "a character was changed"),
    "a digit that is none": (INVITE[:20] + "1" + INVITE[21:], "the invite has a character that no invite has"),
}


@pytest.mark.parametrize(("invite", "sentence"), BAD_INVITES.values(), ids=BAD_INVITES)
def test_an_invite_that_is_none_is_refused_and_not_repeated(refused: Refused, invite: str, sentence: str) -> None:
    told = refused("join", invite, "--yes")
    assert sentence in told
    assert "paste the whole line" in told or "the one meant for you" in told
    assert invite[20:40] not in told


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ([INVITE, INVITE], "2 invites and 0 addresses given"),
        ([INVITE, B], "1 invites and 1 addresses given"),
        (["average-salary"], "0 invites and 0 addresses given"),
    ],
)
def test_join_takes_one_invite_or_addresses(refused: Refused, words: list[str], seen: str) -> None:
    assert refused("join", *words, "--yes") == (
        f"{seen}\nexpected one invite, or one address, or the addresses of all other parties"
    )


def test_join_takes_one_program(refused: Refused) -> None:
    told = refused("join", INVITE, "vote", "auction", "--yes")
    assert told.startswith("2 words are neither an address nor an invite (vote, auction), expected one program at most")


def test_a_file_that_cannot_be_read_is_named(refused: Refused, tmp_path: Path) -> None:
    assert refused("join", "@nowhere.txt", "--yes").startswith("cannot read @nowhere.txt: No such file or directory")
    assert refused("join", f"@{tmp_path}", "--yes").startswith(f"cannot read @{tmp_path}: Is a directory")
    assert refused(*HOST, "--expect", "@nowhere.txt").startswith("cannot read @nowhere.txt")


def test_a_binary_file_is_no_list(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "invite.png").write_bytes(bytes(range(256)))
    told = refused("join", "@invite.png", "--yes")
    assert "@invite.png holds no address and no invite" in told


def test_an_empty_file_is_no_list(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    assert refused("join", "@empty.txt", "--yes").startswith("@empty.txt holds no address and no invite\n")
    assert refused(*HOST, "--expect", "@empty.txt").startswith("@empty.txt holds no address and no invite\n")


def test_standard_input_is_read_like_a_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "onionmpc.cli", "join", "-", "--yes"],
        input=INVITE[:50].encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"onionmpc: error: the invite has 50 characters, expected 93\n")


def test_a_full_list_needs_an_identity_that_the_others_know(refused: Refused) -> None:
    told = refused("join", B, C, "average-salary", "--yes")
    assert told.startswith("a full list of parties needs --identity\n")
    assert "it cannot be a fresh one: onionmpc id new NAME" in told


def test_a_full_list_needs_a_program(refused: Refused) -> None:
    keystore.create("me", None)
    assert "no program was named\n" in refused("join", B, C, "--identity", "me", "--yes")


def test_an_unknown_identity_is_refused_with_how_to_make_it(refused: Refused) -> None:
    for told in (refused(*HOST, "--identity", "nobody"), refused("join", INVITE, "--identity", "nobody", "--yes")):
        assert "there is no identity named nobody\n" in told
        assert '"onionmpc id new nobody" makes it' in told


def test_a_passphrase_comes_from_a_file_and_a_wrong_one_is_one_sentence(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_file, "SCRYPT_LOG2_N", 1)
    keystore.create("me", lambda: bytearray(b"open sesame"))
    file = tmp_path / "secret"
    file.write_bytes(b"open barley\n")
    file.chmod(0o600)
    given = ("--identity", "me", "--passphrase-file", str(file))
    assert refused(*HOST, *given).startswith("the passphrase is wrong, or the key file was altered\n")
    file.write_bytes(b"open sesame\n")
    with keystore.in_use("me"):  # comes after the file has been opened
        assert refused(*HOST, *given).startswith("another session uses the identity me now\n")
    file.chmod(0o644)
    assert "open to others (mode 644, expected 600)" in refused(*HOST, *given)
    assert refused(*HOST, "--passphrase-file", str(file)).startswith("--passphrase-file needs --identity\n")


def test_an_identity_that_takes_part_already_is_refused(refused: Refused) -> None:
    keystore.create("me", None)
    with keystore.in_use("me"):
        for command in (HOST, ("join", INVITE, "--yes"), ("join", B, C, "vote", "--yes")):
            told = refused(*command, "--identity", "me")
            assert told.startswith("another session uses the identity me now\n")


def test_an_identity_that_cannot_be_locked_is_told(refused: Refused, alone: Path) -> None:
    keystore.create("me", None)
    (alone / "state" / "identities" / "me.lock").mkdir()
    path = alone / "state" / "identities" / "me.lock"
    assert refused(*HOST, "--identity", "me").startswith(f"cannot lock {path}: Is a directory")


# --- Programs and their arguments --------------------------------------------------------------------------------


def test_a_program_that_cannot_be_run_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\nif x print(x)\n")
    (tmp_path / "latin.py").write_bytes(b'"caf\xe9"\n')
    expected = {
        "average-celery": "there is no program average-celery\ndid you mean average_salary",
        "nothing.py": "there is no program nothing.py\ngive the path of a script, or one of auction, average_salary",
        str(tmp_path): f"{tmp_path} is a directory, expected a Python script",
        "broken.py": "broken.py is not Python: line 2: ",
        "latin.py": "latin.py is not UTF-8 (byte 4)",
    }
    for program, sentence in expected.items():
        assert sentence in refused("host", program, "--parties", "3", "--yes")


def test_a_joiner_hears_of_its_own_broken_program_before_it_asks_the_host(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("if x print(x)\n")
    assert "broken.py is not Python: line 1: " in refused("join", INVITE, "broken.py", "--yes")


def test_host_needs_a_program(refused: Refused) -> None:
    assert "no program was named\n" in refused("host", "--parties", "3", "--yes")
    assert "unexpected extra argument (auction)" in refused(*HOST, "auction")


def test_a_further_file_that_is_not_there_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("..")
    for command in (HOST, ("join", INVITE, "--yes")):
        assert "'nowhere.csv' does not exist" in refused(*command, "--with", "nowhere.csv")
        assert "link is a link that leads out of " in refused(*command, "--with", str(tmp_path))


SET_BY_US = [
    "-M3",
    "-M",
    "-P",
    "-Plocalhost:11365",
    "-I0",
    "-I",
    "--index=1",
    "-C",
    "--config=party.ini",
    "-B",
    "--ssl",
]
THRESHOLDS = ["-T", "-T1", "--threshold=1"]
AGREED_UPON = ["-L64", "-L", "-K40", "--bit-length=64", "--sec-param=40", "--no-prss", "--mix32-64bit"]


@pytest.mark.parametrize("argument", SET_BY_US + THRESHOLDS + AGREED_UPON)
def test_no_option_of_mpyc_slips_in_among_the_arguments(refused: Refused, argument: str) -> None:
    answers = [
        refused(*command, *arguments)
        for command in (HOST, ("join", INVITE, "average-salary", "--yes"))
        for arguments in ([f"--public={argument}"], ["--", argument])
    ]
    assert len(set(answers)) == 1
    sentence, hint = answers[0].splitlines()
    assert sentence.startswith(f"{argument.split('=')[0]} is ")
    if argument in AGREED_UPON:
        assert "all parties must agree on" in sentence
        assert f"--mpyc={argument}" in hint
    else:
        assert "a connection option of MPyC, which onionmpc sets itself" in sentence
        ours = "--parties" if argument.startswith("-M") else "--threshold" if argument in THRESHOLDS else ""
        assert hint == (f"{ours} is an option of onionmpc" if ours else "leave it out")


@pytest.mark.parametrize("name", ["builtins.eval", "subprocess.Popen", "__main__.*", "private_input.Path", "Ballot"])
def test_only_classes_of_the_program_can_be_allowed(refused: Refused, name: str) -> None:
    for command in (HOST, ("join", INVITE, "average-salary", "--yes")):
        assert refused(*command, "--allow-type", name) == (
            f"{name} is no class of the program, and no other can be allowed\n"
            "the script's are __main__.Class, a module's module.Class"
        )


@pytest.mark.parametrize("option", ["-T1", "-L", "-L0", "-Lx", "-K-1", "--no-prss=1", "--output-windows", "64", ""])
def test_mpyc_takes_options_that_change_the_wire_alone(refused: Refused, option: str) -> None:
    for command in (HOST, ("join", INVITE, "--yes")):
        assert refused(*command, f"--mpyc={option}") == (
            f"--mpyc {option} is not one of MPyC's options that change the wire\n"
            "these are -L64, -K40, --no-prss and --mix32-64bit"
        )


# --- Numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parties", [-1, 0, 1, 257])
def test_a_number_of_parties_that_cannot_be(refused: Refused, parties: int) -> None:
    told = refused("host", "average-salary", f"--parties={parties}", "--yes")
    assert told.startswith(f"{parties} parties, expected 2 to 256\n")


def test_two_parties_hide_nothing_and_must_be_asked_for(refused: Refused, alone: Path) -> None:
    two = ("host", "average-salary", "--parties", "2", "--yes")
    told = refused(*two)
    assert told.startswith("threshold 0 with 2 parties hides nothing: any single party can read every input\n")
    assert "--allow-no-privacy" in told
    # Asked for, it goes on to tor.
    assert "tor ended with exit code 1" in refused(*two, "--allow-no-privacy", code=3)


def test_threshold_zero_hides_nothing_at_any_number_of_parties(refused: Refused) -> None:
    assert "threshold 0 with 3 parties hides nothing" in refused(*HOST, "--threshold", "0")


@pytest.mark.parametrize("threshold", [-1, 2, 3])
def test_a_threshold_that_cannot_be(refused: Refused, threshold: int) -> None:
    assert refused(*HOST, f"--threshold={threshold}") == (
        f"threshold {threshold} with 3 parties, expected 0 to 1\nMPyC needs an honest majority: 2 t < m"
    )


def test_a_full_list_checks_the_threshold_too(refused: Refused) -> None:
    keystore.create("me", None)
    told = refused("join", B, C, "average-salary", "--identity", "me", "--yes", "-t", "2")
    assert told.startswith("threshold 2 with 3 parties, expected 0 to 1\n")


def test_more_parties_expected_than_there_are_seats(refused: Refused) -> None:
    told = refused(*HOST, "--expect", A, "--expect", B, "--expect", C)
    assert told == "3 parties are expected, and there are 2 seats besides yours\n--parties 4 has a seat for each"


@pytest.mark.parametrize("option", ["--wait", "--bootstrap-timeout", "--publish-timeout"])
@pytest.mark.parametrize("text", ["", "soon", "-5", "0", "0s", "5d", "1e3", "1 hour"])
def test_a_duration_that_is_none(refused: Refused, option: str, text: str) -> None:
    told = refused(*HOST, f"{option}={text}")
    assert f"{text!r} is not a duration such as 90s, 10m or 2h" in told
    assert "onionmpc host --help" in told


@pytest.mark.parametrize("rate", ["-1", "201", "1.5", "fast", ""])
def test_a_padding_rate_that_is_none(refused: Refused, rate: str) -> None:
    assert "Invalid value for '--padding'" in refused(*HOST, f"--padding={rate}")


@pytest.mark.parametrize("circuits", ["0", "9", "many", ""])
def test_a_number_of_circuits_that_is_none(refused: Refused, circuits: str) -> None:
    assert "Invalid value for '--circuits'" in refused(*HOST, f"--circuits={circuits}")


def test_a_padded_link_has_one_circuit(refused: Refused) -> None:
    assert "a padded link has one circuit" in refused(*HOST, "--circuits=2", "--padding=10")


def test_a_receipt_that_could_not_be_kept_is_told_before_anything_is_signed(refused: Refused, tmp_path: Path) -> None:
    told = refused(*HOST, "--receipt", str(tmp_path / "nowhere" / "receipt.json"))
    assert told.endswith("receipt.json\nname a file in a directory of yours")
    (tmp_path / "receipt.json").write_text("an older one")
    told = refused("join", INVITE, "--yes", "--receipt", "receipt.json")
    assert told == "there is a file receipt.json already\nan older receipt is not replaced: choose another name"
    assert (tmp_path / "receipt.json").read_text() == "an older one"


@pytest.mark.parametrize(
    ("flaw", "code"),
    [(None, 0), (PeerError("party 1 did not sign"), 4), (RemoteProtocolError("wrong"), 6), (UsageError("full"), 2)],
)
def test_a_receipt_that_is_not_whole_is_told_after_the_summary(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flaw: OnionMPCError | None, code: int
) -> None:
    asked: list[Path | None] = []

    async def compute(options: PartyOptions, *_: object) -> Result:
        asked.append(options.receipt)
        flawed = SessionResult(
            bytes(32), 0, (PartyTerms(),) * 3, {}, connect_s=1, agree_s=2, run_s=3, receipt_flaw=flaw
        )
        return Result("", "", flawed)

    monkeypatch.setattr(module, "_compute", compute)
    assert run([*HOST, "--receipt", "receipt.json"]) == code
    assert asked == [Path("receipt.json")]
    err = capfd.readouterr().err
    assert ("onionmpc: error: " in err) == (flaw is not None)
    assert flaw is None or err.index("done: connected") < err.index(flaw.message)


# --- Who answers, and in what form -------------------------------------------------------------------------------


def test_nobody_at_the_terminal_means_yes_must_be_said_beforehand(refused: Refused) -> None:
    for told in (refused("host", "average-salary", "--parties", "3"), refused("join", INVITE)):
        assert told.startswith("nobody can be asked: standard input or stderr is no terminal\n--yes ")


def test_json_needs_yes(refused: Refused) -> None:
    assert refused("join", INVITE, "--log-format", "json").startswith("--log-format json needs --yes\n")
    assert "'xml' is not one of 'text', 'json'" in refused(*HOST, "--log-format", "xml")


# Issue 12.
@pytest.mark.parametrize("grouped", [False, True])
def test_a_fault_of_the_machine_is_an_event_in_json_as_well(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    async def fail(*_: Any) -> Result:
        full = OSError(errno.ENOSPC, "No space left on device", "/some/place")
        raise ExceptionGroup("tasks", [full]) if grouped else full

    monkeypatch.setattr(module, "_compute", fail)
    assert run([*HOST, "--log-format", "json"]) == 2
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("failed", 2)
    assert last["error"] == "cannot use /some/place: No space left on device"


def test_an_error_in_json_is_one_event_and_no_text_beside_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*HOST, "--log-format", "json", "--threshold", "2"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = [json.loads(line) for line in err.splitlines()][-1]
    del last["at_s"]
    assert last == {
        "event": "failed",
        "error": "threshold 2 with 3 parties, expected 0 to 1",
        "hint": "MPyC needs an honest majority: 2 t < m",
        "exit_code": 2,
    }


# --- Our tor and its place ---------------------------------------------------------------------------------------


def test_a_missing_tor_is_told_before_any_invite(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONIONMPC_TOR", "/nowhere/tor")
    for command in (HOST, ("join", INVITE, "--yes")):
        assert run(list(command)) == 3
        assert capfd.readouterr() == (
            "",
            f"{ERROR}ONIONMPC_TOR names /nowhere/tor, which is not a program\n{HINT}unset it, or correct it\n",
        )


def test_no_tor_at_all_says_how_to_install_it(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONIONMPC_TOR")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert refused(*HOST, code=3).startswith("no tor program on this machine\n")


def test_a_tor_that_is_too_old_or_none(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_tor(tmp_path / "old", version="0.4.7.16")
    monkeypatch.setenv("ONIONMPC_TOR", path)
    assert f"{path} is tor 0.4.7.16, expected 0.4.8.1 or newer" in refused(*HOST, code=3)
    path = fake_tor(tmp_path / "strange", version="unknown")
    monkeypatch.setenv("ONIONMPC_TOR", path)
    assert f"{path} does not say its version" in refused(*HOST, code=3)


def test_a_tor_that_ends_at_once_is_told_with_its_words(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaint = "Nov 01 12:00:00.000 [err] Reading config failed--see warnings above."
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "torn", otherwise=f"echo '{complaint}'; exit 7"))
    told = refused("join", INVITE, "--yes", code=3)
    assert told.startswith("tor ended with exit code 7")
    assert "Reading config failed" in told


@pytest.mark.parametrize("command", [HOST, ("join", INVITE, "--yes")], ids=["host", "join"])
def test_a_test_network_that_is_none(refused: Refused, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert refused(*command, "--testnet", str(tmp_path / "none")).startswith(
        f"no test network runs in {tmp_path / 'none'}\nonionmpc testnet up"
    )


def test_options_that_would_have_no_effect_are_refused(refused: Refused) -> None:
    assert "--region needs --testnet" in refused(*HOST, "--region", "europe")
    control = ("--control", "unix:/run/tor/control")
    assert "--control and --testnet exclude each other" in refused(*HOST, *control, "--testnet", "net")
    assert "--control and --profile exclude each other" in refused(*HOST, *control, "--profile", "work")


BRIDGE = "192.0.2.7:443 0123456789ABCDEF0123456789ABCDEF01234567"
BRIDGE_REFUSALS = {
    "no bridge line": (("--bridge", "bridge.example:443"), "bridge.example:443 is not IP:PORT"),
    "an empty one": (("--bridge", ""), "the line is empty"),
    "an unknown transport": (
        ("--bridge", f"obfs5 {BRIDGE}"),
        "onionmpc does not know the transport obfs5",
    ),
    "on a foreign tor": (
        ("--bridge", BRIDGE, "--control", "unix:/nowhere"),
        "a tor that runs already has its own bridges, or none",
    ),
    "at short": (
        ("--bridge", BRIDGE, "--circuit-length", "short", "--show-my-ip"),
        "circuit length short goes past every bridge",
    ),
    "a file that is none": (("--bridge", "@no/such/file"), "cannot read no/such/file: No such file or directory"),
    "a folder": (("--bridge", "@."), "cannot read .: Is a directory"),
    "a file without any": (("--bridge", "@empty.txt"), "empty.txt contains no bridge"),
    "a file with a wrong line": (("--bridge", "@wrong.txt"), "line 4 of wrong.txt: this is not a bridge line: word is"),
    "a file of another kind": (("--bridge", "@binary"), "line 1 of binary: this is not a bridge line: the line holds"),
    "a file too large": (("--bridge", "@large.txt"), "large.txt has more than 65536 bytes"),
}


@pytest.mark.parametrize(("options", "sentence"), BRIDGE_REFUSALS.values(), ids=BRIDGE_REFUSALS)
def test_bridges_that_cannot_be_had_are_refused_and_nobody_goes_without(
    refused: Refused, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "empty.txt").write_text("# none yet\n\n")
    (tmp_path / "wrong.txt").write_text(f"# ours\r\n{BRIDGE}  # at home\r\n\r\n192.0.2.8:443 word\r\n")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    (tmp_path / "large.txt").write_text(f"{BRIDGE}\n" * 2000)
    told = refused(*HOST, *options)
    assert sentence in told
    assert BRIDGE.split()[1] not in told


def test_a_transport_without_a_program_is_told_before_any_invite(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = refused(*HOST, "--bridge", f"obfs4 {BRIDGE} cert=a", code=3)
    assert told.startswith("no program here for the transport obfs4, expected lyrebird or obfs4proxy on the PATH\n")
    assert "install obfs4proxy" in told


def test_bridges_come_from_lines_and_files_in_order_and_once(tmp_path: Path) -> None:
    (tmp_path / "bridges.txt").write_text(f"Bridge {BRIDGE} # again\n\n# IPv6\n[2001:db8::7]:443\n")
    bridges = read_bridges(["192.0.2.9:443", BRIDGE, "@bridges.txt"])
    assert [str(bridge) for bridge in bridges] == ["192.0.2.9:443", BRIDGE, "[2001:db8::7]:443"]


LEVEL_REFUSALS = {
    "a level that is none": (("--circuit-length", "medium"), "'medium' is not one of 'short', 'standard', 'long'"),
    "short without consent": (("--circuit-length", "short"), "nobody has consented to that"),
    "short on a foreign tor": (
        ("--circuit-length", "short", "--show-my-ip", "--control", "unix:/nowhere"),
        "circuit length short needs tors of onionmpc's own",
    ),
    "consent without short": (("--show-my-ip",), "--show-my-ip needs --circuit-length short"),
    "long on a foreign tor": (
        ("--circuit-length", "long", "--control", "unix:/nowhere"),
        "long changes the circuits of everyone who uses the tor at --control, and you did not allow that",
    ),
    "a foreign tor to change, and none": (
        ("--circuit-length", "long", "--change-foreign-tor"),
        "--change-foreign-tor needs --control and --circuit-length long",
    ),
    "a way back from standard": (("--or-standard",), "--or-standard needs --circuit-length long"),
    "a summary that cannot be written": (("--json", "no/such/folder/file.json"), "cannot write no/such/folder"),
}


@pytest.mark.parametrize(("options", "sentence"), LEVEL_REFUSALS.values(), ids=LEVEL_REFUSALS)
def test_a_level_that_cannot_be_had_or_was_not_consented_to(
    refused: Refused, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(*HOST, *options)


def test_a_key_is_for_short_or_for_the_others_and_never_for_both(refused: Refused) -> None:
    keystore.create("hidden", None)
    keystore.create("shown", None, exposed=True)
    short = ("--circuit-length", "short", "--show-my-ip")
    assert "would tie it to this machine's IP address" in refused(*HOST, *short, "--identity", "hidden")
    for options in ((), ("--circuit-length", "long")):
        assert "is for circuit length short" in refused(*HOST, *options, "--identity", "shown")


@pytest.mark.parametrize("profile", ["../up", "a b", "x" * 33])
def test_a_profile_name_that_is_none(refused: Refused, profile: str) -> None:
    assert f"{profile!r} is not a valid profile name" in refused(*HOST, f"--profile={profile}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_directory_that_cannot_be_written(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "closed" / "state"))
    assert "Permission denied\nset ONIONMPC_STATE to a directory of yours" in refused(*HOST)


def test_a_state_directory_that_is_a_file(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for state in (tmp_path / "file", tmp_path / "file" / "state"):
        monkeypatch.setenv("ONIONMPC_STATE", str(state))
        told = refused(*HOST)
        assert told.startswith(f"cannot use the directory {state}: ")
        assert told.endswith("set ONIONMPC_STATE to a directory of yours")


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o770])
def test_a_state_directory_that_others_may_look_into(refused: Refused, tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    assert refused(*HOST) == f"the directory {state} is open to others (mode {mode:o}, expected 700)\nchmod 700 {state}"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory in which no byte more can be written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not Path("/bin/mount").exists():
        pytest.skip("only root can make a small disk, by mount")
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk may be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["/bin/umount", str(disk)], check=True)


def test_a_full_disk_is_told(refused: Refused, full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (full_disk / "filling").write_bytes(bytes(4096))
    monkeypatch.setenv("ONIONMPC_STATE", str(full_disk / "state"))
    told = refused(*HOST)
    assert "No space left on device\n" in told
    assert "free some space" in told


# --- A tor that runs already -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("9051x", "9051x names no port (1 to 65535), expected unix:/PATH or 127.0.0.1:PORT"),
        ("unix:control", "unix:control is not where a tor listens, expected unix:/PATH"),
        ("tor.example:9051", "tor.example is a name, expected unix:/PATH or 127.0.0.1:PORT"),
        ("192.0.2.1:9051", "192.0.2.1 is another machine, expected one of this machine's own addresses"),
    ],
)
def test_a_place_of_a_tor_that_cannot_be(refused: Refused, place: str, sentence: str) -> None:
    assert refused(*HOST, "--control", place).startswith(sentence)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("192.168.1.5", "192.168.1.5 names no port (1 to 65535), expected 127.0.0.1:PORT, or this machine's"),
        ("here.example:9881", "here.example is a name, expected 127.0.0.1:PORT, or this machine's address"),
        ("0.0.0.0:9881", "anyone could connect to 0.0.0.0, expected an address of loopback or of a private network"),
        ("[::]:9881", "anyone could connect to ::, expected an address of loopback or of a private network"),
        ("1.1.1.1:9881", "anyone could connect to 1.1.1.1, expected an address of loopback or of a private network"),
    ],
)
def test_a_place_to_listen_that_cannot_be(refused: Refused, place: str, sentence: str) -> None:
    assert refused(*HOST, "--control", "9051", "--listen", place).startswith(sentence)


def test_a_tor_of_our_own_needs_no_place_to_listen(refused: Refused) -> None:
    assert refused(*HOST, "--listen", ":9881").startswith("--listen needs --control")


def test_nothing_where_the_control_port_should_be(refused: Refused, tmp_path: Path) -> None:
    for place in (f"unix:{tmp_path}/control", f"127.0.0.1:{closed_port()}"):
        told = refused("join", INVITE, "--yes", "--control", place, code=3)
        assert told == (
            f"{place} is nothing, expected a control port\n"
            "start tor, or leave --control out: onionmpc then starts a tor of its own"
        )


ANSWERS = {
    "SOCKS": (
        b"HTTP/1.0 501 Tor is not an HTTP Proxy\r\n\r\n",
        "is a SOCKS port, expected a control port\ngive the control port; tor's is usually unix:/run/tor/control",
    ),
    "other": (b"220 mail.example ESMTP\r\n", "is something that is not tor, expected a control port"),
    "password": (
        b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=HASHEDPASSWORD\r\n250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n',
        "wants a password\nset ONIONMPC_CONTROL_PASSWORD",
    ),
    "cookie": (
        b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE COOKIEFILE="/nowhere/cookie"\r\n250 OK\r\n',
        "wants its cookie, and /nowhere/cookie cannot be read: No such file or directory\n",
    ),
}


@pytest.mark.parametrize(("answer", "sentence"), ANSWERS.values(), ids=ANSWERS)
def test_a_control_port_that_is_none_or_does_not_let_us_in(refused: Refused, answer: bytes, sentence: str) -> None:
    with answering(answer) as port:
        told = refused("join", INVITE, "--yes", "--control", f"127.0.0.1:{port}", code=3)
    assert told.startswith(f"127.0.0.1:{port} {sentence}")


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


class answering:  # noqa: N801 (used like a function)
    """Answer each connection to a port of 127.0.0.1 with the same bytes, after the first that arrive."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._server.getsockname()[1])

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join(timeout=30)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(30)
                connection.recv(1024)
                connection.sendall(self._answer)


# -- the walls around the program


@pytest.mark.parametrize("allowed", [True, False])
def test_what_this_machine_was_found_to_have_for_walls_is_shown_and_demanded(
    monkeypatch: pytest.MonkeyPatch, *, allowed: bool
) -> None:
    walls = Walls(sockets=True)

    @contextlib.contextmanager
    def probe() -> Iterator[Callable[[], Walls]]:
        yield lambda: walls

    def stop(_options: object, prepared: Prepared, *_: object, **__: object) -> None:
        raise UsageError(f"{prepared.walls == walls} {prepared.plan.allow_subprocess}")

    monkeypatch.setattr("onionmpc.cli.host_join.probing", probe)
    monkeypatch.setattr(module, "_display", stop)
    told: list[str] = []
    monkeypatch.setattr("onionmpc.cli.main.print_error", lambda message, _hint: told.append(message))
    options = ["--allow-subprocess"] if allowed else []
    assert run(["host", "vote", "--parties", "3", "--yes", "--testnet", "net", *options]) == 2
    assert told == [f"True {allowed}"]

"""`onionmpc host` and `onionmpc join`: whatever cannot be is refused in a sentence, before tor is started.

The tor of these tests says its version and does nothing else, so no test reaches a network.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onionmpc.api.outcome import Result
from onionmpc.api.table import Table
from onionmpc.cli import party as module
from onionmpc.cli.main import run
from onionmpc.errors import OnionMPCError, PeerError, RemoteProtocolError, UsageError
from onionmpc.identity import Identity, Onion, curve, onion_from_public_key, public_key_from_onion
from onionmpc.names.statement import format_statement
from onionmpc.program.spec import Walls
from onionmpc.session import keystore
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.invite import Invite, format_invite
from onionmpc.session.local import Plan
from onionmpc.session.run import SessionParty
from tests.support.api import LocalNetwork
from tests.support.commands import (
    HOST,
    INVITE,
    OTHER_INVITE,
    POINT_OF_ORDER_8,
    V2_ADDRESS,
    A,
    B,
    C,
    Refused,
)
from tests.support.evidence import ME, STATEMENT, make_ssh_key
from tests.support.identities import keep_sealed

pytestmark = pytest.mark.usefixtures("alone")


def mirrored(onion: Onion) -> Onion:
    """-A: another address of the same X25519 key."""
    key = public_key_from_onion(onion)
    return onion_from_public_key(key[:31] + bytes([key[31] ^ 0x80]))


def with_torsion(onion: Onion) -> Onion:
    """Return A plus a point of small order."""
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
    "of version 2": (V2_ADDRESS, "this is a v2 address (16 characters), which tor no longer supports"),
    "of version 4": (with_version(A, 4), "the address has version 4, expected 3"),
    "the neutral point": (onion_from_public_key(b"\1" + bytes(31)), "it is a point of small order"),
    "a point of order 8": (onion_from_public_key(POINT_OF_ORDER_8), "it is a point of small order"),
    "a key with torsion": (with_torsion(A), "it is not of prime order"),
    "not on the curve": (onion_from_public_key(b"\2" + bytes(31)), "it is not a point on the curve"),
    "not canonical": (onion_from_public_key(b"\xee" + b"\xff" * 30 + b"\x7f"), "it is not in canonical form"),
}


@pytest.mark.parametrize(("address", "sentence"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES)
def test_an_invalid_address_is_refused_with_what_is_wrong(refused: Refused, address: str, sentence: str) -> None:
    for told in (
        refused("join", address, "--yes"),
        refused("join", B, address, "sort", "--identity", "me", "--yes"),
        refused(*HOST, "--expect", address),
    ):
        assert sentence in told
        assert told.count("\n") == 1  # a hint


def test_one_bad_address_in_a_file_is_enough(refused: Refused, tmp_path: Path) -> None:
    others = tmp_path / "others.txt"
    others.write_text(f"# ours\n{B}  # Bob\n{A[:20]}.onion\n")
    assert "the address has 20 characters" in refused("join", f"@{others}", "sort", "--yes")
    assert "the address has 20 characters" in refused(*HOST, "--expect", f"@{others}")


def test_our_own_address_is_refused_as_another_party(refused: Refused) -> None:
    own = keystore.create("me", None).onion
    me = ("--identity", "me", "--yes")
    assert "address 1 is your own\nlist only the other parties" in refused("join", own, *me)
    invite = format_invite(Invite(own, bytes(16)))
    assert "address 1 is your own" in refused("join", invite, *me)
    assert "address 2 is your own" in refused("join", B, own, C, "sort", *me)
    assert "address 1 is your own" in refused(*HOST, "--identity", "me", "--expect", own)


def test_an_address_twice_is_refused(refused: Refused) -> None:
    keystore.create("me", None)
    told = refused("join", B, C, B.upper(), "sort", "--identity", "me", "--yes")
    assert told == "addresses 1 and 3 are the same"
    assert "addresses 1 and 2 are the same" in refused(*HOST, "--expect", B, "--expect", B)


def test_two_addresses_of_one_key_are_refused(refused: Refused) -> None:
    own = keystore.create("me", None).onion
    me = ("--identity", "me", "--yes")
    told = refused("join", B, C, mirrored(B), "sort", *me)
    assert told.startswith("address 3 is the mirror image of address 1: both belong to one key\n")
    assert "address 1 is the mirror image of your own address" in refused("join", mirrored(own), *me)
    assert "address 2 is the mirror image of address 1" in refused(*HOST, "--expect", B, "--expect", mirrored(B))


# --- Invites and lists -------------------------------------------------------------------------------------------

BAD_INVITES = {
    "cut short": (INVITE[:-1], "the invite has 92 characters, expected 93"),
    "too long": (INVITE[:50] + "a" + INVITE[50:], "a character was changed"),
    "beside another": (f"{INVITE} {OTHER_INVITE}", "this contains 2 different invites, expected one"),
    "altered": (INVITE[:20] + ("b" if INVITE[20] == "a" else "a") + INVITE[21:], "a character was changed"),
    "a digit that is none": (INVITE[:20] + "1" + INVITE[21:], "the invite has an invalid character"),
}


@pytest.mark.parametrize(("invite", "sentence"), BAD_INVITES.values(), ids=BAD_INVITES)
def test_an_invalid_invite_is_refused_and_not_repeated(refused: Refused, invite: str, sentence: str) -> None:
    told = refused("join", invite, "--yes")
    assert sentence in told
    assert "paste the whole line" in told or "the one that is meant for you" in told
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


def test_a_binary_file_is_not_a_list(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "invite.png").write_bytes(bytes(range(256)))
    told = refused("join", "@invite.png", "--yes")
    assert "@invite.png contains neither an address nor an invite" in told


def test_an_empty_file_is_not_a_list(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    assert refused("join", "@empty.txt", "--yes").startswith("@empty.txt contains neither an address nor an invite\n")
    assert refused(*HOST, "--expect", "@empty.txt").startswith("@empty.txt contains neither an address nor an invite\n")


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
    told = refused("join", B, C, "sort", "--yes")
    assert told.startswith("a full list of parties needs --identity\n")
    assert "it cannot be a fresh one: onionmpc id new NAME" in told


def test_a_full_list_needs_a_program(refused: Refused) -> None:
    keystore.create("me", None)
    assert "no program was named\n" in refused("join", B, C, "--identity", "me", "--yes")


def test_an_unknown_identity_is_refused_with_how_to_make_it(refused: Refused) -> None:
    for told in (refused(*HOST, "--identity", "nobody"), refused("join", INVITE, "--identity", "nobody", "--yes")):
        assert "there is no identity named nobody\n" in told
        assert '"onionmpc id new nobody" makes it' in told


def test_a_passphrase_comes_from_a_file_and_a_wrong_one_is_one_sentence(refused: Refused, tmp_path: Path) -> None:
    keep_sealed("me", b"open sesame")
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


def test_an_identity_in_use_is_refused(refused: Refused) -> None:
    keystore.create("me", None)
    with keystore.in_use("me"):
        for command in (HOST, ("join", INVITE, "--yes"), ("join", B, C, "sort", "--yes")):
            told = refused(*command, "--identity", "me")
            assert told.startswith("another session uses the identity me now\n")


def test_an_identity_that_cannot_be_locked_is_refused(refused: Refused, alone: Path) -> None:
    keystore.create("me", None)
    (alone / "state" / "identities" / "me.lock").mkdir()
    path = alone / "state" / "identities" / "me.lock"
    assert refused(*HOST, "--identity", "me").startswith(f"cannot lock {path}: Is a directory")


def test_evidence_is_about_a_kept_address_and_is_read_before_anyone_is_met(refused: Refused, alone: Path) -> None:
    statement = alone / "work.statement"
    statement.write_text(format_statement(STATEMENT))
    given = ("--evidence", str(statement))
    assert refused(*HOST, *given).startswith("--evidence needs --identity\n")
    keystore.create("me", None)
    assert "it is not signed" in refused(*HOST, "--identity", "me", *given)
    key = make_ssh_key(alone)
    (alone / "work.statement.sig").write_text(key.sign(statement.read_text()))
    assert refused("join", B, "--yes", "--identity", "me", *given).startswith(f"the statement is about {ME}, and this")
    (alone / "state" / "trust").mkdir(mode=0o700)
    (alone / "state" / "trust" / "domains").write_text("not a domain\n")
    assert "line 1 of " in refused(*HOST)


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


def test_a_joiner_learns_of_its_own_broken_program_before_it_asks_the_host(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("if x print(x)\n")
    assert "broken.py is not Python: line 1: " in refused("join", INVITE, "broken.py", "--yes")


def test_host_needs_a_program(refused: Refused) -> None:
    assert "no program was named\n" in refused("host", "--parties", "3", "--yes")
    assert "unexpected extra argument (auction)" in refused(*HOST, "auction")


def test_a_missing_attached_file_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("..")
    for command in (HOST, ("join", INVITE, "--yes")):
        assert "'nowhere.csv' does not exist" in refused(*command, "--with", "nowhere.csv")
        assert "link is a symbolic link that points outside " in refused(*command, "--with", str(tmp_path))


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
def test_options_of_mpyc_are_refused_among_the_arguments(refused: Refused, argument: str) -> None:
    answers = [
        refused(*command, *arguments)
        for command in (HOST, ("join", INVITE, "sort", "--yes"))
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
    for command in (HOST, ("join", INVITE, "sort", "--yes")):
        assert refused(*command, "--allow-type", name) == (
            f"{name} is not a class of the program, and only those can be allowed\n"
            "write __main__.Class for the script's, module.Class for a module's"
        )


@pytest.mark.parametrize("option", ["-T1", "-L", "-L0", "-Lx", "-K-1", "--no-prss=1", "--output-windows", "64", ""])
def test_mpyc_options_must_be_ones_that_change_the_wire(refused: Refused, option: str) -> None:
    for command in (HOST, ("join", INVITE, "--yes")):
        assert refused(*command, f"--mpyc={option}") == (
            f'"{option}" is not one of MPyC\'s options that change the wire\n'
            "these are -L64, -K40, --no-prss and --mix32-64bit"
        )


# --- Numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parties", [-1, 0, 1, 257])
def test_an_impossible_number_of_parties_is_refused(refused: Refused, parties: int) -> None:
    told = refused("host", "sort", f"--parties={parties}", "--yes")
    assert told.startswith(f"{parties} parties, expected 2 to 256\n")


def test_two_parties_hide_nothing_and_must_be_allowed_explicitly(refused: Refused, alone: Path) -> None:
    two = ("host", "sort", "--parties", "2", "--yes")
    told = refused(*two)
    assert told.startswith("threshold 0 with 2 parties hides nothing: any single party can read every input\n")
    assert "--allow-no-privacy" in told
    # Asked for, it goes on to tor.
    assert "tor ended with exit code 1" in refused(*two, "--allow-no-privacy", code=3)


def test_threshold_zero_hides_nothing_at_any_number_of_parties(refused: Refused) -> None:
    assert "threshold 0 with 3 parties hides nothing" in refused(*HOST, "--threshold", "0")


@pytest.mark.parametrize("threshold", [-1, 2, 3])
def test_an_impossible_threshold_is_refused(refused: Refused, threshold: int) -> None:
    assert refused(*HOST, f"--threshold={threshold}") == (
        f"threshold {threshold} with 3 parties, expected 0 to 1\nMPyC needs an honest majority: 2 t < m"
    )


def test_a_full_list_checks_the_threshold_too(refused: Refused) -> None:
    keystore.create("me", None)
    told = refused("join", B, C, "sort", "--identity", "me", "--yes", "-t", "2")
    assert told.startswith("threshold 2 with 3 parties, expected 0 to 1\n")


def test_more_parties_expected_than_there_are_seats(refused: Refused) -> None:
    told = refused(*HOST, "--expect", A, "--expect", B, "--expect", C)
    assert told == "3 parties are expected, but there are 2 seats besides yours\nuse --parties 4 to give each a seat"


@pytest.mark.parametrize("option", ["--wait", "--bootstrap-timeout", "--publish-timeout"])
@pytest.mark.parametrize("text", ["", "soon", "-5", "0", "0s", "5d", "1e3", "1 hour"])
def test_an_invalid_duration_is_refused(refused: Refused, option: str, text: str) -> None:
    told = refused(*HOST, f"{option}={text}")
    assert f"{text!r} is not a duration such as 90s, 10m or 2h" in told
    assert "onionmpc host --help" in told


@pytest.mark.parametrize("rate", ["-1", "201", "1.5", "fast", ""])
def test_an_invalid_padding_rate_is_refused(refused: Refused, rate: str) -> None:
    assert "Invalid value for '--padding'" in refused(*HOST, f"--padding={rate}")


@pytest.mark.parametrize("circuits", ["0", "9", "many", ""])
def test_an_invalid_number_of_circuits_is_refused(refused: Refused, circuits: str) -> None:
    assert "Invalid value for '--circuits'" in refused(*HOST, f"--circuits={circuits}")


def test_a_padded_link_has_one_circuit(refused: Refused) -> None:
    assert "a padded link has one circuit" in refused(*HOST, "--circuits=2", "--padding=10")


def test_a_receipt_that_could_not_be_written_is_refused_before_anything_is_signed(
    refused: Refused, tmp_path: Path
) -> None:
    told = refused(*HOST, "--receipt", str(tmp_path / "nowhere" / "receipt.json"))
    assert told.endswith("receipt.json\nchoose a file in a directory that you own")
    (tmp_path / "receipt.json").write_text("an older one")
    told = refused("join", INVITE, "--yes", "--receipt", "receipt.json")
    assert told == "receipt.json already exists\nchoose another name: an older receipt is never replaced"
    assert (tmp_path / "receipt.json").read_text() == "an older one"


@pytest.mark.parametrize(
    ("flaw", "code"),
    [(None, 0), (PeerError("party 1 did not sign"), 4), (RemoteProtocolError("wrong"), 6), (UsageError("full"), 2)],
)
def test_an_incomplete_receipt_is_reported_after_the_summary(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    alone: Path,
    flaw: OnionMPCError | None,
    code: int,
) -> None:
    plans: list[Plan] = []

    async def first() -> SessionResult:
        return SessionResult(bytes(32), 0, (PartyTerms(),) * 3, {}, connect_s=1, agree_s=2, run_s=3, receipt_flaw=flaw)

    class Watched(SessionParty):
        @contextlib.asynccontextmanager
        async def host(self, *_: object) -> AsyncIterator[Any]:
            plans.append(self._plan)
            yield SimpleNamespace(first=first)

    @contextlib.asynccontextmanager
    async def network(identity: Identity, *_: object) -> AsyncIterator[LocalNetwork]:
        yield LocalNetwork(alone, identity.onion)

    monkeypatch.setattr("onionmpc.api.table.SessionParty", Watched)
    monkeypatch.setattr("onionmpc.api.party.tor_network", network)
    assert run([*HOST, "--receipt", "receipt.json"]) == code
    assert [plan.receipt for plan in plans] == [Path("receipt.json")]
    err = capfd.readouterr().err
    assert ("onionmpc: error: " in err) == (flaw is not None)
    assert flaw is None or err.index("done: connected") < err.index(flaw.message)


# --- Who answers, and in what form -------------------------------------------------------------------------------


def test_without_a_terminal_yes_is_required(refused: Refused) -> None:
    for told in (refused("host", "average-salary", "--parties", "3"), refused("join", INVITE)):
        assert told.startswith("cannot ask for your consent: standard input or stderr is not a terminal\nadd --policy ")


def test_json_needs_yes(refused: Refused) -> None:
    assert refused("join", INVITE, "--log-format", "json").startswith("--log-format json needs --yes or --policy\n")
    assert "'xml' is not one of 'text', 'json'" in refused(*HOST, "--log-format", "xml")


# Issue 12.
@pytest.mark.parametrize("grouped", [False, True])
def test_a_fault_of_the_machine_is_an_event_in_json_too(
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


def test_an_error_in_json_is_one_event_without_text(capfd: pytest.CaptureFixture[str]) -> None:
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


# -- the walls around the program


@pytest.mark.parametrize("allowed", [True, False])
def test_the_probed_walls_are_shown_and_required(monkeypatch: pytest.MonkeyPatch, *, allowed: bool) -> None:
    walls = Walls(sockets=True)

    @contextlib.contextmanager
    def probe() -> Iterator[Callable[[], Walls]]:
        yield lambda: walls

    def stop(
        _options: object, _identity: object, _display: object, sit_down: Callable[[Any], Table], *_: object
    ) -> None:
        prepared = sit_down(SimpleNamespace(runtime=SimpleNamespace(identity=Identity(bytes(32)))))._prepared
        raise UsageError(f"{prepared.walls == walls} {prepared.plan.allow_subprocess} {prepared.allow_difference}")

    monkeypatch.setattr("onionmpc.cli.host_join.probing", probe)
    monkeypatch.setattr(module, "_run", stop)
    told: list[str] = []
    monkeypatch.setattr("onionmpc.cli.main.print_error", lambda message, _hint: told.append(message))
    options = ["--allow-subprocess", "--allow-difference"] if allowed else []
    assert run(["host", "sort", "--parties", "3", "--yes", "--testnet", "net", *options]) == 2
    assert told == [f"True {allowed} {allowed}"]

"""The tor of `onionmpc host` and `join`: missing, too old, behind bridges, or one that runs already."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onionmpc.cli.bridges import read_bridges
from onionmpc.cli.main import run
from onionmpc.session import keystore
from tests.support.commands import (
    ERROR,
    HINT,
    HOST,
    INVITE,
    Refused,
    fake_tor,
)

pytestmark = pytest.mark.usefixtures("alone")


# --- Our tor and its place ---------------------------------------------------------------------------------------


def test_a_missing_tor_is_reported_before_any_invite(
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


def test_a_tor_that_is_too_old_or_not_a_tor_is_refused(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake_tor(tmp_path / "old", version="0.4.7.16")
    monkeypatch.setenv("ONIONMPC_TOR", path)
    assert f"{path} is tor 0.4.7.16, expected 0.4.8.1 or newer" in refused(*HOST, code=3)
    path = fake_tor(tmp_path / "strange", version="unknown")
    monkeypatch.setenv("ONIONMPC_TOR", path)
    assert f"{path} did not report its version" in refused(*HOST, code=3)


def test_a_tor_that_ends_at_once_is_reported_with_its_own_message(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaint = "Nov 01 12:00:00.000 [err] Reading config failed--see warnings above."
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "torn", otherwise=f"echo '{complaint}'; exit 7"))
    told = refused("join", INVITE, "--yes", code=3)
    assert told.startswith("tor ended with exit code 7")
    assert "Reading config failed" in told


@pytest.mark.parametrize("command", [HOST, ("join", INVITE, "--yes")], ids=["host", "join"])
def test_a_directory_without_a_test_network_is_refused(
    refused: Refused, tmp_path: Path, command: tuple[str, ...]
) -> None:
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
        "a running tor has its own bridges, or none",
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
def test_unusable_bridges_are_refused_and_no_party_starts_without_them(
    refused: Refused, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "empty.txt").write_text("# none yet\n\n")
    (tmp_path / "wrong.txt").write_text(f"# ours\r\n{BRIDGE}  # at home\r\n\r\n192.0.2.8:443 word\r\n")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    (tmp_path / "large.txt").write_text(f"{BRIDGE}\n" * 2000)
    told = refused(*HOST, *options)
    assert sentence in told
    assert BRIDGE.split()[1] not in told


def test_a_transport_without_a_program_is_reported_before_any_invite(
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
    "short without consent": (("--circuit-length", "short"), "you have not agreed to that"),
    "short on a foreign tor": (
        ("--circuit-length", "short", "--show-my-ip", "--control", "unix:/nowhere"),
        "circuit length short needs a tor that onionmpc starts itself",
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
def test_a_level_that_is_impossible_or_lacks_consent_is_refused(
    refused: Refused, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(*HOST, *options)


def test_an_identity_is_for_short_or_for_the_other_levels_and_never_for_both(refused: Refused) -> None:
    keystore.create("hidden", None)
    keystore.create("shown", None, exposed=True)
    short = ("--circuit-length", "short", "--show-my-ip")
    assert "would tie it to this machine's IP address" in refused(*HOST, *short, "--identity", "hidden")
    for options in ((), ("--circuit-length", "long")):
        assert "is for circuit length short" in refused(*HOST, *options, "--identity", "shown")


@pytest.mark.parametrize("profile", ["../up", "a b", "x" * 33])
def test_an_invalid_profile_name_is_refused(refused: Refused, profile: str) -> None:
    assert f"{profile!r} is not a valid profile name" in refused(*HOST, f"--profile={profile}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_directory_that_cannot_be_written(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "closed" / "state"))
    assert "Permission denied\nset ONIONMPC_STATE to a directory that you own" in refused(*HOST)


def test_a_state_directory_that_is_a_file(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for state in (tmp_path / "file", tmp_path / "file" / "state"):
        monkeypatch.setenv("ONIONMPC_STATE", str(state))
        told = refused(*HOST)
        assert told.startswith(f"cannot use the directory {state}: ")
        assert told.endswith("set ONIONMPC_STATE to a directory that you own")


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o770])
def test_a_state_directory_that_others_can_read_is_refused(refused: Refused, tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    assert refused(*HOST) == f"the directory {state} is open to others (mode {mode:o}, expected 700)\nchmod 700 {state}"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a full disk."""
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


def test_a_full_disk_is_reported(refused: Refused, full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("unix:control", "unix:control is not a control port, expected unix:/PATH"),
        ("tor.example:9051", "tor.example is a name, expected unix:/PATH or 127.0.0.1:PORT"),
        ("192.0.2.1:9051", "192.0.2.1 is another machine, expected one of this machine's own addresses"),
    ],
)
def test_an_invalid_control_endpoint_is_refused(refused: Refused, place: str, sentence: str) -> None:
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
def test_an_invalid_address_to_listen_at_is_refused(refused: Refused, place: str, sentence: str) -> None:
    assert refused(*HOST, "--control", "9051", "--listen", place).startswith(sentence)


def test_listen_without_control_is_refused(refused: Refused) -> None:
    assert refused(*HOST, "--listen", ":9881").startswith("--listen needs --control")


def test_a_control_port_that_nobody_listens_on_is_refused(refused: Refused, tmp_path: Path) -> None:
    for place in (f"unix:{tmp_path}/control", f"127.0.0.1:{closed_port()}"):
        told = refused("join", INVITE, "--yes", "--control", place, code=3)
        assert told == (
            f"{place} is nothing, expected a control port\n"
            "start tor, or leave --control out: onionmpc then starts its own tor"
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
def test_a_port_that_is_no_control_port_or_refuses_the_login_is_reported(
    refused: Refused, answer: bytes, sentence: str
) -> None:
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

"""The control connection, against a scripted control port."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import traceback
from pathlib import Path

import pytest

from onionmpc.errors import BootstrapTimeout, ControlRefused, LocalProtocolError, TorFailed, UnsafeSetting, UsageError
from onionmpc.files import socket_directory
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.tor.control.bootstrap import Bootstrap
from onionmpc.tor.control.errors import FILTER_HINT, CommandRefused
from onionmpc.tor.control.login import open_control
from onionmpc.tor.control.probe import ListenerKind, Probe, parse_answer, probe
from onionmpc.tor.endpoint import Endpoint, parse_endpoint, parse_listener
from tests.support.fake_control import FakeControl, listening

SECRET = "c2VjcmV0IGtleQ=="


def refusal(fake: FakeControl, timeout_s: float = 5) -> ControlRefused:
    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint, timeout_s):
            pytest.fail("logged in")

    with pytest.raises(ControlRefused) as raised:
        asyncio.run(main())
    return raised.value


# --- Questions and commands ------------------------------------------------------------------------------------


def test_values_are_returned_as_tor_wrote_them() -> None:
    fake = FakeControl(
        {
            "GETINFO one": '250-one="127.0.0.1:9050" "unix:/run/tor/socks"\r\n250 OK\r\n',
            "GETINFO many": "250+many=\r\nfirst=1\r\nsecond\r\n.\r\n250 OK\r\n",
            "GETINFO none": "250-none=\r\n250 OK\r\n",
        }
    )

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            assert control.version == "0.4.9.11"
            assert await control.get_info("one") == '"127.0.0.1:9050" "unix:/run/tor/socks"'
            assert await control.get_info("many") == "first=1\nsecond"
            assert await control.get_info("none") == ""
            with pytest.raises(CommandRefused, match='tor refused GETINFO: 552 Unrecognized key "x"'):
                await control.get_info("unheard-of")
            assert await control.get_info("none") == ""

    asyncio.run(main())


def test_a_value_of_many_lines_is_returned_as_lines_and_events_are_kept_apart() -> None:
    fake = FakeControl({"GETINFO many": "650 CIRC 1\r\n250+many=\r\nfirst=1\r\n\r\nsecond\r\n.\r\n250 OK\r\n"})
    heard: list[str] = []

    async def main() -> None:
        async with (
            listening(fake) as endpoint,
            open_control(endpoint) as control,
            control.on_event("CIRC", heard.append),
        ):
            assert await control.get_lines("many") == ["first=1", "", "second"]
            with pytest.raises(CommandRefused, match='tor refused GETINFO: 552 Unrecognized key "x"'):
                await control.get_lines("unheard-of")
            assert await control.get_info("many") == "first=1\n\nsecond"

    asyncio.run(main())
    assert heard == ["1", "1"]


def test_a_command_with_a_line_break_is_our_bug() -> None:
    fake = FakeControl()

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            with pytest.raises(LocalProtocolError):
                await control.command("GETINFO version\r\nSIGNAL HALT")

    asyncio.run(main())
    assert not any("HALT" in line for line in fake.heard)


def test_a_cancelled_command_leaves_the_next_one_its_own_answer() -> None:
    fake = FakeControl({"GETINFO slow": "250-slow=1\r\n250 OK\r\n"})

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await control.get_info("slow")
            assert await control.get_info("version") == "0.4.9.11"

    asyncio.run(main())


def test_a_command_that_is_not_answered_ends_and_hides_its_key() -> None:
    async def main() -> None:
        async with (
            listening(FakeControl({"ADD_ONION": "250-"})) as endpoint,
            open_control(endpoint, answer_timeout_s=0.05) as control,
        ):
            with pytest.raises(TorFailed) as raised:
                await control.command(f"ADD_ONION ED25519-V3:{SECRET} Port=9880")
        assert str(raised.value) == "tor did not answer ADD_ONION in 0.05 s"

    asyncio.run(main())


def test_events_reach_their_listener_until_it_leaves() -> None:
    fake = FakeControl()
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            async with control.on_event("HS_DESC", heard.put_nowait):
                fake.tell("HS_DESC UPLOADED a UNKNOWN b")
                assert await heard.get() == "UPLOADED a UNKNOWN b"
            fake.tell("HS_DESC UPLOADED c UNKNOWN d")
            await control.get_info("version")
            assert heard.empty()

    asyncio.run(main())
    assert events_asked(fake) == ["HS_DESC", ""]


def events_asked(fake: FakeControl) -> list[str]:
    return [line.removeprefix("SETEVENTS").strip() for line in fake.heard if line.startswith("SETEVENTS")]


def test_a_refused_event_is_not_requested_again_with_the_next() -> None:
    fake = FakeControl({"SETEVENTS CIRC": "510 Command filtered\r\n"})

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            with pytest.raises(CommandRefused, match="510 Command filtered") as refused:
                async with control.on_event("CIRC", print):
                    pytest.fail("it was refused")
            assert refused.value.hint == FILTER_HINT
            async with control.on_event("HS_DESC", print):
                pass

    asyncio.run(main())
    assert events_asked(fake) == ["CIRC", "", "HS_DESC", ""]


def test_a_login_asks_tor_only_for_its_version() -> None:
    fake = FakeControl()

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            assert control.version == "0.4.9.11"

    asyncio.run(main())
    assert [line.split()[0] for line in fake.heard] == ["PROTOCOLINFO", "PROTOCOLINFO", "AUTHENTICATE", "GETINFO"]


def test_a_filter_that_does_not_know_us_is_recognised() -> None:
    error = refusal(FakeControl({"GETINFO version": "510 Command filtered\r\n"}))
    assert "refused our login: 510 Command filtered" in str(error)
    assert error.hint == FILTER_HINT


def test_a_lost_connection_is_reported_to_all_waiters() -> None:
    fake = FakeControl({"ADD_ONION": ""})

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            waiting = asyncio.create_task(control.unless_closed(asyncio.Event().wait()))
            with pytest.raises(TorFailed, match="closed the control connection"):
                await control.command("ADD_ONION x")
            with pytest.raises(TorFailed, match="closed the control connection"):
                await waiting
            with pytest.raises(TorFailed, match="closed the control connection"):
                await control.command("GETINFO version")
            assert control.closed.done()

    asyncio.run(main())


def test_a_lost_connection_leaves_no_failure_for_twisted_to_print(capfd: pytest.CaptureFixture[str]) -> None:
    fake = FakeControl({"ADD_ONION": ""})

    async def main() -> None:
        async with (
            listening(fake) as endpoint,
            open_control(endpoint) as control,
            control.on_event("HS_DESC", lambda text: None),
        ):
            with pytest.raises(TorFailed):
                await control.command("ADD_ONION x")

    asyncio.run(main())
    gc.collect()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("answer", ["", "512 Invalid argument\r\n", "250 garbage\r\nmore garbage\r\n\xff\r\n"])
def test_a_private_key_reaches_no_error_and_no_log(
    answer: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async def main() -> None:
        async with listening(FakeControl({"ADD_ONION": answer})) as endpoint, open_control(endpoint) as control:
            try:
                await control.command(f"ADD_ONION ED25519-V3:{SECRET} Port=9880")
                await control.command("GETINFO version")
            except TorFailed as error:
                said.extend([repr(error), "".join(traceback.format_exception(error))])
            said.extend([repr(control), str(control)])

    asyncio.run(main(), debug=True)
    output = capfd.readouterr()
    assert SECRET not in "".join([*said, caplog.text, output.out, output.err])


# --- Logging in ------------------------------------------------------------------------------------------------


def cookie_login(cookie: Path, methods: str = "COOKIE,SAFECOOKIE") -> str:
    return f'250-PROTOCOLINFO 1\r\n250-AUTH METHODS={methods} COOKIEFILE="{cookie}"\r\n250 OK\r\n'


def test_nothing_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_control(Endpoint(path=str(tmp_path / "control"))):
            pass

    with pytest.raises(ControlRefused, match="is nothing, expected a control port") as raised:
        asyncio.run(main())
    assert "starts its own tor" in raised.value.hint


def test_something_else_there() -> None:
    error = refusal(FakeControl({"PROTOCOLINFO": "SSH-2.0-OpenSSH\r\n"}), timeout_s=0.1)
    assert "is something that is not tor" in str(error)


def test_a_cookie_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    error = refusal(FakeControl({"PROTOCOLINFO": cookie_login(tmp_path / "cookie")}))
    assert f"wants its cookie, and {tmp_path}/cookie cannot be read: No such file" in str(error)
    assert "debian-tor" in error.hint


def test_a_tor_with_another_cookie_than_its_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cookie").write_bytes(bytes(32))
    challenge = f"250 AUTHCHALLENGE SERVERHASH={'0' * 64} SERVERNONCE={'0' * 64}\r\n"
    error = refusal(FakeControl({"PROTOCOLINFO": cookie_login(tmp_path / "cookie"), "AUTHCHALLENGE": challenge}))
    assert f"has another cookie than the one in {tmp_path}/cookie" in str(error)
    assert "restart that tor" in error.hint


def test_a_cookie_of_a_wrong_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cookie").write_bytes(bytes(31))
    error = refusal(FakeControl({"PROTOCOLINFO": cookie_login(tmp_path / "cookie")}))
    assert f"has another cookie than the one in {tmp_path}/cookie" in str(error)


# Issue 12.
def test_a_cookie_that_tor_refuses_is_told_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "cookie").write_bytes(bytes(32))
    answers = {
        "PROTOCOLINFO": cookie_login(tmp_path / "cookie", "COOKIE,HASHEDPASSWORD"),
        "AUTHENTICATE": "515 Authentication failed: Password did not match HashedControlPassword *or* cookie\r\n",
    }
    error = refusal(FakeControl(answers))
    assert f"has another cookie than the one in {tmp_path}/cookie" in str(error)
    assert "Password did not match" not in str(error)


# Issue 12.
def test_the_steps_of_a_login_share_one_timeout() -> None:
    class Slow(FakeControl):
        async def serve(self, stream: Stream) -> None:
            await asyncio.sleep(1.2)  # as on a busy machine: once for the probe, once for the login
            await super().serve(stream)

    async def main() -> None:
        async with listening(Slow()) as endpoint, asyncio.timeout(2.3):
            with pytest.raises(ControlRefused, match=r"did not let us in within 1\.5 s"):
                async with open_control(endpoint, 1.5):
                    pass

    asyncio.run(main())


PASSWORD_LOGIN = "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=HASHEDPASSWORD\r\n250 OK\r\n"


def test_a_wanted_password_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONIONMPC_CONTROL_PASSWORD", raising=False)
    error = refusal(FakeControl({"PROTOCOLINFO": PASSWORD_LOGIN}))
    assert "wants a password" in str(error)
    assert "ONIONMPC_CONTROL_PASSWORD" in error.hint


def test_a_wrong_password_is_reported_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", SECRET)
    fake = FakeControl(
        {"PROTOCOLINFO": PASSWORD_LOGIN, "AUTHENTICATE": "515 Authentication failed: Password did not match\r\n"}
    )
    error = refusal(fake)
    assert "does not accept the password in ONIONMPC_CONTROL_PASSWORD" in str(error)
    assert "tor --hash-password" in error.hint
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("methods", ["HASHEDPASSWORD", "COOKIE,SAFECOOKIE,HASHEDPASSWORD"])
def test_a_right_password_logs_in_if_the_cookie_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, methods: str
) -> None:
    monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", "open sesame")
    fake = FakeControl({"PROTOCOLINFO": cookie_login(tmp_path / "cookie", methods)})

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint):
            pass

    asyncio.run(main())
    assert f"AUTHENTICATE {b'open sesame'.hex()}" in fake.heard


def test_a_tor_that_hangs_up_while_we_log_in() -> None:
    assert "hung up while we logged in" in str(refusal(FakeControl({"AUTHENTICATE": ""})))


def test_a_tor_that_never_answers_the_login() -> None:
    error = refusal(FakeControl({"AUTHENTICATE": "250-so far\r\n"}), timeout_s=0.1)
    assert "did not let us in within 0.1 s" in str(error)


def test_no_secret_is_sent_to_a_listener_that_may_not_be_tor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", SECRET)
    fake = FakeControl({"PROTOCOLINFO": "HTTP/1.0 501 Tor is not an HTTP Proxy\r\n\r\n"})
    assert "is a SOCKS port, expected a control port" in str(refusal(fake, timeout_s=0.1))
    assert fake.heard == ["PROTOCOLINFO 1"]


# --- Bootstrap -------------------------------------------------------------------------------------------------


def test_bootstrap_reports_percent_and_summary_until_it_is_done() -> None:
    fake = FakeControl()
    told: list[tuple[int, str]] = []

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:

            def progress(percent: int, summary: str) -> None:
                told.append((percent, summary))
                if percent == 10:
                    fake.tell("STATUS_CLIENT NOTICE CIRCUIT_NOT_ESTABLISHED REASON=x")
                    fake.tell('STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=50 TAG=loading SUMMARY="Loading"')
                    fake.tell('STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=50 TAG=loading SUMMARY="Loading"')
                    fake.tell('STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"')

            await control.bootstrap(progress, 5)

    asyncio.run(main())
    assert told == [(10, "Connected"), (50, "Loading"), (100, "Done")]


def test_a_filter_that_hides_the_events_does_not_hide_the_end() -> None:
    done = '250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"\r\n250 OK\r\n'
    fake = FakeControl({"SETEVENTS": "510 Command filtered\r\n", "GETINFO status/bootstrap-phase": done})

    async def main() -> None:
        async with listening(fake) as endpoint, open_control(endpoint) as control:
            await control.bootstrap(lambda percent, summary: None, 5)

    asyncio.run(main())


def test_a_bootstrap_that_gets_stuck_is_reported_with_a_hint() -> None:
    async def main() -> None:
        async with listening(FakeControl()) as endpoint, open_control(endpoint) as control:
            await control.bootstrap(lambda percent, summary: None, 0.2)

    with pytest.raises(BootstrapTimeout, match=r"tor reached 10 % \(Connected\) in 0.2 s") as raised:
        asyncio.run(main())
    assert "bridges" in raised.value.hint


def test_a_complaint_of_tor_is_kept() -> None:
    state = (
        Bootstrap()
        .after('WARN BOOTSTRAP PROGRESS=10 TAG=conn SUMMARY="Connecting" WARNING="Connection refused" REASON=REFUSED')
        .after('NOTICE BOOTSTRAP PROGRESS=14 TAG=handshake SUMMARY="Handshaking"')
    )
    assert state.seen == "Handshaking; Connection refused"


@pytest.mark.parametrize(("skew", "words"), [(7200, "7200 s fast"), (-90, "90 s slow")])
def test_a_wrong_clock_is_the_hint(skew: int, words: str) -> None:
    assert words in Bootstrap().after(f"WARN CLOCK_SKEW SKEW={skew} MIN_SKEW=60 SOURCE=CONSENSUS").hint


@pytest.mark.parametrize("text", ["", "NOTICE BOOTSTRAP", "NOTICE BOOTSTRAP PROGRESS=x", "WARN CLOCK_SKEW SKEW=x", "?"])
def test_an_unknown_event_changes_nothing(text: str) -> None:
    assert Bootstrap(10, "Connected").after(text) == Bootstrap(10, "Connected")


# --- Endpoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:/run/tor/control", Endpoint(path="/run/tor/control")),
        ("127.0.0.1:9051", Endpoint(port=9051)),
        ("localhost:9051", Endpoint(port=9051)),
        (":9051", Endpoint(port=9051)),
        ("9051", Endpoint(port=9051)),
        ("[::1]:9051", Endpoint(host="::1", port=9051)),
        ("0.0.0.0:9050", Endpoint(port=9050)),
    ],
)
def test_an_endpoint_is_parsed(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", ["", "unix:", "unix:control", "127.0.0.1:", "127.0.0.1:0", "[::1]:70000", "tor:9051"])
def test_text_that_is_not_an_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_endpoint(text)


@pytest.mark.parametrize("text", ["192.168.1.5:9051", "[2001:db8::1]:9051"])
def test_another_machine_is_refused(text: str) -> None:
    with pytest.raises(UnsafeSetting, match="another machine"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [(":9881", "127.0.0.1:9881"), ("10.152.152.11:9881", "10.152.152.11:9881"), ("[fd00::1]:9", "[fd00::1]:9")],
)
def test_an_endpoint_to_listen_at_is_parsed(text: str, place: str) -> None:
    assert str(parse_listener(text)) == place


def test_a_probe_reads_the_answer_of_tor() -> None:
    answer = b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/run/a \\"b\\""\r\n'
    answer += b'250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
    expected = Probe(ListenerKind.CONTROL, frozenset({"COOKIE", "SAFECOOKIE"}), '/run/a "b"', "0.4.9.11")
    assert parse_answer(answer) == expected
    assert parse_answer(b"HTTP/1.0 501 Tor is not an HTTP Proxy\r\nContent-Type: text/html") == Probe(
        ListenerKind.SOCKS
    )
    assert parse_answer(b"") == parse_answer(b"\xff\x00") == Probe(ListenerKind.OTHER)


# Issue 12.
@pytest.mark.parametrize("path", [b"/run/\xc3\xa9/a", b'/a"b\\c', b"/a\nb\tc", b"/\xff\x07", b"/a 8"])
def test_a_probe_reads_the_path_of_a_cookie_as_tor_escapes_it(path: bytes) -> None:
    # Source: tor's esc_for_log (escape.c).
    short = {ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r", ord('"'): '\\"', ord("\\"): "\\\\"}
    escaped = "".join(short.get(byte, chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in path)
    answer = f'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE COOKIEFILE="{escaped}"\r\n250 OK\r\n'.encode()
    assert parse_answer(answer).cookie_file == os.fsdecode(path)


@pytest.mark.parametrize("odd", ["\\8", "\\", "\\777", "\\x41", "\\²", "é"])
def test_a_probe_accepts_any_answer_about_a_cookie(odd: str) -> None:
    answer = f'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE COOKIEFILE="/{odd}\\\\"\r\n250 OK\r\n'.encode()
    assert parse_answer(answer).kind is ListenerKind.CONTROL


def test_a_probe_does_not_wait_for_ever() -> None:
    async def silent(stream: Stream) -> None:
        await stream.reader.read()

    async def main() -> Probe:
        with socket_directory() as directory:
            async with listening_unix(directory / "silent", silent):
                return await probe(Endpoint(path=str(directory / "silent")), timeout_s=0.05)

    assert asyncio.run(main()) == Probe(ListenerKind.OTHER)

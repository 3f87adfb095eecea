"""What the API refuses at once, before it starts anything: names that do not exist, and values of another type."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onionmpc
from onionmpc.api.options import CHECKS, SessionOptions, prepare
from onionmpc.api.party import Party, open_identity, party
from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.session import keystore
from tests.support.api import local_parties
from tests.support.commands import INVITE, A, fake_tor
from tests.support.session import run

SECRET = "not to be repeated"

NEAREST = {
    "treshold": "threshold",
    "padding_rate": "padding",
    "circuit": "circuits",
    "with_file": "with_files",
    "wait": "wait_s",
    "patience": "patience_s",
    "min_circuit_lenght": "min_circuit_length",
    "allow_subproces": "allow_subprocess",
    "Verbose": "verbose",
}


def with_me(act: Callable[[Party], object]) -> UsageError:
    """Return what a party's method refuses with, before any table is entered."""
    errors: list[UsageError] = []

    async def main() -> None:
        async with local_parties(1) as (me,):
            with pytest.raises(UsageError) as raised:
                act(me)
            errors.append(raised.value)

    run(main())
    return errors[0]


@pytest.mark.parametrize(("typed", "meant"), NEAREST.items(), ids=NEAREST)
def test_an_option_that_does_not_exist_is_refused_and_the_nearest_is_named(typed: str, meant: str) -> None:
    options: Any = {typed: 1}
    for error in (
        with_me(lambda me: me.host("average-salary", parties=3, **options)),
        with_me(lambda me: me.join(INVITE, **options)),
        with_me(lambda me: me.join([A, A], "average-salary", **options)),
    ):
        assert error.message == f"there is no option {typed}"
        assert error.hint == f"did you mean {meant}?"


def test_a_name_that_is_near_to_none_gets_all_of_them() -> None:
    unknown: Any = {"colour": "red"}
    with pytest.raises(UsageError) as raised:
        prepare("average-salary", **unknown)
    assert all(name in raised.value.hint for name in SessionOptions.__annotations__)


def test_every_option_is_checked_and_documented() -> None:
    assert set(CHECKS) == set(SessionOptions.__annotations__)
    documented = inspect.getdoc(SessionOptions) or ""
    assert [name for name in CHECKS if f"\n    {name}: " not in documented] == []


WRONG_OPTIONS = [
    ("threshold", "1", "threshold: str, expected a whole number"),
    ("threshold", True, "threshold: bool, expected a whole number"),
    ("max_unknown", -1, "max_unknown: -1, expected 0 or more"),
    ("max_unknown", "1", "max_unknown: str, expected a whole number"),
    ("strangers_may_read_everything", 1, "strangers_may_read_everything: int, expected True or False"),
    ("evidence", "cert.pem", "evidence: str, expected a list"),
    ("trust", 1, "trust: int, expected a path"),
    ("circuits", 2.0, "circuits: float, expected a whole number"),
    ("public", SECRET, "public: str, expected a list"),
    ("public", [1], "public: int, expected a text"),
    ("mpyc_options", "-L64", "mpyc_options: str, expected a list"),
    ("receipt", 1, "receipt: int, expected a path"),
    ("with_files", "data.csv", "with_files: str, expected a list"),
    ("with_files", Path("data.csv"), "expected a list"),
    ("with_files", ["no-such-file"], "no-such-file"),
    ("wait_s", "10", "wait_s: str, expected a number"),
    ("wait_s", 0, "wait_s: 0 s, expected more than 0"),
    ("patience_s", float("nan"), "patience_s: nan s, expected more than 0"),
    ("patience_s", float("inf"), "patience_s: inf s, expected more than 0"),
    ("min_circuit_length", "lon", "there is no level 'lon'"),
    ("min_circuit_length", 3, "min_circuit_length: int, expected a text"),
    ("verbose", "no", "verbose: str, expected True or False"),
    ("allow_no_privacy", 1, "allow_no_privacy: int, expected True or False"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG_OPTIONS)
def test_a_value_of_another_type_is_refused_without_repeating_it(name: str, value: Any, sentence: str) -> None:
    options: Any = {name: value}
    error = with_me(lambda me: me.host("average-salary", parties=3, **options))
    assert sentence in error.message
    assert SECRET not in error.message + error.hint


WRONG_CALLS: list[tuple[Callable[[Any], object], str]] = [
    (lambda me: me.host("average-salary", parties="3"), "parties: str, expected a whole number"),
    (lambda me: me.host("average-salary", parties=3, expect=A), "expect: str, expected a list"),
    (lambda me: me.host("average-salary", parties=3, expect=["x.onion"]), "the address has 1 characters"),
    (lambda me: me.host("average-salary", parties=3, open="yes"), "open: str, expected True or False"),
    (lambda me: me.host("average-salary", parties=3, admit=True), "admit: bool, expected a function"),
    (lambda me: me.host(3, parties=3), "program: int, expected a path"),
    (lambda me: me.host("no/such/program.py", parties=3), "there is no program no/such/program.py"),
    (lambda me: me.join(3), "target: int, expected a list"),
    (lambda me: me.join([]), "0 invites and 0 addresses"),
    (lambda me: me.join([A, 3]), "target: int, expected a text"),
    (lambda me: me.join(Path("invite.txt")), "target: "),
    (lambda me: me.join(INVITE, 3), "program: int, expected a path"),
]


@pytest.mark.parametrize(("act", "sentence"), WRONG_CALLS, ids=[sentence for _, sentence in WRONG_CALLS])
def test_other_arguments_of_a_session_are_checked_too(act: Callable[[Party], object], sentence: str) -> None:
    assert sentence in with_me(act).message


@pytest.fixture
def _no_tor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor"))


WRONG_PARTIES: list[tuple[dict[str, Any], str]] = [
    ({"circuit_length": "shrt"}, "there is no level 'shrt'"),
    ({"circuit_length": None}, "circuit_length: NoneType, expected a text"),
    ({"identity": 3}, "identity: int, expected a name"),
    ({"identity": "nobody"}, "nobody"),
    ({"passphrase": SECRET}, "a passphrase needs the name of an identity"),
    ({"testnet": 3}, "testnet: int, expected a path"),
    ({"testnet": "no/such/place"}, "no test network runs in no/such/place"),
    ({"region": "east"}, "region= needs testnet="),
    ({"bridge": "192.0.2.1:9001"}, "bridge: str, expected a list"),
    ({"bridge": [3]}, "bridge: int, expected a text"),
    ({"control": 9051}, "control: int, expected a text"),
    ({"bootstrap_timeout_s": "5m"}, "bootstrap_timeout_s: str, expected a number"),
    ({"publish_timeout_s": -1}, "publish_timeout_s: -1 s, expected more than 0"),
    ({"show_my_ip": True}, "show_my_ip=True needs"),
    ({"or_standard": "yes"}, "or_standard: str, expected True or False"),
    ({"on_event": print, "patience_s": None}, "patience_s: NoneType, expected a number"),
    ({"on_event": "print"}, "on_event: str, expected a function"),
]


@pytest.mark.usefixtures("_no_tor")
@pytest.mark.parametrize(("settings", "sentence"), WRONG_PARTIES, ids=[sentence for _, sentence in WRONG_PARTIES])
def test_a_party_with_wrong_settings_does_not_begin(settings: dict[str, Any], sentence: str) -> None:
    async def main() -> None:
        with pytest.raises(UsageError) as raised:
            async with party(**settings):
                pytest.fail("it began")
        assert sentence in raised.value.message
        assert SECRET not in raised.value.message + raised.value.hint

    run(main())


@pytest.mark.usefixtures("_no_tor")
def test_an_identity_is_used_at_the_level_for_which_it_was_opened() -> None:
    keystore.create("me", None)
    opened = open_identity("me")

    async def main() -> None:
        with pytest.raises(UnsafeSetting, match="the identity me was opened for standard, and this party is short"):
            async with party(identity=opened, circuit_length="short", show_my_ip=True):
                pytest.fail("it began")

    run(main())


WRONG_NETWORKS: list[tuple[dict[str, Any], str]] = [
    ({"relays": "12"}, "relays: str, expected a whole number"),
    ({"relays": 2}, "2 relays, expected 12 to"),
    ({"latency": "slow"}, "latency: str, expected a number"),
    ({"latency": -1}, "a latency of -1.0 ms"),
    ({"directory": 3}, "directory: int, expected a path"),
    ({"progress": None}, "progress: NoneType, expected a function"),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG_NETWORKS, ids=[sentence for _, sentence in WRONG_NETWORKS])
def test_a_private_network_with_wrong_settings_does_not_begin(settings: dict[str, Any], sentence: str) -> None:
    async def main() -> None:
        with pytest.raises(UsageError) as raised:
            async with onionmpc.private_network(**settings):
                pytest.fail("it began")
        assert sentence in raised.value.message

    run(main())


@pytest.mark.parametrize(
    "call",
    [
        lambda: party(identiy="work"),  # type: ignore[call-arg]
        lambda: onionmpc.private_network(relay=12),  # type: ignore[call-arg]
        lambda: open_identity("work", circuit_lenght="long"),  # type: ignore[call-arg]
    ],
)
def test_functions_without_open_ended_options_refuse_unknown_names_themselves(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        call()

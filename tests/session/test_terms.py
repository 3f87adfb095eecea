"""What a joiner does with the host's terms, and which options are refused before anyone is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onionmpc.errors import (
    AgreementError,
    InvalidAddress,
    OnionMPCError,
    UnsafeSetting,
    UsageError,
)
from onionmpc.identity import Identity, Onion, onion_from_public_key
from onionmpc.program.code.attached import NOTHING
from onionmpc.program.code.catalogue import Program, find_program
from onionmpc.session.agreed_options import Wishes
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.invite import Invite
from onionmpc.session.local import Plan, shared_terms
from onionmpc.session.messages import Terms
from onionmpc.session.own_terms import accept_terms, own_terms
from onionmpc.session.run import SessionParty
from tests.support.gathering import HOST, JOINERS, PSK, opposite
from tests.support.session import Person, listed_plan

# -- what a joiner makes of the terms


def plan_of(wishes: dict[str, Any]) -> Plan:
    return replace(listed_plan(None, public=None, mpyc_options=None, allowed_types=None), **wishes)


def party_of(wishes: dict[str, Any]) -> SessionParty:
    return SessionParty(JOINERS[0], plan_of(wishes), Person())


def accepted(wishes: dict[str, Any], theirs: SharedTerms, host: Onion) -> tuple[Program, SharedTerms]:
    return accept_terms(plan_of(wishes), theirs, JOINERS[0].onion, host)


def terms_for(parties: int = 3, **changes: Any) -> SharedTerms:
    roster = sorted(identity.onion for identity in [HOST, *JOINERS][:parties])
    wishes = Wishes(public=("tea,coffee",), mpyc_options=("-L64",))
    common = shared_terms(find_program("vote"), NOTHING, roster, wishes.as_host(parties))
    return msgspec.structs.replace(common, **changes)


NUMBERS = {"own": terms_for().addresses.index(JOINERS[0].onion), "host": terms_for().addresses.index(HOST.onion)}


def test_a_joiner_takes_what_it_left_open_from_the_host() -> None:
    program, common = accepted({}, terms_for(), HOST.onion)
    assert program == find_program("vote")
    assert common == terms_for()


@pytest.mark.parametrize(
    ("name", "error"),
    [("nothing_of_ours", "the program nothing_of_ours does not come with this onionmpc"),
     ("../vote", "the program ../vote does not come with this onionmpc"),
     ("private_input", "the program private_input does not come with this onionmpc"),
     ("\x1b[2J", "the program \\x1b[2J does not come with this onionmpc")],
)  # fmt: skip
def test_a_joiner_runs_only_programs_that_it_has(name: str, error: str) -> None:
    with pytest.raises(AgreementError) as raised:
        accepted({}, terms_for(program=name), HOST.onion)
    assert raised.value.message == error


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"files": {"vote.py": "00" * 32}}, "program file private_input.py differs"),
        ({"mpyc_version": "0.10"}, "MPyC version differs: 0.11 at party {own}, 0.10 at party {host}"),
        ({"protocol": 1}, "protocol version differs: 5 at party {own}, 1 at party {host}"),
        ({"python": "PyPy 64-bit"}, "Python differs"),
    ],
)
def test_a_joiner_compares_the_terms_with_what_it_has(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(AgreementError) as raised:
        accepted({}, terms_for(**changes), HOST.onion)
    assert error.format(**NUMBERS) in raised.value.message


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"threshold": 0}, "threshold differs: 0 at party {own}, 1 at party {host}"),
        ({"public": ("tea",)}, "public arguments differs: (tea) at party {own}, (tea,coffee) at party {host}"),
        ({"mpyc_options": ()}, "MPyC options differs: () at party {own}, (-L64) at party {host}"),
        ({"program": find_program("auction")}, "program differs: auction at party {own}, vote at party {host}"),
    ],
)
def test_a_joiner_that_wants_something_else_does_not_agree(wish: dict[str, Any], error: str) -> None:
    with pytest.raises(AgreementError) as raised:
        accepted(wish, terms_for(), HOST.onion)
    assert raised.value.message == error.format(**NUMBERS)


def test_a_host_cannot_make_a_joiner_compute_with_fewer_parties_than_the_program_needs() -> None:
    wishes = {"allow_no_privacy": True}
    with pytest.raises(UsageError, match="2 parties, but vote needs at least 3"):
        accepted(wishes, terms_for(parties=2), HOST.onion)


def test_a_host_cannot_make_a_joiner_accept_a_threshold_that_hides_nothing() -> None:
    with pytest.raises(UnsafeSetting):
        accepted({}, terms_for(threshold=0), HOST.onion)
    assert accepted({"allow_no_privacy": True}, terms_for(threshold=0), HOST.onion)


@pytest.mark.parametrize("option", ["--output-file=out", "-Pevil:1", "-M3", "-T0", "--ssl", "-C", "\x1b[2J"])
def test_a_host_cannot_choose_what_mpyc_does_beyond_the_wire(option: str) -> None:
    with pytest.raises(UsageError, match="is not one of MPyC's options that change the wire") as raised:
        accepted({}, terms_for(mpyc_options=("-L64", option)), HOST.onion)
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("name", ["subprocess.Popen", "builtins.eval", "numpy.ndarray", "__main__.*", "\x1b[2J.X"])
def test_a_host_cannot_make_a_joiner_allow_a_type_that_is_not_a_class_of_the_program(name: str) -> None:
    with pytest.raises(UsageError, match="is not a class of the program") as raised:
        accepted({}, terms_for(allowed_types=(name,)), HOST.onion)
    assert raised.value.message.isprintable()


def test_a_joiner_takes_the_hosts_types_unless_it_names_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("class Ballot: ...\nclass Urn: ...\n")
    program = find_program(str(tmp_path / "script.py"))
    terms = shared_terms(
        program,
        NOTHING,
        [Onion(onion) for onion in terms_for().addresses],
        Wishes(allowed_types=("__main__.Ballot",)).as_host(3),
    )
    _, common = accepted({"program": program}, terms, HOST.onion)
    assert common.allowed_types == ("__main__.Ballot",)
    with pytest.raises(
        AgreementError, match=r"allowed types differs: \(__main__\.Urn\) at .*, \(__main__\.Ballot\) at"
    ):
        accepted({"program": program, "allowed_types": ("__main__.Urn",)}, terms, HOST.onion)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"addresses": (HOST.onion, JOINERS[1].onion)}, AgreementError),
        ({"addresses": (JOINERS[0].onion, JOINERS[1].onion)}, AgreementError),
        ({"addresses": tuple(sorted(terms_for().addresses, reverse=True))}, AgreementError),
        ({"addresses": (*terms_for().addresses, "")}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, "x" * 56 + ".onion")}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, HOST.onion)}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, JOINERS[0].onion)}, AgreementError),
        ({"addresses": (*terms_for().addresses, onion_from_public_key(opposite(HOST)))}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, onion_from_public_key(opposite(JOINERS[0])))}, InvalidAddress),
        ({"threshold": 2}, UsageError),
        ({"threshold": -1}, UsageError),
        ({"threshold": 10**9}, UsageError),
    ],
)
def test_a_joiner_refuses_a_roster_on_which_parties_cannot_connect(
    changes: dict[str, Any], error: type[OnionMPCError]
) -> None:
    party_of({})._check_roster(terms_for(), HOST.onion)
    with pytest.raises(OnionMPCError) as raised:
        party_of({})._check_roster(terms_for(**changes), HOST.onion)
    assert type(raised.value) is error


def test_a_joiner_takes_the_keys_of_the_other_joiners_and_no_more() -> None:
    common = terms_for()
    terms = Terms(common, PSK, dict.fromkeys([*common.addresses, "no address", "x" * 56 + ".onion"], "d1" * 32))
    assert party_of({})._keys_in(terms, HOST.onion) == {JOINERS[1].onion: bytes.fromhex("d1" * 32)}
    with pytest.raises(AgreementError, match="lack the key to a party"):
        party_of({})._keys_in(Terms(common, PSK, {HOST.onion: "d1" * 32}), HOST.onion)


# -- what nobody named


@pytest.mark.parametrize(
    ("parties", "wish", "options"), [(14, (), ()), (15, (), ("--no-prss",)), (15, ("-L32",), ("-L32",))]
)
def test_a_full_list_of_many_parties_runs_without_prss(
    parties: int, wish: tuple[str, ...], options: tuple[str, ...]
) -> None:
    roster = [Identity(bytes([number]) * 32) for number in range(parties)]
    plan = replace(listed_plan(find_program("vote")), mpyc_options=wish)
    found = {
        SessionParty(own, plan, Person()).full_list([other.onion for other in roster if other != own]).mpyc_options
        for own in (roster[0], roster[-1])
    }
    assert found == {options}


def test_a_host_of_many_parties_and_its_joiners_run_without_prss() -> None:
    terms = own_terms(listed_plan(find_program("vote")), [HOST.onion], 15)
    assert terms.mpyc_options == ("--no-prss",)
    _, common = accepted({}, terms_for(mpyc_options=terms.mpyc_options), HOST.onion)
    assert common.mpyc_options == ("--no-prss",)


# -- what can be wrong before anyone is asked


def open_seats(parties: int, expected: list[Onion]) -> object:
    return SessionParty(HOST, listed_plan(find_program("vote")), Person()).open_seats(parties, expected, is_open=False)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: open_seats(3, [JOINERS[0].onion] * 2), InvalidAddress),
        (lambda: open_seats(3, [HOST.onion]), InvalidAddress),
        (lambda: open_seats(3, [onion_from_public_key(opposite(HOST))]), InvalidAddress),
        (lambda: open_seats(3, [joiner.onion for joiner in JOINERS[:3]]), UsageError),
        (lambda: open_seats(1, []), UsageError),
        (lambda: open_seats(0, []), UsageError),
        (lambda: open_seats(2, []), UnsafeSetting),
        (lambda: open_seats(257, []), UsageError),
        (lambda: SessionParty(HOST, listed_plan(None), Person()).open_seats(3, [], is_open=False), UsageError),
        (lambda: party_of({}).check_host(JOINERS[0].onion), InvalidAddress),
        (lambda: party_of({}).check_host(Invite(JOINERS[0].onion, bytes(16))), InvalidAddress),
        (lambda: party_of({}).full_list([HOST.onion, JOINERS[0].onion]), InvalidAddress),
        (lambda: party_of({}).full_list([HOST.onion, JOINERS[1].onion]), UsageError),
    ],
)
def test_invalid_options_are_refused_before_a_network_is_needed(
    wrong: Callable[[], object], error: type[UsageError]
) -> None:
    with pytest.raises(UsageError) as raised:
        wrong()
    assert type(raised.value) is error

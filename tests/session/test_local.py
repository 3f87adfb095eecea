"""A party's plan and its shared terms: limits, options and versions."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.identity import Identity
from onionmpc.program.code.attached import NOTHING, attach
from onionmpc.program.code.catalogue import Program, find_program
from onionmpc.session.agreed_options import Wishes, default_mpyc_options, default_threshold
from onionmpc.session.local import (
    check_allowed_types,
    check_least_parties,
    check_mpyc_options,
    check_parties,
    check_program_arguments,
    shared_terms,
    threshold_of,
)
from onionmpc.wire.handshake import VERSION
from tests.support.blocks import script_of
from tests.support.session import listed_plan

ADDRESSES = sorted(Identity(bytes([number]) * 32).onion for number in range(3))


@given(st.integers(2, 256))
def test_default_threshold_is_the_largest_with_an_honest_majority(parties: int) -> None:
    threshold = default_threshold(parties)
    check_parties(parties, threshold, allow_no_privacy=True)
    with pytest.raises(UsageError, match="expected 0 to"):
        check_parties(parties, threshold + 1, allow_no_privacy=True)


@pytest.mark.parametrize("parties", [-1, 0, 1, 257])
def test_a_number_of_parties_out_of_bounds_is_refused(parties: int) -> None:
    with pytest.raises(UsageError, match=f"{parties} parties, expected 2 to 256"):
        check_parties(parties, 0, allow_no_privacy=True)


@pytest.mark.parametrize("threshold", [-1, 2, 10**9])
def test_a_threshold_out_of_bounds_is_refused(threshold: int) -> None:
    with pytest.raises(UsageError, match=f"threshold {threshold} with 3 parties, expected 0 to 1"):
        check_parties(3, threshold, allow_no_privacy=True)


@pytest.mark.parametrize("parties", [2, 3, 9])
def test_a_threshold_of_0_must_be_allowed_explicitly(parties: int) -> None:
    with pytest.raises(UnsafeSetting, match="hides nothing"):
        check_parties(parties, 0, allow_no_privacy=False)
    check_parties(parties, 0, allow_no_privacy=True)


def program_saying(folder: Path, toml: str) -> Program:
    (folder / "my.py").write_text(script_of(f'[tool.onionmpc]\nversion = 1\ntitle = "T"\nreveals = "R"\n{toml}'))
    return find_program(str(folder / "my.py"))


def test_a_program_says_how_many_parties_it_needs(tmp_path: Path) -> None:
    program = program_saying(tmp_path, "min-parties = 5")
    with pytest.raises(UsageError, match="4 parties, but my needs at least 5"):
        check_least_parties(program, 4)
    check_least_parties(program, 5)
    check_least_parties(find_program("sort"), 2)


def test_a_program_says_the_threshold_of_a_host_that_chooses_none(tmp_path: Path) -> None:
    program = program_saying(tmp_path, "min-parties = 5\nthreshold = 1")
    assert threshold_of(listed_plan(program), 9) == 1
    assert threshold_of(listed_plan(program, threshold=3), 9) == 3
    assert threshold_of(listed_plan(program, threshold=0), 9) == 0
    assert threshold_of(listed_plan(find_program("vote")), 9) == 4


# -- arguments of the program


@pytest.mark.parametrize(
    "argument",
    [
        "-P", "-Plocalhost:1", "-M", "-M3", "-M3:1", "-I0", "-I", "--index=1", "--index", "-C", "--config=x", "-B",
        "-B11365", "--base-port=1", "--ssl", "-T", "-T1", "--threshold", "--threshold=1",
    ],
)  # fmt: skip
def test_connection_options_are_refused(argument: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_program_arguments(["5", argument])
    assert argument.split("=")[0] in raised.value.message
    assert "connection option of MPyC" in raised.value.message
    assert ("threshold" in raised.value.hint) == (argument.startswith(("-T", "--threshold")))


@pytest.mark.parametrize(
    "argument", ["-L64", "-L", "--bit-length=64", "-K40", "--sec-param", "--no-prss", "--mix32-64bit"]
)
def test_options_that_change_the_wire_are_refused_among_program_arguments(argument: str) -> None:
    with pytest.raises(UsageError, match="all parties must agree on") as raised:
        check_program_arguments([argument])
    assert f'mpyc_options=["{argument}"]' in raised.value.hint


@pytest.mark.parametrize(
    "argument", ["", "5", "-5", "--input=x", "-Max", "-Input", "--indexes", "--sslx", "-x", "--", "-", "-Ball", "tea"]
)
def test_other_arguments_are_accepted_as_the_programs(argument: str) -> None:
    check_program_arguments([argument])


# -- MPyC's options


def test_options_are_sorted() -> None:
    assert check_mpyc_options(["--no-prss", "-L64", "-K40", "--mix32-64bit"]) == (
        "--mix32-64bit",
        "--no-prss",
        "-K40",
        "-L64",
    )
    assert check_mpyc_options(["--bit-length=64", "--sec-param=30"]) == ("--bit-length=64", "--sec-param=30")
    assert check_mpyc_options([]) == ()


@pytest.mark.parametrize(
    "option",
    [
        "", "64", "-L", "-L0", "-L-1", "-L10000", "-L6 4", "-L64;", "-L=", "--bit-length", "--bit-length=",
        "--bit-length=x", "--no-prss=1", "--mix32-64bit=", "-M3", "-Phost:1", "-T1", "--ssl", "--no-async", "-l64",
        "--output-file", "-L²", "-L٣",
    ],
)  # fmt: skip
def test_options_that_do_not_change_the_wire_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match="is not one of MPyC's options that change the wire"):
        check_mpyc_options([option])


@given(st.text(max_size=12))
def test_any_text_is_refused_as_an_option_or_has_its_documented_form(option: str) -> None:
    try:
        checked = check_mpyc_options([option])
    except UsageError:
        return
    assert checked == (option,)
    assert option.isascii()
    check_mpyc_options(checked)


# -- the classes that parties may send each other


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "script.py").write_text("import ballots, subprocess\nfrom ballots import Ballot\nclass Vote: ...\n")
    (tmp_path / "ballots.py").write_text("class Ballot: ...\n")
    return find_program(str(tmp_path / "script.py"))


def test_allowed_types_are_sorted_and_named_once(program: Program) -> None:
    names = ["ballots.Ballot", "__main__.Vote", "ballots.Ballot"]
    assert check_allowed_types(names, program) == ("__main__.Vote", "ballots.Ballot")
    assert check_allowed_types((), program) == ()
    common = shared_terms(program, NOTHING, ADDRESSES, Wishes(allowed_types=tuple(names)).as_host(3))
    assert common.allowed_types == ("__main__.Vote", "ballots.Ballot")


@pytest.mark.parametrize(
    "name",
    [
        "", "Vote", "__main__", "__main__.", ".Vote", "__main__.*", "ballots.*", "*", "__main__.Vote.__init__",
        "__main__.vote", "__main__.Ballot", "script.Vote", "ballots.Missing", "subprocess.Popen", "builtins.eval",
        "numpy.ndarray", "mpyc.runtime.Runtime", "__main__.Vote\n", " __main__.Vote", "__main__:Vote", "/x.Vote",
    ],
)  # fmt: skip
def test_only_a_class_of_the_program_can_be_allowed(name: str, program: Program) -> None:
    with pytest.raises(UsageError, match="is not a class of the program, and only those can be allowed") as caught:
        check_allowed_types([name], program)
    assert caught.value.hint
    assert caught.value.message.isprintable()


def test_the_hint_for_a_class_of_the_wrong_module_gives_its_full_name(program: Program) -> None:
    for name, hint in (
        ("script.Vote", "did you mean __main__.Vote?"),
        ("__main__.Ballot", "did you mean ballots.Ballot?"),
    ):
        with pytest.raises(UsageError) as caught:
            check_allowed_types([name], program)
        assert caught.value.hint == hint


@pytest.mark.parametrize(("parties", "options"), [(2, ()), (14, ()), (15, ("--no-prss",)), (256, ("--no-prss",))])
def test_prss_is_off_for_many_parties(parties: int, options: tuple[str, ...]) -> None:
    assert default_mpyc_options(parties) == options
    assert check_mpyc_options(options) == options


# -- versions


def test_shared_terms_name_the_installed_versions(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1")
    common = shared_terms(
        find_program("vote"),
        attach([data]),
        ADDRESSES,
        Wishes(public=("tea,coffee",), mpyc_options=("-L64",)).as_host(3),
    )
    assert common.protocol == VERSION
    assert common.addresses == tuple(ADDRESSES)
    assert common.program == "vote"
    assert set(common.files) == {"vote.py", "private_input.py", "with/data.csv"}
    assert all(len(bytes.fromhex(digest)) == 32 for digest in common.files.values())
    assert common.public_arguments == ("tea,coffee",)
    assert common.mpyc_version == importlib.metadata.version("mpyc")
    assert common.python == f"{platform.python_implementation()} {64 if sys.maxsize > 2**32 else 32}-bit"
    assert common.numpy == int(importlib.metadata.version("numpy").split(".")[0])
    assert common.padding_rate == 0
    assert shared_terms(find_program("vote"), NOTHING, ADDRESSES, Wishes(padding=10).as_host(3)).padding_rate == 10


def test_the_word_size_is_free_if_mpyc_bridges_it() -> None:
    common = shared_terms(find_program("vote"), NOTHING, ADDRESSES, Wishes(mpyc_options=("--mix32-64bit",)).as_host(3))
    assert common.python == f"{platform.python_implementation()} any word size"


def test_a_missing_numpy_is_stated_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "numpy":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.11"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert shared_terms(find_program("vote"), NOTHING, ADDRESSES, Wishes().as_host(3)).numpy is None

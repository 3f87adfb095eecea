"""The result of a dry run is recalled for the same case, and for no other."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import pytest

from onionmpc.program.rehearsal import Hops
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.estimates import Case

CASE = Case({"vote.py": "00" * 32}, 3, 1, ("tea,coffee",), ("-L64",))
HOPS = Hops(57, 0.4)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def kept(state: Path) -> Path:
    [path] = (state / "estimates").iterdir()
    return path


def test_the_last_remembered_result_is_recalled(state: Path) -> None:
    CASE.remember(Hops(3, 0.1))
    CASE.remember(HOPS)
    assert CASE.recall() == HOPS
    assert stat.S_IMODE(kept(state).stat().st_mode) == 0o600


def test_a_session_has_the_same_case_as_its_estimate() -> None:
    CASE.remember(HOPS)
    common = SharedTerms(
        protocol=1,
        addresses=("a.onion", "b.onion", "c.onion"),
        threshold=1,
        program="vote",
        files={"vote.py": "00" * 32},
        public_arguments=("tea,coffee",),
        mpyc_version="0.11",
        mpyc_options=("-L64",),
        python="CPython 64-bit",
        numpy=None,
        padding_rate=0,
    )
    assert Case.of(common).recall() == HOPS


@pytest.mark.parametrize(
    "other",
    [
        {"files": {"vote.py": "01" * 32}},
        {"files": {}},
        {"parties": 4},
        {"threshold": 0},
        {"public_arguments": ("tea", "coffee")},
        {"mpyc_options": ()},
    ],
)
def test_a_different_case_is_not_recalled(other: dict[str, Any]) -> None:
    CASE.remember(HOPS)
    assert dataclasses.replace(CASE, **other).recall() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"hops":5}', b'{"hops":"5","seconds":1}', b'{"hops":5,"seconds":1,"more":1}', b'{"\xff":5}'],
)
def test_a_damaged_file_is_ignored(state: Path, content: bytes) -> None:
    CASE.remember(HOPS)
    kept(state).write_bytes(content)
    assert CASE.recall() is None


def test_without_a_writable_directory_nothing_is_recalled(state: Path) -> None:
    state.mkdir(mode=0o755)
    CASE.remember(HOPS)
    assert CASE.recall() is None

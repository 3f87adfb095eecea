"""Every decoder: what the corpus keeps, and for some seconds what nobody thought of. `make fuzz` takes longer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.fuzzing import CORPUS, TARGETS, corpus_of, ending_of, fuzz, invariant_of, name_of

SECONDS = 3.0
WEEKLY_SECONDS = 30.0
EACH = pytest.mark.parametrize("target", TARGETS, ids=name_of)


@EACH
def test_what_the_corpus_keeps_breaks_no_invariant(target: Any) -> None:
    assert invariant_of(target).endswith(".")
    for data in corpus_of(target):
        ending_of(target, data)


@EACH
def test_each_refusal_that_a_target_may_raise_is_in_its_corpus(target: Any) -> None:
    raised = set()
    for data in corpus_of(target):
        try:
            target.check(data)
        except target.REFUSALS as refusal:
            raised.add(type(refusal))
    assert [kind for kind in target.REFUSALS if not any(issubclass(each, kind) for each in raised)] == []


@pytest.mark.parametrize("seconds", [SECONDS, pytest.param(WEEKLY_SECONDS, marks=pytest.mark.weekly)])
@EACH
def test_nothing_new_breaks_it(target: Any, seconds: float) -> None:
    fuzz(target, seconds)


def test_the_corpus_is_of_these_targets() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == set(map(name_of, TARGETS))


def test_what_breaks_an_invariant_is_made_small_kept_and_tried_first_from_then_on(tmp_path: Path) -> None:
    tried: list[bytes] = []

    def check(data: bytes) -> int:
        tried.append(data)
        assert b"x" not in data
        return len(data) // 10

    target: Any = SimpleNamespace(__name__="targets.fake", INPUTS=st.binary(max_size=50), REFUSALS=(), check=check)
    for _ in range(2):
        with pytest.raises(AssertionError):
            fuzz(target, 60.0, tmp_path)
        assert corpus_of(target, tmp_path) == [b"x"]
        tried, until_here = [], tried
    assert until_here == [b"x"]


def test_inputs_of_each_new_ending_are_told(tmp_path: Path) -> None:
    target: Any = SimpleNamespace(__name__="targets.fake", INPUTS=st.binary(max_size=50), REFUSALS=(), check=len)
    tally = fuzz(target, 0.1, tmp_path)
    assert {len(data): data for data in tally.new.values()} == tally.new
    assert len(tally.new) <= tally.inputs

"""Each known attack by pickle is refused for its own reason, runs nothing, and takes little memory and time."""

from __future__ import annotations

import copyreg
import io
import pickle
import pickletools
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.pickles.unpickle import RestrictedPickle
from tests.support.pickle_attacks import Attack, attacks, bombs, call
from tests.support.restricted_pickles import (
    CORPUS,
    MESSAGES,
    VALID,
    Reference,
    loads_watched,
    mutations,
    with_classes,
)

LIMIT_BYTES = 2**22
LIMIT_S = 10.0


# --- the corpus ---


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the attack ran"


@pytest.mark.parametrize("mode", [RestrictedPickle, with_classes], ids=["data only", "with classes"])
@pytest.mark.parametrize("number", range(len(CORPUS)), ids=[attack.name for attack in CORPUS])
def test_an_attack_is_refused_for_its_own_reason_and_never_runs(number: int, mode: Any, marker: Path) -> None:
    attack = attacks(str(marker))[number]
    with pytest.raises(RemoteProtocolError, match=attack.says):
        loads_watched(mode(), attack.data)


RUNNING = [number for number, attack in enumerate(CORPUS) if attack.runs]


@pytest.mark.parametrize("number", RUNNING, ids=[CORPUS[number].name for number in RUNNING])
def test_the_same_attack_runs_in_stock_pickle(number: int, tmp_path: Path) -> None:
    """The corpus is worth something: these bytes do what they claim to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pickle.loads(attacks(str(tmp_path / "marker"))[number].data)
    assert (tmp_path / "marker").exists()


def test_the_corpus_names_each_attack_once() -> None:
    names = [attack.name for attack in [*CORPUS, *bombs(LIMIT_BYTES)]]
    assert len(names) == len(set(names))


BOMBS = list(bombs(LIMIT_BYTES))


@pytest.mark.parametrize("bomb", BOMBS, ids=[bomb.name for bomb in BOMBS])
def test_a_bomb_is_refused_within_its_limits(bomb: Attack) -> None:
    restricted = RestrictedPickle(max_memory_bytes=LIMIT_BYTES)
    before_s = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match=bomb.says):
            restricted.loads(bomb.data)
        assert tracemalloc.get_traced_memory()[1] < 2 * LIMIT_BYTES
    finally:
        tracemalloc.stop()
    assert time.process_time() - before_s < LIMIT_S


def test_the_extension_registry_is_not_a_way_around() -> None:
    """Once a code has been used, pickle answers it from a cache and does not call find_class."""
    copyreg.add_extension("builtins", "eval", 200)
    try:
        assert pickle.loads(b"\x80\x02\x82\xc8.") is eval
        for restricted in (RestrictedPickle(), with_classes()):
            with pytest.raises(RemoteProtocolError, match="pickle opcode EXT1"):
                restricted.loads(b"\x80\x02\x82\xc8.")
    finally:
        copyreg.remove_extension("builtins", "eval", 200)
        copyreg.clear_extension_cache()


def test_a_refusal_names_what_the_message_asked_for() -> None:
    with pytest.raises(RemoteProtocolError, match=r"a message asks for os\.system, which is not allowed"):
        RestrictedPickle().loads(call("os", "system", "true"))


def test_a_refusal_is_one_short_line_of_plain_characters() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        RestrictedPickle().loads(call("os\n\x1b[2J", "\u202e" + "x" * 200, "true"))
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


# --- mutations of valid messages ---


@settings(max_examples=600)
@given(mutations())
def test_a_mutated_message_is_refused_or_gives_the_same_as_pickle(data: bytes) -> None:
    try:
        received = loads_watched(with_classes(), data)
    except RemoteProtocolError:
        return
    np.testing.assert_equal(received, Reference(io.BytesIO(data)).load())
    *_, (last, _, at) = pickletools.genops(data)
    assert (last.name, at) == ("STOP", len(data) - 1)


@given(st.integers(0, len(MESSAGES) - 1))
def test_a_valid_message_is_read_without_any_audit_event(number: int) -> None:
    np.testing.assert_equal(loads_watched(with_classes(), MESSAGES[number]), VALID[number])

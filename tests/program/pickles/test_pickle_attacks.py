"""Known attacks by pickle: each is refused with its reason, runs nothing, and takes little memory and time."""

from __future__ import annotations

import copyreg
import io
import pickle
import pickletools
import sys
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
from onionmpc.program.values import BUILDERS
from tests.support.pickle_attacks import Attack, attacks, bombs, call

ALLOWED = (f"{__name__}.Allowed",)
SCRIPT = Path(__file__).parents[3] / "script.py"  # `tests` is a package beside it
LIMIT_BYTES = 2**22
LIMIT_S = 10.0


class Allowed:
    """A class that all parties have allowed."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Allowed) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return 1


def with_classes() -> RestrictedPickle:
    return RestrictedPickle(ALLOWED, script=SCRIPT)


# --- what happens while a message is read, by Python's own account ---

EVENTS: list[str] = []
WATCHED = (
    "os.",
    "subprocess.",
    "exec",
    "compile",
    "import",
    "open",
    "pickle.",
    "socket.",
    "ctypes.",
    "shutil.",
    "sys.",
)
_watching = [False]


def _hook(event: str, _arguments: tuple[Any, ...]) -> None:
    if _watching[0] and event.startswith(WATCHED):
        EVENTS.append(event)


sys.addaudithook(_hook)


def loads_watched(restricted: RestrictedPickle, data: bytes) -> object:
    """Load a message, which must not import, open, compile or run anything, whatever it is."""
    EVENTS.clear()
    _watching[0] = True
    try:
        return restricted.loads(data)
    finally:
        _watching[0] = False
        assert EVENTS == []


# --- the corpus ---


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the attack ran"


CORPUS = attacks("marker")


@pytest.mark.parametrize("mode", [RestrictedPickle, with_classes], ids=["data only", "with classes"])
@pytest.mark.parametrize("number", range(len(CORPUS)), ids=[attack.name for attack in CORPUS])
def test_an_attack_is_refused_for_its_reason_and_never_runs(number: int, mode: Any, marker: Path) -> None:
    attack = attacks(str(marker))[number]
    with pytest.raises(RemoteProtocolError, match=attack.says):
        loads_watched(mode(), attack.data)


RUNNING = [number for number, attack in enumerate(CORPUS) if attack.runs]


@pytest.mark.parametrize("number", RUNNING, ids=[CORPUS[number].name for number in RUNNING])
def test_the_same_attack_runs_where_python_reads_it(number: int, tmp_path: Path) -> None:
    """What the corpus is worth: these bytes do what they are said to do."""
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
    """A code that has been used once is answered from a cache, without asking find_class."""
    copyreg.add_extension("builtins", "eval", 200)
    try:
        assert pickle.loads(b"\x80\x02\x82\xc8.") is eval
        for restricted in (RestrictedPickle(), with_classes()):
            with pytest.raises(RemoteProtocolError, match="pickle opcode EXT1"):
                restricted.loads(b"\x80\x02\x82\xc8.")
    finally:
        copyreg.remove_extension("builtins", "eval", 200)
        copyreg.clear_extension_cache()


def test_a_refusal_names_what_was_asked_for() -> None:
    with pytest.raises(RemoteProtocolError, match=r"a message asks for os\.system, which is not allowed"):
        RestrictedPickle().loads(call("os", "system", "true"))


def test_a_refusal_is_one_short_line_of_plain_characters() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        RestrictedPickle().loads(call("os\n\x1b[2J", "\u202e" + "x" * 200, "true"))
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


# --- whatever is made of a valid message ---

VALID: list[object] = [
    None,
    [1, -1, 2**40, 2**2000, True, 1.5, "a", "\u00e4\U0001f9c5", b"bytes", bytearray(b"array")],
    {"name": ["tea", ("coffee", 7)], 3: {frozenset({1, 2}), (1, 2, 3, 4)}},
    np.arange(6).reshape(2, 3),
    np.array([2**90, -1, 0], dtype=object),
    [np.float64(0.5), np.array([True, False])],
    [Allowed(7), {Allowed(8): Allowed(9)}],
    ["twice"] * 3,
]
MESSAGES = [with_classes().dumps(value) for value in VALID]
FRAGMENTS = [attack.data.removeprefix(b"\x80\x04").removesuffix(b".") for attack in CORPUS]
FRAGMENTS = [fragment for fragment in FRAGMENTS if 0 < len(fragment) < 200]


class Reference(pickle.Unpickler):
    """Python's own, with nothing but an exact list of names."""

    def find_class(self, module: str, name: str) -> object:
        if module == "onionmpc.program.values" and name in BUILDERS:
            return BUILDERS[name]
        assert (module, name) == (__name__, "Allowed"), "this should have been refused"
        return Allowed


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid message, of which a few bytes or stretches were altered, dropped, doubled, or came from elsewhere."""
    data = draw(st.sampled_from(MESSAGES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        other = draw(
            st.binary(max_size=6)
            | st.sampled_from(FRAGMENTS)
            | st.sampled_from(MESSAGES).map(lambda message: message[11:-1])
            | st.just(data[start:end] * 2)
        )
        data = data[:start] + other + data[end:]
    return data


@settings(max_examples=600)
@given(mutations())
def test_a_mutated_message_is_refused_or_gives_what_pickle_would_give(data: bytes) -> None:
    try:
        received = loads_watched(with_classes(), data)
    except RemoteProtocolError:
        return
    np.testing.assert_equal(received, Reference(io.BytesIO(data)).load())
    *_, (last, _, at) = pickletools.genops(data)
    assert (last.name, at) == ("STOP", len(data) - 1)


@given(st.integers(0, len(MESSAGES) - 1))
def test_a_valid_message_is_read_without_any_event(number: int) -> None:
    np.testing.assert_equal(loads_watched(with_classes(), MESSAGES[number]), VALID[number])

"""Runs a target: on what the corpus keeps, then for a while on whatever hypothesis makes.

A target is a module. Line 1 of its docstring is its invariant, `INPUTS` makes bytes, and `check` takes them: it raises
one of REFUSALS, or returns what it came to, or fails, and then the invariant is broken. Does not know what they mean.

The corpus has one file for each target, a line for each input. It keeps one input for each way in which a check can end
(which line of ours refused it, or what was returned), and each that ever broke an invariant. It is where mutations
begin, so a run goes on from where the one before got to.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import time
import traceback
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.mutations import mutated

TARGETS: list[Any] = [
    importlib.import_module(f"{targets.__name__}.{found.name}") for found in pkgutil.iter_modules(targets.__path__)
]
CORPUS = Path(__file__).with_name("corpus")
# Many small runs of hypothesis, since one of a million inputs would remember them all.
INPUTS_A_RUN = 200
MAX_KEPT_BYTES = 2000

SETTINGS = settings(
    max_examples=INPUTS_A_RUN,
    phases=(Phase.generate, Phase.shrink),
    database=None,  # the corpus is ours: inputs, and not choices that mean something else after the next change here
    derandomize=False,  # or each run would be the first one again, wherever CI is set
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class Target(Protocol):
    """What a module has to have."""

    __name__: str
    __doc__: str | None
    INPUTS: st.SearchStrategy[bytes]
    REFUSALS: tuple[type[Exception], ...]

    def check(self, data: bytes, /) -> Hashable: ...


@dataclass
class Tally:
    """What came of a run: how many inputs were tried, and one for each ending that the corpus did not have."""

    inputs: int = 0
    new: dict[Hashable, bytes] = field(default_factory=dict)


def name_of(target: Target) -> str:
    """Return the name of a target, which is also that of its corpus."""
    return target.__name__.rpartition(".")[2]


def invariant_of(target: Target) -> str:
    """Return what has to hold."""
    return (target.__doc__ or "").partition("\n")[0]


def corpus_of(target: Target, folder: Path = CORPUS) -> list[bytes]:
    """Return the inputs that are kept."""
    path = folder / f"{name_of(target)}.txt"
    return [ast.literal_eval(line) for line in path.read_text(encoding="ascii").splitlines()] if path.exists() else []


def keep(target: Target, data: bytes, folder: Path = CORPUS) -> None:
    """Add an input to the corpus."""
    if data not in corpus_of(target, folder):
        with (folder / f"{name_of(target)}.txt").open("a", encoding="ascii") as file:
            file.write(f"{data!r}\n")


def ending_of(target: Target, data: bytes) -> Hashable:
    """Check an input; return what it came to, or where in onionmpc it was refused."""
    try:
        return target.check(data)
    except target.REFUSALS as refusal:
        places: list[tuple[str, int]] = []
        error: BaseException | None = refusal
        while error is not None:
            places += [(frame.f_globals["__name__"], line) for frame, line in traceback.walk_tb(error.__traceback__)]
            error = error.__cause__  # which says more, where refusals are translated at one door
        return [place for place in places if place[0].startswith("onionmpc.")][-1]


def fuzz(target: Target, seconds: float, folder: Path = CORPUS) -> Tally:
    """Check inputs for so many seconds, and at least one.

    Raises:
        Exception: the invariant is broken, by the last input of the corpus from now on.
    """
    kept = corpus_of(target, folder)
    known = {ending_of(target, data) for data in kept}
    until_s = time.monotonic() + seconds
    tally = Tally()
    failing: bytes | None = None
    inputs = target.INPUTS | mutated(st.sampled_from(kept)) if kept else target.INPUTS

    def check(data: bytes) -> None:
        nonlocal failing
        if tally.inputs and failing is None and time.monotonic() >= until_s:
            return  # hypothesis is still at the rest of its run
        tally.inputs += 1
        try:
            ending = ending_of(target, data)
        except Exception:
            failing = data
            raise
        if ending not in known and len(data) < len(tally.new.get(ending, bytes(MAX_KEPT_BYTES))):
            tally.new[ending] = data

    run = SETTINGS(given(inputs)(check))
    try:
        while not tally.inputs or time.monotonic() < until_s:
            run()
    except Exception:
        if failing is not None:
            keep(target, failing, folder)  # as small as hypothesis could make it
        raise
    return tally

"""What `onionmpc estimate --profile` shows: the lines of a program on its longest chain of messages, and what may help.

Knows how MPyC's functions are called in a program, and what they cost in hops. Does not know how hops are found.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from onionmpc.program.chain import Hop, Line, by_line
from onionmpc.program.spec import Origin, Place
from onionmpc.text import printable

SHOWN_ROWS = 20
SHOWN_CHARACTERS = 70
# Twice may be meant; what is repeated more often is a loop.
REPEATED = 3
# Below this, a hop less for each comparison is not worth a change of types.
MANY_BITS = 64

OUTPUTS = frozenset({"output"})
COMPARISONS = frozenset(
    {"__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "lt", "ge", "eq", "sgn", "is_zero"}
)
EXTREMES = frozenset({"max", "min", "argmax", "argmin", "min_max"})
SORTS = frozenset({"sorted", "sort", "np_sort"})
PRODUCTS = frozenset({"__mul__", "__rmul__", "mul", "__and__", "__rand__", "and_"})
DIVISIONS = frozenset({"__truediv__", "__rtruediv__", "div", "reciprocal"})

OPEN_TOGETHER = (
    "{calls} results are opened one after another: collect them in a list, and open it with one mpc.output()"
)
COMPARE_FIRST = (
    "{calls} comparisons run one after another: make all before you open any, or use mpc.max() and mpc.min()"
)
# By what a line does for most of its hops; {calls} is how often in a row.
OF_REPEATED = (
    (OUTPUTS, OPEN_TOGETHER),
    (COMPARISONS, COMPARE_FIRST),
    (
        PRODUCTS,
        "{calls} products run one after another: mpc.prod() and mpc.all() multiply a list in log2(length) steps",
    ),
    (frozenset({"input"}), "{calls} inputs are shared one after another: mpc.input() takes a list"),
    (frozenset({"transfer"}), "{calls} transfers run one after another: transfer one list"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the program, as it is shown.

    Attributes:
        text: its source.
        share: of all hops, from 0 to 1.
        hint: what may help; empty if nothing that was seen says so.
    """

    place: Place | None
    text: str
    hops: int
    share: float
    hint: str

    def as_data(self) -> dict[str, object]:
        """Return what JSON has of it."""
        return {
            "file": self.place.file if self.place else None,
            "line": self.place.line if self.place else None,
            "text": self.text,
            "hops": self.hops,
            "share": round(self.share, 3),
            "hint": self.hint or None,
        }


def rows_of(chain: Sequence[Hop], folder: str, code: Mapping[str, bytes]) -> list[Row]:
    """Return the lines on a chain, those with the most hops first.

    Args:
        folder: where the program lies.
        code: its files by their paths.
    """
    return [
        Row(
            line.place,
            _source(line.place, folder, code) if line.place else "",
            len(line.hops),
            len(line.hops) / len(chain),
            _hint(line),
        )
        for line in by_line(chain)
    ]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    shown = rows[:SHOWN_ROWS]
    names = [f"{printable(row.place.file)}:{row.place.line}" if row.place else "(no line)" for row in shown]
    width = max(map(len, names), default=0)
    yield " hops  share  line"
    for name, row in zip(names, shown, strict=True):
        yield f"{row.hops:5}  {_percent(row.share)}  {name:{width}}  {printable(row.text, SHOWN_CHARACTERS)}".rstrip()
        if row.hint:
            yield f"{'':14}hint: {row.hint}"
    if rest := rows[SHOWN_ROWS:]:
        share = _percent(sum(row.share for row in rest))
        yield f"{sum(row.hops for row in rest):5}  {share}  on {len(rest)} more lines"
    yield f"{sum(row.hops for row in rows):5}  {_percent(1)}  in all"


def hint_for_all(chain: Sequence[Hop], rows: Sequence[Row]) -> str:
    """Return what may help where no single line shows it: results that many lines open one by one."""
    hinted = {row.place for row in rows if row.hint}
    opened = {
        (hop.origin.place, hop.origin.call)
        for hop in chain
        if hop.origin and hop.origin.operation in OUTPUTS and hop.origin.place not in hinted
    }
    lines = len({place for place, _ in opened})
    if lines < REPEATED:
        return ""
    return f"{OPEN_TOGETHER.format(calls=len(opened))} (on {lines} lines)"


def _source(place: Place, folder: str, code: Mapping[str, bytes]) -> str:
    lines = code.get(str(PurePath(folder, place.file)), b"").decode(errors="replace").splitlines()
    return lines[place.line - 1].strip() if 0 < place.line <= len(lines) else ""


def _percent(share: float) -> str:
    return "  <1%" if share < 0.01 else f"{share:5.0%}"


def _hint(line: Line) -> str:
    origins = [hop.origin for hop in line.hops if hop.origin]
    for operations, hint in OF_REPEATED:
        of_these = [origin for origin in origins if origin.operation in operations]
        calls = len({origin.call for origin in of_these})
        if calls >= REPEATED and 2 * len(of_these) >= len(origins):
            return hint.format(calls=calls)
    return _of_costly(origins)


def _of_costly(origins: Sequence[Origin]) -> str:
    """Return what may help with an operation that takes many hops by itself."""
    hops = collections.Counter(origin.operation for origin in origins)
    if any(hops[each] for each in SORTS):
        return "sorting makes many comparisons in a row: mpc.max() and mpc.min() make fewer, if you need no more"
    if any(hops[each] for each in DIVISIONS):
        return "dividing by a secret number takes many hops: divide once at the end, or open both numbers if you may"
    bits = max((each.bits for each in origins if each.operation in COMPARISONS | EXTREMES), default=0)
    if bits >= MANY_BITS:
        return f"comparing numbers of {bits} bits: half as many bits save a hop for each comparison in a row"
    return ""
